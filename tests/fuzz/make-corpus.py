#!/usr/bin/env python3
"""Writes the files that the fuzzer begins with: make-corpus.py COMMAND FOLDER.
COMMAND is llama-expert-tracer, which packs."""

import random
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "trace"))
from moetrace import (DISK, MEMORY, SAMPLING, Chunk, Cut, Gap, Record, Rejected, Token, Warmup, damaged, encode,
                      joined, new_header, new_layer, new_ubatch)

random.seed(1)
TABLE = [new_layer(i, 60, 4, (f"blk.{i}.ffn_down_exps.weight", 4096)) for i in range(3)]
MIXED = [new_layer(0, 8, 2, ("a", 1)), new_layer(1, 1, 1, ("b", None)),
         new_layer(3, 512, 10, ("c", 3), ("d", 4)), new_layer(4, 5, 3)]
HEAD = [new_layer(5, 16, 2, ("blk.5.ffn_up_exps.weight", 64))]


def any_expert(table):
    sizes = {layer["layer"]: layer["n_expert"] for layer in table}
    return lambda layer, token, rank: min(int(random.expovariate(8 / sizes[layer])), sizes[layer] - 1)


def any_weight(layer, token, rank):
    return random.random()


def of(number, tokens, layers=TABLE, **more):
    return new_ubatch(number, layers, tokens, any_expert(layers), **more)


def run(first, n, sequence=0, **more):
    return [Token(sequence=sequence, position=first + i, output=i == n - 1, **more) for i in range(n)]


def generation(n, n_prompt=20):
    return [of(0, run(0, n_prompt))] + [of(1 + i, run(n_prompt + i, 1, generation=True)) for i in range(n)]


def sequences():
    for number in range(12):
        tokens = [token for sequence in range(3) for token in run(number * 2, 2, sequence, life=number // 6)]
        yield of(number, tokens, first=number % 3 == 0)
        if number % 5 == 4:
            yield Cut(number + 1, 0, 1, number // 6, number)


def last_tokens_alone(table):
    def rows(tokens):
        asked = [i for i, token in enumerate(tokens) if token.output]
        return lambda layer: asked if layer == table[-1]["layer"] else None
    for number in range(6):
        tokens = run(number * 9, 9)
        yield of(number, tokens, table, rows=rows(tokens))


def everything():
    for number in range(10):
        tokens = [token._replace(id=random.randrange(1000)) for token in run(number * 4, 4, generation=True)]
        yield of(number, tokens, MIXED, weight=any_weight)
        if number == 5:
            yield Record(77, b"from a later version")
            yield Rejected(number, 2, 2)
    yield Warmup(0, 3)


def gaps():
    number = 0
    for why in (DISK, SAMPLING, MEMORY, DISK):
        yield of(number, run(number, 3))
        yield Gap(number + 1, 4, 40, why)
        number += 5
    yield of(number, run(number, 3))


def heads():
    number = 0
    for i in range(60):
        yield of(number, run(i, 2))
        yield of(number + 1, run(i, 2), HEAD, table=1, mtp=True, context=1)
        number += 2


def contents():
    plain = encode(new_header(), [TABLE], generation(30), chunk_every=8)
    full = encode(new_header(tokens=True, weights=True), [MIXED], list(everything()), chunk_every=4)
    yield "generation", joined(plain)
    yield "sequences", joined(encode(new_header(), [TABLE], list(sequences()), chunk_every=5))
    yield "outputs", joined(encode(new_header(), [MIXED], list(last_tokens_alone(MIXED))))
    yield "everything", joined(full)
    yield "gaps", joined(encode(new_header(sample=2), [TABLE], list(gaps()), chunk_every=1))
    yield "mtp", joined(encode(new_header(), [TABLE, HEAD], list(heads())))
    yield "killed", joined(encode(new_header(), [TABLE], generation(10), chunk_every=4, end=None))[:-30]
    yield "rotated", joined(encode(new_header(part=1), [TABLE], [of(40 + i, run(i, 1)) for i in range(4)], first=40,
                                   end={"last_part": False}))
    yield "damaged", damaged(plain, 3, 60)
    yield "torn", damaged(plain, 3, 30)
    yield "empty", joined(encode(new_header(), [], []))
    yield "later", joined(encode(new_header(), [TABLE], [Chunk(99, b"from a later version"), *generation(2)]))


def main():
    command, folder = sys.argv[1], Path(sys.argv[2])
    for name, data in contents():
        path = folder / f"{name}.moetrace"
        path.write_bytes(data)
        if name in ("generation", "everything", "mtp", "gaps", "torn"):
            subprocess.run([command, "pack", "--force", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


main()
