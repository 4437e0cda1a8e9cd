#!/usr/bin/env python3
"""The witness of the trace format: bytes written out by hand, what it refuses, and that it reads what it writes."""

import json
import random
import struct
import tempfile
import unittest
import zlib
from pathlib import Path

from moetrace import (AMENDMENTS, DATA, DISK, END, HEADER, LAYERS, LOST, MAGIC, MEMORY, SAMPLING, Chunk, Cut, Gap,
                      Malformed, Record, Rejected, Token, Trace, Warmup, damaged, encode, joined, new_header, new_layer,
                      new_ubatch, summary, write)

TABLE = [new_layer(0, 8, 2, ("blk.0.ffn_gate_exps.weight", 1024)),
         new_layer(2, 5, 3, ("blk.2.ffn_up_exps.weight", None))]


def expert(layer, token, rank):
    return (7 * token.id + layer + rank) % 5


def tokens(text, first=0, **more):
    return [Token(id=byte, position=first + i, **more) for i, byte in enumerate(text)]


def chunk(number, kind, payload, ubatches=0, first=0, time=0, tokens=0):
    """A chunk, field by field from the page."""
    head = (b"\x89MOET\r\n\x1a" + struct.pack("<HBB", 1, kind, 0)
            + struct.pack("<III", number, len(payload), ubatches) +
            struct.pack("<QqI", first, time, tokens) + struct.pack("<I", zlib.crc32(payload)))
    return head + struct.pack("<I", zlib.crc32(head)) + payload


def file_of(*payloads, table=None, **header):
    """A file of chunks of data, each a tuple of payload, ubatches, first, time and tokens."""
    table = TABLE if table is None else table
    chunks = [chunk(0, HEADER, json.dumps(new_header(**header)).encode()),
              chunk(1, LAYERS, json.dumps({"table": 0, "layers": table}).encode())]
    return b"".join(chunks + [chunk(2 + i, DATA, *payload) for i, payload in enumerate(payloads)])


# Two tokens of sequence 3 (context 0, life 1) at 299 and 300, ids 104 and 105, the last one asking for output; two
# layers, the second one with a row for the last token alone; experts 1 2, 6 7 of 8 (3 bits), and 4 0 3 of 5 (3 bits):
#   1 | 2 << 3 | 6 << 6 | 7 << 9 | 4 << 12 | 0 << 15 | 3 << 18 = 0x0c4f91
BY_HAND = bytes.fromhex(
    "04 01 00 04 01"     # LIFE: context 0, sequence 3 + 1, life 1
    "12 02 0a 2a 00"     # UBATCH: 5 us after, first + ids + reduced, table 0
    "02"                 # two spans
    "00 00 ac 02"        # one prompt token of life 0 at 299 + 1
    "06 00"              # one that asks for output, at the position that follows
    "01 03"              # one reduced layer: index 1, with rows
    "69 6a"              # 104 + 1, 105 + 1
    "91 4f 0c"           # experts
    "03 04 00 09"        # CUT: life 0, from 9 on
    "04 03 02 07 01"     # GAP: two ubatches, seven tokens, the disk
)


