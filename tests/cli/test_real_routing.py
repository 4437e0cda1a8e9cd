#!/usr/bin/env python3
"""Tests of `llama-expert-tracer cache` (EXPERT_TRACER_CLI) on the routing of two real models, which was published with
what their engine's own cache had (tests skip where the route traces are not there): read here without the command's
help, every column is computed again the slow way, and what was published is what comes out."""

import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from collections import OrderedDict
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import slow_caches as slow  # noqa: E402

CLI = os.environ.get("EXPERT_TRACER_CLI", "")
SHARED = Path(os.environ.get("EXPERT_TRACER_SHARED") or HERE.parents[2] / "shared" / "data")
MIB = 1 << 20


class Routing:
    """A route trace: the steps of all layers, the prompt being one ubatch; its second half begins where half of the
    generated tokens are done."""

    def __init__(self, path):
        lines = path.read_text().splitlines()
        about = dict(pair.split("=", 1) for pair in lines[1][2:].split() if "=" in pair)
        sizes = [line.split() for line in lines if line.startswith("# layer=")]
        bytes_of = {int(layer[6:]): int(size[13:]) for _, layer, size, *_ in sizes}
        n = int(about["n_layer"])
        self.shape = slow.Shape([int(about["n_expert"])] * n, [int(about["n_expert_used"])] * n,
                                [bytes_of[i] for i in range(n)])
        ubatches = OrderedDict()
        for row in csv.DictReader(line for line in lines if not line.startswith("#")):
            generated = row["phase"] == "1"
            rows = ubatches.setdefault(int(row["step"]) if generated else -1, OrderedDict())
            tokens = rows.setdefault(int(row["layer"]), OrderedDict())
            tokens.setdefault(int(row["step"]), []).append(int(row["expert"]))
        self.run = []
        done, total = 0, len(ubatches) - 1
        for number, layers in ubatches.items():
            for layer in sorted(layers):
                rows = list(layers[layer].values())
                self.run.append(slow.Step(layer, list(dict.fromkeys(e for row in rows for e in row)), rows,
                                          [(0, number >= 0)] * len(rows), "prompt" if number < 0 else "generation",
                                          2 * done >= total))
            done += number >= 0


class OneListOfBytes:
    """The engine's own cache: one LRU list over all layers, by bytes; nothing goes that the batch touches."""

    def __init__(self, routing, budget):
        held, used = OrderedDict(), 0
        self.rates = slow.Rates()
        for step in routing.run:
            keys = [(step.layer, e) for e in step.experts]
            self.rates.add(step, sum(key in held for key in keys))
            for key in keys:
                used += 0 if key in held else routing.shape.bytes[step.layer]
                held[key] = None
                held.move_to_end(key)
            while used > budget:
                used -= routing.shape.bytes[held.popitem(last=False)[0][0]]


