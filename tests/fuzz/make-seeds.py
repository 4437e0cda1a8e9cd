#!/usr/bin/env python3
"""Writes what the fuzzers begin with, a folder for each, into a folder.

usage: make-seeds.py FOLDER LIBRARY.so TREE
"""

import json
import shutil
import struct
import sys
from pathlib import Path


def string(text):
    return struct.pack("<Q", len(text)) + text.encode()


def gguf(keys, tensors, data):
    infos = b"".join(string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, offset)
                     for name, shape, offset in tensors)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join(keys) + infos
    return head + bytes(-len(head) % 32) + data


def key(name, kind, value):
    return string(name) + struct.pack("<I", kind) + value


def models():
    text = key("general.architecture", 8, string("llama"))
    array = key("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 2) + string("a") + string("b"))
    numbers = [key("llama.expert_count", 4, struct.pack("<I", 4)), key("some.float", 6, struct.pack("<f", 1.5)),
               key("some.truth", 7, b"\1")]
    yield "model", gguf([text, array, *numbers],
                        [("blk.0.ffn_up_exps.weight", (8, 2, 4), 0), ("output.weight", (8, 2), 256)], bytes(320))
    imatrix = [key("general.type", 8, string("imatrix")), key("imatrix.chunk_count", 4, struct.pack("<I", 1))]
    name = "blk.0.ffn_up_exps.weight"
    yield "imatrix", gguf(imatrix, [(f"{name}.in_sum2", (8, 4), 0), (f"{name}.counts", (1, 4), 128)],
                          bytes(128) + struct.pack("<4f", 1, 2, 3, 4) + bytes(16))


def statistics():
    activations = {"0": 3, "1": 1}
    yield "specification", json.dumps({"total_tokens": 2, "total_activations": 4, "expert_activations": activations})
    yield "whole", json.dumps({
        "format": "llama-expert-tracer-statistics", "version": 1, "run": "1-1", "pid": 7,
        "complete": False, "stopped": "why", "lost": {"ubatches": 1, "tokens": 2, "reason": "out of memory"},
        "engine": "e", "capture": "graph", "model": {"name": "n", "architecture": "a", "file": None}, "n_layer": 2,
        "n_expert": 2, "n_expert_used": 1, "total_tokens": 4,
        "prompt_tokens": 2, "generation_tokens": None, "warmup_tokens": 0, "total_activations": 4,
        "layer_tokens": {"0": 2, "1": 2}, "n_expert_per_layer": {"0": 2, "1": 2}, "expert_activations": activations,
        "per_layer": {"0": {"0": 2, "1": 0}, "1": {"0": 1, "1": 1}},
        "mtp": {"total_tokens": 1, "total_activations": 1, "layer_tokens": {"2": 1}, "per_layer": {"2": {"0": 1}}}})


def settings():
    yield "all", "\n".join(chr(15 * 4 + i) + value for i, value in enumerate(
        ("1", "0", "1", "out.json", "0.5", "run-%p-%m.moetrace", "1", "1", "wait", "64MiB", "1GiB", "90m",
         "100:7", "10 GB", "graph")))
    yield "wrong", "\n".join(chr(15 * 4 + i) + value for i, value in enumerate(
        ("yes", "2", "-1", "x", "1e9", "x", "", " ", "maybe", "1TiB", "-5", "1.5.2", "1.5", "0x10", "auto")))


def live_requests():
    yield "all", "\n".join((" status", " stop", " start", " reset", "!dump", "!record weights=1 tokens=1 sample=2",
                            " record-stop", " names on=1", " interval seconds=0.5", " wait", " nothing=1"))


def live_memory():
    """A model of a layer with two experts, a context of it, and its ring with one ubatch."""
    model, meter, table, ring, size = 640, 768, 1152, 1280, 4096
    data = bytearray(size)

    def put(form, at, *values):
        struct.pack_into("=" + form, data, at, *values)

    put("8sIIIIQqq32s256s32s", 0, b"MOELIVE\0", 1, 512, 32, 3, size, 1, 7, b"7-1", b"/usr/bin/llama-server", b"0.1.0")
    put("IIQ", 384, 2, 9, 0)
    for i, entry in enumerate(((1, 1, 0, 0, model, 64), (2, 1, 1, 0, meter, 384), (4, 1, 1, 0, ring, size - ring))):
        put("IIIIQQ", 512 + 32 * i, *entry)
    put("iiiI2I", model, 1, 2, 1, 1, 56, 1)
    put("s", model + 56, b"m")
    put("7Q", meter + 32, 1, 0, 1, 0, 0, 0, 0)
    put("iiQ", meter + 264, 1, 2, table)
    put("iiQ2Q", table, 2, 1, 1, 0, 1)
    record = struct.pack("=IIIiQQqIIiiiIiiiiIIHHHH", 96, 1, 8 | 16, 0, 0, 0, 1, 1, 1, 0, 0, 0, 3, 0, 2, 1, 1, 0, 32,
                         1, 0, 0, 0)
    put("QQ", ring, 256, 2048)
    put("QQ", ring + 128, len(record), len(record))
    put(f"{len(record)}s", ring + 256, record)
    yield "memory", bytes(data)


def loaded_library(name, gnu):
    """As it is in memory: headers, dynamic section, symbols, strings, one of the two hash tables."""
    functions = ("malloc", "dlopen", "free")
    strings = b"\0" + b"".join(function.encode() + b"\0" for function in functions) + name + b"\0"
    symbols = bytes(24) + b"".join(
        struct.pack("<IBBHQQ", strings.index(function.encode()), 0x12, 0, 1, 0xe00 + 16 * i, 16)
        for i, function in enumerate(functions))
    if gnu:
        hashes = []
        for function in functions:
            hashes.append(5381)
            for byte in function.encode():
                hashes[-1] = hashes[-1] * 33 + byte & 0xffffffff
        ends = [value & ~1 for value in hashes[:-1]] + [hashes[-1] | 1]
        table = struct.pack("<4IQ4I", 1, 1, 1, 6, 2 ** 64 - 1, 1, *ends)
    else:
        table = struct.pack("<2I1I4I", 1, 4, 1, 0, 2, 3, 0)
    tags = ((14, strings.index(name)), (5, 0x500), (10, len(strings)), (6, 0x400),
            (0x6ffffef5 if gnu else 4, 0x600), (0, 0))
    parts = {
        0x000: b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 3, 0, 0, 0),
        0x040: struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 0x1000, 0x1000, 0x1000)
             + struct.pack("<IIQQQQQQ", 1, 6, 0x1000, 0x1000, 0, 0x100, 0x100, 0x1000)
             + struct.pack("<IIQQQQQQ", 2, 6, 0x300, 0x300, 0, 16 * len(tags), 16 * len(tags), 8),
        0x300: b"".join(struct.pack("<QQ", *tag) for tag in tags),
        0x400: symbols,
        0x500: strings,
        0x600: table,
    }
    data = bytearray(0x1100)
    for at, part in parts.items():
        data[at:at + len(part)] = part
    return bytes(data)


