#!/usr/bin/env python3
"""LLAMA_EXPERT_TRACE_NAMES: the expert tensors of every activation, line by line."""

import re

from expanded import expanded
from gguf import Gguf, rewrite
from harness import GPT_OSS, MIXTRAL, ORACLES, QWEN3NEXT, Oracle, Server, TestCase, main, run
from witness import Evaluation, run_whole

ACTIVATION = re.compile(r"\[EXPERT-TRACE\] Layer \d+, Expert \d+: ")
PROJECTIONS = "ffn_gate_exps", "ffn_down_exps", "ffn_up_exps"


def lines_of(said):
    """Those of the lines that name a tensor."""
    return [line for line in said if ACTIVATION.match(line)]


def lines(oracle, ubatches, projections=PROJECTIONS):
    """Every line that is to be said of ubatches: lists of (token, asks for logits) pairs."""
    expected = []
    for ubatch in ubatches:
        for layer in range(oracle.n_layer):
            for token, asks in ubatch:
                if layer == oracle.n_layer - 1 and not asks:
                    continue
                for expert in oracle.experts(layer, token):
                    expected += [f"[EXPERT-TRACE] Layer {layer}, Expert {expert}: "
                                 f"blk.{layer}.{projection}.{expert}.weight" for projection in projections]
    return expected


def completion(oracle, prompt, n, n_ubatch=512):
    """The ubatches of a completion: the prompt's, and one for each token but the last."""
    evaluated = oracle.completion(prompt.encode(), n)
    prompted, generated = evaluated[:len(prompt)], evaluated[len(prompt):]
    return [prompted[i:i + n_ubatch] for i in range(0, len(prompted), n_ubatch)] + [[pair] for pair in generated]


class Names(TestCase):
    def complete(self, oracle, *options, prompt="test", n=4, trace=None):
        result = run("llama-completion", "-m", oracle.path, "-p", prompt, "-n", n, "-no-cnv", "-t", 1, *options,
                     trace=trace or {"NAMES": 1})
        self.assertEqual(result.status, 0, result.err)
        self.assertNotIn("EXPERT-TRACE", result.out)
        return result

    def assert_lines(self, said, expected):
        said = lines_of(said)
        for i, (line, prediction) in enumerate(zip(said, expected)):
            self.assertEqual(line, prediction, f"line {i}")
        self.assertEqual(len(said), len(expected))


class Completion(Names):
    def test_every_line(self):
        # the warm-up of the program is not in them
        for oracle in ORACLES:
            with self.subTest(oracle.name):
                result = self.complete(oracle)
                self.assert_lines(result.said(), lines(oracle, completion(oracle, "test", 4)))
                self.assertEqual(result.said().count("[EXPERT-TRACE] Tensor name logging enabled"), 1)

    def test_nothing_but_names(self):
        result = self.complete(MIXTRAL)
        self.assertNotIn("Expert Usage Statistics", result.err)
        self.assertNotIn("Statistics enabled", result.err)
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_beside_statistics(self):
        result = self.complete(MIXTRAL, trace=self.trace(NAMES=1))
        batches = MIXTRAL.completion(b"test", 4)
        self.assert_lines(result.said(), lines(MIXTRAL, completion(MIXTRAL, "test", 4)))
        self.assert_counts(self.stats(), MIXTRAL, batches)
        said = result.said()
        last = max(i for i, line in enumerate(said) if ACTIVATION.match(line))
        self.assertGreater(said.index("=== Expert Usage Statistics ==="), last)
        self.assertIn("Per-layer breakdown:", said)

    def test_prompt_of_several_ubatches(self):
        prompt = "0123456789abcdef+"
        result = self.complete(GPT_OSS, "-ub", 4, prompt=prompt, n=2)
        self.assert_lines(result.said(), lines(GPT_OSS, completion(GPT_OSS, prompt, 2, n_ubatch=4)))

    def test_generation_with_a_reused_graph(self):
        result = self.complete(MIXTRAL, n=24)
        reused = re.search(r"graphs reused = +(\d+)", result.err)
        self.assertGreater(int(reused[1]), 16)
        self.assert_lines(result.said(), lines(MIXTRAL, completion(MIXTRAL, "test", 24)))

    def test_log_file(self):
        log = self.folder / "log"
        result = self.complete(MIXTRAL, "--log-file", log)
        expected = lines(MIXTRAL, completion(MIXTRAL, "test", 4))
        self.assert_lines(result.said(), expected)
        # the program's own text, which has no newlines, is in the file too
        self.assertEqual(re.findall(ACTIVATION.pattern + r"\S+", log.read_text()), expected)

    def test_off(self):
        for off in "0", "":
            with self.subTest(off):
                result = self.complete(MIXTRAL, trace={"NAMES": off, "STATS": 1})
                self.assertEqual(lines_of(result.said()), [])
                self.assertNotIn("Tensor name logging", result.err)


