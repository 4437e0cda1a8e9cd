#!/usr/bin/env python3
"""Models of published size, each traced once from end to end: every count of every expert in every layer."""

import ast
import struct
import subprocess
import threading

from harness import COMMAND, LIBRARY, MODELS, Oracle, SPY, Server, TestCase, main, run
from traces import TraceTestCase

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
        result = run("llama-completion", "-m", oracle.path, "-p", PROMPT, "-n", N_GENERATED,
                     "-no-cnv", "-t", 2, "-c", 512, "--no-repack", "--no-warmup", trace=self.trace(), preload=False,
                     LD_PRELOAD=f"{LIBRARY} {SPY}", SPY_LOG=str(log))
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
        """What we take, rounded up by a quarter at most, is a hundredth of the compute buffer; that is the largest
        piece of memory here."""
        taken = [int(line.split()[2]) for line in log.read_text().splitlines() if line.startswith("alloc ")]
        needed = oracle.n_layer * N_UBATCH * oracle.n_used * 4
        ours = {size for size in taken if needed <= size <= needed * 5 / 4}
        self.assertEqual(len(ours), 1, (needed, sorted(set(taken))))
        self.assertLessEqual(max(ours), max(taken) / 100)

    def test_mixtral_8x7b(self):
        self.check(FullSize("mixtral-8x7b", "llama", 32, 8, 2))

    def test_gpt_oss_120b(self):
        self.check(FullSize("gpt-oss-120b", "gpt-oss", 36, 128, 4))

    def test_qwen3_next_80b(self):
        self.check(FullSize("qwen3-next-80b", "qwen3next", 48, 512, 10))

    def test_qwen3_30b_a3b(self):
        self.check(FullSize("qwen3-30b-a3b", "qwen3moe", 48, 128, 8))


class Traced(TraceTestCase):
    """The routing trace of a server with four clients, opened elsewhere."""

    PROMPTS = "Hello", "abc", "x", "Some words"

    def complete_all(self, server):
        clients = [threading.Thread(target=server.post, args=("/completion",),
                                    kwargs={"prompt": prompt, "n_predict": 2, "temperature": 0})
                   for prompt in self.PROMPTS]
        for client in clients:
            client.start()
        for client in clients:
            client.join()

    def npy(self):
        """Shape and ids of the exported array, read as numpy does."""
        path = self.folder / "routing.npy"
        subprocess.run([COMMAND, "export", "--format", "npy", "-o", path, self.path], check=True)
        data = path.read_bytes()
        self.assertEqual(data[:8], b"\x93NUMPY\x01\x00")
        size, = struct.unpack_from("<H", data, 8)
        header = ast.literal_eval(data[10:10 + size].decode())
        self.assertEqual((header["descr"], header["fortran_order"]), ("<i2", False))
        return header["shape"], memoryview(data)[10 + size:].cast("h")

    def test_qwen3_30b_a3b_with_four_clients(self):
        oracle = FullSize("qwen3-30b-a3b", "qwen3moe", 48, 128, 8)
        with Server("-m", oracle.path, "-t", 2, "-np", 4, "-c", 1024, "--no-repack", "--no-warmup",
                    trace=self.routing(WEIGHTS=1), timeout=400) as server:
            self.complete_all(server)
        tokens = [token for ubatch in self.read().ubatches if not ubatch.warmup for token in ubatch.tokens]
        self.assertEqual(len({(token.sequence, token.life) for token in tokens}), len(self.PROMPTS))
        shape, ids = self.npy()
        self.assertEqual(shape, (len(tokens), oracle.n_layer, oracle.n_used))
        for i, token in enumerate(tokens):
            for layer in range(oracle.n_layer):
                at = (i * oracle.n_layer + layer) * oracle.n_used
                absent = layer == oracle.n_layer - 1 and not token.output
                self.assertEqual(list(ids[at:at + oracle.n_used]),
                                 [-1] * oracle.n_used if absent else oracle.experts(layer, token.id))


if __name__ == "__main__":
    main()
