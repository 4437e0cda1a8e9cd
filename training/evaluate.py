#!/usr/bin/env python3
"""Prints what the model card says, by stock llama.cpp programs: loss on held-out text of each kind, and completions.

With a checkpoint beside, its loss on the same tokens by PyTorch: what llama.cpp computes is what was trained."""

import argparse
import math
import os
import re
import subprocess
import tempfile
from pathlib import Path

import numpy
import torch

from model import CONTEXT, load_model, losses
from sources import SHARES
from tokenizer import END

PROMPTS = {
    "english": "And it came to pass, when the king heard ",
    "german":  "Die Datei wird von dem Programm ",
    "french":  "Le paquet est installé dans le ",
    "c":       "static int\nread_file (const char *name)\n{\n  ",
    "python":  "    def __init__(self, name):\n        ",
    "html":    "<div class=\"sect1\"><div class=\"titlepage\"><h2 class=\"title\">",
    "numbers": "year,value\n1970,12.5\n1971,13.1\n1972,",
}


def engine_command(engine, program, *options):
    result = subprocess.run([str(engine/program), *map(str, options)], stdin=subprocess.DEVNULL,
                            capture_output=True, text=True, errors="replace")
    if result.returncode != 0:
        raise SystemExit(f"{program} failed: {result.stderr[-2000:]}")
    return result


def held_bytes(text, kind, n_chunks):
    """As many as fill the chunks; ends of texts are left out, for llama-perplexity reads plain text."""
    tokens = numpy.fromfile(text/f"{kind}.held.bin", numpy.uint16)
    return tokens[tokens != END][:n_chunks*CONTEXT].astype(numpy.uint8)


def perplexity_loss(engine, gguf, path, n_chunks, threads):
    """In nats a byte: the second half of each chunk, having seen the first."""
    for _ in range(10): # its log loses the last lines now and then
        result = engine_command(engine, "llama-perplexity", "-m", gguf, "-f", path, "-c", CONTEXT,
                                "-b", CONTEXT, "-t", threads, "--chunks", n_chunks)
        if found := re.search(r"Final estimate: PPL = ([0-9.]+)", result.stdout + result.stderr):
            return math.log(float(found[1]))
    raise SystemExit("llama-perplexity told no result, ten times")


def pytorch_loss(checkpoint, held):
    """What llama-perplexity computes of the same bytes."""
    model, _ = load_model(checkpoint)
    n_chunks = len(held)//CONTEXT
    chunks = numpy.append(END, held)[:n_chunks*CONTEXT].reshape(n_chunks, CONTEXT).astype(numpy.int64)
    chunks[:, 0] = END
    with torch.no_grad():
        costs = [losses(model, torch.from_numpy(chunk[None]))[0][0, CONTEXT//2:] for chunk in chunks]
    return torch.cat(costs).mean().item()


def completion(engine, gguf, prompt, n, threads):
    result = engine_command(engine, "llama-completion", "-m", gguf, "-p", prompt, "-n", n, "--temp", 0.6, "--seed", 3,
                            "-no-cnv", "--no-display-prompt", "-t", threads, "--no-warmup")
    return result.stdout.rstrip("\n")


def main():
    repository = Path(__file__).resolve().parents[1]
    build = Path(os.environ.get("BUILD", repository/"build"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf",         type=Path)
    parser.add_argument("text",         type=Path, help="what gather.py wrote")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--engine",     type=Path, default=build/"engine"/"bin")
    parser.add_argument("--chunks",     type=int,  default=16, help=f"of {CONTEXT} bytes, of each kind")
    parser.add_argument("--threads",    type=int,  default=os.cpu_count())
    arguments = parser.parse_args()

    print("| kind | nats a byte | bits a byte |" + (" PyTorch, nats |" if arguments.checkpoint else ""))
    print("|---|---|---|" + ("---|" if arguments.checkpoint else ""))
    with tempfile.TemporaryDirectory() as folder:
        for kind in SHARES:
            held = held_bytes(arguments.text, kind, arguments.chunks)
            path = Path(folder)/kind
            path.write_bytes(held.tobytes())
            loss = perplexity_loss(arguments.engine, arguments.gguf, path, len(held)//CONTEXT, arguments.threads)
            row = f"| {kind} | {loss:.3f} | {loss/math.log(2):.2f} |"
            if arguments.checkpoint:
                row += f" {pytorch_loss(arguments.checkpoint, held):.3f} |"
            print(row, flush=True)

    for kind, prompt in PROMPTS.items():
        print(f"\n{kind}: what the model adds is behind the bar\n")
        text = f"{prompt}|{completion(arguments.engine, arguments.gguf, prompt, 120, arguments.threads)}"
        print("".join(f"    {line}\n" for line in text.splitlines()), end="")


if __name__ == "__main__":
    main()
