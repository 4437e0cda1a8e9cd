#!/usr/bin/env python3
"""Tests `top` (EXPERT_TRACER_CLI) against tracers that are none (counting_tracer.py): as lines in a pipe, and on a
terminal that is none either. What the numbers should be is what was told to count.
"""

import fcntl
import json
import math
import os
import pty
import re
import select
import signal
import struct
import subprocess
import tempfile
import termios
import time
import unittest
from pathlib import Path

from counting_tracer import RECORDS, CountingTracer, FakeModel

CLI = os.environ["EXPERT_TRACER_CLI"]
HAS_TERMINAL = os.environ.get("EXPERT_TRACER_HAS_TERMINAL", "1") == "1"
PATIENCE = 20 # seconds


class Screen:
    """A `top` on a terminal of that size. What it draws is only searched: `seen` is all that came so far."""

    def __init__(self, environment, *arguments, columns=80, rows=24, term="xterm-256color", shell=None):
        self.seen = ""
        self.status = None
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            command = ["bash", "-mc", shell, CLI] if shell else [CLI, "top", *arguments]
            os.execvpe(command[0], command, {**environment, "TERM": term})
        self.resize(columns, rows)
        self.attributes = termios.tcgetattr(self.fd)

    def resize(self, columns, rows):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0)) # SIGWINCH follows

    def read(self, seconds=0.05):
        if select.select([self.fd], [], [], seconds)[0]:
            try:
                data = os.read(self.fd, 65536)
            except OSError: # it has ended
                return False
            self.seen += data.decode(errors="replace")
            return bool(data)
        return True

    def wait_for(self, text):
        """Until the text, a regular expression, is drawn; nothing that was drawn before counts again."""
        end = time.monotonic() + PATIENCE
        while not (found := re.search(text, self.seen)):
            more = self.read()
            if time.monotonic() > end or not more and not re.search(text, self.seen):
                raise AssertionError(f"'{text}' is not in {self.seen!r}")
        self.seen = self.seen[found.end():]

    def settle(self):
        """Until nothing was drawn for a while."""
        while select.select([self.fd], [], [], 0.3)[0] and self.read():
            pass

    def type(self, keys):
        os.write(self.fd, keys.encode())

    def press(self, keys):
        """And has all of the screen drawn, not only what is different."""
        self.type(keys + "\x0c")

    def end(self):
        """The exit status, negative for a signal."""
        if self.status is not None:
            return self.status
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            self.read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                while self.read(0) and select.select([self.fd], [], [], 0)[0]:
                    pass
                self.status = os.waitstatus_to_exitcode(status)
                return self.status
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise AssertionError(f"it goes on: {self.seen!r}")

    def close(self):
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name) / "live"
        self.folder.mkdir(0o700)
        self.work = Path(folder.name)
        keep = {key: value for key, value in os.environ.items()
                if not key.startswith(("LLAMA_EXPERT_", "LC_", "COLUMNS", "LINES", "NO_COLOR"))}
        self.environment = {**keep, "LLAMA_EXPERT_TRACE_LIVE": str(self.folder), "LC_ALL": "C.UTF-8"}

    def tracer(self, *models, **options):
        tracer = CountingTracer(self.folder, list(models) or [FakeModel()], **options)
        self.addCleanup(tracer.close)
        return tracer

    def top(self, *arguments, status=0, **environment):
        done = subprocess.run([CLI, "top", "-d", "0.2", *map(str, arguments)], capture_output=True, text=True,
                              env={**self.environment, **environment}, stdin=subprocess.DEVNULL, timeout=60)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout if status == 0 else done.stderr

    def refuses(self, *arguments, says, status, **environment):
        said = " ".join(self.top(*arguments, status=status, **environment).split())
        self.assertIn(says, said)
        return said


