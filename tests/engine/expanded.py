"""Small random models of every MoE architecture that llama.cpp knows.

Its own test program writes them, with two experts that every token takes both, and no tokenizer. expand-experts gives
them more experts, so that there is something to choose, and a tokenizer of bytes.
"""

import atexit
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

from harness import ENGINE, MODELS, environment

EXPAND = MODELS / "expand-experts"
N_EXPERT, N_USED = 16, 3


@functools.lru_cache(maxsize=None)
def folder():
    path = Path(tempfile.mkdtemp(prefix="expert-tracer-models-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


@functools.lru_cache(maxsize=None)
def tiny(architecture=None):
    """Paths of the MoE models by architecture: of all of them, or of one."""
    path = folder() / (architecture or "all")
    path.mkdir()
    subprocess.run([ENGINE / "test-llama-archs", "-s", "1",
                    *(["-a", architecture] if architecture else []), "-o", path],
                   env=environment(preload=False), check=True, capture_output=True)
    for dense in path.glob("*-dense.gguf"):
        dense.unlink()
    return {model.name[:-len("-moe.gguf")]: model for model in sorted(path.glob("*-moe.gguf"))}


def expand(model, path):
    subprocess.run([EXPAND, model, path, str(N_EXPERT), str(N_USED)], check=True)
    return path


@functools.lru_cache(maxsize=None)
def expanded(architecture):
    """Path of one architecture's model with 16 experts, three of them used."""
    return expand(tiny(architecture)[architecture], folder() / f"{architecture}.gguf")
