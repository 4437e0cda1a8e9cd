#!/usr/bin/env python3
"""Every MoE architecture that llama.cpp knows."""

from expanded import N_EXPERT, N_USED, expand, tiny
from gguf import Gguf
from harness import TestCase, main, run
from witness import Evaluation, imatrix_counts, run_whole

# Architectures whose models may have experts by their metadata, and that route nothing through them.
NOT_ROUTED = {"ernie4_5", "paddleocr", "refact"}

# Architectures on which stock programs with an eval callback crash, without us too.
NOT_PRINTED = {"glm5-next"}


class Architectures(TestCase):
    def experts(self, stats):
        """Activations of each expert, by layer."""
        return {int(layer): [row[str(e)] for e in range(len(row))] for layer, row in stats["per_layer"].items()}


class Tiny(Architectures):
    """Two experts, of which every token takes both."""

    N_PROMPT, N_GENERATION = 8, 2

    def bench(self, model, **how):
        return run("llama-bench", "-m", model, "-p", self.N_PROMPT, "-n", self.N_GENERATION, "-r", 1, "-t", 1, "--no-warmup", **how)

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

    def test_all(self):
        routed = set()
        for architecture, model in tiny().items():
            with self.subTest(architecture):
                untraced = self.bench(model, preload=False)
                traced = self.bench(model, trace=self.trace())
                self.assertEqual(traced.status, untraced.status, traced.err)
                self.assertEqual(traced.status, 0)
                stats = self.stats()
                self.stats_path.unlink()
                self.assertTrue(stats["complete"])
                self.assertEqual(stats["model"]["architecture"], architecture)
                self.assertEqual(stats["total_tokens"], 10)
                self.assertEqual(stats["prompt_tokens"] + stats["generation_tokens"], 10)
                if stats["n_expert"]:
                    routed.add(architecture)
                    self.check(model, stats)
                else:
                    self.assertEqual((stats["total_activations"], stats["layer_tokens"], stats["expert_activations"]), (0, {}, {}))
                    self.assertIn("evaluated 10 tokens and no MoE layer was seen", traced.err)
                    self.assertNotIn("=== Expert Usage Statistics ===", traced.err)
        self.assertEqual(set(tiny()) - routed, NOT_ROUTED)
        self.assertGreaterEqual(len(routed), 54)


class Expanded(Architectures):
    """Sixteen experts, of which each token takes three, beside what stock programs say of the same run."""

    PROMPT = "A test"
    TEXT = "The quick brown fox: 0123456789, jumps over {the} lazy ~dog! " * 2
    CHUNK = 32

    def check_printed(self, model):
        result = run_whole("llama-eval-callback", "-m", model, "-p", self.PROMPT, "-t", 1, trace=self.trace())
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

    def check_imatrix(self, model):
        text, imatrix = self.folder / "text", self.folder / "imatrix.gguf"
        text.write_text(self.TEXT)
        result = run("llama-imatrix", "-m", model, "-f", text, "-o", imatrix, "-c", self.CHUNK, "-t", 1, trace=self.trace())
        self.assertEqual(result.status, 0, result.err)
        stats, counts = self.stats(), imatrix_counts(imatrix)
        ours = self.experts(stats)
        self.assertEqual({layer for layer, _ in counts}, set(ours))
        for (layer, projection), row in counts.items():
            self.assertEqual(ours[layer], row, f"{projection} of layer {layer}")
        self.assertEqual(stats["total_tokens"], len(self.TEXT) // self.CHUNK * self.CHUNK)

    def check(self, architecture, model):
        self.stats_path.unlink(missing_ok=True)
        if architecture in NOT_PRINTED:
            self.check_completion(model)
        else:
            self.check_printed(model)
            self.check_imatrix(model)

    def check_completion(self, model):
        """What can be said without a witness."""
        result = run("llama-completion", "-m", model, "-p", self.PROMPT, "-n", 4, "-no-cnv", "-t", 1, trace=self.trace())
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


if __name__ == "__main__":
    main()
