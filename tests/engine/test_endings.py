#!/usr/bin/env python3
"""However a program ends, its file is whole, and says whether it is the last word."""

import os
import signal
import subprocess
import time
import unittest

from harness import (CLIENTS, ENGINE, MIXTRAL, OLD_ENGINES, Server, TestCase, environment, main,
                     run, strip_prefix, wait_for)
from traces import Trace

OLD_ENGINE = OLD_ENGINES / "0.5.0" / "lib"
INTERVAL = 0.2


class Ending(TestCase):
    def tokens_in_file(self):
        return self.stats()["total_tokens"] if self.stats_path.exists() else 0

    def assert_no_debris(self):
        self.assertEqual([path.name for path in self.folder.iterdir()], ["stats.json"])


class ByItself(Ending):
    def test_the_context_is_freed(self):
        result = run("llama-completion", "-m", MIXTRAL.path, "-p", "bye", "-n", 4, "-no-cnv",
                     "-t", 1, trace=self.trace())
        self.assertEqual(result.status, 0)
        self.assertTrue(self.stats()["complete"])
        self.assert_counts(self.stats(), MIXTRAL, MIXTRAL.completion(b"bye", 4))
        self.assertEqual(result.said()[-1], f"[EXPERT-TRACE] Statistics exported to {self.stats_path}")
        self.assert_no_debris()

    def client(self, *options):
        result = run("/usr/bin/env", "python3", CLIENTS / "ctypes_client.py", *options, OLD_ENGINE,
                     MIXTRAL.path, 6, *b"client", trace=self.trace(INTERVAL=0))
        self.assertEqual(result.status, 0, result.err)
        self.assertTrue(self.stats()["complete"])
        self.assert_counts(self.stats(), MIXTRAL, MIXTRAL.completion(b"client", 6))
        self.assertEqual(result.err.count("=== Expert Usage Statistics ==="), 1)
        self.assertEqual(result.err.count("Statistics exported to"), 1)
        self.assert_no_debris()

    def test_a_client_that_frees(self):
        self.client()

    def test_a_client_that_does_not_free(self):
        self.client("--no-free")

    def test_exit_status_is_the_programs(self):
        for arguments in (["-m", self.folder / "none.gguf"], ["--no-such-option"]):
            plain = run("llama-completion", *arguments, preload=False)
            traced = run("llama-completion", *arguments, trace=self.trace())
            self.assertNotEqual(plain.status, 0)
            self.assertEqual(traced.status, plain.status)
            self.assertFalse(self.stats_path.exists())


class Amid(Ending):
    """Programs that end while other threads evaluate: all that is written is of one moment."""

    N = 20 if os.environ.get("EXPERT_TRACER_SOAK") else 3

    def check(self, scenario):
        self.stats_path, path = self.folder / "stats.json", self.folder / "run.moetrace"
        for file in self.stats_path, path:
            file.unlink(missing_ok=True)
        result = run("/usr/bin/env", "python3", CLIENTS / "ctypes_scenarios.py", scenario, OLD_ENGINE, MIXTRAL.path,
                     trace=self.trace(ROUTING=path))
        stats, trace = self.stats(), Trace(path)
        self.assertEqual((trace.gaps, trace.damage), ([], []))
        self.assertGreater(stats["total_tokens"], 20)
        self.assertEqual(stats["total_tokens"], trace.end["tokens"])
        for layer in range(MIXTRAL.n_layer):
            rows = [row for ubatch in trace.ubatches for routed in ubatch.layers if routed.layer == layer
                    for row in routed.experts]
            self.assertEqual(stats["layer_tokens"][str(layer)], len(rows))
            self.assertEqual(stats["per_layer"][str(layer)],
                             {str(expert): sum(row.count(expert) for row in rows)
                              for expert in range(MIXTRAL.n_expert)})
        self.assertEqual(stats["complete"], trace.end["complete"])
        self.assertEqual(stats.get("stopped"), trace.end.get("stopped"))
        self.assertEqual(stats["complete"], "stopped" not in stats)
        if not stats["complete"]:
            self.assertIn("the program ended while it evaluated", result.err)
        elif stats["prompt_tokens"] is not None:
            self.assertEqual(stats["prompt_tokens"] + stats["generation_tokens"], stats["total_tokens"])
        return stats["complete"]

    def test_of_a_program_whose_calls_we_see(self):
        completes = [self.check("exits_amid_linked") for _ in range(self.N)]
        print(f"{completes.count(False)} of {self.N} amid a batch")

    def test_of_a_program_whose_calls_we_do_not_see(self):
        for _ in range(self.N):
            self.check("exits_amid")


