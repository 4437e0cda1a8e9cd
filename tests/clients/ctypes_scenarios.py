#!/usr/bin/env python3
"""Ways to use llama.cpp that no stock program takes, through ctypes.

usage: ctypes_scenarios.py SCENARIO ENGINE_LIB_DIR MODEL.gguf [ARGUMENT...]
"""

import ctypes
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from ctypes_client import Engine


def tokens(text):
    return list(text.encode())


def threads(engine, path):
    """One model, two contexts, each evaluated by a thread of its own."""
    model = engine.load(path)
    contexts = [engine.new_context(model) for _ in range(2)]
    failures = []

    def generate(context, text):
        try:
            engine.generate(model, context, tokens(text), 12)
        except BaseException as error:
            failures.append(error)

    running = [threading.Thread(target=generate, args=pair) for pair in zip(contexts, ("one thread", "and another"))]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if failures:
        raise failures[0]
    for context in contexts:
        engine.call("llama_free", None, ctypes.c_void_p)(context)


def idle(engine, path):
    """A context that never evaluates a batch."""
    model = engine.load(path)
    engine.free(model, engine.new_context(model))


def fork(engine, path):
    """A child that goes on after the parent's first batches, and says what it pleases."""
    model = engine.load(path)
    context = engine.new_context(model)
    engine.generate(model, context, tokens("parent"), 4)
    sys.stderr.write("--- child begins\n")
    child = os.fork()
    if child == 0:
        sys.exit(0)  # with everything that happens at a normal end
    _, status = os.waitpid(child, 0)
    sys.stderr.write(f"--- child ended with {status}\n")
    engine.free(model, context)


def fork_goes_on(engine, path):
    """A child that evaluates in a context of its own, while the parent waits."""
    model = engine.load(path)
    context = engine.new_context(model)
    engine.generate(model, context, tokens("parent"), 4)
    child = os.fork()
    if child == 0:
        own = engine.new_context(model)
        engine.generate(model, own, tokens("the child"), 5)
        engine.call("llama_free", None, ctypes.c_void_p)(own)
        sys.exit(0)
    _, status = os.waitpid(child, 0)
    engine.free(model, context)
    sys.exit(status != 0)


def ends_suddenly(engine, path, how):
    """Ends without any of what happens at a normal end, after children that do the same."""
    model = engine.load(path)
    context = engine.new_context(model)
    for command in "no-such-program", "true": # by vfork(), which leaves the parent's memory to the child
        try:
            subprocess.run([command], close_fds=False)
        except FileNotFoundError:
            pass
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    engine.generate(model, context, tokens("sudden"), 6)
    getattr(ctypes.CDLL(None), how)(7)


def exits_amid(engine, path):
    """Ends while two threads evaluate."""
    model = engine.load(path)
    contexts = [engine.new_context(model) for _ in range(2)]

    def generate_for_ever(context, text):
        while True:
            engine.generate(model, context, tokens(text), 100)
            memory = engine.call("llama_get_memory", ctypes.c_void_p, ctypes.c_void_p)(context)
            remove = engine.call("llama_memory_seq_rm llama_kv_self_seq_rm", ctypes.c_bool, ctypes.c_void_p,
                                 ctypes.c_int32, ctypes.c_int32, ctypes.c_int32)
            remove(memory, -1, -1, -1)

    for context, text in zip(contexts, ("one of two prompts, " * 8, "and the other one")):
        threading.Thread(target=generate_for_ever, args=(context, text), daemon=True).start()
    time.sleep(0.5)
    ctypes.CDLL(None).exit(0)  # which does not wait for Python's threads


def exits_amid_linked(engine, path):
    exits_amid(engine, path)


def twice(engine, path):
    """The same model, loaded twice, side by side."""
    models = [engine.load(path) for _ in range(2)]
    contexts = [engine.new_context(model) for model in models]
    for model, context, text in zip(models, contexts, ("first", "second one")):
        engine.generate(model, context, tokens(text), 4)
    for model, context in zip(models, contexts):
        engine.free(model, context)


