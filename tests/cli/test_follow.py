#!/usr/bin/env python3
"""Tests of `dump`, `report` and `cache` with --follow (EXPERT_TRACER_CLI), on traces that grow as they are read.

A trace is written chunk by chunk under the lock that the library holds. What was printed of it while it grew is held
against what the same command prints of the whole trace.
"""

import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "trace"))

import moetrace as m  # noqa: E402

CLI = os.environ.get("EXPERT_TRACER_CLI", "")
N_EXPERT, N_USED, N_LAYERS = 16, 4, 3
TABLE = [m.new_layer(layer, N_EXPERT, N_USED, (f"blk.{layer}.ffn_up_exps.weight", 100)) for layer in range(N_LAYERS)]
PATIENCE = 30 # seconds, for what takes a quarter of one


def expert(layer, token, rank):
    return (7 * token.id + 3 * layer + 5 * rank) % N_EXPERT


def events(first=0, n=40):
    """A prompt, and generated tokens of it."""
    for number in range(first, first + n):
        prompt = number == 0
        positions = range(6) if prompt else [5 + number]
        tokens = [m.Token(position * position % 251, 0, 0, position, not prompt, not prompt) for position in positions]
        yield m.new_ubatch(number, TABLE, tokens, expert, time=1700000000000000 + 1000 * number, first=True)


def header(**more):
    return m.new_header(**{"n_layer": N_LAYERS, "tokens": True, **more})


def chunks(its=None, end=True, first=0, every=4, **more):
    its = list(events()) if its is None else list(its)
    return [chunk.bytes() for chunk in m.encode(header(**more), [TABLE], its, chunk_every=every, first=first, end=end)]


