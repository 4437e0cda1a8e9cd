#!/usr/bin/env python3
"""What each kind of stock program evaluates, counted: servers, several models, several contexts, other devices."""

import concurrent.futures
import re
import subprocess
import time
import unittest

from harness import (CLIENTS, GPT_OSS, MIXTRAL, OLD_ENGINES, QWEN3NEXT, Server, TestCase, main, rpc_servers, run,
                     strip_prefix)

OLD_ENGINE = OLD_ENGINES / "0.5.0" / "lib"


def said_by_us(lines):
    return [line for line in map(strip_prefix, lines) if "[EXPERT-TRACE]" in line or "Expert Usage Statistics" in line]


def difference(more, less):
    """What one run evaluated and the other did not, as statistics."""
    rest = {key: more[key] - less[key]
            for key in ("total_tokens", "total_activations", "prompt_tokens", "generation_tokens")}
    for key in "n_layer", "n_expert", "n_expert_used":
        rest[key] = more[key]
    for key in "layer_tokens", "expert_activations":
        rest[key] = {k: n - less[key][k] for k, n in more[key].items()}
    rest["per_layer"] = {layer: {k: n - less["per_layer"][layer][k] for k, n in row.items()}
                         for layer, row in more["per_layer"].items()}
    return rest


class OneServer(TestCase):
    def test_four_slots_at_once(self):
        prompts = [f"request {i}: " + "lorem ipsum "[:3 + i] * (1 + i % 3) for i in range(12)]
        n = 16
        with Server("-m", MIXTRAL.path, "-t", 1, "-c", 4096, "--parallel", 4, trace=self.trace()) as server:
            with concurrent.futures.ThreadPoolExecutor(6) as pool:
                answers = list(pool.map(lambda p: server.post("/completion", prompt=p, n_predict=n, cache_prompt=False),
                                        prompts))
            self.assertEqual(server.stop(), 0)
            self.assertEqual(len(said_by_us(server.err().splitlines())), 4, server.err())
        for prompt, answer in zip(prompts, answers):
            self.assertEqual(answer["content"], bytes(MIXTRAL.generate(prompt.encode(), n)[len(prompt):]).decode())
        self.assertGreater(len({answer["id_slot"] for answer in answers}), 1, "only one slot was used")
        evaluated = [pair for prompt in prompts for pair in MIXTRAL.completion(prompt.encode(), n)]
        self.assert_counts(self.stats(), MIXTRAL, evaluated)
        self.assert_phases(self.stats(), sum(map(len, prompts)), len(prompts) * (n - 1))

    def test_what_the_prompt_cache_saves_is_not_counted(self):
        prompts = ["a prompt that is cached"] * 2 + ["a prompt that is partly so"]
        with Server("-m", MIXTRAL.path, "-t", 1, "-c", 1024, "--parallel", 1, trace=self.trace()) as server:
            answers = [server.post("/completion", prompt=prompt, n_predict=4, cache_prompt=True) for prompt in prompts]
            self.assertEqual(server.stop(), 0)
        evaluated = []
        for prompt, answer in zip(prompts, answers):
            cached = answer["timings"]["cache_n"]
            self.assertEqual(cached + answer["timings"]["prompt_n"], len(prompt))
            evaluated += MIXTRAL.completion(prompt.encode(), 4)[cached:]
        self.assertLess(len(evaluated), sum(len(prompt) + 3 for prompt in prompts), "nothing was cached")
        self.assert_counts(self.stats(), MIXTRAL, evaluated)
        # a last token that is evaluated alone, behind others that asked for logits, looks like generation
        alone = sum(answer["timings"]["prompt_n"] == 1 for answer in answers)
        self.assert_phases(self.stats(), len(evaluated) - 9 - alone, 9 + alone)

    def test_prompt_of_four_ubatches(self):
        prompt = "0123456789abcdef" * 16
        with Server("-m", MIXTRAL.path, "-t", 1, "-c", 1024, "-ub", 64, trace=self.trace()) as server:
            server.post("/completion", prompt=prompt, n_predict=3)
            self.assertEqual(server.stop(), 0)
        self.assert_counts(self.stats(), MIXTRAL, MIXTRAL.completion(prompt.encode(), 3))
        self.assert_phases(self.stats(), len(prompt), 2)

    def test_embeddings(self):
        texts = ["a first text", "and a second one", "the third"]
        with Server("-m", MIXTRAL.path, "-t", 1, "-c", 1024, "--parallel", 1, "--embedding", "--pooling", "mean",
                    trace=self.trace()) as server:
            for text in texts:
                self.assertEqual(len(server.post("/v1/embeddings", input=text)["data"]), 1)
            self.assertEqual(server.stop(), 0)
        self.assert_counts(self.stats(), MIXTRAL, [(token, True) for token in "".join(texts).encode()])
        # all of its tokens ask for output, and so did the text before: it is prompt as the slot is cleared in between
        self.assert_phases(self.stats(), len("".join(texts)), 0)


    def test_several_answers_to_one_prompt(self):
        # the prompt is evaluated once, and its sequence copied
        prompt, n = "eight answers to this", 17
        with Server("-m", MIXTRAL.path, "-t", 1, "-c", 4096, "--parallel", 8, trace=self.trace()) as server:
            answer = server.post("/v1/completions", prompt=prompt, n=8, max_tokens=n)
            self.assertEqual(server.stop(), 0)
        self.assertEqual({choice["text"] for choice in answer["choices"]},
                         {bytes(MIXTRAL.generate(prompt.encode(), n)[len(prompt):]).decode()})
        self.assertEqual(len(answer["choices"]), 8)
        once = MIXTRAL.completion(prompt.encode(), n)
        self.assert_counts(self.stats(), MIXTRAL, once + 7 * once[len(prompt):])
        self.assert_phases(self.stats(), len(prompt), 8 * (n - 1))


