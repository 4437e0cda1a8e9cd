#!/usr/bin/env python3
"""`attach` brings the tracer into stock programs that run already, and `detach` takes it out again.

The programs are not preloaded and know nothing of us. What is recorded is held against what the oracle models route,
and what they answer against what they answer alone. In full, with EXPERT_TRACER_SOAK=1: two hundred attachments at
random moments, a hundred cycles, and who attaches is killed behind each of its system calls; otherwise ten, and five.
"""

import concurrent.futures
import contextlib
import json
import os
import random
import subprocess
import time
import unittest
from pathlib import Path

from harness import COMMAND, ENGINE, GPT_OSS, MIXTRAL, Server, environment, main, run, wait_for
from test_live import LiveTestCase, PROMPTS
from traces import Trace, Ubatch

SOAK = bool(os.environ.get("EXPERT_TRACER_SOAK"))
N_ATTACHMENTS = 200 if SOAK else 10
N_CYCLES = 100 if SOAK else 10
REASON = "it was under way when the tracer was attached"


def may_attach():
    try:
        return os.geteuid() == 0 or Path("/proc/sys/kernel/yama/ptrace_scope").read_text().strip() == "0"
    except OSError:
        return True


def expected(oracle, prompt, n):
    """What a model answers."""
    return bytes(oracle.generate(list(prompt.encode()), n)[len(prompt):]).decode()


@unittest.skipUnless(may_attach(), "kernel.yama.ptrace_scope does not let us attach to our own processes")
class AttachTestCase(LiveTestCase):
    def plain(self, oracle=GPT_OSS, *more, slots=4):
        """A server that is not traced."""
        return Server("--model", oracle.path, "-np", slots, "-c", "4096", "--no-warmup", *more, preload=False)

    def command(self, *words, status=0):
        done = run(COMMAND, *words, preload=False, LLAMA_EXPERT_TRACE_LIVE=str(self.live))
        self.assertEqual(done.status, status, done.out + done.err)
        return done.out if status == 0 else done.err

    def attach(self, pid, *options):
        return self.command("attach", *options, pid)

    def detach(self, pid):
        """Returns the statistics of all that was counted."""
        return json.loads(self.command("detach", "-o", "-", pid))

    def await_tokens(self, n):
        """Until so many were counted whose routing is known."""
        with self.connection() as connection:
            def counted():
                models = connection.ask("status")["models"]
                return sum(model["tokens"] - model["lost_tokens"] for model in models) >= n
            wait_for(f"{n} tokens", counted)

    @contextlib.contextmanager
    def checked_load(self, server, oracle=GPT_OSS, threads=4):
        """Requests of changing lengths on every slot, whose answers are what they are alone."""
        ending = []
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            def ask(seed):
                choice = random.Random(seed)
                while not ending:
                    prompt, n = choice.choice(PROMPTS) * choice.randint(1, 4), choice.randint(1, 40)
                    self.assertEqual(self.complete(server, prompt, n)["content"], expected(oracle, prompt, n))
            asking = [pool.submit(ask, seed) for seed in range(threads)]
            try:
                yield
            finally:
                ending.append(True)
        for one in asking:
            one.result()

    def check_trace(self, path, oracle=GPT_OSS):
        """Every decision in it. Returns its ubatches."""
        trace = Trace(path)
        self.assert_routing(trace, oracle)
        return [event for event in trace.events if isinstance(event, Ubatch)]


class Moments(AttachTestCase):
    def test_random_ones(self):
        """Under load, while the server answers as if nothing was."""
        choice = random.Random(4)
        n = 0
        with self.plain() as server, self.checked_load(server):
            for i in range(N_ATTACHMENTS):
                time.sleep(choice.random() / 4)
                path = self.folder / f"{i}.moetrace"
                with self.subTest(attachment=i):
                    self.attach(server.process.pid, "-r", path, "--tokens")
                    self.await_tokens(20)
                    time.sleep(choice.random() / 4)
                    self.detach(server.process.pid)
                    n += len(self.check_trace(path))
        self.assertGreater(n, N_ATTACHMENTS)

    def test_idle(self):
        """All that is evaluated behind it, and nothing else."""
        with self.plain() as server:
            self.complete(server, "not this", 9)
            said = self.attach(server.process.pid)
            self.assertIn(f"detach {server.process.pid}", said)
            self.complete(server, "abc", 4)
            self.complete(server, "defghi", 9)
            statistics = self.detach(server.process.pid)
            self.complete(server, "nor this", 9)
        batches = [batch for prompt, n in (("abc", 4), ("defghi", 9))
                   for batch in GPT_OSS.completion(list(prompt.encode()), n)]
        self.assertNotIn("lost", statistics)
        self.assert_counts(statistics, GPT_OSS, batches)
        self.assert_phases(statistics, 9, 11, 0)
        self.assertEqual(statistics["model"]["file"], str(GPT_OSS.path.resolve()))

    def test_while_it_generates(self):
        """What is prompt and what generation is right, or not said."""
        with self.plain(slots=2) as server, concurrent.futures.ThreadPoolExecutor(2) as pool:
            long = pool.submit(self.complete, server, "abc", 600)
            time.sleep(0.5)
            self.attach(server.process.pid)
            self.await_tokens(1)
            short = self.complete(server, "defghi", 9)["content"]
            self.assertEqual(long.result()["content"], expected(GPT_OSS, "abc", 600))
            statistics = self.detach(server.process.pid)
        self.assertEqual(short, expected(GPT_OSS, "defghi", 9))
        self.assertEqual(statistics["prompt_tokens"], 6)
        self.assertEqual(statistics["lost"]["reason"], REASON)
        self.assertFalse(statistics["complete"])
        tokens = statistics["prompt_tokens"] + statistics["generation_tokens"]
        self.assertGreater(tokens, 100)
        self.assertIn(statistics["total_tokens"] - tokens, (1, 2), "a token of which nobody can tell")


