#!/usr/bin/env python3
"""What tracing costs: tokens per second of stock llama-bench, traced, as a share of untraced runs.

usage: overhead.py [--model MODEL.gguf] [--rounds N] [--threads N]

Every round runs each way once, an untraced run before each, and compares the two: the machine's speed changes over
time more than tracing costs. Printed are the medians, and what they mean in microseconds for a token. The default
model has the layers, experts and top-k of GPT-OSS-120B at a width that makes a token cheap: it shows the most that
tracing can cost, not what it costs on the real model.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

BUILD = Path(os.environ.get("BUILD", Path(__file__).resolve().parents[1] / "build"))
BENCH = BUILD / "engine" / "bin" / "llama-bench"
LIBRARY = BUILD / "libllama-expert-tracer.so"

WAYS = {
    "preloaded, nothing asked for": {},
    "STATS": {"STATS": "1"},
    "STATS, PER_LAYER": {"STATS": "1", "PER_LAYER": "1"},
    "STATS, OUTPUT": {"STATS": "1", "OUTPUT": str(BUILD / "bench-stats.json")},
    "NAMES, into a pipe": {"NAMES": "1"},
}


def bench(arguments, variables):
    """Tokens per second of a prompt of 512 and of 64 generated tokens. `variables`: None for a run without us."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("LLAMA_EXPERT_TRACE")}
    if variables is not None:
        env["LD_PRELOAD"] = str(LIBRARY)
        env.update({f"LLAMA_EXPERT_TRACE_{k}": v for k, v in variables.items()})
    reader = subprocess.Popen(["wc", "-l"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    done = subprocess.run([BENCH, "-m", arguments.model, "-p", "512", "-n", "64", "-r", "1", "-t", str(arguments.threads), "-o", "json"],
                          env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=reader.stdin, check=True)
    reader.stdin.close()
    reader.wait()
    return [test["avg_ts"] for test in json.loads(done.stdout)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=BUILD / "models" / "oracle-gpt-oss.gguf")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()

    shares = {way: ([], []) for way in WAYS}
    extra = {way: ([], []) for way in WAYS}
    for number in range(arguments.rounds):
        for way, variables in WAYS.items():
            print(f"\rround {number + 1} of {arguments.rounds}: {way:30}", end="", file=sys.stderr)
            untraced = bench(arguments, None)
            traced = bench(arguments, variables)
            for i in range(2):
                shares[way][i].append(traced[i] / untraced[i])
                extra[way][i].append(1e6 / traced[i] - 1e6 / untraced[i])
    print("\r" + " " * 60 + "\r", end="", file=sys.stderr)

    print(f"{arguments.model.name}, {arguments.threads} threads, median of {arguments.rounds} pairs\n")
    print("| tracing | prompt of 512, share of untraced | microseconds a token | generation, share of untraced | microseconds a token |")
    print("|---|---|---|---|---|")
    for way in WAYS:
        cells = [f"{statistics.median(values[way][i]):{form}}" for i in range(2) for values, form in ((shares, ".3f"), (extra, "+.1f"))]
        print(f"| {way} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
