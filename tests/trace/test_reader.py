#!/usr/bin/env python3
"""What the reader tells of traces that moetrace.py wrote, packed or not, and what `pack` makes of them."""

import math
import os
import random
import stat
import subprocess
import tempfile
import unittest
from collections import Counter
from pathlib import Path

import packed
from moetrace import (DATA, DISK, END, LOST, MEMORY, PACKED, SAMPLING, Chunk, Cut, Gap, Record, Rejected, Token, Trace,
                      Ubatch, Warmup, chunks, damaged, encode, joined, new_header, new_layer, new_ubatch)

BUILD = Path(os.environ["EXPERT_TRACER_BUILD"])
COMMAND = BUILD / "llama-expert-tracer"
TEXT = BUILD / "tests" / "trace" / "trace-text"

TABLE = [new_layer(1, 60, 4, ("blk.1.ffn_up_exps.weight", 640), ("blk.1.ffn_down_exps.weight", None)),
         new_layer(2, 1, 1), new_layer(4, 5, 3, ("x", 0))]
HEAD = [new_layer(5, 512, 10, ("blk.5.ffn_up_exps.weight", 64))]


def run_command(*args, **how):
    return subprocess.run([COMMAND, *args], capture_output=True, **how)


# What trace-text is to print.

def number(value):
    return -1 if value is None else int(value)


def float_text(value):
    return "%.17g" % value


def table_lines(i, table):
    yield f"table {i} {len(table)}"
    for layer in table:
        tensors = "".join(f" {tensor['name']}:{number(tensor['expert_bytes'])}" for tensor in layer["tensors"])
        yield f"  {layer['layer']} {layer['n_expert']} {layer['n_expert_used']}{tensors}"


def info_lines(trace):
    header, gaps = trace.header, trace.gaps
    model = header["model"]
    for name in ("tracer", "run", "trace", "engine", "capture"):
        yield f"{name} {header[name] or '?'}"
    for name in ("name", "architecture", "file", "fingerprint"):
        yield f"{name} {model[name] or '?'}"
    yield f"numbers {header['pid']} {header['part']} {header['n_layer']} {header['sample']} {header.get('seed', -1)}"
    yield f"flags {header['phases_known']:d} {header['weights']:d} {header['tokens']:d}"
    yield f"ubatches {len(trace.ubatches)} {sum(len(ubatch.tokens) for ubatch in trace.ubatches)}"
    dropped = [gap for gap in gaps if gap.why != SAMPLING]
    left_out = [gap for gap in gaps if gap.why == SAMPLING]
    yield "gaps " + " ".join(str(sum(getattr(gap, what) for gap in some)) for some in (dropped, left_out)
                             for what in ("ubatches", "tokens"))
    yield f"ending {2 if not trace.end else 0 if trace.end['last_part'] else 1}"
    for i, table in sorted(trace.tables[0].items()):
        yield from table_lines(i, table)


def ubatch_lines(ubatch, batch):
    flags = f"{ubatch.warmup:d} {ubatch.first:d} {ubatch.mtp:d}"
    yield f"ubatch {ubatch.number} {batch} {ubatch.context} {ubatch.time} {flags} {ubatch.table}"
    for token in ubatch.tokens:
        yield "  token " + " ".join(str(number(value)) for value in token)
    for layer in ubatch.layers:
        yield f"  layer {layer.layer} {layer.n_expert} {layer.n_used}"
        for i, row in enumerate(layer.rows):
            weights = map(float_text, layer.weights[i]) if layer.weights else []
            yield f"    row {row}: " + " ".join([*map(str, layer.experts[i]), *weights])


def event_lines(trace):
    batches, n = {}, 0
    for event in trace.events:
        if isinstance(event, Cut):
            yield f"cut {event.context} {number(event.sequence)} {event.life} {event.position}"
        elif isinstance(event, Ubatch):
            if event.first or event.context not in batches:
                batches[event.context], n = n, n + 1
            yield from ubatch_lines(event, batches[event.context])


