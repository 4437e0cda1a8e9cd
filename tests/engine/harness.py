"""Runs stock llama.cpp programs, traced or not, and predicts what the oracle models route.

The prediction is written here from the formulas in models/README.md, not shared with the code that wrote the
models, so that a mistake in one of them shows.
"""

import contextlib
import fcntl
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.request
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("EXPERT_TRACER_BUILD", REPOSITORY / "build"))
LIBRARY = BUILD / "libllama-expert-tracer.so"
COMMAND = BUILD / "llama-expert-tracer"
ENGINE = BUILD / "engine" / "bin"
OLD_ENGINES = BUILD / "engines"
MODELS = BUILD / "models"
CLIENTS = REPOSITORY / "tests" / "clients"
SPY = BUILD / "tests" / "engine" / "spy.so"
GATES = BUILD / "tests" / "engine" / "gates.so"

BOS, EOS = 256, 257


class Oracle:
    """A model whose routing is known on paper."""

    def __init__(self, name, architecture, n_layer, n_expert, n_used):
        self.name = name
        self.architecture = architecture
        self.n_layer = n_layer
        self.n_expert = n_expert
        self.n_used = n_used
        self.path = MODELS / f"oracle-{name}.gguf"

    def expert(self, layer, token, rank):
        """The expert with the rank-th highest gate weight, 0 being the highest."""
        multiplier = 37 + 2 * (layer // 8)
        step = 1 + 2 * (layer % 2)
        return (multiplier * token + 11 * layer + 5 + step * rank) % self.n_expert

    def experts(self, layer, token):
        return [self.expert(layer, token, rank) for rank in range(self.n_used)]

    @staticmethod
    def next(token):
        """The token that follows, whatever the sampler."""
        if 32 <= token < 126:
            return token + 1
        return 32 if token == 126 else ord("A")

    def generate(self, prompt, n):
        """The tokens evaluated for a prompt and n generated ones: the last one is never evaluated."""
        tokens = list(prompt)
        for _ in range(n):
            tokens.append(self.next(tokens[-1]))
        return tokens

    def counts(self, batches):
        """Counts per layer of what `batches` evaluate.

        batches: iterable of (token, asks for logits) pairs. The last layer sees only the tokens that ask.
        """
        counts = [[0] * self.n_expert for _ in range(self.n_layer)]
        rows = [0] * self.n_layer
        for token, asks in batches:
            for layer in range(self.n_layer):
                if layer == self.n_layer - 1 and not asks:
                    continue
                rows[layer] += 1
                for expert in self.experts(layer, token):
                    counts[layer][expert] += 1
        return counts, rows

    def completion(self, prompt, n):
        """What a completion of a prompt evaluates: of the prompt, the last token asks."""
        tokens = self.generate(prompt, n)[:-1] if n else list(prompt)
        first = len(prompt) - 1
        return [(token, i >= first) for i, token in enumerate(tokens)]


MIXTRAL = Oracle("mixtral", "llama", 32, 8, 2)
GPT_OSS = Oracle("gpt-oss", "gpt-oss", 36, 128, 4)
QWEN3NEXT = Oracle("qwen3next", "qwen3next", 48, 512, 10)
ORACLES = [MIXTRAL, GPT_OSS, QWEN3NEXT]


def environment(trace=None, preload=True, **extra):
    """An environment with these LLAMA_EXPERT_TRACE_… variables, and none of the caller's."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("LLAMA_EXPERT_TRACE") and k != "LD_PRELOAD"}
    env.update({f"LLAMA_EXPERT_TRACE_{k}": str(v) for k, v in (trace or {}).items()})
    if preload:
        env["LD_PRELOAD"] = str(LIBRARY)
    env.update(extra)
    return env


class Result:
    def __init__(self, process):
        self.status = process.returncode
        self.out = process.stdout.decode(errors="replace")
        self.err = process.stderr.decode(errors="replace")

    def said(self):
        """What we said, without what a stock program's logger puts before each line."""
        return [strip_prefix(line) for line in self.err.splitlines()]


def strip_prefix(line):
    """'0.00.123.456 I text' is 'text'."""
    head, _, rest = line.partition(" ")
    if head.count(".") == 3 and head.replace(".", "").isdigit() and rest[:2] in ("I ", "W ", "E ", "D "):
        return rest[2:]
    return line


def run(*arguments, trace=None, preload=True, timeout=600, stdin=subprocess.DEVNULL, cwd=None, **extra):
    """Runs a program to its end. The first argument is a path, or the name of a stock program."""
    program = arguments[0] if "/" in str(arguments[0]) else ENGINE / arguments[0]
    return Result(subprocess.run([str(program), *map(str, arguments[1:])], env=environment(trace, preload, **extra),
                                 stdin=stdin, capture_output=True, timeout=timeout, cwd=cwd))


class Server:
    """A llama-server, or another program that listens, as long as a with statement lasts."""

    def __init__(self, *arguments, trace=None, preload=True, program="llama-server",
                 health="/health", timeout=120, **extra):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = tempfile.TemporaryFile()
        self.out = tempfile.TemporaryFile()
        path = program if "/" in str(program) else ENGINE / program
        self.process = subprocess.Popen([str(path), *map(str, arguments), "--port", str(self.port)],
                                        env=environment(trace, preload, **extra), stdin=subprocess.DEVNULL,
                                        stdout=self.out, stderr=self.log)
        self.health = health
        self.timeout = timeout

    def __enter__(self):
        deadline = time.monotonic() + self.timeout
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"server ended early:\n{self.err()}")
            with contextlib.suppress(OSError):
                if json.loads(urllib.request.urlopen(self.url + self.health, timeout=5).read()).get("status") == "ok":
                    return self
            time.sleep(0.1)
        raise RuntimeError(f"server does not answer:\n{self.err()}")

    def __exit__(self, *_):
        self.stop()
        self.log.close()
        self.out.close()

    def stop(self, signal=15):
        """Ends it, and returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal)
        try:
            return self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def post(self, path, **body):
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        return json.loads(urllib.request.urlopen(request, timeout=300).read())

    def err(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def said(self):
        return [strip_prefix(line) for line in self.err().splitlines()]

    def stdout(self):
        self.out.seek(0)
        return self.out.read().decode(errors="replace")


def forget(path):
    """Removes what an earlier run has left: the next one would tell of it, or go elsewhere.
    What is being written stays."""
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file, contextlib.suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()


def wait_for(what, condition, timeout=60):
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what} did not happen in {timeout} s")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def rpc_servers(folder, n):
    """Addresses of that many devices on loopback."""
    ports = [free_port() for _ in range(n)]
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(open(folder / "rpc.log", "wb"))
        for port in ports:
            server = subprocess.Popen([ENGINE / "ggml-rpc-server", "-t", "1", "-p", str(port)],
                                      env=environment(preload=False), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            stack.callback(server.wait)
            stack.callback(server.kill)
        deadline = time.monotonic() + 30
        for port in ports:
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                if time.monotonic() > deadline:
                    raise RuntimeError("ggml-rpc-server does not answer")
                time.sleep(0.05)
        yield ",".join(f"127.0.0.1:{port}" for port in ports)


class TestCase(unittest.TestCase):
    maxDiff = 4000

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="expert-tracer-test-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.stats_path = self.folder / "stats.json"

    def stats(self, path=None):
        return json.loads((path or self.stats_path).read_text())

    def trace(self, **more):
        """Variables for counts per layer into this test's file."""
        forget(self.stats_path)
        return {"STATS": 1, "PER_LAYER": 1, "OUTPUT": self.stats_path, **more}

    def assert_counts(self, stats, oracle, batches):
        """The file says of every expert in every layer what the oracle predicts."""
        counts, rows = oracle.counts(batches)
        self.assertEqual({int(k): v for k, v in stats["layer_tokens"].items()}, {i: n for i, n in enumerate(rows) if n})
        for layer, row in enumerate(counts):
            if rows[layer]:
                self.assertEqual([stats["per_layer"][str(layer)][str(e)] for e in range(oracle.n_expert)],
                                 row, f"layer {layer}")
        total = [sum(row[e] for row in counts) for e in range(oracle.n_expert)]
        self.assertEqual([stats["expert_activations"][str(e)] for e in range(oracle.n_expert)], total)
        self.assertEqual(stats["total_activations"], sum(total))
        self.assertEqual(stats["total_tokens"], len(batches))
        self.assertEqual((stats["n_layer"], stats["n_expert"], stats["n_expert_used"]),
                         (oracle.n_layer, oracle.n_expert, oracle.n_used))

    def assert_phases(self, stats, prompt, generation, warmup=None):
        self.assertEqual((stats["prompt_tokens"], stats["generation_tokens"]), (prompt, generation))
        if warmup is not None:
            self.assertEqual(stats["warmup_tokens"], warmup)


def main():
    unittest.main(verbosity=2)
