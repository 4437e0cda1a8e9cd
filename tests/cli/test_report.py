#!/usr/bin/env python3
"""Tests of llama-expert-tracer report and compare (EXPERT_TRACER_CLI).

The traces are made by tests/trace/moetrace.py; numbers are compared with what is computed here from what was put in.
"""

import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from collections import Counter, defaultdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "trace"))

import moetrace as m  # noqa: E402

CLI = os.environ.get("EXPERT_TRACER_CLI", "")
N_EXPERT, N_USED = 16, 2
LAYERS = (1, 2, 5)
MODEL = {"name": "Small", "architecture": "qwen3moe", "file": "/m/small.gguf", "fingerprint": None}


def table(layers=LAYERS, n_expert=N_EXPERT, n_used=N_USED):
    return [m.new_layer(layer, n_expert, n_used, (f"blk.{layer}.ffn_up_exps.weight", 1000),
                        (f"blk.{layer}.ffn_down_exps.weight", 500))
            for layer in layers]


def skewed(seed, n_expert=N_EXPERT, n_used=N_USED, skew=1.2):
    """Draws of experts, some of which are more popular than others: (layer, token, rank) -> id."""
    rnd = random.Random(seed)
    weights = defaultdict(lambda: [rnd.paretovariate(skew) for _ in range(n_expert)])
    drawn = {}

    def draw(layer, token, rank):
        key = (layer, id(token))
        if rank == 0:
            left, chosen = list(range(n_expert)), []
            for _ in range(n_used):
                chosen.append(rnd.choices(left, [weights[layer][e] for e in left])[0])
                left.remove(chosen[-1])
            drawn[key] = chosen
        return drawn[key][rank]
    return draw


def tokens(sequence, first, n, life=0, **more):
    return [m.Token(sequence=sequence, life=life, position=first + i, **more) for i in range(n)]


def conversation(expert, its_table, n_prompt=12, n_generated=40, sequences=2):
    """A warm-up, then prompts of several sequences and their tokens side by side;
    at the end some are drafted and rejected, and a new life begins."""
    events = []

    def add(its, **more):
        events.append(m.new_ubatch(len([e for e in events if isinstance(e, m.Ubatch)]), its_table, its, expert, **more))
    add(tokens(0, 0, 2), warmup=True)
    for sequence in range(sequences):
        add(tokens(sequence, 0, n_prompt, life=1))
    for i in range(n_generated):
        add([token for sequence in range(sequences)
             for token in tokens(sequence, n_prompt + i, 1, life=1, generation=True, output=True)])
    at = n_prompt + n_generated
    add(tokens(0, at, 3, life=1, generation=True, output=True))
    events.append(m.Rejected(len(events) - 1, 1, 2))
    events.append(m.new_ubatch(len(events) - 1, its_table,
                               tokens(0, at + 1, 1, life=1, generation=True, output=True), expert))
    events.append(m.new_ubatch(len(events) - 1, its_table, tokens(0, 0, 3, life=2), expert))
    return events


def fixed(choose, its_table=None, n_prompt=8, n_generated=32):
    """One sequence; choose: (layer, position, rank) -> id."""
    its_table = its_table or table()
    pick = lambda layer, token, rank: choose(layer, token.position, rank)  # noqa: E731
    events = [m.new_ubatch(0, its_table, tokens(0, 0, n_prompt), pick)]
    for i in range(n_generated):
        events.append(m.new_ubatch(1 + i, its_table, tokens(0, n_prompt + i, 1, generation=True, output=True), pick))
    return events


class Expected:
    """What a trace is to be reported as, from what it holds."""

    def __init__(self, data, phases=("prompt", "generation")):
        trace = m.Trace(data)
        self.counts = defaultdict(lambda: defaultdict(Counter)) # phase -> layer -> expert
        self.halves = (defaultdict(Counter), defaultdict(Counter))
        self.tokens = Counter()
        self.pairs = defaultdict(lambda: [0, 0])                # (phase, layer) -> shared, all
        chosen = [(u, i, t) for u in trace.ubatches for i, t in enumerate(u.tokens)
                  if not u.warmup and ("generation" if t.generation else "prompt") in phases]
        generated = [bool(t.generation) for _, _, t in chosen]
        phase = 100 * generated.count(True) >= generated.count(False)
        counted_all, half, done = generated.count(phase), None, 0
        for ubatch in trace.ubatches:
            if half is None and ubatch.number > trace.ubatches[0].number and 2 * done >= counted_all:
                half = ubatch.number
            done += sum(1 for u, _, t in chosen if u is ubatch and t.generation == phase)
        before = {}
        for ubatch, index, token in chosen:
            phase = "generation" if token.generation else "prompt"
            self.tokens[phase] += 1
            for layer in ubatch.layers:
                experts = layer.experts[layer.rows.index(index)] if index in layer.rows else []
                for its in (phase, "all"):
                    self.counts[its][layer.layer].update(experts)
                self.halves[half is not None and ubatch.number >= half][layer.layer].update(experts)
                if not token.rejected and experts:
                    key = (token.sequence, layer.layer)
                    if key in before and before[key][:2] == (token.life, token.position - 1):
                        self.pairs[phase, layer.layer][0] += len(set(experts) & set(before[key][2]))
                        self.pairs[phase, layer.layer][1] += len(experts)
                    before[key] = (token.life, token.position, experts)

    def list(self, phase, layer, n_expert=N_EXPERT):
        return [self.counts[phase][layer][e] for e in range(n_expert)]

    def half(self, which, layer, n_expert=N_EXPERT):
        return [self.halves[which][layer][e] for e in range(n_expert)]


