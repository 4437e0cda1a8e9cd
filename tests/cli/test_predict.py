#!/usr/bin/env python3
"""Tests of llama-expert-tracer predict (EXPERT_TRACER_CLI).

The traces are made by tests/trace/moetrace.py; what is printed is compared with what these lines find out on their own,
from the definition in docs/llama-expert-tracer.1.in, and with routings whose answer is known.
"""

import json
import math
import os
import random
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
FACTORS = (1, 1.5, 2)
SHARE = 1 << 31  # 1, of which shares are whole numbers: which scores are equal depends on it
LAYERS = (1, 2, 5)
N_EXPERT, N_USED = 16, 3
TABLE = [m.new_layer(layer, N_EXPERT, N_USED) for layer in LAYERS]
HEAD = [m.new_layer(7, 4, 1)]


# What predict is to find.

class Recall:
    """Experts that were chosen, and found by each kind of guess with each budget."""

    def __init__(self):
        self.judged = 0
        self.found = defaultdict(int)

    def judge(self, guesses, chosen):
        self.judged += len(chosen)
        for kind, guess in guesses.items():
            for factor in FACTORS:
                self.found[kind, factor] += len(set(guess[:math.ceil(factor * len(chosen))]) & set(chosen))

    def share(self, kind, factor):
        return self.found[kind, factor] / self.judged


