#!/usr/bin/env python3
"""llama-server under steady load, every routing decision recorded: its memory may not grow, and nothing may be missing.

Four clients with changing prompts keep a traced server busy, and four more an untraced one, which shows what a server
grows by itself. The trace goes on in a further file every few minutes; parts that are finished are checked and deleted.
Beside them a traced program loads and frees its model again and again: its memory and address
space may not grow either. Exits with 1 where something is not as it should be, and leaves what is there of the trace.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from client import environment

REPOSITORY = Path(__file__).resolve().parents[1]
BUILD = Path(os.environ.get("BUILD", REPOSITORY / "build")).resolve()
LIBRARY = BUILD / "libllama-expert-tracer.so"
COMMAND = BUILD / "llama-expert-tracer"
SERVER = BUILD / "engine" / "bin" / "llama-server"
MODEL = BUILD / "models" / "oracle-mixtral.gguf"
OLD_ENGINE = BUILD / "engines" / "0.5.0" / "lib"
SCENARIOS = REPOSITORY / "tests" / "clients" / "ctypes_scenarios.py"

N_CLIENTS = 4
ROTATE_SIZE = "2MiB"
SAMPLE_EVERY = 5    # seconds
ANSWER_WITHIN = 900 # likewise: the machine may have other things to do
MOST_GROWTH = 1024  # KiB
MOST_OF_RELOADS = {"address space": 16 << 10, "memory": 3 << 10}  # KiB: the allocator's and the engine's ups and downs
WORDS = "all of the experts that a token meets on its way are counted and told apart by their layer".split()
SHARED = "Answer in one sentence, and say which layer you mean. "


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A llama-server with a slot for each client. `variables`: the tracer's settings, None: it is not there."""

    def __init__(self, folder, variables):
        self.port = free_port()
        self.log = folder / "server.log"
        env = environment([LIBRARY] if variables else [])
        env.update({f"LLAMA_EXPERT_TRACE_{key}": str(value) for key, value in (variables or {}).items()})
        command = [SERVER, "-m", MODEL, "-c", 1024 * N_CLIENTS, "-np", N_CLIENTS, "-t", 1,
                   "--cache-ram", 0, "--port", self.port]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(list(map(str, command)), env=env,
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def post(self, **body):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/completion", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=ANSWER_WITHIN) as answer:
            return json.loads(answer.read())

    def wait_until_ready(self):
        for _ in range(600):
            if self.process.poll() is not None:
                break
            health = f"http://127.0.0.1:{self.port}/health"
            with contextlib.suppress(OSError), urllib.request.urlopen(health, timeout=5):
                return
            time.sleep(0.1)
        raise RuntimeError(f"llama-server does not answer; its log is {self.log}")

    def memory(self):
        """KiB that are resident: all, and those that are no file's."""
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines())
        return int(fields["VmRSS"].split()[0]), int(fields["RssAnon"].split()[0])

    def stop(self):
        """Returns the exit status."""
        self.process.terminate()
        try:
            return self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


class Load:
    """Clients that ask and ask, each its own prompts; and how many tokens the server says it has evaluated for them."""

    def __init__(self, server):
        self.server = server
        self.tokens = 0
        self.requests = 0
        self.failed = None
        self.lock = threading.Lock()
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self._ask, args=(random.Random(i),), daemon=True)
                        for i in range(N_CLIENTS)]

    def start(self):
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def _ask(self, chance):
        try:
            while not self.over.is_set():
                shared = chance.random() < 0.5
                prompt = SHARED * shared + " ".join(chance.choices(WORDS, k=chance.randrange(4, 80)))
                answer = self.server.post(prompt=prompt, n_predict=chance.randrange(8, 64), cache_prompt=shared, seed=1)
                self._count(answer["timings"])
        except (OSError, KeyError, ValueError) as error:
            self.failed = f"{type(error).__name__}: {error}"

    def _count(self, timings):
        with self.lock:
            self.requests += 1
            # the last one is not evaluated any more
            self.tokens += timings["prompt_n"] + max(timings["predicted_n"] - 1, 0)