class Router(TestCase):
    """One llama-server that starts one of its kind for each model."""

    def start(self, *arguments, trace):
        models = self.folder / "models"
        models.mkdir()
        (models / "first.gguf").symlink_to(MIXTRAL.path)
        (models / "second.gguf").symlink_to(GPT_OSS.path)
        return Server("--models-dir", models, "-t", 1, "-c", 1024, *arguments, trace=trace)

    def ask(self, server, model, prompt="router"):
        return server.post("/completion", model=model, prompt=prompt, n_predict=4, cache_prompt=False)

    def files(self, n):
        """The statistics files by architecture, as soon as n of them are complete."""
        deadline = time.monotonic() + 60
        while True:
            stats = [self.stats(path) for path in sorted(self.folder.glob("stats*.json"))]
            if sum(s["complete"] for s in stats) >= n or time.monotonic() > deadline:
                return stats
            time.sleep(0.1)

    def check(self, stats, prompt="router"):
        oracle = {o.architecture: o for o in (MIXTRAL, GPT_OSS)}[stats["model"]["architecture"]]
        self.assertTrue(stats["complete"])
        self.assert_counts(stats, oracle, oracle.completion(prompt.encode(), 4))
        self.assert_phases(stats, len(prompt), 3)

    def test_each_child_has_a_file_of_its_own(self):
        with self.start(trace=self.trace()) as server:
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                list(pool.map(lambda model: self.ask(server, model), ["first", "second"]))
            self.assertEqual(server.stop(), 0)
            files = self.files(2)
            lines = (server.stdout() + server.err()).splitlines()
        self.assertEqual(sorted(s["model"]["architecture"] for s in files), ["gpt-oss", "llama"])
        for stats in files:
            self.check(stats)
            self.assertNotEqual(stats["pid"], server.process.pid)
        self.assertEqual(len({s["run"] for s in files}), 1)
        # the router passes its children's lines on with their port before them; none is its own
        ours = [line for line in lines if "[EXPERT-TRACE]" in line]
        self.assertEqual([line for line in ours if not re.match(r"\[\d+\]", line)], [])
        self.assertEqual(sum("Statistics enabled" in line for line in ours), 2)
        self.assertEqual(list(self.folder.glob("*.tmp")), [])

    def test_a_model_that_follows_another(self):
        with self.start("--models-max", 1, trace=self.trace()) as server:
            for prompt, model in ("one", "first"), ("two", "second"), ("three", "first"):
                self.ask(server, model, prompt)
            self.assertEqual(server.stop(), 0)
            files = self.files(3)
        self.assertEqual([s["model"]["architecture"] for s in files if s["prompt_tokens"] == 5], ["llama"])
        self.assertEqual(len(files), 3)
        prompts = {"llama": ["one", "three"], "gpt-oss": ["two"]}
        for stats in files:
            self.check(stats,
                       [p for p in prompts[stats["model"]["architecture"]] if len(p) == stats["prompt_tokens"]][0])

    def test_a_pattern_names_the_files(self):
        with self.start(trace=self.trace(OUTPUT=self.folder / "stats-%m-%p.json")) as server:
            self.ask(server, "second")
            self.assertEqual(server.stop(), 0)
            (stats,) = self.files(1)
        self.check(stats)
        self.assertEqual([path.name for path in self.folder.glob("stats*")],
                         [f"stats-oracle-gpt-oss-{stats['pid']}.json"])

    def test_a_router_without_a_request_writes_nothing(self):
        with self.start(trace=self.trace()) as server:
            self.assertEqual(server.stop(), 0)
            self.assertEqual(said_by_us((server.stdout() + server.err()).splitlines()), [])
        self.assertEqual(list(self.folder.glob("*.json")), [])


