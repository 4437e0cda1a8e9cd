#!/usr/bin/env python3
"""`dump --follow` and `report --follow` beside a server that writes a routing trace."""

import re
import signal
import subprocess

from harness import COMMAND, MIXTRAL, Server, environment, main, wait_for
from traces import TraceTestCase


def warmups(text):
    """The ubatches that were printed as a warm-up, or turned out to be one later."""
    found = {int(number) for number in re.findall(r"(?m)^ubatch=(\d+) .*\bwarmup\b", text)}
    for first, last in re.findall(r"(?m)^warmup ubatches=(\d+)-(\d+)$", text):
        found.update(range(int(first), int(last) + 1))
    return found


def without_warmups(text):
    """What is the same whether that was known in time."""
    return re.sub(r"(?m)^(warmup ubatches=.*|# tokens .*)\n", "", text).replace(" warmup", "")


class Follow(TraceTestCase):
    def follow(self, command, *args):
        """A command that follows, with its output in a file of that name."""
        with open(self.folder / command, "wb") as out, open(self.folder / f"{command}.err", "wb") as err:
            process = subprocess.Popen([COMMAND, command, "--follow", *args, self.path], stdout=out, stderr=err,
                                       stdin=subprocess.DEVNULL, env=environment(preload=False))
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def printed(self, name):
        return (self.folder / name).read_text()

    def plain(self, command, *args, path):
        done = subprocess.run([COMMAND, command, *args, path], capture_output=True, check=True,
                              env=environment(preload=False))
        return done.stdout.decode()

    def ask(self, server, i):
        server.post("/completion", prompt=f"request {i}", n_predict=8, cache_prompt=False)

    def server(self, **trace):
        return Server("-m", MIXTRAL.path, "-t", 1, "-c", 512, "-np", 1, trace=self.routing(**trace))

    def last(self):
        """Of the ubatches that were printed."""
        return max(map(int, re.findall(r"(?m)^ubatch=(\d+) ", self.printed("dump"))), default=-1)

    def assert_same(self, path):
        followed, plain = self.printed("dump"), self.plain("dump", "--compact", path=path)
        self.assertEqual(without_warmups(followed), without_warmups(plain))
        self.assertEqual(warmups(followed), warmups(plain))
        self.assertTrue(warmups(plain))

    def test_rotated(self):
        dump, report = self.follow("dump", "--compact"), self.follow("report")
        wait_for("waiting", lambda: "waiting for it" in self.printed("dump.err"))
        with self.server(ROTATE_TIME=1) as server:
            n = 0
            while len(list(self.folder.glob("run-*"))) < 3:
                before = self.last()
                self.ask(server, n)
                n += 1
                wait_for("something new", lambda: self.last() > before)
            self.assertEqual(server.stop(), 0)
        self.assertEqual((dump.wait(timeout=60), report.wait(timeout=60)), (0, 0))
        parts, joined = sorted(self.folder.glob("run-*")), self.folder / "joined"
        subprocess.run([COMMAND, "cat", "-o", joined, *parts], check=True)
        self.assert_same(joined)
        self.assertTrue(self.printed("report").endswith(self.plain("report", path=joined)))
        self.assertEqual(self.printed("dump.err").count("\n"), 1)

    def test_killed(self):
        with self.server() as server:
            dump = self.follow("dump", "--compact")
            self.ask(server, 0)
            wait_for("the last token", lambda: " pos=15 " in self.printed("dump"))
            self.assertIsNone(dump.poll())
            self.assertEqual(server.stop(signal.SIGKILL), -9)
        self.assertEqual(dump.wait(timeout=60), 0)
        self.assertIn("was killed", self.printed("dump.err"))
        self.assert_same(self.path)


if __name__ == "__main__":
    main()