class Suddenly(Ending):
    """Programs whose end runs nothing of ours but what stands in front of _exit()."""

    def test_everything_is_written(self):
        for how in "_exit", "_Exit", "quick_exit":
            with self.subTest(how):
                routing = self.folder / f"{how}.moetrace"
                self.stats_path.unlink(missing_ok=True)
                result = run("/usr/bin/env", "python3", CLIENTS / "ctypes_scenarios.py", "ends_suddenly",
                             OLD_ENGINE, MIXTRAL.path, how, trace=self.trace(INTERVAL=0, ROUTING=routing))
                self.assertEqual(result.status, 7, result.err)
                self.assertFalse(self.stats()["complete"])
                self.assert_counts(self.stats(), MIXTRAL, MIXTRAL.completion(b"sudden", 6))
                self.assertEqual(sum(len(ubatch.tokens) for ubatch in Trace(routing).ubatches), 6 + 5)

    def test_ctrl_c_in_completion(self):
        # its handler calls _exit(), whatever it interrupts
        routing = self.folder / "run.moetrace"
        status, out, stats = self.interrupt(ROUTING=routing)
        self.assertEqual(status, 130)
        self.assert_counts(stats, MIXTRAL, MIXTRAL.completion(b"forever", stats["total_tokens"] - len(b"forever") + 1))
        self.assertGreaterEqual(stats["total_tokens"], len(out.strip(b"\n").split(b"\n")[0]) - 1)
        trace = Trace(routing)
        self.assertGreaterEqual(sum(len(ubatch.tokens) for ubatch in trace.ubatches if not ubatch.warmup),
                                stats["total_tokens"] - 1)

    def interrupt(self, **trace):
        """Its exit status, its output and the statistics.
        The stock handler may wait for itself forever: see BySignal."""
        for _ in range(5):
            for path in self.folder.iterdir():
                path.unlink()
            with open(self.folder / "out", "w+b") as out:
                process = subprocess.Popen([ENGINE / "llama-completion", "-m", MIXTRAL.path, "-p", "forever",
                                            "-n", "30000", "-no-cnv", "-t", "1", "-c", "32768"],
                                           env=environment(self.trace(INTERVAL=3600, **trace)),
                                           stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.DEVNULL)
                self.addCleanup(process.wait)
                self.addCleanup(process.kill)
                wait_for("generation", lambda: (self.folder / "out").stat().st_size > 100)
                process.send_signal(signal.SIGINT)
                try:
                    status = process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    continue
            return status, (self.folder / "out").read_bytes(), self.stats()
        raise AssertionError("llama-completion does not end")

    def test_the_first_snapshot_is_soon(self):
        with Server("-m", MIXTRAL.path, "-t", 1, "-c", 512, trace=self.trace(INTERVAL=3600)) as server:
            wait_for("a snapshot of the warm-up",
                     lambda: self.stats_path.exists() and self.stats()["warmup_tokens"] > 0, timeout=30)
            self.assertEqual(server.stop(signal.SIGKILL), -9)


