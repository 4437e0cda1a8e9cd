#!/usr/bin/env python3
"""What `top` shows of a stock llama-server under load is what its statistics say, and what `cache` and `report` make of
the trace that was recorded meanwhile: of the same ubatches."""

import json
import subprocess
import threading
import time

from harness import COMMAND, GPT_OSS, environment, main, run, wait_for
from test_live import LiveTestCase

PHASES = ("prompt", "generation")
SECONDS = 6 # of load
LONG_PROMPT = "to be or not to be, " * 40 # more than a ubatch: in the first one the last layer routes nothing


class Frames:
    """Those that `top` prints, as they come."""

    def __init__(self, live):
        self.process = subprocess.Popen([COMMAND, "top", "--json", "--frames", "1000", "--window", "all", "--interval",
                                         "0.2"], stdout=subprocess.PIPE, text=True,
                                        env=environment() | {"LLAMA_EXPERT_TRACE_LIVE": str(live)})
        self.last = {}
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self):
        for line in self.process.stdout:
            self.last = json.loads(line)

    def until(self, tokens, watched):
        """The first frame in which so many tokens were counted, and so many of them were watched."""
        def found():
            frame = self.last
            return "tokens" in frame and (frame["tokens"]["all"], frame["watched"]["tokens"]) == (tokens, watched) \
                and frame
        return wait_for(f"a frame of {tokens} tokens, {watched} of them watched", found)

    def close(self):
        self.process.terminate()
        self.thread.join()
        self.process.communicate()


class Agreement(LiveTestCase):
    def watch(self, server, connection):
        """Watches and records while the server answers. Returns the last frame, and the statistics of then."""
        before = connection.ask("status")["models"][0]["tokens"]
        frames = Frames(self.live)
        try:
            frames.until(before, 0)
            with self.path.open("x+b") as file:
                connection.ask("record", file.fileno(), tokens=1)
                self.complete(server, LONG_PROMPT, 1)
                with self.load(server):
                    time.sleep(SECONDS)
                connection.ask("record-stop")
            statistics = connection.dump()
            tokens = statistics["total_tokens"]
            return frames.until(tokens, tokens - before), statistics
        finally:
            frames.close()

    def answer(self, verb):
        answer = run(COMMAND, verb, "--json", self.path)
        self.assertEqual(answer.status, 0, answer.err)
        return json.loads(answer.out)

    def assert_rates(self, name, shown, expected):
        for phase in PHASES:
            with self.subTest(name, phase=phase):
                self.assertGreater(shown[phase]["of"], 0)
                self.assertAlmostEqual(shown[phase]["share"], expected[phase], places=9)

    def test_numbers(self):
        with self.server(STATS=1) as server, self.connection() as connection:
            self.complete(server, "x", 1)
            frame, statistics = self.watch(server, connection)
        self.assertEqual(frame["tokens"], {"all": statistics["total_tokens"], "prompt": statistics["prompt_tokens"],
                                           "generation": statistics["generation_tokens"], "lost": 0})
        for layer in frame["layers"]:
            counts = statistics["per_layer"][str(layer["layer"])]
            self.assertEqual(layer["counts"], [counts[str(i)] for i in range(GPT_OSS.n_expert)])
        self.assertEqual(frame["watched"]["overrun_bytes"], 0)
        report = self.answer("report")
        self.assertEqual(report["tokens"]["all"], frame["watched"]["tokens"])
        self.assert_rates("reuse", frame["reuse"], report["neighbours"])
        cache = self.answer("cache")
        self.assertEqual([size["slots"] for size in frame["sizes"]], [size["slots"] for size in cache["sizes"]])
        for shown, size in zip(frame["sizes"], cache["sizes"], strict=True):
            for ours, name in (("lru_all", "lru"), ("llama_all", "llama_cpp")):
                self.assert_rates(f"{name} of {shown['slots']} slots", shown[ours],
                                  {phase: size["whole_run"][phase][name] for phase in PHASES})


if __name__ == "__main__":
    main()
