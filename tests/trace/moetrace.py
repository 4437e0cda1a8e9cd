#!/usr/bin/env python3
"""A reader and a writer of routing traces, written from docs/trace-format.md and nothing else.

The reader takes no liberties: what the page does not allow raises Malformed. Of a file that was damaged on its way it
reads, with strict=False, what the page says can be read.
"""

import json
import struct
import sys
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Optional

MAGIC = b"\x89MOET\r\n\x1a"
VERSION = 1
FORMAT = "llama-expert-tracer-routing"
HEAD = struct.Struct("<8sHBBIIIQqIII")

HEADER, LAYERS, DATA, AMENDMENTS, END, CODE, PACKED = range(1, 8)
LIFE, UBATCH, GAP, CUT = range(1, 5)
WARMUP, REJECTED = range(1, 3)
DISK, SAMPLING, MEMORY, LOST = range(1, 5)

FLAG_WARMUP, FLAG_FIRST, FLAG_MTP, FLAG_IDS, FLAG_WEIGHTS, FLAG_REDUCED = (1 << bit for bit in range(6))
SPAN_GENERATION, SPAN_OUTPUT, SPAN_FOLLOWS = 1, 2, 4

STRING, NUMBER, BOOLEAN, OBJECT = (str,), (int,), (bool,), (dict,)
MAYBE = (str, type(None))
HEADER_KEYS = {"format": STRING, "version": NUMBER, "tracer": STRING, "run": STRING, "pid": NUMBER,
               "trace": STRING, "part": NUMBER, "engine": MAYBE, "capture": MAYBE, "model": OBJECT, "n_layer": NUMBER,
               "phases_known": BOOLEAN, "weights": BOOLEAN, "tokens": BOOLEAN, "sample": NUMBER}
MODEL_KEYS = {"name": MAYBE, "architecture": MAYBE, "file": MAYBE, "fingerprint": MAYBE}
LAYER_KEYS = {"layer": NUMBER, "n_expert": NUMBER, "n_expert_used": NUMBER, "tensors": (list,)}
TENSOR_KEYS = {"name": STRING, "expert_bytes": (int, type(None))}
END_KEYS = {"complete": BOOLEAN, "last_part": BOOLEAN, "ubatches": NUMBER, "tokens": NUMBER, "dropped_ubatches": NUMBER,
            "dropped_tokens": NUMBER, "left_out_ubatches": NUMBER, "left_out_tokens": NUMBER, "waited_ms": NUMBER}


class Malformed(Exception):
    pass


def check(condition, what):
    if not condition:
        raise Malformed(what)


# What a trace is made of: both what the reader returns and what the writer takes.

class Token(NamedTuple):
    id: Optional[int] = None        # None: not recorded; -1: an embedding
    sequence: Optional[int] = 0     # None: not known
    life: int = 0
    position: Optional[int] = None  # None: not known
    generation: bool = False
    output: bool = False
    rejected: bool = False


class Layer(NamedTuple):
    layer: int
    n_expert: int
    n_used: int
    rows: list                      # which token each row is
    experts: list                   # of each row
    weights: Optional[list] = None  # likewise


@dataclass
class Ubatch:
    number: int
    time: int
    tokens: list
    layers: list
    context: int = 0
    warmup: bool = False
    first: bool = True
    mtp: bool = False
    table: int = 0


@dataclass
class Gap:
    number: int
    ubatches: int
    tokens: int
    why: int


@dataclass
class Cut:
    number: int  # of the ubatch that follows
    context: int
    sequence: Optional[int]
    life: int
    position: int


@dataclass
class Warmup:
    first: int
    ubatches: int


@dataclass
class Rejected:
    ubatch: int
    first: int
    tokens: int


@dataclass
class Record:
    """Of a kind that nobody knows: only to be written."""
    kind: int
    body: bytes


@dataclass
class Chunk:
    kind: int
    payload: bytes
    number: int = 0
    ubatches: int = 0
    first: int = 0
    time: int = 0
    tokens: int = 0
    offset: int = field(default=0, compare=False)

    def bytes(self):
        head = HEAD.pack(MAGIC, VERSION, self.kind, 0, self.number, len(self.payload), self.ubatches,
                         self.first, self.time, self.tokens, zlib.crc32(self.payload), 0)[:-4]
        return head + struct.pack("<I", zlib.crc32(head)) + self.payload


