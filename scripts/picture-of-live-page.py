#!/usr/bin/env python3
"""Makes the picture of the live page that the README shows: llama-server with the small model, three conversations of
three kinds, and `serve` in a browser without a window, from the top as far as HEIGHT pixels.

usage: picture-of-live-page.py [IMAGE [SECONDS [HEIGHT]]]     (default: docs/live.png, 100, 1650)
"""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
BUILD = Path(os.environ.get("BUILD", REPO / "build")).resolve()
ENGINE = Path(os.environ.get("LLAMA_CPP_BIN", BUILD / "engine" / "bin"))
COMMAND = BUILD / "llama-expert-tracer"
MODEL = REPO / "models" / "babel-11m.gguf"
sys.path.append(str(REPO / "tests" / "page"))

from browser import Browser, Tab # noqa: E402


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def photograph(address, image, seconds, height):
    browser = Browser()
    tab = Tab(browser, address, height=height)
    time.sleep(seconds)
    tab.run("scrollTo(0, 0)")
    state = tab.run("document.querySelector('.status').dataset.state")
    tab.screenshot(image, whole=False)
    browser.close()
    if state != "connected":
        sys.exit(f"picture-of-live-page: the page is {state}, not connected: {image} shows that")


def main():
    given = sys.argv[1:] + [REPO / "docs" / "live.png", 100, 1650][len(sys.argv) - 1:]
    image, seconds, height = Path(given[0]), int(given[1]), int(given[2])
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "LLAMA_EXPERT_TRACE_LIVE": folder}
        quiet = {"env": environment, "stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        server = subprocess.Popen([COMMAND, "run", "--quiet", "--", ENGINE / "llama-server", "-m", MODEL, "-t", "1",
                                   "-np", "3", "-c", "6144", "--port", str(port)], stderr=subprocess.DEVNULL, **quiet)
        talk = subprocess.Popen([sys.executable, REPO / "scripts" / "talk-to-server.py", str(port)], **quiet)
        serve = subprocess.Popen([COMMAND, "serve", "--listen", "127.0.0.1:0"], text=True, stderr=subprocess.PIPE,
                                 **quiet)
        try:
            address = re.search(r"http://\S+", serve.stderr.readline())[0]
            photograph(address, image, seconds, height)
        finally:
            for process in (serve, talk, server):
                process.send_signal(signal.SIGTERM)
                process.wait(30)
    print(image)


if __name__ == "__main__":
    main()