class ByHand(unittest.TestCase):
    def test_every_field(self):
        trace = Trace(file_of((BY_HAND, 1, 0, 1000, 2), tokens=True))
        (ubatch,) = trace.ubatches
        self.assertEqual((ubatch.number, ubatch.time, ubatch.context, ubatch.table), (0, 1005, 0, 0))
        self.assertEqual((ubatch.warmup, ubatch.first, ubatch.mtp), (False, True, False))
        self.assertEqual(ubatch.tokens, [Token(104, 3, 1, 299), Token(105, 3, 1, 300, output=True)])
        self.assertEqual(ubatch.layers, [(0, 8, 2, [0, 1], [[1, 2], [6, 7]], None), (2, 5, 3, [1], [[4, 0, 3]], None)])
        self.assertEqual(trace.cuts, [Cut(1, 0, 3, 1, 9)])
        self.assertEqual(trace.gaps, [Gap(1, 2, 7, DISK)])
        self.assertEqual(trace.damage, [])
        self.assertIsNone(trace.end)

    def test_the_writer_writes_the_same(self):
        trace = Trace(file_of((BY_HAND, 1, 0, 1005, 2), tokens=True))
        (data,) = [made for made in encode(trace.header, [TABLE], trace.events, end=None) if made.kind == DATA]
        self.assertEqual(data.payload, BY_HAND.replace(b"\x12\x02\x0a", b"\x12\x02\x00"))

    def test_gate_weights_are_half_floats(self):
        table = [new_layer(0, 4, 2)]
        payload = bytes.fromhex("04 01 00 01 00" "0d 02 00 10 00 01 00 00 01" "09" "00 38 00 34")
        (ubatch,) = Trace(file_of((payload, 1, 0, 0, 1), table=table, weights=True)).ubatches
        self.assertEqual(ubatch.layers[0].experts, [[1, 2]])
        self.assertEqual(ubatch.layers[0].weights, [[0.5, 0.25]])

    def test_amendments(self):
        amendments = bytes.fromhex("03 01 00 01" "04 02 00 01 01")
        trace = Trace(file_of((BY_HAND, 1, 0, 0, 2), tokens=True) + chunk(3, AMENDMENTS, amendments))
        self.assertTrue(trace.ubatches[0].warmup)
        self.assertEqual([token.rejected for token in trace.ubatches[0].tokens], [False, True])
        self.assertEqual(trace.amendments, [Warmup(0, 1), Rejected(0, 1, 1)])

    def test_one_expert_needs_no_bits(self):
        payload = bytes.fromhex("04 01 00 00 00" "08 02 00 00 00 01 08 00 00")
        (ubatch,) = Trace(file_of((payload, 1, 0, 0, 2), table=[new_layer(0, 1, 1)])).ubatches
        self.assertEqual(ubatch.layers[0].experts, [[0], [0]])
        self.assertEqual(ubatch.tokens, [Token(None, None, 0, None)] * 2)

    def test_sizes(self):
        trace = Trace(file_of((BY_HAND, 1, 0, 0, 2), tokens=True))
        sizes = trace.sizes()
        self.assertEqual((sizes["ids"], sizes["weights"], sizes["token_ids"]), (3, 0, 2))
        self.assertEqual(sizes["else"], len(BY_HAND) - 5)
        self.assertEqual(sizes["chunk_headers"], 3 * 52)
        self.assertEqual(sum(sizes.values()), len(file_of((BY_HAND, 1, 0, 0, 2), tokens=True)))