# Reading.

class Reader:
    """Fields of a payload, one behind the other."""

    def __init__(self, data, at=0, end=None):
        self.data = data
        self.at = at
        self.end = len(data) if end is None else end

    def left(self):
        return self.end - self.at

    def take(self, n):
        check(n <= self.left(), "a record is shorter than what it holds")
        self.at += n
        return self.data[self.at - n:self.at]

    def byte(self):
        return self.take(1)[0]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                check(byte or shift == 7, "a varint is longer than it needs to be")
                check(value < 1 << 64, "a varint is larger than 64 bits")
                return value
            check(shift < 70, "a varint is longer than 10 bytes")

    def zigzag(self):
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def record(self):
        """The kind of the next record, and a reader of its body."""
        n = self.varint()
        check(1 <= n <= self.left(), "a record goes beyond its chunk")
        self.at += n
        return self.data[self.at - n], Reader(self.data, self.at - n + 1, self.at)


def bits_of(n_expert):
    return (n_expert - 1).bit_length()


def unpack(data, at, width, n):
    """n numbers of so many bits, from bit `at` on."""
    if width == 0:
        return [0] * n
    mask, values = (1 << width) - 1, []
    for done in range(0, n, 8):
        bit, count = at + done * width, min(8, n - done)
        word = int.from_bytes(data[bit >> 3:(bit + count * width + 7) >> 3], "little") >> (bit & 7)
        values += [word >> shift & mask for shift in range(0, count * width, width)]
    return values


def rows_of(values, n_used):
    return [list(values[i:i + n_used]) for i in range(0, len(values), n_used)]


def unique(pairs):
    keys = dict(pairs)
    check(len(keys) == len(pairs), "a key twice in one JSON object")
    return keys


def check_keys(thing, keys, where):
    check(isinstance(thing, dict), f"{where} is no object")
    for key, types in keys.items():
        check(key in thing, f"{where} has no {key}")
        known = isinstance(thing[key], types) and (bool in types or not isinstance(thing[key], bool))
        check(known, f"{where}: {key} is {thing[key]!r}")
        check(not isinstance(thing[key], int) or thing[key] >= 0, f"{where}: {key} is {thing[key]!r}")


def parse(payload, where):
    try:
        return json.loads(payload.decode(), object_pairs_hook=unique)
    except ValueError as error:
        raise Malformed(f"{where}: {error}") from None


def header_of(payload):
    header = parse(payload, "header")
    check_keys(header, HEADER_KEYS, "header")
    check_keys(header["model"], MODEL_KEYS, "model")
    check((header["format"], header["version"]) == (FORMAT, VERSION),
          f"{header['format']}, version {header['version']}")
    check(header["sample"] >= 1, "sample is 0")
    if "seed" in header:
        check_keys(header, {"seed": NUMBER}, "header")
        check(header["sample"] > 1 and 1 <= header["seed"] <= 1 << 53, f"seed is {header['seed']}")
    fingerprint = header["model"]["fingerprint"]
    if fingerprint is not None:
        size, _, digest = fingerprint.partition("-")
        check(size.isdigit() and len(digest) == 16 and not set(digest) - set("0123456789abcdef"),
              f"fingerprint {fingerprint!r}")
    return header


def splitmix64(seed, i):
    """The i-th number of SplitMix64, from 0."""
    mask = (1 << 64) - 1
    z = seed + (i + 1) * 0x9E3779B97F4A7C15 & mask
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
    return z ^ z >> 31


