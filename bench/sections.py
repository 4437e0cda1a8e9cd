"""One table of traced and untraced repetitions: a model, somewhere."""

import json
import subprocess
import tempfile
import time
from pathlib import Path

from client import Client
from pairs import Measurement, progress, say

ALL_WAYS = {
    "control":     "untraced, once more",
    "stats":       "statistics",
    "per-layer":   "statistics, per layer",
    "json":        "statistics as JSON, ten times a second",
    "names":       "names, into a pipe that is read",
    "routing":     "routing trace",
    "routing-all": "routing trace with gate weights and token ids",
    "callback":    "what others do: an eval callback of one's own",
}
ROUND = ("stats", "control", "per-layer", "stats", "json", "names", "stats", "callback") # what matters most, most often
RECORDING = ("routing", "routing-all")
REPETITION = 0.25  # seconds of a repetition's prompt, and of its generation, as far as one token takes no longer
MOST_PROMPT = 512
MOST_GENERATE = 64


def fit(client):
    """How many tokens of a prompt and of generation take about as long as a repetition shall."""
    def warm(*sizes):
        client.run("untraced", *sizes)  # reads what is not in memory yet
        return client.run("untraced", *sizes)

    n_prompt = 8
    while n_prompt < MOST_PROMPT and warm(n_prompt, 0)["prompt_us"] < 0.5e6 * REPETITION:
        n_prompt *= 2
    return n_prompt, max(1, min(MOST_GENERATE, int(1e6 * REPETITION / warm(8, 4)["token_us"])))


def recorded(command, trace):
    """Activations in a routing trace, none of which may be missing."""
    info = json.loads(subprocess.run([command, "info", "--json", trace], stdout=subprocess.PIPE, check=True).stdout)
    if info["ended"] != "complete" or info["dropped"]["ubatches"]:
        raise RuntimeError(f"the routing trace ended {info['ended']}, "
                           f"{info['dropped']['ubatches']} ubatches were dropped")
    return info["activations"]


def measure(name, program, library, model, options, seconds, rounds, ways=ROUND, sizes=None, base="untraced"):
    """Returns the measurement, and the devices that were there."""
    deadline = time.monotonic() + seconds
    progress(f"{name}: loading {model}")
    with tempfile.TemporaryDirectory(prefix="expert-tracer-bench-") as folder:
        trace = Path(folder) / "run.moetrace"
        options = [*options, "--output", Path(folder) / "stats.json", "--routing", trace, "--toggle"]
        with Client(program, model, options, preload=[library]) as client:
            def run(way):
                answer = client.run(way, measurement.n_prompt, measurement.n_generate)
                if way not in RECORDING:
                    return answer
                return answer | {"activations": recorded(library.with_name("llama-expert-tracer"), trace)}

            measurement = Measurement(name, ways, *(sizes or fit(client)), base)
            measurement.measure(run, deadline, rounds)
    say(f"{name}: {len(measurement.bases) - 1} pairs")
    return measurement, client.devices


def measure_off(name, program, library, model, options, seconds, rounds):
    """Two processes: one has the library preloaded and asks for nothing, the other does not have it."""
    deadline = time.monotonic() + seconds
    progress(f"{name}: loading {model}")
    with Client(program, model, options) as without, Client(program, model, options, preload=[library]) as preloaded:
        clients = {"untraced": without, "off": preloaded}
        measurement = Measurement(name, ["off"], *fit(without))
        sizes = (measurement.n_prompt, measurement.n_generate)
        measurement.measure(lambda way: clients[way].run("untraced", *sizes), deadline, rounds)
    return measurement
