#!/usr/bin/env python3
"""Tests of `llama-expert-tracer cache` (EXPERT_TRACER_CLI): every rate it tells, computed again here the slow way.

The traces are made by tests/trace/moetrace.py.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import unittest
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "trace")]

import moetrace as m  # noqa: E402
import slow_caches as slow  # noqa: E402

CLI = os.environ.get("EXPERT_TRACER_CLI", "")
N_LAYER, N_EXPERT, N_USED = 3, 16, 2
GATE, DOWN = 1 << 20, 1 << 19
EXPERT_BYTES = GATE + DOWN
TABLE = [m.new_layer(layer, N_EXPERT, N_USED, (f"blk.{layer}.ffn_up_exps.weight", GATE),
                     (f"blk.{layer}.ffn_down_exps.weight", DOWN))
         for layer in range(N_LAYER)]
MODEL = {"name": "Small", "architecture": "qwen3moe", "file": "/m/small.gguf", "fingerprint": None}
SIZES = [1, 2, 3, 4, 6, 8, 10, 12, 14]
MAX_ROWS = 32


class Run:
    """A trace as it is put together: ubatches of tokens, each with the experts of each layer."""

    def __init__(self, choose):
        self.choose = choose  # experts of (layer, token)
        self.ubatches = []    # pairs of tokens and experts by layer and token
        self.table = TABLE
        self.next = Counter()
        self.lives = Counter()

    def begin(self, sequence):
        self.lives[sequence] += sequence in self.next
        self.next[sequence] = 0

    def evaluate(self, *shares, warmup=False):
        """shares: (sequence, how many tokens, whether they are generated)"""
        tokens = []
        for sequence, n, generation in shares:
            for _ in range(n):
                tokens.append(m.Token(-1, sequence, self.lives[sequence], self.next[sequence], generation, generation))
                self.next[sequence] += 1
        experts = [[self.choose(layer, token) for token in tokens] for layer in range(N_LAYER)]
        self.ubatches.append((tokens, experts, warmup))

    def trace(self):
        events = []
        for number, (tokens, experts, warmup) in enumerate(self.ubatches):
            events.append(m.new_ubatch(number, self.table, tokens,
                                       lambda layer, token, rank: experts[layer][tokens.index(token)][rank],
                                       time=1700000000000000 + number))
            if warmup:
                events.append(m.Warmup(number, 1))
        head = m.new_header(trace="cache", run="1-1", pid=7, model=MODEL, n_layer=N_LAYER, weights=False, tokens=False)
        return m.joined(m.encode(head, (self.table,), events, chunk_every=16))

    def steps(self, layers=range(N_LAYER)):
        generated = [bool(t.generation) for tokens, _, warmup in self.ubatches if not warmup for t in tokens]
        phase = 100 * generated.count(True) >= generated.count(False)
        total = generated.count(phase)
        seen = 0
        found = []
        for i, (tokens, experts, warmup) in enumerate(self.ubatches):
            second = i > 0 and 2 * seen >= total
            lives = [((t.sequence, t.life), t.generation) for t in tokens]
            kind = "warmup" if warmup else "generation" if all(t.generation for t in tokens) else "prompt"
            for at, layer in enumerate(layers):
                rows = experts[layer]
                distinct = list(dict.fromkeys(e for row in rows for e in row))
                found.append(slow.Step(at, distinct, rows, lives, kind, second))
            if not warmup:
                seen += sum(t.generation == phase for t in tokens)
        return found


SHAPE = slow.Shape([N_EXPERT] * N_LAYER, [N_USED] * N_LAYER, [EXPERT_BYTES] * N_LAYER)
TENSORS = [[GATE, DOWN]] * N_LAYER


class Case(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="test-cache-"))

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def run_cli(self, *args, status=0, stdin=None):
        keep = {k: v for k, v in os.environ.items()
                if not k.startswith("LLAMA_EXPERT_") and k not in ("NO_COLOR", "COLUMNS")}
        done = subprocess.run([CLI, "cache", *map(str, args)], input=stdin, capture_output=True,
                              env={**keep, "LC_ALL": "C.UTF-8"}, timeout=60)
        self.stderr = done.stderr.decode()
        self.assertEqual(done.returncode, status, f"{args}: {done.stdout[-2000:]}{self.stderr}")
        return done.stdout.decode()

    def answer(self, run, *args):
        path = self.folder / "run.moetrace"
        path.write_bytes(run.trace())
        return json.loads(self.run_cli("--json", *args, path))

    def assert_rates(self, told, expected, what):
        if expected is None or told is None:
            self.assertEqual(told, expected, what)
        else:
            self.assertAlmostEqual(told, expected, 4, what)


def skewed(seed, drift=0):
    """Experts of which the first are the hot ones, that change every so many tokens."""
    chance = random.Random(seed)

    def choose(layer, token):
        moved = layer * 3 + (token.position // drift * 5 if drift else 0)
        chosen = []
        while len(chosen) < N_USED:
            expert = (min(int(chance.expovariate(0.4)), N_EXPERT - 1) + moved) % N_EXPERT
            if expert not in chosen:
                chosen.append(expert)
        return chosen
    return choose


def conversation(choose, n=3):
    """A warm-up, and prompts of different sizes with what is generated for them, alone and side by side."""
    run = Run(choose)
    run.evaluate((0, 2, False), warmup=True)
    for i in range(n):
        run.begin(0)
        run.evaluate((0, 40 + i, False))
        for _ in range(30):
            run.evaluate((0, 1, True))
        run.begin(0)
        run.begin(1)
        run.evaluate((0, 5, False), (1, 7, False))
        run.evaluate((0, 6, False))
        for _ in range(20):
            run.evaluate((0, 1, True), (1, 1, True))
        run.evaluate((0, 1, True), (1, 3, False))
    return run


class AgainstTheSlowWay(Case):
    def check_column(self, size, key, rates, spans=("judged", "whole")):
        """One column of a row, in both phases, of the second half and of the whole run."""
        for kind in ("generation", "prompt", "all"):
            for span in spans:
                told = size[kind] if span == "judged" and kind != "all" else size["whole_run"][kind]
                if span == "judged" and kind == "all":
                    continue
                expected = rates.of(span, kind)
                if told is None:
                    self.assertIsNone(expected, (key, kind, span))
                else:
                    self.assert_rates(told[key], expected, (size["mib"], key, kind, span))

    def check_size(self, run, size, max_rows):
        budget = round(size["mib"] * (1 << 20))
        own, shared = slow.Own(SHAPE, budget), slow.Shared(SHAPE, budget)
        self.assertAlmostEqual(size["slots"], sum(own.slots.values()) / N_LAYER, 6)
        self.assertAlmostEqual(size["share"], sum(own.slots.values()) / N_LAYER / N_EXPERT, 6)
        self.check_column(size, "lru", slow.lru(run, own, max_rows))
        self.check_column(size, "lfu", slow.lfu(run, own, max_rows, 256))
        self.check_column(size, "pooled_lru", slow.lru(run, shared, max_rows))
        self.check_column(size, "static", slow.static(run, own, SHAPE), ("judged",))
        self.check_column(size, "pooled_static", slow.static(run, shared, SHAPE), ("judged",))
        self.check_column(size, "whole_layers", slow.whole_layers(run, SHAPE, budget))
        for kind in ("generation", "prompt"):
            if size[kind]:
                for key, where in (("optimum", own), ("pooled_optimum", shared)):
                    self.assert_rates(size[kind][key], slow.optimum(run, where, "judged", kind).of("judged", kind),
                                      (budget, key, kind))
        for kind in ("generation", "prompt", "all"):
            self.assert_rates(size["whole_run"][kind]["pooled_optimum"],
                              slow.optimum(run, shared, "whole", kind).of("whole", kind), (budget, kind))
        if size["generation"]:
            self.assert_rates(size["generation"]["prompt_oracle"], slow.oracle(run, own).of("judged", "generation"),
                              budget)

    def check_bounds(self, size):
        for kind in ("generation", "prompt"):
            rates = size[kind] or {}
            for policy in ("static", "lru", "lfu") if rates else ():
                self.assertLessEqual(rates[policy], rates["optimum"] + 1e-9, (size["mib"], kind, policy))
            for policy in ("pooled_static", "pooled_lru", "llama_cpp") if rates else ():
                self.assertLessEqual(rates[policy] or 0, rates["pooled_optimum"] + 1e-9, (size["mib"], kind, policy))

    def check(self, made, *options, max_rows=MAX_ROWS):
        answer = self.answer(made, "--moe-cache-mib", "12,24,40", "--max-rows", max_rows, *options)
        run = made.steps()
        mib = EXPERT_BYTES * N_LAYER / (1 << 20)
        self.assertEqual([size["mib"] for size in answer["sizes"]], sorted([12, 24, 40] + [n * mib for n in SIZES]))
        self.assertEqual([size["mib"] for size in answer["sizes"] if size["asked"]], [12, 24, 40])
        self.assertEqual(answer["requests"]["generation"] + answer["requests"]["prompt"],
                         sum(len(step.experts) for step in run if step.second and step.kind != "warmup"))
        for size, told in zip(answer["sizes"], answer["llama_cpp"]):
            self.check_size(run, size, max_rows)
            self.check_bounds(size)
            slots = slow.llama_slots(SHAPE, TENSORS, round(size["mib"] * (1 << 20)))
            self.assertEqual(told["slots"], sum(slots.values()))
            rates, own = slow.llama(run, SHAPE, slots, max_rows)
            if told["slots"] > 0:
                self.check_column(size, "llama_cpp", rates)
            for kind in ("small", "large"):
                self.assertEqual([told[kind]["hits"] + told[kind]["misses"], told[kind]["hits"]], own[kind])
            self.assertEqual([told["passed_by"]["asked"], told["passed_by"]["found"]], own["passed"])
        return answer

    def test_every_row_goes_through(self):
        """--max-rows 0 is no limit, in any column."""
        run = conversation(skewed(1))
        self.check(run, max_rows=0)
        self.check(run, max_rows=8)

    def test_skewed(self):
        self.check(conversation(skewed(1)))

    def test_drifting(self):
        self.check(conversation(skewed(2, drift=10)))

    def test_prompts_alone(self):
        run = Run(skewed(3))
        for _ in range(8):
            run.begin(0)
            run.evaluate((0, 24, False))
            run.evaluate((0, 12, False))
        answer = self.check(run)
        self.assertIsNone(answer["sizes"][0]["generation"])

    def test_prompts_and_hardly_any_answer(self):
        run = Run(skewed(3))
        for _ in range(10):
            run.begin(0)
            run.evaluate((0, 24, False))
        run.evaluate((0, 1, True))
        run.evaluate((0, 1, True))
        self.assertGreater(self.check(run)["requests"]["prompt"], 4 * N_LAYER * N_USED)
        for _ in range(2): # two in a hundred are the answer that the trace is about
            run.evaluate((0, 1, True))
        self.assertEqual(self.check(run)["requests"]["prompt"], 0)

    def test_slots_of_the_real_cache(self):
        answer = self.answer(conversation(skewed(4), 1), "--moe-cache-mib", "12")
        told = next(one for one in answer["llama_cpp"] if one["mib"] == 12)
        self.assertEqual(told["slots"], 12 * (1 << 20) // EXPERT_BYTES - 1)  # one is to spare


class KnownAnswers(Case):
    def test_one_pair_of_experts_always(self):
        run = Run(lambda layer, token: [5, 9])
        for _ in range(100):
            run.evaluate((0, 1, True))
        for size in self.answer(run)["sizes"]:
            for policy in ("static", "prompt_oracle", "lru", "lfu", "optimum"):
                self.assertAlmostEqual(size["generation"][policy], min(1, size["slots"] / 2),
                                       6, (size["slots"], policy))

    def test_one_after_the_other(self):
        run = Run(lambda layer, token: [2 * token.position % N_EXPERT, (2 * token.position + 1) % N_EXPERT])
        for _ in range(400):
            run.evaluate((0, 1, True))
        for size in self.answer(run)["sizes"]:
            self.assertEqual(size["generation"]["lru"], 0)
            self.assertAlmostEqual(size["generation"]["static"], size["slots"] / N_EXPERT, 6)
            self.assertGreater(size["generation"]["optimum"], size["slots"] / N_EXPERT - 0.05)

    def test_at_random(self):
        chance = random.Random(7)
        run = Run(lambda layer, token: chance.sample(range(N_EXPERT), N_USED))
        for _ in range(2000):
            run.evaluate((0, 1, True))
        answer = self.answer(run)
        for size in answer["sizes"]:
            for policy in ("static", "lfu"):
                self.assertAlmostEqual(size["generation"][policy], size["slots"] / N_EXPERT, delta=0.03)
            self.assertGreaterEqual(size["generation"]["prompt_oracle"], size["slots"] / N_EXPERT)
            if size["slots"] % N_USED == 0:
                self.assertAlmostEqual(size["generation"]["lru"], size["slots"] / N_EXPERT, delta=0.05)
        self.assertIn("chance", answer["verdict"])

    def test_several_sequences_touch_more(self):
        rows = self.answer(conversation(skewed(5)))["concurrency"]
        self.assertEqual([row["sequences"] for row in rows], [2 ** i for i in range(len(rows))])
        self.assertAlmostEqual(rows[0]["experts"], N_USED, 6)
        self.assertAlmostEqual(rows[0]["mib"], N_USED * N_LAYER * EXPERT_BYTES / (1 << 20), 6)
        self.assertEqual(sorted(row["experts"] for row in rows), [row["experts"] for row in rows])


class Advice(Case):
    TIME = ("--pcie", "25GB/s", "--ram", "60GB/s", "--tg", "100")

    def test_formulas(self):
        run = conversation(skewed(6))
        answer = self.answer(run, "--vram", "24MiB", *self.TIME)
        budget = answer["budget"]
        experts = N_LAYER * N_USED * EXPERT_BYTES
        rest = 1 / 100 - experts / 60e9
        self.assertAlmostEqual(budget["break_even"], 1 - 25 / 60, 5)
        rate = budget["llama_cpp"]["rate"]
        self.assertAlmostEqual(budget["llama_cpp"]["tokens_per_second"], 1 / (rest + experts * (1 - rate) / 25e9), 2)
        rate = budget["whole_layers"]["rate"]
        self.assertAlmostEqual(budget["whole_layers"]["tokens_per_second"], 1 / (rest + experts * (1 - rate) / 60e9), 2)

    def test_whole_layers(self):
        budget = self.answer(conversation(skewed(6)), "--vram", "48MiB")["budget"]
        self.assertEqual((budget["whole_layers"]["layers"], budget["whole_layers"]["n_cpu_moe"]), (2, 1))
        self.assertAlmostEqual(budget["whole_layers"]["rate"], 2 / 3, 1)

    def test_slots_by_layer_keep_to_the_budget(self):
        def choose(layer, token):  # one layer never changes, the others are worth more
            return [0, 1] if layer == 0 else random.Random(f"{layer} {token.position}").sample(range(6), 2)
        run = Run(choose)
        for _ in range(300):
            run.evaluate((0, 1, True))
        budget = self.answer(run, "--vram", "24MiB")["budget"]
        slots = budget["slots_by_layer"]["slots"]
        self.assertLessEqual(sum(slots.values()) * EXPERT_BYTES, 24 << 20)
        self.assertEqual((slots["1"], slots["2"]), (6, 6))
        self.assertGreater(budget["slots_by_layer"]["rate"], budget["equal_slots"]["rate"])

    def test_kept_layers_are_scored_as_printed(self):
        """A layer that a cache serves badly stays on the device, and llama.cpp's cache is played for the others."""
        def choose(layer, token):
            chance = random.Random(f"{layer} {token.life} {token.position}")
            return (chance.sample(range(N_EXPERT), N_USED) if layer == 1
                    else skewed(f"{layer} {token.position}")(0, token))
        made = conversation(choose, 8)
        budget = self.answer(made, "--vram", "40MiB", *self.TIME)["budget"]
        kept = budget["kept_layers"]
        self.assertEqual(kept["layers"], [1])
        self.assertIn("blk\\.(1)\\.", kept["override_tensor"])
        self.assertEqual(kept["moe_cache_mib"], 40 - N_EXPERT * EXPERT_BYTES // (1 << 20))
        run = made.steps()
        slots = slow.llama_slots(SHAPE, TENSORS, kept["moe_cache_mib"] << 20, kept=(1,))
        self.assertEqual(kept["slots"], sum(slots.values()))
        recent = slow.recent_first_half(run, SHAPE, MAX_ROWS)
        held = {group: [key for key in keys if key[0] != 1][-slots[group]:] for group, keys in recent.items()}
        rates, _ = slow.llama([step for step in run if step.second], SHAPE, slots, MAX_ROWS, (1,), held)
        self.assertAlmostEqual(kept["rate"], rates.of("judged", "generation"), 6)

    def test_slots_by_layer_are_judged_in_the_second_half(self):
        made = conversation(skewed(9), 8)
        tuned = self.answer(made, "--vram", "24MiB")["budget"]["slots_by_layer"]
        where = slow.Own(SHAPE, 0)
        where.slots = {int(layer): n for layer, n in tuned["slots"].items()}
        self.assertAlmostEqual(tuned["rate"], slow.lru(made.steps(), where, MAX_ROWS).of("judged", "generation"), 6)

    def test_every_size_has_its_time(self):
        """Without --vram too."""
        run = conversation(skewed(6), 8)
        answer = self.answer(run, "--pcie", "2GB/s", "--ram", "1GB/s", "--tg", "80")
        self.assertIsNone(answer["budget"])
        rest = 1 / 80 - N_LAYER * N_USED * EXPERT_BYTES / 1e9
        for size in answer["sizes"]:
            for way, speed in (("moe_cache", 2e9), ("whole_layers", 1e9)):
                if size[way]["rate"] is not None:
                    missed = N_LAYER * N_USED * EXPERT_BYTES * (1 - size[way]["rate"])
                    self.assertAlmostEqual(size[way]["tokens_per_second"], 1 / (rest + missed / speed), 2)
        path = self.folder / "run.moetrace"
        out = self.run_cli("--pcie", "2GB/s", "--ram", "1GB/s", "--tg", "80", path)
        self.assertIn("Tokens a second", out)
        self.assertGreaterEqual(out.count("("), len(answer["sizes"])) # with intervals

    def test_text(self):
        path = self.folder / "text.moetrace"
        path.write_bytes(conversation(skewed(6), 10).trace())
        out = self.run_cli("--vram", "24MiB", "-l", *self.TIME, path)
        for word in ("--moe-cache-mib 24", "--n-cpu-moe 2", "Tokens a second", "breaks even at a hit rate of 58%",
                     "Slots by layer", "+/- at most", "The whole run", "lives of sequences"):
            self.assertIn(word, out)
        self.assertNotIn("nan", out)
        self.assertEqual(self.stderr, "")

    def test_eighty_columns(self):
        path = self.folder / "text.moetrace"
        path.write_bytes(conversation(skewed(6), 10).trace())
        for options in ((), ("--vram", "24MiB", "-l", *self.TIME), ("--moe-cache-mib", "1,20,60000")):
            for line in self.run_cli(*options, path).splitlines():
                self.assertLessEqual(len(line), 80, line)


def uniform(seed):
    chance = random.Random(seed)
    return lambda layer, token: chance.sample(range(N_EXPERT), N_USED)


class Verdict(Case):
    """What it says first, and what one would type then: each case, once."""

    LONG = conversation(skewed(6), 12)
    FAST = ("--ram", "1GB/s", "--tg", "80") # of a token's time, experts take three quarters

    def verdict(self, made, *options):
        """What is recommended, why, and the sentences, which come first and stand above llama.cpp's options."""
        answer = self.answer(made, *options)
        out = self.run_cli(*options, self.folder / "run.moetrace")
        first = out[:out.index("\nmodel ")]
        told = answer["recommendation"]
        self.assertEqual(" ".join(answer["verdict"].split()), " ".join(first.partition("\n\n")[0].split()))
        if told["options"] is None:
            self.assertNotIn("-ngl", first)
        else:
            self.assertEqual(first.partition("\n\n")[2].strip(), told["options"])
        return told["use"], told["because"], answer["verdict"], answer

    def check(self, use, because, made, *options, says=()):
        told = self.verdict(made, *options)
        self.assertEqual(told[:2], (use, because), told[2])
        for word in says:
            self.assertIn(word, told[2])
        return told[3]

    def test_everything_fits(self):
        answer = self.check("all", "everything fits", self.LONG, "--vram", "72MiB", says=("72.0 MiB",))
        self.assertEqual(answer["recommendation"]["options"], "-ngl 99")

    def test_too_little_for_one_expert(self):
        self.check("nothing", "too little memory", self.LONG, "--vram", "1MiB", says=("too little",))

    def test_less_than_a_token_uses(self):
        answer = self.check("nothing", "less than a token's experts", self.LONG, "--vram", "8MiB", says=("9.00 MiB",))
        self.assertEqual(answer["floor_mib"], 9)
        self.assertEqual(answer["recommendation"]["options"], "-ngl 99 -cmoe")
        self.assertIn("Beware", self.verdict(self.LONG, "--vram", "13MiB")[2])
        self.assertNotIn("Beware", self.verdict(self.LONG, "--vram", "14MiB")[2])

    def test_prompts_alone(self):
        run = Run(skewed(3))
        for _ in range(40):
            run.begin(0)
            run.evaluate((0, 24, False))
        answer = self.check(None, "prompts alone", run, "--vram", "24MiB", says=("hardly any generation",))
        self.assertGreater(answer["recommendation"]["more_tokens"], 500)

    def test_too_little_recorded(self):
        answer = self.check(None, "too little recorded", conversation(skewed(6), 1), "--vram", "24MiB",
                            says=("record about", "generated tokens more", "--moe-cache-mib 24 has"))
        self.assertGreater(answer["recommendation"]["more_tokens"], 500)
        self.assertIsNone(answer["budget"]["llama_cpp"]["rate_interval"])

    def test_experts_take_hardly_any_time(self):
        self.check("nothing", "experts take little time", self.LONG, "--vram", "24MiB", "--pcie", "25GB/s", "--ram",
                   "60GB/s", "--tg", "100", says=("1.6% of a token's time",))

    def test_a_processor_that_fast_there_is_not(self):
        self.check(None, "ram or tg is wrong", self.LONG, "--vram", "24MiB", "--pcie", "25GB/s", "--ram", "1GB/s",
                   "--tg", "1000", says=("--ram or --tg is wrong",))

    def test_a_link_that_is_too_slow(self):
        self.check("whole_layers", "the link is too slow", self.LONG, "--vram", "24MiB", "--pcie", "0.02GB/s",
                   *self.FAST, says=("Do not use a cache", "98.0%"))

    def test_a_cache_that_makes_it_slower(self):
        self.check("whole_layers", "a cache is slower", self.LONG, "--vram", "24MiB", "--pcie", "0.2GB/s", *self.FAST,
                   says=("it would be slower", "80.0%"))

    def test_a_cache_that_makes_it_faster(self):
        answer = self.check("llama_cpp", "faster", self.LONG, "--vram", "24MiB", "--pcie", "10GB/s", *self.FAST,
                            says=("tokens a second, 80.0 now",))
        self.assertEqual(answer["recommendation"]["options"], "-ngl 99 -cmoe --moe-cache-mib 24")
        self.assertLess(80, answer["budget"]["llama_cpp"]["tokens_per_second_interval"][0])

    def test_nothing_is_worth_having(self):
        """Where a cache just breaks even."""
        rate = self.answer(self.LONG, "--moe-cache-mib", "20")["budget"]["llama_cpp"]["rate"]
        self.check("nothing", "no difference worth having", self.LONG, "--moe-cache-mib", "20", "--pcie",
                   f"{(1 - rate) * 1010:.1f}MB/s", *self.FAST, says=("No difference worth having",))

    def test_layers_are_plainer_than_a_cache_that_is_hardly_better(self):
        told = self.verdict(self.LONG, "--vram", "24MiB", "--pcie", "0.5GB/s", *self.FAST)
        self.assertEqual(told[0], "whole_layers")

    def test_chance(self):
        made = Run(uniform(5))
        for _ in range(3000):
            made.evaluate((0, 1, True))
        answer = self.check("whole_layers", "no more than chance", made, "--vram", "48MiB", says=("chance",))
        self.assertEqual(answer["recommendation"]["options"], "-ngl 99 --n-cpu-moe 1")

    def test_more_is_served(self):
        answer = self.check("llama_cpp", "more is served", self.LONG, "--vram", "40MiB",
                            says=("where the link has", "--pcie, --ram and --tg"))
        way = answer["budget"]
        share = (1 - way["llama_cpp"]["rate"]) / (1 - way["whole_layers"]["rate"])
        self.assertIn(f"link has {100 * share:.0f}%", answer["verdict"])

    def test_without_a_budget(self):
        """It is about a quarter of the experts, which can be typed, too."""
        answer = self.check("nothing", "more is served", self.LONG, says=("--moe-cache-mib 18",))
        self.assertEqual(answer["recommendation"]["mib"], 18)

    def test_bytes_that_are_not_known(self):
        made = conversation(skewed(6), 12)
        made.table = [m.new_layer(layer, N_EXPERT, N_USED) for layer in range(N_LAYER)]
        self.check(None, "bytes are not known", made, says=("the hottest pinned",))
        for options in (("--vram", "24MiB"), ("--moe-cache-mib", "24"), self.FAST + ("--pcie", "1GB/s")):
            self.run_cli(*options, self.folder / "run.moetrace", status=1)
            self.assertIn("bytes of an expert", self.stderr)

    def test_uniform_routing_has_nothing_to_find(self):
        """Whatever the length, the experts and how many a token uses: no verdict finds structure in chance."""
        for seed in range(60):
            chance = random.Random(seed)
            made = Run(uniform(seed))
            for _ in range(chance.randrange(1, 12)):
                made.begin(0)
                made.evaluate((0, chance.randrange(1, 40), False))
                for _ in range(chance.randrange(1, 150)):
                    made.evaluate((0, 1, True))
            because = self.verdict(made, "--vram", f"{chance.randrange(10, 70)}MiB")[1]
            self.assertIn(because, ("too little recorded", "prompts alone", "no more than chance"), seed)


class Intervals(Case):
    def test_are_of_lives(self):
        """Against lives drawn here."""
        made = conversation(skewed(11, drift=7), 14)
        run = made.steps()
        size = next(size for size in self.answer(made)["sizes"] if size["slots"] == 3)
        requests, hits = Counter(), Counter()
        where = slow.Own(SHAPE, 3 * N_LAYER * EXPERT_BYTES)
        recent = [[] for _ in range(N_LAYER)]
        for step in run:
            held = recent[step.layer][:where.slots[step.layer]]
            if step.second and step.kind == "generation":
                for expert in step.experts:
                    asking = next(life for row, (life, _) in zip(step.rows, step.lives) if expert in row)
                    requests[asking] += 1
                    hits[asking] += expert in held
            if len(step.rows) <= MAX_ROWS:
                recent[step.layer] = step.experts[::-1] + [e for e in recent[step.layer] if e not in step.experts]
        lives = sorted(requests)
        self.assertGreaterEqual(len(lives), 8)
        self.assertAlmostEqual(size["generation"]["lru"], sum(hits.values()) / sum(requests.values()), 6)
        chance = random.Random(1)
        drawn = sorted(sum(hits[life] for life in them) / sum(requests[life] for life in them)
                       for them in (chance.choices(lives, k=len(lives)) for _ in range(4000)))
        low, high = size["generation"]["intervals"]["lru"]
        plain = drawn[100], drawn[-101] # 95 %, a little too narrow where there are few lives
        self.assertAlmostEqual((high - low) / (plain[1] - plain[0]), 1.08, delta=0.12)
        self.assertLess(low, size["generation"]["lru"])
        self.assertGreater(high, size["generation"]["lru"])

    def test_of_a_long_answer_are_of_blocks(self):
        run = Run(skewed(12))
        for _ in range(3000):
            run.evaluate((0, 1, True))
        answer = self.answer(run)
        self.assertEqual(answer["units"]["generation"], {"of": "blocks", "n": 24}) # of 1500 tokens
        run = Run(skewed(12))
        for _ in range(900):
            run.evaluate((0, 1, True))
        answer = self.answer(run)
        self.assertEqual(answer["units"]["generation"]["n"], 8) # the last one is short, the first one too
        self.assertIsNotNone(answer["sizes"][3]["generation"]["intervals"]["lru"])


class Input(Case):
    def test_standard_input(self):
        trace = conversation(skewed(8)).trace()
        path = self.folder / "stdin.moetrace"
        path.write_bytes(trace)
        self.assertEqual(self.run_cli("-", stdin=trace), self.run_cli(path))

    def test_damaged(self):
        trace = bytearray(conversation(skewed(8)).trace())
        path = self.folder / "damaged.moetrace"
        trace[len(trace) // 2] ^= 1
        path.write_bytes(trace)
        self.assertIn("best", self.run_cli(path, status=1))
        self.assertIn("damaged", self.stderr)

    def test_layers_alone(self):
        """Everything is of the layers that are chosen: their bytes, their requests, their caches."""
        made = conversation(skewed(8), 8)
        answer = self.answer(made, "--layer", "1-2", "--vram", "16MiB")
        run = made.steps((1, 2))
        shape = slow.Shape([N_EXPERT] * 2, [N_USED] * 2, [EXPERT_BYTES] * 2)
        self.assertEqual([layer["layer"] for layer in answer["layers"]], [1, 2])
        self.assertEqual(answer["floor_mib"], 2 * N_USED * EXPERT_BYTES / (1 << 20))
        self.assertEqual((answer["budget"]["whole_layers"]["layers"], answer["budget"]["whole_layers"]["n_cpu_moe"]),
                         (0, 3))
        for size in answer["sizes"]:
            budget = round(size["mib"] * (1 << 20))
            own, shared = slow.Own(shape, budget), slow.Shared(shape, budget)
            for key, where in (("lru", own), ("pooled_lru", shared)):
                self.assert_rates(size["generation"][key], slow.lru(run, where, MAX_ROWS).of("judged", "generation"),
                                  budget)
        path = self.folder / "run.moetrace"
        out = self.run_cli("--layer", "1-2", path)
        self.assertIn("2 layers of 16", out)
        self.assertIn("48.0 MiB", out)

    def test_layers_that_are_not_there(self):
        path = self.folder / "layers.moetrace"
        path.write_bytes(conversation(skewed(8)).trace())
        for layers in ("3", "0,7", "9-"):
            self.assertEqual(self.run_cli("--layer", layers, path, status=1), "")
            self.assertIn("no such layer", self.stderr)
        self.run_cli("--layer", "2-", path)

    def test_layers_and_sequences(self):
        answer = self.answer(conversation(skewed(8)), "--layer", "1", "--sequence", "0")
        self.assertGreater(answer["requests"]["generation"], 0)
        self.assertLess(answer["requests"]["generation"],
                        self.answer(conversation(skewed(8)))["requests"]["generation"] / 2)

    def test_nothing_to_look_at(self):
        path = self.folder / "nothing.moetrace"
        path.write_bytes(conversation(skewed(8)).trace())
        self.run_cli("--sequence", "99", path, status=1)
        self.assertIn("no tokens", self.stderr)

    def test_usage(self):
        for args in ([], ["a", "b"], ["--vram", "much", "a"], ["--vram", "0", "a"], ["--pcie", "-1", "a"],
                     ["--pcie", "25GB/s", "a"], ["--tg", "x", "a"], ["--max-rows", "-1", "a"],
                     ["--moe-cache-mib", "1,,2", "a"], ["--vram-rate", "1TB/s", "a"],
                     ["--moe-cache-mib", ",".join(map(str, range(1, 99))), "a"],
                     ["--half-life", "0", "a"], ["--nonsense", "a"]):
            self.assertEqual(self.run_cli(*args, status=2), "")
            self.assertIn("llama-expert-tracer", self.stderr)

    def test_no_such_file(self):
        self.run_cli(self.folder / "none", status=1)
        self.assertIn("none", self.stderr)


if __name__ == "__main__":
    unittest.main()
