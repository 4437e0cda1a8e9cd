"""How large a routing trace is: recorded of stock programs, and in every other form that it can be given."""

import collections
import csv
import math
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from client import environment
from pairs import progress, say

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "trace"))
from moetrace import Trace, bits_of  # noqa: E402

CHUNK = 512  # tokens that llama-perplexity evaluates with one another


def text_of(n):
    """The same characters every time, each a token: as in a text some are much more frequent than others,
    and no more than that."""
    characters = [chr(c) for c in range(32, 127)]
    chance = random.Random(1)
    chance.shuffle(characters)
    return "".join(chance.choices(characters, [1 / (rank + 1) for rank in range(len(characters))], k=n))


def run(*command, preload=(), **variables):
    env = environment(preload) | {f"LLAMA_EXPERT_TRACE_{key}": str(value) for key, value in variables.items()}
    done = subprocess.run(list(map(str, command)), env=env, stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed:\n{done.stderr.decode(errors='replace')[-2000:]}")
    return done.stdout


def expanded(engine, expand, folder):
    """A model of 128 experts, 8 for each token, whose weights are random: nobody knows its routing beforehand."""
    run(engine / "test-llama-archs", "-s", 1, "-a", "qwen3moe", "-o", folder)
    path = folder / "expanded-qwen3moe.gguf"
    run(expand, folder / "qwen3moe-moe.gguf", path, 128, 8)
    return path


def entropy_bytes(path):
    """What a CSV's experts take if each is told by how often its layer chooses it, and by nothing else."""
    counts = collections.defaultdict(collections.Counter)
    with path.open() as file:
        rows = csv.reader(file)
        heads = next(rows)
        layer, experts = heads.index("layer"), [i for i, head in enumerate(heads) if head.startswith("expert")]
        for row in rows:
            counts[row[layer]].update(row[i] for i in experts if row[i])
    totals = {layer: sum(count.values()) for layer, count in counts.items()}
    bits = sum(n * math.log2(totals[layer] / n) for layer, count in counts.items() for n in count.values())
    return sum(totals.values()), bits / 8


class Sizes:
    """Bytes of one trace, in each form."""

    def __init__(self, what, library, *command):
        """command: of a stock program, to which --no-warmup is added."""
        self.what = what
        progress(f"routing trace: {what}")
        with tempfile.TemporaryDirectory(prefix="expert-tracer-bench-") as folder:
            trace = Path(folder) / "run.moetrace"
            run(*command, "--no-warmup", preload=[library], ROUTING=trace)
            self._read(Trace(trace))
            files = self._convert(trace, library.with_name("llama-expert-tracer"))
            self.bytes = {form: path.stat().st_size for form, path in files.items()}
            activations, self.entropy = entropy_bytes(files["csv"])
        if activations != self.activations:
            raise RuntimeError(f"{what}: {self.activations} activations are recorded, {activations} exported")
        say(f"routing trace: {what}: {self.tokens} tokens")

    def _read(self, trace):
        layers = [layer for ubatch in trace.ubatches for layer in ubatch.layers]
        sizes = trace.sizes()
        self.tokens = sum(len(ubatch.tokens) for ubatch in trace.ubatches)
        self.ubatches = len(trace.ubatches)
        self.activations = sum(len(layer.rows) * layer.n_used for layer in layers)
        self.bits = max(bits_of(layer.n_expert) for layer in layers)
        self.ids, self.once = sizes["ids"], sizes["json"]
        self.rest = sizes["chunk_headers"] + sizes["else"]
        self.allowed = 4 * self.tokens + 32 * self.ubatches
        if trace.gaps or sum(sizes.values()) != self.ids + self.once + self.rest:
            raise RuntimeError(f"{self.what}: a trace that is not whole, or that has more than experts")

    @staticmethod
    def _convert(trace, tool):
        """Paths by form."""
        files = {"recorded": trace, "packed": trace.with_suffix(".packed")}
        run(tool, "pack", "-o", files["packed"], trace)
        for form in "npy", "moe-trace", "csv":
            files[form] = trace.with_suffix(f".{form}")
            run(tool, "export", "--format", form, "-o", files[form], trace)
        files["csv, zstd -19"] = trace.with_suffix(".csv.zst")
        run("zstd", "-q", "-19", files["csv"], "-o", files["csv, zstd -19"])
        return files