def moves(engine, path, folder):
    """Changes its current folder once it has begun."""
    model = engine.load(path)
    context = engine.new_context(model)
    engine.generate(model, context, tokens("here"), 4)
    os.chdir(folder)
    engine.free(model, context)


def callback(engine, path, how):
    """Has a log callback of its own, and prints what it gets."""
    @ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
    def log(level, text, _):
        if b"EXPERT-TRACE" in text or b"Expert" in text:
            print(f"level {level}: {text.decode()}", end="", flush=True)

    library = engine.llama if how == "llama_log_set" else engine.ggml
    getattr(library, how)(log, None)
    model = engine.load(path)
    context = engine.new_context(model)
    engine.generate(model, context, tokens("hear me"), 4)
    engine.free(model, context)
    getattr(library, how)(None, None)


def old_names(engine, path):
    """Functions that end in the call of another one, so that their caller is the one before."""
    model = engine.load(path)
    context = engine.new_context(model)
    engine.generate(model, context, tokens("abc"), 2)
    if hasattr(engine.llama, "llama_kv_self_clear"):
        engine.call("llama_kv_self_seq_rm", ctypes.c_bool, ctypes.c_void_p, *[ctypes.c_int32] * 3)(context, 0, 1, -1)
        engine.call("llama_kv_self_clear", None, ctypes.c_void_p)(context)
    engine.call("llama_free", None, ctypes.c_void_p)(context)
    engine.call("llama_free_model", None, ctypes.c_void_p)(model)


def missing(engine, path):
    """A program that finds a function by its name alone, and calls what its release does not have."""
    found = getattr(ctypes.CDLL(None), "llama_process", None)
    if found:
        found.restype = ctypes.c_int32
        sys.exit(0 if found(None, 0, None) < 0 else 1)


def overlapping(engine, path, other_path):
    """A second model's context is made before the first one's is freed."""
    first = engine.load(path)
    context = engine.new_context(first)
    engine.generate(first, context, tokens("abcde"), 3)
    second = engine.load(Path(other_path))
    other = engine.new_context(second)
    engine.call("llama_free", None, ctypes.c_void_p)(context)
    engine.generate(second, other, tokens("xy"), 4)
    engine.call("llama_free", None, ctypes.c_void_p)(other)


def one_after_another(engine, path, *paths):
    """Models that are loaded and freed in turn, perhaps at the same addresses."""
    for number, other in enumerate([path, *map(Path, paths)]):
        model = engine.load(other)
        context = engine.new_context(model)
        engine.generate(model, context, tokens("abcde"[:number + 2]), 3)
        engine.free(model, context)


def reload(engine, path, n):
    """The same model, loaded and freed again and again. Says after each time what memory there is, in KiB."""
    for _ in range(int(n)):
        model = engine.load(path)
        context = engine.new_context(model)
        engine.generate(model, context, tokens("again"), 3)
        engine.call("llama_free", None, ctypes.c_void_p)(context)
        engine.call("llama_model_free llama_free_model", None, ctypes.c_void_p)(model)
        fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        print(*(fields[name].split()[0] for name in ("VmSize", "VmRSS")), flush=True)


def reload_linked(engine, path, n):
    """The same by a program that is linked with libllama, as all are whose scenario's name ends so:
    we see it free them."""
    reload(engine, path, n)


def main():
    scenario, folder, path, *arguments = sys.argv[1:]
    engine = Engine(Path(folder).resolve(), linked=scenario.endswith("_linked"))
    scenarios = (threads, idle, fork, fork_goes_on, ends_suddenly, twice, moves, callback, old_names, missing,
                 overlapping, one_after_another, reload, reload_linked, exits_amid, exits_amid_linked)
    {f.__name__: f for f in scenarios}[scenario](engine, path, *arguments)


if __name__ == "__main__":
    main()