class Lines(Case):
    def test_what_was_counted(self):
        tracer = self.tracer()
        tracer.route([(i, [[0, 1], [2, 3]]) for i in range(6)], generation=False)
        tracer.route([(6, [[0, 2], [2, 3]]), (7, [[0, 3], [2, 3]])])
        text = self.top("--window", "all")
        lines = text.splitlines()
        self.assertEqual(lines[0], f"/usr/bin/llama-server ({os.getpid()})  Oracle (llama)  llama.cpp 0.7.0")
        self.assertIn("tokens 8  prompt 6  generation 2", lines)
        self.assertIn("window all since counting began  counting", text)
        even = [sum(-n / 16 * math.log2(n / 16) for n in counts) / 2 for counts in ((8, 6, 1, 1), (8, 8))] # of log2(4)
        self.assertRegex(text, rf"\n    0 {even[0]:.3f}       0  50\.0% ▓")
        self.assertRegex(text, rf"\n    1 {even[1]:.3f}       2  50\.0% ▓")
        self.assertIn(f"evenness {sum(even) / 2:.3f}", text)
        self.assertRegex(text, r"\n  1     0      0  50\.0%       8")
        self.assertNotIn("\x1b", text)
        self.assertTrue(all(len(line) <= 80 for line in lines))

    def test_phases_are_not_known(self):
        """Of a program whose calls are not seen: what is told is of all tokens, and nothing is of a phase."""
        tracer = self.tracer(FakeModel(phases_known=False))
        tracer.route([(i, [[0, 1], [2, 3]]) for i in range(8)])
        text = self.top("-w", "all")
        self.assertRegex(text, r"\ntokens +[-0-9.]+ t/s\nevenness \S+  reuse -  drift")
        self.assertIn("\ntokens 8\n", text)
        self.assertNotRegex(text, r"prompt|\bgen")
        frame = json.loads(self.top("--json", "-w", "all"))
        self.assertEqual(frame["tokens"], {"all": 8, "prompt": None, "generation": None, "lost": 0})

    def test_frames(self):
        self.tracer()
        for arguments, n in (((), 1), (("--once",), 1), (("-n", "3"), 3)):
            text = self.top(*arguments)
            self.assertEqual(text.count("llama-server ("), n)
            self.assertEqual(text.count("\n\n/usr/bin/llama-server"), n - 1)

    def test_json(self):
        tracer = self.tracer()
        tracer.route([(i, [[0, 1], [2, 3]]) for i in range(5)])
        frames = [json.loads(line) for line in self.top("--json", "-n", "2", "-w", "all").splitlines()]
        self.assertEqual([frame["layers"][1]["counts"] for frame in frames], [[0, 0, 5, 5]] * 2)
        self.assertEqual(frames[0]["llama_expert_tracer_watch"], 1)

    def test_colors_and_letters(self):
        tracer = self.tracer()
        tracer.route([(0, [[0, 1], [2, 3]])])
        colored = self.top("--color", "always", "-w", "all")
        self.assertIn("\x1b[48;5;", colored)
        self.assertNotIn("\x1b", self.top("-w", "all", NO_COLOR="1"))
        plain = self.top("-w", "all", LC_ALL="C")
        self.assertTrue(plain.isascii())
        self.assertRegex(plain, r"50\.0% \+\+")
        wide = self.top("-w", "all", COLUMNS="200")
        self.assertIn("4 x the even share", wide)
        self.assertLessEqual(max(map(len, wide.splitlines())), 200)

    def test_names(self):
        self.tracer(FakeModel(name=b"\x1b[2J\nred\xff", architecture="\u202egnp"), program=b"/x/\x1b]0;t\x07y")
        text = self.top()
        self.assertTrue(all(line.isprintable() for line in text.splitlines()), text)
        self.assertIn("?[2J?red?", text)

    def test_no_process(self):
        self.refuses(says="start one with `llama-expert-tracer run -- llama-server ...`", status=1)
        self.refuses("4711", says="process 4711 cannot be steered", status=1)
        self.refuses("llama", says="'llama' is no number of a process", status=2)
        self.refuses("1", "2", says="one process at a time: what is '2'?", status=2)

    def test_several_processes(self):
        first, second = self.tracer(program="/a/first"), self.tracer(FakeModel(name="Second"), program="/a/second")
        said = self.refuses(says="which process? Its number, as it is listed here:", status=2)
        self.assertRegex(said, r"PID .* MODEL .* /a/(first|second) .* /a/(first|second)")
        self.assertIn("/a/first", self.top(first.name))
        self.assertIn("Second", self.top(second.name))

    def test_options(self):
        self.tracer()
        for arguments, says in ((("-d", "0.01"), "--interval needs seconds, 0.1 to 3600"),
                                (("--once", "-n", "2"), "--once is one frame"),
                                (("--size", "1MiB", "--size", "2MiB", "--size", "3MiB"), "--size is given 2 times"),
                                (("--size", "x"), "--size needs a size, such as 6GiB, not 'x'"),
                                (("-w", "7"), "--window")):
            self.refuses(*arguments, says=says, status=2)

    def test_it_ends(self):
        tracer = self.tracer()
        tracer.route([(0, [[0, 1], [2, 3]])])
        process = subprocess.Popen([CLI, "top", "-n", "100", "-d", "0.3"], stdout=subprocess.PIPE, text=True,
                                   env=self.environment)
        with process:
            self.assertIn("llama-server", process.stdout.readline())
            tracer.close()
            self.assertIn("\nhas ended  window 10 s", process.communicate(timeout=PATIENCE)[0])
        self.assertEqual(process.returncode, 0)

    def test_no_model(self):
        self.tracer(FakeModel(n_layer=0))
        self.assertIn("tokens 0", self.top())