def shares(counts):
    return [count / sum(counts) for count in counts]


def chance_of(counts, n_used=N_USED):
    """Of two tokens that are not the same, the share of experts in common."""
    n_tokens = sum(counts) / n_used
    return sum(count * (count - 1) for count in counts) / (n_tokens * (n_tokens - 1) * n_used)


def entropy(p):
    return -sum(x * math.log2(x) for x in p if x)


def js(a, b):
    p, q = shares(a), shares(b)
    return entropy([(x + y) / 2 for x, y in zip(p, q)]) - (entropy(p) + entropy(q)) / 2


def hottest(counts, n):
    return sorted(range(len(counts)), key=lambda e: (-counts[e], e))[:n]


def verdict_of(text):
    """What a command prints first, in one line."""
    return text.split("\n\n")[0].replace("\n", " ")


def verdicts_of(text):
    """The paragraphs that `report` prints first, in one line, without the options of llama.cpp below them."""
    lines = text[:text.index("\nmodel ")].splitlines()
    return " ".join(line for line in lines if line and not line.startswith("  "))


def visible(line):
    return re.sub("\033\\[[0-9;]*m", "", line)


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="test-report-"))
        cls.a = cls.trace("a.moetrace", conversation(skewed(1), table()))
        cls.b = cls.trace("b.moetrace", conversation(skewed(2), table()))

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    @classmethod
    def write(cls, name, content):
        path = cls.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    @classmethod
    def trace(cls, name, events, its_table=None, **head):
        header = m.new_header(**{"model": MODEL, "n_layer": 6, **head})
        return cls.write(name, m.joined(m.encode(header, [its_table or table()], events, chunk_every=4)))

    @classmethod
    def statistics(cls, name, counts, per_layer=True, n_expert=N_EXPERT, n_used=N_USED, n_tokens=60):
        """counts: layer -> activations."""
        def activations(its):
            return {str(e): count for e, count in enumerate(its) if count}
        sums = [sum(its[e] for its in counts.values()) for e in range(n_expert)]
        layers = {"per_layer": {str(layer): activations(its) for layer, its in counts.items()}} if per_layer else {}
        return cls.write(name, json.dumps({"model": {"name": "Small"}, "n_expert": n_expert,
                                           "n_expert_used": n_used, "total_tokens": n_tokens,
                                           "total_activations": sum(sums),
                                           "expert_activations": activations(sums), **layers}))

    def run_cli(self, *args, status=0, stdin=None, **env):
        keep = {k: v for k, v in os.environ.items()
                if not k.startswith("LLAMA_EXPERT_") and k not in ("NO_COLOR", "COLUMNS", "TERM")}
        done = subprocess.run([CLI, *map(str, args)], input=stdin, capture_output=True,
                              env={**keep, "LC_ALL": "C.UTF-8", **env}, timeout=60)
        self.assertEqual(done.returncode, status, f"{args}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        self.stderr = done.stderr.decode()
        return done.stdout.decode()

    def quiet(self, *args, **more):
        out = self.run_cli(*args, **more)
        self.assertEqual(self.stderr, "")
        return out

    def json(self, *args, **more):
        return json.loads(self.quiet(*args, "--json", **more))

    def refuses(self, *args, status=1, says=()):
        self.assertEqual(self.run_cli(*args, status=status), "")
        for word in (says,) if isinstance(says, str) else says:
            self.assertIn(word, self.stderr)


class Report(Case):
    def layers_of(self, choose, **more):
        path = self.trace("fixed.moetrace", fixed(choose, **more), more.get("its_table"))
        return self.json("report", path)

    def assertAlike(self, a, b):
        """The same but for how many digits are written."""
        if isinstance(a, float) and isinstance(b, float):
            self.assertAlmostEqual(a, b, delta=1e-4 * abs(b))
        elif isinstance(a, dict):
            self.assertEqual(a.keys(), b.keys())
            for key in a:
                self.assertAlike(a[key], b[key])
        elif isinstance(a, list):
            self.assertEqual(len(a), len(b))
            for its in zip(a, b):
                self.assertAlike(*its)
        else:
            self.assertEqual(a, b)

    def test_numbers(self):
        told, expected = self.json("report", self.a), Expected(self.a)
        self.assertEqual((told["llama_expert_tracer_report"], told["kind"], told["file"]), (1, "trace", self.a))
        self.assertEqual({k: told["model"][k] for k in ("name", "architecture", "file")},
                         {k: MODEL[k] for k in ("name", "architecture", "file")})
        self.assertEqual(told["tokens"],
                         {"prompt": expected.tokens["prompt"], "generation": expected.tokens["generation"], "warmup": 2,
                          "all": sum(expected.tokens.values())})
        self.assertEqual([layer["layer"] for layer in told["layers"]], list(LAYERS))
        for layer in told["layers"]:
            with self.subTest(layer=layer["layer"]):
                self.check_layer(layer, expected)
        self.assertIsNone(told["sum"])

    def check_layer(self, layer, expected):
        il = layer["layer"]
        self.assertEqual((layer["n_expert"], layer["n_expert_used"], layer["expert_bytes"]), (N_EXPERT, N_USED, 1500))
        self.assertEqual(layer["activations"],
                         {phase: expected.list(phase, il) for phase in ("all", "prompt", "generation")})
        p = shares(expected.list("all", il))
        self.assertAlmostEqual(layer["entropy"], entropy(p) / math.log2(N_EXPERT), 6)
        self.assertAlmostEqual(layer["effective_experts"], 2 ** entropy(p), 5)
        self.assertEqual(layer["hottest"]["expert"], p.index(max(p)))
        self.assertAlmostEqual(layer["hottest"]["share"], max(p), 6)
        self.assertEqual(layer["never_used"], p.count(0))
        for phase, chance in (("prompt", "chance_prompt"), ("generation", "chance")):
            shared, every = expected.pairs[phase, il]
            self.assertAlmostEqual(layer["neighbours"][phase], shared / every, 6)
            self.assertAlmostEqual(layer["neighbours"][chance], chance_of(expected.list(phase, il)), 6)

    def test_reuse_of_all_layers(self):
        told, expected = self.json("report", self.a)["neighbours"], Expected(self.a)
        for phase in ("prompt", "generation"):
            pairs = [expected.pairs[phase, layer] for layer in LAYERS]
            self.assertAlmostEqual(told[phase], sum(s for s, _ in pairs) / sum(n for _, n in pairs), 6)

    def test_coverage(self):
        told, expected = self.json("report", self.a)["coverage"], Expected(self.a)
        for phase in ("all", "prompt", "generation"):
            slots = sorted((count for layer in LAYERS for count in expected.list(phase, layer)), reverse=True)
            sums = [sum(slots[:i]) for i in range(len(slots) + 1)]
            self.assertEqual(told[phase]["slots"], len(slots))
            for percent in (50, 80, 90, 99):
                self.assertEqual(told[phase][str(percent)],
                                 next(i for i, s in enumerate(sums) if s >= percent / 100 * sums[-1]))
            curve = told[phase]["curve"]
            self.assertEqual((len(curve), curve[0], curve[100]), (101, 0, 1))
            self.assertAlmostEqual(curve[25], sums[len(slots) // 4] / sums[-1], 6)

    def test_even_use(self):
        told = self.layers_of(lambda layer, position, rank: (N_USED * position + rank) % N_EXPERT)
        for layer in told["layers"]:
            self.assertAlmostEqual(layer["entropy"], 1, 9)
            self.assertAlmostEqual(layer["effective_experts"], N_EXPERT, 6)
            self.assertAlmostEqual(layer["hottest"]["share"], 1 / N_EXPERT, 9)
            self.assertEqual(layer["never_used"], 0)
            self.assertEqual(layer["neighbours"]["generation"], 0)
            self.assertAlmostEqual(layer["neighbours"]["chance"], chance_of([4] * N_EXPERT), 8)
        self.assertEqual([told["coverage"]["all"][key] for key in ("50", "80", "90", "99")], [24, 39, 44, 48])
        self.assertIn("too few tokens", told["verdict"])
        self.assertIn("no more of its experts in a layer with the token before it than by chance", told["verdict"])
        self.assertEqual((told["evenness"]["found"], told["reuse"]["generation"]), ("too few", "chance"))

    def test_one_expert_always(self):
        one = table(n_used=1)
        told = self.json("report", self.trace("one.moetrace", fixed(lambda *its: 3, one), one))
        for layer in told["layers"]:
            self.assertEqual((layer["entropy"], layer["effective_experts"], layer["never_used"]), (0, 1, N_EXPERT - 1))
            self.assertEqual(layer["hottest"], {"expert": 3, "share": 1})
            self.assertEqual(layer["neighbours"], {"generation": 1, "prompt": 1, "chance": 1, "chance_prompt": 1})
        self.assertEqual([told["coverage"]["all"][key] for key in ("50", "99", "slots")], [2, 3, 48])
        self.assertIn("Few experts", told["verdict"])

    def test_the_verdict_comes_first(self):
        told = self.json("report", self.a)
        text = self.quiet("report", self.a, COLUMNS="60")
        self.assertEqual(verdicts_of(text), told["verdict"])
        lines = text[:text.index("\nmodel ")].splitlines()
        self.assertLessEqual(max(map(len, lines)), 60)
        self.assertGreater(min(map(len, lines[:2])), 45)

    def test_fits_80_columns(self):
        for path in (self.a, self.statistics("fits.json", {1: [5, 0, 7] + [10 ** 9] * 13})):
            for line in self.quiet("report", path)[:self.quiet("report", path).find("\ngeneration:")].splitlines():
                self.assertLessEqual(len(line), 80, line)

    def uniform(self, seed, n_tokens, n_expert, n_used, n_layers=4):
        """Statistics of tokens that use all experts alike."""
        rng = random.Random(seed)
        counts = {layer: [0] * n_expert for layer in range(n_layers)}
        for its in counts.values():
            for _ in range(n_tokens):
                for expert in rng.sample(range(n_expert), n_used):
                    its[expert] += 1
        return self.statistics("uniform.json", counts, n_expert=n_expert, n_used=n_used, n_tokens=n_tokens)

    def test_uniform_routing_has_no_structure(self):
        """However few or many tokens there are. Of the two thresholds of analysis.md, hardly is one in forty."""
        found = Counter()
        for seed, n_tokens in enumerate((2, 3, 7, 16, 60, 200, 1000)):
            for n_expert, n_used in ((8, 2), (60, 4), (128, 8), (512, 10)):
                told = self.json("report", self.uniform(seed, n_tokens, n_expert, n_used))
                found[told["evenness"]["found"]] += 1
                self.assertIn(told["evenness"]["found"], ("too few", "chance", "hardly"), (n_tokens, n_expert))
                for word in ("Few experts", "Some experts"):
                    self.assertNotIn(word, told["verdict"])
                if n_tokens * n_used >= 10 * n_expert:
                    self.assertNotEqual(told["evenness"]["found"], "too few")
                else:
                    self.assertIn(f"record about {told['evenness']['tokens_wanted']};", told["verdict"])
                    self.assertAlmostEqual(told["evenness"]["tokens_wanted"], 10 * n_expert / n_used,
                                           delta=5 + n_expert / n_used)
                for layer in told["layers"]:
                    self.assertAlmostEqual(layer["effective_experts"], layer["uniform_effective"],
                                           delta=0.3 * n_expert)
                    if n_tokens == 1000:
                        self.assertAlmostEqual(layer["effective_experts"], layer["uniform_effective"],
                                               delta=0.02 * n_expert)
        self.assertLess(found["hardly"], 3)

    def test_uniform_traces_have_none(self):
        """Nor do their tokens stay at their experts."""
        for seed, n_generated in enumerate((3, 12, 40, 150, 600)):
            rng, rows = random.Random(seed), {}

            def choose(layer, position, rank):
                return rows.setdefault((layer, position), rng.sample(range(N_EXPERT), N_USED))[rank]
            told = self.layers_of(choose, n_generated=n_generated)
            self.assertIn(told["evenness"]["found"], ("too few", "chance", "hardly"), n_generated)
            self.assertIn(told["reuse"]["generation"], ("too few", "chance", "hardly"), n_generated)
            self.assertNotIn("would be chance", told["verdict"])

    def test_skewed_routing_has_structure(self):
        for weights, words in (([8] * 2 + [1] * 14, "Few experts do most of the work"),
                               ([3] * 6 + [1] * 10, "Some experts are used more than others"),
                               ([11] * 8 + [9] * 8, "Experts are used almost alike")):
            path = self.statistics("skewed.json", {layer: [4000 * w for w in weights] for layer in range(4)})
            self.assertIn(words, self.json("report", path)["verdict"])

    def test_half_of_the_experts_stay(self):
        told = self.layers_of(lambda layer, position, rank: (position + rank) % N_EXPERT)
        self.assertAlmostEqual(told["neighbours"]["generation"], 0.5)
        self.assertAlmostEqual(told["neighbours"]["prompt"], 0.5)
        self.assertEqual(told["reuse"]["generation"], "more")
        self.assertRegex(told["verdict"], r"A token shares 50% .* \(10% would be chance\)")

    def test_has_the_cache_answer(self):
        told = self.json("report", self.a)
        alone = self.json("cache", self.a)
        self.assertAlike({**told["cache"], "file": None}, {**alone, "file": None})
        self.assertTrue(told["verdict"].endswith(alone["verdict"]))
        self.assertIn(alone["verdict"], verdicts_of(self.quiet("report", self.a)))

    def test_text(self):
        text, told = self.quiet("report", self.a), self.json("report", self.a)
        for word in ("Small (qwen3moe)", "not counted: 2 warm-up", "3 with experts", "16, 2 for each token"):
            self.assertIn(word, text)
        for layer in told["layers"]:
            row = next(line.split() for line in text.splitlines() if re.match(rf" +{layer['layer']} +[01]\.", line))
            self.assertEqual(row[1:7], [f"{layer['entropy']:.3f}", f"{layer['effective_experts']:.1f}",
                                        f"{layer['uniform_effective']:.1f}", str(layer["hottest"]["expert"]),
                                        f"{100 * layer['hottest']['share']:.1f}%", str(layer["never_used"])])
        self.assertIn(f"{100 * told['neighbours']['generation']:.1f}% (", text)
        self.assertIn(f"{told['coverage']['generation']['90']} ", text)

    def test_many_layers(self):
        many = table(range(40))
        path = self.trace("many.moetrace",
                          fixed(lambda layer, position, rank: (position * (layer < 39) + rank) % N_EXPERT, many),
                          many, n_layer=40)
        short, whole = self.quiet("report", path), self.quiet("report", "--per-layer", path)
        rows = lambda text: [line for line in text.splitlines() if re.match(r" +\d+ +[01]\.\d", line)]  # noqa: E731
        self.assertEqual((len(rows(short)), len(rows(whole))), (6, 40))
        self.assertEqual(rows(short)[-1].split()[0], "39")
        self.assertIn("34 more", short)
        self.assertIn("38-39 ", short)
        self.assertNotIn("38-39 ", whole)

    def test_filters(self):
        only = self.json("report", "--phase", "generation", "--layer", "2-", self.a)
        expected = Expected(self.a, phases=("generation",))
        self.assertEqual([layer["layer"] for layer in only["layers"]], [2, 5])
        self.assertEqual(only["layers"][0]["activations"]["all"], expected.list("generation", 2))
        self.assertEqual((only["tokens"]["prompt"], only["tokens"]["generation"]), (0, expected.tokens["generation"]))
        self.assertIsNone(only["coverage"]["prompt"])
        self.assertEqual(self.json("report", "--no-rejected", self.a)["tokens"]["generation"],
                         expected.tokens["generation"] - 2)
        nothing = self.json("report", "--sequence", "7", self.a)
        self.assertEqual((nothing["verdict"], nothing["cache"], nothing["coverage"]["all"]),
                         ("Nothing was counted.", None, None))
        self.assertIn("Nothing was counted.", self.quiet("report", "--sequence", "7", self.a))

    def test_head_of_multi_token_prediction(self):
        pick = lambda layer, token, rank: rank  # noqa: E731
        both = [table(LAYERS[:2]), table(LAYERS[2:])]
        events = [m.new_ubatch(0, both[0], tokens(0, 0, 4), pick),
                  m.new_ubatch(1, both[1], tokens(0, 0, 4), pick, table=1, mtp=True)]
        path = self.write("mtp.moetrace", m.joined(m.encode(m.new_header(n_layer=5), both, events)))
        self.assertEqual([layer["layer"] for layer in self.json("report", path)["layers"]], [1, 2])
        self.assertEqual([sum(layer["activations"]["all"]) for layer in self.json("report", "--mtp", path)["layers"]],
                         [8, 8, 8])

    def test_layer_with_the_rows_that_were_asked_for(self):
        its = tokens(0, 0, 4)
        its[3] = its[3]._replace(output=True)
        events = [m.new_ubatch(0, table(), its, lambda layer, token, rank: rank,
                               rows=lambda layer: [3] if layer == 5 else None)]
        told = self.json("report", self.trace("reduced.moetrace", events))
        self.assertEqual([sum(layer["activations"]["all"]) for layer in told["layers"]], [8, 8, 2])
        self.assertEqual([layer["neighbours"] and layer["neighbours"]["prompt"] for layer in told["layers"]],
                         [1, 1, None])

    def test_phases_not_known(self):
        events = [m.new_ubatch(i, table(), [m.Token(sequence=None)] * 3, lambda layer, token, rank: rank)
                  for i in range(4)]
        path = self.trace("dark.moetrace", events, phases_known=False)
        told = self.json("report", path)
        self.assertEqual(told["tokens"], {"all": 12, "prompt": None, "generation": None, "warmup": 0})
        self.assertEqual(told["layers"][0]["activations"],
                         {"all": [12, 12] + [0] * 14, "prompt": None, "generation": None})
        self.assertIsNone(told["neighbours"])
        self.assertIsNone(told["coverage"]["generation"])
        self.quiet("report", path)
        self.refuses("report", "--phase", "prompt", path, says=(path, "--phase"))

    def test_statistics(self):
        counts = {1: [5, 0, 7] + [1] * 13, 2: [0] * 15 + [25]}
        path = self.statistics("stats.json", counts)
        told = self.json("report", path)
        self.assertEqual((told["kind"], told["cache"], told["neighbours"]), ("statistics", None, None))
        self.assertEqual([layer["activations"] for layer in told["layers"]],
                         [{"all": its, "prompt": None, "generation": None} for its in counts.values()])
        self.assertAlmostEqual(told["layers"][0]["effective_experts"], 2 ** entropy(shares(counts[1])), 5)
        self.assertEqual(told["coverage"]["all"]["50"], 1)
        text = self.quiet("report", path)
        self.assertIn("Few experts", text)
        self.assertEqual(self.json("report", "--layer", "2", path)["layers"][0]["layer"], 2)
        self.refuses("report", "--sequence", "0", path, says=(path, "--sequence"))

    def test_statistics_without_layers(self):
        path = self.statistics("sums.json", {1: [5, 0, 7] + [1] * 13}, per_layer=False)
        told = self.json("report", path)
        self.assertEqual((told["layers"], told["coverage"]["all"]), ([], None))
        self.assertEqual((told["sum"]["activations"][:3], told["sum"]["never_used"]), ([5, 0, 7], 1))
        self.assertIn("--per-layer", self.quiet("report", path))

    def test_stdin(self):
        counts = self.statistics("stats.json", {1: [1] * N_EXPERT})
        for path in (self.a, counts):
            named, piped = self.json("report", path), self.json("report", "-", stdin=Path(path).read_bytes())
            self.assertEqual(piped["file"], "standard input")
            self.assertEqual({**piped, "file": None, "cache": None}, {**named, "file": None, "cache": None})
            with open(path, "rb") as file:
                done = subprocess.run([CLI, "report", "--json", "-"], stdin=file, capture_output=True, check=True)
            self.assertEqual(json.loads(done.stdout), piped)
        self.run_cli("report", "-", stdin=b"", status=1)
        self.assertIn("standard input", self.stderr)

    def test_several_files(self):
        text = self.quiet("report", self.a, self.b)
        self.assertIn(f"==> {self.a} <==", text)
        self.assertIn(f"\n==> {self.b} <==", text)
        self.assertIn(self.a, self.run_cli("report", self.a, self.folder / "absent", status=1))
        self.assertIn("No such file", self.stderr)

    def test_damaged(self):
        whole = m.encode(m.new_header(model=MODEL, n_layer=6), [table()],
                         conversation(skewed(1), table()), chunk_every=4)
        number = [i for i, chunk in enumerate(whole) if chunk.kind == m.DATA][3]
        path = self.write("damaged.moetrace", m.damaged(whole, number, -1))
        told = json.loads(self.run_cli("report", "--json", path, status=1))
        self.assertIn(path, self.stderr)
        self.assertIn("damaged", self.stderr)
        self.assertEqual(told["tokens"]["generation"], Expected(self.a).tokens["generation"] - whole[number].tokens)
        self.assertIn("Which experts are hot", self.run_cli("report", path, status=1))
        json.loads(self.run_cli("compare", "--json", path, self.a, status=1))

    def test_usage(self):
        self.refuses("report", status=2, says="which file")
        self.refuses("report", "--nope", self.a, status=2, says=("--nope", "report --help"))
        self.refuses("report", "--layer", "x", self.a, status=2, says=("--layer", "'x'"))
        self.refuses("report", "--color", "x", self.a, status=2, says="'x'")
        self.refuses("report", "--html", "x", self.a, self.b, status=2, says="--html")
        self.refuses("report", "--json", "--html", "-", self.a, status=2, says="--html")
        self.refuses("report", self.write("text", "some text"), says="text")
        self.refuses("report", self.folder, says=str(self.folder))
        self.assertIn("usage: llama-expert-tracer report", self.quiet("report", "--help"))


class Heatmap(Case):
    def picture(self, path, *args, **env):
        lines = self.quiet("report", *args, path, **env).splitlines()
        first = [visible(line) for line in lines].index("Which experts are hot") + 1
        return lines[first:lines.index("", first)]

    def test_fits_the_window(self):
        for n_expert in (4, 16, 64, 300):
            its_table = table(n_expert=n_expert)
            path = self.trace("wide.moetrace", fixed(lambda layer, position, rank: (2 * position + rank) % n_expert,
                                                     its_table), its_table)
            for width in (40, 61, 80, 200):
                for color in ("always", "never"):
                    lines = [visible(line) for line in self.picture(path, "--color", color, COLUMNS=str(width))]
                    self.assertGreater(max(map(len, lines[1:4])), min(n_expert, width // 2), (n_expert, width))
                    self.assertLessEqual(max(map(len, lines)), width, (n_expert, width, color))

    def test_tables_fit_too(self):
        for width in (40, 60, 80):
            text = self.quiet("report", self.a, COLUMNS=str(width))
            for first, last in (("\nlayer ", "How few"), ("  all", "of the activations")):
                rows = text[text.index(first):text.index(last)].splitlines()
                self.assertLessEqual(max(map(len, rows)), width)

    def test_shades(self):
        one = table(n_used=1)
        counts = lambda position: 0 if position % 4 < 2 else position % N_EXPERT  # noqa: E731
        path = self.trace("shades.moetrace", fixed(lambda layer, position, rank: counts(position), one, 1, 63), one)
        for env, levels in (({}, " ░▒▓█"), ({"LC_ALL": "C"}, " .-+#")):
            line = next(line for line in self.picture(path, **env) if line.startswith("    1 "))[6:]
            heats = [N_EXPERT * share for share in shares(Expected(path).list("all", 1))]
            self.assertEqual(line, "".join(4 * levels[sum(heat > limit for limit in (0.25, 0.75, 1.25, 2))]
                                           for heat in heats))

    def test_color(self):
        colored = "\n".join(self.picture(self.a, "--color", "always"))
        self.assertIn("\033[48;5;", colored)
        self.assertIn("times the even share", colored)
        for text in (self.quiet("report", self.a), self.quiet("report", "--color", "never", self.a),
                     self.on_terminal(NO_COLOR="1")):
            self.assertNotIn("\033[", text)
        self.assertIn("\033[48;5;", self.on_terminal())

    def on_terminal(self, **env):
        """What it prints where the standard output is a terminal."""
        keep = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS")}
        master, slave = os.openpty()
        process = subprocess.Popen([CLI, "report", self.a], stdout=slave, stderr=subprocess.PIPE,
                                   env={**keep, "LC_ALL": "C.UTF-8", "TERM": "xterm", **env})
        os.close(slave)
        text = b""
        while True:
            try:
                more = os.read(master, 65536)
            except OSError:
                break
            if not more:
                break
            text += more
        os.close(master)
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0)
        return text.decode()


class Compare(Case):
    def test_numbers(self):
        told = self.json("compare", self.a, self.b)
        a, b = Expected(self.a), Expected(self.b)
        self.assertEqual(told["llama_expert_tracer_compare"], 1)
        self.assertEqual([its["file"] for its in told["files"]], [self.a, self.b])
        self.assertEqual(told["counts"], [[its.list("all", layer) for layer in LAYERS] for its in (a, b)])
        pair, = told["pairs"]
        self.assertEqual((pair["a"], pair["b"]), (0, 1))
        for layer in pair["layers"]:
            il = layer["layer"]
            self.assertAlmostEqual(layer["divergence"], js(a.list("all", il), b.list("all", il)), 6)
            self.assertAlmostEqual(layer["noise_a"], js(a.half(0, il), a.half(1, il)), 6)
            self.assertAlmostEqual(layer["noise_b"], js(b.half(0, il), b.half(1, il)), 6)
            common = set(hottest(a.list("all", il), 2)) & set(hottest(b.list("all", il), 2))
            self.assertAlmostEqual(layer["overlap"], len(common) / 2, 6)
        self.assertAlmostEqual(pair["divergence"], sum(layer["divergence"] for layer in pair["layers"]) / 3, 6)
        self.assertAlmostEqual(pair["noise"]["b"], sum(layer["noise_b"] for layer in pair["layers"]) / 3, 6)
        self.check_hot_sets(pair["hot_set"], a, b)
        self.check_experts(pair["experts"], a, b)
        self.assertAlmostEqual(told["matrix"][1][0], pair["divergence"], 6)
        self.assertAlmostEqual(told["matrix"][1][1], 0, 9)

    def check_hot_sets(self, hot_sets, a, b):
        def hits(learned, judged):
            return sum(sum(j[e] for e in hottest(l, n)) for l, j in zip(learned, judged)) / sum(map(sum, judged))
        self.assertEqual([hot["share"] for hot in hot_sets], [0.1, 0.25, 0.5])
        for hot, n in zip(hot_sets, (2, 4, 8)):
            for one, other, key, own in ((a, b, "a_on_b", "b_on_b"), (b, a, "b_on_a", "a_on_a")):
                judged = [other.half(1, layer) for layer in LAYERS]
                self.assertAlmostEqual(hot[key], hits([one.half(0, layer) for layer in LAYERS], judged), 6)
                self.assertAlmostEqual(hot[own], hits([other.half(0, layer) for layer in LAYERS], judged), 6)

    def check_experts(self, told, a, b):
        every = [(abs(x - y), layer, e, x, y) for layer in LAYERS
                 for e, (x, y) in enumerate(zip(shares(a.list("all", layer)), shares(b.list("all", layer))))]
        self.assertEqual(len(told), 20)
        for its, (_, layer, e, x, y) in zip(told, sorted(every, key=lambda its: (-its[0], its[1], its[2]))):
            self.assertAlmostEqual(abs(its["a"] - its["b"]), abs(x - y), 6)
            self.assertAlmostEqual(shares(a.list("all", its["layer"]))[its["expert"]], its["a"], 6)

    def test_with_itself(self):
        told = self.json("compare", self.a, self.a)
        pair, = told["pairs"]
        self.assertEqual((pair["divergence"], pair["overlap"], pair["experts"]), (0, 1, []))
        self.assertGreater(pair["noise"]["a"], 0)
        for hot in pair["hot_set"]:
            self.assertEqual(len(set(hot[key] for key in ("a_on_b", "b_on_b", "b_on_a", "a_on_a"))), 1)
        for layer in pair["layers"]:
            self.assertEqual((layer["divergence"], layer["overlap"]), (0, 1))
            self.assertEqual(layer["noise_a"], layer["noise_b"])
        self.assertEqual(pair["sharing"], "share")
        self.assertRegex(told["verdict"], r"^One hot list serves both a \(A\) and a \(B\): ")
        self.assertIn("same experts equally often", told["verdict"])

    def test_nothing_in_common(self):
        low = self.trace("low.moetrace", fixed(lambda layer, position, rank: (position + rank) % 8))
        high = self.trace("high.moetrace", fixed(lambda layer, position, rank: 8 + (position + rank) % 8))
        told = self.json("compare", low, high)
        pair, = told["pairs"]
        self.assertAlmostEqual(pair["divergence"], 1, 9)
        self.assertEqual((pair["overlap"], pair["hot_set"][2]["a_on_b"], pair["hot_set"][2]["b_on_b"]), (0, 0, 1))
        self.assertIn("not at all", told["verdict"])

    def test_verdict(self):
        same = self.trace("same.moetrace", conversation(skewed(1), table(), n_generated=60))
        told = self.json("compare", self.a, self.b)
        self.assertRegex(told["verdict"], r"diverge [2-9]\.\d times as much as the halves")
        self.assertRegex(self.json("compare", self.a, same)["verdict"], "no more than the halves|hardly more")
        text = self.quiet("compare", self.a, self.b)
        self.assertEqual(verdict_of(text), told["verdict"])
        self.assertEqual([line for line in text.splitlines() if len(line) > 80], [])

    def test_a_hot_list_that_does_not_carry_over(self):
        told = self.json("compare", self.a, self.b)
        pair, = told["pairs"]
        hot = {key: f"{100 * share:.0f}%" for key, share in pair["hot_set"][1].items()}
        self.assertTrue(told["verdict"].startswith(
            f"Do not share a hot list between a and b: a's hot quarter serves {hot['a_on_b']} of b, b's own "
            f"{hot['b_on_b']}; b's hot quarter serves {hot['b_on_a']} of a, a's own {hot['a_on_a']}. They diverge "))
        self.assertEqual(pair["sharing"], "not")

    def test_a_hot_list_that_does(self):
        """Other tokens of the same routing, and enough of them."""
        a, b = (self.trace(f"{name}.moetrace", fixed(self.drawn(seed), n_generated=900))
                for name, seed in (("one", 1), ("other", 2)))
        told = self.json("compare", a, b)
        self.assertEqual(told["pairs"][0]["sharing"], "share")
        self.assertTrue(told["verdict"].startswith("One hot list serves both one and other: "))

    def test_too_close_to_tell(self):
        a, b = (self.trace(f"{name}.moetrace", fixed(self.drawn(seed, 1), n_generated=40))
                for name, seed in (("one", 1), ("other", 8)))
        told = self.json("compare", a, b)
        self.assertEqual(told["pairs"][0]["sharing"], "too close")
        self.assertIn("cannot be told, record more", told["verdict"])

    def test_a_list_for_one_of_both(self):
        """One uses all of the experts alike, the other a part: any list is as good for the first."""
        even = self.trace("even.moetrace", fixed(lambda layer, position, rank: (2 * position + rank) % N_EXPERT))
        few = self.trace("few.moetrace", fixed(lambda layer, position, rank: 8 + (2 * position + rank) % 4))
        for args, sharing in (((few, even), "a for b"), ((even, few), "b for a")):
            told = self.json("compare", *args)
            self.assertEqual(told["pairs"][0]["sharing"], sharing)
            self.assertTrue(told["verdict"].startswith("Only few's hot list serves both, and not even's: "))

    @staticmethod
    def drawn(seed, hot=8):
        """The first experts are hot, whichever the seed."""
        rng, rows = random.Random(seed), {}

        def choose(layer, position, rank):
            if (layer, position) not in rows:
                weights = [hot] * 4 + [1] * 12
                first = rng.choices(range(N_EXPERT), weights)[0]
                weights[first] = 0
                rows[layer, position] = [first, rng.choices(range(N_EXPERT), weights)[0]]
            return rows[layer, position][rank]
        return choose

    def test_names(self):
        """Without folder and ending, and distinct; never a path from the root."""
        for folder in ("english", "german"):
            (self.folder / folder).mkdir(exist_ok=True)
        content = Path(self.a).read_bytes()
        paths = [self.write(name, content)
                 for name in ("english/run.moetrace", "german/run.moetrace", "code.v2.moetrace")]
        self.assertEqual([its["name"] for its in self.json("compare", *paths)["files"]],
                         ["english/run", "german/run", "code.v2"])
        self.assertEqual([its["name"] for its in self.json("compare", paths[0], paths[2], paths[0])["files"]],
                         ["run (A)", "code.v2", "run (C)"])
        self.assertNotIn(str(self.folder), self.json("compare", *paths)["verdict"])

    def test_several(self):
        told = self.json("compare", self.a, self.b, self.a)
        self.assertEqual([(pair["a"], pair["b"]) for pair in told["pairs"]], [(0, 1), (0, 2)])
        self.assertEqual(told["matrix"][0][2], 0)
        self.assertAlmostEqual(told["matrix"][1][2], told["pairs"][0]["divergence"], 6)
        text = self.quiet("compare", self.a, self.b, self.a)
        self.assertIn("Divergence of each from each", text)
        many = self.quiet("compare", *[self.a, self.b] * 6)
        self.assertEqual([line for line in many.splitlines() if len(line) > 80 and "/" not in line], [])
        self.assertEqual(len(re.findall(r"^L  (?: *\d\.\d{4})+$", many, re.M)), 2)
        self.assertIn("C against A", text)
        self.assertNotIn("Divergence of each from each", self.quiet("compare", self.a, self.b))

    def test_text_fits(self):
        for width in (40, 60, 80):
            text = self.quiet("compare", self.a, self.b, COLUMNS=str(width))
            rows = text[text.index("\nlayer "):text.index("divergence: ")].splitlines()
            self.assertLessEqual(max(map(len, rows)), width)

    def test_phase(self):
        told = self.json("compare", "--phase", "generation", self.a, self.b)
        a, b = (Expected(its, phases=("generation",)) for its in (self.a, self.b))
        self.assertAlmostEqual(told["pairs"][0]["layers"][0]["divergence"], js(a.list("all", 1), b.list("all", 1)), 6)
        self.assertAlmostEqual(told["pairs"][0]["layers"][0]["noise_a"], js(a.half(0, 1), a.half(1, 1)), 6)

    def test_statistics(self):
        counts = Expected(self.b)
        path = self.statistics("b.json", {layer: counts.list("all", layer) for layer in LAYERS})
        traces, mixed = (self.json("compare", self.a, its)["pairs"][0] for its in (self.b, path))
        self.assertAlmostEqual(mixed["divergence"], traces["divergence"], 6)
        self.assertIsNone(mixed["noise"]["b"])
        pair = self.json("compare", path, path)["pairs"][0]
        self.assertIsNone(pair["noise"])
        self.assertEqual(pair["hot_set"][0]["a_on_b"], pair["hot_set"][0]["b_on_b"])
        other = self.statistics("other.json", {layer: counts.list("all", layer)[::-1] for layer in LAYERS})
        self.assertIn("is not known", self.quiet("compare", path, other))
        self.assertEqual(self.json("compare", self.a, "-", stdin=Path(path).read_bytes())["pairs"][0]["divergence"],
                         mixed["divergence"])

    def test_shapes_that_differ(self):
        for name, its_table, says in (("experts", table(n_expert=8), ("16 experts in layer 1", "has 8")),
                                      ("used", table(n_used=1), ("uses 2 experts", "uses 1")),
                                      ("layers", table(LAYERS[:2]), ("3 layers", "has 2")),
                                      ("places", table((1, 2, 4)), ("layer 5", "layer 4"))):
            path = self.trace(f"{name}.moetrace", fixed(lambda layer, position, rank: rank, its_table), its_table)
            self.refuses("compare", self.a, path, says=(self.a, path, *says))
        sums = self.statistics("sums.json", {1: [1] * N_EXPERT}, per_layer=False)
        self.refuses("compare", self.a, sums, says=(sums, "--per-layer"))
        self.refuses("compare", "--layer", "9", self.a, self.b, says="no such layer")

    def test_usage(self):
        self.refuses("compare", self.a, status=2, says="which files")
        self.refuses("compare", *[self.a] * 27, status=2, says="26")
        self.refuses("compare", "--nope", self.a, self.b, status=2, says=("--nope", "compare --help"))
        self.refuses("compare", "--phase", "x", self.a, self.b, status=2, says="--phase")
        self.refuses("compare", self.a, self.folder / "absent", says="No such file")
        self.assertIn("usage: llama-expert-tracer compare", self.quiet("compare", "--help"))


class Pages(Case):
    def test_pages(self):
        for args, key in ((("report", self.a), "llama_expert_tracer_report"),
                          (("compare", self.a, self.b), "llama_expert_tracer_compare")):
            page = self.folder / "page.html"
            done = subprocess.run([CLI, args[0], "--html", page, *args[1:]], capture_output=True, text=True, timeout=60)
            if done.returncode and "built without" in done.stderr:
                self.skipTest("built without the library that draws pages")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn(key, page.read_text())
            self.assertIn("layer", done.stdout)
            self.assertTrue(self.quiet(args[0], "--html", "-", *args[1:]).lower().startswith("<!doctype html"))
            self.refuses_page(args)

    def refuses_page(self, args):
        self.run_cli(args[0], "--html", self.folder / "absent" / "page.html", *args[1:], status=1)
        self.assertIn("absent", self.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
