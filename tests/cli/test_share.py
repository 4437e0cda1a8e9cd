#!/usr/bin/env python3
"""Tests of `pack --share` (EXPERT_TRACER_CLI): what is in the trace that it makes, what is not, and what other commands
make of it. Traces are made and read by tests/trace/moetrace.py."""

import csv
import io
import json
import os
import random
import shutil
import stat
import subprocess
import sys
import tempfile
import unittest
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "trace"))

import moetrace as m  # noqa: E402

CLI = os.environ.get("EXPERT_TRACER_CLI", "")
LAYERS, N_EXPERT, N_USED = (1, 2, 4), 8, 2
WINDOW = 4 * len(LAYERS) * N_EXPERT
TABLE = [m.new_layer(layer, N_EXPERT, N_USED, (f"blk.{layer}.ffn_up_exps.weight", 100)) for layer in LAYERS]
HEAD = [m.new_layer(6, 4, 1)]
PATH = "/home/someone/secret.gguf"
MODEL = {"name": "Small", "architecture": "qwen3moe", "file": PATH, "fingerprint": "1234-0123456789abcdef"}
HEADER = m.new_header(trace="the-trace", run="the-run", pid=4711, model=MODEL, n_layer=6, weights=True, tokens=True,
                      engine="llama.cpp 0.7.0, ggml 0.27.0 (/home/someone/libllama.so.0)")
PROMPTS, GENERATED = 325, 302  # tokens, of which windows of 96 are not all of the same size


def choice(seed, *of):
    """Distinct experts, the same of the same seed."""
    return random.Random(f"{seed} {of}").sample(range(N_EXPERT), N_USED)


