#!/usr/bin/env python3
"""Makes the picture of the live page that the README shows: llama-server with the small model, three conversations of
three kinds, and `serve` in a browser without a window, from the top as far as HEIGHT pixels.

usage: picture-of-live-page.py [IMAGE [SECONDS [HEIGHT]]]     (default: docs/live.png, 100, 1650)
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
BUILD = Path(os.environ.get("BUILD", REPO / "build")).resolve()
ENGINE = Path(os.environ.get("LLAMA_CPP_BIN", BUILD / "engine" / "bin"))
COMMAND = BUILD / "llama-expert-tracer"
MODEL = REPO / "models" / "babel-11m.gguf"
PROMPTS = ("And it came to pass, when the king heard ", "Das Paket wird mit dem Befehl ",
           "static int\nread_file (const char *name)\n{\n")
sys.path.append(str(REPO / "tests" / "page"))

from browser import Browser, Tab # noqa: E402


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def converse(port, slot, ends):
    """One conversation after the other, of a kind, on a slot."""
    while not ends.is_set():
        body = {"prompt": PROMPTS[slot], "n_predict": 400, "ignore_eos": True, "id_slot": slot, "temperature": 0.6}
        request = urllib.request.Request(f"http://127.0.0.1:{port}/completion", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        try:
            urllib.request.urlopen(request, timeout=120).read()
        except (urllib.error.URLError, ConnectionError): # not there yet, loading, or no more
            time.sleep(0.2)


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
    port, ends, talks = free_port(), threading.Event(), []
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "LLAMA_EXPERT_TRACE_LIVE": folder}
        server = subprocess.Popen([COMMAND, "run", "--quiet", "--", ENGINE / "llama-server", "-m", MODEL, "-t", "1",
                                   "-np", "3", "-c", "6144", "--port", str(port)], env=environment,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        serve = subprocess.Popen([COMMAND, "serve", "--listen", "127.0.0.1:0"], env=environment, text=True,
                                 stderr=subprocess.PIPE)
        try:
            address = re.search(r"http://\S+", serve.stderr.readline())[0]
            talks = [threading.Thread(target=converse, args=(port, slot, ends)) for slot in range(len(PROMPTS))]
            for talk in talks:
                talk.start()
            photograph(address, image, seconds, height)
        finally:
            ends.set()
            for talk in talks: # a server that answers does not end
                talk.join()
            for process in (serve, server):
                process.send_signal(signal.SIGTERM)
                process.wait(30)
    print(image)


if __name__ == "__main__":
    main()
