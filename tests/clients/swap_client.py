#!/usr/bin/env python3
"""A client of the stock llama.cpp that keeps one model and swaps others beside it, on devices that RPC reaches.

usage: swap_client.py ENGINE_LIB_DIR BACKENDS_DIR HOST:PORT[,HOST:PORT...]
                      N_SWAPS KEPT.gguf SWAPPED.gguf...

Each swap: the kept model generates, the other one is loaded and makes a
context, the kept one evaluates one token more, with the graph of the one
before, and the other one generates and is freed. The kept model's next prompt
is of another length: as the client frees a model the device forgets its
recorded graphs, and to run one of them then is this engine's own end. Prints
one line of JSON: [[which model, prompt tokens, generated tokens], ...] in the
order of evaluation, 0 being the one that is kept. The last generated token is
evaluated by the kept model alone.
"""

import ctypes
import json
import sys
from ctypes import c_char_p, c_void_p
from pathlib import Path

from ctypes_client import Engine, Params, function

N_TOKENS = 3


class SwappingEngine(Engine):
    def add_device(self, address):
        registry = function(self.ggml, "ggml_backend_reg_by_name", c_void_p, c_char_p)(b"RPC")
        find = function(self.ggml, "ggml_backend_reg_get_proc_address", c_void_p, c_void_p, c_char_p)
        add_server = ctypes.CFUNCTYPE(c_void_p, c_char_p)(find(registry, b"ggml_backend_rpc_add_server"))
        server = add_server(address.encode())
        if not server:
            raise SystemExit(f"swap_client: nobody answers at {address}")
        function(self.ggml, "ggml_backend_register", None, c_void_p)(server)

    def new_context_of(self, model, n_ubatch):
        """A context whose ubatches have so many tokens: the parameters begin with n_ctx, n_batch, n_ubatch."""
        params = self.call("llama_context_default_params", Params)()
        params.opaque[0] = 512 | 512 << 32
        params.opaque[1] = n_ubatch | params.opaque[1] >> 32 << 32
        context = self.call("llama_init_from_model", c_void_p, c_void_p, Params)(model, params)
        if not context or self.call("llama_n_ubatch", ctypes.c_uint32, c_void_p)(context) != n_ubatch:
            raise SystemExit("swap_client: cannot create a context, or not as it should be")
        self.call("llama_set_n_threads", None, c_void_p, ctypes.c_int32, ctypes.c_int32)(context, 1, 1)
        return context


def prompt(n):
    return [32 + (7 * n + i) % 95 for i in range(n)]


class Loaded:
    def __init__(self, engine, path, n_ubatch):
        self.engine = engine
        self.model = engine.load(path)
        self.context = engine.new_context_of(self.model, n_ubatch)

    def generate(self, tokens):
        memory = self.engine.call("llama_get_memory", c_void_p, c_void_p)(self.context)
        self.engine.call("llama_memory_clear", None, c_void_p, ctypes.c_bool)(memory, True)
        return self.engine.generate(self.model, self.context, tokens, N_TOKENS)

    def free(self):
        self.engine.call("llama_free", None, c_void_p)(self.context)
        self.engine.call("llama_model_free", None, c_void_p)(self.model)


def main():
    folder, backends, addresses, n_swaps, kept_path, *paths = sys.argv[1:]
    engine = SwappingEngine(Path(folder), linked=True, backends=Path(backends))
    for address in addresses.split(","):
        engine.add_device(address)

    said = []
    kept = Loaded(engine, kept_path, 128)
    for i in range(int(n_swaps)):
        tokens = prompt(4 + i % 2)
        generated = kept.generate(tokens)
        said.append((0, tokens, generated))

        other = Loaded(engine, paths[i % len(paths)], 64 + 16 * (i % 5))
        engine.evaluate(kept.model, kept.context, generated[-1:], len(tokens) + N_TOKENS - 1)
        tokens = prompt(6 + i % 3)
        said.append((1 + i % len(paths), tokens, other.generate(tokens)))
        other.free()
    kept.free()
    print(json.dumps(said))


if __name__ == "__main__":
    main()
