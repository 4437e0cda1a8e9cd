#!/usr/bin/env python3
"""Memory that runs out under the tracer, at each of its requests:
the program does not notice, and what is missing is told.

In full, which takes a quarter of an hour, with EXPERT_TRACER_SOAK=1: otherwise one request in ten is tried.
"""

import json
import os
from concurrent.futures import ThreadPoolExecutor

from harness import BUILD, LIBRARY, MIXTRAL, main, run
from traces import Trace, TraceTestCase

SHIM = BUILD / "tests" / "engine" / "lack-memory.so"
STEP = 1 if os.environ.get("EXPERT_TRACER_SOAK") else 10
PROMPT, N_GENERATED = "Hello", 6
N_WARMUP = 2
SAID = "memory", "there is no thread"


class Run:
    """A completion, traced, of which one request for memory fails, or all from there on."""

    def __init__(self, folder, fails_from=0, fails_all=False, **settings):
        self.folder = folder
        folder.mkdir()
        self.stats_path, self.trace_path = folder / "stats.json", folder / "run.moetrace"
        variables = {"LACK_LIBRARY": LIBRARY.name, "LACK_FROM": str(fails_from),
                     "LACK_COUNT": str(folder.with_suffix(".count"))}
        if fails_all:
            variables["LACK_ALL"] = "1"
        trace = {"STATS": 1, "PER_LAYER": 1, "OUTPUT": self.stats_path, "ROUTING": self.trace_path,
                 "TOKENS": 1, **settings}
        self.result = run("llama-completion", "-m", MIXTRAL.path, "-p", PROMPT, "-n", N_GENERATED,
                          "-no-cnv", "-t", 1, "-c", 256, trace=trace, preload=False,
                          LD_PRELOAD=f"{LIBRARY} {SHIM}", **variables)
        self.n_requests = int(folder.with_suffix(".count").read_text())
        self.files = {path.name for path in folder.iterdir()}
        self.stats = json.loads(self.stats_path.read_text()) if self.stats_path.exists() else None
        self.trace = Trace(self.trace_path) if self.trace_path.exists() else None

    def is_told(self):
        return any(said in line for said in SAID for line in self.result.err.splitlines() if "EXPERT-TRACE" in line)


class Memory(TraceTestCase):
    EVALUATED = MIXTRAL.completion(PROMPT.encode(), N_GENERATED)

    def check_statistics(self, run):
        stats = run.stats
        if stats is None:
            self.assertTrue(run.is_told(), "no statistics, and nothing is said")
        elif stats["complete"]:
            self.assert_counts(stats, MIXTRAL, self.EVALUATED)
            if stats["prompt_tokens"] is None:
                self.assertTrue(run.is_told(), "phases are not known, and nothing is said")
            else:
                self.assert_phases(stats, len(PROMPT), N_GENERATED - 1, N_WARMUP)
        else:
            self.assertTrue(run.is_told(), "incomplete, and nothing is said")
            self.check_lost(stats)

    def check_lost(self, stats):
        """Each token has its routing counted, or is one of those that are lost."""
        lost = stats.get("lost", {"tokens": 0, "ubatches": 0, "reason": "out of memory"})
        self.assertIn("memory", stats.get("stopped", lost["reason"]))
        self.assertEqual(stats["layer_tokens"].get("0", 0) + lost["tokens"], stats["total_tokens"])
        if not lost["ubatches"] and "stopped" not in stats:
            return # what was there before memory ran out for what came then
        self.assertIn(stats["total_tokens"], (len(self.EVALUATED), len(self.EVALUATED) + N_WARMUP))
        if stats["prompt_tokens"] is not None:
            self.assert_phases(stats, len(PROMPT), N_GENERATED - 1, N_WARMUP)

    def check_trace(self, run):
        trace = run.trace
        if trace is None:
            self.assertTrue(run.is_told(), "no trace, and nothing is said")
            return
        self.assertEqual(trace.damage, [])
        self.assert_routing(trace, MIXTRAL)
        recorded = sum(len(ubatch.tokens) for ubatch in trace.ubatches)
        missing = sum(gap.tokens for gap in trace.gaps)
        if trace.end is None:
            self.assertTrue(run.is_told(), "a trace without an end, and nothing is said")
            return
        self.assertEqual(recorded + missing, len(self.EVALUATED) + N_WARMUP)
        self.assertEqual(trace.end["dropped_tokens"], missing)
        if trace.end["complete"]:
            self.assertEqual(missing, 0)
            generated = [token.id for ubatch in trace.ubatches for token in ubatch.tokens if token.generation]
            self.assertEqual(generated, [token for token, _ in self.EVALUATED[len(PROMPT):]])
            self.assertEqual(sum(len(ubatch.tokens) for ubatch in trace.ubatches if ubatch.warmup), N_WARMUP)
        else:
            self.assertTrue(run.is_told(), "an incomplete trace, and nothing is said")

    def check(self, run, untraced):
        self.assertEqual(run.result.status, 0)
        # On a busy machine the program itself loses the end of its output, untraced too: 16 times of 150.
        self.assertTrue(untraced.startswith(run.result.out) and run.result.out.startswith(PROMPT), run.result.out)
        self.assertLessEqual(run.files, {"stats.json", "run.moetrace"}, "files that nobody asked for")
        self.check_statistics(run)
        self.check_trace(run)

    def sweep(self, **settings):
        untraced = bytes(MIXTRAL.generate(PROMPT.encode(), N_GENERATED)).decode() + "\n\n" # whatever the sampler
        whole = Run(self.folder / "whole", **settings)
        self.check(whole, untraced)
        self.assertTrue(whole.stats["complete"] and whole.trace.end["complete"])
        cases = [(n, fails_all) for n in range(1, whole.n_requests + 1, STEP) for fails_all in (False, True)]

        def once(case):
            n, fails_all = case
            tried = Run(self.folder / f"{n}{'-' if fails_all else ''}", n, fails_all, **settings)
            with self.subTest(request=n, all_that_follow=fails_all):
                self.check(tried, untraced)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(once, cases))
        print(f"{len(cases)} of {2 * whole.n_requests} cases")

    def test_in_the_graph(self):
        self.sweep()

    def test_by_the_eval_callback(self):
        self.sweep(CAPTURE="eval-callback", WEIGHTS=1)


if __name__ == "__main__":
    main()
