"""Traced and untraced repetitions in turn, and what they differ by.

The speed of a machine changes over time more than tracing costs. So every repetition that is looked at stands between
two untraced ones, and is compared with the mean of both: what changes steadily drops out. From one round to the next
the order of the ways is turned around. In the place of untraced there can be another
way that the others are compared with.
"""

import statistics
import sys
import time


class Spread:
    """The middle half of some numbers."""

    def __init__(self, values):
        self.n = len(values)
        self.median = statistics.median(values)
        self.low = self.high = self.median
        if self.n > 1:
            self.low, _, self.high = statistics.quantiles(values, n=4, method="inclusive")


class Phase:
    """Of a prompt, of generation, or of its middle token: what a way takes longer than the base, pair by pair."""

    def __init__(self, n_tokens):
        self.n_tokens = n_tokens
        self.shares = []  # tokens per second, of the base
        self.extra = []   # microseconds a token

    def add(self, before, this, after):
        base = (before + after) / 2
        self.shares.append(base / this)
        self.extra.append((this - base) / self.n_tokens)


class Row:
    def __init__(self, way, n_prompt, n_generate):
        self.way = way
        self.phases = {"prompt_us": Phase(n_prompt)}
        if n_generate:
            self.phases |= {"generate_us": Phase(n_generate), "token_us": Phase(1)}
        self.capture = None
        self.lines = 0  # logged by one repetition

    def add(self, before, this, after):
        for name, phase in self.phases.items():
            phase.add(before[name], this[name], after[name])


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def say(text):
    progress("")
    print(text, file=sys.stderr, flush=True)


class Measurement:
    """Rows of one table. `run(way)` is one repetition."""

    def __init__(self, name, ways, n_prompt, n_generate, base="untraced"):
        """A way may be there more than once, and is measured as often in each round. With `base` all are compared."""
        self.name = name
        self.ways = ways
        self.base = base
        self.n_prompt = n_prompt
        self.n_generate = n_generate
        self.rows = {way: Row(way, n_prompt, n_generate) for way in ways}
        self.bases = []

    def warm_up(self, run):
        """Every way once, unmeasured. All that count activations have to count as many."""
        run(self.base)
        counted = {}
        for way, row in self.rows.items():
            answer = run(way)
            row.capture = answer.get("capture")
            row.lines = answer.get("lines", 0)
            if "activations" in answer:
                counted[way] = answer["activations"]
        if 0 in counted.values() or len(set(counted.values())) > 1:
            raise RuntimeError(f"{self.name}: the ways do not see the same activations: {counted}")

    def measure(self, run, deadline, rounds):
        """At least `rounds` rounds, and further ones until the time is up."""
        self.warm_up(run)
        self.bases = [run(self.base)]
        done = 0
        while done < rounds or time.monotonic() < deadline:
            for way in self.ways[::1 if done % 2 == 0 else -1]:
                progress(f"{self.name}: round {done + 1}, {way}, {max(0, deadline - time.monotonic()):.0f} s left")
                this = run(way)
                self.bases.append(run(self.base))
                self.rows[way].add(self.bases[-2], this, self.bases[-1])
            done += 1
        progress("")

    def speed(self, phase):
        """Tokens per second of the base."""
        n_tokens = {"prompt_us": self.n_prompt, "generate_us": self.n_generate, "token_us": 1}[phase]
        return 1e6 * n_tokens / statistics.median(answer[phase] for answer in self.bases)
