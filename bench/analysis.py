"""How fast routing is analysed, and how much memory that takes, in traces that are written here."""

import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from client import environment
from pairs import progress, say

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "trace"))
from moetrace import (DATA, END, LIFE, Chunk, Layer, Token, Ubatch, encode, new_header, new_layer,  # noqa: E402
                      record, varint)

# layers, experts, top-k
SHAPES = {"Mixtral-8x7B": (32, 8, 2), "Qwen3-30B-A3B": (48, 128, 8), "Qwen3-Next-80B-A3B": (48, 512, 10)}
WRITTEN = "Qwen3-30B-A3B"
SIXTEENTHS = (1, 2, 3, 4, 6, 8, 10, 12, 14)  # of all experts: sizes that `cache` tells of
SECONDS = 2            # that each of the curves is measured
EXPERT_BYTES = 884736  # of each of its three tensors
N_PROMPT = 512         # tokens of each life of the one sequence
N_GENERATED = 512
N_TOPICS = 4           # lives that differ, by turns


def speeds(program, shape, *sizes):
    """Activations a second and core, by name, of tokens that come one by one.
    sizes: slots per layer that the optimum is looked for."""
    done = subprocess.run(list(map(str, [program, *SHAPES[shape], SECONDS, *sizes])), check=True,
                          capture_output=True, text=True)
    return {name: float(speed) for name, speed in map(str.split, done.stdout.splitlines())}


class Synthetic:
    """Traces of any length, of one sequence with many lives. A part of the experts is hot, another one in each life."""

    def __init__(self):
        self.n_layers, self.n_expert, self.n_used = SHAPES[WRITTEN]
        self.table = [new_layer(i, self.n_expert, self.n_used, *((f"blk.{i}.ffn_{projection}_exps.weight", EXPERT_BYTES)
                                                                 for projection in ("gate", "down", "up")))
                      for i in range(self.n_layers)]
        self.n_ubatches, self.n_tokens = 1 + N_GENERATED, N_PROMPT + N_GENERATED
        self.n_activations = self.n_tokens * self.n_layers * self.n_used  # of a life
        made = [encode(new_header(n_layer=self.n_layers), [self.table], self._ubatches(topic), end=None)
                for topic in range(N_TOPICS)]
        self.head = made[0][:2]
        self.lives = [chunks[2].payload[len(self._begin(0)):] for chunks in made]

    @staticmethod
    def _begin(life):
        return record(LIFE, varint(0) + varint(1) + varint(life))

    def _ubatches(self, topic):
        chance = random.Random(topic)
        hottest = [chance.sample(range(self.n_expert), self.n_expert) for _ in self.table]

        def experts(layer):
            chosen = {}
            while len(chosen) < self.n_used:
                chosen[hottest[layer][int(self.n_expert * chance.random() ** 3)]] = True
            return list(chosen)

        tokens = [Token(position=i, generation=i >= N_PROMPT, output=i >= N_PROMPT - 1) for i in range(self.n_tokens)]
        batches = [tokens[:N_PROMPT], *([token] for token in tokens[N_PROMPT:])]
        def routed(batch):
            return [Layer(layer, self.n_expert, self.n_used, list(range(len(batch))), [experts(layer) for _ in batch])
                    for layer in range(self.n_layers)]

        return [Ubatch(number, number, batch, routed(batch)) for number, batch in enumerate(batches)]

    def write(self, path, n_activations):
        """Returns how many there are, at least so many."""
        n = -(-n_activations // self.n_activations)
        totals = {"complete": True, "last_part": True, "ubatches": n * self.n_ubatches,
                  "tokens": n * self.n_tokens, "dropped_ubatches": 0,
                  "dropped_tokens": 0, "left_out_ubatches": 0, "left_out_tokens": 0, "waited_ms": 0}
        with path.open("wb") as file:
            file.write(b"".join(chunk.bytes() for chunk in self.head))
            for i in range(n):
                payload = self._begin(i) + self.lives[i % N_TOPICS]
                first = i * self.n_ubatches
                file.write(Chunk(DATA, payload, 2 + i, self.n_ubatches, first, first, self.n_tokens).bytes())
            file.write(Chunk(END, json.dumps(totals).encode(), 2 + n).bytes())
        return n * self.n_activations


class Run:
    """What a command takes for a trace."""

    def __init__(self, command):
        self.mib = 0.0 # the most that was resident
        with tempfile.TemporaryFile() as said:
            start = time.monotonic()
            process = subprocess.Popen(list(map(str, command)), env=environment(), stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=said)
            while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
                self._look(Path(f"/proc/{process.pid}/status"))
                time.sleep(0.005)
            self.seconds = time.monotonic() - start
            _, status, used = ended
            self.processor = used.ru_utime + used.ru_stime
            if status != 0:
                said.seek(0)
                raise RuntimeError(f"{command[1]} failed:\n{said.read().decode(errors='replace')[-2000:]}")

    def _look(self, status): # what wait4() says of memory begins with that of the program that forked
        found = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE)
        self.mib = float(found[1]) / 1024 if found else self.mib


def runs(tool, commands):
    """What commands take, for pairs of a command and how many activations to analyse:
    its name, activations, bytes of the file, the run."""
    progress("analysis: writing a trace")
    synthetic = Synthetic()
    with tempfile.TemporaryDirectory(prefix="expert-tracer-bench-") as folder:
        path = Path(folder) / "run.moetrace"
        for name, length in commands:
            n = synthetic.write(path, length)
            progress(f"analysis: {name}, {n:,} activations")
            yield name, n, path.stat().st_size, Run([tool, name, "--json", path])
            say(f"analysis: {name}, {n:,} activations")
