"""Stock programs, each a process of its own, in turn: how long each takes from its start to its end."""

import re
import subprocess
import tempfile
import time
from pathlib import Path

from client import environment
from pairs import Spread, progress

TEXT = "The quick brown fox jumps over the lazy dog, and on its way home it counts the experts it has met. "


def wall(command, env):
    begin = time.monotonic()
    done = subprocess.run(list(map(str, command)), env=env, stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed:\n{done.stderr.decode(errors='replace')[-2000:]}")
    return time.monotonic() - begin, done


def traced(library, **variables):
    return {**environment([library]), **{f"LLAMA_EXPERT_TRACE_{k}": str(v) for k, v in variables.items()}}


class Evaluation:
    """A text of some chunks of 512 tokens: llama-perplexity, the same with the tracer, and llama-imatrix."""

    def __init__(self, engine, library, model, threads, chunks, seconds):
        self.n_tokens = 512 * chunks
        with tempfile.TemporaryDirectory(prefix="expert-tracer-bench-") as folder:
            text = Path(folder) / "text"
            text.write_text(TEXT * (self.n_tokens // len(TEXT) + 2))
            common = ["-m", model, "-f", text, "-c", 512, "-b", 512, "-t", threads, "--chunks", chunks]
            plain = [engine / "llama-perplexity", *common]
            with_statistics = traced(library, STATS=1, OUTPUT=Path(folder) / "stats.json")
            imatrix = [engine / "llama-imatrix", *common, "-o", Path(folder) / "imatrix.gguf"]
            ways = {
                "llama-perplexity, statistics as JSON": (plain, with_statistics),
                "llama-imatrix": (imatrix, environment()),
            }
            self.untraced = []
            self.shares = {way: [] for way in ways}
            deadline = time.monotonic() + seconds
            wall(plain, environment())
            while not self.untraced or time.monotonic() < deadline:
                for way, (command, env) in ways.items():
                    progress(f"stock programs: {way}")
                    self.untraced.append(wall(plain, environment())[0])
                    self.shares[way].append(wall(command, env)[0] / self.untraced[-1])
        self.seconds = Spread(self.untraced)
        progress("")


class LogFile:
    """llama-completion with --log-file: untraced, and with every activation's names in that file."""

    def __init__(self, engine, library, model, threads, n_tokens, seconds):
        self.ratios = []
        self.lines = 0
        with tempfile.TemporaryDirectory(prefix="expert-tracer-bench-") as folder:
            log = Path(folder) / "log"
            command = [engine / "llama-completion", "-m", model, "-p", "hello", "-n", n_tokens,
                       "-t", threads, "-c", 1024, "-no-cnv", "--no-warmup", "--ignore-eos", "--log-file", log]
            deadline = time.monotonic() + seconds
            wall(command, environment())
            while not self.ratios or time.monotonic() < deadline:
                progress("stock programs: llama-completion --log-file")
                untraced = self._token_ms(wall(command, environment())[1])
                named = self._token_ms(wall(command, traced(library, NAMES=1))[1])
                self.ratios.append(untraced / named)
                self.lines = log.read_bytes().count(b"[EXPERT-TRACE] Layer") / n_tokens
        progress("")

    @staticmethod
    def _token_ms(done):
        found = re.search(rb" eval time = +[0-9.]+ ms / +\d+ runs +\( +([0-9.]+) ms per token", done.stderr)
        if not found:
            raise RuntimeError("llama-completion does not tell how long a token took:\n"
                               + done.stderr.decode(errors="replace")[-2000:])
        return float(found[1])
