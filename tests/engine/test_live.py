#!/usr/bin/env python3
"""A stock llama-server is watched and steered while it runs.

What its memory says is read by tests/engine/live.py, which knows docs/live-format.md alone, and is held against what
the oracle models route. In full, with a thousand windows, with EXPERT_TRACER_SOAK=1: otherwise thirty.
"""

import concurrent.futures
import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest
import urllib.request

import live
from harness import COMMAND, GPT_OSS, MIXTRAL, Server, environment, forget, main, run, wait_for
from traces import Trace, TraceTestCase, Ubatch

N_WINDOWS = 1000 if os.environ.get("EXPERT_TRACER_SOAK") else 30
N_RECORDINGS = 100 if os.environ.get("EXPERT_TRACER_SOAK") else 10
NOBODY = 65534
PROMPTS = ["Tell me of it", "What then", "And so they went on, and on, until the end of it all", "x"]


class LiveTestCase(TraceTestCase):
    def setUp(self):
        super().setUp()
        self.live = self.folder / "live"
        self.live.mkdir(mode=0o700)

    def server(self, oracle=GPT_OSS, slots=4, live_folder=None, **variables):
        trace = {"LIVE": live_folder or self.live, **variables}
        return Server("--model", oracle.path, "-np", str(slots), "-c", "4096", "--no-warmup", trace=trace)

    def connection(self, folder=None):
        names = wait_for("a name in the folder", lambda: live.names(folder or self.live))
        return live.Connection(folder or self.live, names[-1])

    def complete(self, server, prompt="hello world", n=8):
        return server.post("/completion", prompt=prompt, n_predict=n, cache_prompt=False)

    @contextlib.contextmanager
    def load(self, server, threads=4):
        """Requests of changing lengths on every slot."""
        ending, failures = threading.Event(), []

        def ask(seed):
            choice = random.Random(seed)
            while not ending.is_set():
                try:
                    self.complete(server, choice.choice(PROMPTS) * choice.randint(1, 4), choice.randint(1, 40))
                except OSError as error:
                    failures.append(error)
                    return

        running = [threading.Thread(target=ask, args=(i,)) for i in range(threads)]
        for thread in running:
            thread.start()
        try:
            yield
        finally:
            ending.set()
            for thread in running:
                thread.join()
        self.assertEqual(failures, [])

    def holds(self, answer):
        """The ubatch from which it holds, of a server with one context."""
        self.assertEqual(len(answer.get("holds", ())), 1, answer)
        return answer["holds"][0]["ubatch"]

    def assert_window(self, statistics, ubatches, oracle):
        tokens = [(token.id, token.output) for ubatch in ubatches for token in ubatch.tokens]
        phases = [token.generation for ubatch in ubatches for token in ubatch.tokens]
        self.assertEqual(statistics["total_tokens"], len(tokens))
        self.assertEqual(statistics["generation_tokens"], sum(phases))
        self.assertEqual(statistics["prompt_tokens"], len(phases) - sum(phases))
        if tokens:
            self.assert_counts(statistics, oracle, tokens)


