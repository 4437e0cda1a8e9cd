#!/usr/bin/env python3
"""A client of llama.cpp that fetches every function with dlsym: ctypes.

usage: ctypes_client.py [--linked] [--warm-up] [--no-free]
                        ENGINE_LIB_DIR MODEL.gguf N_TOKENS TOKEN...
       ctypes_client.py --serve ENGINE_LIB_DIR MODEL.gguf

Evaluates the given tokens, then generates N_TOKENS greedily. Every generated
token but the last is evaluated too. Prints one line of JSON:
  {"prompt": [token, ...], "generated": [token, ...]}

With --linked it calls what a program that is linked with libllama would call:
a preloaded library's functions come first. With --warm-up it evaluates BOS and
EOS beforehand as the stock programs of the release do. With --serve it answers
each line of its standard input, "N_TOKENS TOKEN...", as if nothing had been
evaluated before, until that ends; it prints {} first, when it is ready.

Works with llama.cpp releases from b3995 on; it knows no struct but llama_batch.
"""

import argparse
import ctypes
import json
import select
import sys
from ctypes import c_bool, c_char_p, c_float, c_int8, c_int32, c_void_p
from pathlib import Path


class Params(ctypes.Structure):
    """llama_model_params or llama_context_params, whatever their size.

    Larger than either of them ever was. Structs of that kind travel in memory,
    and the callee touches only its own part.
    """

    _fields_ = [("opaque", ctypes.c_uint64 * 128)]


class Batch(ctypes.Structure):
    """llama_batch"""

    _fields_ = [
        ("n_tokens", c_int32),
        ("token", ctypes.POINTER(c_int32)),
        ("embd", ctypes.POINTER(c_float)),
        ("pos", ctypes.POINTER(c_int32)),
        ("n_seq_id", ctypes.POINTER(c_int32)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(c_int32))),
        ("logits", ctypes.POINTER(c_int8)),
    ]

    @classmethod
    def of(cls, tokens, first_pos):
        """A batch of one sequence, logits asked for its last token only."""
        n = len(tokens)
        sequence = ctypes.pointer(c_int32(0))
        return cls(
            n_tokens=n,
            token=(c_int32 * n)(*tokens),
            pos=(c_int32 * n)(*range(first_pos, first_pos + n)),
            n_seq_id=(c_int32 * n)(*[1] * n),
            seq_id=(ctypes.POINTER(c_int32) * n)(*[sequence] * n),
            logits=(c_int8 * n)(*[0] * (n - 1), 1),
        )


def function(library, names, result, *arguments, called_in=None):
    """The first of the names that the library has; functions were renamed."""
    for name in names.split():
        if hasattr(library, name):
            found = getattr(called_in or library, name)
            found.restype = result
            found.argtypes = arguments
            return found
    raise SystemExit(f"ctypes_client: no {names} in {library._name}")


def only(folder, pattern):
    found = sorted(folder.glob(pattern))
    if not found:
        raise SystemExit(f"ctypes_client: no {pattern} in {folder}")
    return str(found[0])


