#!/usr/bin/env python3
"""Every variable in every state: what is understood, what is told, and what follows."""

import os
import re
import unittest

from harness import MIXTRAL, TestCase, main, run

VARIABLES = "STATS", "NAMES", "PER_LAYER"
OFF = None, "", "0"
NONSENSE = "yes", "2", "-1", "true", " 1", "1 ", "01", os.fsdecode(b"\xff\xfe"), "x" * 5000


class Settings(TestCase):
    def complete(self, model=MIXTRAL.path, **variables):
        variables = {name: value for name, value in variables.items() if value is not None}
        extra = {"LLAMA_POSTFETCH_ENABLE": variables.pop("POSTFETCH")} if "POSTFETCH" in variables else {}
        result = run("llama-completion", "-m", model, "-p", "set", "-n", 2, "-no-cnv", "-t", 1, cwd=self.folder,
                     trace=variables, **extra)
        self.assertEqual(result.status, 0, result.err)
        self.assertEqual(result.out.strip("\n"), "setuv")
        return result

    @staticmethod
    def remarks(result):
        """But for the names, and for the way in which the routing is read (test_capture.py)."""
        return [line for line in result.said() if re.match(r"\[EXPERT-TRACE\] (?!Layer \d|Routing is read by: )", line)]

    def files(self):
        return sorted(path.name for path in self.folder.iterdir())

    def assert_silent(self, result):
        self.assertNotIn("EXPERT-TRACE", result.err)
        self.assertNotIn("Expert Usage", result.err)
        self.assertEqual(self.files(), [])


class Switches(Settings):
    def test_nothing_set(self):
        self.assert_silent(self.complete())

    def test_off(self):
        for value in OFF:
            with self.subTest(value):
                self.assert_silent(self.complete(STATS=value, NAMES=value, PER_LAYER=value,
                                                 OUTPUT=value, INTERVAL=value))

    def test_stats(self):
        result = self.complete(STATS=1)
        self.assertEqual(self.remarks(result), ["[EXPERT-TRACE] Statistics enabled"])
        self.assertEqual(result.said().count("=== Expert Usage Statistics ==="), 1)
        self.assertNotIn("Per-layer breakdown:", result.said())
        self.assertEqual(self.files(), [])

    def test_names_alone(self):
        result = self.complete(NAMES=1)
        self.assertEqual(self.remarks(result), ["[EXPERT-TRACE] Tensor name logging enabled"])
        self.assertNotIn("Expert Usage", result.err)
        n = sum(line.startswith("[EXPERT-TRACE] Layer ") for line in result.said())
        counts, _ = MIXTRAL.counts(MIXTRAL.completion(b"set", 2))
        self.assertEqual(n, 3 * sum(map(sum, counts)))
        self.assertEqual(self.files(), [])

    def test_stats_and_names(self):
        self.assertEqual(self.remarks(self.complete(STATS=1, NAMES=1)),
                         ["[EXPERT-TRACE] Statistics enabled", "[EXPERT-TRACE] Tensor name logging enabled"])

    def test_per_layer_alone(self):
        result = self.complete(PER_LAYER=1)
        self.assertEqual(self.remarks(result), ["[EXPERT-TRACE] LLAMA_EXPERT_TRACE_PER_LAYER turns counting on",
                                                "[EXPERT-TRACE] Statistics enabled"])
        self.assertIn("Per-layer breakdown:", result.said())
        self.assertEqual(self.files(), [])

    def test_output_alone(self):
        result = self.complete(OUTPUT="stats.json")
        self.assertEqual(self.remarks(result),
                         ["[EXPERT-TRACE] LLAMA_EXPERT_TRACE_OUTPUT turns counting on",
                          "[EXPERT-TRACE] Statistics enabled",
                          f"[EXPERT-TRACE] Statistics exported to {self.folder.resolve()}/stats.json"])
        self.assertEqual(result.said().count("=== Expert Usage Statistics ==="), 1)
        self.assertEqual(self.files(), ["stats.json"])

    def test_output_is_any_name_but_zero(self):
        self.complete(OUTPUT="1")
        self.assertEqual(self.files(), ["1"])

    def test_postfetch_is_left_alone(self):
        with_it, without = self.complete(STATS=1, POSTFETCH="1"), self.complete(STATS=1)
        self.assertEqual(self.remarks(with_it), self.remarks(without))
        self.assertNotIn("POSTFETCH", with_it.err)