class Steering(LiveTestCase):
    def cut(self, connection):
        """Statistics of a window in which something is counted, and the ubatches from which and to which it goes."""
        first = self.holds(connection.ask("start"))
        time.sleep(random.random() * 0.03)
        wait_for("a token", lambda: connection.ask("status")["models"][0]["tokens"])
        last = self.holds(connection.ask("stop"))
        statistics = connection.dump()
        self.holds(connection.ask("reset"))
        return first, last, statistics

    def test_windows(self):
        """Under load, they hold exactly the tokens that are evaluated in them."""
        forget(self.path)
        with self.server(DORMANT=1, ROUTING=self.path, TOKENS=1) as server, self.load(server):
            with self.connection() as connection:
                wait_for("a model", lambda: connection.ask("status")["models"])
                windows = [self.cut(connection) for _ in range(N_WINDOWS)]
        ubatches = [event for event in Trace(self.path).events if isinstance(event, Ubatch)]
        self.assertGreaterEqual(sum(last - first for first, last, _ in windows), N_WINDOWS)
        for first, last, statistics in windows:
            with self.subTest(first=first, last=last):
                self.assert_window(statistics, [u for u in ubatches if first <= u.number < last], GPT_OSS)

    def test_dormant(self):
        """Nothing is counted until that is asked for, and then nothing else."""
        with self.server(DORMANT=1, STATS=1) as server, self.connection() as connection:
            self.complete(server)
            self.assertEqual(connection.ask("status")["models"], [])
            self.assertFalse(connection.ask("status")["counting"])
            self.assertEqual(connection.ask("start"), {"holds": []})
            self.complete(server, "abc", 4)
            self.holds(connection.ask("stop"))
            self.complete(server, "defghi", 9)
            statistics = connection.dump()
            self.assert_counts(statistics, GPT_OSS, self.batches("abc", 4))
            self.assertEqual(statistics["generation_tokens"], 3)
            connection.ask("start")
            self.complete(server, "xy", 2)
            self.assert_counts(connection.dump(), GPT_OSS, self.batches("abc", 4) + self.batches("xy", 2))

    def batches(self, prompt, n):
        return GPT_OSS.completion(list(prompt.encode()), n)

    def test_recording(self):
        """Into a file that the asking side has open, while nothing else is on."""
        with self.server(DORMANT=1) as server, self.connection() as connection:
            connection.ask("start")
            self.complete(server)
            connection.ask("stop")
            with open(self.path, "x+b") as file:
                first = self.holds(connection.ask("record", file.fileno(), tokens=1, name=self.path))
                self.assertEqual(connection.ask("status")["models"][0]["recording"], str(self.path))
                self.assertIn("already", connection.ask("record", file.fileno(), name="again")["error"])
                self.complete(server, "abc", 4)
                last = self.holds(connection.ask("record-stop"))
            self.complete(server, "not this one", 4)
            self.assertIn("nothing", connection.ask("record-stop")["error"])
            # and once more, at a path that the process opens itself
            there = self.folder / "again.moetrace"
            self.assertEqual(connection.ask("record", path=there)["path"], str(there))
            self.complete(server, "xy", 3)
            self.assertEqual(connection.ask("record-stop")["path"], str(there))
        trace = self.read()
        ubatches = [event for event in trace.events if isinstance(event, Ubatch)]
        self.assertEqual(len(ubatches), last - first)
        self.assertEqual(sum(len(u.tokens) for u in ubatches), len(self.batches("abc", 4)))
        again = [event for event in self.read(there).events if isinstance(event, Ubatch)]
        self.assertEqual(sum(len(u.tokens) for u in again), len(self.batches("xy", 3)))

    def test_recording_under_load(self):
        """From the ubatch on that it names, however it falls between the batches: of one that has begun nobody wanted
        to know the tokens."""
        with self.server(DORMANT=1) as server, self.connection() as connection, self.load(server):
            connection.ask("start")
            wait_for("a model", lambda: connection.ask("status")["models"])
            for i in range(N_RECORDINGS):
                path = self.folder / f"{i}.moetrace"
                with open(path, "x+b") as file:
                    first = self.holds(connection.ask("record", file.fileno(), tokens=1, name=path))
                    time.sleep(random.random() / 5)
                    last = self.holds(connection.ask("record-stop"))
                if None not in (first, last) and last > first: # a server may stand still for ten seconds
                    trace = Trace(path)
                    self.assert_routing(trace, GPT_OSS)
                    self.assertEqual(sum(isinstance(event, Ubatch) for event in trace.events), last - first)

    def test_names(self):
        with self.server() as server, self.connection() as connection:
            self.complete(server, "a", 2)
            self.assertNotIn("ffn_gate", server.err())
            connection.ask("names", on=1)
            self.complete(server, "a", 2)
            connection.ask("names", on=0)
            wait_for("names in the log", lambda: "ffn_gate" in server.err() or "_exps" in server.err())
            said = server.err().count("_exps")
            self.complete(server, "a", 2)
            self.assertEqual(server.err().count("_exps"), said)

    def test_refusals(self):
        with self.server(DORMANT=1) as server, self.connection() as connection:
            self.assertIn("no model", connection.ask("dump", os.memfd_create("dump"))["error"])
            connection.ask("start")
            self.complete(server)
            for answer, why in [(connection.ask("dump"), "file"), (connection.ask("interval", seconds=-1), "interval"),
                                (connection.ask("record", path="relative"), "absolute"),
                                (connection.ask("nonsense"), "nonsense"),
                                (connection.ask("dump", os.memfd_create("dump"), model=9), "no such model")]:
                self.assertIn(why, answer["error"])
            reading, writing = os.pipe()
            self.assertIn("regular", connection.ask("dump", writing)["error"])
            os.close(reading)
            os.close(writing)


