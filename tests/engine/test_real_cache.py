#!/usr/bin/env python3
"""The expert cache of stock llama.cpp (--moe-cache-mib), on an RPC device:
`cache` says of a run's trace what that very run's cache hit."""

import json
import random
import re
import unittest
from types import SimpleNamespace

from harness import COMMAND, GPT_OSS, MIXTRAL, main, rpc_servers, run, strip_prefix
from traces import TraceTestCase

SLOTS = re.compile(r"impl: +(\d+) layers, .*: +(\d+) slots")
HITS = re.compile(r"llama_moe_cache: ubatch +(<=|>) 8: hits = (\d+), misses = (\d+)")
NO_STEPS = {"hits": 0, "misses": 0}


def topics(n, n_tokens, every):
    """Tokens of which only a few are in use at a time, and others after a while:
    what is recent is hot, what was frequent is not."""
    chance = random.Random(1)
    characters = [chr(c) for c in range(33, 127)]
    text = []
    while len(text) < n:
        text += chance.choices(chance.sample(characters, n_tokens),
                               [1 / (rank + 1) for rank in range(n_tokens)], k=every)
    return "".join(text[:n])


def scan(n, n_tokens):
    """A few tokens that always come back, and between them one after the other of all the others:
    what was frequent is hot."""
    chance = random.Random(1)
    characters = [chr(c) for c in range(33, 127)]
    chance.shuffle(characters)
    hot, rare = characters[:n_tokens], characters[n_tokens:]
    return "".join(rare[i // 3 % len(rare)] if i % 3 == 2 else chance.choice(hot) for i in range(n))


class RealCache(TraceTestCase):
    @classmethod
    def setUpClass(cls):
        if "--moe-cache-mib" not in run("llama-completion", "--help", preload=False).out:
            raise unittest.SkipTest("this llama.cpp has no expert cache")

    def cached(self, device, model, mib, text, rows, n=1):
        """A completion in ubatches of so many tokens: what the program says that its cache did,
        in the words of `cache --json`."""
        (self.folder / "text").write_text(text)
        result = run("llama-completion", "-m", model, "--rpc", device, "-ngl", 99, "-cmoe",
                     "--no-repack", "--moe-cache-mib", mib, "-fit", "off", "-f", self.folder / "text", "-n", n,
                     "-no-cnv", "--ignore-eos", "-c", 1024, "-b", rows, "-ub", rows,
                     "-t", 1, "-lv", 4, trace=self.routing(TOKENS=0))
        self.assertEqual(result.status, 0, result.err[-2000:])
        said = "\n".join(map(strip_prefix, result.err.splitlines()))
        hits = {size: {"hits": int(hits), "misses": int(misses)} for size, hits, misses in HITS.findall(said)}
        slots = [int(slots) for _, slots in SLOTS.findall(said)]
        self.assertTrue(slots, said)
        return SimpleNamespace(slots=slots, small=hits.get("<=", NO_STEPS), large=hits.get(">", NO_STEPS))

    def predicted(self, mib):
        result = run(COMMAND, "cache", "--json", "--moe-cache-mib", mib, self.path, preload=False)
        self.assertEqual(result.status, 0, result.err)
        return json.loads(result.out)

    def assert_predicted(self, real, answer, mib):
        found = next(one for one in answer["llama_cpp"] if one["mib"] == mib)
        self.assertEqual(found["slots"], sum(real.slots))
        self.assertEqual((found["small"], found["large"]), (real.small, real.large))
        return found

    def difference(self, answer):
        """How far LRU and LFU are apart, at the size where they are farthest."""
        return max(abs(size["prompt"]["lru"] - size["prompt"]["lfu"]) for size in answer["sizes"])

    def assert_sizes(self, device, oracle, sizes, text, rows):
        for mib in sizes:
            with self.subTest(oracle.name, mib=mib, rows=rows):
                real = self.cached(device, oracle.path, mib, text, rows)
                answer = self.predicted(mib)
                self.assert_predicted(real, answer, mib)
                self.assertGreaterEqual(self.difference(answer), 0.05)
                counted = real.small if rows <= 8 else real.large
                self.assertGreater(min(counted.values()), 0)

    def test_hits_and_misses(self):
        with rpc_servers(self.folder, 1) as device:
            for rows in (8, 24):
                self.assert_sizes(device, MIXTRAL, (16, 18, 20, 24), topics(360, 3, 72), rows)
                self.assert_sizes(device, GPT_OSS, (40, 60, 90, 150), topics(192, 8, 48), rows)
                self.assert_sizes(device, GPT_OSS, (60,), scan(150, 6), rows)

    def test_generation_after_ubatches_that_pass_by(self):
        with rpc_servers(self.folder, 1) as device:
            for oracle, mib in ((MIXTRAL, 16), (GPT_OSS, 90)):
                with self.subTest(oracle.name):
                    real = self.cached(device, oracle.path, mib, topics(100, 8, 20), 40, n=120)
                    found = self.assert_predicted(real, self.predicted(mib), mib)
                    self.assertGreater(found["passed_by"]["asked"], 0)
                    self.assertGreater(real.small["hits"], 0)

    def test_layers_of_several_layouts(self):
        model = self.folder / "mixed.gguf"
        result = run("llama-quantize", "--tensor-type", r"blk\.[0-9]\.ffn_.*_exps=q4_0",
                     "--tensor-type", r"blk\.10\.ffn_up_exps=q5_0", MIXTRAL.path, model, "q8_0", preload=False)
        self.assertEqual(result.status, 0, result.err)
        with rpc_servers(self.folder, 1) as device:
            for mib in (1, 3): # the one layer of a layout of its own has 0 slots of 1 MiB
                with self.subTest(mib=mib):
                    real = self.cached(device, model, mib, topics(120, 3, 24), 8)
                    self.assertEqual(len(real.slots), 3)
                    self.assert_predicted(real, self.predicted(mib), mib)


if __name__ == "__main__":
    main()