class Nonsense(Settings):
    def test_is_told_once_and_off(self):
        for i, value in enumerate(NONSENSE):
            variable = VARIABLES[i % 3]
            with self.subTest(value=value[:10], variable=variable):
                result = self.complete(**{variable: value})
                printed = value.encode(errors="surrogateescape").decode(errors="replace")
                printed = printed if len(printed) <= 200 else printed[:200] + "…"
                self.assertEqual(self.remarks(result),
                                 [f"[EXPERT-TRACE] LLAMA_EXPERT_TRACE_{variable}={printed} is not understood: "
                                  "1 is on, 0 or nothing is off; taken as off"])
                self.assertNotIn("Expert Usage", result.err)

    def test_all_of_them_at_once(self):
        remarks = self.remarks(self.complete(STATS="yes", NAMES="yes", PER_LAYER="yes", INTERVAL="yes"))
        self.assertEqual(len(remarks), 4)
        for variable, remark in zip((*VARIABLES, "INTERVAL"), remarks):
            self.assertIn(f"LLAMA_EXPERT_TRACE_{variable}=yes is not understood", remark)

    def test_the_others_stay_on(self):
        result = self.complete(STATS=1, PER_LAYER="on")
        self.assertEqual(len(self.remarks(result)), 2)
        self.assertIn("=== Expert Usage Statistics ===", result.said())
        self.assertNotIn("Per-layer breakdown:", result.said())

    def test_interval(self):
        for value in "yes", "-1", "1e9", "nan", "inf", "10s", "0,5", " ":
            with self.subTest(value):
                remarks = self.remarks(self.complete(STATS=1, INTERVAL=value))
                self.assertEqual(remarks[1:], ["[EXPERT-TRACE] Statistics enabled"])
                self.assertRegex(remarks[0],
                                 r"LLAMA_EXPERT_TRACE_INTERVAL=.* is not understood: give the seconds .*; taken as 10$")

    def test_interval_that_is_understood(self):
        for value in None, "", "0", "1", "0.5", "86400":
            with self.subTest(value):
                self.assertEqual(self.remarks(self.complete(STATS=1, INTERVAL=value)),
                                 ["[EXPERT-TRACE] Statistics enabled"])

    def test_names_of_files_that_are_not_text(self):
        name = os.fsdecode(b"stats-\xff\xfe.json")
        result = self.complete(OUTPUT=name)
        self.assertEqual(self.files(), [name])
        self.assert_counts_exist(self.folder / name)
        self.assertIn("Statistics exported to", result.err)

    def assert_counts_exist(self, path):
        self.assertEqual(self.stats(path)["total_tokens"], 4)

    def test_a_name_that_is_too_long(self):
        result = self.complete(OUTPUT="x" * 5000)
        self.assertEqual(result.err.count("cannot write xxx"), 1)
        self.assertIn("File name too long", result.err)
        self.assertIn("=== Expert Usage Statistics ===", result.said())


class Dense(Settings):
    def setUp(self):
        super().setUp()
        result = run("test-llama-archs", "-a", "llama", "-o", self.folder, preload=False)
        self.model = self.folder / "llama-dense.gguf"
        self.assertTrue(self.model.exists(), result.err)

    def bench(self, **trace):
        result = run("llama-bench", "-m", self.model, "-p", 8, "-n", 0, "-r", 1, "-t", 1, "--no-warmup", trace=trace)
        self.assertEqual(result.status, 0, result.err)
        return [line for line in result.said() if "EXPERT-TRACE" in line or "Expert" in line]

    def test_says_that_there_are_no_experts(self):
        for trace in {"STATS": 1}, {"STATS": 1, "PER_LAYER": 1}, {"NAMES": 1}:
            with self.subTest(trace):
                lines = self.bench(**trace)
                self.assertEqual(len(lines), 3)
                self.assertRegex(lines[2], r"evaluated 8 tokens and no MoE layer was seen: a dense model has none")

    def test_the_file_says_so_too(self):
        self.bench(**self.trace())
        stats = self.stats()
        self.assertEqual((stats["n_expert"], stats["total_activations"], stats["expert_activations"],
                          stats["layer_tokens"]), (0, 0, {}, {}))
        self.assertEqual((stats["total_tokens"], stats["complete"]), (8, True))


if __name__ == "__main__":
    main()