class Watching(LiveTestCase):
    def test_counters(self):
        """What the memory says at the end is what the statistics file says, and what the oracle predicts."""
        with self.server(**self.trace()) as server, self.connection() as connection:
            memory = connection.memory()
            with self.load(server):
                time.sleep(1)
                wait_for("a model", lambda: memory.models())
                for _ in range(20):
                    about, counters = memory.models()[1]
                    self.assertEqual(sum(counters.activations[0]), GPT_OSS.n_used * counters.rows[0])
            about, counters = memory.models()[1]
            self.assertEqual((about["n_layer"], about["n_expert"], about["n_used"]), (36, 128, 4))
            self.assertEqual(about["capture"], "graph")
            self.assertEqual((memory.pid, memory.program), (server.process.pid, "llama-server"))
            server.stop()
            statistics = self.stats()
            # the program is gone, its memory is still ours
            self.assertEqual(counters.totals["tokens"], statistics["total_tokens"])
            self.assertEqual(counters.totals["prompt"], statistics["prompt_tokens"])
            for layer, row in counters.activations.items():
                self.assertEqual({str(i): n for i, n in enumerate(row)}, statistics["per_layer"][str(layer)])
            memory.close()
        self.assertEqual(list(self.live.iterdir()), [])

    def test_ring(self):
        """It has what is routed while somebody watches, and nothing else."""
        with self.server() as server:
            with self.connection() as connection:
                memory = connection.memory()
                self.complete(server, "abc", 3)
                self.assertEqual(memory.rings(), [])
                connection.ask("watch")
                rings = memory.rings()
                self.assertEqual(len(rings), 1)
                self.complete(server, "hello", 6)
                records = [r for r in rings[0].records() if r.kind == live.Record.UBATCH]
                self.assertEqual(rings[0].n_lost, 0)
            ids = GPT_OSS.generate(list(b"hello"), 6)[:-1]
            rows = [row for r in records for row in zip(r.tokens, r.layers[0][2], strict=True)]
            self.assertEqual([token[2] for token, _ in rows], list(range(len(ids)))) # positions
            for (_, experts), token in zip(rows, ids, strict=True):
                self.assertEqual(list(experts), GPT_OSS.experts(0, token))
            last = [row for r in records if 35 in r.layers for row in r.layers[35][2]]
            self.assertEqual([list(row) for row in last], [GPT_OSS.experts(35, t) for t in ids[-6:]])
            wait_for("rings that nobody watches to rest", lambda: not memory.switches() & 8)
            self.complete(server, "hello", 6)
            self.assertEqual([r for r in rings[0].records() if r.kind == live.Record.UBATCH], [])
            memory.close()

    def test_models_come_and_go(self):
        """Contexts that are freed are in the sum of their model."""
        done = run("llama-bench", "-m", MIXTRAL.path, "-p", "8", "-n", "4", "-r", "2", trace=self.trace(LIVE=self.live))
        self.assertEqual(done.status, 0, done.err)
        self.assertEqual(list(self.live.iterdir()), [])


class Serving(LiveTestCase):
    """`llama-expert-tracer serve` beside the server."""

    @contextlib.contextmanager
    def serve(self, *options):
        env = environment(preload=False, LLAMA_EXPERT_TRACE_LIVE=str(self.live))
        with subprocess.Popen([COMMAND, "serve", "--listen", "127.0.0.1:0", *options], env=env, text=True,
                              stderr=subprocess.PIPE) as process:
            try:
                address = re.search(r"http://[0-9.:]+", process.stderr.readline())[0]
                yield address
            finally:
                process.terminate()
                self.assertEqual(process.wait(timeout=30), 0)

    def metrics(self, address):
        """Values by name and labels."""
        text = urllib.request.urlopen(f"{address}/metrics", timeout=60).read().decode()
        lines = [line for line in text.splitlines() if line and line[0] != "#"]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    def test_metrics(self):
        """They agree with the statistics file to the last activation; a hundred scrapes and one who dawdles change
        nothing."""
        with self.server(**self.trace()) as server, self.serve("--per-expert") as address:
            host, port = address.removeprefix("http://").split(":")
            with self.load(server), socket.create_connection((host, int(port))) as slow:
                slow.sendall(b"GET /metrics HTTP/1.1\r\nHost: ")
                with concurrent.futures.ThreadPoolExecutor(25) as pool:
                    for metrics in pool.map(lambda _: self.metrics(address), range(100)):
                        self.assertTrue(metrics)
            last = self.metrics(address)
            server.stop()
        statistics = self.stats()
        experts = {}
        for name, value in last.items():
            if name.startswith("llama_expert_tracer_expert_activations_total{"):
                labels = dict(re.findall(r'(\w+)="([^"]*)"', name))
                experts.setdefault(labels["layer"], {})[labels["expert"]] = value
        self.assertEqual({layer: {e: n for e, n in row.items() if n} for layer, row in statistics["per_layer"].items()},
                         {layer: {e: n for e, n in row.items() if n} for layer, row in experts.items()})
        for phase in ("prompt", "generation"):
            values = {name: value for name, value in last.items()
                      if name.startswith("llama_expert_tracer_tokens_total{") and f'phase="{phase}"' in name}
            self.assertEqual(list(values.values()), [statistics[f"{phase}_tokens"]], values)


