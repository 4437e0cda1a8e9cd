#!/usr/bin/env python3
"""Models of published size, each traced once from end to end: every count of every expert in every layer."""

from harness import LIBRARY, MODELS, Oracle, SPY, TestCase, main, run

PROMPT = "Hi"
N_GENERATED = 3  # each token of each model reads gigabytes of zeros
MAX_ON_DISK = 300 * 1000**2
N_UBATCH = 512   # what memory is reserved for, if nothing else is said


class FullSize(Oracle):
    def __init__(self, name, *shape):
        super().__init__(name, *shape)
        self.path = MODELS / f"full-{name}.gguf"


class FullShapes(TestCase):
    def check(self, oracle):
        self.assertLess(oracle.path.stat().st_blocks * 512, MAX_ON_DISK)
        log = self.folder / "spy"
        # repacked weights are copies, and most of these models are larger than memory
        result = run("llama-completion", "-m", oracle.path, "-p", PROMPT, "-n", N_GENERATED, "-no-cnv", "-t", 2, "-c", 512,
                     "--no-repack", "--no-warmup", trace=self.trace(), preload=False, LD_PRELOAD=f"{LIBRARY} {SPY}", SPY_LOG=str(log))
        self.assertEqual(result.status, 0, result.err)
        self.assertIn(bytes(oracle.generate(PROMPT.encode(), N_GENERATED)).decode(), result.out)
        stats = self.stats()
        self.assert_counts(stats, oracle, oracle.completion(PROMPT.encode(), N_GENERATED))
        self.assert_phases(stats, len(PROMPT), N_GENERATED - 1, warmup=0)
        self.assertTrue(stats["complete"])
        self.assertEqual(stats["model"]["architecture"], oracle.architecture)
        self.assertIn("=== Expert Usage Statistics ===", result.said())
        self.assertEqual(stats["capture"], "graph")
        self.check_memory(oracle, log)

    def check_memory(self, oracle, log):
        """What we take is a hundredth of the compute buffer at most; that is the largest piece of memory here."""
        taken = [int(line.split()[2]) for line in log.read_text().splitlines() if line.startswith("alloc ")]
        ours = oracle.n_layer * N_UBATCH * oracle.n_used * 4
        self.assertIn(ours, taken)
        self.assertLessEqual(ours, max(taken) / 100)

    def test_mixtral_8x7b(self):
        self.check(FullSize("mixtral-8x7b", "llama", 32, 8, 2))

    def test_gpt_oss_120b(self):
        self.check(FullSize("gpt-oss-120b", "gpt-oss", 36, 128, 4))

    def test_qwen3_next_80b(self):
        self.check(FullSize("qwen3-next-80b", "qwen3next", 48, 512, 10))

    def test_qwen3_30b_a3b(self):
        self.check(FullSize("qwen3-30b-a3b", "qwen3moe", 48, 128, 8))


if __name__ == "__main__":
    main()
