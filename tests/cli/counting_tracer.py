"""A running tracer that is none: it shows a live memory and answers its socket as docs/live-format.md says, and counts
what a test tells it to. So that what reads one can be tested without an engine."""

import array
import fcntl
import json
import mmap
import os
import secrets
import socket
import struct
import threading
import time
from pathlib import Path

F_ADD_SEALS = 1033
SEAL_SHRINK, SEAL_GROW = 2, 4
ENTRIES_AT, ENTRY_SIZE, N_ENTRIES, HEADER_ROOM = 1024, 32, 480, 16384
MODEL, CONTEXT, CLOSED, RING = 1, 2, 3, 4
COUNTS, RECORDS, WATCHED = 1, 4, 8
TOTALS = ("tokens", "prompt", "generation", "warmup", "mtp", "lost", "lost_ubatches")
METER_SIZE = 384
RING_SIZE = 1 << 20


class FakeModel:
    """One context of a model, with a table of counters and a ring."""

    def __init__(self, name="Oracle", architecture="llama", file="/m/oracle.gguf", engine="llama.cpp 0.7.0",
                 capture="graph", n_layer=2, n_expert=4, n_used=2, phases_known=True):
        self.strings = name, architecture, file, engine, capture
        self.n_layer, self.n_expert, self.n_used, self.phases_known = n_layer, n_expert, n_used, phases_known
        self.totals = dict.fromkeys(TOTALS, 0)
        self.rows = [0] * n_layer
        self.activations = [[0] * n_expert for _ in range(n_layer)]
        self.number = self.meter = self.table = self.ring = 0
        self.written = self.ubatch = 0

    def table_size(self):
        return self.n_layer * (16 + 8 * self.n_expert)

    def texts(self):
        return [b"" if s is None else s.encode() if isinstance(s, str) else s for s in self.strings]