class Refused(unittest.TestCase):
    def refuse(self, data, why, **how):
        with self.assertRaisesRegex(Malformed, why):
            Trace(data, **how)

    def with_payload(self, old, new, why):
        payload = BY_HAND.replace(bytes.fromhex(old), bytes.fromhex(new), 1)
        self.assertNotEqual(payload, BY_HAND)
        self.refuse(file_of((payload, 1, 0, 0, 2), tokens=True), why)

    def test_payloads(self):
        self.with_payload("91 4f 0c", "91 4f 2c", "bits behind the last expert")
        self.with_payload("91 4f 0c", "91 6f 0c", "expert 6 of 5")
        self.with_payload("02 07 01", "02 07 05", "a gap because of 5")
        self.with_payload("02 07 01", "00 07 01", "a gap of no ubatches")
        self.with_payload("0a 2a 00", "0a 2a 01", "no table 1")
        self.with_payload("0a 2a 00", "0a 6a 00", "flags 106")
        self.with_payload("06 00 01", "06 01 01", "no life 1")
        self.with_payload("00 00 ac 02", "04 00 ac 02", "follows one that is not there|reduced|shorter|no life")
        self.with_payload("03 04 00 09", "03 08 00 09", "record of kind 8")
        self.with_payload("03 04 00 09", "03 01 00 09", "shorter than what it holds")
        self.with_payload("03 04 00 09", "04 04 00 89 00", "longer than it needs")
        self.with_payload("03 04 00 09", "04 04 00 09 00", "longer than what it holds")
        self.with_payload("04 03 02 07 01", "05 03 02 07 01", "beyond its chunk")
        self.with_payload("01 03 69", "01 05 69", "a reduced layer that the table does not have")
        self.with_payload("03 04 00 09", "04 01 00 04 01", "is there twice")

    def test_varints(self):
        cut = "03 04 00 09"
        self.with_payload(cut, "0c 04 00 ff ff ff ff ff ff ff ff ff 02", "larger than 64 bits")
        self.with_payload(cut, "0d 04 00 ff ff ff ff ff ff ff ff ff ff 01", "longer than 10 bytes")

    def test_counts_in_the_header_of_a_chunk(self):
        self.refuse(file_of((BY_HAND, 1, 0, 0, 3), tokens=True), "1 ubatches and 3 tokens, it says")
        self.refuse(file_of((BY_HAND, 2, 0, 0, 2), tokens=True), "2 ubatches and 2 tokens, it says")

    def test_numbers_of_ubatches(self):
        once = (BY_HAND, 1, 0, 0, 2)
        self.assertEqual([u.number for u in Trace(file_of(once, (BY_HAND, 1, 3, 0, 2), tokens=True)).ubatches], [0, 3])
        self.refuse(file_of(once, once, tokens=True), "ubatch 0, 3 was to follow")
        self.refuse(file_of(once, (BY_HAND, 1, 4, 0, 2), tokens=True), "ubatch 4, 3 was to follow")
        self.refuse(file_of((BY_HAND, 1, 1, 0, 2), tokens=True), "ubatch 1, 0 was to follow")

    def test_what_the_header_says_is_not_there(self):
        self.refuse(file_of((BY_HAND, 1, 0, 0, 2)), "token ids, and the header says none")

    def test_headers(self):
        for broken, why in [({"version": 2}, "version 2"), ({"pid": "1"}, "pid is '1'"), ({"sample": 0}, "sample is 0"),
                            ({"weights": 1}, "weights is 1"), ({"seed": 5}, "seed is 5"),
                            ({"sample": 2, "seed": 0}, "seed is 0"), ({"model": {}}, "model has no name")]:
            self.refuse(file_of(**broken), why)
        twice = json.dumps(new_header()).replace('"pid": 1', '"pid": 1, "pid": 1').encode()
        self.refuse(chunk(0, HEADER, twice), "a key twice")
        for fingerprint in "12", "12-0123", "-0123456789abcdef", "12-0123456789ABCDEF":
            self.refuse(file_of(model={**new_header()["model"], "fingerprint": fingerprint}), "fingerprint")

    def test_tables(self):
        table = json.dumps({"table": 0, "layers": TABLE}).encode()
        self.refuse(file_of() + chunk(2, LAYERS, table), "table 0 is out of order")
        self.refuse(file_of(table=[new_layer(0, 2, 3)]), "3 of 2 experts")

    def test_chunks(self):
        whole = file_of((BY_HAND, 1, 0, 0, 2), tokens=True)
        self.refuse(b"", "not a trace")
        self.refuse(whole[1:], "not a trace")
        self.refuse(whole + b"\0", "no chunk begins here")
        self.refuse(whole + chunk(4, END, b"{}"), "chunk 4 in the place of chunk 3")
        self.refuse(whole + chunk(3, 99, b""), "chunk of kind 99")
        self.refuse(whole + chunk(3, END, b"{}"), "end has no complete")
        self.refuse(chunk(0, LAYERS, b"{}"), "the first chunk is no header")
        newer = bytearray(chunk(3, DATA, b""))
        newer[8] = 2
        newer[48:] = struct.pack("<I", zlib.crc32(newer[:48]))
        self.refuse(whole + newer, "version 2")
        self.refuse(whole + newer, "version 2", strict=False)

    def test_amendments(self):
        whole = file_of((BY_HAND, 1, 0, 0, 2), tokens=True)
        for amendment, why in [("03 01 00 04", "ubatch 3, which is yet to come"), ("04 02 00 01 02", "token 2 of 2"),
                               ("04 02 00 00 01 04 02 00 00 01", "rejected twice"), ("03 01 00 00", "no ubatches")]:
            self.refuse(whole + chunk(3, AMENDMENTS, bytes.fromhex(amendment)), why)

    def test_an_end_that_counted_otherwise(self):
        made = encode(new_header(tokens=True), [TABLE],
                      [new_ubatch(0, TABLE, tokens(b"a"), expert)], end={"ubatches": 2})
        self.refuse(joined(made), "the end says")