class Writer:
    """A file that grows as the library's do: made aside, locked, renamed, and locked as long as it is open."""

    def __init__(self, path, its):
        self.path, self.left = Path(path), list(its)
        aside = self.path.with_suffix(".tmp")
        self.file = open(aside, "wb", buffering=0)
        fcntl.flock(self.file, fcntl.LOCK_EX)
        self.write(1)
        aside.rename(self.path)

    def write(self, n=None):
        for chunk in self.left[:n]:
            self.file.write(chunk)
        self.left = self.left[len(self.left) if n is None else n:]
        return self

    def tear(self):
        """The first half of a chunk."""
        self.file.write(self.left[0][:len(self.left[0]) // 2])
        self.left[0] = self.left[0][len(self.left[0]) // 2:]

    def close(self):
        self.file.close()


class Reader:
    """A command that follows. What it has printed is in `out` and `err`."""

    def __init__(self, *args, tty=False, env=None):
        keep = {k: v for k, v in os.environ.items()
                if not k.startswith("LLAMA_EXPERT_") and k not in ("NO_COLOR", "COLUMNS", "TZ")}
        keep = {**keep, "LC_ALL": "C.UTF-8", "TZ": "UTC", "TERM": "xterm", **(env or {})}
        self.out, self.err = b"", b""
        self.master, slave = pty.openpty() if tty else os.pipe()
        self.process = subprocess.Popen([CLI, *map(str, args)], stdout=slave, stderr=subprocess.PIPE, env=keep,
                                        stdin=subprocess.DEVNULL, bufsize=0)
        os.close(slave)
        self.ends = {self.master: "out", self.process.stderr.fileno(): "err"}

    def read(self, seconds):
        for fd in select.select(list(self.ends), [], [], seconds)[0]:
            try:
                data = os.read(fd, 1 << 16)
            except OSError: # a terminal that nobody has open any more
                data = b""
            if not data:
                del self.ends[fd]
                continue
            setattr(self, self.ends[fd], getattr(self, self.ends[fd]) + data)

    def until(self, condition, what):
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline or not self.ends:
                raise AssertionError(f"{what}: {self.out.decode()}{self.err.decode()}")
            self.read(0.1)

    def until_out(self, text, times=1):
        self.until(lambda: self.out.count(text.encode()) >= times, f"no {text!r} in")

    def until_err(self, text):
        self.until(lambda: text.encode() in self.err, f"no {text!r} in")

    def end(self):
        deadline = time.monotonic() + PATIENCE
        while self.ends and time.monotonic() < deadline:
            self.read(0.1)
        return self.process.wait(timeout=PATIENCE)

    def stop(self, number=signal.SIGINT):
        self.process.send_signal(number)
        return self.end()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stderr.close()
        os.close(self.master)


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="test-follow-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = self.folder / "run.moetrace"

    def follow(self, command, *args, **more):
        reader = Reader(command, "--follow", *args, **more)
        self.addCleanup(reader.close)
        return reader

    def writer(self, its, path=None):
        writer = Writer(path or self.path, its)
        self.addCleanup(writer.close)
        return writer

    def run_cli(self, *args, status=0):
        done = subprocess.run([CLI, *map(str, args)], capture_output=True, timeout=60,
                              env={**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC"})
        self.assertEqual(done.returncode, status, done.stderr.decode())
        self.stderr = done.stderr.decode()
        return done.stdout.decode()

    def whole(self, data, name="whole.moetrace"):
        """A file that nobody writes, beside the one that grows."""
        path = self.folder / "whole" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else b"".join(data))
        return path

    def dump_of(self, data, *args):
        """What dump prints, but for the line that only it knows which has all of the trace."""
        text = self.run_cli("dump", *args, self.whole(data))
        return re.sub(r"(?m)^# tokens .*\n", "", text)

    def until_printed(self, reader, made):
        """All ubatches that are in these chunks."""
        n = self.dump_of(b"".join(made)).count(" new-batch")
        reader.until(lambda: reader.out.count(b" new-batch") >= n, f"not {n} ubatches in")


class Dump(Case):
    def test_chunk_by_chunk(self):
        made = chunks()
        writer = self.writer(made)
        reader = self.follow("dump", self.path)
        while len(writer.left) > 1:
            writer.write(1)
            self.until_printed(reader, made[:-len(writer.left)])
        writer.write()
        self.assertEqual((reader.end(), reader.err), (0, b""))
        self.assertEqual(reader.out.decode(), self.dump_of(made))

    def test_soon_and_torn(self):
        made = chunks(every=1)
        writer = self.writer(made).write(3)
        reader = self.follow("dump", "--compact", self.path)
        reader.until_out("ubatch=0 token=5 ")
        writer.tear()
        for number in range(1, 8):
            start = time.monotonic()
            writer.write(1)
            writer.tear()
            reader.until_out(f"ubatch={number} token=0 ")
            self.assertLess(time.monotonic() - start, 5) # a second, on a machine that does nothing else
        self.assertNotIn(b"ubatch=8 ", reader.out)
        writer.write()
        self.assertEqual((reader.end(), reader.err), (0, b""))
        self.assertEqual(reader.out.decode(), self.dump_of(made, "--compact"))

    def test_what_turns_out_later(self):
        its = list(events(n=12))
        its[9:9] = [m.Rejected(8, 0, 1)]
        its[4:4] = [m.Warmup(0, 2)]
        made = chunks(its, every=1)
        reader = self.follow("dump", "--compact", self.path)
        writer = self.writer(made)
        while len(writer.left) > 1:
            writer.write(1)
            self.until_printed(reader, made[:-len(writer.left)])
        writer.write()
        self.assertEqual(reader.end(), 0)
        lines, later = [], []
        for line in reader.out.decode().splitlines(keepends=True):
            (later if re.match("warmup|rejected", line) else lines).append(line)
        self.assertEqual(later, ["warmup ubatches=0-1\n", "rejected ubatch=8 tokens=0-0\n"])
        plain = self.dump_of(made, "--compact")
        self.assertEqual("".join(lines), re.sub("( warmup| rejected)+", "", plain))
        self.assertIn(" warmup", plain)

    def test_file_that_is_not_there(self):
        reader = self.follow("dump", self.path)
        reader.until_err("waiting for it")
        self.path.touch()
        time.sleep(0.6)
        made = chunks()
        self.writer(made).write()
        self.assertEqual(reader.end(), 0)
        self.assertEqual(reader.err.decode().count("waiting for it"), 1)
        self.assertEqual(reader.out.decode(), self.dump_of(made))

    def test_killed(self):
        made = chunks()
        writer = self.writer(made).write(4)
        reader = self.follow("dump", self.path)
        reader.until_out("ubatch=4 ")
        time.sleep(1.5) # a program that does nothing lives
        self.assertIsNone(reader.process.poll())
        writer.write(1)
        writer.tear()
        writer.close()
        self.assertEqual(reader.end(), 0)
        self.assertRegex(reader.err.decode(), r"^llama-expert-tracer: \S+run.moetrace: the program .* killed.*\n$")
        self.assertEqual(reader.out.decode(), self.dump_of(self.path.read_bytes()))

    def test_filters(self):
        made = chunks()
        self.writer(made).write(6)
        reader = self.follow("dump", "--layer", "1", "--ubatch", "2-7", self.path)
        self.assertEqual((reader.end(), reader.err), (0, b"")) # past what was asked for
        self.assertEqual(reader.out.decode(), self.dump_of(made, "--layer", "1", "--ubatch", "2-7"))
        reader = self.follow("dump", "--layer", "7", self.path)
        self.assertEqual(reader.end(), 1)
        self.assertIn(b"no such layer", reader.err)

    def test_damage(self):
        made = [bytearray(chunk) for chunk in chunks()]
        made[4][100] ^= 255
        made[6][10] ^= 255
        writer = self.writer(made)
        reader = self.follow("dump", self.path)
        while writer.left:
            writer.write(1)
            time.sleep(0.3)
        self.assertEqual(reader.end(), 1)
        self.assertEqual(reader.err.decode().count("\n"), 1)
        self.assertIn(b"damaged", reader.err)
        plain = re.sub(r"(?m)^# tokens .*\n", "", self.run_cli("dump", self.whole(made), status=1))
        self.assertEqual(reader.out.decode(), plain)

    def test_reader_that_leaves(self):
        self.writer(chunks()).write(5)
        for number in (signal.SIGINT, signal.SIGTERM):
            reader = self.follow("dump", self.path)
            reader.until_out("ubatch=8 ")
            self.assertEqual(reader.stop(number), -number)
            self.assertEqual(reader.err, b"")
        command = f"'{CLI}' dump --follow '{self.path}' | head -n 1; echo ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=PATIENCE)
        self.assertEqual((done.stdout.decode().split("\n")[0], done.stderr), ("# model        Model", b""))

    def test_another_trace(self):
        old = self.writer(chunks(trace="old")).write(4)
        reader = self.follow("dump", "--compact", self.path)
        reader.until_out("ubatch=4 ")
        made = chunks(trace="new")
        self.writer(made).write()
        self.assertEqual(reader.end(), 0)
        self.assertEqual(reader.err.decode().count("\n"), 1)
        self.assertIn(b"is another trace now", reader.err)
        first = self.dump_of(b"".join(chunks(trace="old")[:5]), "--compact")
        self.assertEqual(reader.out.decode(), first + self.dump_of(made, "--compact"))
        old.close()

    def test_copy_in_its_place(self):
        """Of the same trace, as `rsync` makes it again and again: nothing is printed twice."""
        made = chunks()
        old = self.writer(made).write(4)
        reader = self.follow("dump", "--compact", self.path)
        reader.until_out("ubatch=8 ")
        self.writer(made).write()
        self.assertEqual((reader.end(), reader.err), (0, b""))
        self.assertEqual(reader.out.decode(), self.dump_of(made, "--compact"))
        old.close()

    def test_what_cannot_be_followed(self):
        text = self.folder / "text"
        text.write_text("no trace, but long enough to be one, if it had anything in it that a trace has")
        pipe = self.folder / "pipe"
        os.mkfifo(pipe)
        for args, status, why in [(["-"], 2, "needs the name of a file"), ([text], 1, "not a routing trace"),
                                  ([text, text], 2, "one file at a time"), ([pipe], 1, "not a regular file"),
                                  ([self.folder], 1, "not a regular file")]:
            reader = self.follow("dump", *args)
            self.assertEqual(reader.end(), status, args)
            self.assertIn(why, reader.err.decode())
            self.assertEqual(reader.out, b"")


class Answers(Case):
    """What report and cache have printed of a trace while it grew ends in what they print of the whole."""

    COMMANDS = ("report", "cache")

    def whole_answer(self, command, made, *args):
        return self.run_cli(command, *args, self.whole(made))

    def test_text(self):
        for command in self.COMMANDS:
            with self.subTest(command):
                made = chunks()
                writer = self.writer(made).write(4)
                reader = self.follow(command, self.path)
                answers = [self.whole_answer(command, made[:5]), self.whole_answer(command, made[:7]),
                           self.whole_answer(command, made)]
                for answer, step in zip(answers, (2, None, None)):
                    reader.until(lambda: reader.out.decode().endswith(answer), f"not\n{answer}\nbut")
                    writer.write(step)
                self.assertEqual((reader.end(), reader.err), (0, b""))
                self.assertEqual(reader.out.decode(), "\n".join(answers))

    def test_json(self):
        for command in self.COMMANDS:
            with self.subTest(command):
                made = chunks()
                writer = self.writer(made).write(4)
                reader = self.follow(command, "--json", self.path)
                reader.until_out("\n}\n")
                writer.write(2)
                reader.until_out("\n}\n", 2)
                writer.write()
                self.assertEqual((reader.end(), reader.err), (0, b""))
                documents = [json.loads(each + "}") for each in reader.out.decode().split("\n}\n")[:-1]]
                self.assertEqual(len(documents), 3)
                for document, part in zip(documents, (made[:5], made[:7], made)):
                    plain = json.loads(self.whole_answer(command, part, "--json"))
                    self.assertEqual({**document, "file": None}, {**plain, "file": None})

    def test_page(self):
        page = self.folder / "page.html"
        if self.run_page(page) != 0:
            self.skipTest("this command was built without pages")
        made = chunks()
        writer = self.writer(made).write(4)
        reader = self.follow("report", "--html", page, self.path)
        reader.until(page.exists, "no page:")
        first = page.read_text()
        writer.write()
        self.assertEqual((reader.end(), reader.err), (0, b""))
        self.assertNotEqual(page.read_text(), first)
        self.run_cli("report", "--html", self.folder / "whole.html", self.whole(made, self.path.name))
        strip = re.compile(re.escape(str(self.folder)) + "/(whole/)?")
        self.assertEqual(strip.sub("", page.read_text()), strip.sub("", (self.folder / "whole.html").read_text()))
        self.assertEqual(sorted(path.name for path in self.folder.glob("*page*")), ["page.html"])

    def run_page(self, page):
        done = subprocess.run([CLI, "report", "--html", page, self.whole(chunks())], capture_output=True)
        page.unlink(missing_ok=True)
        return done.returncode

    def test_terminal(self):
        made = chunks()
        writer = self.writer(made).write(4)
        reader = self.follow("report", "--color", "never", self.path, tty=True)
        reader.until_out("\033[J")
        writer.write()
        self.assertEqual((reader.end(), reader.err), (0, b""))
        screens = reader.out.decode().replace("\r\n", "\n").split("\033[J")[:-1]
        self.assertEqual(len(screens), 2)
        self.assertTrue(screens[0].startswith("\033[H\033[2J"))
        self.assertEqual(screens[0].count("\n"), 23) # of 24 rows
        self.assertRegex(screens[0], r"\n… and \d+ lines more, [^\n]*\n$")
        self.assertTrue(screens[1].startswith("\033[H"))
        plain = re.sub("\033\\[[0-9]*[A-Za-z]", "", screens[1])
        self.assertEqual(plain, self.whole_answer("report", made))

    def test_terminals_that_are_none(self):
        made = chunks()
        for env, tty in (({"TERM": "dumb"}, True), ({}, False)):
            writer = self.writer(made)
            writer.write()
            reader = self.follow("report", self.path, tty=tty, env=env)
            self.assertEqual(reader.end(), 0)
            self.assertNotIn(b"\033", reader.out)
            writer.close()

    def test_killed(self):
        made = chunks()
        writer = self.writer(made).write(4)
        reader = self.follow("report", self.path, tty=True)
        reader.until_out("lines more")
        writer.close()
        self.assertEqual(reader.end(), 0)
        self.assertIn(b"was killed", reader.err)
        self.assertTrue(reader.out.decode().replace("\r\n", "\n").endswith(
            "\033[J" + self.whole_answer("report", made[:5], "--color", "always")))

    def test_damage(self):
        made = [bytearray(chunk) for chunk in chunks()]
        made[4][100] ^= 255
        writer = self.writer(made).write(5)
        reader = self.follow("report", self.path)
        reader.until_err("damaged")
        writer.write()
        self.assertEqual(reader.end(), 1)
        self.assertEqual(reader.err.decode().count("\n"), 1)
        self.assertTrue(reader.out.decode().endswith(self.run_cli("report", self.whole(made), status=1)))

    def test_what_cannot_be_followed(self):
        made = self.whole(chunks())
        stats = self.folder / "stats.json"
        stats.write_text('{"total_tokens": 1}')
        for args, status, why in [(["report", "-"], 2, "needs the name of a file"),
                                  (["cache", "-"], 2, "needs the name of a file"),
                                  (["report", made, made], 2, "one FILE"), (["cache", made, made], 2, "one file"),
                                  (["report", stats], 2, "watch llama-expert-tracer report"),
                                  (["report", "--html", "-", made], 2, "name of a file"),
                                  (["report", "--layer", "9", made], 1, "no such layer"),
                                  (["cache", "--layer", "9", made], 1, "no such layer")]:
            reader = self.follow(args[0], *args[1:])
            self.assertEqual(reader.end(), status, args)
            self.assertIn(why, reader.err.decode())
            self.assertEqual(reader.out, b"")

    def test_slow_answers_are_rarer(self):
        """Of many chunks there are few answers."""
        made = chunks(events(n=100), every=1)
        writer = self.writer(made).write(2)
        reader = self.follow("report", self.path)
        begin = time.monotonic()
        while writer.left:
            writer.write(1)
            reader.read(0.03)
        self.assertEqual(reader.end(), 0)
        self.assertLessEqual(reader.out.count(b"\ntokens "), time.monotonic() - begin + 3)
        self.assertTrue(reader.out.decode().endswith(self.whole_answer("report", made)))


class Parts(Case):
    N = 3

    def setUp(self):
        super().setUp()
        self.made = [chunks(events(12 * part, 12), first=12 * part, trace="one", part=part,
                            end={"last_part": part == self.N - 1, "complete": part == self.N - 1,
                                 "ubatches": 12 * (part + 1)})
                     for part in range(self.N)]

    def part(self, number):
        return self.folder / f"run-{number:06}.moetrace"

    def joined(self):
        paths = [self.whole(made, f"part-{part}") for part, made in enumerate(self.made)]
        joined = self.folder / "whole" / "joined"
        self.run_cli("cat", "--force", "-o", joined, *paths)
        return joined.read_bytes()

    def rotate(self, wait, first=0):
        """All parts, one after the other: the next one is there before the last one has ended."""
        before = None
        for number, made in enumerate(self.made):
            writer = self.writer(made, self.part(first + number))
            if before is not None:
                before.write()
                before.close()
            wait(number, 0)
            while len(writer.left) > 1:
                writer.write(1)
                wait(number, len(made) - len(writer.left))
            before = writer
        before.write()
        before.close()

    def test_dump(self):
        for name, first in ((self.part(7), 7), (self.path, 0)):
            with self.subTest(name):
                reader = self.follow("dump", name)
                reader.until_err("waiting for it")

                def wait(number, n):
                    if n >= 3:
                        reader.until_out(f"\nubatch={12 * number + 4 * (n - 3)} ")
                self.rotate(wait, first)
                self.assertEqual(reader.end(), 0)
                self.assertEqual(reader.err.decode().count("\n"), 1)
                self.assertEqual(reader.out.decode(), self.dump_of(self.joined()))
                for part in self.folder.glob("run-*"):
                    part.unlink()

    def test_all_are_there(self):
        self.rotate(lambda number, n: None)
        for name in (self.part(0), self.path):
            reader = self.follow("dump", name)
            self.assertEqual((reader.end(), reader.err), (0, b""))
            self.assertEqual(reader.out.decode(), self.dump_of(self.joined()))

    def test_part_that_is_missing(self):
        self.rotate(lambda number, n: None)
        self.part(1).unlink()
        reader = self.follow("dump", "--compact", self.part(0))
        self.assertEqual(reader.end(), 0)
        self.assertIn(b"are not there any more", reader.err)
        self.assertIn(b"missing ubatches=12-23\n", reader.out)
        self.part(2).unlink()
        reader = self.follow("dump", "--compact", self.part(0))
        self.assertEqual(reader.end(), 0)
        self.assertIn(b"goes on in a next part, which is not here", reader.err)

    def test_file_that_is_taken_away(self):
        """The library goes on in a new part at the same path."""
        first = self.writer(self.made[0][:-1])
        first.write()
        reader = self.follow("dump", self.path)
        reader.until_out("\nubatch=8 ")
        self.path.unlink()
        second = self.writer(chunks(events(12, 12), first=12, trace="one", part=1))
        first.close()
        second.write()
        self.assertEqual((reader.end(), reader.err), (0, b""))
        self.made[2:] = []
        self.assertEqual(reader.out.decode(), self.dump_of(self.joined()))

    def test_file_that_is_truncated(self):
        first = self.writer(self.made[0][:-1])
        first.write()
        reader = self.follow("dump", self.path)
        reader.until_out("\nubatch=8 ")
        os.truncate(self.path, 0)
        reader.until_err("was truncated")
        self.writer(chunks(events(12, 12), first=12, trace="one", part=1), self.folder / "run-2.moetrace").write()
        first.close()
        self.assertEqual(reader.end(), 0)
        self.assertEqual(reader.err.decode().count("\n"), 1)
        self.assertIn(b"ubatch=23 ", reader.out)

    def test_answers(self):
        for command in Answers.COMMANDS:
            with self.subTest(command):
                reader = self.follow(command, self.path)
                reader.until_err("waiting for it")
                self.rotate(lambda number, n: n != 4 or reader.until_out("tokens ", number + 1))
                self.assertEqual(reader.end(), 0)
                self.assertEqual(reader.err.decode().count("\n"), 1)
                answer = self.run_cli(command, self.whole(self.joined()))
                self.assertEqual(reader.out.decode()[-len(answer):], answer)
                for part in self.folder.glob("run-*"):
                    part.unlink()

    def test_answers_of_what_is_left(self):
        """LLAMA_EXPERT_TRACE_KEEP deletes the oldest parts."""
        def wait(number, n):
            if n == 4:
                reader.until_out("tokens ", number + 1)
            if n == 4 and number == 1:
                self.part(0).unlink()
        reader = self.follow("report", self.path)
        self.rotate(wait)
        self.assertEqual(reader.end(), 0)
        self.assertEqual(reader.err.decode().count("was deleted meanwhile"), 1)
        self.made[:1] = []
        self.assertTrue(reader.out.decode().endswith(self.run_cli("report", self.whole(self.joined()))))


if __name__ == "__main__":
    unittest.main()
