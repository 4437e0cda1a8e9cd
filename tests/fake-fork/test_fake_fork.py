#!/usr/bin/env python3
"""Functions that take more than llama.cpp's, and callbacks that return an int, get and give the same with us.

The fork is a fake (fork.h): no fork can be had in the form of packages. It has what was found in real ones.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "engine"))

from harness import BUILD, TestCase, main, run  # noqa: E402

PROGRAM = BUILD / "tests" / "fake-fork" / "fake-fork-program"


def waits(result):
    return [line for line in result.err.splitlines() if line.startswith("fake fork:")]


class FakeFork(TestCase):
    def three_ways(self, *arguments):
        untraced = run(PROGRAM, *arguments, preload=False)
        self.assertEqual(untraced.status, 0)
        silent = run(PROGRAM, *arguments)
        traced = run(PROGRAM, *arguments, trace=self.trace())
        for result in silent, traced:
            self.assertEqual(result.status, 0, result.err)
            self.assertEqual(result.out, untraced.out)
        self.assertEqual(waits(silent), waits(untraced))
        return traced

    def test_everything_that_was_passed_arrives(self):
        traced = self.three_ways()
        self.assertIn("pos 1000001+7, sequence 77", traced.out)
        self.assertIn("state 1 1 3 77 2882400001", traced.out)
        self.assertIn("removed fedcba9876543210 123456789abcdef", traced.out)

    def test_an_int_that_is_exactly_one_waits_for_the_device(self):
        # what is read without waiting is expert 3 throughout
        self.three_ways()
        stats = self.stats()
        self.assertEqual(stats["expert_activations"], {"0": 3, "1": 5, "2": 4, "3": 2})
        self.assertEqual(stats["total_tokens"], 7)

    def test_the_programs_own_callback(self):
        # it asks for the scores and does not wait: its answers go to the engine as they are, and only ours wait
        traced = self.three_ways("callback")
        self.assertEqual(waits(traced), ["fake fork: 1 waits"] * 3)
        self.assertEqual(self.stats()["expert_activations"], {"0": 3, "1": 5, "2": 4, "3": 2})


if __name__ == "__main__":
    main()
