#!/usr/bin/env python3
"""Files of routing traces: where they are, what is said where they cannot be,
and what is in them however a program ends."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess

from harness import CLIENTS, COMMAND, ENGINE, MIXTRAL, OLD_ENGINES, QWEN3NEXT, Server, environment, main, run, wait_for
from traces import MEMORY, SAMPLING, Gap, Trace, TraceTestCase, Ubatch, is_sampled, unpacked

OLD_ENGINE = OLD_ENGINES / "0.5.0" / "lib"
PROMPT, N = b"write", 4
HELD = bytes(MIXTRAL.generate(PROMPT, N - 1))


class Files(TraceTestCase):
    def complete(self, trace=None, prompt=PROMPT, n=N, before=()):
        result = run(*before, ENGINE / "llama-completion", "-m", MIXTRAL.path, "-p", prompt.decode(),
                     "-n", n, "-no-cnv", "-t", 1, trace=trace or self.routing())
        self.assertEqual(result.status, 0, result.err)
        self.assertEqual(result.out.strip("\n"), bytes(MIXTRAL.generate(prompt, n)).decode())
        return result

    def complete_at_length(self, prompt, *options, **trace):
        """With more experts than the model's file says:
        48 layers x 64 x (9 bits + half a float) make 9600 bytes a token."""
        result = run("llama-completion", "-m", QWEN3NEXT.path, "-p", prompt.decode(), "-n", 1,
                     "-no-cnv", "-t", 1, "--no-warmup", "--override-kv", "qwen3next.expert_used_count=int:64", *options,
                     trace=self.routing(WEIGHTS=1, **trace))
        self.assertEqual(result.status, 0, result.err)
        return result

    def server(self, **trace):
        return Server("-m", MIXTRAL.path, "-t", 1, "-c", 512, "-np", 1, trace=self.routing(**trace))

    def names(self):
        return sorted(path.name for path in self.folder.iterdir())

    def told(self, result, what):
        return [line for line in result.said() if what in line]

    def assert_held(self, held, *paths, **how):
        trace = self.read(*paths, **how)
        self.assert_routing(trace, MIXTRAL)
        self.assertEqual(self.texts(trace), [held])


class Paths(Files):
    def test_is_said_where(self):
        size = re.escape(f"[EXPERT-TRACE] Routing trace: {self.path}, {2 + len(HELD)} tokens, ") + r"[\d.]+ KB"
        said = self.told(self.complete(), "Routing trace")
        self.assertEqual(len(said), 1)
        self.assertRegex(said[0], f"^{size}$")

    def test_relative_path_of_a_program_that_moves(self):
        other = self.folder / "other"
        other.mkdir()
        result = run("/usr/bin/env", "python3", CLIENTS / "ctypes_scenarios.py", "moves",
                     OLD_ENGINE, MIXTRAL.path, other, trace=self.routing(ROUTING="run.moetrace"), cwd=self.folder)
        self.assertEqual(result.status, 0, result.err)
        self.assert_held(bytes(MIXTRAL.generate(b"here", 3)))
        self.assertEqual(list(other.iterdir()), [])

    def test_a_rerun_replaces_nothing(self):
        runs = (b"once", "run.moetrace"), (b"again", "run-2.moetrace"), (b"more", "run-3.moetrace")
        for prompt, name in runs:
            result = self.complete(self.routing_again(), prompt=prompt)
            goes_to = f"{self.path} has an earlier run, which stays; this routing trace goes to {self.folder / name}"
            self.assertEqual(len(self.told(result, goes_to)), name != "run.moetrace")
        for prompt, name in runs:
            self.assert_held(bytes(MIXTRAL.generate(prompt, N - 1)), self.folder / name)
        self.assertEqual(len(self.names()), 3)

    def test_the_model_stays(self):
        model = self.folder / "m.gguf"
        shutil.copyfile(MIXTRAL.path, model)
        before = model.read_bytes()
        result = run("llama-completion", "-m", model, "-p", "write", "-n", N, "-no-cnv", "-t", 1,
                     trace=self.routing(ROUTING=model))
        self.assertEqual(result.status, 0, result.err)
        says = f"cannot write the routing trace {model}: there is a file of that name"
        self.assertEqual(len(self.told(result, says)), 1)
        self.assertEqual(model.read_bytes(), before)
        self.assertEqual(self.names(), ["m.gguf"])

    def test_what_all_runs_may_take(self):
        for _ in range(3):
            self.complete(self.routing_again(), n=30)
        size = self.path.stat().st_size
        self.complete(self.routing_again(KEEP=int(2.5 * size)), n=30)
        self.assertEqual(self.names(), ["run-3.moetrace", "run-4.moetrace"])
        self.complete(self.routing_again(KEEP=1), n=30)
        (name,) = self.names() # what is being written stays
        self.assertIn(name, ("run.moetrace", "run-5.moetrace"))

    def test_the_longest_name(self):
        self.path = self.folder / ("x" * 246 + ".moetrace")
        self.complete()
        self.assert_held(HELD)

    def test_one_file_for_trace_and_statistics(self):
        for name, stats in ("both", f"{self.folder}/both"), ("two", f"{self.folder}/./two"):
            both = self.folder / name
            how = both, stats
            result = self.complete(self.routing(ROUTING=how[0], OUTPUT=how[1], PER_LAYER=1))
            beside = f"{how[0]}.moetrace"
            says = (f"LLAMA_EXPERT_TRACE_OUTPUT and LLAMA_EXPERT_TRACE_ROUTING are one file, {how[1]}: "
                    f"the routing trace goes to {beside}")
            self.assertEqual(len(self.told(result, says)), 1)
            self.assert_statistics(self.read(beside), self.stats(both))

    def test_a_file_of_another_kind_stays(self):
        self.path.write_text("precious")
        told = self.told(self.complete(self.routing_again()), "cannot write")
        self.assertEqual(len(told), 1)
        self.assertIn(f"{self.path}: there is a file of that name that is no routing trace, and stays", told[0])
        self.assertEqual(self.path.read_text(), "precious")

    def test_two_processes_with_one_path(self):
        with self.server() as one, self.server() as other:
            one.post("/completion", prompt="one", n_predict=3)
            other.post("/completion", prompt="other", n_predict=3)
            self.assertEqual((one.stop(), other.stop()), (0, 0))
            second = self.folder / "run-2.moetrace"
            moved = f"{self.path} belongs to another model or process; this routing trace goes to {second}\n"
            self.assertEqual((one.err().count(moved), other.err().count(moved)), (0, 1))
        self.assertEqual(self.names(), ["run-2.moetrace", "run.moetrace"])
        for prompt, path in (b"one", self.path), (b"other", second):
            self.assert_held(bytes(MIXTRAL.generate(prompt, 2)), path)

    def test_a_file_that_cannot_be(self):
        (self.folder / "file").write_text("")
        (self.folder / "folder").mkdir()
        for path, cause in [(self.folder / "missing" / "x", "No such file or directory"),
                            (self.folder / "folder", "Is a directory"), (self.folder / "file" / "x", "Not a directory"),
                            ("/dev/full", "not a regular file")]:
            with self.subTest(path):
                told = self.told(self.complete(self.routing(ROUTING=path)), "cannot write")
                self.assertEqual(len(told), 1)
                self.assertIn(f"cannot write the routing trace {path}: {cause}. Nothing is recorded", told[0])
                self.assertEqual(self.names(), ["file", "folder"])

    def test_a_fork(self):
        for scenario, texts in ("fork", [b"parent"]), ("fork_goes_on", [b"parent", b"the child"]):
            with self.subTest(scenario):
                result = run("/usr/bin/env", "python3", CLIENTS / "ctypes_scenarios.py",
                             scenario, OLD_ENGINE, MIXTRAL.path, trace=self.routing())
                self.assertEqual(result.status, 0, result.err)
                self.assertEqual(len(self.names()), len(texts))
                for text, name, n in zip(texts, ("run.moetrace", "run-2.moetrace"), (4, 5)):
                    self.assert_held(bytes(MIXTRAL.generate(text, n - 1)), self.folder / name)


class Full(Files):
    def test_a_disk_without_room(self):
        limit = 10 << 10
        # the kernel sends SIGXFSZ, which would end the program
        result = self.complete(n=300, before=["/usr/bin/prlimit", f"--fsize={limit}"])
        self.assertEqual(result.err.count("cannot write to"), 1)
        self.assertIn(f"cannot write to {self.path}: File too large", result.err)
        self.assertLessEqual(self.path.stat().st_size, limit)
        trace = Trace(self.path)
        n_tokens = sum(gap.tokens for gap in trace.gaps) + sum(len(ubatch.tokens) for ubatch in trace.ubatches)
        self.assertEqual(n_tokens, 2 + len(PROMPT) + 299)
        self.assertIn("were dropped because the disk could not be written to", result.err)

    def test_a_disk_that_has_room_again(self):
        prompts = ["0123456789abcdef" * 8, "room"]
        with Server("-m", QWEN3NEXT.path, "-t", 1, "-c", 512, "-np", 1, trace=self.routing(WEIGHTS=1)) as server:
            limit = len(server.err()) + (32 << 10) # of the log, too
            resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            server.post("/completion", prompt=prompts[0], n_predict=3, cache_prompt=False)
            wait_for("a failure", lambda: "cannot write" in server.err())
            resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE,
                             (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            server.post("/completion", prompt=prompts[1], n_predict=3, cache_prompt=False)
            self.assertEqual(server.stop(), 0)
        trace = self.read() # nothing is missing: there was room in memory
        self.assert_routing(trace, QWEN3NEXT)
        self.assertEqual(self.texts(trace), [bytes(QWEN3NEXT.generate(prompt.encode(), 2)) for prompt in prompts])

    def test_a_ubatch_that_is_larger_than_the_buffer(self):
        result = self.complete_at_length(b"0123456789" * 12, BUFFER="1MiB")
        trace = Trace(self.path)
        self.assertEqual(trace.gaps, [Gap(0, 1, 120, MEMORY)])
        self.assertEqual((trace.end["dropped_ubatches"], trace.end["dropped_tokens"]), (1, 120))
        says = "120 tokens in one ubatch do not fit into LLAMA_EXPERT_TRACE_BUFFER"
        self.assertEqual(len(self.told(result, says)), 1)

    def test_a_program_that_may_wait(self):
        self.complete(self.routing(ON_FULL="wait", BUFFER="1MiB"), n=50)
        self.assert_held(bytes(MIXTRAL.generate(PROMPT, 49)))


class Endings(Files):
    """Signals: what was written is whole, and it is known whether that is all."""

    def interrupt(self, ending):
        """A llama-completion that is at it. Its own handler of Ctrl-C may wait for itself forever:
        see test_endings.py."""
        for _ in range(5):
            self.path.unlink(missing_ok=True)
            process = subprocess.Popen([ENGINE / "llama-completion", "-m", MIXTRAL.path, "-p", "forever",
                                        "-n", "30000", "-no-cnv", "-t", "1", "-c", "32768"],
                                       env=environment(self.routing()), stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            self.addCleanup(process.wait)
            self.addCleanup(process.kill)
            wait_for("a part of the trace", lambda: self.path.exists() and len(Trace(self.path).ubatches) > 20)
            process.send_signal(ending)
            try:
                return process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
        raise AssertionError("llama-completion does not end")

    def test_a_completion_that_is_killed(self):
        for ending, status in (signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, -15):
            with self.subTest(ending):
                self.assertEqual(self.interrupt(ending), status)
                trace = Trace(self.path)
                self.assertIsNone(trace.end)
                self.assertEqual(trace.gaps, [])
                self.assert_routing(trace, MIXTRAL)
                (held,) = self.texts(trace)
                self.assertEqual(held, bytes(MIXTRAL.generate(b"forever", len(held) - len(b"forever"))))

    def test_a_server_that_is_ended(self):
        for ending in signal.SIGINT, signal.SIGTERM:
            with self.subTest(ending), self.server() as server:
                server.post("/completion", prompt="serve", n_predict=5)
                self.assertEqual(server.stop(ending), 0)
                self.assert_held(bytes(MIXTRAL.generate(b"serve", 4)))

    def test_kill_of_an_idle_server_loses_nothing(self):
        held = bytes(MIXTRAL.generate(b"nothing is lost", 4))
        with self.server() as server:
            server.post("/completion", prompt="nothing is lost", n_predict=5)
            wait_for("a trace of everything", lambda: self.path.exists() and self.texts(Trace(self.path)) == [held])
            self.assertEqual(server.stop(signal.SIGKILL), -9)
        self.assertIsNone(Trace(self.path).end)
        self.assert_held(held, complete=False)


class Parts(Files):
    def parts(self):
        return sorted(self.folder.glob("run-*.moetrace"))

    def assert_parts(self, texts):
        self.assertEqual(self.names(), [f"run-{i:06}.moetrace" for i in range(len(self.names()))])
        trace = self.read(*self.parts())
        self.assertEqual(self.texts(trace), texts)
        self.assertEqual([ubatch.number for ubatch in trace.ubatches], list(range(len(trace.ubatches))))
        for path in self.parts()[:-1]: # each is whole, and says that it is not the last one
            self.assertEqual((Trace(path).damage, Trace(path).end["last_part"]), ([], False))
        return trace

    def test_by_size(self):
        prompt = b"0123456789" * 12
        self.complete_at_length(prompt, "-ub", 8, ROTATE_SIZE="1MiB")
        self.assertGreater(len(self.parts()), 1)
        self.assertLess(max(path.stat().st_size for path in self.parts()), 1 << 20)
        self.assert_parts([prompt])

    def test_by_time(self):
        answers = []
        with self.server(ROTATE_TIME=1) as server:
            while len(self.parts()) < 3:
                self.assertLess(len(answers), 2000, "so many requests take longer than two seconds")
                prompt = f"request {len(answers)}"
                answer = server.post("/completion", prompt=prompt, n_predict=20, cache_prompt=False)
                answers.append((prompt + answer["content"]).encode()[:-1])
            self.assertEqual(server.stop(), 0)
        self.assert_routing(self.assert_parts(sorted(answers)), MIXTRAL)


class Sampling(Files):
    """One batch of so many. Python knows from the header's seed which."""

    def complete_sampled(self, sample, n=20, **how):
        self.path.unlink(missing_ok=True)
        result = self.complete(self.routing(SAMPLE=sample), n=n, **how)
        self.assertNotIn("dropped", result.err)
        return Trace(self.path)

    def test_one_batch_in_three(self):
        trace = self.complete_sampled(3)
        self.assertEqual(trace.header["sample"], 3)
        self.assertIn("seed", trace.header)
        self.assert_routing(trace, MIXTRAL)
        # a batch has one ubatch here
        self.assertEqual([ubatch.number for ubatch in trace.ubatches],
                         [i for i in range(21) if is_sampled(trace.header, 0, i)])
        self.assertEqual({event.why for event in trace.events if not isinstance(event, Ubatch)}, {SAMPLING})
        n_tokens = 2 + len(PROMPT) + 19
        self.assertEqual(trace.end["tokens"] + trace.end["left_out_tokens"], n_tokens)
        self.assertEqual((trace.end["ubatches"], trace.end["left_out_ubatches"]), (7, 14))
        held = MIXTRAL.generate(PROMPT, 19)
        for ubatch in trace.ubatches:
            if not ubatch.warmup:
                self.assertEqual([token.id for token in ubatch.tokens],
                                 [held[token.position] for token in ubatch.tokens])

    def test_the_same_ones_by_the_same_seed(self):
        traces = [self.complete_sampled(sample) for sample in ("4:7", "4:7", "4:8", "4", "4")]
        chosen = [[ubatch.number for ubatch in trace.ubatches] for trace in traces]
        self.assertEqual([trace.header["seed"] for trace in traces[:3]], [7, 7, 8])
        self.assertEqual(chosen[0], chosen[1])
        self.assertNotEqual(chosen[0], chosen[2])
        self.assertNotEqual(traces[3].header["seed"], traces[4].header["seed"])

    def test_is_told_by_info(self):
        self.complete_sampled("4:7", n=8)
        self.assertIn("one batch in 4, at random (seed 7)", run(COMMAND, "info", self.path, preload=False).out)
        info = json.loads(run(COMMAND, "info", "--json", self.path, preload=False).out)
        self.assertEqual((info["sample"], info["seed"]), (4, 7))
        self.path.unlink()
        self.complete(n=1)
        info = json.loads(run(COMMAND, "info", "--json", self.path, preload=False).out)
        self.assertEqual((info["sample"], info["seed"]), (1, None))

    def test_by_an_option_of_run(self):
        command = [COMMAND, "run", "-r", self.path, "--sample"]
        completion = [ENGINE / "llama-completion", "-m", MIXTRAL.path, "-p", "option", "-n", 6, "-no-cnv", "-t", 1]
        result = run(*command, "2:5", "--", *completion, preload=False)
        self.assertEqual(result.status, 0, result.err)
        trace = Trace(self.path)
        self.assertEqual((trace.header["sample"], trace.header["seed"]), (2, 5))
        for wrong in "0.5", "2:", "2:0", ":5", "2:5:1", "2:x", "-2", "2:-5":
            result = run(*command, wrong, "--", *completion, preload=False)
            self.assertEqual(result.status, 2, wrong)
            self.assertIn("--sample needs a whole number", result.err)

    def test_a_regular_load(self):
        """Requests of four batches each, a prompt and three steps: every fourth batch is a prompt."""
        n_requests = 48
        with self.server(SAMPLE="4:1") as server:
            for i in range(n_requests):
                server.post("/completion", prompt=f"{i:02} is a request", n_predict=4, cache_prompt=False)
            self.assertEqual(server.stop(), 0)
        trace = Trace(self.path)
        prompts = [ubatch for ubatch in trace.ubatches if not ubatch.warmup and not ubatch.tokens[0].generation]
        n_ubatches = trace.end["ubatches"] + trace.end["left_out_ubatches"]
        self.assertGreaterEqual(n_ubatches, 4 * n_requests)
        self.assertEqual([ubatch.number for ubatch in trace.ubatches],
                         [i for i in range(n_ubatches) if is_sampled(trace.header, 0, i)])
        for first in range(0, n_ubatches - 3, 4):
            self.assertEqual(sum(first <= ubatch.number < first + 4 for ubatch in trace.ubatches), 1)
        self.assertAlmostEqual(len(prompts), n_requests / 4, delta=n_requests / 8) # 12 of 48

    def test_a_batch_is_recorded_as_a_whole(self):
        result = run("llama-completion", "-m", MIXTRAL.path, "-p", "0123456789" * 12, "-n", 1, "-no-cnv",
                     "-t", 1, "-b", 40, "-ub", 20, trace=self.routing(SAMPLE="2:5"))
        self.assertEqual(result.status, 0, result.err)
        # a warm-up, and three batches of two ubatches
        batches = [[0], [1, 2], [3, 4], [5, 6]]
        trace = Trace(self.path)
        self.assertEqual([(ubatch.number, ubatch.first) for ubatch in trace.ubatches],
                         [(number, number == batch[0]) for i, batch in enumerate(batches)
                          if is_sampled(trace.header, 0, i)
                          for number in batch])

    def test_no_batch_that_is_taken(self):
        seed = next(seed for seed in range(1, 100)
                    if not any(is_sampled({"sample": 1000, "seed": seed}, 0, i) for i in range(9)))
        trace = self.complete_sampled(f"1000:{seed}", n=4)
        self.assertEqual((trace.ubatches, trace.end["left_out_ubatches"]), ([], 5))


