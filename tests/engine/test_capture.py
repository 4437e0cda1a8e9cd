#!/usr/bin/env python3
"""How the routing is read: in the graph, where the device is not stopped for it, or by the eval callback.

Counts of both ways equal the prediction. What the devices are asked to do is told by a witness that stands between us
and the engine (spy.c), and compared with an untraced run.
"""

import itertools
import re

from engines import CTYPES, LINKED, OLD, RELEASES, STOCK, STOCK_PROGRAM, check
from harness import GPT_OSS, LIBRARY, MIXTRAL, QWEN3NEXT, SPY, Server, TestCase, main, rpc_servers, run

WAYS = ["graph", "eval-callback"]
DEFAULT = "graph"


class Ways(TestCase):
    def test_counts_on_every_engine(self):
        for release, oracles in RELEASES.items():
            for client in [STOCK_PROGRAM] if release == STOCK else [LINKED, CTYPES]:
                for oracle, way in itertools.product(oracles, WAYS):
                    with self.subTest(release=release, client=client.name, model=oracle.name, way=way):
                        self.stats_path.unlink(missing_ok=True)
                        check(self, client, release, oracle, CAPTURE=way)
                        self.assertEqual(self.stats()["capture"], way)

    def capture(self, **trace):
        result = run("llama-completion", "-m", MIXTRAL.path, "-p", "way", "-n", 4, "-no-cnv", "-t", 1,
                     trace=self.trace(**trace))
        self.assertEqual(result.status, 0, result.err)
        self.assert_counts(self.stats(), MIXTRAL, MIXTRAL.completion(b"way", 4))
        self.assertEqual([line for line in result.said() if "Routing is read by" in line],
                         [f"[EXPERT-TRACE] Routing is read by: {self.stats()['capture']}"])
        return self.stats()["capture"], [line for line in result.said() if "CAPTURE" in line]

    def test_the_default(self):
        for value in {}, {"CAPTURE": ""}, {"CAPTURE": "auto"}:
            self.assertEqual(self.capture(**value), (DEFAULT, []))

    def test_another_value_is_told_once(self):
        way, said = self.capture(CAPTURE="callback")
        self.assertEqual(way, DEFAULT)
        self.assertEqual(len(said), 1)
        self.assertIn("LLAMA_EXPERT_TRACE_CAPTURE=callback is not understood", said[0])

    def test_a_program_with_an_eval_callback_of_its_own(self):
        text = self.folder / "text"
        text.write_text("callback " * 80)
        result = run("llama-imatrix", "-m", MIXTRAL.path, "-f", text, "-c", 64, "--chunks", 2, "-t", 1,
                     "-o", self.folder / "imatrix.gguf", trace=self.trace())
        self.assertEqual(result.status, 0, result.err)
        self.assertEqual(self.stats()["capture"], "eval-callback")

    def test_flash_attention_and_graphs_that_are_not_reused(self):
        for oracle, attention, extra in itertools.product([MIXTRAL, QWEN3NEXT], ["on", "off"],
                                                          [{}, {"LLAMA_GRAPH_REUSE_DISABLE": "1"}]):
            with self.subTest(model=oracle.name, attention=attention, extra=extra):
                result = run("llama-completion", "-m", oracle.path, "-p", "attention", "-n", 6, "-no-cnv",
                             "-t", 1, "-fa", attention, trace=self.trace(), **extra)
                self.assertEqual(result.status, 0, result.err)
                self.assert_counts(self.stats(), oracle, oracle.completion(b"attention", 6))

    def test_prompts_and_generation_in_turns(self):
        # the scheduler's memory is planned anew for other graphs, if ever;
        # a realloc that it does not expect ends the program
        prompts = ["short", "a prompt that is long enough to be another one " * 3, "again",
                   "and once more, at some length, " * 4]
        with Server("-m", GPT_OSS.path, "-t", 1, "-c", 2048, "-np", 1, "--no-cache-prompt",
                    trace=self.trace()) as server:
            for prompt in prompts:
                server.post("/completion", prompt=prompt, n_predict=5, cache_prompt=False)
            self.assertEqual(server.stop(), 0)
        self.assert_counts(self.stats(), GPT_OSS,
                           [token for prompt in prompts for token in GPT_OSS.completion(prompt.encode(), 5)])


class Graph:
    """One computation, and what the devices were asked for from then to the next one."""

    def __init__(self, lines):
        self.by_callback = lines[0] == "compute callback"
        self.waits = sum(line == "synchronize" or line.startswith("get ") for line in lines)
        self.transfers = [line.split()[1::2] for line in lines
                          if line.startswith("get_async") and " expert_trace " in line]

    def bytes(self):
        return [int(size) for _, size in self.transfers]


def graphs(log):
    lines = log.read_text().splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith("compute")]
    return [Graph(lines[a:b]) for a, b in zip(starts, [*starts[1:], len(lines)])]


def allocated(log):
    return [(line.split()[1], int(line.split()[2])) for line in log.read_text().splitlines()
            if line.startswith("alloc ")]