class Speculative(TestCase):
    """A target and a draft model in one process. Every drafted token is right: both models continue alike."""

    def rounds(self, n_predict, n_draft):
        """Sizes of the target's batches behind the prompt."""
        done = 0
        while done <= n_predict:
            left = n_predict - done - 1
            size = 1 + (n_draft if left <= 0 else min(n_draft, left))
            done += size
            yield size

    def check(self, draft, draft_name):
        prompt, n, n_draft = b"Hello wor", 24, 4
        trace = self.trace(OUTPUT=self.folder / "%m.json")
        result = run("llama-speculative-simple", "-m", MIXTRAL.path, "-md", draft,
                     "--spec-type", "draft-simple", "-p", prompt.decode(),
                     "-n", n, "-t", 1, "-td", 1, "--spec-draft-n-max", n_draft, trace=trace)
        self.assertEqual(result.status, 0, result.err)
        self.assertEqual(sorted(path.name for path in self.folder.glob("*.json")),
                         sorted(["oracle-mixtral.json", f"{draft_name}.json"]))
        target = self.stats(self.folder / "oracle-mixtral.json")
        drafter = self.stats(self.folder / f"{draft_name}.json")

        # the prompt without its last token, then batches of the last token and the drafted ones
        printed = result.out.strip("\n")[len(prompt):]
        first = len(prompt) - 1
        sequence = MIXTRAL.generate(prompt, len(printed))[:-1]
        self.assertEqual(bytes(sequence[len(prompt):]).decode(), printed[:-1])
        self.assert_counts(target, MIXTRAL, [(token, i >= first) for i, token in enumerate(sequence)])

        # the draft model evaluates what the target does, and what it drafts from: all of a batch but its last token
        sizes = list(self.rounds(n, n_draft))
        self.assertEqual(sum(sizes), len(printed))
        drafting, at = [], first
        for size in sizes:
            drafting += sequence[at:at + size - 1]
            at += size
        oracle = MIXTRAL if drafter["model"]["architecture"] == MIXTRAL.architecture else GPT_OSS
        counts, _ = oracle.counts([(token, True) for token in sequence + drafting])
        self.assertEqual(drafter["total_tokens"], len(sequence) + len(drafting))
        for layer in range(oracle.n_layer - 1): # which outputs it asks for is its own business
            self.assertEqual([drafter["per_layer"][str(layer)][str(e)] for e in range(oracle.n_expert)],
                             counts[layer], f"layer {layer}")
        self.assertEqual(result.said().count("=== Expert Usage Statistics ==="), 2)
        for stats in target, drafter:
            self.assertTrue(stats["complete"])
            self.assertEqual(stats["prompt_tokens"] + stats["generation_tokens"], stats["total_tokens"])

    def test_another_model_drafts(self):
        self.check(GPT_OSS.path, "oracle-gpt-oss")

    def test_a_copy_of_the_model_drafts(self):
        copy = self.folder / "copy.gguf"
        subprocess.run(["cp", "--sparse=always", MIXTRAL.path.resolve(), copy], check=True)
        self.check(copy, "copy")

    def test_server(self):
        prompt, n = b"hello", 12
        with Server("-m", MIXTRAL.path, "-md", GPT_OSS.path, "--spec-type", "draft-simple",
                    "--spec-draft-n-max", 4, "-t", 1, "-td", 1, "-c", 1024, "--parallel", 1,
                    trace=self.trace()) as server:
            answer = server.post("/completion", prompt=prompt.decode(), n_predict=n, cache_prompt=False)
            self.assertEqual(server.stop(), 0)
            self.assertEqual(sum("belongs to another model" in line for line in server.said()), 1)
        self.assertGreater(answer["timings"]["draft_n"], 0)
        self.assertEqual(answer["timings"]["draft_n"], answer["timings"]["draft_n_accepted"])
        files = {stats["model"]["architecture"]: stats for stats in map(self.stats, self.folder.glob("stats*.json"))}
        self.assertEqual(sorted(files), ["gpt-oss", "llama"])
        self.assert_counts(files["llama"], MIXTRAL, MIXTRAL.completion(prompt, n))
        self.assert_phases(files["llama"], len(prompt), n - 1)
        drafter = files["gpt-oss"]
        self.assertGreaterEqual(drafter["total_tokens"], len(prompt) + n - 1)
        self.assertEqual(drafter["total_activations"], sum(drafter["layer_tokens"].values()) * GPT_OSS.n_used)


