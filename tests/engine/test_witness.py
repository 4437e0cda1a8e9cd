#!/usr/bin/env python3
"""Our counts beside those of stock programs that look at the same run with a callback of their own."""

from harness import GPT_OSS, MIXTRAL, ORACLES, TestCase, main, run
from witness import Evaluation, imatrix_counts, run_whole

TEXT = "The quick brown fox: 0123456789, jumps over {the} lazy ~dog! " * 3
CHUNK = 64
N_TOKENS = len(TEXT) // CHUNK * CHUNK


class Imatrix(TestCase):
    """llama-imatrix counts the rows that each expert's weights are multiplied with."""

    def imatrix(self, oracle, name, *options, **how):
        text = self.folder / "text"
        text.write_text(TEXT)
        path = self.folder / name
        result = run("llama-imatrix", "-m", oracle.path, "-f", text, "-o", path,
                     "--output-format", "gguf", "-c", CHUNK, "-t", 1, *options, **how)
        self.assertEqual(result.status, 0, result.err)
        return path

    def assert_same_counts(self, path, oracle):
        counts = imatrix_counts(path)
        self.assertEqual(sorted(counts), sorted((layer, projection) for layer in range(oracle.n_layer)
                                                for projection in ("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps")))
        ours = self.stats()["per_layer"]
        for (layer, projection), row in counts.items():
            self.assertEqual([ours[str(layer)][str(e)] for e in range(oracle.n_expert)], row,
                             f"{projection} of layer {layer}")

    def test_counts_are_its_own(self):
        for oracle in ORACLES:
            with self.subTest(oracle.name):
                path = self.imatrix(oracle, "traced.gguf", trace=self.trace())
                self.assert_same_counts(path, oracle)
                self.assert_counts(self.stats(), oracle, [(token, True) for token in TEXT.encode()[:N_TOKENS]])

    def test_its_file_is_what_it_is_untraced(self):
        for oracle in ORACLES:
            with self.subTest(oracle.name):
                path = self.imatrix(oracle, "imatrix.gguf", trace=self.trace())
                traced = path.read_bytes()
                path.unlink()
                self.imatrix(oracle, "imatrix.gguf", preload=False)
                self.assertTrue(traced == path.read_bytes())

    def test_ubatches_smaller_than_a_chunk(self):
        path = self.imatrix(MIXTRAL, "traced.gguf", "-b", 32, "-ub", 16, trace=self.trace())
        self.assert_same_counts(path, MIXTRAL)


class EvalCallback(TestCase):
    """llama-eval-callback prints every node of the graph."""

    PROMPT = "A test"

    def test_counts_are_what_it_prints(self):
        for oracle in MIXTRAL, GPT_OSS:
            with self.subTest(oracle.name):
                result = run_whole("llama-eval-callback", "-m", oracle.path, "-p", self.PROMPT,
                                   "-t", 1, trace=self.trace())
                self.assertEqual(result.status, 0, result.err)
                printed = Evaluation(result.out)
                self.assertEqual(list(printed.topk), list(range(oracle.n_layer)))
                self.assertEqual({int(layer): [row[str(e)] for e in range(oracle.n_expert)]
                                  for layer, row in self.stats()["per_layer"].items()}, printed.counts(oracle.n_expert))
                # and the prediction says no less
                self.assertEqual(printed.topk[0], [oracle.experts(0, token) for token in self.PROMPT.encode()])
                self.assert_counts(self.stats(), oracle, oracle.completion(self.PROMPT.encode(), 0))

    def test_it_prints_what_it_prints_untraced(self):
        for oracle in MIXTRAL, GPT_OSS:
            with self.subTest(oracle.name):
                command = "llama-eval-callback", "-m", oracle.path, "-p", self.PROMPT, "-t", 1
                traced, untraced = run_whole(*command, trace=self.trace(NAMES=1)), run_whole(*command, preload=False)
                self.assertEqual(traced.status, untraced.status)
                self.assertTrue(traced.out == untraced.out)


if __name__ == "__main__":
    main()