@unittest.skipUnless(list(SHARED.glob("*.route.csv")), f"no route traces in {SHARED}")
class RealRouting(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="test-real-"))
        cls.routings = {}
        for name in ("qwen3-30b-a3b", "gpt-oss-120b"):
            source = SHARED / f"{name}.route.csv"
            cls.routings[name] = Routing(source)
            subprocess.run([CLI, "import", "-o", cls.folder / name, source], check=True, capture_output=True,
                           timeout=60)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def cli(self, *args):
        done = subprocess.run([CLI, *map(str, args)], capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def answer(self, name, *args):
        return json.loads(self.cli("cache", "--json", *args, self.folder / name))

    def assert_rate(self, told, rates, span, kind, what):
        expected = rates.of(span, kind)
        if told is None or expected is None:
            self.assertEqual(told, expected, what)
        else:
            self.assertAlmostEqual(told, expected, 7, what)

    def check_size(self, name, size, max_rows):
        """Every column, of the second half and of the whole run."""
        routing = self.routings[name]
        run, shape = routing.run, routing.shape
        budget = round(size["mib"] * MIB)
        own, shared = slow.Own(shape, budget), slow.Shared(shape, budget)
        slots = slow.llama_slots(shape, [[size] for size in shape.bytes], budget)
        llama = slow.llama(run, shape, slots, max_rows)[0]
        both = {"lru": slow.lru(run, own, max_rows), "lfu": slow.lfu(run, own, max_rows, 256),
                "pooled_lru": slow.lru(run, shared, max_rows), "whole_layers": slow.whole_layers(run, shape, budget),
                **({"llama_cpp": llama} if sum(slots.values()) > 0 else {})}
        for key, rates in both.items():
            self.assert_rate(size["generation"][key], rates, "judged", "generation", (name, budget, key))
            for kind in ("generation", "prompt", "all"):
                self.assert_rate(size["whole_run"][kind][key], rates, "whole", kind, (name, budget, key, kind))
        judged = {"static": slow.static(run, own, shape), "pooled_static": slow.static(run, shared, shape),
                  "optimum": slow.optimum(run, own, "judged", "generation"),
                  "pooled_optimum": slow.optimum(run, shared, "judged", "generation"),
                  "prompt_oracle": slow.oracle(run, own)}
        for key, rates in judged.items():
            self.assert_rate(size["generation"][key], rates, "judged", "generation", (name, budget, key))
        for kind in ("generation", "all"):
            self.assert_rate(size["whole_run"][kind]["pooled_optimum"], slow.optimum(run, shared, "whole", kind),
                             "whole", kind, (name, budget, kind))

    def check_columns(self, name, budget, max_rows):
        answer = self.answer(name, "--moe-cache-mib", budget, "--max-rows", max_rows)
        self.check_size(name, next(size for size in answer["sizes"] if size["asked"]), max_rows)

    def test_every_column_of_qwen(self):
        self.check_columns("qwen3-30b-a3b", 3000, 0)
        self.check_columns("qwen3-30b-a3b", 4000, 32)

    def test_every_column_of_gpt_oss(self):
        self.check_columns("gpt-oss-120b", 3000, 0)
        self.check_columns("gpt-oss-120b", 8000, 32)

    def published(self, name, mib, whole, generation):
        """What the engine had of its one list, and what a list for each layout of experts has."""
        answer = self.answer(name, "--moe-cache-mib", mib, "--max-rows", 0)
        told = next(size for size in answer["sizes"] if size["asked"])["whole_run"]
        engine = OneListOfBytes(self.routings[name], mib * MIB).rates
        for kind, percent in (("all", whole), ("generation", generation)):
            if percent is not None:
                self.assertAlmostEqual(100 * engine.of("whole", kind), percent, delta=0.1)
                self.assertAlmostEqual(100 * told[kind]["pooled_lru"], percent, delta=0.35, msg=(name, mib, kind))

    def test_what_the_engine_had(self):
        self.published("qwen3-30b-a3b", 4000, 74.9, 80.3)
        self.published("qwen3-30b-a3b", 3000, None, 70.6)
        self.published("gpt-oss-120b", 3000, 32.35, 44.75)

    def test_less_than_a_cycle_has_nothing(self):
        answer = self.answer("gpt-oss-120b", "--moe-cache-mib", 750, "--max-rows", 0)
        told = next(size for size in answer["sizes"] if size["asked"])["whole_run"]
        for kind in ("all", "generation"):
            self.assertEqual(told[kind]["pooled_lru"], 0)
            self.assertEqual(told[kind]["llama_cpp"], 0)
        self.assertAlmostEqual(answer["floor_mib"], 908, delta=0.5)

    def test_what_the_best_would_have(self):
        """Published of Belady's cache, which takes in whatever is used; ours may leave an expert out, and generation
        has all slots for itself: it bounds that one, and is not far from it."""
        for name, percent in (("qwen3-30b-a3b", 87.8), ("gpt-oss-120b", 67.8)):
            routing = self.routings[name]
            plain = slow.belady(routing.run, slow.OneList(routing.shape, 3000 * MIB)).of("whole", "generation")
            self.assertAlmostEqual(100 * plain, percent, delta=0.2)
            answer = self.answer(name, "--moe-cache-mib", 3000, "--max-rows", 0)
            told = next(size for size in answer["sizes"] if size["asked"])["whole_run"]["generation"]["pooled_optimum"]
            self.assertGreaterEqual(told, plain - 0.002) # a list for each layout of experts, instead of one
            self.assertLess(told, plain + 0.01)

    def shared_with_token_before(self, name, from_prompt):
        """Of a generated token's experts, in percent; the first one has the prompt's last token before it, or none."""
        before, shared, experts = {}, 0, 0
        for step in self.routings[name].run:
            if step.kind == "generation" and step.layer in before:
                shared += len(before[step.layer] & set(step.experts))
                experts += len(step.experts)
            if step.kind == "generation" or from_prompt:
                before[step.layer] = set(step.rows[-1])
        return 100 * shared / experts

    def test_the_token_before(self):
        """What was published leaves out the first generated token, for which a report knows the prompt's last one."""
        for name, percent in (("qwen3-30b-a3b", 38.0), ("gpt-oss-120b", 17.9)):
            told = json.loads(self.cli("report", "--json", self.folder / name))["neighbours"]["generation"]
            self.assertAlmostEqual(self.shared_with_token_before(name, False), percent, delta=0.1)
            self.assertAlmostEqual(self.shared_with_token_before(name, True), 100 * told, 6)

    def test_the_verdict_wants_more(self):
        """Two blocks of 64 tokens are not enough to put money on."""
        for name in self.routings:
            told = self.answer(name, "--vram", "4000MiB", "--pcie", "25GB/s", "--ram", "60GB/s", "--tg", "18")
            self.assertEqual(told["recommendation"]["because"], "too little recorded")
            self.assertGreater(told["recommendation"]["more_tokens"], 500)
            self.assertIn("record about", told["verdict"])


if __name__ == "__main__":
    unittest.main()