def ubatches(seed=1):
    """Prompts of 25 tokens, of which the last layer computes one; then tokens of two sequences side by side."""
    def expert(layer, token, rank):
        return choice(seed, layer, token.sequence, token.life, token.position)[rank]
    made = []
    for life in range(PROMPTS // 25):
        tokens = [m.Token(100 + i, 0, life, i, output=i == 24) for i in range(25)]
        made.append(m.new_ubatch(len(made) + 1, TABLE, tokens, expert, lambda *_: 0.5, time=1700000000000000 + life,
                                 rows=lambda il: [24] if il == LAYERS[-1] else None))
    for i in range(GENERATED // 2):
        tokens = [m.Token(300 + i, sequence, 50, i, generation=True, output=True) for sequence in (3, 4)]
        made.append(m.new_ubatch(len(made) + 1, TABLE, tokens, expert, lambda *_: 0.5, time=1700000001000000 + i))
    return made


def whole(made):
    """With a warm-up before, a multi-token-prediction head, what is rejected, cut and missing behind."""
    warmup = m.new_ubatch(0, TABLE, [m.Token(1, 0, 0, i) for i in range(200)], lambda *of: of[2], lambda *_: 0.5)
    n = len(made) + 1
    head = m.new_ubatch(n, HEAD, [m.Token(9, 3, 50, 500 + i, True, True) for i in range(50)], lambda *_: 3,
                        lambda *_: 1.0, table=1, mtp=True)
    return [warmup, *made, m.Warmup(0, 1), m.Rejected(n - 1, 0, 1), head, m.Cut(n + 1, 0, 3, 50, 40),
            m.Gap(n + 1, 3, 7, m.DISK), m.Gap(n + 4, 1, 1, m.SAMPLING)]


def windows(made, window=WINDOW):
    """By phase: each window's counts by layer and expert, as the documentation tells it."""
    found = {}
    for generation in False, True:
        tokens = [(ubatch, i) for ubatch in made for i, token in enumerate(ubatch.tokens)
                  if token.generation == generation]
        n = len(tokens) // window
        sizes = [len(tokens) // n + (i < len(tokens) % n) for i in range(n)] if n else []
        found[generation] = []
        for size in sizes:
            rows = {layer: [] for layer in LAYERS}
            for ubatch, i in tokens[:size]:
                for layer in ubatch.layers:
                    rows[layer.layer] += [layer.experts[layer.rows.index(i)]] if i in layer.rows else []
            tokens = tokens[size:]
            found[generation].append((size, {layer: Counter(expert for row in its for expert in row)
                                             for layer, its in rows.items() if len(its) == size}))
    return found


def counted(ubatch):
    return len(ubatch.tokens), {layer.layer: Counter(expert for row in layer.experts for expert in row)
                                for layer in ubatch.layers if layer.rows}


def shuffled(made, seed=2):
    """Which token of a window chose what, and in which order, is another one; so is all else but the counts."""
    chance = random.Random(seed)
    cells = {}
    for phase in False, True:
        tokens = [(u, i) for u in range(len(made)) for i, token in enumerate(made[u].tokens)
                  if token.generation == phase]
        n = len(tokens) // WINDOW
        at = 0
        for k in range(n):
            size = len(tokens) // n + (k < len(tokens) % n)
            for place in range(len(LAYERS) - (not phase)): # the last layer of prompts has rows of its own
                mixed = [list(made[u].layers[place].experts[i]) for u, i in tokens[at:at + size]]
                for _ in range(20 * size): # two tokens change an expert each, where neither gets one twice
                    a, b = chance.sample(range(size), 2)
                    x, y = chance.randrange(N_USED), chance.randrange(N_USED)
                    if mixed[a][x] not in mixed[b] and mixed[b][y] not in mixed[a]:
                        mixed[a][x], mixed[b][y] = mixed[b][y], mixed[a][x]
                cells.update({(u, i, place): row for (u, i), row in zip(tokens[at:at + size], mixed)})
            at += size
    other = []
    for u, ubatch in enumerate(made):
        tokens = [token._replace(id=7, sequence=token.sequence + 5, position=token.position + 900)
                  for token in ubatch.tokens]
        layers = [layer._replace(experts=[cells.get((u, i, place), row) for i, row in zip(layer.rows, layer.experts)],
                                 weights=[[0.75, 0.25] for _ in layer.rows])
                  for place, layer in enumerate(ubatch.layers)]
        other.append(m.Ubatch(ubatch.number, ubatch.time + 12345678, tokens, layers, context=2))
    return other


class Share(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="test-share-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.source = self.write("run.moetrace", whole(ubatches()))

    def write(self, name, events, header=HEADER, **more):
        path = self.folder / name
        m.write(path, header, (TABLE, HEAD), events, chunk_every=7, **more)
        return path

    def run_cli(self, *arguments, status=0):
        done = subprocess.run([CLI, *map(str, arguments)], capture_output=True, stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, status, done.stderr.decode())
        return done.stdout.decode(), done.stderr.decode()

    def share(self, source=None, *options, status=0, name="shared.moetrace"):
        path = self.folder / name
        out, err = self.run_cli("pack", "--share", "-f", "-o", path, *options, source or self.source, status=status)
        self.said = out + err
        return path

    def test_windows_have_the_counts_of_the_source(self):
        for window in WINDOW, WINDOW + 17, 2 * WINDOW:
            with self.subTest(window):
                trace = m.Trace(self.share(None, "--window", window))
                found = {phase: [counted(u) for u in trace.ubatches if u.tokens[0].generation == phase]
                         for phase in (False, True)}
                self.assertEqual(found, windows(ubatches(), window))
                self.assertTrue(found[False] and found[True])
                self.assertTrue(all(size >= window for its in found.values() for size, _ in its))

    def test_the_last_layer_is_told_of_generation_alone(self):
        for ubatch in m.Trace(self.share()).ubatches:
            told = {layer.layer for layer in ubatch.layers if layer.rows}
            self.assertEqual(told, set(LAYERS) if ubatch.tokens[0].generation else set(LAYERS[:-1]))
        self.assertIn(f"what {PROMPTS // 25} tokens chose in layers", self.said)

    def test_nothing_else_is_told(self):
        path = self.share()
        trace = m.Trace(path)
        model = {**MODEL, "file": None}
        self.assertRegex(trace.header.pop("trace"), "^shared-[0-9a-f]{16}$")
        expected = {**HEADER, "run": "", "pid": 0, "model": model, "engine": "llama.cpp 0.7.0, ggml 0.27.0",
                    "weights": False, "tokens": False, "shared": {"window": WINDOW, "left_out_tokens": 0}}
        del expected["trace"]
        self.assertEqual(trace.header, expected)
        data = path.read_bytes()
        for secret in b"the-run", b"the-trace", b"4711", b"someone":
            self.assertNotIn(secret, data)
        self.assertEqual({chunk.time for chunk in m.chunks(data)}, {0})
        self.assertEqual({chunk.kind for chunk in m.chunks(data)}, {m.HEADER, m.LAYERS, m.DATA, m.END})
        for ubatch in trace.ubatches:
            kinds = {token for token in ubatch.tokens}
            self.assertEqual(kinds, {m.Token(generation=ubatch.tokens[0].generation, sequence=None)})
            self.assertEqual((ubatch.time, ubatch.context, ubatch.warmup, ubatch.mtp), (0, 0, False, False))
            self.assertEqual([layer.weights for layer in ubatch.layers], [None] * len(LAYERS))

    def test_it_follows_from_the_counts_alone(self):
        """Another trace with the same counts in each window becomes the same file, but for its name."""
        made = ubatches()
        other = shuffled(made)
        self.assertNotEqual([u.layers for u in made], [u.layers for u in other])
        self.assertEqual(windows(made), windows(other))
        one = self.share(self.write("one.moetrace", made, first=1), name="a").read_bytes()
        two = self.share(self.write("two.moetrace", other, first=1), name="b").read_bytes()
        self.assertEqual([chunk.payload for chunk in m.chunks(one)][1:], [chunk.payload for chunk in m.chunks(two)][1:])

    def test_rows_are_laid_out_as_documented(self):
        """By rising id down one column of the rows after the other."""
        for ubatch in m.Trace(self.share()).ubatches:
            for layer in ubatch.layers:
                column_by_column = [row[k] for k in range(N_USED) for row in layer.experts]
                self.assertEqual(column_by_column, sorted(column_by_column))
                self.assertTrue(all(len(set(row)) == N_USED for row in layer.experts))

    def test_what_fills_no_window_is_left_out_and_told(self):
        made = ubatches()[:PROMPTS // 25 + 20] # and 40 generated tokens
        path = self.share(self.write("few.moetrace", made, first=1))
        trace = m.Trace(path)
        self.assertEqual(trace.header["shared"]["left_out_tokens"], 40)
        self.assertFalse(any(token.generation for u in trace.ubatches for token in u.tokens))
        self.assertIn("left out: 40 tokens", self.said)
        self.assertIn("left out: 40 tokens", self.run_cli("info", path)[0])
        info = json.loads(self.run_cli("info", "--json", path)[0])
        self.assertEqual(info["shared"], {"window": WINDOW, "left_out_tokens": 40})
        # a layer without a window is none of those that reports count experts of
        self.assertEqual([layer["layer"] for layer in trace.tables[0][0]], list(LAYERS[:-1]))

    def test_small_windows_are_refused(self):
        self.share(None, "--window", WINDOW - 1, status=1, name="no")
        self.assertIn(f"{WINDOW} is the least", self.said)
        for name, events, why in ("few", ubatches()[:3], "record more"), ("none", [], "has no layers with experts"):
            with self.subTest(name):
                self.share(self.write(f"{name}.moetrace", events, first=1), status=1, name="no")
                self.assertIn(why, self.said)
        last = [u for u in ubatches() if not u.tokens[0].generation]
        for ubatch in last:
            ubatch.layers = [layer._replace(rows=[24], experts=[layer.experts[-1]], weights=[layer.weights[-1]])
                             for layer in ubatch.layers]
        self.share(self.write("last.moetrace", last, first=1), status=1, name="no")
        self.assertIn("no layer was computed for all tokens", self.said)
        self.assertFalse((self.folder / "no").exists())
        for options in (("--share", "--window", "many"), ("--share", "--window", "0"), ("--window", "1000"),
                        ("--share", "--unpack")):
            self.run_cli("pack", *options, self.source, status=2)

    def test_what_was_missing_stays_missing(self):
        trace = m.Trace(self.share())
        self.assertEqual([(gap.ubatches, gap.tokens, gap.why) for gap in trace.gaps],
                         [(3, 7, m.DISK), (1, 1, m.SAMPLING)])
        self.assertEqual((trace.end["dropped_tokens"], trace.end["left_out_tokens"]), (7, 1))
        interrupted = self.share(self.write("killed.moetrace", whole(ubatches()), end=None))
        self.assertIsNone(m.Trace(interrupted).end)
        chunks = m.encode(HEADER, (TABLE, HEAD), whole(ubatches()), chunk_every=7)
        (self.folder / "damaged.moetrace").write_bytes(m.damaged(chunks, 5, 60))
        path = self.share(self.folder / "damaged.moetrace", status=1)
        self.assertIn("damaged", self.run_cli("info", path, status=1)[0])

    def test_files(self):
        self.run_cli("pack", "--share", self.source)
        path = self.folder / "run.shared.moetrace"
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.run_cli("pack", "--share", self.source, status=1)  # is there already
        self.run_cli("pack", self.source)
        path.unlink()
        self.run_cli("pack", "--share", self.folder / "run.packed.moetrace")
        self.assertEqual([counted(u) for u in m.Trace(path).ubatches],
                         [counted(u) for u in m.Trace(self.share()).ubatches])
        packed, again = self.folder / "p.moetrace", self.folder / "u.moetrace"
        self.run_cli("pack", "-o", packed, path)
        self.run_cli("pack", "--unpack", "-o", again, packed)
        self.assertEqual(again.read_bytes(), path.read_bytes())

    def test_commands_that_need_counts_work(self):
        path = self.share()
        expected = {layer: Counter() for layer in LAYERS}
        for its in windows(ubatches()).values():
            for _, counts in its:
                for layer, of in counts.items():
                    expected[layer].update(of)
        rows = csv.DictReader(io.StringIO(self.run_cli("export", "-f", "hot-csv", path)[0]))
        self.assertEqual({(int(row["layer"]), int(row["expert"])): int(row["activations"]) for row in rows},
                         {(layer, expert): expected[layer][expert] for layer in LAYERS for expert in range(N_EXPERT)})
        for form in "hot-json", "importance":
            self.run_cli("export", "-f", form, "-o", self.folder / form, path)
        report = json.loads(self.run_cli("report", "--json", path)[0])
        self.assertEqual({layer["layer"]: layer["activations"]["all"] for layer in report["layers"]},
                         {layer: [expected[layer][expert] for expert in range(N_EXPERT)] for layer in LAYERS})
        self.assertIsNone(report["cache"])
        self.assertIn("sums of 96 tokens or more have no order", " ".join(self.run_cli("report", path)[0].split()))
        pair, = json.loads(self.run_cli("compare", "--json", path, path)[0])["pairs"]
        self.assertEqual(pair["divergence"], 0)
        self.assertIn("in windows of 96 tokens or more", self.run_cli("info", path)[0])
        self.assertNotIn("shared", json.loads(self.run_cli("info", "--json", self.source)[0]))
        self.run_cli("report", "--ubatch", "0", "--phase", "prompt", path)

    def test_commands_that_need_order_refuse(self):
        path = self.share()
        for command in (("cache",), ("predict",), ("dump",), ("cat", "-o", self.folder / "out", self.source),
                        ("pack", "--share"), ("report", "--sequence", "0"), ("compare", "--tokens", "0-5", self.source),
                        *(("export", "-f", form, "-o", self.folder / "out") for form in
                          ("npy", "csv", "jsonl", "moe-trace", "moe-cache-profile", "libcachesim", "sglang",
                           "sglang-json"))):
            with self.subTest(command):
                _, err = self.run_cli(*command, path, status=1)
                self.assertIn("`pack --share`", err)
        self.assertFalse((self.folder / "out").exists())

    def test_shared_traces_join(self):
        one, two = self.share(name="a"), self.share(None, "--window", 2 * WINDOW, name="b")
        both = self.folder / "both"
        self.run_cli("cat", "-o", both, two, one)
        joined = m.Trace(both)
        self.assertEqual([counted(u) for u in joined.ubatches],
                         [counted(u) for u in m.Trace(two).ubatches + m.Trace(one).ubatches])
        self.assertEqual(joined.header["shared"]["window"], WINDOW)


if __name__ == "__main__":
    unittest.main(verbosity=2)
