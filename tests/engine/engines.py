"""The nine engines that one binary of ours is tried on, and the clients that it is tried with."""

import itertools
import json
import shutil
import sys
import sysconfig

from harness import CLIENTS, ENGINE, GPT_OSS, MIXTRAL, OLD_ENGINES, QWEN3NEXT, run

PROMPT = b"The quick brown fox"
N_TOKENS = 8

# In the order of their appearance, with the oracle models whose architecture they know.
RELEASES = {
    "b3995": [MIXTRAL],
    "b4753": [MIXTRAL],
    "b5640": [MIXTRAL],
    "b6673": [MIXTRAL, GPT_OSS],
    "b8179": [MIXTRAL, GPT_OSS, QWEN3NEXT],
    "b9842": [MIXTRAL, GPT_OSS, QWEN3NEXT],
    "0.4.0": [MIXTRAL, GPT_OSS, QWEN3NEXT],
    "0.5.0": [MIXTRAL, GPT_OSS, QWEN3NEXT],
    "0.7.0": [MIXTRAL, GPT_OSS, QWEN3NEXT],
}
STOCK = "0.7.0"
OLD = [release for release in RELEASES if release != STOCK]

# Before this release a warm-up is routed as everything else; from it on it uses every expert.
FIRST_WITH_SET_WARMUP = "b5640"


def has_set_warmup(release):
    releases = list(RELEASES)
    return releases.index(release) >= releases.index(FIRST_WITH_SET_WARMUP)


def last_layer_is_whole(release, oracle):
    """These two compute all rows of these architectures' last layer, whoever asks for logits."""
    return release in ("0.4.0", "0.5.0") and oracle in (GPT_OSS, QWEN3NEXT)


def stock_libraries():
    """The folders of the stock engine's libllama.so and of its backends, or None."""
    program = (ENGINE / "llama-cli").resolve()
    for near in ENGINE.resolve().parent / "root" / "usr" / "lib", program.parent, program.parent.parent / "lib":
        for found in itertools.chain(near.glob("libllama.so"), near.glob("*/libllama.so")):
            return found.parent, next(found.parent.glob("ggml/backends*"), found.parent)
    return None


def stock_python_command(script, libraries, *arguments):
    """A client in Python, on the stock engine: by that one's loader, where it brings a C library of its own."""
    folder, backends = libraries
    loader = next(folder.glob("ld-linux*.so.*"), None)
    system = f"/usr/lib/{sysconfig.get_config_var('MULTIARCH') or ''}"
    started = [loader, "--library-path", f"{folder}:{system}"] if loader else []
    return [*started, sys.executable, CLIENTS / script, folder, backends, *arguments]


class Client:
    """A way in which programs reach llama.cpp's functions."""

    def __init__(self, name, releases, command, sees_calls, n_warmup=0):
        self.name = name
        self.releases = releases
        self.command = command        # (release, model's path) -> arguments
        self.sees_calls = sees_calls  # whether calls to llama_decode pass us
        self.n_warmup = n_warmup      # tokens of its own warm-up

    def run(self, release, oracle, *more, **options):
        return run(*self.command(release, oracle.path), *more, **options)


def stock_command(_, path):
    return [ENGINE / "llama-completion", "-m", path, "-p", PROMPT.decode(), "-n", N_TOKENS, "-no-cnv", "-t", 1]


def node_command(release, path):
    return [shutil.which("node"), CLIENTS / "node-client.mjs", OLD_ENGINES / release / "node", path,
            PROMPT.decode(), N_TOKENS]


def python_command(release, path, *options):
    return [sys.executable, CLIENTS / "ctypes_client.py", *options, OLD_ENGINES / release / "lib",
            path, N_TOKENS, *PROMPT]


def python_with(*options):
    return lambda release, path: python_command(release, path, *options)


STOCK_PROGRAM = Client("stock program", [STOCK], stock_command, sees_calls=True, n_warmup=2)
LINKED = Client("linked program", OLD, python_with("--linked", "--warm-up"), sees_calls=True, n_warmup=2)
NODE = Client("Node", OLD, node_command, sees_calls=True)
CTYPES = Client("Python (ctypes)", OLD, python_command, sees_calls=False)
CLIENTS_TRIED = [STOCK_PROGRAM, LINKED, NODE, CTYPES]


def evaluated(release, oracle):
    """What a client evaluates of the prompt and after it, as pairs (token, routed in the last layer)."""
    return [(token, asks or last_layer_is_whole(release, oracle))
            for token, asks in oracle.completion(PROMPT, N_TOKENS)]


def answer(client, result):
    """What the client printed: all of it, so that a line of ours among it would show."""
    return result.out.rstrip("\n") if client is STOCK_PROGRAM else json.loads(result.out)


def right_answer(client, oracle):
    tokens = oracle.generate(PROMPT, N_TOKENS)
    if client is STOCK_PROGRAM:
        return bytes(tokens).decode()
    return {"prompt": tokens[:len(PROMPT)], "generated": tokens[len(PROMPT):]}


def check(case, client, release, oracle, **more):
    """Runs a client on a release, traced, and holds everything against what the oracle predicts. `more`: variables."""
    result = client.run(release, oracle, trace=case.trace(**more))
    case.assertEqual(result.status, 0, result.err)
    case.assertEqual(answer(client, result), right_answer(client, oracle))

    stats = case.stats()
    case.assert_counts(stats, oracle, evaluated(release, oracle))
    case.assertTrue(stats["complete"])
    case.assertEqual(stats["model"]["architecture"], oracle.architecture)
    case.assertEqual(stats["model"]["file"], str(oracle.path.resolve()))
    case.assertTrue(stats["model"]["name"].startswith("Oracle"))
    case.assertIn("llama.cpp", stats["engine"])
    if client.sees_calls:
        case.assert_phases(stats, len(PROMPT), N_TOKENS - 1, client.n_warmup)
    else:
        case.assert_phases(stats, None, None)
        case.assertIsNone(stats["warmup_tokens"])

    said = result.said()
    for line in ("[EXPERT-TRACE] Statistics enabled", "=== Expert Usage Statistics ===",
                 f"[EXPERT-TRACE] Statistics exported to {case.stats_path}"):
        case.assertEqual(said.count(line), 1, line)
