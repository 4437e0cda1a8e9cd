#!/usr/bin/env python3
"""Makes the picture of the live page that the README shows: llama-server with the small model, three conversations of
three kinds, and `serve` in a browser without a window, from the top as far as HEIGHT pixels.

usage: picture-of-live-page.py [IMAGE [SECONDS [HEIGHT]]]     (default: docs/live.png, 100, 1650)
"""

import sys
import time
from pathlib import Path

from live_page import REPO, live_page

sys.path.append(str(REPO / "tests" / "page"))

from browser import Browser, Tab # noqa: E402


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
    with live_page() as page:
        photograph(page.address, image, seconds, height)
    print(image)


if __name__ == "__main__":
    main()
