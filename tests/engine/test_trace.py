#!/usr/bin/env python3
"""Routing traces of stock programs: every decision of every token against models whose routing is known on paper."""

import concurrent.futures
import itertools
import stat

from engines import CLIENTS_TRIED, RELEASES, evaluated
from expanded import expanded
from gguf import Gguf, rewrite
from harness import BOS, EOS, GPT_OSS, MIXTRAL, ORACLES, QWEN3NEXT, Server, main, rpc_servers, run
from traces import Lives, TraceTestCase
from witness import Evaluation, GateWeights, run_whole

TEXT = "The quick brown fox: 0123456789, jumps over {the} lazy ~dog! "


def flat(lists):
    return list(itertools.chain.from_iterable(lists))


class Completion(TraceTestCase):
    def complete(self, oracle, *options, prompt=TEXT, n=8, trace=None, **how):
        result = run("llama-completion", "-m", oracle.path, "-p", prompt, "-n", n, "-no-cnv", "-t", 1, *options,
                     trace=self.routing() if trace is None else trace, **how)
        self.assertEqual(result.status, 0, result.err)
        self.assertEqual(result.out.strip("\n"), bytes(oracle.generate(prompt.encode(), n)).decode())
        return result

    def test_every_decision(self):
        for oracle in ORACLES:
            with self.subTest(oracle.name):
                self.complete(oracle, trace={**self.trace(), **self.routing()})
                trace = self.read()
                self.assert_routing(trace, oracle)
                self.assert_statistics(trace, self.stats())
                warmup, prompt, *generation = trace.ubatches
                self.assertEqual([ubatch.warmup for ubatch in trace.ubatches], [True] + 8 * [False])
                self.assertEqual([token.id for token in warmup.tokens], [BOS, EOS])
                self.assertEqual([(token.position, token.id) for token in prompt.tokens],
                                 list(enumerate(TEXT.encode())))
                self.assertEqual([token.output for token in prompt.tokens], (len(TEXT) - 1) * [False] + [True])
                self.assertFalse(any(token.generation for token in prompt.tokens))
                for i, ubatch in enumerate(generation):
                    (token,) = ubatch.tokens
                    self.assertEqual((token.position, token.generation, token.output, token.rejected),
                                     (len(TEXT) + i, True, True, False))
                self.assertEqual(self.texts(trace), [bytes(oracle.generate(TEXT.encode(), 7))])
                self.assertTrue(all(ubatch.first and not ubatch.mtp for ubatch in trace.ubatches))

    def test_the_header(self):
        self.complete(MIXTRAL, trace={**self.trace(), **self.routing()})
        trace, stats = self.read(), self.stats()
        for key in "run", "pid", "engine", "capture":
            self.assertEqual(trace.header[key], stats[key])
        for key in "name", "architecture", "file":
            self.assertEqual(trace.header["model"][key], stats["model"][key])
        self.assertEqual((trace.header["part"], trace.header["sample"]), (0, 1))
        self.assertEqual((trace.header["tokens"], trace.header["weights"], trace.header["phases_known"]),
                         (True, False, True))
        self.assertEqual(trace.header["model"]["fingerprint"], fingerprint(MIXTRAL.path))
        self.assert_tensors(trace)

    def assert_tensors(self, trace):
        """The trace says of each expert tensor what the model's file does."""
        model = Gguf(MIXTRAL.path)
        for layer in trace.tables[0][max(trace.tables[0])]:
            names = [f"blk.{layer['layer']}.ffn_{projection}_exps.weight" for projection in ("gate", "up", "down")]
            self.assertEqual({tensor["name"]: tensor["expert_bytes"] for tensor in layer["tensors"]},
                             {name: len(model.bytes(name)) // MIXTRAL.n_expert for name in names})

    def test_a_model_in_several_files(self):
        split = run("llama-gguf-split", "--split", "--split-max-tensors", 40, MIXTRAL.path,
                    self.folder / "split", preload=False)
        self.assertEqual(split.status, 0, split.err)
        first = sorted(self.folder.glob("split-00001-of-*.gguf"))[0]
        result = run("llama-completion", "-m", first, "-p", TEXT, "-n", 2, "-no-cnv", trace=self.routing())
        self.assertEqual(result.status, 0, result.err)
        self.assert_tensors(self.read())

    def test_times_rise(self):
        self.complete(MIXTRAL)
        times = [ubatch.time for ubatch in self.read().ubatches]
        self.assertEqual(times, sorted(times))
        self.assertLess(self.path.stat().st_mtime - times[0] / 1e6, 60)

    def test_is_for_its_owner_alone(self):
        self.complete(MIXTRAL, n=1)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    def test_token_ids_only_where_they_are_asked_for(self):
        self.complete(GPT_OSS, trace={"ROUTING": self.path})
        trace = self.read()
        self.assertFalse(trace.header["tokens"])
        ids = iter([BOS, EOS, *GPT_OSS.generate(TEXT.encode(), 7)])
        for ubatch in trace.ubatches:
            self.assertEqual({token.id for token in ubatch.tokens}, {None})
            self.assert_layers(ubatch, GPT_OSS, [next(ids) for _ in ubatch.tokens])
        self.assertEqual(list(ids), [])

    def test_batches_of_several_ubatches(self):
        self.complete(GPT_OSS, "-b", 48, "-ub", 16, n=2)
        trace = self.read()
        self.assert_routing(trace, GPT_OSS)
        self.assertEqual([len(ubatch.tokens) for ubatch in trace.ubatches], [2, 16, 16, 16, 13, 1])
        self.assertEqual([ubatch.first for ubatch in trace.ubatches], [True, True, False, False, True, True])
        self.assertEqual([token.position for ubatch in trace.ubatches[1:] for token in ubatch.tokens if token.output],
                         [47, 60, 61])

    def test_size(self):
        self.complete(QWEN3NEXT, n=100, prompt="size")
        trace = self.read()
        sizes = trace.sizes()
        n_ids = [sum(len(layer.rows) * layer.n_used for layer in ubatch.layers) for ubatch in trace.ubatches]
        self.assertEqual(sizes["ids"], sum((9 * n + 7) // 8 for n in n_ids))
        n_tokens = sum(len(ubatch.tokens) for ubatch in trace.ubatches)
        self.assertLessEqual(sizes["else"], 4 * n_tokens + 32 * len(trace.ubatches))

    def test_both_ways_to_read_the_routing(self):
        for oracle in ORACLES:
            told = []
            for way in "graph", "eval-callback":
                self.complete(oracle, "-ub", 32, n=4, trace=self.routing(CAPTURE=way))
                trace = self.read()
                self.assertEqual(trace.header["capture"], way)
                told.append([(ubatch.tokens, ubatch.layers, ubatch.warmup, ubatch.first) for ubatch in trace.ubatches])
            self.assertEqual(*told)

    def test_other_experts_than_the_files(self):
        result = run("llama-completion", "-m", MIXTRAL.path, "-p", "test", "-n", 4, "-no-cnv", "-t", 1,
                     "--override-kv", "llama.expert_used_count=int:3", trace={**self.trace(), **self.routing()})
        self.assertEqual(result.status, 0, result.err)
        trace = self.read()
        self.assert_statistics(trace, self.stats())
        for ubatch in trace.ubatches[1:]:
            for layer in ubatch.layers:
                self.assertEqual([row[:2] for row in layer.experts],
                                 [MIXTRAL.experts(layer.layer, ubatch.tokens[i].id) for i in layer.rows])
                self.assertEqual({len(set(row)) for row in layer.experts}, {3} if layer.rows else set())


def fingerprint(path):
    head = path.read_bytes()[:1 << 20]
    digest = 0xcbf29ce484222325
    for byte in head:
        digest = (digest ^ byte) * 0x100000001b3 & (1 << 64) - 1
    return f"{path.stat().st_size}-{digest:016x}"


class Servers(TraceTestCase):
    """Several clients at once: each life of each sequence holds what one of them sent and got, and nothing else."""

    N = 6

    def serve(self, oracle, prompts, *options, workers=4, n=N, **body):
        """What each client's sequence held."""
        with Server("-m", oracle.path, "-t", 1, *options, trace={**self.trace(), **self.routing()}) as server:
            def ask(prompt):
                answer = server.post("/completion", prompt=prompt, n_predict=n, **body)
                return (prompt + answer["content"]).encode()[:-1]

            with concurrent.futures.ThreadPoolExecutor(workers) as pool:
                held = list(pool.map(ask, prompts))
            self.assertEqual(server.stop(), 0)
        self.assertEqual(held, [bytes(oracle.generate(prompt.encode(), n)[:-1]) for prompt in prompts])
        trace = self.read()
        self.assert_routing(trace, oracle)
        self.assert_statistics(trace, self.stats())
        return trace, held

    def check(self, oracle, *options):
        for prompts in ([f"client {i}: " + "lorem ipsum "[i:] * (i % 3) for i in range(8)],
                        ["all of them ask the same"] * 8):
            trace, held = self.serve(oracle, prompts, "-c", 4096, "-np", 4, *options, cache_prompt=False)
            self.assertEqual(self.texts(trace), sorted(held))
            lives = Lives(trace).runs
            self.assertEqual(len(lives), len(prompts))
            self.assertGreater(len({sequence for _, sequence, _ in lives}), 1)
            together = max(len({token.sequence for token in ubatch.tokens}) for ubatch in trace.ubatches)
            self.assertGreater(together, 1, "no two clients were evaluated together")

    def test_four_slots(self):
        self.check(MIXTRAL)

    def test_four_slots_of_one_cache(self):
        self.check(MIXTRAL, "-kvu")

    def test_four_slots_of_a_recurrent_model(self):
        self.check(QWEN3NEXT)

    def test_small_ubatches(self):
        self.check(MIXTRAL, "-b", 64, "-ub", 8)

    def test_what_is_kept_of_the_request_before(self):
        prompts = ["a prompt that is kept", "a prompt that is kept", "a prompt that is partly kept",
                   "a prompt", "another one"]
        trace, held = self.serve(MIXTRAL, prompts, "-c", 1024, "-np", 1, workers=1)
        self.assertEqual(self.texts(trace), sorted(held))
        self.assertTrue(trace.cuts)
        self.assertLess(sum(len(ubatch.tokens) for ubatch in trace.ubatches), sum(map(len, held)), "nothing was kept")

    def test_what_is_kept_of_several_slots(self):
        prompts = [f"{subject} and {verb}" for verb in ("go", "gone", "goes")
                   for subject in ("one thing", "one more", "some other")]
        for oracle in MIXTRAL, QWEN3NEXT:
            with self.subTest(oracle.name):
                trace, held = self.serve(oracle, prompts, "-c", 4096, "-np", 3, workers=3)
                # what a slot takes over from the server's own memory is not evaluated
                for first, text in Lives(trace).texts():
                    self.assertIn(text, [each[first:] for each in held])

    def test_a_prompt_that_is_cut_is_not_rejected(self):
        trace, held = self.serve(MIXTRAL, ["a prompt: x", "a prompt: y", "a prompt: x", "a prompt"], "-c", 1024,
                                 "-np", 1, workers=1, n=1)
        self.assertFalse(any(token.rejected for ubatch in trace.ubatches for token in ubatch.tokens))
        self.assertEqual(self.texts(trace), sorted(held))


class Programs(TraceTestCase):
    def trace_of(self, *command, oracle=MIXTRAL, n_files=1, **how):
        result = run(*command, trace={**self.trace(), **self.routing()}, **how)
        self.assertEqual(result.status, 0, result.err)
        trace = self.read()
        self.assert_routing(trace, oracle)
        self.assert_statistics(trace, self.stats())
        return trace

    def test_perplexity(self):
        text = (TEXT * 7).encode()[:6 * 40]
        path = self.folder / "text"
        path.write_bytes(text)
        for oracle, n_ubatch in (MIXTRAL, 160), (MIXTRAL, 24), (QWEN3NEXT, 24):
            with self.subTest(oracle.name, n_ubatch=n_ubatch):
                trace = self.trace_of("llama-perplexity", "-m", oracle.path, "-f", path, "-c", 40, "-b", 160,
                                      "-ub", n_ubatch, "-t", 1, oracle=oracle)
                self.assertEqual(self.texts(trace), sorted(text[i:i + 40] for i in range(0, len(text), 40)))
                self.assertGreater(max(token.sequence for ubatch in trace.ubatches for token in ubatch.tokens), 0)
                for ubatch in trace.ubatches:
                    if not ubatch.warmup:
                        self.assertEqual([token.output for token in ubatch.tokens],
                                         [token.position >= 20 for token in ubatch.tokens])

    def test_batched_bench(self):
        for options in [], ["-kvu"], ["-pps", "-kvu"]:
            with self.subTest(options):
                trace = self.trace_of("llama-batched-bench", "-m", MIXTRAL.path, "-npp", "24,7", "-ntg", 4,
                                      "-npl", "1,3", "-ub", 16, "-t", 1, "-c", 1024, *options)
                self.assertEqual(len({token.sequence for ubatch in trace.ubatches for token in ubatch.tokens}), 3)
                Lives(trace) # no position is missing

    def test_batched(self):
        trace = self.trace_of("llama-batched", "-m", MIXTRAL.path, "-p", "abc", "-n", 10, "-np", 3, "-t", 1, "-kvu")
        # the prompt belongs to all three, and is told of the first
        self.assertEqual(Lives(trace).texts(), [(0, b"abcdefghij"), (3, b"defghij"), (3, b"defghij")])

    def test_parallel(self):
        question = b"User:\nwhy?\nAssistant:\n"
        trace = self.trace_of("llama-parallel", "-m", MIXTRAL.path, "-n", 8, "-np", 2, "-ns", 3, "-t", 1,
                              "-c", 4096, "-pps", "-p", "why?")
        # behind a text that the first sequence has, and the others share
        self.assertEqual([text for first, text in Lives(trace).texts() if first > 0],
                         [bytes(MIXTRAL.generate(question, 8))] * 3)

    def test_embeddings(self):
        trace = self.trace_of("llama-embedding", "-m", MIXTRAL.path, "-t", 1, "-p", "hello", "--pooling", "mean")
        counted = [ubatch for ubatch in trace.ubatches if not ubatch.warmup]
        self.assertTrue(all(token.output and not token.generation for ubatch in counted for token in ubatch.tokens))
        self.assertEqual(self.texts(trace), [b"hello"])

    def test_imatrix(self):
        path = self.folder / "text"
        path.write_text(TEXT * 2)
        trace = self.trace_of("llama-imatrix", "-m", MIXTRAL.path, "-f", path,
                              "-o", self.folder / "imatrix.gguf", "-c", 32, "-ub", 16, "-t", 1)
        self.assertEqual(trace.header["capture"], "eval-callback")
        text = (TEXT * 2).encode()
        self.assertEqual(self.texts(trace), sorted(text[i:i + 32] for i in range(0, len(text) // 32 * 32, 32)))

    def test_devices(self):
        for oracle, n_devices in (MIXTRAL, 1), (GPT_OSS, 2):
            with self.subTest(oracle.name), rpc_servers(self.folder, n_devices) as rpc:
                trace = self.trace_of("llama-completion", "-m", oracle.path, "--rpc", rpc, "-ngl", 99,
                                      "-p", TEXT, "-n", 5, "-no-cnv", "-t", 1, "-ub", 16, oracle=oracle)
            self.assertEqual(self.texts(trace), [bytes(oracle.generate(TEXT.encode(), 4))])

    def test_threads(self):
        # two models, three contexts each: a file for each model, in which contexts are told apart
        prompt, n = b"The meaning", 6
        result = run("test-thread-safety", "-m", MIXTRAL.path, "-ngl", 99, "-p", prompt.decode(),
                     "-n", n, "-c", 256, "-ub", 32, "-np", 3, "-t", 1, trace=self.routing())
        self.assertEqual(result.status, 0, result.err)
        files = list(self.folder.iterdir())
        self.assertGreater(len(files), 1)
        for path in files:
            trace = self.read(path)
            self.assert_routing(trace, MIXTRAL)
            self.assertEqual({ubatch.context for ubatch in trace.ubatches}, {0, 1, 2})
            self.assertEqual(self.texts(trace), [bytes(MIXTRAL.generate(prompt, n))] * 3)


def contrary(oracle, path):
    """A copy of a model that continues otherwise where the next letter is one in four."""
    model = Gguf(oracle.path)
    tensors = {name: (model.shapes[name], model.places[name][0], model.bytes(name)) for name in model.shapes}
    shape, kind, content = tensors["output.weight"]
    size = len(content) // shape[1]
    rows = [content[i * size:(i + 1) * size] for i in range(shape[1])]
    for letter in range(ord("d"), ord("z"), 4):
        rows[letter], rows[letter - 32] = rows[letter - 32], rows[letter]
    tensors["output.weight"] = shape, kind, b"".join(rows)
    rewrite(model, path, tensors)
    return path


class Speculative(TraceTestCase):
    """A draft model that is wrong now and then: what it drafted in vain is said to be rejected, and nothing else."""

    PROMPT, N = b"Hello a", 24

    def setUp(self):
        super().setUp()
        self.draft = contrary(MIXTRAL, self.folder / "draft.gguf")

    def routing(self, **more):
        return super().routing(ROUTING=self.folder / "%m.moetrace", **more)

    def check(self, n_drafted, n_accepted, n_draft_max=4):
        """Returns the drafting model's trace."""
        trace, drafting = (self.read(self.folder / f"{name}.moetrace") for name in ("oracle-mixtral", "draft"))
        self.assert_routing(trace, MIXTRAL)
        self.assert_routing(drafting, MIXTRAL)
        text = MIXTRAL.generate(self.PROMPT, 2 * self.N)
        (held,) = self.texts(trace)
        self.assertEqual(held, bytes(text)[:len(held)])
        self.assertGreaterEqual(len(held), len(self.PROMPT) + self.N - 1)
        rejected = [token for ubatch in trace.ubatches for token in ubatch.tokens if token.rejected]
        # what is drafted behind the last token that is wanted is cut, or never is
        self.assertAlmostEqual(len(rejected), n_drafted - n_accepted, delta=n_draft_max)
        self.assertGreater(len(rejected), 3)
        for ubatch in trace.ubatches:
            flags = [token.rejected for token in ubatch.tokens]
            self.assertEqual(flags, sorted(flags)) # the last ones of a batch
            self.assertFalse(flags[0])
        return drafting

    def test_simple(self):
        result = run("llama-speculative-simple", "-m", MIXTRAL.path, "-md", self.draft, "--spec-type", "draft-simple",
                     "-p", self.PROMPT.decode(), "-n", self.N, "-t", 1, "-td", 1,
                     "--spec-draft-n-max", 4, trace=self.routing())
        self.assertEqual(result.status, 0, result.err)
        self.check(*told_by(result))

    def test_tree(self):
        result = run("llama-speculative", "-m", MIXTRAL.path, "-md", self.draft,
                     "-p", self.PROMPT.decode(), "-n", self.N, "-t", 1,
                     "-td", 1, "--spec-draft-n-max", 4, trace=self.routing())
        self.assertEqual(result.status, 0, result.err)
        self.check(*told_by(result))

    def test_what_was_said_before(self):
        # no model drafts, but the prompt: it goes on otherwise behind the same letters
        prompt = b"defghijklmnopq" + 12 * b"XYZ/" + b"abc"
        result = run("llama-speculative-simple", "-m", MIXTRAL.path, "--spec-type", "ngram-simple",
                     "-p", prompt.decode(), "-n", self.N, "-t", 1, trace=self.routing())
        self.assertEqual(result.status, 0, result.err)
        trace = self.read(self.folder / "oracle-mixtral.moetrace")
        self.assertEqual(self.texts(trace), [bytes(MIXTRAL.generate(prompt, self.N))])
        rejected = bytes(token.id for ubatch in trace.ubatches for token in ubatch.tokens if token.rejected)
        n_drafted, n_accepted = told_by(result)
        self.assertEqual(rejected, (12 * b"XYZ/")[:n_drafted - n_accepted])
        self.assertGreater(len(rejected), 3)

    def test_server(self):
        with Server("-m", MIXTRAL.path, "-md", self.draft, "--spec-type", "draft-simple",
                    "--spec-draft-n-max", 4, "-t", 1, "-td", 1, "-c", 1024, "-np", 1, trace=self.routing()) as server:
            answer = server.post("/completion", prompt=self.PROMPT.decode(), n_predict=self.N)
            self.assertEqual(server.stop(), 0)
        self.check(answer["timings"]["draft_n"], answer["timings"]["draft_n_accepted"])


def told_by(result):
    """How many tokens were drafted and accepted, by the program's own account."""
    numbers = dict(line.split("=") for line in result.said() if line.startswith(("n_drafted", "n_accept")))
    return [int(number) for number in numbers.values()]


class Weights(TraceTestCase):
    """Gate weights, as half floats."""

    def test_are_what_the_oracles_predict(self):
        for oracle, way in itertools.product(ORACLES, ["graph", "eval-callback"]):
            with self.subTest(oracle.name, way=way):
                result = run("llama-completion", "-m", oracle.path, "-p", TEXT, "-n", 4, "-no-cnv", "-t", 1,
                             trace=self.routing(WEIGHTS=1, CAPTURE=way))
                self.assertEqual(result.status, 0, result.err)
                trace = self.read()
                self.assertTrue(trace.header["weights"])
                self.assert_routing(trace, oracle)
                for ubatch in trace.ubatches[1:]: # after the warm-up
                    self.assert_weights(ubatch, oracle)

    def test_are_what_llama_eval_callback_prints(self):
        models = {oracle.name: oracle.path for oracle in (MIXTRAL, GPT_OSS)}
        models.update((architecture, expanded(architecture)) for architecture in ("qwen2moe", "deepseek2", "llama4"))
        for name, path in models.items():
            with self.subTest(name):
                result = run_whole("llama-eval-callback", "-m", path, "-p", "A test", "-t", 1,
                                   trace=self.routing(WEIGHTS=1))
                self.assertEqual(result.status, 0, result.err)
                (ubatch,) = [ubatch for ubatch in self.read().ubatches if not ubatch.warmup]
                topk, weights = Evaluation(result.out).topk, GateWeights(result.out).layers
                for layer in ubatch.layers:
                    self.assertEqual(layer.experts, topk[layer.layer])
                    self.assert_close(flat(layer.weights), weights[layer.layer], f"layer {layer.layer}", precision=6e-5)
                self.assertEqual({layer.layer for layer in ubatch.layers}, set(topk))


class Engines(TraceTestCase):
    """Nine engines of two years, and the ways in which programs reach them."""

    def check(self, client, release, oracle):
        self.path.unlink(missing_ok=True)
        result = client.run(release, oracle, trace={**self.trace(), **self.routing(WEIGHTS=1)})
        self.assertEqual(result.status, 0, result.err)
        trace = self.read()
        self.assertEqual((trace.header["phases_known"], trace.header["n_layer"]), (client.sees_calls, oracle.n_layer))
        self.assert_statistics(trace, self.stats())
        expected = evaluated(release, oracle)
        at = 0
        for ubatch in trace.ubatches:
            if not ubatch.warmup:
                tokens = expected[at:at + len(ubatch.tokens)]
                at += len(ubatch.tokens)
                ids = [token for token, _ in tokens]
                self.assertEqual([token.id for token in ubatch.tokens], ids)
                self.assert_layers(ubatch, oracle, ids,
                                   last_rows=[i for i, (_, is_routed) in enumerate(tokens) if is_routed])
                self.assert_weights(ubatch, oracle)
        self.assertEqual(at, len(expected))
        self.assertEqual(self.texts(trace), [bytes(token for token, _ in expected)])
        self.assertEqual({token.sequence for ubatch in trace.ubatches for token in ubatch.tokens},
                         {0 if client.sees_calls else None})

    def test_every_release(self):
        for client in CLIENTS_TRIED:
            for i, release in enumerate(client.releases):
                oracle = RELEASES[release][i % len(RELEASES[release])]
                with self.subTest(client=client.name, release=release, model=oracle.name):
                    self.check(client, release, oracle)


if __name__ == "__main__":
    main()
