#!/usr/bin/env python3
"""Prints the README's table of engines and clients: what one binary of ours counts in each of them.

Every cell is run: "ok" says that the counts of every expert in every layer are those that the routing's formulas
predict, that the program's answer is the right one, and that the model and the phases are told as they should be.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "engine"))

from engines import CLIENTS_TRIED, RELEASES, check  # noqa: E402
from harness import TestCase  # noqa: E402


def fault(client, release, oracle):
    """What is wrong, in a line, or None."""
    case = TestCase()
    case.setUp()
    try:
        check(case, client, release, oracle)
    except Exception as error:
        return f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}"
    finally:
        case.doCleanups()
    return None


def cell(client, release):
    if release not in client.releases:
        return ""
    faults = {oracle.name: fault(client, release, oracle) for oracle in RELEASES[release]}
    wrong = [f"{name}: {what}" for name, what in faults.items() if what]
    return "ok" if not wrong else "**fails** " + "; ".join(wrong).replace("|", "\\|")


def row(cells):
    return "| " + " | ".join(cells) + " |"


def main():
    heads = ["llama.cpp", *(client.name for client in CLIENTS_TRIED), "architectures"]
    print(row(heads), row(["---"] * len(heads)), sep="\n", flush=True)
    all_ok = True
    for release, oracles in RELEASES.items():
        cells = [cell(client, release) for client in CLIENTS_TRIED]
        all_ok = all_ok and all(text in ("", "ok") for text in cells)
        print(row([release, *cells, ", ".join(oracle.architecture for oracle in oracles)]), flush=True)
    return 0 if all_ok else 1


if __name__ == "__main__":
    sys.exit(main())
