#!/usr/bin/env python3
"""A traced program that is killed and started again, over and over: nothing that was recorded may be lost.

Each life of the program writes to the same two paths, in turn to one file and to parts. It is killed at a
moment of chance, and the time of every character that it has put out is known: what is older than a second has
to be in the trace. At the end all traces of all lives are still there, each opens, and has the routing of its
own text. Exits with 1 otherwise.
"""

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "engine"))
from harness import COMMAND, ENGINE, MIXTRAL, environment  # noqa: E402
from traces import Lives, Trace  # noqa: E402

PROMPT = b"forever"
SECOND = 1.0


class Life:
    """Of a llama-completion that would go on for long."""

    def __init__(self, folder, rotated, chance):
        variables = {"ROUTING": folder / ("parts.moetrace" if rotated else "run.moetrace"), "TOKENS": 1, "STATS": 1,
                     "OUTPUT": folder / "stats.json"}
        if rotated:
            variables["ROTATE_TIME"] = 1
        self.times = []
        self.process = subprocess.Popen(
            [ENGINE / "llama-completion", "-m", MIXTRAL.path, "-p", PROMPT.decode(), "-n", "30000", "-no-cnv",
             "-t", "1", "-c", "32768"],
            env=environment(variables), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, bufsize=0)
        reader = threading.Thread(target=self._read)
        reader.start()
        while len(self.times) < 2 and self.process.poll() is None:
            time.sleep(0.01)
        time.sleep(chance.uniform(0.1, 4))
        self.end = time.monotonic()
        self.process.kill()
        self.process.wait()
        reader.join()

    def _read(self):
        while data := self.process.stdout.read(4096):
            self.times += [time.monotonic()] * len(data)

    def lag(self, n_recorded):
        """Seconds from the first character that is not in the trace to the end."""
        return self.end - self.times[n_recorded] if n_recorded < len(self.times) else 0.0


def traces_of(folder):
    """By name of the trace: the files of its parts, in order."""
    parts = defaultdict(list)
    for path in folder.glob("*.moetrace"):
        header = Trace(path).header
        parts[header["run"]].append((header["part"], path))
    return {run: [path for _, path in sorted(files)] for run, files in parts.items()}


def check(folder, run, paths):
    """How many characters of the text are recorded."""
    for path in paths:
        if subprocess.run([COMMAND, "info", path], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL).returncode not in (0, 1):
            raise AssertionError(f"{path} does not open")
    trace = Trace(*paths)
    for ubatch in trace.ubatches:
        for layer in ubatch.layers:
            for row, experts in zip(layer.rows, layer.experts):
                if experts != MIXTRAL.experts(layer.layer, ubatch.tokens[row].id):
                    raise AssertionError(f"{paths[0]}: another routing than the model's, "
                                         f"ubatch {ubatch.number}, layer {layer.layer}")
    texts = Lives(trace).whole()
    if not texts:
        return 0
    if texts != [bytes(MIXTRAL.generate(PROMPT, len(texts[0]) - len(PROMPT)))]:
        raise AssertionError(f"{run}: another text than the program's: {texts}")
    return len(texts[0])


def soak(folder, kills, seed):
    chance = random.Random(seed)
    known = {}
    lags = []
    for number in range(kills):
        life = Life(folder, number % 2 == 1, chance)
        traces = traces_of(folder)
        new = set(traces) - set(known)
        if len(new) > 1 or not set(known) <= set(traces):
            raise AssertionError(f"life {number}: traces {sorted(new)} came, {sorted(set(known) - set(traces))} went")
        n = 0
        for run in new: # none: it was killed before it had evaluated anything
            n = known[run] = check(folder, run, traces[run])
        lags.append(life.lag(n))
        if lags[-1] > SECOND:
            print(f"life {number}: {lags[-1]:.2f} s are missing")
    for run, paths in traces_of(folder).items():
        if check(folder, run, paths) != known[run]:
            raise AssertionError(f"{run} has changed since")
    n_files = len(list(folder.glob("*.moetrace")))
    print(f"{kills} kills, {len(known)} traces in {n_files} files, all open; at most {max(lags):.2f} s are missing, "
          f"{sum(lag > SECOND for lag in lags)} times more than {SECOND:.0f} s")
    return all(lag <= SECOND for lag in lags)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="expert-tracer-restarts-"))
    try:
        ok = soak(folder, options.kills, options.seed)
    except AssertionError as error:
        sys.exit(f"{error}\nwhat is there is in {folder}")
    shutil.rmtree(folder)
    sys.exit(not ok)


if __name__ == "__main__":
    main()