class Devices(TestCase):
    """On devices that are reached by RPC on loopback."""

    def completion(self, rpc, *options, prompt=b"abcdefgh", n=6, oracle=GPT_OSS, trace=None):
        """What the devices are asked for, untraced and traced."""
        logs = []
        for traced in False, True:
            log = self.folder / f"spy-{traced}"
            log.unlink(missing_ok=True)
            preload = f"{LIBRARY} {SPY}" if traced else str(SPY)
            result = run("llama-completion", "-m", oracle.path, "--rpc", rpc, "-ngl", 99, "-p", prompt.decode(),
                         "-n", n, "-no-cnv", "-t", 1, "-v", *options, trace=(trace or self.trace()) if traced else None,
                         preload=False, LD_PRELOAD=preload, SPY_LOG=str(log), GGML_SCHED_DEBUG_REALLOC="1")
            self.assertEqual(result.status, 0, result.err)
            logs.append(log)
            self.said = result
        if trace is None:
            self.assert_counts(self.stats(), oracle, oracle.completion(prompt, n))
        return logs

    def test_generation_stops_no_device(self):
        for n_devices in 1, 2:
            with self.subTest(devices=n_devices), rpc_servers(self.folder, n_devices) as rpc:
                untraced, traced = map(graphs, self.completion(rpc, n=8))
                self.assertEqual(len(untraced), len(traced))
                for plain, ours in zip(untraced, traced):
                    self.assertFalse(ours.by_callback)
                    self.assertEqual(ours.waits, plain.waits)
                    self.assertEqual(len(ours.transfers), n_devices)
                    self.assertEqual(len({device for device, _ in ours.transfers}), n_devices)

    def test_eval_callback_stops_at_every_layer(self):
        with rpc_servers(self.folder, 1) as rpc:
            untraced, traced = map(graphs, self.completion(rpc, trace=self.trace(CAPTURE="eval-callback")))
        for plain, ours in zip(untraced, traced):
            self.assertTrue(ours.by_callback)
            self.assertEqual(ours.transfers, [])
            self.assertGreaterEqual(ours.waits, plain.waits + GPT_OSS.n_layer)

    def test_prompt_of_four_ubatches_is_in_flight_as_a_whole(self):
        for n_devices in 1, 2:
            with self.subTest(devices=n_devices), rpc_servers(self.folder, n_devices) as rpc:
                untraced, traced = map(graphs, self.completion(rpc, "-ub", 64, prompt=b"abcdefgh" * 32, n=2))
            self.assertEqual((len(untraced), len(traced)), (6, 6)) # warm-up, four ubatches, a token
            for plain, ours in zip(untraced, traced):
                self.assertEqual(ours.waits, plain.waits)
                self.assertEqual(len(ours.transfers), n_devices)

    def test_longer_prompts_wait_for_the_oldest_alone(self):
        with rpc_servers(self.folder, 1) as rpc:
            untraced, traced = map(graphs, self.completion(rpc, "-ub", 32, prompt=b"abcdefgh" * 32, n=1))
        waits = [ours.waits - plain.waits for plain, ours in zip(untraced, traced)]
        self.assertEqual(waits[1:5], [0] * 4)
        self.assertLessEqual(max(waits), 2)

    def test_prompts_bring_the_selected_columns_alone(self):
        n = 64
        with rpc_servers(self.folder, 1) as rpc:
            _, traced = map(graphs, self.completion(rpc, "-ub", n, oracle=QWEN3NEXT, prompt=b"abcdefgh" * 16, n=2))
        selected = n * QWEN3NEXT.n_used * 4
        for ours in traced[1:3]: # after the warm-up
            self.assertLessEqual(sum(ours.bytes()), QWEN3NEXT.n_layer * (selected + 128))
            self.assertGreater(sum(ours.bytes()), (QWEN3NEXT.n_layer - 1) * selected - 1)

    def test_layers_on_the_host_and_on_a_device(self):
        for options in (["-ngl", 20], ["-cmoe"], ["-ncmoe", 10], ["-nkvo"]):
            with self.subTest(options=options), rpc_servers(self.folder, 1) as rpc:
                _, traced = map(graphs, self.completion(rpc, *options, "-ub", 64, prompt=b"abcdefgh" * 10))
                self.assertEqual({ours.by_callback for ours in traced}, {False})
                self.assertEqual({len(ours.transfers) for ours in traced}, {1})

    def sizes(self, result):
        return [(device, float(size))
                for device, size in re.findall(r"(\S+)\s+compute buffer size =\s+([\d.]+) MiB", result.err)]

    def test_the_scheduler_tells_of_our_memory(self):
        with rpc_servers(self.folder, 1) as rpc:
            logs = self.completion(rpc, "-ub", 512)
            untraced = run("llama-completion", "-m", GPT_OSS.path, "--rpc", rpc, "-ngl", 99, "-p", "a",
                           "-n", 1, "-no-cnv", "-t", 1, "-v", preload=False)
        ours = allocated(logs[1])
        for each in allocated(logs[0]):
            ours.remove(each)
        taken = max(size for _, size in ours) # a context's; there is another one, made to see what fits
        self.assertGreater(taken, 0)
        self.assertNotIn("does not match expectation", self.said.err)
        told = [traced - plain for (_, traced), (_, plain) in zip(self.sizes(self.said), self.sizes(untraced))]
        self.assertGreater(told[0] * (1 << 20), taken - 20000) # rounded when it is told

    def test_fit(self):
        with rpc_servers(self.folder, 1) as rpc:
            self.completion(rpc, "--fit", "on")


if __name__ == "__main__":
    main()