class Cycles(AttachTestCase):
    def sizes(self, pid):
        status = Path(f"/proc/{pid}/status").read_text()
        return {"fds": len(os.listdir(f"/proc/{pid}/fd")), "threads": len(os.listdir(f"/proc/{pid}/task")),
                "resident": int(status.split("VmRSS:")[1].split()[0])}

    def cycle(self, server, n):
        pid = server.process.pid
        for _ in range(n):
            self.attach(pid)
            self.assertEqual(self.complete(server, "abc", 4)["content"], expected(GPT_OSS, "abc", 4))
            self.assertEqual(self.detach(pid)["total_tokens"], 6)
        time.sleep(3) # our last thread ends

    def test_nothing_stays(self):
        with self.plain() as server:
            pid = server.process.pid
            self.cycle(server, 3)
            before = self.sizes(pid)
            self.cycle(server, N_CYCLES)
            after = self.sizes(pid)
        self.assertEqual((after["fds"], after["threads"]), (before["fds"], before["threads"]))
        self.assertLess(after["resident"] - before["resident"], 2048, (before, after))


class Killed(AttachTestCase):
    INJECTION = 450 # about as many calls disturb the process, all others look for the tracer
    KILLER = COMMAND.parent / "tests" / "inject" / "inject-killer"

    def kill_behind(self, n, pid):
        """Whoever attaches, behind that many system calls from its first ptrace() on. False: it had fewer."""
        done = run(self.KILLER, n, COMMAND, "attach", pid, preload=False, LLAMA_EXPERT_TRACE_LIVE=str(self.live))
        self.assertEqual(done.status, 0, done.err)
        return done.out.split()[-1] == "killed"

    def check_attached(self, pid):
        """Now, or already: of both kinds the tracer counts, and can be sent away."""
        done = run(COMMAND, "attach", pid, preload=False, LLAMA_EXPERT_TRACE_LIVE=str(self.live))
        self.assertTrue(done.status == 0 or "already" in done.err, done.err)

    def test_behind_its_system_calls(self):
        step = 1 if SOAK else 90
        n    = random.Random().randrange(step) + 1
        with self.plain(GPT_OSS, "-t", 1) as server:
            pid = server.process.pid
            while self.kill_behind(n, pid):
                with self.subTest(calls=n):
                    self.assertEqual(self.complete(server, "abc", 4)["content"], expected(GPT_OSS, "abc", 4))
                    status = Path(f"/proc/{pid}/status").read_text()
                    self.assertIn("TracerPid:\t0\n", status)
                    self.check_attached(pid)
                    self.complete(server, "defghi", 9)
                    self.assertIn(self.detach(pid)["total_tokens"], (14, 20))
                n += step * (1 if n < self.INJECTION else 10)
            self.assertGreater(n, self.INJECTION)
            self.command("detach", pid)


class Refusals(AttachTestCase):
    def test_of_processes(self):
        with subprocess.Popen(["sleep", "60"]) as sleep:
            try:
                self.assertRegex(self.command("attach", sleep.pid, status=1), "llama.cpp")
            finally:
                sleep.kill()
        self.assertRegex(self.command("attach", sleep.pid, status=1), "no process")
        self.command("attach", "x", status=2)
        self.command("attach", status=2)

    def test_of_traced_ones(self):
        with self.server() as server:
            self.complete(server)
            self.assertIn("already", self.command("attach", server.process.pid, status=1))
            self.assertIn("started with the tracer", self.command("detach", server.process.pid, status=1))
        with self.plain() as server:
            self.attach(server.process.pid)
            self.assertIn("already", self.command("attach", server.process.pid, status=1))
            self.assertIn("no model", self.command("detach", "-o", "-", server.process.pid, status=1))
            self.command("detach", server.process.pid)
            self.command("detach", server.process.pid, status=1)


class Programs(AttachTestCase):
    def test_a_completion(self):
        """Of a program that is no server: its output is what it is without us."""
        command = ["-m", str(MIXTRAL.path), "-p", "abc", "-n", "800", "-no-cnv", "-t", "1", "-c", "2048"]
        alone = run("llama-completion", *command, preload=False)
        process = subprocess.Popen([ENGINE / "llama-completion", *command], env=environment(preload=False),
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        head = process.stdout.read(20)
        self.attach(process.pid, "-r", self.path, "--tokens")
        out, _ = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 0)
        shorter, longer = sorted(((head + out).decode(errors="replace"), alone.out), key=len)
        self.assertTrue(longer.startswith(shorter)) # either may lose its end
        self.assertGreater(len(self.check_trace(self.path, MIXTRAL)), 100)


if __name__ == "__main__":
    main()