class CountingTracer:
    """Its folder is `folder`, which LLAMA_EXPERT_TRACE_LIVE names for the reader."""

    def __init__(self, folder, models, program="/usr/bin/llama-server", pid=None, answers=None):
        self.folder, self.models, self.pid = Path(folder), models, os.getpid() if pid is None else pid
        self.name = f"{self.pid}-{secrets.token_hex(4)}"
        self.program, self.answers = program.encode() if isinstance(program, str) else program, answers or {}
        self.requests, self.watchers, self.silent, self.closed = [], set(), False, False
        self.lock = threading.RLock()
        self.make_memory()
        self.lock_fd = os.open(self.folder / f"{self.name}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self.lock_fd, fcntl.LOCK_EX)
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listening.bind(str(self.folder / f"{self.name}.sock"))
        self.listening.listen(64)
        self.connections = []
        self.on, self.more = COUNTS, 0
        threading.Thread(target=self.accept, daemon=True).start()

    # -- the memory

    def make_memory(self):
        places, at = [], HEADER_ROOM
        for number, model in enumerate(self.models, 1):
            model.number = number
            texts = model.texts()
            model.segment, at = at, at + (56 + sum(map(len, texts)) + 127) // 128 * 128
            model.meter, at = at, at + METER_SIZE
            model.table, at = at, at + (model.table_size() + 127) // 128 * 128
            model.ring, at = at, at + 256 + RING_SIZE
            places += [(MODEL, number, 0, model.segment, model.meter - model.segment),
                       (CONTEXT, number, number, model.meter, METER_SIZE),
                       (RING, number, number, model.ring, 256 + RING_SIZE)]
        self.size = at
        self.fd = os.memfd_create("llama-expert-tracer", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, at)
        self.memory = mmap.mmap(self.fd, at)
        fcntl.fcntl(self.fd, F_ADD_SEALS, SEAL_SHRINK | SEAL_GROW)
        self.write_header()
        for i, (kind, model, context, offset, size) in enumerate(places):
            self.put("IIIIQQ", ENTRIES_AT + i * ENTRY_SIZE, kind, model, context, 0, offset, size)
        for model in self.models:
            self.write_model(model)
            self.write_counts(model)

    def put(self, form, at, *values):
        struct.pack_into("=" + form, self.memory, at, *values)

    def switch(self, more=None):
        """Shows what is on; `more`: these switches too, from now on."""
        self.more = self.more if more is None else more
        self.put("I", 388, self.on | self.more | (WATCHED if self.watchers else 0))

    def write_header(self):
        self.put("8sIIIIQqq32s256s32s", 0, b"MOELIVE\0", 1, ENTRIES_AT, ENTRY_SIZE, N_ENTRIES, self.size,
                 int(time.time() * 1e6), self.pid, self.name.encode(), self.program, b"0.1.0")
        self.put("IIQ", 384, 0, COUNTS, 0)

    def write_model(self, model):
        texts, at = model.texts(), 56
        self.put("iiiI", model.segment, model.n_layer, model.n_expert, model.n_used, model.phases_known)
        for i, text in enumerate(texts):
            self.put("II", model.segment + 16 + 8 * i, at, len(text))
            self.memory[model.segment + at:model.segment + at + len(text)] = text
            at += len(text)

    def write_counts(self, model):
        sequence = struct.unpack_from("=I", self.memory, model.meter)[0]
        self.put("I", model.meter, sequence | 1)
        self.put("7Q", model.meter + 32, *(model.totals[key] for key in TOTALS))
        self.put("iiQ", model.meter + 264, model.n_layer, model.n_expert, model.table)
        for i in range(model.n_layer):
            self.put("iiQ", model.table + 16 * i, model.n_expert, model.n_used, model.rows[i])
            self.put(f"{model.n_expert}Q", model.table + 16 * model.n_layer + 8 * model.n_expert * i,
                     *model.activations[i])
        self.put("I", model.meter, (sequence | 1) + 1)

    def break_lock(self, model, broken=True):
        """Leaves the sequence odd, as a process does that was stopped while it counted."""
        sequence = struct.unpack_from("=I", self.memory, model.meter)[0]
        self.put("I", model.meter, sequence | 1 if broken else (sequence | 1) + 1)

    # -- routing

    def route(self, tokens, model=None, generation=True, sequence=0):
        """A ubatch of these tokens: (position, [[expert, …] of each layer]). Where phases are not known neither is the
        sequence, and all tokens are marked alike."""
        model = model or self.models[0]
        if not model.phases_known:
            generation, sequence = False, -1
        with self.lock:
            model.totals["tokens"] += len(tokens)
            if model.phases_known:
                model.totals["generation" if generation else "prompt"] += len(tokens)
            for _, layers in tokens:
                for layer, experts in enumerate(layers):
                    model.rows[layer] += 1
                    for expert in experts:
                        model.activations[layer][expert] += 1
            self.write_counts(model)
            if self.watchers:
                self.write_record(model, self.ubatch_record(model, tokens, generation, sequence))
            model.ubatch += 1

    @staticmethod
    def ubatch_record(model, tokens, generation, sequence):
        body = b"".join(struct.pack("=iiiI", sequence, 0, position, generation | 2) for position, _ in tokens)
        for layer in range(model.n_layer):
            experts = [e for _, layers in tokens for e in layers[layer]]
            cells = struct.pack(f"={len(experts)}H", *experts)
            cells += b"\0" * (-len(cells) % 8)
            body += struct.pack("=iiiiII", layer, model.n_expert, model.n_used, len(tokens), 0, 24 + len(cells)) + cells
        head = struct.pack("=IIIiQQqII", 48 + len(body), 1, 8 | 16, 0, model.ubatch, model.ubatch,
                           int(time.time() * 1e6), len(tokens), model.n_layer)
        return head + body

    def write_record(self, model, record):
        data = model.ring + 256
        self.put("Q", model.ring + 128, model.written + len(record))
        at = model.written % RING_SIZE
        first = min(len(record), RING_SIZE - at)
        self.memory[data + at:data + at + first] = record[:first]
        self.memory[data:data + len(record) - first] = record[first:]
        model.written += len(record)
        self.put("Q", model.ring + 136, model.written)

    def reset(self):
        with self.lock:
            for model in self.models:
                model.totals = dict.fromkeys(TOTALS, 0)
                model.rows = [0] * model.n_layer
                model.activations = [[0] * model.n_expert for _ in range(model.n_layer)]
                self.write_counts(model)

    # -- the socket

    def accept(self):
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self.converse, args=(connection,), daemon=True).start()

    def converse(self, connection):
        try:
            while message := connection.recv(65536):
                words = [word.decode(errors="replace") for word in message.split(b"\0")[:-1]]
                self.requests.append(words)
                while self.silent:
                    time.sleep(0.05)
                self.answer(connection, words)
        except OSError:
            pass
        with self.lock:
            self.watchers.discard(connection)
            if not self.closed:
                self.switch()
        connection.close()

    def answer(self, connection, words):
        verb, beside = words[0], []
        holds = [{"model": m.number, "context": m.number, "ubatch": m.ubatch} for m in self.models]
        if verb in self.answers:
            answer = self.answers[verb]
        elif verb == "hello":
            answer = {"version": 1, "name": self.name, "pid": self.pid}
            beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [self.fd]))]
        elif verb == "status":
            answer = self.status()
        elif verb in ("start", "stop", "reset", "watch"):
            answer = {"holds": holds}
            self.obey(connection, verb)
        else:
            answer = {"error": f"what is '{verb}'?"}
        connection.sendmsg([json.dumps(answer).encode()], beside)

    def obey(self, connection, verb):
        with self.lock:
            if verb == "reset":
                self.reset()
            elif verb == "watch":
                for model in self.models:
                    self.put("QQ", model.ring, 256, RING_SIZE)
                self.watchers.add(connection)
            elif verb in ("start", "stop"):
                self.on = COUNTS if verb == "start" else 0
            self.switch()

    def status(self):
        return {"version": 1, "name": self.name, "pid": self.pid, "program": self.program.decode(errors="replace"),
                "tracer": "0.1.0", "started": 0, "counting": True, "names": False, "watchers": len(self.watchers),
                "interval": 10, "output": None,
                "models": [{"model": m.number, "name": None, "architecture": None, "file": None, "engine": None,
                            "capture": None, "contexts": 1, "recording": None, "tokens": m.totals["tokens"],
                            "prompt_tokens": m.totals["prompt"], "generation_tokens": m.totals["generation"],
                            "lost_tokens": m.totals["lost"]} for m in self.models]}

    def close(self):
        with self.lock:
            if self.closed:
                return
            self.closed, self.silent = True, False
        self.listening.shutdown(socket.SHUT_RDWR) # who waits there would go on with whatever has its number next
        self.listening.close()
        for connection in self.connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for end in (".sock", ".lock"):
            (self.folder / (self.name + end)).unlink(missing_ok=True)
        os.close(self.lock_fd)
        self.memory.close()
        os.close(self.fd)