class Parts:
    """The files of the trace. What is finished is looked at, and deleted where it is as it should be."""

    def __init__(self, folder):
        self.folder = folder
        self.checked = 0
        self.tokens = 0
        self.warmup = 0
        self.size = 0
        self.faults = []
        self.kept = set()

    def check(self, all_of_them=False):
        """All but the last one, or that one too."""
        paths = sorted(self.folder.glob("*.moetrace"))
        for path in paths if all_of_them else paths[:-1]:
            if path not in self.kept:
                faults = list(self._faults(path, "complete" if path == paths[-1] else "rotated"))
                self.checked += 1
                self.faults += faults
                if faults:
                    self.kept.add(path)
                else:
                    path.unlink()

    def _faults(self, path, ended):
        done = subprocess.run([COMMAND, "info", "--json", path], capture_output=True, text=True)
        if done.returncode != 0:
            yield f"{path.name} does not open: {done.stderr.strip()}"
            return
        info = json.loads(done.stdout)
        self.tokens += info["tokens"]["prompt"] + info["tokens"]["generation"]
        self.warmup += info["tokens"]["warmup"]
        self.size += info["size"]
        nothing = {"ubatches": 0, "tokens": 0}
        wanted = {"part": self.checked, "ended": ended, "dropped": nothing, "left_out": nothing,
                  "lost": {"damaged": False, "ubatches": 0}}
        for key, value in wanted.items():
            if info[key] != value:
                yield f"{path.name}: {key} is {info[key]}, not {value}"