class Packed(Files):
    def test_is_the_same_trace(self):
        self.complete(self.routing(WEIGHTS=1), prompt=b"0123456789" * 20, n=20)
        result = run(COMMAND, "pack", self.path, preload=False)
        self.assertEqual(result.status, 0, result.err)
        packed = (self.folder / "run.packed.moetrace").read_bytes()
        self.assertLess(len(packed), self.path.stat().st_size)
        self.assertEqual(unpacked(packed), self.path.read_bytes())


class Settings(Files):
    def test_what_is_not_understood(self):
        for variable, value in [("WEIGHTS", "yes"), ("TOKENS", "2"), ("ON_FULL", "block"),
                                ("BUFFER", "1k"), ("ROTATE_SIZE", "big"), ("ROTATE_TIME", "-1"), ("SAMPLE", "0.5"),
                                ("SAMPLE", "1.5"), ("KEEP", "all"), ("BUFFER", "1000TiB"),
                                ("BUFFER", f"{2 * os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') >> 20}MiB")]:
            with self.subTest(variable):
                result = self.complete(self.routing(**{variable: value}), n=1)
                self.assertEqual(len(self.told(result, f"LLAMA_EXPERT_TRACE_{variable}={value} is not understood")), 1)
                self.assertTrue(self.read().ubatches)

    def test_memory_that_is_not_to_be_had(self):
        # as much as the machine has, of which the program may take less
        buffer = f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') >> 20}MiB"
        result = self.complete(self.routing(BUFFER=buffer), before=["/usr/bin/prlimit", f"--as={16 << 30}"])
        if 16 << 10 <= os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') >> 20:
            self.assertEqual(len(self.told(result, "LLAMA_EXPERT_TRACE_BUFFER: the system does not give ")), 1)
        self.assert_held(HELD)

    def test_what_belongs_to_a_trace(self):
        for variable, value in ("WEIGHTS", 1), ("TOKENS", 1), ("ON_FULL", "wait"), ("SAMPLE", 2):
            with self.subTest(variable):
                result = self.complete({variable: value}, n=1)
                self.assertEqual(self.told(result, "EXPERT-TRACE")[:1],
                                 [f"[EXPERT-TRACE] LLAMA_EXPERT_TRACE_{variable} has no effect "
                                  "without LLAMA_EXPERT_TRACE_ROUTING"])
                self.assertEqual(self.names(), [])

    def test_a_trace_alone_counts_nothing(self):
        result = self.complete()
        self.assertNotIn("Expert Usage", result.err)
        self.assertNotIn("Statistics", result.err)


if __name__ == "__main__":
    main()
