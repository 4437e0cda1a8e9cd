#!/usr/bin/env python3
"""Memory of ours on devices that several contexts use, by RPC on loopback.

Such a device forgets its recorded graphs when any memory on it is freed, and the program that runs one of them next is
ended. So nothing of ours is freed while another context lives, whatever is made, swapped and freed meanwhile; what is
taken is bounded; and the program does what it does untraced. A witness between us and the engine (spy.c) tells.
"""

import json
import shutil

from engines import stock_libraries, stock_python_command
from harness import LIBRARY, MIXTRAL, REPOSITORY, SPY, Server, TestCase, main, rpc_servers, run

BABEL = REPOSITORY / "models" / "babel-11m.gguf"


class Memory:
    """What became of our memory, from the witness's log."""

    def __init__(self, log):
        self.n_taken = 0
        self.n_scheds = 0            # that were ever made
        self.most = 0                # buffers at once
        self.freed_early = []        # while another context lived
        self.live = {}
        scheds = 0                   # that are alive; one that is freed is until its own memory was freed
        for line in log.read_text().splitlines():
            words = line.split()
            if words[0] == "sched":
                scheds = int(words[2])
                self.n_scheds += words[1] == "new"
            elif words[0] == "alloc" and words[3] == "ours":
                self.n_taken += 1
                self.live[words[4]] = words[1]
                self.most = max(self.most, len(self.live))
            elif words[0] == "free" and words[3] == "ours":
                del self.live[words[4]]
                if scheds > 1:
                    self.freed_early.append(line)


class Devices(TestCase):
    def preloaded(self, traced):
        self.log = self.folder / f"spy-{traced}.log"
        return {"preload": False, "LD_PRELOAD": f"{LIBRARY} {SPY}" if traced else str(SPY), "SPY_LOG": str(self.log)}

    def assert_kept(self, n_devices, n_contexts):
        """Our memory was, in the last run, which had so many contexts at once."""
        memory = Memory(self.log)
        self.assertGreater(memory.n_taken, 0)
        self.assertEqual(memory.freed_early, [])
        self.assertEqual(memory.live, {})
        self.assertLessEqual(memory.n_taken, memory.n_scheds * n_devices) # of no context twice
        self.assertLessEqual(memory.most, n_contexts * n_devices)

    def run_once(self, command, trace):
        result = run(*command, trace=trace and self.trace(**trace), **self.preloaded(trace is not None))
        self.assertEqual(result.status, 0, result.err)
        return result

    def run_both(self, *command, **trace):
        """Untraced and traced. Returns the traced one's result.

        Programs lose the end of their output now and then, untraced too: they are run until neither has.
        """
        for _ in range(10):
            for path in self.folder.glob("*.json"):
                path.unlink()
            untraced = self.run_once(command, None)
            traced = self.run_once(command, trace)
            if traced.out == untraced.out:
                return traced
            shorter, longer = sorted((traced.out, untraced.out), key=len)
            self.assertTrue(longer.startswith(shorter), f"{traced.out}\n---\n{untraced.out}")
        self.fail("one of them always loses the end of its output")

    def copy_of(self, path):
        return shutil.copy(path.resolve(), self.folder / f"copy-of-{path.name}")