class Written(unittest.TestCase):
    def some(self, seed, n=60):
        """Events of a run that has everything in it: two contexts, lives, cuts, gaps, another table."""
        rng = random.Random(seed)
        tables = [TABLE, [new_layer(i, 128, 4) for i in range(9)], [new_layer(48, 512, 10)]]
        state = {(context, sequence): [0, 0] for context in (0, 1) for sequence in (None, 0, 1, 7)}
        events, number, time = [], 0, 5000
        while len(events) < n:
            time += rng.randrange(-3, 1000)
            context = rng.randrange(2)
            sequence = rng.choice([None, 0, 1, 7])
            life = state[context, sequence]
            what = rng.random()
            if what < 0.1:
                events.append(Gap(number, rng.randrange(1, 300), rng.randrange(1 << 40),
                                  rng.choice([DISK, SAMPLING, MEMORY, LOST])))
                number += events[-1].ubatches
            elif what < 0.2:
                life[1] = rng.randrange(life[1] + 1)
                events.append(Cut(number, context, sequence, life[0], life[1]))
            elif what < 0.3:
                life[:] = life[0] + rng.randrange(1, 3), 0
            else:
                batch = []
                for _ in range(rng.randrange(1, 5)):
                    its = rng.choice([None, 0, 1, 7])
                    life = state[context, its]
                    count, generation = rng.randrange(1, 9), rng.random() < 0.5
                    for i in range(count):
                        batch.append(Token(rng.choice([-1, 0, 127, 128, 200000]), its, life[0],
                                           life[1] + i if its != 7 else None, generation, rng.random() < 0.3))
                    life[1] += count
                table = rng.randrange(len(tables))
                asked = [i for i, token in enumerate(batch) if token.output]
                rows = {layer["layer"]: rng.choice([None, None, asked, []]) for layer in tables[table]}
                weighed = rng.random() < 0.5
                events.append(new_ubatch(number, tables[table], batch, lambda *_: rng.randrange(5),
                                         (lambda *_: rng.randrange(1 << 10) / 1024) if weighed else None,
                                         rows.get, table=table, time=time, context=context, warmup=rng.random() < 0.1,
                                         first=rng.random() < 0.5, mtp=table == 2))
                number += 1
        return tables, events

    def test_what_is_written_is_read(self):
        for seed in range(20):
            for chunk_every in None, 1, 7:
                with self.subTest(seed=seed, chunk_every=chunk_every):
                    tables, events = self.some(seed)
                    header = new_header(tokens=True, weights=True)
                    trace = Trace(joined(encode(header, tables, events, chunk_every=chunk_every)))
                    self.assertEqual(trace.events, events)
                    self.assertEqual(trace.header, header)
                    self.assertEqual(trace.damage, [])
                    self.assertEqual([trace.tables[0][i] for i in trace.tables[0]], tables[:len(trace.tables[0])])

    def test_a_file(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.moetrace"
            tables, events = self.some(1)
            write(path, new_header(tokens=True, weights=True), tables, events, end=None)
            self.assertEqual(Trace(path).events, events)
            self.assertIsNone(Trace(path).end)
            self.assertTrue(any(line.startswith("decisions:") for line in summary(Trace(path))))

    def test_a_token_takes_few_bytes(self):
        events = [new_ubatch(i, TABLE, [Token(None, 0, 0, i, True, True)], lambda *_: 3, time=10 ** 15 + 30000 * i)
                  for i in range(500)]
        self.assertLess(Trace(joined(encode(new_header(), [TABLE], events, chunk_every=100))).sizes()["else"], 500 * 12)

    def test_amendments_reach_back(self):
        events = [new_ubatch(i, TABLE, tokens(b"abc", generation=True), expert) for i in range(3)]
        made = encode(new_header(tokens=True), [TABLE], [*events, Warmup(0, 2), Rejected(2, 1, 2)])
        trace = Trace(joined(made))
        self.assertEqual([ubatch.warmup for ubatch in trace.ubatches], [True, True, False])
        self.assertEqual([[token.rejected for token in ubatch.tokens] for ubatch in trace.ubatches],
                         [[False] * 3, [False] * 3, [False, True, True]])

    def test_parts(self):
        events = [new_ubatch(i, TABLE, tokens(b"abc"), expert) for i in range(4)]
        first = joined(encode(new_header(tokens=True), [TABLE], events[:2], end={"last_part": False}))
        second = joined(encode(new_header(tokens=True, part=1), [TABLE], [*events[2:], Warmup(0, 1)], first=2,
                               end={"ubatches": 4, "tokens": 12}))
        trace = Trace(first, second)
        self.assertEqual([ubatch.warmup for ubatch in trace.ubatches], [True, False, False, False])
        self.assertEqual(len(Trace(second).ubatches), 2)
        for parts in (second, first), (first, first):
            with self.assertRaises(Malformed):
                Trace(*parts)


class Damage(unittest.TestCase):
    def setUp(self):
        self.events = [new_ubatch(i, TABLE, tokens(b"abc"), expert) for i in range(6)]
        self.made = encode(new_header(tokens=True), [TABLE], self.events, chunk_every=2)
        self.assertEqual([made.kind for made in self.made], [HEADER, LAYERS, DATA, DATA, DATA, END])

    def numbers(self, data, **how):
        trace = Trace(data, **how)
        return [ubatch.number for ubatch in trace.ubatches], [what for _, what in trace.damage]

    def test_a_file_cut_at_every_byte(self):
        whole = joined(self.made)
        head = sum(len(made.bytes()) for made in self.made[:2])
        ends = [head + sum(len(made.bytes()) for made in self.made[2:3 + i]) for i in range(4)]
        for size in range(head, len(whole)):
            numbers, damage = self.numbers(whole[:size])
            self.assertEqual(numbers, list(range(2 * sum(end <= size for end in ends[:3]))))
            self.assertEqual(damage, [] if size in (head, *ends) else ["the file ends in a chunk"])

    def test_one_byte_is_another(self):
        head = "the header of a chunk does not check"
        for offset, what in ((0, "no chunk begins here"), (20, head), (49, head),
                             (60, "the payload of a chunk does not check")):
            data = damaged(self.made, 3, offset)
            with self.assertRaisesRegex(Malformed, what):
                Trace(data)
            numbers, damage = self.numbers(data, strict=False)
            self.assertEqual(numbers, [0, 1, 4, 5])
            self.assertEqual(damage[0], what)

    def test_chunks_that_are_missing(self):
        data = joined(self.made[:2] + self.made[4:])
        self.assertEqual(self.numbers(data, strict=False), ([4, 5], ["chunk 4 in the place of chunk 2"]))

    def test_a_table_that_is_missing(self):
        trace = Trace(joined(self.made[:1] + self.made[2:]), strict=False)
        self.assertEqual([ubatch.layers for ubatch in trace.ubatches], [[]] * 6)
        self.assertIn("table 0 is missing", [what for _, what in trace.damage])

    def test_rubbish_between_chunks(self):
        parts = [made.bytes() for made in self.made]
        data = b"".join(parts[:3]) + MAGIC + b"rubbish" + b"".join(parts[3:])
        self.assertEqual(self.numbers(data, strict=False), (list(range(6)), ["the header of a chunk does not check"]))

    def test_kinds_that_nobody_knows(self):
        events = [self.events[0], Record(77, b"later"), self.events[1], Chunk(99, b"later"), *self.events[2:]]
        self.assertEqual(self.numbers(joined(encode(new_header(tokens=True), [TABLE], events)), strict=False),
                         (list(range(6)), []))


if __name__ == "__main__":
    unittest.main(verbosity=2)
