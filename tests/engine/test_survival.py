#!/usr/bin/env python3
"""What was recorded survives: programs that are killed and started again,
without standard streams, beside other users."""

import json
import os
import signal
import subprocess
import time
import unittest

from harness import COMMAND, ENGINE, MIXTRAL, Result, Server, environment, main, run, wait_for
from traces import Trace, TraceTestCase

PROMPT, N = b"write", 4
HELD = bytes(MIXTRAL.generate(PROMPT, N - 1))
STRANGER = 65534


class Survival(TraceTestCase):
    def complete(self, trace, **how):
        arguments = [ENGINE / "llama-completion", "-m", MIXTRAL.path, "-p", PROMPT.decode(),
                     "-n", str(N), "-no-cnv", "-t", "1"]
        how = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
        return subprocess.run([str(argument) for argument in arguments], env=environment(trace), timeout=120, **how)

    def assert_held(self, path):
        trace = self.read(path)
        self.assert_routing(trace, MIXTRAL)
        self.assertEqual(self.texts(trace), [HELD])

    def names(self):
        return sorted(path.name for path in self.folder.iterdir())


class Restarts(Survival):
    """As Restart=always does it, or a container whose process ids repeat."""

    def start_and_kill(self):
        """Returns how much the program had put out two seconds before its end:
        the trace lacks one second at the most."""
        out = self.folder / "out"
        with open(out, "wb") as stdout:
            process = subprocess.Popen([ENGINE / "llama-completion", "-m", MIXTRAL.path, "-p", "forever",
                                        "-n", "30000", "-no-cnv", "-t", "1", "-c", "32768"],
                                       env=environment(self.routing_again(STATS=1, OUTPUT=self.stats_path,
                                                                          INTERVAL=0.2)),
                                       stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.DEVNULL)
            self.addCleanup(process.wait)
            self.addCleanup(process.kill)
            wait_for("generation", lambda: out.stat().st_size > 40)
            n_out = out.stat().st_size
            time.sleep(2)
            process.kill()
            self.assertEqual(process.wait(), -signal.SIGKILL)
        out.unlink()
        return n_out

    def test_a_loop_of_kills(self):
        n_out = [self.start_and_kill() for _ in range(5)]
        paths = [self.path] + [self.folder / f"run-{i}.moetrace" for i in range(2, 6)]
        self.assertEqual(sorted(self.folder.glob("*.moetrace")), sorted(paths))
        for path, n in zip(paths, n_out):
            info = run(COMMAND, "info", path, preload=False)
            self.assertIn("still runs, or was killed", info.out + info.err)
            trace = Trace(path)
            self.assert_routing(trace, MIXTRAL)
            (held,) = self.texts(trace)
            self.assertEqual(held, bytes(MIXTRAL.generate(b"forever", len(held) - len(b"forever"))))
            self.assertGreaterEqual(len(held), n - 1) # the last token that is put out is not evaluated yet
        runs = [self.stats(self.folder / f"stats-{i}.json")["run"] for i in range(2, 6)] + [self.stats()["run"]]
        self.assertEqual(runs, [Trace(path).header["run"] for path in paths])
        self.assertLessEqual(len(list(self.folder.glob("*.tmp"))), 1) # of the last one, if any

    def test_servers(self):
        prompts = [b"first life", b"second life", b"third life"]
        for prompt in prompts:
            with Server("-m", MIXTRAL.path, "-t", 1, "-c", 512, "-np", 1, trace=self.routing_again()) as server:
                server.post("/completion", prompt=prompt.decode(), n_predict=5)
                held = bytes(MIXTRAL.generate(prompt, 4))
                wait_for("a trace of everything",
                         lambda: any(held in self.texts(Trace(path)) for path in self.folder.glob("*.moetrace")))
                self.assertEqual(server.stop(signal.SIGKILL), -signal.SIGKILL)
        for prompt, name in zip(prompts, ("run.moetrace", "run-2.moetrace", "run-3.moetrace")):
            self.assertEqual(self.texts(Trace(self.folder / name)), [bytes(MIXTRAL.generate(prompt, 4))])