class Survival(LiveTestCase):
    def test_hostile_clients(self):
        """Garbage, silence, floods and the impatient change nothing for others."""
        with self.server(**self.trace()) as server, self.load(server, 2), contextlib.ExitStack() as stack:
            connect = lambda: stack.enter_context(self.connection())  # noqa: E731
            choice = random.Random(7)
            for i in range(60):
                hostile = connect()
                with contextlib.suppress(OSError):
                    hostile.socket.setblocking(False)
                    if i % 3 == 0:
                        hostile.socket.send(choice.randbytes(choice.randint(0, 9000)))
                    elif i % 3 == 1:
                        for _ in range(400): # and never reads
                            hostile.send("status")
                    else:
                        hostile.send("dump", choice.choice([0, 1, 2]))
                if i % 2:
                    hostile.close()
                    self.assertIn("models", self.patiently("status"))
        self.assertEqual(server.process.returncode, 0)
        self.assertGreater(self.stats()["total_tokens"], 0)

    def patiently(self, verb):
        """Asks on a connection of its own; all places may be taken for a moment."""
        def ask():
            with contextlib.suppress(OSError, ValueError), self.connection() as connection:
                return connection.ask(verb)
        return wait_for("an answer", ask)

    def test_killed(self):
        """A killed watcher and a killed server."""
        watcher = "import sys; sys.path.insert(0, sys.argv[1]); import live, time\n" \
                  "c = live.Connection(sys.argv[2], live.names(sys.argv[2])[0])\n" \
                  "m = c.memory(); print(c.ask('watch'), flush=True); time.sleep(60)"
        with self.server() as server, self.connection() as connection:
            here = os.path.dirname(live.__file__)
            with subprocess.Popen([sys.executable, "-c", watcher, here, str(self.live)], stdout=subprocess.PIPE) as one:
                one.stdout.readline()
                self.assertTrue(connection.ask("status")["watched"])
                one.kill()
            wait_for("the watcher to be missed", lambda: not connection.ask("status")["watched"])
            self.complete(server)
            memory = connection.memory()
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
            self.assertEqual(memory.models()[1][1].totals["generation"], 7)
            self.assertEqual(live.names(self.live), [])
            self.assertEqual(len(list(self.live.iterdir())), 2) # left behind, nobody's
        with self.server(), self.connection():
            self.assertEqual(len(list(self.live.iterdir())), 2) # those of the new one

    def test_folder(self):
        """One that cannot be used, or must not: reported once, and traced all the same."""
        def unsafe(folder):
            folder.chmod(0o777)

        def foreign(folder):
            os.chown(folder, NOBODY, NOBODY)

        def missing(folder):
            folder.rmdir()

        for spoil in (unsafe, missing, *([foreign] if os.geteuid() == 0 else [])):
            with self.subTest(spoil.__name__):
                folder = self.folder / spoil.__name__
                folder.mkdir()
                spoil(folder)
                done = run("llama-simple", "-m", MIXTRAL.path, "-n", "4", "Hi", trace=self.trace(LIVE=folder))
                self.assertEqual(done.status, 0)
                self.assertEqual(done.err.count("cannot be watched or steered"), 1, done.err)
                self.assertIn(str(folder), done.err)
                self.assertGreater(self.stats()["total_tokens"], 0)

    @unittest.skipUnless(os.geteuid() == 0, "only root becomes somebody else")
    def test_another_user(self):
        """Is refused, and what he does in /tmp reaches nobody."""
        with self.server() as server, self.connection() as connection:
            self.folder.chmod(0o755)
            name = next(self.live.glob("*.sock"))
            for mode in (0o700, 0o755):
                self.live.chmod(mode)
                attempt = "import os, socket, sys\nos.setgroups([]); os.setgid(65534); os.setuid(65534)\n" \
                          "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n" \
                          "s.connect(sys.argv[1])"
                done = subprocess.run([sys.executable, "-c", attempt, name], capture_output=True, text=True)
                self.assertIn("PermissionError", done.stderr)
            self.complete(server)
            self.assertIn("models", connection.ask("status"))

    def test_runtime_folder(self):
        """$XDG_RUNTIME_DIR, where there is one."""
        runtime = self.folder / "runtime"
        runtime.mkdir()
        with Server("--model", MIXTRAL.path, trace={"LIVE": 1}, XDG_RUNTIME_DIR=str(runtime)) as server:
            folder = runtime / "llama-expert-tracer"
            self.assertEqual(folder.stat().st_mode & 0o777, 0o700)
            with self.connection(folder) as connection:
                self.assertEqual(connection.ask("status")["pid"], server.process.pid)


if __name__ == "__main__":
    main()
