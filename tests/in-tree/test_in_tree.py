#!/usr/bin/env python3
"""llama.cpp with the tracer built in, shared and static: the counts are the oracle's and the preloaded library's."""

import json
import subprocess
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "engine"))

from harness import BUILD, COMMAND, MIXTRAL, ORACLES, Server, TestCase, main, run

WORK = BUILD / "in-tree"
KINDS = {"shared": WORK / "shared" / "bin", "static": WORK / "static" / "bin"}
PROMPT = "The quick brown fox"


def completion(oracle, n):
    """Release 0.5.0 computes every row of the last layer in some architectures."""
    evaluated = oracle.completion(PROMPT.encode(), n)
    return evaluated if oracle is MIXTRAL else [(token, True) for token, _ in evaluated]


class InTree(TestCase):
    def each(self, test, oracles=(MIXTRAL,)):
        """Calls test(folder of the programs, oracle) for both builds and each model."""
        for kind, folder in KINDS.items():
            for oracle in oracles:
                with self.subTest(kind, model=oracle.name):
                    self.stats_path = self.folder / f"{kind}-{oracle.name}.json"
                    test(folder, oracle)

    def assert_stats(self, oracle, evaluated, prompt, generation):
        self.assert_counts(self.stats(), oracle, evaluated)
        self.assert_phases(self.stats(), prompt, generation)
        self.assertTrue(self.stats()["complete"])
        self.assertEqual(self.stats()["model"]["file"], str(oracle.path.resolve()))

    def complete(self, folder, oracle, *before, trace=None, **how):
        arguments = ["-m", oracle.path, "-p", PROMPT, "-n", 6, "-no-cnv", "-t", 1]
        result = run(*before, folder / "llama-completion", *arguments,
                     trace=self.trace() if trace is None else trace, preload=False, **how)
        self.assertEqual(result.status, 0, result.err)
        return result

    def test_completion(self):
        def check(folder, oracle):
            self.complete(folder, oracle)
            self.assert_stats(oracle, completion(oracle, 6), len(PROMPT), 5)

        self.each(check, ORACLES)

    def test_lines_are_the_preloaded_librarys(self):
        preloaded = run("llama-completion", "-m", MIXTRAL.path, "-p", PROMPT, "-n", 6, "-no-cnv", "-t", 1,
                        trace={"STATS": 1, "PER_LAYER": 1})
        expected = preloaded.said()
        start = expected.index("=== Expert Usage Statistics ===")

        def check(folder, oracle):
            said = self.complete(folder, oracle, trace={"STATS": 1, "PER_LAYER": 1}).said()
            at = said.index("=== Expert Usage Statistics ===")
            self.assertEqual(said[at:at + 5 + 8 + 2 + 32 * 9], expected[start:start + 5 + 8 + 2 + 32 * 9])
            self.assertEqual(said.count("=== Expert Usage Statistics ==="), 1)
            self.assertEqual(said.count("[EXPERT-TRACE] Statistics enabled"), 1)

        self.each(check)

    def test_json_is_the_preloaded_librarys(self):
        run("llama-completion", "-m", MIXTRAL.path, "-p", PROMPT, "-n", 6, "-no-cnv", "-t", 1, trace=self.trace())
        expected = self.stats()

        def check(folder, oracle):
            self.complete(folder, oracle)
            stats = self.stats()
            for key in "run", "pid", "engine":
                stats[key] = expected[key]
            self.assertEqual(stats, expected)

        self.each(check)

    def test_names(self):
        def check(folder, oracle):
            said = self.complete(folder, oracle, trace={"NAMES": 1}).said()
            names = [line for line in said if line.startswith("[EXPERT-TRACE] Layer 3, ")]
            self.assertEqual(names[:3],
                             [f"[EXPERT-TRACE] Layer 3, Expert {oracle.expert(3, ord('T'), 0)}: blk.3.ffn_{p}_exps."
                              f"{oracle.expert(3, ord('T'), 0)}.weight" for p in ("gate", "down", "up")])
            self.assertEqual(len(names), (len(PROMPT) + 5) * 2 * 3)

        self.each(check)

    def test_cli(self):
        def check(folder, oracle):
            result = run(folder / "llama-cli", "-m", oracle.path, "-p", "test", "-n", 4, "-st", "-t", 8,
                         trace=self.trace(), preload=False)
            self.assertEqual(result.status, 0, result.err)
            self.assertEqual(self.stats()["generation_tokens"], 3)
            self.assertEqual(result.said().count("=== Expert Usage Statistics ==="), 1)
            self.assertNotIn("EXPERT-TRACE", result.out)

        self.each(check)

    def test_server(self):
        def check(folder, oracle):
            with Server("-m", oracle.path, "-t", 1, "-c", 1024, program=folder / "llama-server", trace=self.trace(),
                        preload=False) as server:
                server.post("/completion", prompt=PROMPT, n_predict=6)
                self.assertEqual(server.stop(), 0)
            self.assert_stats(oracle, completion(oracle, 6), len(PROMPT), 5)

        self.each(check, ORACLES)

    def test_bench(self):
        def check(folder, oracle):
            result = run(folder / "llama-bench", "-m", oracle.path, "-p", 16, "-n", 4, "-r", 1, "-t", 1, "--no-warmup",
                         trace=self.trace(), preload=False)
            self.assertEqual(result.status, 0, result.err)
            self.assertEqual(self.stats()["total_tokens"], 20)
            self.assertEqual(self.stats()["layer_tokens"]["31"], 5)

        self.each(check)

    def test_perplexity(self):
        text = (PROMPT * 8).encode()
        path = self.folder / "text"
        path.write_bytes(text)
        n = len(text) // 64 * 64

        def check(folder, oracle):
            result = run(folder / "llama-perplexity", "-m", oracle.path, "-f", path, "-c", 64, "-t", 1,
                         trace=self.trace(), preload=False)
            self.assertEqual(result.status, 0, result.err)
            self.assert_stats(oracle, [(token, i % 64 >= 32) for i, token in enumerate(text[:n])], n, 0)

        self.each(check)

    def test_counted_once_under_run(self):
        def check(folder, oracle):
            result = self.complete(folder, oracle, COMMAND, "run", "--per-layer", "-o", self.stats_path, "--", trace={})
            self.assert_stats(oracle, completion(oracle, 6), len(PROMPT), 5)
            self.assertEqual(result.said().count("=== Expert Usage Statistics ==="), 1)
            self.assertEqual([path.name for path in self.folder.glob("*.json")].count(self.stats_path.name), 1)
            self.assertFalse(self.stats_path.with_name(self.stats_path.stem + "-2.json").exists())

        self.each(check)

    def test_check_says_that_it_is_built_in(self):
        def check(folder, _):
            result = run(COMMAND, "check", folder / "llama-cli", preload=False)
            self.assertEqual(result.status, 0, result.out)
            self.assertIn("with the tracer built in", result.out)

        self.each(check)

    def test_off_is_quiet(self):
        def check(folder, oracle):
            result = self.complete(folder, oracle, trace={})
            self.assertNotIn("EXPERT-TRACE", result.err)
            self.assertFalse(list(self.folder.iterdir()))

        self.each(check)

    def test_llama_cpps_own_tests(self):
        names = ("^(test-generate-models|test-recurrent-state-rollback.*|test-save-load-state|test-model-load-cancel|"
                 "test-backend-sampler|test-sampling|test-batch-alloc|test-tokenizer-0-.*|test-grammar-parser|test-log|"
                 "test-rope|test-alloc|test-gguf)$")
        done = subprocess.run(["ctest", "--test-dir", WORK / "shared", "-R", names, "--timeout", "600",
                               "--no-tests=error"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


if __name__ == "__main__":
    main()
