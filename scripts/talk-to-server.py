#!/usr/bin/env python3
"""Has a llama-server of this machine continue texts of three kinds by turns, on as many slots, until it is stopped or
the server is gone. Prints a line for each answer.

usage: talk-to-server.py PORT
"""

import json
import sys
import threading
import time
import urllib.error
import urllib.request

PATIENCE = 120  # seconds, until the server is ready
TURN = 15       # seconds that one kind lasts
KINDS = {
    "english": "And it came to pass, when the king heard ",
    "german": "Das Paket wird mit dem Befehl ",
    "c": "static int\nread_file (const char *name)\n{\n",
}
N_SLOTS = 3


def ask(port, prompt):
    body = json.dumps({"prompt": prompt, "n_predict": 200, "temperature": 0.6, "ignore_eos": True}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/completion", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.load(answer)["tokens_predicted"]


def kind_of(since, slot):
    """One of three, another one each turn; a slot changes a little later than the one before."""
    return list(KINDS)[int((time.monotonic() - since + slot * TURN / 10) / TURN) % len(KINDS)]


def talk(port, since, slot):
    while True:
        kind = kind_of(since, slot)
        try:
            print(f"{kind}: {ask(port, KINDS[kind])} tokens", flush=True)
        except (urllib.error.URLError, ConnectionError) as error:
            if time.monotonic() - since > PATIENCE:
                sys.stderr.write(f"talk-to-server.py: {error}\n")
                return
            time.sleep(0.2)  # it is starting, or gone


def main():
    since = time.monotonic()
    threads = [threading.Thread(target=talk, args=(int(sys.argv[1]), since, slot), daemon=True)
               for slot in range(N_SLOTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