class Learned:
    def __init__(self):
        self.followed = Counter()
        self.used = Counter()

    def learn(self, before, chosen):
        self.used.update(before)
        self.followed.update((i, j) for i in before for j in chosen)

    def guess(self, before, popular):
        scores = [sum(SHARE * self.followed[i, j] // self.used[i] for i in before if self.used[i]) for j in popular]
        return [expert for _, expert in sorted(zip(scores, popular), key=lambda pair: -pair[0])]


def half_of(its):
    """The first ubatch of the second half. its: (ubatch, tokens that are chosen)."""
    generated = [bool(token.generation) for _, tokens in its for _, token in tokens]
    phase = 100 * generated.count(True) >= generated.count(False)
    done = 0
    for ubatch, tokens in its:
        if done * 2 >= generated.count(phase):
            return ubatch.number
        done += sum(token.generation == phase for _, token in tokens)
    return math.inf


def expected(trace, keep=lambda ubatch, token: not ubatch.warmup and not ubatch.mtp, n_expert=N_EXPERT):
    """Recalls by ("next_layer" or "next_token", layer, phase)."""
    its = [(u, [(i, t) for i, t in enumerate(u.tokens) if keep(u, t)]) for u in trace.ubatches]
    half = half_of(its)
    recalls, learned, activations = defaultdict(Recall), defaultdict(Learned), defaultdict(Counter)
    last, popular = {}, {}
    for ubatch, tokens in its:
        judging = ubatch.number >= half
        if judging and not popular:
            popular = {layer: sorted(range(n_expert), key=lambda e: (-activations[layer][e], e)) for layer in LAYERS}
        for layer, before in zip(ubatch.layers, [None, *ubatch.layers]):
            for index, token in tokens:
                if index not in layer.rows:
                    continue
                chosen = layer.experts[layer.rows.index(index)]
                sources = {}
                if before is not None and index in before.rows:
                    sources["next_layer"] = before.experts[before.rows.index(index)]
                place = layer.layer, ubatch.context, token.sequence
                if last.get(place, (None, None))[0] == (token.life, token.position - 1):
                    sources["next_token"] = last[place][1]
                for step, source in sources.items():
                    learner = learned[step, layer.layer]
                    if judging:
                        guesses = {"recall": learner.guess(source, popular[layer.layer]),
                                   "popularity": popular[layer.layer], "control": chosen, "repeat": source}
                        for its_layer in (None, layer.layer):
                            for phase in (None, "generation" if token.generation else "prompt"):
                                recalls[step, its_layer, phase].judge(guesses, chosen)
                    else:
                        learner.learn(source, chosen)
                last[place] = (token.life, token.position), chosen
                if not judging:
                    activations[layer.layer].update(chosen)
    return recalls


# Traces.

def header(**more):
    return m.new_header(n_layer=7, **more)


def skewed(rng, n_expert=N_EXPERT, n_used=N_USED):
    """Some experts more often than others."""
    chosen = []
    while len(chosen) < n_used:
        expert = int(n_expert * rng.random() ** 2)
        if expert not in chosen:
            chosen.append(expert)
    return chosen


class Routing:
    """What experts tokens get: of a layer from the layer before, or from the token before, or from nothing."""

    def __init__(self, seed, follow):
        self.rng = random.Random(seed)
        self.follow = follow
        self.rows = {}
        self.last = {}

    def row(self, layer, token):
        key = layer, token.sequence, token.life, token.position
        if key not in self.rows:
            before = self.rows.get((layer - 1, *key[1:])) or self.last.get((layer, token.sequence))
            self.rows[key] = self.last[layer, token.sequence] = self.follow(self.rng, layer, token, before)
        return self.rows[key]

    def __call__(self, layer, token, rank):
        return self.row(layer, token)[rank]


def noisy(rng, layer, token, before):
    """Half of what was before, shifted, where there is something."""
    fresh = skewed(rng)
    kept = [(expert + 3) % N_EXPERT for expert in before or [] if rng.random() < 0.6]
    return list(dict.fromkeys(kept + fresh))[:N_USED]


def generated(n, first=0, sequence=0, life=0):
    return [[m.Token(None, sequence, life, first + i, True, True)] for i in range(n)]


def events():
    """A warm-up, prompts whose last layer has one row alone, two sequences that generate side by side,
    drafts of which some are rejected, a second life, and a ubatch of a multi-token-prediction head."""
    expert = Routing(1, noisy)
    its = []

    def ubatch(tokens, table=0, **more):
        number = sum(isinstance(event, m.Ubatch) for event in its)
        its.append(m.new_ubatch(number, (TABLE, HEAD)[table], tokens,
                                (lambda *_: 0) if table else expert, table=table, **more))
        return number

    def prompt(sequence, life, n):
        tokens = [m.Token(None, sequence, life, i) for i in range(n)]
        tokens[-1] = tokens[-1]._replace(output=True)
        ubatch(tokens, rows=lambda layer: [n - 1] if layer == 5 else None)

    def one(sequence, life, position):
        return m.Token(None, sequence, life, position, True, True)

    ubatch([m.Token(None, 0, 9, i) for i in range(2)])
    its.append(m.Warmup(0, 1))
    prompt(0, 10, 12)
    prompt(1, 0, 7)
    for i in range(60):
        ubatch([one(0, 10, 12 + i), one(1, 0, 7 + i)])
    prompt(0, 11, 30)
    for i in range(40):
        draft = [one(0, 11, 30 + i), one(0, 11, 31 + i), one(0, 11, 32 + i)]
        its.append(m.Rejected(ubatch(draft), 1, 2))
        ubatch([one(1, 0, 67 + i)], table=1, mtp=True)
    prompt(1, 1, 25)
    for i in range(50):
        ubatch([one(1, 1, 25 + i)])
    return its


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="test-predict-"))

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def made(self, its, tables=(TABLE, HEAD), name="a.moetrace", **more):
        path = self.folder / name
        path.write_bytes(m.joined(m.encode(header(**more), tables, its, chunk_every=7)))
        return str(path)

    def run_cli(self, *args, status=0, stdin=None):
        keep = {k: v for k, v in os.environ.items()
                if not k.startswith("LLAMA_EXPERT_") and k not in ("NO_COLOR", "COLUMNS")}
        done = subprocess.run([CLI, "predict", *map(str, args)], input=stdin, capture_output=True,
                              env={**keep, "LC_ALL": "C.UTF-8"}, timeout=60)
        self.assertEqual(done.returncode, status, f"{args}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        self.stderr = done.stderr.decode()
        return done.stdout.decode()

    def told(self, *args, **more):
        told = json.loads(self.run_cli("--json", *args, **more))
        if more.get("status", 0) == 0:
            self.assertEqual(self.stderr, "")
        return told

    def differences(self, told):
        """method -> against popular, against the best; of as many guesses"""
        return {its["method"]: (its["against_popular"], its["against_best"]) for its in told["contests"][0]["methods"]}

    def budgets(self, told):
        return {(kind, budget["factor"]): budget[kind] for budget in told["budgets"] for kind in budget
                if kind not in ("factor", "experts", "intervals")}


class Recalls(Case):
    """Every number of --json."""

    def check_part(self, told, recall, repeats):
        if recall.judged == 0:
            self.assertIsNone(told)
            return 0
        kinds = {"recall", "popularity", "control"} | ({"repeat"} if repeats else set())
        self.assertEqual(told["judged"], recall.judged)
        self.assertEqual([(b["factor"], b["experts"]) for b in told["budgets"]], [(1, 3), (1.5, 5), (2, 6)])
        self.assertEqual({kind for kind, _ in self.budgets(told)}, kinds)
        for (kind, factor), share in self.budgets(told).items():
            if kind == "repeat" and factor > 1:
                self.assertIsNone(share)
            else:
                self.assertAlmostEqual(share, recall.share(kind, factor), 12, (kind, factor))
        return 1

    def check(self, told, recalls, layers=LAYERS):
        self.assertEqual([layer["layer"] for layer in told["layers"]], list(layers))
        n = 0
        for step in ("next_layer", "next_token"):
            for layer, part in [(None, told[step])] + [(layer["layer"], layer[step]) for layer in told["layers"]]:
                n += self.check_part(part, recalls[step, layer, None], step == "next_token")
                for phase in ("prompt", "generation"):
                    if part is not None:
                        n += self.check_part(part[phase], recalls[step, layer, phase], step == "next_token")
        return n

    def test_all(self):
        path = self.made(events())
        told = self.told(path)
        self.assertEqual(self.check(told, expected(m.Trace(path))), 20)
        self.assertEqual((told["llama_expert_tracer_predict"], told["file"]), (1, path))
        self.assertEqual(told["model"],
                         {"name": "Model", "architecture": "llama", "file": "/model.gguf", "engine": "llama.cpp"})
        tokens = told["tokens"]
        self.assertEqual(tokens["learned"]["generation"] + tokens["judged"]["generation"], 60 * 2 + 40 * 3 + 50)
        self.assertEqual(tokens["learned"]["prompt"] + tokens["judged"]["prompt"], 12 + 7 + 30 + 25)
        self.assertGreater(tokens["judged"]["prompt"], 0)

    def test_it_learns_something(self):
        budgets = self.budgets(self.told(self.made(events()))["next_layer"])
        self.assertGreater(budgets["recall", 1], budgets["popularity", 1] + 0.1)

    def test_filters(self):
        path = self.made(events())
        trace = m.Trace(path)

        def usual(u):
            return not u.warmup and not u.mtp
        for args, keep in (
            (("--phase", "generation"), lambda u, t: usual(u) and t.generation),
            (("--phase", "prompt"),     lambda u, t: usual(u) and not t.generation),
            (("--no-rejected",),        lambda u, t: usual(u) and not t.rejected),
            (("--warmup",),             lambda u, t: not u.mtp),
            (("--sequence", "1"),       lambda u, t: usual(u) and t.sequence == 1),
            (("--tokens", "0-40"),      lambda u, t: usual(u) and t.position <= 40),
            (("--ubatch", "10-70"),     lambda u, t: usual(u) and 10 <= u.number <= 70),
        ):
            with self.subTest(args):
                self.assertGreater(self.check(self.told(*args, path), expected(trace, keep)), 3)

    def test_layers(self):
        """A layer is guessed from the one before it, whether that is chosen or not."""
        path = self.made(events())
        recalls = expected(m.Trace(path))
        told = self.told("--layer", "2", path)
        self.assertEqual([layer["layer"] for layer in told["layers"]], [2])
        for step in ("next_layer", "next_token"):
            self.check_part(told[step], recalls[step, 2, None], step == "next_token")
            self.assertEqual(told[step], told["layers"][0][step])

    def test_random_traces(self):
        for seed in range(12):
            with self.subTest(seed):
                rng = random.Random(seed)
                expert, its, at = Routing(seed, noisy), [], Counter()
                for number in range(rng.randrange(1, 40)):
                    tokens = []
                    for sequence in range(rng.randrange(1, 4)):
                        generation, life = rng.random() < 0.7, number // 15
                        for _ in range(1 if generation else rng.randrange(1, 6)):
                            tokens.append(m.Token(None, sequence, life, at[sequence, life], generation, True))
                            at[sequence, life] += 1
                    its.append(m.new_ubatch(number, TABLE, tokens, expert))
                path = self.made(its)
                self.check(self.told(path), expected(m.Trace(path)))


class KnownAnswers(Case):
    def test_a_permutation_is_found(self):
        """The next layer's experts are a permutation of this one's."""
        permuted = {layer: random.Random(layer).sample(range(N_EXPERT), N_EXPERT) for layer in LAYERS}
        rng = random.Random(5)
        rows = defaultdict(lambda: rng.sample(range(N_EXPERT), N_USED))
        path = self.made([m.new_ubatch(n, TABLE, tokens,
                                       lambda layer, token, rank: permuted[layer][rows[token.position][rank]])
                          for n, tokens in enumerate(generated(1200))])
        told = self.told(path)
        for layer in told["layers"][1:]:
            self.assertEqual(self.budgets(layer["next_layer"])["recall", 1], 1.0)
        self.assertIsNone(told["layers"][0]["next_layer"])
        self.assertLess(self.budgets(told["next_token"])["recall", 1], 0.4)
        self.assertRegex(told["verdict"],
                         r"^In generation, the best guess is what was learned from the layer before: that finds 100% "
                         r"\(100 to 100%\) of a token's experts in a layer with 3 guesses; what was learned from the "
                         r"token before \d+%.*; repeating the last token's experts \d+%.*; pinning the popular "
                         r"experts \d+%\. With 6 guesses what was learned from the layer before finds 100%, the "
                         r"popular experts \d+%\.$")
        self.assertEqual([contest["best"] for contest in told["contests"]], 2 * ["learned_from_layer"])
        self.assertEqual(self.differences(told)["learned_from_layer"], ("more", "same"))
        self.assertEqual(told["more_tokens"], 0)

    def test_the_next_token_is_found(self):
        """Each token has the experts of the one before, shifted: what is repeated is never right."""
        path = self.made([m.new_ubatch(n, TABLE, tokens,
                                       lambda layer, token, rank: (token.position * N_USED + rank) % (4 * N_USED))
                          for n, tokens in enumerate(generated(400))])
        budgets = self.budgets(self.told(path)["next_token"])
        self.assertEqual((budgets["recall", 1], budgets["repeat", 1]), (1.0, 0.0))
        self.assertLess(budgets["popularity", 1], 0.5)

    def test_the_same_again(self):
        path = self.made([m.new_ubatch(n, TABLE, tokens, lambda layer, token, rank: (rank * layer) % N_EXPERT)
                          for n, tokens in enumerate(generated(60))])
        told = self.told(path)
        for share in (*self.budgets(told["next_token"]).values(), *self.budgets(told["next_layer"]).values()):
            self.assertIn(share, (1.0, None))
        self.assertIn("record about 896 generated tokens more", told["verdict"])
        self.assertEqual(told["more_tokens"], 896)
        self.assertEqual(told["contests"][0]["best"], "popular")

    def test_of_independent_experts_nothing_is_known(self):
        rng = random.Random(3)
        rows = defaultdict(lambda: rng.sample(range(N_EXPERT), N_USED))
        path = self.made([m.new_ubatch(n, TABLE, tokens, lambda layer, token, rank: rows[layer, token.position][rank])
                          for n, tokens in enumerate(generated(3000))])
        told = self.told(path)
        for step in ("next_layer", "next_token"):
            budgets = self.budgets(told[step])
            for factor, guesses in zip(FACTORS, (3, 5, 6)):
                for kind in ("recall", "popularity"):
                    self.assertAlmostEqual(budgets[kind, factor], guesses / N_EXPERT, delta=0.03)
                self.assertEqual(budgets["control", factor], 1.0)
            self.assertAlmostEqual(budgets.get(("repeat", 1), N_USED / N_EXPERT), N_USED / N_EXPERT, delta=0.03)

    def test_a_new_life_has_no_token_before(self):
        """Lives of one token each, and positions that do not follow each other."""
        path = self.made([m.new_ubatch(n, TABLE, [m.Token(None, 0, n, n, True, True)], Routing(2, noisy))
                          for n in range(30)])
        self.assertIsNone(self.told(path)["next_token"])
        path = self.made([m.new_ubatch(n, TABLE, [m.Token(None, 0, 0, 2 * n, True, True)], Routing(2, noisy))
                          for n in range(30)])
        self.assertIsNone(self.told(path)["next_token"])

    def test_a_layer_that_a_ubatch_lacks_is_no_layer_before(self):
        tables = [TABLE, [TABLE[0], TABLE[2]]]
        path = self.made([m.new_ubatch(n, tables[n > 5], tokens, Routing(2, noisy), table=int(n > 5))
                          for n, tokens in enumerate(generated(40))], tables)
        told = self.told(path)
        self.assertEqual([layer["next_layer"] for layer in told["layers"]], [None, None, None])
        self.assertEqual([layer["next_token"] is None for layer in told["layers"]], [False, True, False])
        self.assertRegex(told["verdict"], "In generation, .* found ")
        self.assertNotIn("layer before", told["verdict"])

    def test_layers_that_differ(self):
        tables = [[m.new_layer(0, 12, 2), m.new_layer(1, 6, 3)]]
        path = self.made([m.new_ubatch(n, tables[0], tokens,
                                       lambda layer, token, rank: (token.position + rank) % (6 if layer else 12))
                          for n, tokens in enumerate(generated(96))], tables)
        told = self.told(path)
        self.assertEqual([budget["experts"] for budget in told["next_layer"]["budgets"]], [None, None, None])
        self.assertEqual(self.budgets(told["next_layer"])["recall", 1], 1.0)
        self.assertIn("100% of a token's experts in a layer with as many guesses;", told["verdict"])
        self.assertIn("With 2 times as many ", told["verdict"])


class Verdicts(Case):
    """Which guess is best, on routings where that is known."""

    def routed(self, follow, n=1300, seed=4):
        """One sequence that generates; follow: (rng, layer, experts of the token before) -> experts."""
        rng, last, rows = random.Random(seed), {}, {}

        def choose(layer, token, rank):
            if (layer, token.position) not in rows:
                rows[layer, token.position] = last[layer] = follow(rng, layer, last.get(layer))
            return rows[layer, token.position][rank]
        return self.told(self.made([m.new_ubatch(i, TABLE, its, choose) for i, its in enumerate(generated(n))]))

    @staticmethod
    def kept(rng, layer, before):
        """Two of three experts stay, whichever; nothing is more popular for long."""
        stay = rng.sample(before, 2) if before else []
        return (stay + rng.sample([e for e in range(N_EXPERT) if e not in stay], N_USED))[:N_USED]

    def test_repeating_beats_learning(self):
        told = self.routed(self.kept)
        self.assertEqual(told["contests"][0]["best"], "repeated")
        self.assertEqual(self.differences(told)["repeated"], ("more", "same"))
        self.assertRegex(told["verdict"],
                         r"^In generation, the best guess is repeating the last token's experts: that finds "
                         r"6\d% \(\d\d to \d\d%\) of a token's experts")

    def test_losing_to_popularity(self):
        """A few experts are hot, and which comes after which in the first half is no guide to the second."""
        def follow(rng, layer, before):
            return skewed(rng) if before else [0, 1, 2]
        told = self.routed(follow)
        self.assertRegex(told["verdict"], "^In generation, no guess is worth more than pinning the popular experts: ")
        self.assertEqual(self.differences(told)["repeated"][0], "less")
        self.assertRegex(told["verdict"], r"repeating the last token's experts \d+%, less than the popular ones")

    def test_uniform_routing(self):
        told = self.routed(lambda rng, layer, before: rng.sample(range(N_EXPERT), N_USED))
        self.assertIn("no guess is worth more than pinning the popular experts", told["verdict"])
        for difference, _ in self.differences(told).values():
            self.assertNotEqual(difference, "more")

    def test_too_few(self):
        """Three blocks of tokens are judged: five times as much is wanted, and as much again to learn from."""
        told = self.routed(self.kept, n=2 * 3 * 64)
        self.assertEqual(told["more_tokens"], 2 * 5 * 64)
        self.assertRegex(told["verdict"], "^Too little was recorded to tell guesses apart: record about 640 generated "
                                          "tokens more\\. In generation, ")
        self.assertEqual(set(self.differences(told).values()), {(None, None)})

    def test_intervals(self):
        """Around the share, as wide as its tokens spread."""
        told = self.routed(self.kept)
        for step in ("next_layer", "next_token"):
            part = told[step]["generation"]
            for budget in part["budgets"]:
                for kind, interval in budget["intervals"].items():
                    if budget[kind] is None or kind == "control":
                        continue
                    share = budget[kind]
                    spread = math.sqrt(share * (1 - share) / part["judged"])
                    self.assertTrue(interval["low"] <= share <= interval["high"], (step, kind))
                    self.assertGreater(interval["high"] - interval["low"], 0.5 * spread)
                    self.assertLess(interval["high"] - interval["low"], 12 * spread)
        self.assertIsNone(told["layers"][1]["next_token"]["budgets"][0]["intervals"]["recall"])


class Command(Case):
    def test_text(self):
        path = self.made(events())
        told = self.told(path)
        text = self.run_cli(path)
        lines = text.splitlines()
        self.assertIn("Model (llama)", text)
        self.assertEqual(text.split("\n\n")[0].replace("\n", " "), told["verdict"])
        self.assertLessEqual(max(map(len, lines)), 80)
        self.assertEqual([line for line in lines if line.endswith(" ")], [])
        for title in ("next layer", "next token, same layer"):
            heading = next(line for line in lines if line.startswith(f"{title}  "))
            self.assertEqual(heading[len(title):].split(), ["1x:", "3", "1.5x:", "5", "2x:", "6"])
        for step, title in (("next_layer", "next layer"), ("next_token", "next token")):
            begin = next(i for i, line in enumerate(lines) if line.startswith(title))
            shares = [f"{100 * budget['recall']:.1f}" for budget in told[step]["generation"]["budgets"]]
            self.assertEqual(lines[begin + 1].replace("%", "").split(), ["generation", "learned", *shares])
        controls = [line for line in lines if line.split()[:1] == ["control"] and "%" in line]
        self.assertEqual(len(controls), 4)
        for line in controls:
            self.assertEqual(line.count("100.0 %"), 3, line)
        self.assertNotIn("\033", text)
        self.assertIn("\033", self.run_cli("--color", "always", path))
        self.assertNotIn("layer 2, from layer 1", text)
        self.assertIn("layer 2, from layer 1", self.run_cli("--per-layer", path))
        self.assertNotIn("layer 1, from", self.run_cli("-l", path))

    def test_without_phases(self):
        its = [m.new_ubatch(n, TABLE, [m.Token(sequence=None)] * 3, lambda layer, token, rank: (n + rank) % N_EXPERT)
               for n in range(20)]
        path = self.made(its, phases_known=False)
        told = self.told(path)
        self.assertIsNone(told["next_token"])
        self.assertIsNone(told["next_layer"]["prompt"])
        self.assertEqual(told["tokens"]["judged"], {"all": 30, "prompt": None, "generation": None})
        self.assertRegex(told["verdict"], r"record about \d+ tokens more\. [A-Z]")
        self.assertIsNone(told["contests"][0]["phase"])
        self.assertIn("all tokens", self.run_cli(path))
        self.assertEqual(self.run_cli("--phase", "prompt", path, status=1), "")
        self.assertIn("--phase", self.stderr)

    def test_nothing_to_judge(self):
        for name, its in (("empty", []), ("one", [m.new_ubatch(0, TABLE, generated(1)[0], lambda *_: 0)])):
            told = self.told(self.made(its, name=name))
            self.assertEqual((told["next_layer"], told["next_token"]), (None, None))
            self.assertIn("Too little", told["verdict"])
            self.assertIn("Too little", self.run_cli(self.folder / name))
        self.assertEqual(self.run_cli("--layer", "99", self.made(events()), status=1), "")

    def test_standard_input_and_packed(self):
        path = self.made(events())
        from_input = self.told("-", stdin=Path(path).read_bytes())
        self.assertEqual(from_input, {**self.told(path), "file": "-"})
        packed = str(self.folder / "packed")
        subprocess.run([CLI, "pack", "-f", "-o", packed, path], check=True, capture_output=True, timeout=60)
        self.assertEqual(self.told(packed), {**from_input, "file": packed})

    def test_damage(self):
        chunks = m.encode(header(), (TABLE, HEAD), events(), chunk_every=7)
        data = [chunk.number for chunk in chunks if chunk.kind == m.DATA]
        broken = self.folder / "broken"
        broken.write_bytes(m.damaged(chunks, data[3], m.HEAD.size + 9))
        told = self.told(broken, status=1)
        self.assertIn("damaged", self.stderr)
        whole = self.told(self.made(events()))

        def n_tokens(its):
            return its["tokens"]["learned"]["all"] + its["tokens"]["judged"]["all"]
        self.assertLess(n_tokens(told), n_tokens(whole))
        self.assertEqual(self.budgets(told["next_layer"])["control", 1], 1.0)
        self.assertIn("control", self.run_cli(broken, status=1))

    def test_usage(self):
        path = self.made(events())
        for args, says in ((("--nope", path), "--nope"), ((), "which file"), ((path, path), "one file at a time"),
                           (("--color", "red", path), "'red'"), (("--layer", "x", path), "--layer"),
                           (("--phase", "decode", path), "'decode'")):
            self.assertEqual(self.run_cli(*args, status=2), "")
            self.assertIn(says, self.stderr)
            self.assertIn("predict --help", self.stderr)
        for file, says in (("absent", "No such file"), (".", str(self.folder))):
            self.assertEqual(self.run_cli(self.folder / file, status=1), "")
            self.assertIn(says, self.stderr)
        self.assertIn("usage: llama-expert-tracer predict", self.run_cli("-h"))
        self.assertIn("control", self.run_cli("--help"))


if __name__ == "__main__":
    unittest.main()
