"""Reads a running tracer's live memory and asks its socket, by docs/live-format.md alone: the witness of both."""

import array
import fcntl
import json
import mmap
import os
import socket
import struct
import time
from pathlib import Path

NONE, MODEL, CONTEXT, CLOSED, RING = range(5)
TOTALS = ("tokens", "prompt", "generation", "warmup", "mtp", "lost", "lost_ubatches")


class Busy(Exception):
    """The program counted whenever it was looked at."""


def names(folder):
    """Of the processes in the folder that live: their lock is held."""
    found = []
    for path in sorted(Path(folder).glob("*.lock")):
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                found.append(path.name.removesuffix(".lock"))
    return found


class Connection:
    def __init__(self, folder, name, timeout=30):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(timeout)
        self.socket.connect(str(Path(folder) / f"{name}.sock"))

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, verb, descriptor=None, **keys):
        words = [verb, *(f"{key.replace('_', '-')}={value}" for key, value in keys.items())]
        message = b"".join(os.fsencode(word) + b"\0" for word in words)
        rights = [] if descriptor is None else [descriptor]
        extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", rights))] if rights else []
        self.socket.sendmsg([message], extra)

    def receive(self):
        data, extra, flags, _ = self.socket.recvmsg(1 << 17, socket.CMSG_SPACE(4))
        if not data:
            raise ConnectionError("the tracer has closed the connection")
        descriptors = array.array("i")
        for level, kind, rest in extra:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(rest[:4])
        return json.loads(data), descriptors[0] if descriptors else None

    def ask(self, verb, descriptor=None, **keys):
        self.send(verb, descriptor, **keys)
        return self.receive()[0]

    def memory(self):
        answer, descriptor = (self.send("hello"), self.receive())[1]
        return Memory(descriptor)

    def dump(self, **keys):
        """The statistics now."""
        descriptor = os.memfd_create("dump")
        try:
            answer = self.ask("dump", descriptor, **keys)
            if "error" in answer:
                raise ValueError(answer["error"])
            return json.loads(os.pread(descriptor, answer["bytes"], 0))
        finally:
            os.close(descriptor)


class Counters:
    """What a model has counted."""

    def __init__(self):
        self.totals = dict.fromkeys(TOTALS, 0)
        self.rows = {}
        self.activations = {}

    def add_totals(self, values):
        for name, value in zip(TOTALS, values):
            self.totals[name] += value

    def add_row(self, layer, rows, activations):
        self.rows[layer] = self.rows.get(layer, 0) + rows
        before = self.activations.get(layer, [0] * len(activations))
        self.activations[layer] = [a + b for a, b in zip(before, activations)]


