#!/usr/bin/env python3
"""The live page of a busy llama-server, open for hours in a real browser: neither the page, nor `serve`, nor the server
may take more and more memory, and the page has to move to the end. Exits with 1 otherwise."""

import argparse
import sys
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPO / "scripts"), str(REPO / "tests" / "page")]
from browser import Browser, Tab # noqa: E402
from live_page import live_page # noqa: E402

WARM_UP = 6         # minutes, until what is kept of the past is full
MINUTE = 60
MORE_HEAP = 2 << 20 # bytes that a page may hold more than after the warm-up
MORE_RESIDENT = 4 << 20


def resident(process):
    """Bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) << 10


class Sizes:
    def __init__(self, page, tab):
        for _ in range(2):
            tab.call("HeapProfiler.collectGarbage")
        counters = tab.call("Memory.getDOMCounters")
        self.heap = tab.call("Runtime.getHeapUsage")["usedSize"]
        self.elements = counters["nodes"]
        self.listeners = counters["jsEventListeners"]
        self.serve = resident(page.serve)
        self.server = resident(page.server)
        self.tokens = tab.run("Number([...document.querySelectorAll('dt')].find(({ textContent }) => textContent === "
                              "'Tokens').nextElementSibling.textContent.replace(/,/g, ''))")
        self.state = tab.run("document.querySelector('.status').dataset.state")

    def __str__(self):
        return (f"{self.tokens:,} tokens; page {self.heap / 1e6:.1f} MB, {self.elements} elements, {self.listeners} "
                f"listeners; serve {self.serve >> 10} KiB, server {self.server >> 10} KiB; {self.state}")


def faults(before, after):
    return [text for text, wrong in (
        ("the page stands still", after.tokens <= before.tokens or after.state != "connected"),
        ("the page's memory grows", after.heap > before.heap + MORE_HEAP),
        ("the page's elements become more", after.elements > 1.1 * before.elements),
        ("the page's listeners become more", after.listeners > before.listeners),
        ("serve grows", after.serve > before.serve + MORE_RESIDENT),
        ("the server grows", after.server > before.server + MORE_RESIDENT),
    ) if wrong]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=60, help="how long, beside a warm-up of six (default: 60)")
    minutes = parser.parse_args().minutes
    with live_page() as page:
        browser = Browser()
        tab = Tab(browser, page.address)
        time.sleep(WARM_UP * MINUTE)
        first = last = Sizes(page, tab)
        print(f"warm: {first}", flush=True)
        for minute in range(1, minutes + 1):
            time.sleep(MINUTE)
            browser.events.clear()
            if minute % 10 == 0 or minute == minutes:
                last = Sizes(page, tab)
                print(f"{minute} minutes: {last}", flush=True)
        browser.close()
    found = faults(first, last)
    print("; ".join(found) or "as it should be")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