def expected(data):
    trace = Trace(data)
    return [*info_lines(trace), *event_lines(trace), "lost 0 0 0 0"]


# Traces.

def any_events(seed, n=40, weights=True, ids=True):
    """What a server with several contexts and sequences might do, and a few things that none does."""
    rng = random.Random(seed)

    def expert(layer, token, rank):
        size = {1: 60, 2: 1, 4: 5, 5: 512}[layer]
        return min(int(rng.expovariate(6 / size)), size - 1)

    def weight(layer, token, rank):
        return rng.random()

    i, events, lives, positions = 0, [], Counter(), Counter()
    for _ in range(n):
        context, mtp = rng.randrange(2), rng.random() < 0.2
        tokens = []
        for sequence in sorted(rng.sample(range(4), rng.randint(1, 3))):
            key = (context, sequence)
            if rng.random() < 0.1:
                lives[key], positions[key] = lives[key] + 1, 0
            elif rng.random() < 0.1 and positions[key]:
                positions[key] = rng.randrange(positions[key])
                events.append(Cut(i, context, sequence, lives[key], positions[key]))
            for _ in range(rng.choice((1, 1, 1, 3, 30))):
                tokens.append(Token(rng.randrange(-1, 150000) if ids else None, sequence, lives[key], positions[key],
                                    generation=rng.random() < 0.5, output=rng.random() < 0.2))
                positions[key] += 1
        if rng.random() < 0.1:
            tokens = [token._replace(sequence=None, position=None) for token in tokens]
        asked = [k for k, token in enumerate(tokens) if token.output]
        last = None if rng.random() < 0.5 else rng.choice((asked, []))
        events.append(new_ubatch(i, HEAD if mtp else TABLE, tokens, expert,
                                 weight if weights and rng.random() < 0.8 else None,
                                 lambda layer: last if layer == 4 else None, context=context, mtp=mtp, table=int(mtp),
                                 first=rng.random() < 0.7, warmup=i == 0,
                                 time=1700000000000000 + 30000 * i + rng.randrange(-9000, 9000)))
        i += 1
        if rng.random() < 0.1:
            gap = Gap(i, rng.randint(1, 5), rng.randint(1, 900), rng.choice((DISK, SAMPLING, MEMORY, LOST)))
            events.append(gap)
            i += gap.ubatches
        elif rng.random() < 0.1:
            events.append(Rejected(i - 1, len(tokens) - 1, 1))
        elif rng.random() < 0.05:
            events.append(Warmup(i - 1, 1))
    return events


def any_trace(seed, chunk_every=7, weights=True, ids=True, **more):
    return encode(new_header(n_layer=5, weights=weights, tokens=ids), [TABLE, HEAD],
                  any_events(seed, weights=weights, ids=ids), chunk_every, **more)


