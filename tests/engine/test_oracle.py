#!/usr/bin/env python3
"""Every count of every expert in every layer, against models whose routing is known on paper."""

import re
import unittest

from gguf import F32, Gguf
from harness import GPT_OSS, MIXTRAL, ORACLES, Oracle, Server, TestCase, main, run

PROMPT = "The quick brown fox: 0123456789, jumps over {the} lazy ~dog!"


class Models(TestCase):
    def test_are_of_the_type_that_all_processors_compute_alike(self):
        for oracle in ORACLES:
            with self.subTest(oracle.name):
                self.assertEqual({kind for kind, _ in Gguf(oracle.path).places.values()}, {F32})


class Completion(TestCase):
    def check(self, oracle, *options, n=16, prompt=PROMPT, batch_size=2048):
        result = run("llama-completion", "-m", oracle.path, "-p", prompt, "-n", n, "-no-cnv",
                     *options, trace=self.trace())
        self.assertEqual(result.status, 0, result.err)
        # llama-completion asks for logits at the end of each batch
        evaluated = [(token, asks or i % batch_size == batch_size - 1)
                     for i, (token, asks) in enumerate(oracle.completion(prompt.encode(), n))]
        stats = self.stats()
        self.assert_counts(stats, oracle, evaluated)
        self.assert_phases(stats, len(prompt), n - 1, warmup=2)
        self.assertTrue(stats["complete"])
        self.assertEqual(stats["model"]["architecture"], oracle.architecture)
        self.assertEqual(stats["model"]["file"], str(oracle.path.resolve()))

    def test_one_thread(self):
        for oracle in ORACLES:
            with self.subTest(oracle.name):
                self.check(oracle, "-t", 1)

    def test_eight_threads(self):
        for oracle in ORACLES:
            with self.subTest(oracle.name):
                self.check(oracle, "-t", 8, n=4)

    def test_prompt_of_four_ubatches(self):
        self.check(MIXTRAL, "-t", 1, "-ub", 64, n=4, prompt="abcdefgh" * 25)

    def test_prompt_of_several_batches(self):
        self.check(GPT_OSS, "-t", 1, "-b", 64, "-ub", 32, n=3, prompt="0123456789" * 20, batch_size=64)

    def test_flash_attention_on_and_off(self):
        for setting in "on", "off":
            with self.subTest(setting):
                self.check(MIXTRAL, "-t", 1, "-fa", setting, n=4, prompt="flash")

    def test_more_experts_than_the_file_says(self):
        oracle = Oracle("mixtral", "llama", 32, 8, 3)
        result = run("llama-completion", "-m", MIXTRAL.path, "-p", "test", "-n", 4, "-no-cnv", "-t", 1,
                     "--override-kv", "llama.expert_used_count=int:3", trace=self.trace())
        self.assertEqual(result.status, 0, result.err)
        stats = self.stats()
        self.assert_phases(stats, 4, 3, warmup=2)
        self.assertEqual(stats["n_expert_used"], 3)
        counts, _ = MIXTRAL.counts(MIXTRAL.completion(b"test", 4))
        for layer in range(31):
            # the third expert is one of those that the router does not prefer
            self.assertEqual(sum(stats["per_layer"][str(layer)].values()), 7 * oracle.n_used)
            for expert, n in enumerate(counts[layer]):
                self.assertGreaterEqual(stats["per_layer"][str(layer)][str(expert)], n)

    def test_no_warmup(self):
        result = run("llama-completion", "-m", MIXTRAL.path, "-p", "test", "-n", 4, "-no-cnv", "-t", 1,
                     "--no-warmup", trace=self.trace())
        self.assertEqual(result.status, 0)
        self.assert_counts(self.stats(), MIXTRAL, MIXTRAL.completion(b"test", 4))
        self.assert_phases(self.stats(), 4, 3, warmup=0)


