#!/usr/bin/env python3
"""What a program answers is the same with us and without, to the last bit."""

import hashlib
import json

from expanded import expanded
from harness import MIXTRAL, Server, TestCase, main, run
from witness import run_whole

PROMPT = "The quick brown fox"
TEXT = "The quick brown fox: 0123456789, jumps over {the} lazy ~dog! " * 3


class Transparency(TestCase):
    """Runs things three times: without us, with us and nothing set, and with us and all that can be set."""

    def models(self):
        """A model of zeros, where every answer is clear cut, and one of random numbers, where the last bit counts."""
        yield MIXTRAL.path
        yield expanded("qwen3moe")

    def three_ways(self, model, do):
        """What do(how) returns is the same each time. Returns it."""
        untraced = do({"preload": False})
        files = sorted(self.folder.iterdir())
        silent = do({"trace": {}})
        self.assertEqual(sorted(self.folder.iterdir()), files)
        traced = do({"trace": self.trace(NAMES=1)})
        self.assertGreater(self.stats()["total_activations"], 0)
        self.stats_path.unlink()
        self.assertEqual(silent, untraced)
        self.assertEqual(traced, untraced)
        return untraced

    def check(self, *command, start=run_whole, answer=lambda result: result.out):
        """What a command prints is the same, or what answer(result) returns."""
        for model in self.models():
            def do(how):
                result = start(command[0], "-m", model, "-t", 1, *command[1:], cwd=self.folder, **how)
                self.assertEqual("EXPERT-TRACE" in result.err, "STATS" in how.get("trace", {}))
                return result.status, answer(result)
            with self.subTest(model=model.name):
                status, said = self.three_ways(model, do)
                self.assertEqual(status, 0)
                self.assertTrue(said)

    @staticmethod
    def take(path):
        """What a file is known by. It is gone then."""
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        path.unlink()
        return digest

    def test_completion(self):
        self.check("llama-completion", "-p", PROMPT, "-n", 24, "-no-cnv", "--seed", 7)

    def test_completion_by_chance(self):
        # a sampler that looks at all the probabilities
        self.check("llama-completion", "-p", PROMPT, "-n", 24, "-no-cnv", "--seed", 7, "--temp", 1.5, "--top-k", 0)

    def test_several_ubatches(self):
        self.check("llama-completion", "-p", TEXT, "-n", 4, "-no-cnv", "--seed", 7, "-ub", 32)

    def test_perplexity(self):
        (self.folder / "text").write_text(TEXT)
        # the first line is how long it will take
        self.check("llama-perplexity", "-f", "text", "-c", 64,
                   answer=lambda result: [line for line in result.out.splitlines() if "minutes" not in line])

    def test_logits(self):
        (self.folder / "text").write_text(TEXT)
        path = self.folder / "logits"
        self.check("llama-perplexity", "-f", "text", "-c", 64, "--kl-divergence-base", path, start=run,
                   answer=lambda _: self.take(path))

    def test_imatrix(self):
        (self.folder / "text").write_text(TEXT)
        path = self.folder / "imatrix.gguf"
        self.check("llama-imatrix", "-f", "text", "-c", 64, "-o", path, start=run, answer=lambda _: self.take(path))

    def test_bench(self):
        def without_times(result):
            timed = "test_time", "avg_ns", "stddev_ns", "avg_ts", "stddev_ts", "samples_ns", "samples_ts"
            return [{key: value for key, value in json.loads(line).items() if key not in timed}
                    for line in result.out.splitlines()]
        self.check("llama-bench", "-p", 16, "-n", 4, "-r", 1, "--no-warmup", "-o", "jsonl",
                   start=run, answer=without_times)

    def test_server(self):
        def do(how):
            with Server("-m", model, "-t", 1, "-c", 512, "-np", 2, **how) as server:
                request = {"prompt": PROMPT, "n_predict": 6, "n_probs": 5, "seed": 3, "ignore_eos": True}
                answers = [server.post("/completion", **request, temperature=0.8, cache_prompt=False),
                           server.post("/completion", **request, post_sampling_probs=True),
                           server.post("/v1/completions", prompt=PROMPT, max_tokens=6,
                                       logprobs=3, temperature=0, seed=3)]
                self.assertEqual("EXPERT-TRACE" in server.err(), "STATS" in how.get("trace", {}))
                return server.stop(), server.stdout(), [without_times(answer) for answer in answers]

        def without_times(answer):
            return {key: value for key, value in answer.items()
                    if key not in ("timings", "id", "created", "generation_settings")}
        for model in self.models():
            with self.subTest(model=model.name):
                status, _, answers = self.three_ways(model, do)
                self.assertEqual(status, 0)
                self.assertEqual(len(answers[0]["completion_probabilities"]), 6)


class Failures(TestCase):
    """A program that fails does so in its own way."""

    def check(self, *command):
        untraced, silent = run(*command, preload=False), run(*command)
        traced = run(*command, trace=self.trace(NAMES=1))
        self.assertNotEqual(untraced.status, 0)
        self.assertEqual((silent.status, silent.out), (untraced.status, untraced.out))
        self.assertEqual((traced.status, traced.out), (untraced.status, untraced.out))

    def test_no_such_model(self):
        self.check("llama-completion", "-m", self.folder / "none.gguf", "-p", "a", "-n", 1, "-no-cnv")
        self.assertFalse(self.stats_path.exists())

    def test_no_such_option(self):
        self.check("llama-completion", "--no-such-option")
        self.assertFalse(self.stats_path.exists())

    def test_prompt_longer_than_the_context(self):
        # the warm-up is over by then
        self.check("llama-completion", "-m", MIXTRAL.path, "-p", "a" * 600, "-c", 256, "-n", 1, "-no-cnv", "-t", 1)
        self.assertEqual((self.stats()["total_tokens"], self.stats()["warmup_tokens"]), (0, 2))


class OtherPeoplesPrograms(TestCase):
    """The library is preloaded into whatever a script starts."""

    def test_programs_that_know_nothing_of_llama(self):
        for command in ["/bin/echo", "hello"], ["/bin/sh", "-c", "echo hello; exit 3"]:
            with self.subTest(command[0]):
                untraced, traced = run(*command, preload=False), run(*command, trace=self.trace(NAMES=1))
                self.assertEqual((traced.status, traced.out, traced.err), (untraced.status, untraced.out, untraced.err))
                self.assertEqual(list(self.folder.iterdir()), [])


if __name__ == "__main__":
    main()