class BySignal(Ending):
    """A program that would go on for long, and a server that waits."""

    def completion(self, *arguments, **options):
        """Ends a llama-completion that is at it. Returns its exit status and what it said.

        Its handler of Ctrl-C writes to the log.
        Where the signal meets it in the logger, untraced too, it waits for itself forever.
        """
        for _ in range(3):
            try:
                return self.completion_once(*arguments, **options)
            except subprocess.TimeoutExpired:
                (self.folder / "stats.json").unlink(missing_ok=True)
        return self.completion_once(*arguments, **options)

    def completion_once(self, ending, trace=None, preload=True):
        log = open(self.folder / "log", "w+b")
        self.addCleanup(log.close)
        out = open(self.folder / "out", "w+b")
        self.addCleanup(out.close)
        process = subprocess.Popen([ENGINE / "llama-completion", "-m", MIXTRAL.path, "-p", "forever",
                                    "-n", "30000", "-no-cnv", "-t", "1", "-c", "32768"],
                                   env=environment(trace, preload), stdin=subprocess.DEVNULL, stdout=out, stderr=log)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        wait_for("generation", lambda: (self.folder / "out").stat().st_size > 40)
        if trace:
            wait_for("a snapshot", lambda: self.tokens_in_file() > 20)
        process.send_signal(ending)
        try:
            status = process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        (self.folder / "out").unlink()
        log.seek(0)
        (self.folder / "log").unlink()
        return status, [strip_prefix(line) for line in log.read().decode(errors="replace").splitlines()]

    def check_completion(self, ending):
        plain, _ = self.completion(ending, preload=False)
        status, said = self.completion(ending, trace=self.trace(INTERVAL=INTERVAL))
        self.assertEqual(status, plain)
        stats = self.stats()
        # what was evaluated until the last snapshot: everything so far, in order
        self.assert_counts(stats, MIXTRAL, MIXTRAL.completion(b"forever", stats["total_tokens"] - len(b"forever") + 1))
        self.assertFalse(stats["complete"])
        self.assertNotIn("=== Expert Usage Statistics ===", said)
        return status

    def test_ctrl_c_in_completion(self):
        self.assertEqual(self.check_completion(signal.SIGINT), 130) # it calls _exit()

    def test_sigterm_in_completion(self):
        self.check_completion(signal.SIGTERM)

    def test_sigkill_in_completion(self):
        self.assertEqual(self.check_completion(signal.SIGKILL), -9)

    def test_sigquit_in_completion(self):
        self.check_completion(signal.SIGQUIT)

    def check_server(self, ending):
        with Server("-m", MIXTRAL.path, "-t", 1, "-c", 512, preload=False) as server:
            server.post("/completion", prompt="serve", n_predict=1) # it answers before it handles signals
            plain = server.stop(ending)
        with Server("-m", MIXTRAL.path, "-t", 1, "-c", 512, trace=self.trace()) as server:
            server.post("/completion", prompt="serve", n_predict=5)
            self.assertEqual(server.stop(ending), plain)
            said = server.said()
        self.assertTrue(self.stats()["complete"])
        self.assert_counts(self.stats(), MIXTRAL, MIXTRAL.completion(b"serve", 5))
        self.assertEqual(said.count("=== Expert Usage Statistics ==="), 1)
        self.assertEqual(said.count(f"[EXPERT-TRACE] Statistics exported to {self.stats_path}"), 1)
        self.assert_no_debris()

    def test_ctrl_c_in_server(self):
        self.check_server(signal.SIGINT)

    def test_sigterm_in_server(self):
        self.check_server(signal.SIGTERM)

    def test_kill_of_an_idle_server_loses_nothing(self):
        evaluated = MIXTRAL.completion(b"nothing is lost", 5)
        with Server("-m", MIXTRAL.path, "-t", 1, "-c", 512, trace=self.trace(INTERVAL=INTERVAL)) as server:
            server.post("/completion", prompt="nothing is lost", n_predict=5)
            wait_for("a snapshot of everything", lambda: self.tokens_in_file() == len(evaluated), timeout=30)
            self.assertEqual(server.stop(signal.SIGKILL), -9)
        self.assertFalse(self.stats()["complete"])
        self.assert_counts(self.stats(), MIXTRAL, evaluated)
        self.assert_phases(self.stats(), 15, 4)
        self.assert_no_debris()

    def test_an_idle_server_does_not_write(self):
        with Server("-m", MIXTRAL.path, "-t", 1, "-c", 512, trace=self.trace(INTERVAL=INTERVAL)) as server:
            server.post("/completion", prompt="write", n_predict=5)
            wait_for("a snapshot of everything", lambda: self.tokens_in_file() == 9, timeout=30)
            before = self.stats_path.stat()
            time.sleep(5 * INTERVAL)
            after = self.stats_path.stat()
            self.assertEqual((before.st_ino, before.st_mtime_ns), (after.st_ino, after.st_mtime_ns))

    def test_interval_of_zero_writes_only_at_the_end(self):
        with Server("-m", MIXTRAL.path, "-t", 1, "-c", 512, trace=self.trace(INTERVAL=0)) as server:
            server.post("/completion", prompt="zero", n_predict=5)
            time.sleep(2 * INTERVAL)
            self.assertEqual(self.tokens_in_file(), 0)
            self.assertEqual(server.stop(), 0)
        self.assertEqual(self.tokens_in_file(), 8)

    def test_the_file_is_whole_whenever_it_is_read(self):
        with Server("-m", MIXTRAL.path, "-t", 1, "-c", 2048, trace=self.trace(INTERVAL=0.1)) as server:
            for n in 1, 2, 3:
                server.post("/completion", prompt="read", n_predict=2, cache_prompt=False)
                wait_for("what was evaluated", lambda: self.tokens_in_file() == 5 * n, timeout=30)
            self.assertEqual(server.stop(), 0)


class Fork(Ending):
    def test_a_child_says_and_writes_nothing_of_its_parents(self):
        result = run("/usr/bin/env", "python3", CLIENTS / "ctypes_scenarios.py", "fork", OLD_ENGINE, MIXTRAL.path,
                     trace=self.trace(INTERVAL=INTERVAL))
        self.assertEqual(result.status, 0, result.err)
        lines = result.err.splitlines()
        begin, end = lines.index("--- child begins"), lines.index("--- child ended with 0")
        self.assertEqual(lines[begin + 1:end], [])
        self.assertEqual(result.err.count("=== Expert Usage Statistics ==="), 1)
        self.assertTrue(self.stats()["complete"])
        self.assert_counts(self.stats(), MIXTRAL, MIXTRAL.completion(b"parent", 4))
        self.assert_no_debris()

    def test_a_child_that_goes_on_has_a_file_of_its_own(self):
        result = run("/usr/bin/env", "python3", CLIENTS / "ctypes_scenarios.py", "fork_goes_on",
                     OLD_ENGINE, MIXTRAL.path, trace=self.trace(INTERVAL=INTERVAL))
        self.assertEqual(result.status, 0, result.err)
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["stats-2.json", "stats.json"])
        self.assert_counts(self.stats(), MIXTRAL, MIXTRAL.completion(b"parent", 4))
        child = self.stats(self.folder / "stats-2.json")
        self.assert_counts(child, MIXTRAL, MIXTRAL.completion(b"the child", 5))
        self.assertNotEqual(child["pid"], self.stats()["pid"])
        self.assertTrue(child["complete"] and self.stats()["complete"])


if __name__ == "__main__":
    main()