class OtherPrograms(TestCase):
    def test_simple(self):
        result = run("llama-simple", "-m", MIXTRAL.path, "-n", 8, "hello", trace=self.trace())
        self.assertEqual(result.status, 0, result.err)
        self.assert_counts(self.stats(), MIXTRAL, MIXTRAL.completion(b"hello", 8))
        self.assert_phases(self.stats(), 5, 7, warmup=0)

    def test_embedding(self):
        result = run("llama-embedding", "-m", MIXTRAL.path, "-t", 1, "-p", "hello",
                     "--pooling", "mean", trace=self.trace())
        self.assertEqual(result.status, 0, result.err)
        self.assert_counts(self.stats(), MIXTRAL, [(token, True) for token in b"hello"])
        self.assert_phases(self.stats(), 5, 0)

    def test_parallel(self):
        # a run of one client, and one of three: the rest is two clients, each with its question behind a shared text
        runs = []
        for clients in 1, 3:
            result = run("llama-parallel", "-m", MIXTRAL.path, "-n", 8, "-np", clients, "-ns", clients,
                         "-t", 1, "-c", 8192, "-pps", "-p", "why?", trace=self.trace())
            self.assertEqual(result.status, 0, result.err)
            runs.append(self.stats())
        question = b"User:\nwhy?\nAssistant:\n"
        evaluated = MIXTRAL.completion(question, 9)  # the ninth is not evaluated
        rest = difference(runs[1], runs[0])
        self.assert_counts(rest, MIXTRAL, evaluated * 2)
        self.assert_phases(rest, 2 * len(question), 2 * 8)

    def test_contexts_that_evaluate_nothing_say_nothing(self):
        # --fit makes contexts and frees them
        result = run("llama-fit-params", "-m", MIXTRAL.path, "-t", 1, trace=self.trace())
        self.assertEqual(result.status, 0, result.err)
        self.assertEqual(said_by_us(result.err.splitlines() + result.out.splitlines()), [])
        self.assertFalse(self.stats_path.exists())

    def test_fit_is_not_heard(self):
        said = {}
        for fit in "on", "off":
            result = run("llama-completion", "-m", MIXTRAL.path, "-p", "fit", "-n", 2, "-no-cnv", "-t", 1,
                         "--fit", fit, trace=self.trace())
            self.assert_counts(self.stats(), MIXTRAL, MIXTRAL.completion(b"fit", 2))
            said[fit] = said_by_us(result.err.splitlines())
            self.assertEqual(len(said[fit]), 4)
        self.assertEqual(said["on"], said["off"])