class Draft(Devices):
    # The warm-up's graph, of two tokens, is run once more for the prompt: behind the making of the draft's context.
    PROMPT = b"Inn"

    def speculate(self, model, n_devices, prompt, n, rpc):
        result = self.run_both("llama-speculative-simple", "-m", model, "-md", self.copy_of(model),
                               "--spec-type", "draft-simple", "--spec-draft-n-max", 4, "--rpc", rpc, "-ngl", 99,
                               "-p", prompt, "-n", n, "--temp", 0, "-t", 1, "-td", 1, OUTPUT=self.folder / "%m.json")
        self.assert_kept(n_devices, 2)
        return result

    def test_counts(self):
        for n_devices in 1, 2:
            with self.subTest(devices=n_devices), rpc_servers(self.folder, n_devices) as rpc:
                result = self.speculate(MIXTRAL.path, n_devices, self.PROMPT.decode(), 16, rpc)
                printed = result.out.strip("\n")[len(self.PROMPT):]
                sequence = MIXTRAL.generate(self.PROMPT, len(printed))[:-1]
                first = len(self.PROMPT) - 1
                self.assert_counts(self.stats(self.folder / "oracle-mixtral.json"), MIXTRAL,
                                   [(token, i >= first) for i, token in enumerate(sequence)])
                drafter = self.stats(self.folder / "copy-of-oracle-mixtral.json")
                self.assertGreaterEqual(drafter["total_tokens"], len(sequence))
                self.assertEqual(drafter["total_activations"], sum(drafter["layer_tokens"].values()) * MIXTRAL.n_used)

    def test_a_trained_model(self):
        with rpc_servers(self.folder, 1) as rpc:
            self.speculate(BABEL, 1, "In", 16, rpc)

    def test_server(self):
        # with its sampling on the device the server makes a new scheduler for each request
        prompts, n = ["one", "the second", "and a third one"] * 3, 12
        answers = []
        for traced in False, True:
            how = self.preloaded(traced)
            with rpc_servers(self.folder, 1) as rpc, \
                 Server("-m", MIXTRAL.path, "-md", self.copy_of(MIXTRAL.path), "--spec-type", "draft-simple",
                        "--spec-draft-n-max", 4, "--rpc", rpc, "-ngl", 99, "-t", 1, "-td", 1, "-c", 512,
                        "--parallel", 1, "--backend-sampling", trace=self.trace() if traced else None, **how) as server:
                answers.append([server.post("/completion", prompt=prompt, n_predict=n, cache_prompt=False,
                                            temperature=0, backend_sampling=True)["content"] for prompt in prompts])
                self.assertEqual(server.stop(), 0, server.err())
        self.assertEqual(answers[0], answers[1])
        self.assert_kept(1, 2)
        self.assertGreater(Memory(self.log).n_scheds, len(prompts))
        files = [self.stats(path) for path in self.folder.glob("stats*.json")]
        self.assertEqual(len(files), 2)
        target, = (stats for stats in files if stats["model"]["file"] == str(MIXTRAL.path.resolve()))
        self.assert_counts(target, MIXTRAL,
                           [token for prompt in prompts for token in MIXTRAL.completion(prompt.encode(), n)])


class Swap(Devices):
    """A model that is kept, and others that are loaded and freed beside it."""

    def setUp(self):
        super().setUp()
        self.libraries = stock_libraries()
        if not self.libraries:
            self.skipTest("the stock engine's libraries are not beside its programs")

    def swap(self, rpc, n_swaps, *paths):
        return stock_python_command("swap_client.py", self.libraries, rpc, n_swaps, MIXTRAL.path, *paths)

    def evaluated(self, said):
        """What became of each loaded model, the kept one first: its path's number, and what it evaluated."""
        kept, swapped = [], []
        for which, prompt, generated in said:
            batches = MIXTRAL.completion(prompt, len(generated) + (which == 0))
            if which == 0:
                kept += batches
            else:
                swapped.append((which, batches))
        return [(0, kept), *swapped]

    def test_counts(self):
        paths = [self.copy_of(MIXTRAL.path), BABEL]
        for n_devices in 1, 2:
            with self.subTest(devices=n_devices), rpc_servers(self.folder, n_devices) as rpc:
                result = self.run_both(*self.swap(rpc, 6, *paths), OUTPUT=self.folder / "stats.json")
                memory = Memory(self.log)
                self.assertEqual((memory.freed_early, memory.live), ([], {}))
                models = self.evaluated(json.loads(result.out))
                files = {int((path.stem + "-1").split("-")[1]): self.stats(path)
                         for path in self.folder.glob("stats*.json")}
                self.assertEqual(sorted(files), list(range(1, len(models) + 1)))
                for number, (which, batches) in enumerate(models, 1):
                    if which < 2:
                        self.assert_counts(files[number], MIXTRAL, batches)
                    self.assertEqual(files[number]["total_tokens"], len(batches))
                    self.assertEqual(files[number]["capture"], "graph")
                for path in self.folder.glob("stats*.json"):
                    path.unlink()

    def test_long(self):
        # contexts of five sizes, which grow first: what is taken for them is taken in the first five swaps
        with rpc_servers(self.folder, 1) as rpc:
            result = run(*self.swap(rpc, 40, BABEL), trace=self.trace(), **self.preloaded(True))
        self.assertEqual(result.status, 0, result.err)
        memory = Memory(self.log)
        self.assertEqual((memory.freed_early, memory.live), ([], {}))
        self.assertLessEqual(memory.n_taken, 6)


if __name__ == "__main__":
    main()
