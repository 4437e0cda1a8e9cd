#!/usr/bin/env python3
"""Has a llama-server that is starting on this machine continue a text, once it is ready.

usage: ask-server.py PORT PROMPT
"""

import json
import sys
import time
import urllib.error
import urllib.request

PATIENCE = 120 # seconds


def main():
    address = f"http://127.0.0.1:{sys.argv[1]}/completion"
    body = json.dumps({"prompt": sys.argv[2], "n_predict": 60}).encode()
    end = time.monotonic() + PATIENCE
    while True:
        try:
            request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
            return urllib.request.urlopen(request, timeout=PATIENCE).read() and 0
        except (urllib.error.URLError, ConnectionError) as error: # not there yet, or loading
            if time.monotonic() > end:
                return f"ask-server.py: {address}: {error}"
            time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