class Threads(TestCase):
    def test_stock_threads(self):
        # two models, three contexts each, each context in a thread of its own
        prompt, n = b"The meaning", 6
        result = run("test-thread-safety", "-m", MIXTRAL.path, "-ngl", 99, "-p", prompt.decode(),
                     "-n", n, "-c", 256, "-ub", 32, "-np", 3, "-t", 1, trace=self.trace())
        self.assertEqual(result.status, 0, result.err)
        files = [self.stats(path) for path in self.folder.glob("stats*.json")]
        self.assertGreater(len(files), 1)
        for stats in files:
            self.assert_counts(stats, MIXTRAL, 3 * MIXTRAL.completion(prompt, n + 1))
            self.assert_phases(stats, 3 * len(prompt), 3 * n, warmup=0)
        self.assertNotIn("cannot write", result.err)
        self.assertEqual(result.said().count("[EXPERT-TRACE] Statistics enabled"), 1)
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()),
                         sorted(["stats.json"] + [f"stats-{i}.json" for i in range(2, len(files) + 1)]))

    def test_two_contexts_where_decode_is_not_seen(self):
        result = run("/usr/bin/env", "python3", CLIENTS / "ctypes_scenarios.py", "threads", OLD_ENGINE,
                     MIXTRAL.path, trace=self.trace())
        self.assertEqual(result.status, 0, result.err)
        evaluated = MIXTRAL.completion(b"one thread", 12) + MIXTRAL.completion(b"and another", 12)
        self.assert_counts(self.stats(), MIXTRAL, evaluated)
        self.assertTrue(self.stats()["complete"])

    def test_a_context_without_a_batch(self):
        result = run("/usr/bin/env", "python3", CLIENTS / "ctypes_scenarios.py", "idle", OLD_ENGINE,
                     MIXTRAL.path, trace=self.trace())
        self.assertEqual(result.status, 0, result.err)
        self.assertEqual(said_by_us(result.err.splitlines() + result.out.splitlines()), [])
        self.assertFalse(self.stats_path.exists())


