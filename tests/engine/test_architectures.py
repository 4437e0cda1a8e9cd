#!/usr/bin/env python3
"""Every MoE architecture that llama.cpp knows."""

import concurrent.futures
import json
import struct
import sys

from expanded import N_EXPERT, N_USED, expand, expanded, tiny
from gguf import F32, Gguf
from harness import CLIENTS, COMMAND, GATES, LIBRARY, OLD_ENGINES, Server, main, run
from traces import LOST, Lives, Trace, TraceTestCase
from witness import Evaluation, GateWeights, computed_gates, imatrix_counts, run_whole

# Architectures whose models may have experts by their metadata, and that route nothing through them.
NOT_ROUTED = {"ernie4_5", "paddleocr", "refact"}

# Architectures on which stock programs with an eval callback crash, without us too.
NOT_PRINTED = {"glm5-next"}


def half(number):
    """As in the trace: the next half float."""
    return struct.unpack("<e", struct.pack("<e", number))[0]


class Architectures(TraceTestCase):
    def experts(self, stats):
        """Activations of each expert, by layer."""
        return {int(layer): [row[str(e)] for e in range(len(row))] for layer, row in stats["per_layer"].items()}


class Tiny(Architectures):
    """Two experts, of which every token takes both."""

    N_PROMPT, N_GENERATION = 8, 2

    def bench(self, model, **how):
        return run("llama-bench", "-m", model, "-p", self.N_PROMPT, "-n", self.N_GENERATION, "-r", 1,
                   "-t", 1, "--no-warmup", **how)

    def bench_both(self, architecture, model):
        """Untraced, and traced into a folder of its own, with a witness of the gate weights."""
        folder = self.folder / architecture
        folder.mkdir()
        trace = {**self.trace(OUTPUT=folder / "stats.json"), **self.routing(WEIGHTS=1, ROUTING=folder / "run.moetrace")}
        traced = self.bench(model, trace=trace, preload=False, LD_PRELOAD=f"{LIBRARY} {GATES}",
                            GATES_LOG=str(folder / "gates"))
        return folder, self.bench(model, preload=False), traced

    def check(self, model, stats):
        experts = Gguf(model).experts_per_layer()
        last = stats["n_layer"] - 1
        self.assertTrue(experts)
        self.assertEqual({int(layer) for layer in stats["layer_tokens"]}, set(experts))
        self.assertEqual(stats["n_expert"], max(experts.values()))
        self.assertEqual(stats["n_expert_used"], 2)
        for layer, activations in self.experts(stats).items():
            rows = stats["layer_tokens"][str(layer)]
            # the last layer computes those that ask for logits, in most architectures
            self.assertIn(rows, [10, 3] if layer == last else [10])
            self.assertEqual(len(activations), experts[layer])
            self.assertEqual(sum(activations), 2 * rows)
            if experts[layer] == 2:
                self.assertEqual(activations, [rows, rows])
        self.assertEqual(stats["total_activations"], sum(map(sum, self.experts(stats).values())))

    def check_trace(self, stats):
        trace = self.read()
        self.assertEqual((trace.header["capture"], trace.header["weights"]), ("graph", True))
        self.assert_statistics(trace, stats)
        self.assertEqual([[token.position for token in ubatch.tokens] for ubatch in trace.ubatches],
                         [list(range(self.N_PROMPT)), [0], [1]])
        computed = computed_gates(self.path.parent / "gates")
        self.assertEqual(len(trace.ubatches), len(computed))
        for ubatch, gates in zip(trace.ubatches, computed):
            self.assertEqual({layer.layer: [weight for row in layer.weights for weight in row]
                              for layer in ubatch.layers},
                             {layer: list(map(half, weights)) for layer, weights in gates.items()})
        info = run(COMMAND, "info", "--json", self.path, preload=False)
        self.assertEqual(info.status, 0, info.err)
        info = json.loads(info.out)
        self.assertEqual((info["ended"], info["ubatches"], info["tokens"]["all"]), ("complete", 3, 10))
        self.assertEqual(info["activations"], stats["total_activations"])

    def test_all(self):
        routed = set()
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            benches = dict(zip(tiny(), pool.map(self.bench_both, *zip(*tiny().items()))))
        for architecture, (folder, untraced, traced) in benches.items():
            with self.subTest(architecture):
                self.stats_path, self.path = folder / "stats.json", folder / "run.moetrace"
                self.assertEqual(traced.status, untraced.status, traced.err)
                self.assertEqual(traced.status, 0)
                stats = self.stats()
                self.assertTrue(stats["complete"])
                self.assertEqual(stats["model"]["architecture"], architecture)
                self.assertEqual(stats["total_tokens"], 10)
                self.assertEqual(stats["prompt_tokens"] + stats["generation_tokens"], 10)
                if stats["n_expert"]:
                    routed.add(architecture)
                    self.check(tiny()[architecture], stats)
                    self.check_trace(stats)
                else:
                    self.assertFalse(self.path.exists())
                    self.assertEqual((stats["total_activations"], stats["layer_tokens"], stats["expert_activations"]),
                                     (0, {}, {}))
                    self.assertIn("evaluated 10 tokens and no MoE layer was seen", traced.err)
                    self.assertNotIn("=== Expert Usage Statistics ===", traced.err)
        self.assertEqual(set(tiny()) - routed, NOT_ROUTED)
        self.assertGreaterEqual(len(routed), 54)


