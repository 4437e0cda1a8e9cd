#!/usr/bin/env python3
"""For bench/gpu.sh: measures one model on a card, and makes a page of what was measured.

usage: gpu.py measure --build DIR --model MODEL.gguf --name NAME --save SECTION.md [OPTION]…
       gpu.py report  --engine TEXT --page PAGE.md SECTION.md…
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import page
from client import environment
from pairs import say
from sections import ALL_WAYS, measure

N_PROMPT, N_GENERATE = 64, 32


def launches(build, options, way, n_generate, preload, variables):
    """What a run asks of the card, by name."""
    with tempfile.TemporaryDirectory(prefix="expert-tracer-bench-") as folder:
        counts = Path(folder) / "counts"
        env = {**environment([build / "bench" / "cuda-launches.so", *preload]),
               "CUDA_LAUNCHES": str(counts), **variables}
        done = subprocess.run([build / "bench" / "bench-client", *map(str, options)],
                              input=f"run {way} {N_PROMPT} {n_generate}\n",
                              env=env, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if done.returncode != 0:
            raise RuntimeError(f"bench-client failed:\n{done.stderr[-2000:]}")
        found = {}
        for line in counts.read_text().splitlines():
            number, name = line.split(" ", 1)
            found[name] = found.get(name, 0) + int(number)
        return found


class Asked:
    """Of the card: by a generated token, and of some kernels by a whole run."""

    COLUMNS = ("CUDA graphs launched", "kernels launched", "captures begun", "copies to the host", "waits")
    KERNELS = ("fused routing kernels in a run", "sorting kernels in a run")

    def __init__(self, *run):
        once, twice = (self._sorted_out(launches(*run[:3], tokens, *run[3:]))
                       for tokens in (N_GENERATE, 2 * N_GENERATE))
        self.per_token = {column: (twice[column] - once[column]) / N_GENERATE for column in self.COLUMNS}
        self.in_a_run = {kernel: once[kernel] for kernel in self.KERNELS}

    @classmethod
    def _sorted_out(cls, found):
        kinds = {"cudaGraphLaunch": "CUDA graphs launched", "cudaStreamBeginCapture": "captures begun",
                 "copy to the host": "copies to the host", "other copy": None,
                 "cudaStreamSynchronize": "waits", "cudaEventSynchronize": "waits"}
        sums = dict.fromkeys((*cls.COLUMNS, *cls.KERNELS), 0)
        for name, n in found.items():
            kind = kinds.get(name, "kernels launched")
            if kind:
                sums[kind] += n
            if name not in kinds and "topk_moe" in name:
                sums["fused routing kernels in a run"] += n
            elif name not in kinds and "sort" in name.lower():
                sums["sorting kernels in a run"] += n
        return sums

    def cells(self):
        return [f"{n:.2f}" for n in self.per_token.values()] + [str(n) for n in self.in_a_run.values()]


def verdict(untraced, stats):
    """Whether CUDA graphs and the fused routing live on."""
    columns = ("CUDA graphs launched", "kernels launched")
    if not untraced.per_token["CUDA graphs launched"]:
        graphs = "CUDA graphs are not launched without the tracer either"
    elif all(stats.per_token[column] == untraced.per_token[column] for column in columns):
        graphs = "With statistics CUDA graphs are captured and launched as without"
    else:
        graphs = "With statistics CUDA graphs are NOT captured and launched as without"
    if not untraced.in_a_run["fused routing kernels in a run"]:
        fused = "the routing is not fused without the tracer either"
    elif stats.in_a_run == untraced.in_a_run:
        fused = "the routing is fused as without"
    else:
        fused = "the routing is NOT fused as without"
    return f"{graphs}, and {fused}."


def launch_text(build, options):
    library = build / "libllama-expert-tracer.so"
    ways = {
        "untraced":                              ("untraced", [], {}),
        ALL_WAYS["stats"]:                       ("stats", [library], {}),
        ALL_WAYS["callback"]:                    ("callback", [], {}),
        "untraced, GGML_CUDA_DISABLE_FUSION=1":  ("untraced", [], {"GGML_CUDA_DISABLE_FUSION": "1"}),
        "untraced, GGML_CUDA_DISABLE_GRAPHS=1":  ("untraced", [], {"GGML_CUDA_DISABLE_GRAPHS": "1"}),
    }
    asked = {}
    for label, way in ways.items():
        say(f"counting launches: {label}")
        asked[label] = Asked(build, options, *way)
    text = f"{verdict(asked['untraced'], asked[ALL_WAYS['stats']])} " \
           f"Of a generated token, and of a run of {N_PROMPT} prompt and {N_GENERATE} generated tokens:"
    heads = ["", *Asked.COLUMNS, *Asked.KERNELS]
    return f"{text}\n\n{page.table(heads, [[label, *row.cells()] for label, row in asked.items()])}"


def measure_model(arguments):
    options = ["--threads", arguments.threads, "--gpu-layers", arguments.gpu_layers, "--n-cpu-moe", arguments.n_cpu_moe]
    measurement, devices = measure(arguments.name, arguments.build / "bench" / "bench-client",
                                   arguments.build / "libllama-expert-tracer.so", arguments.model,
                                   options, arguments.seconds, 2)
    text = page.measurement_text(measurement, ALL_WAYS)
    if arguments.gpu_layers:
        text += "\n\n" + launch_text(arguments.build, ["--model", arguments.model, *options])
    arguments.save.with_suffix(".devices").write_text(json.dumps(devices))
    arguments.save.write_text(text + "\n")  # last: it is there only when all is done


def report(arguments):
    devices = [device for path in arguments.sections for device in json.loads(path.with_suffix(".devices").read_text())]
    text = page.page("bench/gpu.sh", arguments.engine, devices, [path.read_text() for path in arguments.sections])
    arguments.page.write_text(text)
    print(text, end="")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)

    command = commands.add_parser("measure")
    command.add_argument("--build", type=Path, required=True)
    command.add_argument("--model", type=Path, required=True)
    command.add_argument("--name", required=True)
    command.add_argument("--save", type=Path, required=True)
    command.add_argument("--gpu-layers", type=int, default=0)
    command.add_argument("--n-cpu-moe", type=int, default=0)
    command.add_argument("--threads", type=int, default=1)
    command.add_argument("--seconds", type=float, default=60)
    command.set_defaults(run=measure_model)

    command = commands.add_parser("report")
    command.add_argument("--engine", required=True)
    command.add_argument("--page", type=Path, required=True)
    command.add_argument("sections", nargs="+", type=Path)
    command.set_defaults(run=report)

    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