class Engine:
    def __init__(self, folder, linked=False, backends=None):
        mode = ctypes.RTLD_GLOBAL if linked else ctypes.RTLD_LOCAL
        # First, because the libllama of b3995 would look for it elsewhere.
        self.ggml = ctypes.CDLL(only(folder, "libggml.*so"), mode)
        self.llama = ctypes.CDLL(only(folder, "libllama.*so"), mode)
        self.called_in = ctypes.CDLL(None) if linked else self.llama
        if hasattr(self.ggml, "ggml_backend_load_all_from_path"):
            load_backends = function(self.ggml, "ggml_backend_load_all_from_path", None, c_char_p)
            load_backends(str(backends or folder).encode())
        self.call("llama_backend_init", None)()

    def call(self, names, result, *arguments):
        return function(self.llama, names, result, *arguments, called_in=self.called_in)

    def load(self, path):
        params = self.call("llama_model_default_params", Params)()
        load = self.call("llama_model_load_from_file llama_load_model_from_file",
                         c_void_p, c_char_p, Params)
        model = load(str(path).encode(), params)
        if not model:
            raise SystemExit(f"ctypes_client: cannot load {path}")
        return model

    def new_context(self, model):
        params = self.call("llama_context_default_params", Params)()
        new = self.call("llama_init_from_model llama_new_context_with_model",
                        c_void_p, c_void_p, Params)
        context = new(model, params)
        if not context:
            raise SystemExit("ctypes_client: cannot create a context")
        # Threads that wait for each other crawl on a busy machine.
        self.call("llama_set_n_threads", None, c_void_p, c_int32, c_int32)(context, 1, 1)
        return context

    def n_vocab(self, model):
        if hasattr(self.llama, "llama_vocab_n_tokens"):
            vocab = self.call("llama_model_get_vocab", c_void_p, c_void_p)(model)
            return self.call("llama_vocab_n_tokens", c_int32, c_void_p)(vocab)
        return self.call("llama_n_vocab", c_int32, c_void_p)(model)

    def warm_up(self, model, context):
        if hasattr(self.llama, "llama_model_get_vocab"):
            model = self.call("llama_model_get_vocab", c_void_p, c_void_p)(model)
        special = [self.call(names, c_int32, c_void_p)(model)
                   for names in ("llama_vocab_bos llama_token_bos", "llama_vocab_eos llama_token_eos")]
        self.set_warmup(context, True)
        decode = self.call("llama_decode", c_int32, c_void_p, Batch)
        if decode(context, Batch(n_tokens=2, token=(c_int32 * 2)(*special))) != 0:
            raise SystemExit("ctypes_client: llama_decode failed at the warm-up")
        self.forget(context)
        self.call("llama_synchronize", None, c_void_p)(context)
        self.call("llama_perf_context_reset", None, c_void_p)(context)
        self.set_warmup(context, False)

    def forget(self, context):
        if hasattr(self.llama, "llama_memory_clear"):
            memory = self.call("llama_get_memory", c_void_p, c_void_p)(context)
            self.call("llama_memory_clear", None, c_void_p, c_bool)(memory, True)
        else:
            self.call("llama_kv_self_clear llama_kv_cache_clear", None, c_void_p)(context)

    def set_warmup(self, context, value):
        if hasattr(self.llama, "llama_set_warmup"):
            self.call("llama_set_warmup", None, c_void_p, c_bool)(context, value)

    def evaluate(self, model, context, tokens, n_past):
        """Returns the token that follows."""
        decode = self.call("llama_decode", c_int32, c_void_p, Batch)
        logits_of = self.call("llama_get_logits_ith",
                              ctypes.POINTER(c_float), c_void_p, c_int32)
        if decode(context, Batch.of(tokens, n_past)) != 0:
            raise SystemExit(f"ctypes_client: llama_decode failed at position {n_past}")
        n_vocab = self.n_vocab(model)
        logits = logits_of(context, len(tokens) - 1)[:n_vocab]
        return max(range(n_vocab), key=logits.__getitem__)

    def generate(self, model, context, prompt, n_tokens):
        generated, tokens, n_past = [], prompt, 0
        while len(generated) < n_tokens:
            next_token = self.evaluate(model, context, tokens, n_past)
            n_past += len(tokens)
            tokens = [next_token]
            generated += tokens
        return generated

    def free(self, model, context):
        self.call("llama_free", None, c_void_p)(context)
        self.call("llama_model_free llama_free_model", None, c_void_p)(model)
        self.call("llama_backend_free", None)()


def say(answer):
    print(json.dumps(answer), flush=True)


def serve(engine, model, context):
    say({})
    while select.select([sys.stdin], [], []) and (line := sys.stdin.readline()):
        n_tokens, *prompt = map(int, line.split())
        engine.forget(context)
        say({"prompt": prompt, "generated": engine.generate(model, context, prompt, n_tokens)})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--linked", action="store_true", help="call preloaded functions first")
    parser.add_argument("--warm-up", action="store_true", help="evaluate BOS and EOS beforehand")
    parser.add_argument("--no-free", action="store_true", help="exit without freeing anything")
    parser.add_argument("--serve", action="store_true", help="answer lines of the standard input")
    parser.add_argument("lib_dir", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("n_tokens", type=int, nargs="?", default=1)
    parser.add_argument("prompt", type=int, nargs="*", metavar="TOKEN")
    args = parser.parse_args()
    if not args.serve and not args.prompt:
        parser.error("how many tokens are to be generated, and behind which?")

    engine = Engine(args.lib_dir.resolve(), args.linked)
    model = engine.load(args.model)
    context = engine.new_context(model)
    if args.warm_up:
        engine.warm_up(model, context)
    if args.serve:
        serve(engine, model, context)
    else:
        say({"prompt": args.prompt, "generated": engine.generate(model, context, args.prompt, args.n_tokens)})
    if not args.no_free:
        engine.free(model, context)


if __name__ == "__main__":
    main()
