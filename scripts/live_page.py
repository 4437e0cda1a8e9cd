"""The live page of a real load, for those who look at it: a stock llama-server with the small trained model answers
texts of three kinds on three slots, and `serve` shows it. Nobody else's programs are seen, and nothing is left."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

REPO = Path(__file__).resolve().parents[1]
BUILD = Path(os.environ.get("BUILD", REPO / "build")).resolve()
ENGINE = Path(os.environ.get("LLAMA_CPP_BIN", BUILD / "engine" / "bin"))
COMMAND = BUILD / "llama-expert-tracer"
MODEL = REPO / "models" / "babel-11m.gguf"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextlib.contextmanager
def live_page():
    """The page's `address`, and the processes `server` and `serve` behind it."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "LLAMA_EXPERT_TRACE_LIVE": folder}
        quiet = {"env": environment, "stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        server = subprocess.Popen([COMMAND, "run", "--quiet", "--", ENGINE / "llama-server", "-m", MODEL, "-t", "1",
                                   "-np", "3", "-c", "6144", "--cache-ram", "0", "--port", str(port)],
                                  stderr=subprocess.DEVNULL, **quiet)
        talk = subprocess.Popen([sys.executable, REPO / "scripts" / "talk-to-server.py", str(port)], **quiet)
        serve = subprocess.Popen([COMMAND, "serve", "--listen", "127.0.0.1:0"], text=True, stderr=subprocess.PIPE,
                                 **quiet)
        try:
            yield SimpleNamespace(address=re.search(r"http://\S+", serve.stderr.readline())[0], server=server,
                                  serve=serve)
        finally:
            for process in (serve, talk, server): # the clients first: 0.7.0 may not end while it answers
                process.terminate()
                process.wait(30)