class Devices(TestCase):
    """Another device, by RPC on loopback."""

    def setUp(self):
        super().setUp()
        server = rpc_servers(self.folder, 1)
        self.address = server.__enter__()
        self.addCleanup(server.__exit__, None, None, None)

    def completion(self, *options, trace=None, oracle=MIXTRAL, prompt=b"over the wire", n=8):
        result = run("llama-completion", "-m", oracle.path, "--rpc", self.address, "-ngl", 99,
                     "-p", prompt.decode(), "-n", n, "-no-cnv", "-t", 1, *options, trace=trace or self.trace())
        self.assertEqual(result.status, 0, result.err)
        self.assert_counts(self.stats(), oracle, oracle.completion(prompt, n))
        self.assert_phases(self.stats(), len(prompt), n - 1, warmup=2)
        return result

    def test_layers_on_a_device(self):
        for oracle in MIXTRAL, GPT_OSS:
            with self.subTest(oracle.name):
                result = self.completion("-v", oracle=oracle)
                self.assertRegex(result.err, r"offloaded \d+/\d+ layers to GPU")

    def test_half_of_the_layers_on_a_device(self):
        self.completion("-ngl", 16)

    def test_experts_stay_with_the_host(self):
        self.completion("-cmoe")

    def test_prompt_of_four_ubatches(self):
        self.completion("-ub", 32, prompt=b"abcdefgh" * 16)

    def check_names(self, lines, prompt, n):
        expected = []
        for token, asks in MIXTRAL.completion(prompt, n):
            for layer in range(MIXTRAL.n_layer - (not asks)):
                for expert in MIXTRAL.experts(layer, token):
                    expected += [f"[EXPERT-TRACE] Layer {layer}, Expert {expert}: "
                                 f"blk.{layer}.ffn_{projection}_exps.{expert}.weight"
                                 for projection in ("gate", "down", "up")]
        self.assertEqual(sorted(line for line in lines if line.startswith("[EXPERT-TRACE] Layer ")), sorted(expected))

    def test_expert_cache(self):
        # the cache hands MUL_MAT_ID slots instead of experts
        result = self.completion("-cmoe", "--no-repack", "--moe-cache-mib", 10, "-v", prompt=b"cached", n=6,
                                 trace=self.trace(NAMES=1))
        self.assertRegex(result.err, r"MoE cache size = ", "the cache is off")
        self.assertRegex(result.err, r"llama_moe_cache: .*hits = ")
        self.check_names(result.said(), b"cached", 6)

    def test_names(self):
        self.check_names(self.completion(prompt=b"names", n=6, trace=self.trace(NAMES=1)).said(), b"names", 6)


class Clients(TestCase):
    """Clients that find llama.cpp's functions by their names: what they do differently."""

    def run_scenario(self, scenario, *arguments, release="0.5.0", trace=None):
        result = run("/usr/bin/env", "python3", CLIENTS / "ctypes_scenarios.py", scenario,
                     OLD_ENGINES / release / "lib", *arguments, trace=trace)
        self.assertEqual(result.status, 0, result.err)
        return result

    def test_functions_that_end_in_the_call_of_another(self):
        for release in "b4753", "b5640", "b6673", "0.5.0":
            for trace in None, {"STATS": 1}:
                with self.subTest(release, trace=trace):
                    self.run_scenario("old_names", MIXTRAL.path, release=release, trace=trace)

    def test_a_function_that_the_release_does_not_have(self):
        self.assertIn("llama_process", self.run_scenario("missing", MIXTRAL.path).err)

    def test_a_context_that_is_made_before_another_models_is_freed(self):
        self.run_scenario("overlapping", QWEN3NEXT.path, MIXTRAL.path, trace=self.trace())
        self.assert_counts(self.stats(), QWEN3NEXT, client_batches(QWEN3NEXT, b"abcde", 3))
        self.assert_counts(self.stats(self.folder / "stats-2.json"), MIXTRAL, client_batches(MIXTRAL, b"xy", 4))

    def test_models_that_come_and_go(self):
        self.run_scenario("one_after_another", MIXTRAL.path, MIXTRAL.path, MIXTRAL.path, trace=self.trace())
        for number, name in enumerate(["stats.json", "stats-2.json", "stats-3.json"]):
            self.assert_counts(self.stats(self.folder / name), MIXTRAL,
                               client_batches(MIXTRAL, b"abcde"[:number + 2], 3))


def client_batches(oracle, prompt, n):
    """Of a release in which the last layer of some architectures is not pruned."""
    evaluated = oracle.completion(prompt, n)
    return [(token, True) for token, _ in evaluated] if oracle is QWEN3NEXT else evaluated


if __name__ == "__main__":
    main()
