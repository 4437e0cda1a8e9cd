"""Unpacks routing traces, written from docs/trace-format.md and nothing else."""

import struct
import zlib

import moetrace

SUM, LOWEST, STATES = 16384, 65536, 4
HEADS, TIMES, TOKENS, LOW, HIGH = range(5)


def stream(reader):
    """What a stream holds."""
    size, stored = reader.varint(), reader.varint()
    data = reader.take(stored)
    if stored < size:
        inflater = zlib.decompressobj(wbits=-15)
        data = inflater.decompress(data)
        moetrace.check(inflater.eof and not inflater.unused_data, "a stream is not as long as it says")
    moetrace.check(len(data) == size, "a stream is not as large as it says")
    return moetrace.Reader(data)


def code_of(payload):
    """Frequencies of experts, by table and layer index."""
    stored = moetrace.Reader(payload)
    reader = stream(stored)
    code = {}
    for _ in range(reader.varint()):
        table = reader.varint()
        code[table] = [[reader.varint() for _ in range(reader.varint())] for _ in range(reader.varint())]
        moetrace.check(all(sum(frequencies) in (0, SUM) for frequencies in code[table]),
                       "frequencies add up to something else")
    moetrace.check(not stored.left() and not reader.left(), "a code is longer than what it holds")
    moetrace.check(list(code) == sorted(code), "the tables of a code do not rise")
    return code


class Experts:
    """The ids of a packed chunk, one after the other."""

    def __init__(self, data):
        self.states = list(struct.unpack(f"<{STATES}I", data[:4 * STATES]))
        self.words = iter(struct.unpack(f"<{(len(data) - 4 * STATES) // 2}H", data[4 * STATES:]))
        self.n = 0

    def take(self, n, frequencies):
        starts, places = [], []
        for expert, frequency in enumerate(frequencies):
            starts.append(len(places))
            places += [expert] * frequency
        return [self.one(frequencies, starts, places) for _ in range(n)]

    def one(self, frequencies, starts, places):
        i, self.n = self.n % STATES, self.n + 1
        x = self.states[i]
        s = x % SUM
        expert = places[s]
        x = frequencies[expert] * (x // SUM) + s - starts[expert]
        if x < LOWEST:
            x = LOWEST * x + next(self.words)
        self.states[i] = x
        return expert

    def end(self):
        moetrace.check(self.states == [LOWEST] * STATES and next(self.words, None) is None, "experts are left over")


class Ubatch:
    """A UBATCH record, and what of it is elsewhere."""

    def __init__(self, streams, tables):
        times, heads = streams[TIMES], streams[HEADS]
        self.time = self.since(times, times.varint)
        begin = heads.at
        self.flags = heads.byte()
        self.number = heads.varint()
        self.table = tables[self.number]
        n_tokens, n_outputs = self.spans(heads)
        reduced = [heads.varint() for _ in range(heads.varint())] if self.flags & moetrace.FLAG_REDUCED else []
        rows = {place >> 1: n_outputs if place & 1 else 0 for place in reduced}
        self.numbers = [rows.get(i, n_tokens) * layer["n_expert_used"] for i, layer in enumerate(self.table)]
        self.head = heads.data[begin:heads.at]
        self.n_tokens = n_tokens
        self.tokens = b""
        if self.flags & moetrace.FLAG_IDS:
            self.tokens = self.since(streams[TOKENS], lambda: [streams[TOKENS].varint() for _ in range(n_tokens)])
        self.experts = []

    @staticmethod
    def since(reader, read):
        begin = reader.at
        read()
        return reader.data[begin:reader.at]

    @staticmethod
    def spans(heads):
        n_tokens = n_outputs = 0
        for _ in range(heads.varint()):
            bits, _ = heads.varint(), heads.varint()
            if not bits & moetrace.SPAN_FOLLOWS:
                heads.varint()
            count = (bits >> 3) + 1
            n_tokens += count
            n_outputs += count if bits & moetrace.SPAN_OUTPUT else 0
        return n_tokens, n_outputs

    def record(self, streams):
        widths = [moetrace.bits_of(layer["n_expert"]) for layer, n in zip(self.table, self.numbers) for _ in range(n)]
        body = self.time + self.head + self.tokens + moetrace.pack(zip(self.experts, widths))
        if self.flags & moetrace.FLAG_WEIGHTS:
            n = sum(self.numbers)
            body += bytes(byte for pair in zip(streams[LOW].take(n), streams[HIGH].take(n)) for byte in pair)
        return moetrace.record(moetrace.UBATCH, body)


def payloads(chunk, tables, code):
    """The chunks that were packed in one."""
    reader = moetrace.Reader(chunk.payload)
    streams = [stream(reader) for _ in range(5)]
    heads = streams[HEADS]
    number, first, time = -1, chunk.first, chunk.time
    chunks, all_records = [], []
    for _ in range(heads.varint()):
        number += 1 + heads.varint()
        first += heads.zigzag()
        time += heads.zigzag()
        records = []
        for _ in range(heads.varint()):
            kind = heads.byte()
            records.append(Ubatch(streams, tables) if kind == moetrace.UBATCH
                           else moetrace.record(kind, heads.take(heads.varint())))
        chunks.append(moetrace.Chunk(moetrace.DATA, b"", number, 0, first, time, 0))
        all_records.append(records)

    experts = Experts(chunk.payload[reader.at:])
    for table, layers in code.items():
        for i, frequencies in enumerate(layers):
            for ubatch in (record for records in all_records for record in records if isinstance(record, Ubatch)):
                if ubatch.number == table:
                    ubatch.experts += experts.take(ubatch.numbers[i], frequencies)
    experts.end()

    for made, records in zip(chunks, all_records):
        ubatches = [record for record in records if isinstance(record, Ubatch)]
        made.ubatches, made.tokens = len(ubatches), sum(ubatch.n_tokens for ubatch in ubatches)
        made.payload = b"".join(record.record(streams) if isinstance(record, Ubatch) else record for record in records)
    moetrace.check(not any(left.left() for left in streams), "a stream has something left")
    moetrace.check((sum(made.ubatches for made in chunks), sum(made.tokens for made in chunks))
                   == (chunk.ubatches, chunk.tokens), "a packed chunk has not what it says")
    return chunks


def unpacked(data):
    """The file that was packed; one that was not as it is."""
    tables, code, packed, others = {}, None, [], []
    for chunk in moetrace.chunks(data):
        if chunk.kind == moetrace.LAYERS:
            table = moetrace.table_of(chunk.payload)
            tables[table["table"]] = table["layers"]
        if chunk.kind == moetrace.CODE:
            code = code_of(chunk.payload)
        elif chunk.kind == moetrace.PACKED:
            packed += payloads(chunk, tables, code)
        else:
            others.append(chunk)
    made = {chunk.number: chunk for chunk in packed}
    free = (number for number in range(len(packed) + len(others)) if number not in made)
    for number, chunk in zip(free, others):
        chunk.number = number
        made[number] = chunk
    return moetrace.joined(made[number] for number in sorted(made))