def is_sampled(header, context, batch):
    """Whether a context's batch, both counted from 0, is recorded in a trace with this header."""
    n = header["sample"]
    chosen = splitmix64(splitmix64(header["seed"], context), batch // n) % n if "seed" in header else 0
    return batch % n == chosen


def table_of(payload):
    table = parse(payload, "layers")
    check_keys(table, {"table": NUMBER, "layers": (list,)}, "layers")
    for layer in table["layers"]:
        check_keys(layer, LAYER_KEYS, "a layer")
        check(1 <= layer["n_expert_used"] <= layer["n_expert"],
              f"{layer['n_expert_used']} of {layer['n_expert']} experts are used")
        for tensor in layer["tensors"]:
            check_keys(tensor, TENSOR_KEYS, "a tensor")
    return table


def header_fault(head):
    """What is wrong where a chunk should begin, if anything."""
    if head[:8] != MAGIC[:len(head)]:
        return "no chunk begins here"
    if len(head) < HEAD.size:
        return "the file ends in a chunk"
    if zlib.crc32(head[:48]) != struct.unpack_from("<I", head, 48)[0]:
        return "the header of a chunk does not check"
    return None


def chunks(data, strict=True, damage=None):
    """The chunks of a file that are whole. What is not goes to `damage`: pairs of offset and reason."""
    damage = [] if damage is None else damage
    at = number = 0

    def lost(fault, allowed):
        check(allowed or not strict, fault)
        damage.append((at, fault))

    while 0 <= at < len(data):
        head = data[at:at + HEAD.size]
        fault = header_fault(head)
        if fault:
            lost(fault, allowed=fault == "the file ends in a chunk")
            at = data.find(MAGIC, at + 1)
            continue
        _, version, kind, zero, its_number, size, ubatches, first, time, tokens, crc, _ = HEAD.unpack(head)
        check(1 <= version <= VERSION and zero == 0, f"version {version}")
        payload = data[at + HEAD.size:at + HEAD.size + size]
        if len(payload) < size:
            lost("the file ends in a chunk", allowed=data.find(MAGIC, at + 1) < 0)
            at = data.find(MAGIC, at + 1)
            continue
        if its_number != number:
            lost(f"chunk {its_number} in the place of chunk {number}", allowed=False)
        number = its_number + 1
        if zlib.crc32(payload) == crc:
            yield Chunk(kind, payload, its_number, ubatches, first, time, tokens, at)
        else:
            lost("the payload of a chunk does not check", allowed=False)
        at += HEAD.size + size


class Trace:
    """A trace, of one file or of all its parts (each a path, or the bytes themselves)."""

    def __init__(self, *parts, strict=True):
        self.strict = strict
        self.header = None   # of the first part
        self.tables = []     # of each part: its tables by number
        self.end = None      # of the last part
        self.events = []     # Ubatch, Gap and Cut, in the order of evaluation
        self.amendments = [] # Warmup and Rejected, applied to the ubatches already
        self.damage = []     # where something is missing: of a file that is whole up to its end, that it ends too early
        self.sections = Counter()
        self.next = None     # number of the ubatch to come
        for number, part in enumerate(parts):
            self.read_part(part if isinstance(part, bytes) else Path(part).read_bytes(), number)
        self.by_number = {ubatch.number: ubatch for ubatch in self.ubatches}
        self.amend()
        self.check_end()

    ubatches = property(lambda self: [event for event in self.events if isinstance(event, Ubatch)])
    gaps = property(lambda self: [event for event in self.events if isinstance(event, Gap)])
    cuts = property(lambda self: [event for event in self.events if isinstance(event, Cut)])

    def sizes(self):
        """Bytes of ids, weights, token ids, chunk headers, JSON, and everything else."""
        return {name: self.sections[name] for name in ("ids", "weights", "token_ids", "chunk_headers", "json", "else")}

    def read_part(self, data, number):
        self.tables.append({})
        check(data[:8] == MAGIC, "not a trace")
        ended = False
        header = None
        for chunk in chunks(data, self.strict, self.damage):
            check(not ended, "a chunk behind the end")
            check(header is not None or chunk.kind == HEADER, "the first chunk is no header")
            self.sections["chunk_headers"] += HEAD.size
            if chunk.kind in (HEADER, LAYERS, END):
                self.sections["json"] += len(chunk.payload)
            if chunk.kind == HEADER:
                check(chunk.number == 0, "a header that is not the first chunk")
                header = header_of(chunk.payload)
                self.join(header, number)
            elif chunk.kind == LAYERS:
                table = table_of(chunk.payload)
                check(not self.strict or table["table"] == len(self.tables[-1]),
                      f"table {table['table']} is out of order")
                check(table["table"] not in self.tables[-1], f"table {table['table']} is there twice")
                self.tables[-1][table["table"]] = table["layers"]
            elif chunk.kind == DATA:
                self.read_data(chunk)
            elif chunk.kind == AMENDMENTS:
                self.read_amendments(chunk)
            elif chunk.kind == END:
                self.end = parse(chunk.payload, "end")
                check_keys(self.end, END_KEYS, "end")
                ended = True
            else:
                check(chunk.kind not in (CODE, PACKED), "a packed trace: see packed.py")
                check(not self.strict, f"chunk of kind {chunk.kind}")
        check(header is not None, "no header")

    def join(self, header, number):
        if self.header is None:
            self.header = header
            return
        check(header["trace"] == self.header["trace"], "parts of different traces")
        check(header["part"] == self.header["part"] + number, "parts are out of order")
        check(self.end is None or not self.end["last_part"], "a part behind the last one")
        self.end = None

    def expect(self, number, what):
        """The next ubatch that the file tells of has this number."""
        if self.next is None:
            self.next = number if self.header["part"] or not self.strict else 0
        check(number == self.next or not self.strict and number > self.next,
              f"{what} {number}, {self.next} was to follow")
        self.next = number

    def read_data(self, chunk):
        self.expect(chunk.first, "ubatch")
        payload = Payload(self, chunk)
        events = payload.read()
        recorded = [event for event in events if isinstance(event, Ubatch)]
        check((len(recorded), sum(len(ubatch.tokens) for ubatch in recorded)) == (chunk.ubatches, chunk.tokens),
              f"chunk {chunk.number} has {chunk.ubatches} ubatches and {chunk.tokens} tokens, it says")
        self.next = payload.number
        self.events += events
        self.sections += payload.sections

    def read_amendments(self, chunk):
        reader = Reader(chunk.payload)
        self.sections["else"] += len(chunk.payload)
        while reader.left():
            kind, body = reader.record()
            if kind == WARMUP:
                amendment = Warmup(body.varint(), body.varint())
                check(amendment.ubatches > 0, "a warm-up of no ubatches")
                last = amendment.first + amendment.ubatches - 1
            elif kind == REJECTED:
                amendment = Rejected(body.varint(), body.varint(), body.varint())
                check(amendment.tokens > 0, "no tokens are rejected")
                last = amendment.ubatch
            else:
                check(not self.strict, f"amendment of kind {kind}")
                continue
            check(not body.left(), "an amendment is longer than what it holds")
            told = self.header["part"] > 0 if self.next is None else last < self.next
            check(told or not self.strict, f"an amendment of ubatch {last}, which is yet to come")
            self.amendments.append(amendment)

    def amend(self):
        for amendment in self.amendments:
            if isinstance(amendment, Warmup):
                for number in range(amendment.first, amendment.first + amendment.ubatches):
                    if number in self.by_number:
                        self.by_number[number].warmup = True
            elif amendment.ubatch in self.by_number:
                tokens = self.by_number[amendment.ubatch].tokens
                end = amendment.first + amendment.tokens
                check(end <= len(tokens), f"token {end - 1} of {len(tokens)} is rejected")
                for i in range(amendment.first, end):
                    check(not tokens[i].rejected, f"token {i} of ubatch {amendment.ubatch} is rejected twice")
                    tokens[i] = tokens[i]._replace(rejected=True)

    def check_end(self):
        if self.end and self.header["part"] == 0 and not self.damage:
            sums = totals(self.events)
            said = {key: self.end[key] for key in sums}
            check(said == sums, f"the end says {said}, the trace has {sums}")


def totals(events):
    ubatches = [event for event in events if isinstance(event, Ubatch)]
    dropped = [event for event in events if isinstance(event, Gap) and event.why != SAMPLING]
    left_out = [event for event in events if isinstance(event, Gap) and event.why == SAMPLING]
    return {"ubatches": len(ubatches), "tokens": sum(len(ubatch.tokens) for ubatch in ubatches),
            "dropped_ubatches": sum(gap.ubatches for gap in dropped),
            "dropped_tokens": sum(gap.tokens for gap in dropped),
            "left_out_ubatches": sum(gap.ubatches for gap in left_out),
            "left_out_tokens": sum(gap.tokens for gap in left_out)}


class Payload:
    """The records of one chunk of data."""

    def __init__(self, trace, chunk):
        self.trace = trace
        self.chunk = chunk
        self.tables = trace.tables[-1]
        self.number = chunk.first
        self.time = chunk.time
        self.lives = []      # (context, sequence, life)
        self.positions = {}  # the next one, by life index
        self.sections = Counter()

    def read(self):
        reader, events = Reader(self.chunk.payload), []
        readers = {LIFE: self.life, UBATCH: self.ubatch, GAP: self.gap, CUT: self.cut}
        while reader.left():
            kind, body = reader.record()
            if kind not in readers:
                check(not self.trace.strict, f"record of kind {kind}")
                continue
            event = readers[kind](body)
            check(not body.left(), f"a record of kind {kind} is longer than what it holds")
            events += [event] if event else []
        self.sections["else"] = len(self.chunk.payload) - sum(self.sections.values())
        return events

    def life(self, body):
        context, sequence, life = body.varint(), body.varint(), body.varint()
        named = (context, sequence - 1 if sequence else None, life)
        check(named not in self.lives, f"life {named} is there twice")
        self.lives.append(named)

    def life_at(self, index):
        check(index < len(self.lives), f"no life {index}")
        return self.lives[index]

    def gap(self, body):
        gap = Gap(self.number, body.varint(), body.varint(), body.byte())
        check(gap.ubatches > 0, "a gap of no ubatches")
        check(not self.trace.strict or DISK <= gap.why <= LOST, f"a gap because of {gap.why}")
        self.number += gap.ubatches
        return gap

    def cut(self, body):
        index, position = body.varint(), body.varint()
        return Cut(self.number, *self.life_at(index), position)

    def ubatch(self, body):
        ubatch = Ubatch(self.number, 0, [], [])
        self.number += 1
        self.time += body.zigzag()
        ubatch.time = self.time
        flags = body.byte()
        check(not self.trace.strict or flags < 64, f"flags {flags}")
        ubatch.warmup, ubatch.first, ubatch.mtp = (bool(flags & flag) for flag in (FLAG_WARMUP, FLAG_FIRST, FLAG_MTP))
        ubatch.table = body.varint()
        self.spans(ubatch, body)
        reduced = self.reduced(body) if flags & FLAG_REDUCED else {}
        if flags & FLAG_IDS:
            check(self.trace.header["tokens"], "token ids, and the header says none")
            start = body.at
            ubatch.tokens = [token._replace(id=body.varint() - 1) for token in ubatch.tokens]
            self.sections["token_ids"] += body.at - start
        check(not flags & FLAG_WEIGHTS or self.trace.header["weights"], "gate weights, and the header says none")
        if ubatch.table in self.tables:
            self.layers(ubatch, reduced, body, bool(flags & FLAG_WEIGHTS))
        else:
            check(not self.trace.strict, f"no table {ubatch.table}")
            self.trace.damage.append((self.chunk.offset, f"table {ubatch.table} is missing"))
            body.take(body.left())
        return ubatch

    def spans(self, ubatch, body):
        contexts = set()
        for _ in range(body.varint()):
            head, index = body.varint(), body.varint()
            context, sequence, life = self.life_at(index)
            contexts.add(context)
            if head & SPAN_FOLLOWS:
                check(self.positions.get(index) is not None, "a position follows one that is not there")
                position = self.positions[index]
            else:
                position = body.varint() - 1
                position = None if position < 0 else position
            count = (head >> 3) + 1
            self.positions[index] = None if position is None else position + count
            for i in range(count):
                ubatch.tokens.append(Token(None, sequence, life, None if position is None else position + i,
                                           bool(head & SPAN_GENERATION), bool(head & SPAN_OUTPUT)))
        check(len(contexts) == 1, f"a ubatch of {len(contexts)} contexts")
        ubatch.context = contexts.pop()

    def reduced(self, body):
        places = [body.varint() for _ in range(body.varint())]
        check(places, "the flag of reduced layers, and none")
        check(all(a >> 1 < b >> 1 for a, b in zip(places, places[1:])), "reduced layers are not in ascending order")
        return {place >> 1: bool(place & 1) for place in places}

    def layers(self, ubatch, reduced, body, has_weights):
        table = self.tables[ubatch.table]
        check(all(place < len(table) for place in reduced), "a reduced layer that the table does not have")
        everyone = list(range(len(ubatch.tokens)))
        asked = [i for i in everyone if ubatch.tokens[i].output]
        rows = [everyone if i not in reduced else asked if reduced[i] else [] for i in range(len(table))]
        numbers = [len(rows[i]) * layer["n_expert_used"] for i, layer in enumerate(table)]
        n_bits = sum(n * bits_of(layer["n_expert"]) for n, layer in zip(numbers, table))
        data = body.take((n_bits + 7) // 8)
        self.sections["ids"] += len(data)
        check(n_bits % 8 == 0 or data[-1] >> n_bits % 8 == 0, "bits behind the last expert")
        at = 0
        for layer, its_rows, n in zip(table, rows, numbers):
            width = bits_of(layer["n_expert"])
            experts = unpack(data, at, width, n)
            at += n * width
            check(max(experts, default=0) < layer["n_expert"],
                  f"expert {max(experts, default=0)} of {layer['n_expert']}")
            weights = None
            if has_weights:
                weights = rows_of(struct.unpack(f"<{n}e", body.take(2 * n)), layer["n_expert_used"])
                self.sections["weights"] += 2 * n
            ubatch.layers.append(Layer(layer["layer"], layer["n_expert"], layer["n_expert_used"], its_rows,
                                       rows_of(experts, layer["n_expert_used"]), weights))


# Writing.

def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes([value])


def zigzag(value):
    return varint((value << 1) ^ (value >> 63))


def record(kind, body):
    return varint(1 + len(body)) + bytes([kind]) + body


def pack(values):
    """Pairs of number and width, the first in the lowest bits."""
    word = at = 0
    out = bytearray()
    for value, width in values:
        word |= value << at
        at += width
        while at >= 8:
            out.append(word & 255)
            word >>= 8
            at -= 8
    return bytes(out) + (bytes([word]) if at else b"")


def new_header(**more):
    """A header that says nothing in particular."""
    return {"format": FORMAT, "version": VERSION, "tracer": "0.0.0", "run": "run", "pid": 1,
            "trace": "trace", "part": 0, "engine": "llama.cpp", "capture": "graph",
            "model": {"name": "Model", "architecture": "llama", "file": "/model.gguf", "fingerprint": None},
            "n_layer": 0, "phases_known": True, "weights": False, "tokens": False, "sample": 1, **more}


def new_layer(layer, n_expert, n_used, *tensors):
    """A layer of a table. tensors: pairs of name and bytes of an expert."""
    return {"layer": layer, "n_expert": n_expert, "n_expert_used": n_used,
            "tensors": [{"name": name, "expert_bytes": size} for name, size in tensors]}


def new_ubatch(number, table_of_layers, tokens, expert, weight=None, rows=None, **more):
    """A ubatch of these layers. More: fields of Ubatch, such as the table's number.

    expert: (layer, token, rank) -> id; weight: likewise;
    rows: (layer) -> which tokens are routed there, None: all of them
    """
    layers = []
    for layer in table_of_layers:
        il, n_used = layer["layer"], layer["n_expert_used"]
        its_rows = rows(il) if rows else None
        its_rows = list(range(len(tokens))) if its_rows is None else its_rows
        choices = [[(il, tokens[row], rank) for rank in range(n_used)] for row in its_rows]
        layers.append(Layer(il, layer["n_expert"], n_used, its_rows,
                            [[expert(*choice) for choice in row] for row in choices],
                            [[weight(*choice) for choice in row] for row in choices] if weight else None))
    return Ubatch(number, more.pop("time", 1000000 + number), list(tokens), layers, **more)


def spans_of(tokens):
    """Runs of tokens: pairs of the first one and how many."""
    spans = []
    for token in tokens:
        if spans:
            (first, count) = spans[-1]
            itself = {"id": None, "position": None, "rejected": False}
            same = token._replace(**itself) == first._replace(**itself)
            if same and token.position == (None if first.position is None else first.position + count):
                spans[-1] = (first, count + 1)
                continue
        spans.append((token, 1))
    return spans


class Writer:
    """Makes the chunks of a file of events."""

    def __init__(self, tables, first, chunk_every):
        self.tables = tables
        self.chunk_every = chunk_every
        self.n_tables = 0
        self.chunks = []
        self.number = first
        self.clear()

    def clear(self):
        self.payload = b""
        self.begin = self.number
        self.n_ubatches = self.n_tokens = 0
        self.start = self.time = None
        self.lives = {}
        self.positions = {}

    def chunk(self, kind, payload, **more):
        self.chunks.append(Chunk(kind, payload, len(self.chunks), **more))

    def json(self, kind, thing):
        self.chunk(kind, json.dumps(thing).encode())

    def flush(self):
        if self.payload:
            self.chunk(DATA, self.payload, ubatches=self.n_ubatches, first=self.begin,
                       time=self.start or 0, tokens=self.n_tokens)
        self.clear()

    def add(self, event):
        if isinstance(event, (Warmup, Rejected)):
            self.amendment(event)
        elif isinstance(event, Chunk):
            self.flush()
            self.chunk(event.kind, event.payload)
        elif isinstance(event, Record):
            self.payload += record(event.kind, event.body)
        elif isinstance(event, Gap):
            self.payload += record(GAP, varint(event.ubatches) + varint(event.tokens) + bytes([event.why]))
            self.number += event.ubatches
        elif isinstance(event, Cut):
            index = self.life(event.context, event.sequence, event.life)
            self.payload += record(CUT, varint(index) + varint(event.position))
        else:
            self.ubatch(event)
            if self.chunk_every and self.n_ubatches == self.chunk_every:
                self.flush()

    def amendment(self, event):
        self.flush()
        if isinstance(event, Warmup):
            self.chunk(AMENDMENTS, record(WARMUP, varint(event.first) + varint(event.ubatches)))
        else:
            self.chunk(AMENDMENTS, record(REJECTED, varint(event.ubatch) + varint(event.first) + varint(event.tokens)))

    def table(self, number):
        while self.n_tables <= number:
            self.flush()
            self.json(LAYERS, {"table": self.n_tables, "layers": self.tables[self.n_tables]})
            self.n_tables += 1

    def life(self, context, sequence, life):
        named = (context, sequence, life)
        if named not in self.lives:
            self.lives[named] = len(self.lives)
            number = 0 if sequence is None else sequence + 1
            self.payload += record(LIFE, varint(context) + varint(number) + varint(life))
        return self.lives[named]

    def spans(self, ubatch):
        out = b""
        spans = spans_of(ubatch.tokens)
        for token, count in spans:
            index = self.life(ubatch.context, token.sequence, token.life)
            follows = token.position is not None and self.positions.get(index) == token.position
            out += varint(count - 1 << 3 | token.generation * SPAN_GENERATION | token.output * SPAN_OUTPUT
                          | follows * SPAN_FOLLOWS)
            out += varint(index)
            out += b"" if follows else varint(0 if token.position is None else token.position + 1)
            self.positions[index] = None if token.position is None else token.position + count
        return varint(len(spans)) + out

    def reduced(self, ubatch):
        everyone = list(range(len(ubatch.tokens)))
        asked = [i for i in everyone if ubatch.tokens[i].output]
        places = []
        for place, layer in enumerate(ubatch.layers):
            if layer.rows != everyone:
                assert layer.rows in (asked, []), "rows that the format cannot tell of"
                places.append(place << 1 | (layer.rows != []))
        return places

    def ubatch(self, ubatch):
        assert ubatch.number == self.number, f"ubatch {ubatch.number} in the place of {self.number}"
        self.table(ubatch.table)
        if self.start is None:
            self.start = self.time = ubatch.time
        has_ids = any(token.id is not None for token in ubatch.tokens)
        has_weights = any(layer.weights is not None for layer in ubatch.layers)
        reduced = self.reduced(ubatch)
        spans = self.spans(ubatch)
        flags = (ubatch.warmup * FLAG_WARMUP | ubatch.first * FLAG_FIRST | ubatch.mtp * FLAG_MTP | has_ids * FLAG_IDS |
                 has_weights * FLAG_WEIGHTS | bool(reduced) * FLAG_REDUCED)
        body = zigzag(ubatch.time - self.time) + bytes([flags]) + varint(ubatch.table) + spans
        if reduced:
            body += b"".join(map(varint, [len(reduced), *reduced]))
        if has_ids:
            body += b"".join(varint(token.id + 1) for token in ubatch.tokens)
        body += pack((expert, bits_of(layer.n_expert)) for layer in ubatch.layers
                     for row in layer.experts for expert in row)
        if has_weights:
            body += b"".join(struct.pack("<e", weight) for layer in ubatch.layers
                             for row in layer.weights for weight in row)
        self.payload += record(UBATCH, body)
        self.time = ubatch.time
        self.number += 1
        self.n_ubatches += 1
        self.n_tokens += len(ubatch.tokens)


def encode(header, tables, events, chunk_every=None, first=0, end=True):
    """The chunks of a file.

    events:      Ubatch, Gap, Cut; Warmup and Rejected, each a chunk of its own;
                 Record and Chunk, of kinds that nobody knows
    chunk_every: ubatches in a chunk of data, None: as many as come
    first:       number of the first ubatch
    end:         True: what these events come to, None: none, or what it says beyond that
    """
    writer = Writer(tables, first, chunk_every)
    writer.json(HEADER, header)
    for event in events:
        writer.add(event)
    writer.flush()
    if end is not None:
        writer.json(END, {"complete": True, "last_part": True, **totals(events), "waited_ms": 0,
                          **({} if end is True else end)})
    return writer.chunks


def joined(made):
    return b"".join(chunk.bytes() for chunk in made)


def damaged(made, number, offset):
    """The chunks as bytes, with one byte of one of them another one."""
    whole = [bytearray(chunk.bytes()) for chunk in made]
    whole[number][offset] ^= 255
    return b"".join(whole)


def write(path, header, tables, events, **how):
    """Writes a file: see encode()."""
    with open(path, "wb") as file:
        file.write(joined(encode(header, tables, events, **how)))


# What a file has in it.

def summary(trace):
    model = trace.header["model"]
    tokens = [token for ubatch in trace.ubatches for token in ubatch.tokens]
    sizes = trace.sizes()
    yield f"model:       {model['name']} ({model['architecture']}), {trace.header['n_layer']} layers"
    yield f"engine:      {trace.header['engine']}, captured by {trace.header['capture']}"
    yield f"ubatches:    {len(trace.ubatches)}, of them warm-up {sum(ubatch.warmup for ubatch in trace.ubatches)}"
    yield (f"tokens:      {len(tokens)}, of them generation {sum(token.generation for token in tokens)}, "
           f"rejected {sum(token.rejected for token in tokens)}")
    yield f"sequences:   {len({(u.context, t.sequence) for u in trace.ubatches for t in u.tokens})}"
    yield (f"lives:       {len({(u.context, t.sequence, t.life) for u in trace.ubatches for t in u.tokens})}, "
           f"cut {len(trace.cuts)} times")
    yield f"decisions:   {sum(len(layer.rows) for ubatch in trace.ubatches for layer in ubatch.layers)}"
    yield (f"gaps:        {sum(gap.ubatches for gap in trace.gaps)} ubatches, "
           f"{sum(gap.tokens for gap in trace.gaps)} tokens")
    yield f"bytes:       {', '.join(f'{name} {n}' for name, n in sizes.items())}"
    yield f"end:         {'none' if trace.end is None else 'complete' if trace.end['complete'] else 'incomplete'}"
    for offset, what in trace.damage:
        yield f"damage:      at {offset}: {what}"


def main():
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} TRACE [FURTHER-PART]...")
    try:
        print(*summary(Trace(*sys.argv[1:])), sep="\n")
    except (Malformed, OSError) as error:
        sys.exit(f"{sys.argv[0]}: {error}")


if __name__ == "__main__":
    main()