class Changed(Survival):
    def test_a_trace_that_is_deleted(self):
        with Server("-m", MIXTRAL.path, "-t", 1, "-c", 512, "-np", 1, trace=self.routing()) as server:
            server.post("/completion", prompt="gone", n_predict=3)
            wait_for("a trace", lambda: self.path.exists() and self.texts(Trace(self.path)))
            self.path.unlink()
            server.post("/completion", prompt="here", n_predict=5, cache_prompt=False)
            wait_for("a new file", self.path.exists)
            self.assertEqual(server.stop(), 0)
            says = (f"{self.path} was deleted or replaced: what was recorded until now is gone. "
                    f"The routing trace goes on in {self.path}")
            self.assertEqual(server.err().count(says), 1)
        trace = Trace(self.path)
        self.assert_routing(trace, MIXTRAL)
        self.assertEqual(trace.header["part"], 1)
        self.assertIn(bytes(MIXTRAL.generate(b"here", 4)), self.texts(trace))
        self.assertTrue(trace.end["complete"])
        self.assertEqual(run(COMMAND, "info", self.path, preload=False).status, 0)


class Streams(Survival):
    def test_descriptors_that_are_closed(self):
        for mask in range(8):
            with self.subTest(mask):
                closed = [fd for fd in range(3) if mask & 1 << fd]
                path = self.folder / f"{mask}.moetrace"
                stats = self.folder / f"{mask}.json"
                process = self.complete({"ROUTING": path, "TOKENS": 1, "STATS": 1, "PER_LAYER": 1, "OUTPUT": stats},
                                        preexec_fn=lambda fds=closed: [os.close(fd) for fd in fds])
                self.assertEqual(process.returncode, 0)
                self.assert_held(path)
                self.assert_counts(json.loads(stats.read_text()), MIXTRAL, MIXTRAL.completion(PROMPT, N))
                if 1 not in closed:
                    self.assertEqual(process.stdout.strip(b"\n"), bytes(MIXTRAL.generate(PROMPT, N)))
        self.assertEqual(len(self.names()), 16)


@unittest.skipUnless(os.geteuid() == 0, "only root can be two users")
class Neighbours(Survival):
    """A folder such as /tmp, in which everybody may put what they like."""

    def setUp(self):
        super().setUp()
        self.folder.chmod(0o755)
        self.shared = self.folder / "shared"
        self.shared.mkdir()
        self.shared.chmod(0o1777)
        self.precious = self.folder / "precious"
        self.precious.touch() # an empty file is replaced: of others' content nothing is
        self.before = self.precious.stat()

    def link(self, name, target):
        subprocess.run(["ln", "-s", target, self.shared / name], check=True, preexec_fn=lambda: os.setuid(STRANGER))

    def assert_stays(self):
        after = self.precious.stat()
        self.assertEqual((after.st_ino, after.st_size), (self.before.st_ino, self.before.st_size))

    def test_another_users_link(self):
        self.link("stats.json", self.precious)
        self.link("run.moetrace", self.precious)
        result = Result(self.complete({"ROUTING": self.shared / "run.moetrace", "STATS": 1,
                                       "OUTPUT": self.shared / "stats.json"}))
        self.assertEqual(result.status, 0)
        self.assertEqual(result.err.count("another user's symbolic link, in a folder where everybody may put one, "
                                          "is not followed"), 2)
        self.assert_stays()

    def test_another_users_link_to_a_folder(self):
        (self.folder / "mine").mkdir()
        self.link("folder", self.folder / "mine")
        result = Result(self.complete({"ROUTING": self.shared / "folder" / "run.moetrace", "STATS": 1,
                                       "OUTPUT": self.shared / "folder" / "stats.json"}))
        self.assertEqual(result.err.count("is not followed"), 2)
        self.assertEqual(list((self.folder / "mine").iterdir()), [])

    def test_own_links_and_new_files(self):
        (self.shared / "link.moetrace").symlink_to(self.folder / "real.moetrace")
        for name, real in (("run.moetrace", self.shared / "run.moetrace"),
                           ("link.moetrace", self.folder / "real.moetrace")):
            with self.subTest(name):
                self.assertEqual(self.complete({"ROUTING": self.shared / name, "TOKENS": 1}).returncode, 0)
                self.assert_held(real)

    def test_a_link_that_comes_later(self):
        # in place of the statistics of a program that runs
        path = self.shared / "stats.json"
        with Server("-m", MIXTRAL.path, "-t", 1, "-c", 512,
                    trace={"STATS": 1, "OUTPUT": path, "INTERVAL": 0}) as server:
            server.post("/completion", prompt="late", n_predict=3)
            path.unlink()
            self.link("stats.json", self.precious)
            self.assertEqual(server.stop(), 0)
            self.assertIn("is not followed", server.err())
        self.assert_stays()


if __name__ == "__main__":
    main()