class Projections(Names):
    """What a model has instead of gate, down and up."""

    def rewrite(self, oracle, parts):
        """The oracle's model with other tensors: for each name the shape, and the old ones that it is made of."""
        source = Gguf(oracle.path)
        tensors = {name: (shape, source.places[old[0]][0], b"".join(map(source.bytes, old)))
                   for name, (shape, old) in parts.items()}
        rewritten = Oracle(oracle.name, oracle.architecture, oracle.n_layer, oracle.n_expert, oracle.n_used)
        rewritten.path = self.folder / "model.gguf"
        rewrite(source, rewritten.path, tensors)
        return rewritten

    def test_no_gate(self):
        tensors = {name: (shape, [name]) for name, shape in Gguf(MIXTRAL.path).shapes.items()
                   if "ffn_gate_exps" not in name}
        gateless = self.rewrite(MIXTRAL, tensors)
        result = self.complete(gateless)
        self.assert_lines(result.said(), lines(gateless, completion(gateless, "test", 4), PROJECTIONS[1:]))

    def test_gate_and_up_in_one(self):
        tensors = {}
        for name, shape in Gguf(QWEN3NEXT.path).shapes.items():
            if "ffn_gate_exps" in name:
                merged = [shape[0], 2 * shape[1], shape[2]]
                tensors[name.replace("gate", "gate_up")] = merged, [name, name.replace("gate", "up")]
            elif "ffn_up_exps" not in name:
                tensors[name] = shape, [name]
        merged = self.rewrite(QWEN3NEXT, tensors)
        result = self.complete(merged)
        self.assert_lines(result.said(),
                          lines(merged, completion(merged, "test", 4), ("ffn_gate_up_exps", "ffn_down_exps")))


class Architectures(Names):
    """Beside what llama-eval-callback prints of the same run."""

    KINDS = {
        "gpt-oss": "biases",
        "arctic": "a dense part in every layer, and a norm of the experts",
        "deepseek2": "gate and up in one",
        "hy_v3": "gate and up in one",
        "deepseek4": "hyper-connections",
        "grovemoe": "chunk experts, which follow from the experts",
        "k2-horizon": "experts in the attention",
        "llama4": "experts in every second layer",
        "maion-coder": "layers of different kinds",
        "qwen35moe": "shared experts",
        "smallthinker": "a router in front of the attention",
    }

    def test_every_line(self):
        for architecture in self.KINDS:
            with self.subTest(architecture):
                result = run_whole("llama-eval-callback", "-m", expanded(architecture), "-p", "A test",
                                   "-t", 1, trace={"NAMES": 1})
                self.assertEqual(result.status, 0, result.err)
                printed = Evaluation(result.out)
                expected = []
                for layer, rows in printed.topk.items():
                    weights = sorted(printed.weights[layer], key=lambda name: ("gate" not in name, "down" not in name))
                    self.assertIn(len(weights), (2, 3))
                    expected += [f"[EXPERT-TRACE] Layer {layer}, Expert {expert}: "
                                 f"{name[:-len('weight')]}{expert}.weight"
                                 for row in rows for expert in row for name in weights]
                self.assertTrue(expected)
                self.assert_lines(result.said(), expected)


class OtherPrograms(Names):
    def test_cli(self):
        # it shows errors alone
        result = run("llama-cli", "-m", MIXTRAL.path, "-p", "test", "-n", 4, "-st", "-t", 1, trace={"NAMES": 1})
        self.assertEqual(result.status, 0)
        self.assert_lines(result.said(), lines(MIXTRAL, completion(MIXTRAL, "user: test\nassistant: ", 4)))
        self.assertNotIn("EXPERT-TRACE", result.out)

    def test_server(self):
        prompts = "tell me", "a story"
        with Server("-m", MIXTRAL.path, "-t", 1, "-c", 1024, "-np", 1, trace={"NAMES": 1}) as server:
            for prompt in prompts:
                server.post("/completion", prompt=prompt, n_predict=3, cache_prompt=False)
            self.assertEqual(server.stop(), 0)
            expected = [line for prompt in prompts for line in lines(MIXTRAL, completion(MIXTRAL, prompt, 3))]
            self.assert_lines(server.said(), expected)
            self.assertNotIn("EXPERT-TRACE", server.stdout())

    def test_bench(self):
        # its logger is not the other programs' one
        result = run("llama-bench", "-m", MIXTRAL.path, "-p", 4, "-n", 2, "-r", 1, "-t", 1,
                     "--no-warmup", trace={"NAMES": 1})
        self.assertEqual(result.status, 0)
        rows = 6 * (MIXTRAL.n_layer - 1) + 3
        self.assertEqual(len(lines_of(result.said())), rows * MIXTRAL.n_used * len(PROJECTIONS))
        self.assertNotIn("EXPERT-TRACE", result.out)


if __name__ == "__main__":
    main()
