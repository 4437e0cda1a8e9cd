#!/usr/bin/env python3
"""The public API in a program of its own: the example, linked with a stock libllama. See tests/api for the rest."""

import unittest

from harness import BUILD, MIXTRAL, OLD_ENGINES, TestCase, main, run

EXAMPLE = BUILD / "tests" / "api" / "api-hottest-experts"
ENGINE_LIBS = OLD_ENGINES / "0.5.0" / "lib"
PROMPT = b"Some like it hot"
N_HOTTEST = 4


def hottest(batches):
    """(layer, expert, count), the most often chosen first, and the lower layer and expert first of equals."""
    counts, _ = MIXTRAL.counts(batches)
    every = [(layer, expert, n) for layer, row in enumerate(counts) for expert, n in enumerate(row)]
    return sorted(every, key=lambda found: -found[2])[:N_HOTTEST]


@unittest.skipUnless(EXAMPLE.exists(), "not built: llama.cpp's headers or the engine 0.5.0 were not there")
class Example(TestCase):
    def run_example(self, *arguments, preload=False, trace=None):
        return run(EXAMPLE, *arguments, cwd=ENGINE_LIBS, preload=preload, trace=trace)

    def expected(self, n):
        lines = []
        for i in range(1, n + 1):
            token = MIXTRAL.generate(PROMPT, i)[-1]
            found = "".join(f"  layer {layer} expert {expert}: {count}"
                            for layer, expert, count in hottest(MIXTRAL.completion(PROMPT, i)))
            lines.append(f"{chr(token):16}{found}")
        return lines

    def test_hottest_experts_after_each_token(self):
        result = self.run_example(MIXTRAL.path, PROMPT.decode(), 6, 1)
        self.assertEqual(result.status, 0, result.err)
        self.assertEqual(result.out.splitlines(), self.expected(6))
        self.assertNotIn("EXPERT-TRACE", result.err)

    def test_together_with_a_tracer_of_the_environment(self):
        for preload in False, True:
            with self.subTest(preload=preload):
                self.stats_path.unlink(missing_ok=True)
                result = self.run_example(MIXTRAL.path, PROMPT.decode(), 6, 1, preload=preload, trace=self.trace())
                self.assertEqual(result.status, 0, result.err)
                self.assertEqual(result.out.splitlines(), self.expected(6))
                self.assert_counts(self.stats(), MIXTRAL, MIXTRAL.completion(PROMPT, 6))
                self.assertEqual(result.said().count("=== Expert Usage Statistics ==="), 1)

    def test_errors(self):
        for arguments, status, says in [
            ((), 2, "usage: "),
            ((MIXTRAL.path, "text", "none"), 2, "usage: "),
            (("/no/such.gguf", "text", 1), 1, "cannot load /no/such.gguf"),
            ((MIXTRAL.path, "", 1, 1), 1, "cannot evaluate the prompt"),
        ]:
            with self.subTest(arguments=arguments):
                result = self.run_example(*arguments)
                self.assertEqual((result.status, result.out), (status, ""))
                self.assertIn(says, result.err.splitlines()[-1])


if __name__ == "__main__":
    main()