class Memory:
    def __init__(self, descriptor):
        size = os.fstat(descriptor).st_size
        self.map = mmap.mmap(descriptor, size, mmap.MAP_SHARED, mmap.PROT_READ)
        os.close(descriptor)
        (magic, self.version, self.entries_at, self.entry_size, self.n_entries, file_size, self.started,
         self.pid) = self.unpack("=8sIIIIQqq", 0)
        assert magic == b"MOELIVE\0" and self.version == 1 and file_size == size
        self.name, self.program, self.tracer = (self.text(at, n) for at, n in ((48, 32), (80, 256), (336, 32)))

    def close(self):
        self.map.close()

    def unpack(self, form, at):
        return struct.unpack_from(form, self.map, at)

    def text(self, at, n):
        return bytes(self.map[at:at + n]).split(b"\0")[0].decode(errors="replace")

    def sequence(self, at):
        return self.unpack("=I", at)[0]

    def switches(self):
        return self.unpack("=I", 388)[0]

    def hidden(self):
        return self.unpack("=Q", 392)[0]

    def whole(self, at, read, seconds=5):
        """What read() returns while the sequence there stays even."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            before = self.sequence(at)
            if before % 2 == 0:
                value = read()
                if self.sequence(at) == before:
                    return value
            time.sleep(0)
        raise Busy

    def entries(self):
        for i in range(self.n_entries):
            kind, model, context, _, offset, size = self.unpack("=IIIIQQ", self.entries_at + i * self.entry_size)
            if kind != NONE:
                yield kind, model, context, offset, size

    def string(self, segment, at):
        place, length = self.unpack("=II", at)
        return bytes(self.map[segment + place:segment + place + length]).decode(errors="replace")

    def model(self, at):
        n_layer, n_expert, n_used, phases_known = self.unpack("=iiiI", at)
        strings = [self.string(at, at + 16 + 8 * i) for i in range(5)]
        return dict(zip(("name", "architecture", "file", "engine", "capture"), strings), n_layer=n_layer,
                    n_expert=n_expert, n_used=n_used, phases_known=bool(phases_known))

    def table(self, counters, at):
        n_layers, n_expert, offset = self.unpack("=iiQ", at)
        for layer in range(n_layers if offset else 0):
            experts, _, rows = self.unpack("=iiQ", offset + 16 * layer)
            if experts > 0:
                first = offset + 16 * n_layers + 8 * n_expert * layer
                counters.add_row(layer, rows, self.unpack(f"={experts}Q", first))

    def meter(self, at):
        counters = Counters()
        counters.add_totals(self.unpack("=7Q", at + 32))
        counters.add_totals(self.unpack("=7Q", at + 88))
        self.table(counters, at + 264)
        self.table(counters, at + 280)
        return counters

    def models(self):
        """By number: what the memory says of a model, and its Counters."""
        def read():
            found = {}
            for kind, model, _, at, _ in self.entries():
                about, counters = found.setdefault(model, ({}, Counters()))
                if kind == MODEL:
                    about.update(self.model(at))
                elif kind in (CONTEXT, CLOSED):
                    part = self.whole(at, lambda place=at: self.meter(place))
                    counters.add_totals(part.totals.values())
                    for layer, rows in part.rows.items():
                        counters.add_row(layer, rows, part.activations[layer])
            return found
        return self.whole(384, read)

    def rings(self):
        return [Ring(self, model, context, at) for kind, model, context, at, _ in self.entries() if kind == RING]


class Ring:
    """A context's ring, read from where it is now on."""

    def __init__(self, memory, model, context, at):
        self.memory, self.model, self.context, self.at = memory, model, context, at
        data, self.size = memory.unpack("=QQ", at)
        self.data = at + data
        self.position = self.written()
        self.n_lost = 0

    def begun(self):
        return self.memory.unpack("=Q", self.at + 128)[0]

    def written(self):
        return self.memory.unpack("=Q", self.at + 136)[0]

    def copy(self, begin, end):
        first = begin % self.size
        n = end - begin
        head = self.memory.map[self.data + first:self.data + min(first + n, self.size)]
        return bytes(head) + bytes(self.memory.map[self.data:self.data + n - len(head)])

    def records(self):
        """Those that were written since the last call."""
        begin, end = self.position, self.written()
        self.position = end
        if end - begin > self.size:
            self.n_lost += 1
            return
        data = self.copy(begin, end)
        if self.begun() - begin > self.size:
            self.n_lost += 1
            return
        at = 0
        while at < len(data):
            size = struct.unpack_from("=I", data, at)[0]
            yield Record(data[at:at + size])
            at += size


class Record:
    UBATCH, SETTLE, CUT, REJECT, GAP = range(1, 6)

    def __init__(self, data):
        (_, self.kind, self.flags, self.value, self.ubatch, self.batch, self.time, self.first,
         self.second) = struct.unpack_from("=IIIiQQqII", data)
        self.tokens, self.layers = [], {}
        at = 48
        if self.kind != self.UBATCH:
            return
        if self.flags & 8:
            self.tokens = list(struct.iter_unpack("=iiiI", data[at:at + 16 * self.first]))
            at += 16 * self.first
        for _ in range(self.second):
            layer, n_expert, n_used, n_rows, has_rows, size = struct.unpack_from("=iiiiII", data, at)
            place = at + 24
            rows = struct.unpack_from(f"={n_rows}i", data, place) if has_rows else range(n_rows)
            place += 4 * n_rows if has_rows else 0
            experts = struct.unpack_from(f"={n_rows * n_used}H", data, place)
            self.layers[layer] = (n_expert, list(rows),
                                  [experts[i * n_used:(i + 1) * n_used] for i in range(n_rows)])
            at += size