class Files(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def file(self, data, name="run.moetrace"):
        path = self.folder / name
        path.write_bytes(data)
        return path

    def text(self, path):
        told = subprocess.run([TEXT, path], capture_output=True, text=True)
        self.assertEqual(told.returncode, 0, told.stderr)
        return told.stdout.splitlines()

    def pack(self, *args, status=0):
        done = run_command("pack", *args, text=True)
        self.assertEqual(done.returncode, status, done.stderr)
        return done

    def packed(self, path):
        """Packs a file, and expects it to come out as it went in; returns what it is packed."""
        small, again = self.folder / "small", self.folder / "again"
        self.pack("--force", "-o", small, path)
        self.pack("--force", "--unpack", "-o", again, small)
        self.assertEqual(again.read_bytes(), path.read_bytes())
        self.assertLessEqual(small.stat().st_size, path.stat().st_size)
        return small

    def kinds(self, path):
        return Counter(chunk.kind for chunk in chunks(path.read_bytes()))


class Reading(Files):
    maxDiff = 2000

    def test_tells_what_was_written(self):
        for seed in range(30):
            data = joined(any_trace(seed, chunk_every=(None, 1, 4)[seed % 3], weights=seed % 2 == 0, ids=seed % 5 != 0))
            with self.subTest(seed=seed):
                self.assertEqual(self.text(self.file(data)), expected(data))

    def test_passes_over_what_it_does_not_know(self):
        plain = any_events(3)
        data = joined(encode(new_header(weights=True, tokens=True), [TABLE, HEAD], plain, chunk_every=4))
        strange = plain[:5] + [Chunk(77, b"later")] + plain[5:9] + [Record(88, b"later still")] + plain[9:]
        more = joined(encode(new_header(weights=True, tokens=True), [TABLE, HEAD], strange, chunk_every=4))
        self.assertEqual(self.text(self.file(more)), expected(data))

    def test_standard_input(self):
        data = joined(any_trace(4))
        told = subprocess.run([TEXT, "-"], input=data, capture_output=True)
        self.assertEqual(told.stdout.decode().splitlines(), expected(data))

    def test_rotated(self):
        events = [new_ubatch(100 + i, TABLE, [Token(position=i)], lambda *_: 0) for i in range(4)]
        data = joined(encode(new_header(part=2), [TABLE], events, first=100, end={"last_part": False}))
        self.assertEqual(self.text(self.file(data)), expected(data))

    def test_missing_table(self):
        made = any_trace(5)
        table = next(i for i, chunk in enumerate(made) if b'"table": 1' in chunk.payload)
        lines = self.text(self.file(damaged(made, table, 60)))
        told = expected(joined(made))
        n_heads = sum(line.startswith("ubatch ") and line.endswith(" 1") for line in told)
        self.assertFalse(any(line.startswith("ubatch ") and line.endswith(" 1") for line in lines))
        self.assertEqual(lines[-1].split()[1], "1")
        self.assertEqual(int(lines[-1].split()[4]), n_heads)

    def test_a_ubatch_that_is_longer_than_what_it_holds(self):
        table = [new_layer(0, 8, 2)]
        made = encode(new_header(), [table],
                      [new_ubatch(i, table, [Token()], lambda *_: 3) for i in range(3)], chunk_every=1)
        payload = made[3].payload
        at = 1 + payload[0]  # behind the record of its life
        made[3].payload = payload[:at] + bytes([payload[at] + 1]) + payload[at + 1:] + b"\0"
        lines = self.text(self.file(joined(made)))
        self.assertEqual([line.split()[1] for line in lines if line.startswith("ubatch ")], ["0", "2"])
        self.assertEqual(lines[-1], "lost 0 0 0 1")

    def test_another_trace_behind_it(self):
        first = joined(any_trace(6))
        for seed in range(20): # with fewer chunks than the first, and with more
            with self.subTest(seed=seed):
                lines = self.text(self.file(first + joined(any_trace(seed))))
                self.assertEqual([line for line in lines if not line.startswith("lost")], expected(first)[:-1])


class Packing(Files):
    def test_tells_the_same(self):
        for seed in range(30):
            data = joined(any_trace(seed, chunk_every=(None, 1, 4)[seed % 3], weights=seed % 2 == 0, ids=seed % 5 != 0))
            with self.subTest(seed=seed):
                small = self.packed(self.file(data))
                self.assertIn(PACKED, self.kinds(small))
                self.assertEqual(self.text(small), expected(data))
                self.assertEqual(packed.unpacked(small.read_bytes()), data)

    def test_killed_program(self):
        data = joined(any_trace(8, end=None))
        small = self.packed(self.file(data))
        self.assertEqual(self.text(small), expected(data))
        cut = self.file(data[:-20])
        self.pack("--force", "-o", small, cut)
        self.assertEqual(self.text(small)[:-1], self.text(cut)[:-1])

    def test_what_is_missing_stays_missing(self):
        made = any_trace(9, chunk_every=3)
        whole = sum(chunk.ubatches for chunk in made)
        data = [i for i, chunk in enumerate(made) if chunk.kind == DATA]
        for number in (data[0], data[3], data[-1]):
            for offset in (30, 60):  # the header, the payload
                path = self.file(damaged(made, number, offset))
                small, again = self.folder / "small", self.folder / "again"
                done = self.pack("--force", "-o", small, path, status=1)
                self.assertIn("damaged", done.stderr)
                self.pack("--force", "--unpack", "-o", again, small, status=1)
                events = [line for line in self.text(path) if line.startswith(("ubatch ", "  "))]
                for other in (small, again):
                    lines = self.text(other)
                    self.assertEqual([line for line in lines if line.startswith(("ubatch ", "  "))], events)
                    self.assertEqual(lines[-1].split()[1], "1")
                    self.assertEqual(int(lines[-1].split()[2])
                                     + sum(line.startswith("ubatch ") for line in lines), whole)

    def test_a_damaged_packed_chunk_is_one_of_many(self):
        rng = random.Random(1)
        table = [new_layer(0, 256, 8)]
        tokens = [Token(position=i) for i in range(512)]
        ubatch = new_ubatch(0, table, tokens, lambda *_: min(int(rng.expovariate(0.02)), 255))
        made = encode(new_header(), [table], [ubatch])
        many = made[:2] + [Chunk(DATA, made[2].payload, 2 + i, 1, i, 5, 512)
                           for i in range(1100)] + [Chunk(END, made[3].payload, 1102)]
        many[1052].tokens += 1  # it is not packed
        small = self.packed(self.file(joined(many)))
        self.assertEqual(self.kinds(small)[PACKED], 4)
        data = bytearray(small.read_bytes())
        data[len(data) // 2] ^= 1
        lines = self.text(self.file(bytes(data)))
        lost = int(lines[-1].split()[4])
        self.assertTrue(300 < lost < 600)
        self.assertEqual(sum(line.startswith("ubatch ") for line in lines), 1100 - lost)

        again = self.folder / "again"
        self.pack("--force", "--unpack", "-o", again, self.folder / "run.moetrace", status=1)
        self.assertEqual(self.text(again)[-1], f"lost {lost} {lost} 0 0")
        self.assertEqual([chunk.kind for chunk in chunks(again.read_bytes(), strict=False)],
                         [1, 2] + (1100 - lost) * [DATA] + [END])

    def test_size(self):
        """A prompt and what is generated for it, of a model's real shape:
        no more than 1.15 times the entropy of its experts."""
        rng = random.Random(2)
        table = [new_layer(layer, 64, 8) for layer in range(12)]
        likely = [[1 / (1 + rank) for rank in range(64)] for _ in table]
        order = [rng.sample(range(64), 64) for _ in table]
        counts = [Counter() for _ in table]

        def expert(layer, token, rank):
            chosen = rng.choices(order[layer], likely[layer])[0]
            counts[layer][chosen] += 1
            return chosen

        events = [new_ubatch(i, table, [Token(position=512 * i + k) for k in range(512)], expert, time=40000 * i)
                  for i in range(10)]
        events += [new_ubatch(10 + i, table, [Token(position=5120 + i, generation=True, output=True)], expert,
                              time=400000 + 20000 * i + rng.randrange(900)) for i in range(4880)]
        path = self.file(joined(encode(new_header(), [table], events, chunk_every=50)))
        entropy = sum(n * math.log2(sum(count.values()) / n) for count in counts for n in count.values()) / 8
        small = self.packed(path)
        self.assertLess(small.stat().st_size, 1.15 * entropy)
        self.assertLess(entropy, small.stat().st_size)

    def test_weights_and_token_ids_become_smaller_too(self):
        plain = self.file(joined(any_trace(10, weights=False, ids=False)), "plain")
        full = self.file(joined(any_trace(10)), "full")
        before = full.stat().st_size - plain.stat().st_size
        after = self.packed(full).stat().st_size - self.packed(plain).stat().st_size
        self.assertLess(after, 0.9 * before)

    def test_never_larger(self):
        rng = random.Random(3)
        events = [new_ubatch(i, [new_layer(0, 256, 8)], [Token(position=i)], lambda *_: rng.randrange(256))
                  for i in range(4)]
        path = self.file(joined(encode(new_header(), [[new_layer(0, 256, 8)]], events)))
        small = self.folder / "small"
        done = self.pack("-o", small, path)
        self.assertIn("would not become smaller", done.stdout)
        self.assertEqual(small.read_bytes(), path.read_bytes())

    def test_what_does_not_come_out_again_is_left_as_it_is(self):
        made = any_trace(11, chunk_every=5)
        number = [i for i, chunk in enumerate(made) if chunk.kind == DATA][2]
        made[number].tokens += 1  # more than there are: it cannot be told from the records
        small = self.packed(self.file(joined(made)))
        self.assertEqual(self.kinds(small)[DATA], 1)
        self.assertGreater(self.kinds(small)[PACKED], 1)


class Command(Files):
    def setUp(self):
        super().setUp()
        self.data = joined(any_trace(12))
        self.path = self.file(self.data)

    def test_names(self):
        self.pack(self.path)
        small = self.folder / "run.packed.moetrace"
        self.assertTrue(small.exists())
        self.path.unlink()
        self.pack("--unpack", small)
        self.assertEqual(self.path.read_bytes(), self.data)
        other = self.file(small.read_bytes(), "other")
        self.pack("--unpack", other)
        self.assertEqual((self.folder / "other.unpacked.moetrace").read_bytes(), self.data)

    def test_is_its_owners_alone(self):
        self.pack(self.path)
        self.assertEqual(stat.S_IMODE((self.folder / "run.packed.moetrace").stat().st_mode), 0o600)

    def test_replaces_nothing_unasked(self):
        there = self.file(b"precious", "there")
        done = self.pack("-o", there, self.path, status=1)
        self.assertIn("--force", done.stderr)
        self.assertEqual(there.read_bytes(), b"precious")
        self.pack("--force", "-o", there, self.path)
        self.assertIn(PACKED, self.kinds(there))

    def test_onto_itself(self):
        done = run_command("pack", "--force", "-o", self.path, self.path)
        self.assertEqual(done.returncode, 1)
        self.assertIn("is what is read", str(done.stderr))
        self.assertEqual(self.path.read_bytes(), self.data)

    def test_pipes(self):
        done = run_command("pack", "-o", "-", "-", input=self.data)
        self.assertEqual(packed.unpacked(done.stdout), self.data)
        again = run_command("pack", "--unpack", "-o", "-", "-", input=done.stdout)
        self.assertEqual(again.stdout, self.data)

    def test_reports(self):
        done = self.pack(self.path)
        self.assertIn(f"{len(self.data)} bytes before", done.stdout)
        self.assertIn(f"{(self.folder / 'run.packed.moetrace').stat().st_size} after", done.stdout)
        self.assertEqual(done.stderr, "")

    def test_twice(self):
        small = self.packed(self.path)
        twice = self.folder / "twice"
        done = self.pack("-o", twice, small)
        self.assertIn("packed already", done.stdout)
        self.assertEqual(twice.read_bytes(), small.read_bytes())
        done = self.pack("--unpack", "--force", "-o", twice, self.path)
        self.assertIn("not packed", done.stdout)
        self.assertEqual(twice.read_bytes(), self.data)

    def test_wrong_use(self):
        self.pack(status=2)
        self.pack(self.path, self.path, status=2)
        self.pack("-", status=2)
        self.pack("--nonsense", self.path, status=2)
        self.pack(self.folder / "nowhere", status=1)
        self.pack("-o", "/dev/full", self.path, status=1)

    def test_leaves_nothing_behind_where_it_fails(self):
        wrong = self.file(b"no trace", "wrong")
        done = self.pack(wrong, status=1)
        self.assertIn("not a routing trace", done.stderr)
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["run.moetrace", "wrong"])


if __name__ == "__main__":
    unittest.main()