class LastLayerAlone(Architectures):
    """A model whose last layer is the only one that routes: ubatches of a prompt without an output route nothing."""

    PROMPT, N_GENERATED, N_UBATCH = "A prompt of several ubatches, and some more", 4, 8
    N_WARMUP = 2

    def check(self, **settings):
        model = expanded("deepseek")
        self.assertEqual(list(Gguf(model).experts_per_layer()), [1])
        result = run("llama-completion", "-m", model, "-p", self.PROMPT, "-n", self.N_GENERATED,
                     "-no-cnv", "-t", 1, "-c", 256, "-ub", self.N_UBATCH, "--ignore-eos",
                     trace={**self.trace(), **self.routing(), **settings})
        self.assertEqual(result.status, 0, result.err)
        stats, trace = self.stats(), self.read()
        n_generation = self.N_GENERATED - 1
        n_prompt = stats["total_tokens"] - n_generation
        self.assertGreaterEqual(n_prompt, len(self.PROMPT))
        self.assert_phases(stats, n_prompt, n_generation, self.N_WARMUP)
        self.assertEqual(stats["layer_tokens"], {"1": self.N_GENERATED})
        self.assert_statistics(trace, stats)
        routed = [bool(ubatch.layers) for ubatch in trace.ubatches if not ubatch.warmup]
        self.assertEqual(routed, [False] * (-(-n_prompt // self.N_UBATCH) - 1) + [True] * self.N_GENERATED)
        info = json.loads(run(COMMAND, "info", "--json", self.path, preload=False).out)
        self.assertEqual((info["tokens"]["prompt"], info["tokens"]["generation"]), (n_prompt, n_generation))
        self.assertEqual(info["activations"], stats["total_activations"])

    def test_in_the_graph(self):
        self.check()

    def test_by_the_eval_callback(self):
        self.check(CAPTURE="eval-callback")


class Expanded(Architectures):
    """Sixteen experts, of which each token takes three, beside what stock programs say of the same run."""

    PROMPT = "A test"
    TEXT = "The quick brown fox: 0123456789, jumps over {the} lazy ~dog! " * 2
    CHUNK = 32

    def check_printed(self, model):
        result = run_whole("llama-eval-callback", "-m", model, "-p", self.PROMPT, "-t", 1,
                           trace={**self.trace(), **self.routing(WEIGHTS=1)})
        self.assertEqual(result.status, 0, result.err)
        stats, printed = self.stats(), Evaluation(result.out)
        n_expert = stats["n_expert"]
        for rows in printed.topk.values():
            for row in rows:
                self.assertEqual(len(set(row)), N_USED)
        self.assertEqual(set(printed.topk), set(Gguf(model).experts_per_layer()))
        self.assertEqual(self.experts(stats), printed.counts(n_expert))
        self.assertEqual({int(layer): n for layer, n in stats["layer_tokens"].items()},
                         {layer: len(rows) for layer, rows in printed.topk.items() if rows})
        self.assertGreaterEqual(n_expert, N_EXPERT)
        self.assertEqual((stats["n_expert_used"], stats["total_tokens"]), (N_USED, len(self.PROMPT)))
        self.check_printed_trace(stats, printed, GateWeights(result.out).layers)

    def check_printed_trace(self, stats, printed, weights):
        trace = self.read()
        self.assertEqual(trace.header["capture"], "eval-callback")
        self.assert_statistics(trace, stats)
        self.assertEqual(self.texts(trace), [self.PROMPT.encode()])
        (ubatch,) = [ubatch for ubatch in trace.ubatches if not ubatch.warmup]
        self.assertEqual({layer.layer: layer.experts for layer in ubatch.layers},
                         {layer: rows for layer, rows in printed.topk.items() if rows})
        for layer in ubatch.layers:
            self.assert_close([weight for row in layer.weights for weight in row], weights[layer.layer],
                              f"layer {layer.layer}", precision=6e-5)

    def check_imatrix(self, model):
        text, imatrix = self.folder / "text", self.folder / "imatrix.gguf"
        text.write_text(self.TEXT)
        result = run("llama-imatrix", "-m", model, "-f", text, "-o", imatrix, "-c", self.CHUNK,
                     "-t", 1, trace=self.trace())
        self.assertEqual(result.status, 0, result.err)
        stats, counts = self.stats(), imatrix_counts(imatrix)
        ours = self.experts(stats)
        self.assertEqual({layer for layer, _ in counts}, set(ours))
        for (layer, projection), row in counts.items():
            self.assertEqual(ours[layer], row, f"{projection} of layer {layer}")
        self.assertEqual(stats["total_tokens"], len(self.TEXT) // self.CHUNK * self.CHUNK)

    def check(self, architecture, model):
        for path in self.stats_path, self.path:
            path.unlink(missing_ok=True)
        self.assertEqual({kind for kind, _ in Gguf(model).places.values()}, {F32}) # see models/README.md
        if architecture in NOT_PRINTED:
            self.check_completion(model)
        else:
            self.check_printed(model)
            self.check_imatrix(model)

    def check_completion(self, model):
        """What can be said without a witness."""
        result = run("llama-completion", "-m", model, "-p", self.PROMPT, "-n", 4, "-no-cnv",
                     "-t", 1, trace=self.trace())
        self.assertEqual(result.status, 0, result.err)
        stats = self.stats()
        self.assertEqual(stats["total_tokens"], len(self.PROMPT) + 3)
        self.assertEqual(set(self.experts(stats)), set(Gguf(model).experts_per_layer()))
        for layer, activations in self.experts(stats).items():
            self.assertEqual(sum(activations), N_USED * stats["layer_tokens"][str(layer)])

    def test_all(self):
        for architecture, model in tiny().items():
            if architecture not in NOT_ROUTED:
                with self.subTest(architecture):
                    self.check(architecture, expand(model, self.folder / "model.gguf"))


class WithoutPositions(Architectures):
    """Graphs of glm5-next, kimi-k3 and kimi-linear:
    nothing but the ids tells sequences apart that are evaluated together."""

    def test_clients_of_a_server(self):
        n, prompts = 6, [f"{i} asks: " + "lorem ipsum "[i:] * (i % 3) for i in range(6)]
        # kimi-linear routes in its last layer alone, and there is nothing to be recorded of a ubatch without an output
        for architecture in "glm5-next", "kimi-k3":
            with self.subTest(architecture):
                self.path.unlink(missing_ok=True)
                with Server("-m", expanded(architecture), "-t", 1, "-c", 1024, "-np", 4, "-ub", 16, "--no-cache-prompt",
                            trace={**self.trace(), **self.routing()}) as server:
                    def ask(prompt):
                        return server.post("/completion", prompt=prompt, n_predict=n, temperature=0, return_tokens=True,
                                           ignore_eos=True)

                    with concurrent.futures.ThreadPoolExecutor(len(prompts)) as pool:
                        answers = list(pool.map(ask, prompts))
                    self.assertEqual(server.stop(), 0)
                trace = self.read()
                self.assert_statistics(trace, self.stats())
                self.assertEqual(self.texts(trace), sorted(prompt.encode() + bytes(answer["tokens"][:-1])
                                                           for prompt, answer in zip(prompts, answers)))
                together = max(len({token.sequence for token in ubatch.tokens}) for ubatch in trace.ubatches)
                self.assertGreater(together, 1, "no two clients were evaluated together")

    def test_releases_that_do_not_name_the_positions(self):
        prompt, n = b"A test", 4
        for release in "b9842", "0.4.0":
            with self.subTest(release):
                self.path.unlink(missing_ok=True)
                result = run(sys.executable, CLIENTS / "ctypes_client.py", "--linked",
                             "--warm-up", OLD_ENGINES / release / "lib", expanded("kimi-linear"), n, *prompt,
                             trace={**self.trace(), **self.routing()})
                self.assertEqual(result.status, 0, result.err)
                trace = self.read()
                self.assert_statistics(trace, self.stats())
                self.assertEqual(self.texts(trace), [bytes([*prompt, *json.loads(result.out)["generated"][:-1]])])

    def perplexity(self, text):
        path = self.folder / "text"
        path.write_text(text)
        self.path.unlink(missing_ok=True)
        result = run("llama-perplexity", "-m", expanded("kimi-linear"), "-f", path, "-c", 32,
                     "-b", 96, "-ub", 24, "-t", 1, trace=self.routing())
        self.assertEqual(result.status, 0, result.err)
        return result

    def test_chunks_of_a_text(self):
        text = "".join(chr(33 + i * i % 89) for i in range(6 * 32))
        result = self.perplexity(text)
        self.assertNotIn("cannot be trusted", result.err)
        trace = self.read()
        self.assertEqual(Lives(trace).whole(), sorted(text[i:i + 32].encode() for i in range(0, len(text), 32)))
        self.assertGreater(max(len({token.sequence for token in ubatch.tokens}) for ubatch in trace.ubatches), 1)

    def test_chunks_that_are_the_same(self):
        # 24 of 96 times the same letter: 8 of each sequence, or all of the first one's?
        result = self.perplexity("a" * 6 * 32)
        said = [line for line in result.said() if "cannot be trusted (" in line]
        self.assertEqual(said, ["[EXPERT-TRACE] the routing cannot be trusted (sequences of the same tokens were "
                                "evaluated together, and there are no positions that tell them apart): "
                                "the routing trace ends before it"])
        trace = Trace(self.path)
        self.assertEqual([ubatch.warmup for ubatch in trace.ubatches], [True])
        self.assertEqual([(gap.tokens, gap.why) for gap in trace.gaps], [(6 * 32, LOST)])
        self.assertEqual((trace.end["complete"], trace.end["stopped"]), (False, "the routing cannot be trusted"))


if __name__ == "__main__":
    main()
