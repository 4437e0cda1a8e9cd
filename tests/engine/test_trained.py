#!/usr/bin/env python3
"""The commands on routing that was learned: models/babel-11m.gguf reads texts of several kinds.

Nothing is sampled, and what is asked for holds by margins that a processor's rounding does not reach.
"""

import json
import re
import tempfile
from pathlib import Path

from harness import COMMAND, REPOSITORY, main, run
from traces import TraceTestCase

MODEL = REPOSITORY / "models" / "babel-11m.gguf"
CONTEXT = 1024

TEXTS = {
    "c": (REPOSITORY / "src" / "statistics" / "counters.c").read_text(),
    "python": (REPOSITORY / "tests" / "trace" / "moetrace.py").read_text(),
    "prose": (REPOSITORY / "docs" / "architecture.md").read_text().split("## Threads and locks\n", 1)[1],
}


class Trained(TraceTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = tempfile.TemporaryDirectory(prefix="expert-tracer-test-")
        cls.addClassCleanup(folder.cleanup)
        cls.traces = {kind: cls.traced(Path(folder.name) / kind, text[:CONTEXT - 8]) for kind, text in TEXTS.items()}

    @staticmethod
    def traced(path, text):
        """A trace of a text that is read."""
        trace = path.with_suffix(".moetrace")
        path.write_text(text)
        result = run("llama-completion", "-m", MODEL, "-f", path, "-n", 1, "-no-cnv", "-c", CONTEXT,
                     "-ub", 1, "-t", 1, "--no-warmup", trace={"ROUTING": trace})
        if result.status != 0:
            raise RuntimeError(result.err[-2000:])
        return trace

    def answer(self, command, *arguments):
        result = run(COMMAND, command, "--json", *arguments, preload=False)
        self.assertEqual(result.status, 0, result.err)
        return json.loads(result.out)

    def perplexity(self, kind):
        (self.folder / kind).write_text(TEXTS[kind][:4 * CONTEXT])
        for _ in range(10): # its log loses the last lines now and then
            result = run("llama-perplexity", "-m", MODEL, "-f", self.folder / kind,
                         "-c", CONTEXT, "-t", 1, preload=False)
            if found := re.search(r"Final estimate: PPL = ([0-9.]+)", result.out + result.err):
                return float(found[1])
        self.fail(result.err[-2000:])

    def test_it_has_learned(self):
        """Says llama-perplexity, of texts that the model has not seen. 257 would be chance."""
        for kind in TEXTS:
            with self.subTest(kind):
                self.assertLess(self.perplexity(kind), 10)

    def test_kinds_of_text_have_experts_of_their_own(self):
        pair, = self.answer("compare", self.traces["c"], self.traces["prose"])["pairs"]
        self.assertGreater(pair["divergence"], 2 * max(pair["noise"].values()))
        hot, = (hot for hot in pair["hot_set"] if hot["share"] == 0.25)
        self.assertLess(hot["a_on_b"], hot["b_on_b"] - 0.05)
        self.assertLess(hot["b_on_a"], hot["a_on_a"] - 0.05)

    def test_experts_come_back(self):
        for kind, trace in self.traces.items():
            with self.subTest(kind):
                neighbours = self.answer("report", trace)["neighbours"]
                self.assertGreater(neighbours["prompt"], neighbours["chance_prompt"] + 0.02)

    def test_what_is_recent_is_worth_more_than_what_was_frequent(self):
        """Where the kind of text changes, an LRU cache follows, and a hot set does not."""
        both = self.folder / "both.moetrace"
        result = run(COMMAND, "cat", self.traces["prose"], self.traces["c"], "-o", both, preload=False)
        self.assertEqual(result.status, 0, result.err)
        for size in self.answer("cache", both)["sizes"]:
            if 0.25 <= size["share"] <= 0.75:
                with self.subTest(share=size["share"]):
                    rates = size["prompt"]
                    self.assertGreater(rates["lru"], rates["static"] + 0.02)
                    self.assertGreater(rates["optimum"], rates["lru"] + 0.02)

    def test_the_next_layer_follows_from_this_one(self):
        for kind, trace in self.traces.items():
            with self.subTest(kind):
                *_, twice = self.answer("predict", trace)["next_layer"]["prompt"]["budgets"]
                self.assertGreater(twice["recall"], twice["popularity"] + 0.02)


if __name__ == "__main__":
    main()
