#!/usr/bin/env python3
"""`run` of what cannot be traced: where nothing of llama.cpp was evaluated in all of the run,
that is said once, at its end."""

import signal
import subprocess
import sys

from harness import CLIENTS, COMMAND, ENGINE, MIXTRAL, OLD_ENGINES, Result, TestCase, environment, main

SIMPLE = f"{ENGINE / 'llama-simple'} -m {MIXTRAL.path} -n 1 In"
MESSAGE = "nothing of llama.cpp was seen to evaluate anything in this run"


class Sign(TestCase):
    def started(self, *arguments, status=0, **more):
        more = {"stdin": subprocess.DEVNULL, "capture_output": True, "timeout": 300, **more}
        done = Result(subprocess.run([COMMAND, "run", *map(str, arguments)], env=environment(preload=False), **more))
        self.assertEqual(done.status, status, done.err)
        return done

    def assert_said(self, *arguments, **more):
        done = self.started(*arguments, **more)
        self.assertEqual(done.err.count(MESSAGE), 1, done.err)
        self.assertIn("check PROGRAM", done.err)
        self.assertNotIn("EXPERT-TRACE", done.out)

    def assert_silent(self, *arguments, **more):
        self.assertNotIn(MESSAGE, self.started(*arguments, **more).err)

    def test_nothing_was_evaluated(self):
        self.assert_said(ENGINE / "llama-cli", "--version")
        self.assert_said("sh", "-c", "true")
        self.assert_said("sh", "-c", "exec true")
        self.assert_said("sh", "-c", "(exit 2); (true) & wait; exit 5", status=5)
        self.assert_said("bash", "-c", "true; exit 6", status=6)
        self.assert_said(sys.executable, "-c", "import os; os._exit(7)", status=7)

    def test_something_was(self):
        """By the program, one that took its place, a child, or a child of a child that has nothing of what was open."""
        self.assert_silent(*SIMPLE.split())
        self.assert_silent("sh", "-c", f"exec {SIMPLE}")
        self.assert_silent("sh", "-c", f"{SIMPLE}; true")
        self.assert_silent("bash", "-c", f"exec 100</dev/null; {SIMPLE}; true")
        child = f"import subprocess; subprocess.run({SIMPLE.split()!r}, close_fds=True, check=True)"
        self.assert_silent(sys.executable, "-c",
                           f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], close_fds=True)")
        self.assert_silent(sys.executable, CLIENTS / "ctypes_client.py", OLD_ENGINES / "0.5.0" / "lib",
                           MIXTRAL.path, 2, *b"In")

    def test_a_dense_model_is_something(self):
        """Of which it is said what it is."""
        subprocess.run([ENGINE / "test-llama-archs", "-o", self.folder, "-a", "llama"],
                       capture_output=True, timeout=300)
        dense = next((path for path in sorted(self.folder.glob("*llama*.gguf")) if "moe" not in path.name), None)
        if dense is None:
            self.skipTest("test-llama-archs wrote no dense model")
        done = self.started(ENGINE / "llama-bench", "-m", dense, "-p", 4, "-n", 0, "-r", 1)
        self.assertNotIn(MESSAGE, done.err)
        self.assertIn("no MoE layer was seen", done.err)

    def test_not_where_it_would_be_in_the_way(self):
        self.assert_silent("sh", "-c", "kill -9 $$", status=-signal.SIGKILL)
        other = self.folder / "other"
        self.assert_silent("sh", "-c", f"exec 2>{other}")
        self.assertEqual(other.read_text(), "")
        code = "import os; os.close(2); os._exit(0)"
        self.assert_silent(sys.executable, "-c", code)
        self.assert_silent("bash", "-c", "exec 100</dev/null; true")
        for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
            done = subprocess.run(["bash", "-c", f"{COMMAND} run sh -c 'ls /proc/self/fd >&9' 9>&1 {closed}"],
                                  capture_output=True, env=environment(preload=False), timeout=60)
            self.assertEqual(done.returncode, 0, done.stderr)

    def test_without_run(self):
        done = subprocess.run(["bash", "-c", "true; exit 0"], env=environment({"STATS": 1}), capture_output=True)
        self.assertEqual((done.stdout, done.stderr), (b"", b""))
        for value in ("", "x", "1:2", "1:2:x", ":::", "1:2:3:4", "99999999999999999999:1:1", "0:0:0", "1" * 100000):
            done = subprocess.run(["bash", "-c", "true; exit 0"], env=environment({"SIGN": value}), capture_output=True)
            self.assertEqual((done.stdout, done.stderr, done.returncode), (b"", b"", 0))


if __name__ == "__main__":
    main()