def loaded_libraries():
    yield "libc", loaded_library(b"libc.so.6", True)
    yield "linker", loaded_library(b"ld-linux-x86-64.so.2", True)
    yield "other", loaded_library(b"libjemalloc.so.2", False)


def write(folder, seeds):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in seeds:
        (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


def main():
    folder, library, tree = map(Path, sys.argv[1:])
    write(folder / "gguf", models())
    write(folder / "statistics", statistics())
    write(folder / "settings", settings())
    write(folder / "live-request", live_requests())
    write(folder / "live-memory", live_memory())
    write(folder / "remote-object", loaded_libraries())
    write(folder / "elf", [("script", '#!/usr/bin/env bash\nset -e\nexec docker run --rm image llama-server "$@"\n')])
    shutil.copy(library, folder / "elf" / "library")
    write(folder / "tree", [(path.name, path.read_bytes()) for path in sorted(tree.glob("**/real.h"))] + [
        ("cmake", 'add_library(llama ../include/llama.h llama.cpp)\ntarget_link_libraries(llama PUBLIC ggml)\n'),
        ("header", "// llama.h\nstruct llama_batch { int32_t n_tokens; llama_token * token; float * embd; };\n"
                   "LLAMA_API int32_t llama_decode(struct llama_context * ctx, struct llama_batch batch);\n")])


main()