@unittest.skipUnless(HAS_TERMINAL, "built without ncurses")
class Terminal(Case):
    def screen(self, *arguments, **options):
        screen = Screen(self.environment, *arguments, **options)
        self.addCleanup(screen.close)
        return screen

    def assert_left(self, screen, status=0):
        """The terminal is as it was: its modes, the cursor, and what was on it before."""
        self.assertEqual(screen.end(), status)
        self.assertIn("\x1b[?1049l", screen.seen)
        self.assertGreater(screen.seen.rfind("\x1b[?25h"), screen.seen.rfind("\x1b[?25l"))
        self.assertEqual(termios.tcgetattr(screen.fd), screen.attributes)

    def test_it_follows(self):
        tracer = self.tracer()
        screen = self.screen("-d", "0.2")
        screen.wait_for("llama-server")
        screen.wait_for("q.*quit")
        tracer.route([(i, [[0, 1], [2, 3]]) for i in range(77)])
        screen.wait_for("77")
        screen.resize(132, 43)
        screen.wait_for("4 x the even share")
        screen.resize(40, 10)
        screen.wait_for("quit")
        screen.type("q")
        self.assert_left(screen)

    def test_keys(self):
        tracer = self.tracer(FakeModel(), FakeModel(name="Second"))
        tracer.route([(i, [[0, 1], [2, 3]]) for i in range(5)])
        screen = self.screen(columns=120)
        screen.wait_for("model.*1.* of 2")
        screen.press("w")
        screen.wait_for("30 s")
        screen.press("s")
        screen.wait_for("least even first")
        screen.press("j\r")
        screen.wait_for("RANK.*EXPERT")
        screen.press("h")
        screen.wait_for("this page")
        screen.press("\x1b")
        screen.wait_for("LAYER")
        screen.press("m")
        screen.wait_for("Second")
        screen.press("f")
        screen.wait_for("frozen")
        screen.type("z")
        screen.wait_for("y or n")
        self.assertNotIn(["reset"], tracer.requests)
        screen.type("y")
        screen.wait_for("counting begins at zero")
        self.assertIn(["reset"], tracer.requests)
        self.assertEqual(tracer.models[0].totals["tokens"], 0)
        screen.type("q")
        self.assert_left(screen)

    def test_recording(self):
        tracer = self.tracer(answers={"record": {"holds": []}, "record-stop": {"holds": [], "path": "run.moetrace"}})
        file = self.work / "run.moetrace"
        screen = self.screen("-d", "0.2", columns=150)
        screen.wait_for("counting")
        screen.type("r")
        screen.wait_for("record to the file:")
        screen.type(f"{file}\r")
        screen.wait_for("recording to ")
        self.assertTrue(file.exists())
        request = [words for words in tracer.requests if words[0] == "record"][-1]
        self.assertEqual(request[1:], ["weights=0", "tokens=0", f"name={file}", "model=1"])
        tracer.switch(RECORDS)
        screen.wait_for("recording")
        time.sleep(1.2)
        screen.type("r")
        screen.wait_for("nothing is recorded")
        self.assertIn(["record-stop", "model=1"], tracer.requests)
        screen.type("q")
        self.assert_left(screen)

    def test_signals(self):
        self.tracer()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            screen = self.screen()
            screen.wait_for("counting")
            os.kill(screen.pid, number)
            self.assert_left(screen)

    def test_suspended(self):
        self.tracer()
        screen = self.screen(shell='"$0" top; echo it is stopped; fg; exit 7')
        screen.wait_for("counting")
        screen.settle() # while it draws, ncurses ignores what follows
        screen.type("\x1a") # Ctrl-Z
        screen.wait_for(re.escape("\x1b[?1049l"))
        screen.wait_for("it is stopped")
        screen.wait_for(re.escape("\x1b[?1049h"))
        screen.press("")
        screen.wait_for("counting")
        screen.type("q")
        self.assert_left(screen, 7)

    def test_the_process_ends(self):
        tracer = self.tracer()
        screen = self.screen()
        screen.wait_for("counting")
        tracer.close()
        screen.wait_for("has ended")
        screen.type("z")
        screen.type("y")
        screen.wait_for("nobody to be asked")
        screen.type("q")
        self.assert_left(screen)

    def test_choosing(self):
        self.tracer(program="/a/first"), self.tracer(FakeModel(name="Second"), program="/a/second")
        screen = self.screen()
        screen.wait_for("/a/")
        screen.wait_for("/a/")
        screen.type("j\r")
        screen.wait_for("counting")
        screen.type("q")
        self.assert_left(screen)

    def test_colors(self):
        tracer = self.tracer()
        tracer.route([(i, [[0, 1], [2, 3]]) for i in range(5)])
        for arguments, term, more, colored in (((), "xterm-256color", {}, "\x1b[48;5;228m"),
                                               ((), "xterm", {}, "\x1b[31m"),
                                               ((), "vt100", {}, None),
                                               (("--color", "never"), "xterm-256color", {}, None),
                                               ((), "xterm-256color", {"NO_COLOR": "1"}, None)):
            self.environment.update(more)
            screen = self.screen("-w", "all", *arguments, term=term)
            screen.wait_for("BY RANK")
            screen.type("q")
            screen.end()
            if colored:
                self.assertTrue(colored in screen.seen or "\x1b[1m" + colored in screen.seen or
                                re.search(r"\x1b\[[0-9;]*(48;5;228|31)m", screen.seen), (term, screen.seen))
            else:
                self.assertNotRegex(screen.seen, r"\x1b\[[0-9;]*[34][0-7]m", term)

    def test_terminals_that_cannot(self):
        self.tracer()
        for term, says in (("dumb", "has lines alone"), ("nonsense", "is not known here"), ("", "is not known here")):
            screen = self.screen(term=term)
            self.assertEqual(screen.end(), 1)
            self.assertIn(says, " ".join(screen.seen.split()))
            self.assertIn("--once", screen.seen)
            self.assertNotIn("\x1b[?1049h", screen.seen)


if __name__ == "__main__":
    unittest.main()