class Memory:
    """Of one server, in KiB, from the end of its warm-up on."""

    def __init__(self, server):
        self.server = server
        self.resident = []
        self.anonymous = []  # what is no file's

    def sample(self):
        resident, anonymous = self.server.memory()
        self.resident.append(resident)
        self.anonymous.append(anonymous)

    def growth(self):
        return self._growth(self.resident)

    @staticmethod
    def _growth(samples):
        """From the first tenth of the time to the last."""
        n = max(1, len(samples) // 10)
        return statistics.median(samples[-n:]) - statistics.median(samples[:n])

    def describe(self):
        if not self.resident:
            return "it ended in its warm-up"
        return (f"{min(self.resident) / 1024:.1f} to {max(self.resident) / 1024:.1f} MiB of memory, "
                f"{self.growth():+.0f} KiB ({self._growth(self.anonymous):+.0f} KiB of it no file's) "
                f"from the first tenth of the time to the last")


class Reloads:
    """A traced program that loads its model, generates a few tokens and frees it, again and again."""

    def __init__(self, folder):
        self.folder = folder
        self.log = folder / "reloads.log"
        self.sizes = []  # KiB of address space and of memory, after each
        variables = {"OUTPUT": folder / "stats.json", "ROUTING": folder / "run.moetrace", "PER_LAYER": 1,
                     "WEIGHTS": 1, "INTERVAL": 1}
        env = environment([LIBRARY])
        env.update({f"LLAMA_EXPERT_TRACE_{key}": str(value) for key, value in variables.items()})
        with self.log.open("wb") as log:
            command = [sys.executable, SCENARIOS, "reload_linked", OLD_ENGINE, MODEL, str(10 ** 9)]
            self.process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                            stderr=log, text=True)
        self.reader = threading.Thread(target=self._read, daemon=True)

    def start(self):
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.sizes.append(tuple(map(int, line.split())))
            if len(self.sizes) % 100 == 0:
                self._clear()

    def _clear(self):
        for pattern in "stats*.json", "run*.moetrace":
            for path in self.folder.glob(pattern):
                path.unlink()
        os.truncate(self.log, 0)

    def stop(self):
        """Returns the exit status: -15 is as it should be."""
        self.process.terminate()
        return self.process.wait(timeout=60)

    def growth(self):
        """From the first tenth of the time, but for a few at its beginning, to the last."""
        n = max(1, len(self.sizes) // 10)
        return {what: min(column[-n:]) - min(column[5:5 + n])
                for what, column in zip(MOST_OF_RELOADS, zip(*self.sizes))}

    def faults(self):
        if len(self.sizes) < 20:
            yield f"the program that reloads its model did so {len(self.sizes)} times; its log is {self.log}"
            return
        for what, growth in self.growth().items():
            if growth > MOST_OF_RELOADS[what]:
                yield f"the program that reloads its model grows by {growth} KiB of {what}"

    def describe(self):
        grown = "too few"
        if len(self.sizes) > 5:
            grown = ", ".join(f"{growth:+d} KiB of {what}" for what, growth in self.growth().items())
        return f"reloads:  {len(self.sizes)} of a model, {grown}"


class Soak:
    """A traced server and an untraced one, both under load for as long, and a program that reloads its model."""

    def __init__(self, folder, seconds, warm_up):
        self.seconds = seconds
        self.warm_up = warm_up
        self.parts = Parts(folder)
        (folder / "untraced").mkdir()
        variables = {"ROUTING": folder / "soak.moetrace", "WEIGHTS": 1, "TOKENS": 1, "ROTATE_SIZE": ROTATE_SIZE}
        self.servers = {"traced": Server(folder, variables), "untraced": Server(folder / "untraced", None)}
        self.loads = {name: Load(server) for name, server in self.servers.items()}
        self.memories = {name: Memory(server) for name, server in self.servers.items()}
        (folder / "reloads").mkdir()
        self.reloads = Reloads(folder / "reloads")
        self.faults = []

    def run(self):
        try:
            for server in self.servers.values():
                server.wait_until_ready()
            self._watch()
        finally:
            statuses = {name: server.stop() for name, server in self.servers.items()}
            reloaded = self.reloads.stop()
        self.faults += [f"the program that reloads its model ended with {reloaded}"] if reloaded != -15 else []
        self.faults += [f"the {name} server's exit status is {status}"
                        for name, status in statuses.items() if status != 0]
        self.parts.check(all_of_them=True)

    def _watch(self):
        begin = time.monotonic()
        for load in self.loads.values():
            load.start()
        self.reloads.start()
        while ((passed := time.monotonic() - begin) < self.seconds
               and not any(load.failed for load in self.loads.values())):
            time.sleep(SAMPLE_EVERY)
            self.parts.check()
            if passed >= self.warm_up:
                for memory in self.memories.values():
                    memory.sample()
        for load in self.loads.values():
            load.stop()

    def judge(self):
        """What is wrong."""
        evaluated, recorded = self.loads["traced"].tokens, self.parts.tokens
        faults = [*self.faults, *self.parts.faults, *self.reloads.faults(),
                  *(f"a client: {load.failed}" for load in self.loads.values() if load.failed)]
        if evaluated != recorded:
            faults.append(f"the trace has {recorded} tokens of {evaluated}")
        if not self.memories["traced"].resident:
            return faults + ["it ended in its warm-up"]
        growth, of_itself = (self.memories[name].growth() for name in ("traced", "untraced"))
        if growth > max(of_itself, 0) + MOST_GROWTH:
            faults.append(f"the traced server grows by {growth:.0f} KiB, the untraced one by {of_itself:.0f} KiB")
        return faults

    def report(self):
        parts, load = self.parts, self.loads["traced"]
        yield f"{load.requests} requests of {N_CLIENTS} clients, {load.tokens} tokens evaluated"
        yield (f"{parts.tokens} tokens recorded, and {parts.warmup} of a warm-up, in {parts.checked} parts, "
               f"{parts.size / 2**20:.1f} MiB together")
        for name, memory in self.memories.items():
            yield f"{name + ':':10}{memory.describe()}"
        yield self.reloads.describe()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60, help="(%(default)s)")
    parser.add_argument("--warm-up", type=float, metavar="MINUTES",
                        help="not looked at (default: a third of all, at most 10)")
    arguments = parser.parse_args()
    warm_up = min(10, arguments.minutes / 3) if arguments.warm_up is None else arguments.warm_up
    folder = Path(tempfile.mkdtemp(prefix="expert-tracer-soak-"))
    soak = Soak(folder, 60 * arguments.minutes, 60 * warm_up)
    soak.run()
    print(*soak.report(), sep="\n")
    faults = soak.judge()
    for fault in faults:
        print(f"fault: {fault}")
    print(f"{'not ' if faults else ''}as it should be, "
          f"after {arguments.minutes:g} minutes, {warm_up:g} of them warm-up")
    if faults:
        print(f"see {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
