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
sys.path.insert(0, str(HERE.parent / "trace"))

import moetrace as m  # noqa: E402

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
            events.append(m.new_ubatch(number, TABLE, tokens,
                                       lambda layer, token, rank: experts[layer][tokens.index(token)][rank],
                                       time=1700000000000000 + number))
            if warmup:
                events.append(m.Warmup(number, 1))
        head = m.new_header(trace="cache", run="1-1", pid=7, model=MODEL, n_layer=N_LAYER, weights=False, tokens=False)
        return m.joined(m.encode(head, (TABLE,), events, chunk_every=16))

    def steps(self):
        """(layer, tokens, distinct experts in order of appearance, phase, second half) of each layer of each ubatch."""
        generated = [bool(t.generation) for tokens, _, warmup in self.ubatches if not warmup for t in tokens]
        phase = 100 * generated.count(True) >= generated.count(False)
        total = generated.count(phase)
        seen = 0
        for i, (tokens, experts, warmup) in enumerate(self.ubatches):
            second = i > 0 and 2 * seen >= total
            for layer in range(N_LAYER):
                distinct = list(dict.fromkeys(e for row in experts[layer] for e in row))
                kind = "warmup" if warmup else "generation" if all(t.generation for t in tokens) else "prompt"
                yield layer, tokens, distinct, kind, second, experts[layer]
            if not warmup:
                seen += sum(t.generation == phase for t in tokens)


class Rates:
    def __init__(self):
        self.requests = Counter()
        self.hits = Counter()

    def add(self, kind, requests, hits):
        self.requests[kind] += requests
        self.hits[kind] += hits

    def of(self, kind):
        return self.hits[kind] / self.requests[kind] if self.requests[kind] else None


def lru(run, n_slots):
    recent = [[] for _ in range(N_LAYER)]
    rates = Rates()
    for layer, tokens, distinct, kind, second, _ in run.steps():
        held = recent[layer][:n_slots]
        if second:
            rates.add(kind, len(distinct), sum(e in held for e in distinct))
        if len(tokens) <= MAX_ROWS:
            recent[layer] = distinct[::-1] + [e for e in recent[layer] if e not in distinct]
    return rates


def static(run, n_slots):
    counts = [Counter() for _ in range(N_LAYER)]
    for layer, _, distinct, kind, second, _ in run.steps():
        if not second and kind != "warmup":
            counts[layer].update({(kind, e): 1 for e in distinct})
    rates = Rates()
    for layer, _, distinct, kind, second, _ in run.steps():
        hot = sorted(range(N_EXPERT), key=lambda e: (-counts[layer][(kind, e)], e))[:n_slots]
        if second:  # what was not used in the first half is not pinned
            rates.add(kind, len(distinct), sum(e in hot and counts[layer][(kind, e)] > 0 for e in distinct))
    return rates


def llama(run, n_slots):
    """One list for all layers, the most recent last; counted over the whole run by the size of the ubatch."""
    cached = []
    rates = Rates()
    for layer, tokens, distinct, _, _, _ in run.steps():
        keys = [(layer, e) for e in distinct]
        there = [key for key in keys if key in cached]
        missing = sorted(key for key in keys if key not in cached)
        if len(tokens) > MAX_ROWS or min(len(tokens) * N_USED, N_EXPERT) > n_slots:
            rates.add("passed", len(keys), len(there))
            continue
        rates.add("small" if len(tokens) <= 8 else "large", len(keys), len(there))
        cached = [key for key in cached if key not in there] + there
        cached = (cached + missing)[-n_slots:]
    return rates


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
    def check(self, run):
        answer = self.answer(run, "--moe-cache-mib", "12,24,40")
        self.assertEqual([size["slots"] for size in answer["sizes"]], SIZES)
        for size in answer["sizes"]:
            slots = size["slots"]
            self.assertAlmostEqual(size["share"], slots / N_EXPERT, 4)
            self.assertAlmostEqual(size["mib"], slots * N_LAYER * EXPERT_BYTES / (1 << 20), 4)
            for kind in ("generation", "prompt"):
                least_recent, pinned = lru(run, slots), static(run, slots)
                if not least_recent.requests[kind]:
                    self.assertIsNone(size[kind])
                    continue
                self.assert_rates(size[kind]["lru"], least_recent.of(kind), (slots, kind))
                self.assert_rates(answer["lru"][kind][slots], least_recent.of(kind), (slots, kind))
                self.assertEqual(answer["requests"][kind], least_recent.requests[kind])
                for policy in ("static", "lru", "lfu"):
                    self.assertLessEqual(size[kind][policy], size[kind]["optimum"] + 1e-6, (slots, kind, policy))
                for policy in ("pooled_static", "pooled_lru", "llama_cpp"):
                    self.assertLessEqual(size[kind][policy], size[kind]["pooled_optimum"] + 1e-6, (slots, kind, policy))
            if size["generation"]:
                self.assert_rates(size["generation"]["static"], static(run, slots).of("generation"), slots)
        for told in answer["llama_cpp"]:
            expected = llama(run, told["slots"])
            for kind in ("small", "large"):
                self.assertEqual((told[kind]["hits"], told[kind]["misses"]),
                                 (expected.hits[kind], expected.requests[kind] - expected.hits[kind]),
                                 (told["mib"], kind))
            self.assertEqual((told["passed_by"]["found"], told["passed_by"]["asked"]),
                             (expected.hits["passed"], expected.requests["passed"]))
        return answer

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
        told = answer["llama_cpp"][-1]
        self.assertEqual((told["mib"], told["slots"]), (12, 12 * (1 << 20) // EXPERT_BYTES - 1))  # one is to spare


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

    def test_a_processor_that_fast_there_is_not(self):
        path = self.folder / "fast.moetrace"
        path.write_bytes(conversation(skewed(6)).trace())
        out = self.run_cli("--vram", "24MiB", "--pcie", "25GB/s", "--ram", "1GB/s", "--tg", "1000", path)
        self.assertIn("--ram or --tg is wrong", out)

    def test_text(self):
        path = self.folder / "text.moetrace"
        path.write_bytes(conversation(skewed(6)).trace())
        out = self.run_cli("--vram", "24MiB", "-l", *self.TIME, path)
        for word in ("--moe-cache-mib 24", "--n-cpu-moe 2", "tokens a second",
                     "breaks even at a hit rate of 58%", "Slots by layer"):
            self.assertIn(word, out)
        self.assertNotIn("nan", out)
        self.assertEqual(self.stderr, "")


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
        self.assertIn("optimum", self.run_cli(path, status=1))
        self.assertIn("damaged", self.stderr)

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
                     ["--moe-cache-mib", "1,,2", "a"], ["--half-life", "0", "a"], ["--nonsense", "a"]):
            self.assertEqual(self.run_cli(*args, status=2), "")
            self.assertIn("llama-expert-tracer", self.stderr)

    def test_no_such_file(self):
        self.run_cli(self.folder / "none", status=1)
        self.assertIn("none", self.stderr)


if __name__ == "__main__":
    unittest.main()
