"""bench-client and ggml-rpc-server as processes that are told what to do."""

import collections
import contextlib
import json
import os
import socket
import subprocess
import threading
import time


def environment(preload=()):
    """The caller's environment without its settings of the tracer, but for how it captures, and with this preloaded."""
    env = {k: v for k, v in os.environ.items()
           if k == "LLAMA_EXPERT_TRACE_CAPTURE" or not k.startswith("LLAMA_EXPERT_TRACE") and k != "LD_PRELOAD"}
    if preload:
        env["LD_PRELOAD"] = ":".join(map(str, preload))
    return env


class Pipe:
    """The reading end of a program's stderr: a pipe of 64 KiB, emptied as fast as it fills."""

    def __init__(self, stream):
        self.stream = stream
        self.lines = 0
        self.last = collections.deque(maxlen=8)
        self.thread = threading.Thread(target=self._empty, daemon=True)
        self.thread.start()

    def _empty(self):
        while piece := os.read(self.stream.fileno(), 65536):
            self.lines += piece.count(b"\n")
            self.last.append(piece[-1000:])

    def tail(self):
        self.thread.join(timeout=5)
        return b"".join(self.last).decode(errors="replace")[-2000:]


class Client:
    """A bench-client that has loaded a model, as long as a with statement lasts."""

    def __init__(self, program, model, options, preload=()):
        self.command = [str(program), "--model", str(model), *map(str, options)]
        self.process = subprocess.Popen(self.command, env=environment(preload), text=True, bufsize=1,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.pipe = Pipe(self.process.stderr)

    def __enter__(self):
        try:
            self.devices = self._answer()["devices"]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=120)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.pipe.thread.join()
        self.process.stdout.close()
        self.process.stderr.close()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(self.command)} ended:\n{self.pipe.tail()}")
        return json.loads(line)

    def run(self, way, n_prompt, n_generate):
        """Evaluates a prompt and generates. Returns what bench-client answers, and how many lines it logged."""
        lines = self.pipe.lines
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(f"run {way} {n_prompt} {n_generate}\n")
        return {**self._answer(), "lines": self.pipe.lines - lines}


class RpcServer:
    """A ggml-rpc-server on a free port of this machine, as long as a with statement lasts."""

    def __init__(self, program, threads):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.endpoint = f"127.0.0.1:{self.port}"
        self.process = subprocess.Popen([str(program), "-H", "127.0.0.1", "-p", str(self.port), "-t", str(threads)],
                                        env=environment(), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.pipe = Pipe(self.process.stderr)

    def __enter__(self):
        for _ in range(300):
            if self.process.poll() is not None:
                raise RuntimeError(f"ggml-rpc-server ended:\n{self.pipe.tail()}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return self
            time.sleep(0.1)
        self.__exit__()
        raise RuntimeError("ggml-rpc-server does not listen")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.pipe.thread.join()
        self.process.stderr.close()