class Printed(TestCase):
    def test_lines_are_the_specifications(self):
        result = run("llama-completion", "-m", MIXTRAL.path, "-p", "test", "-n", 16, "-no-cnv", "-t", 1,
                     trace={"STATS": 1, "PER_LAYER": 1})
        counts, _ = MIXTRAL.counts(MIXTRAL.completion(b"test", 16))
        total = sum(map(sum, counts))
        lines = ["", "=== Expert Usage Statistics ===", "Total tokens: 19", f"Total expert activations: {total}", ""]
        for expert in range(8):
            n = sum(row[expert] for row in counts)
            lines.append(f"  Expert {expert:3}: {n:8} activations ({100 * n / total:.2f}%)")
        lines += ["", "Per-layer breakdown:"]
        for layer, row in enumerate(counts):
            lines.append(f"  Layer {layer}:")
            lines += [f"    Expert {expert:3}: {n:8}" for expert, n in enumerate(row)]
        said = result.said()
        start = said.index("=== Expert Usage Statistics ===") - 1
        self.assertEqual(said[start:start + len(lines)], lines)
        self.assertEqual(said.count("[EXPERT-TRACE] Statistics enabled"), 1)

    def test_experts_never_used_are_printed(self):
        result = run("llama-completion", "-m", GPT_OSS.path, "-p", "a", "-n", 1, "-no-cnv", "-t", 1, trace={"STATS": 1})
        lines = [line for line in result.said() if re.match(r"  Expert +\d+: ", line)]
        self.assertEqual(len(lines), 128)
        self.assertIn("  Expert   0:", lines[0])

    def test_without_per_layer_there_is_none(self):
        result = run("llama-completion", "-m", MIXTRAL.path, "-p", "a", "-n", 2, "-no-cnv", "-t", 1,
                     trace={"STATS": 1, "OUTPUT": self.stats_path})
        self.assertNotIn("Per-layer breakdown:", result.said())
        self.assertNotIn("per_layer", self.stats())


class OtherPrograms(TestCase):
    def test_server(self):
        prompt = "tell me a story"
        for oracle in ORACLES:
            with self.subTest(oracle.name), Server("-m", oracle.path, "-t", 1, "-c", 1024,
                                                   trace=self.trace()) as server:
                answer = server.post("/completion", prompt=prompt, n_predict=8)
                self.assertEqual(server.stop(), 0)
                tokens = oracle.generate(prompt.encode(), 8)
                self.assertEqual(answer["content"], bytes(tokens[len(prompt):]).decode())
                self.assert_counts(self.stats(), oracle, oracle.completion(prompt.encode(), 8))
                self.assert_phases(self.stats(), len(prompt), 7)

    def test_perplexity(self):
        # chunks of 64 tokens, of which the second half asks for logits
        text = (PROMPT * 4).encode()
        path = self.folder / "text"
        path.write_bytes(text)
        for oracle in ORACLES:
            with self.subTest(oracle.name):
                result = run("llama-perplexity", "-m", oracle.path, "-f", path, "-c", 64, "-t", 1, trace=self.trace())
                self.assertEqual(result.status, 0, result.err)
                n = len(text) // 64 * 64
                self.assert_counts(self.stats(), oracle, [(token, i % 64 >= 32) for i, token in enumerate(text[:n])])
                self.assert_phases(self.stats(), n, 0)

    def test_bench(self):
        # the tokens are random: what can be said is how many there are
        for oracle in ORACLES:
            with self.subTest(oracle.name):
                result = run("llama-bench", "-m", oracle.path, "-p", 32, "-n", 8, "-r", 2, "-t", 1,
                             "--no-warmup", trace=self.trace())
                self.assertEqual(result.status, 0, result.err)
                stats = self.stats()
                self.assertEqual(stats["total_tokens"], 2 * 32 + 2 * 8)
                rows = {str(layer): 2 * 32 + 2 * 8 for layer in range(oracle.n_layer)}
                rows[str(oracle.n_layer - 1)] = 2 * 1 + 2 * 8
                self.assertEqual(stats["layer_tokens"], rows)
                for layer, n in rows.items():
                    self.assertEqual(sum(stats["per_layer"][layer].values()), n * oracle.n_used)

    def test_cli_chat(self):
        result = run("llama-cli", "-m", MIXTRAL.path, "-p", "test", "-n", 8, "-st", "-t", 1, trace=self.trace())
        self.assertEqual(result.status, 0)
        stats = self.stats()
        self.assertEqual(stats["generation_tokens"], 7)
        self.assertEqual(stats["layer_tokens"]["0"], stats["total_tokens"])
        self.assertEqual(result.said().count("=== Expert Usage Statistics ==="), 1)
        self.assertNotIn("EXPERT-TRACE", result.out)
        self.assertNotIn("Expert Usage", result.out)


if __name__ == "__main__":
    main()
