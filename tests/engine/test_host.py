#!/usr/bin/env python3
"""What tracing may not cost the program that is traced: memory that does not come back, and waiting for a disk."""

import os
import statistics
from collections import Counter

from harness import BUILD, CLIENTS, LIBRARY, MIXTRAL, OLD_ENGINES, main, run
from traces import TraceTestCase

OLD_ENGINE = OLD_ENGINES / "0.5.0" / "lib"
SLOW_DISK = BUILD / "tests" / "engine" / "slow-disk.so"


class Reloads(TraceTestCase):
    """A model that is loaded and freed again and again: nothing of it stays."""

    N = 40
    SIZE, RESIDENT = 1 << 10, 512  # KiB that it may seem to grow by: the engine's ups and downs

    def sizes(self, scenario, **trace):
        # What is freed goes back to the system at once, or the size depends on what happens to lie behind it.
        allocator = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "16384", "MALLOC_TRIM_THRESHOLD_": "0"}
        result = run("/usr/bin/env", "python3", CLIENTS / "ctypes_scenarios.py", scenario, OLD_ENGINE,
                     MIXTRAL.path, self.N, trace=trace, **allocator)
        self.assertEqual(result.status, 0, result.err)
        sizes = [tuple(map(int, line.split())) for line in result.out.splitlines()]
        self.assertEqual(len(sizes), self.N)
        return sizes

    def check(self, scenario):
        sizes = self.sizes(scenario, **self.trace(), **self.routing(WEIGHTS=1))
        for what, most, column in zip(("address space", "memory"), (self.SIZE, self.RESIDENT), zip(*sizes)):
            growth = statistics.median(column[-10:]) - statistics.median(column[4:14])
            self.assertLess(growth, most, f"KiB of {what} from the 5th reload on: {column[4:]}")
        self.assertEqual(len(list(self.folder.iterdir())), 2 * self.N)
        for path in self.path, self.folder / f"run-{self.N}.moetrace":
            trace = self.read(path)
            self.assert_routing(trace, MIXTRAL)
            self.assertEqual(self.texts(trace), [bytes(MIXTRAL.generate(b"again", 2))])

    def test_of_a_program_whose_calls_we_see(self):
        self.check("reload_linked")

    def test_of_a_program_whose_calls_we_do_not_see(self):
        self.check("reload")


class SlowDisk(TraceTestCase):
    """A disk that does nothing before so many batches are evaluated (slow-disk.c):
    who evaluates does not wait for it."""

    def complete(self, until, **trace):
        folder = self.folder / "slow"
        folder.mkdir()
        self.path = folder / "run.moetrace"
        self.stats_path = folder / "stats.json"
        log = self.folder / "disk.log"
        variables = {**self.trace(), **self.routing(), **trace}
        result = run("llama-completion", "-m", MIXTRAL.path, "-p", "no disk", "-n", 20, "-no-cnv",
                     "-t", 1, trace=variables, LD_PRELOAD=f"{SLOW_DISK}:{LIBRARY}", DISK_FOLDER=str(folder),
                     DISK_LOG=str(log), DISK_UNTIL=str(until))
        self.assertEqual(result.status, 0, result.err)
        self.assertEqual(result.out.strip("\n"), bytes(MIXTRAL.generate(b"no disk", 20)).decode())
        touched = Counter(tuple(line.split()[:2]) for line in log.read_text().splitlines())
        self.assertEqual(touched.pop(("evaluated", str(until)), 0), 1)  # the witness sees who evaluates
        return result, touched

    def assert_nobody_waited(self, touched):
        self.assertEqual([what for what in touched if what[1] == "evaluating"], [])
        for function in "open", "rename", "write":
            self.assertIn((function, "aside"), touched)  # the witness sees what it shall see

    def test_nobody_who_evaluates_waits(self):
        result, touched = self.complete(until=15)
        self.assert_nobody_waited(touched)
        self.assertNotIn("dropped", result.err)
        evaluated = MIXTRAL.completion(b"no disk", 20)
        self.assert_counts(self.stats(), MIXTRAL, evaluated)
        self.assertTrue(self.stats()["complete"])
        trace = self.read()
        self.assert_routing(trace, MIXTRAL)
        self.assert_statistics(trace, self.stats())

    def test_a_disk_that_sleeps_until_the_program_ends(self):
        result, touched = self.complete(until=21, INTERVAL=0)  # a warm-up, a prompt and what is generated
        self.assert_nobody_waited(touched)
        self.assertEqual(result.said().count(f"[EXPERT-TRACE] Statistics exported to {self.stats_path}"), 1)
        self.assert_statistics(self.read(), self.stats())

    def test_what_cannot_be_written_is_told_though_it_shows_later(self):
        missing = self.folder / "slow" / "missing"
        result, _ = self.complete(until=15, OUTPUT=missing / "stats.json", ROUTING=missing / "run.moetrace")
        for what in (f"cannot write {missing}/stats.json: No such file",
                     f"cannot write the routing trace {missing}/run.moetrace: No such file"):
            self.assertEqual(result.err.count(what), 1, result.err)
        self.assertEqual(os.listdir(self.folder / "slow"), [])


if __name__ == "__main__":
    main()
