#!/usr/bin/env python3
"""What the user asked for reaches the user: every line, once, never on standard output,
whatever the program does with its log."""

import os
import re
import subprocess
import unittest

from harness import CLIENTS, ENGINE, MIXTRAL, OLD_ENGINES, Server, TestCase, environment, main, run, strip_prefix

OLD_ENGINE = OLD_ENGINES / "0.5.0" / "lib"
OURS = re.compile(r"\[EXPERT-TRACE\] |=== Expert Usage|Total tokens: |Total expert activations: |  Expert +\d+: |"
                  r"Per-layer breakdown:|  Layer \d+:|    Expert +\d+: ")
PROMPT, N = "log", 3


def plain(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def ours(text):
    return [line for line in map(strip_prefix, plain(text).splitlines()) if OURS.match(line)]


class Logs(TestCase):
    def setUp(self):
        super().setUp()
        self.log_path = self.folder / "log"

    def expected(self, evaluated):
        counts, _ = MIXTRAL.counts(evaluated)
        total = [sum(row[e] for row in counts) for e in range(MIXTRAL.n_expert)]
        lines = ["[EXPERT-TRACE] Statistics enabled", "[EXPERT-TRACE] Routing is read by: graph",
                 "=== Expert Usage Statistics ===", f"Total tokens: {len(evaluated)}",
                 f"Total expert activations: {sum(total)}"]
        lines += [f"  Expert {e:3}: {n:8} activations ({100 * n / sum(total):.2f}%)" for e, n in enumerate(total)]
        lines.append("Per-layer breakdown:")
        for layer, row in enumerate(counts):
            lines.append(f"  Layer {layer}:")
            lines += [f"    Expert {e:3}: {n:8}" for e, n in enumerate(row)]
        return lines + [f"[EXPERT-TRACE] Statistics exported to {self.stats_path}"]

    def assert_said(self, err, out, evaluated, file=True):
        """Our lines are in err and, where there is one, in the log file; each of them once and in order."""
        expected = self.expected(evaluated)
        self.assertEqual(ours(err), expected)
        self.assertNotIn("EXPERT-TRACE", out)
        self.assertNotIn("Expert", out)
        if self.log_path.exists():
            self.assertEqual(ours(self.log_path.read_text(errors="replace")), expected if file else [])

    def complete(self, *options, **how):
        result = run("llama-completion", "-m", MIXTRAL.path, "-p", PROMPT, "-n", N, "-no-cnv", "-t", 1,
                     "--log-file", self.log_path, *options, trace=self.trace())
        self.assertEqual(result.status, 0, result.err)
        self.assert_said(result.err, result.out, MIXTRAL.completion(PROMPT.encode(), N), **how)
        return result

    def chat(self, *options, file=True):
        result = run("llama-cli", "-m", MIXTRAL.path, "-p", PROMPT, "-n", N, "-st", "-t", 1,
                     "--log-file", self.log_path, *options, trace=self.trace())
        self.assertEqual(result.status, 0, result.err)
        # the prompt is the template's: how long it is, and what it says, the program knows
        stats = self.stats()
        self.assertNotIn("EXPERT-TRACE", result.out)
        self.assertNotIn("Expert Usage", result.out)
        texts = [result.err] + ([self.log_path.read_text(errors="replace")] if file else [])
        for text in texts:
            lines = ours(text)
            self.assertEqual(lines[0], "[EXPERT-TRACE] Statistics enabled")
            self.assertEqual(lines[-1], f"[EXPERT-TRACE] Statistics exported to {self.stats_path}")
            self.assertEqual(len(lines), 7 + MIXTRAL.n_expert + MIXTRAL.n_layer * (1 + MIXTRAL.n_expert))
            self.assertIn(f"Total tokens: {stats['total_tokens']}", lines)


class Options(Logs):
    def test_completion(self):
        self.complete()

    def test_cli(self):
        self.chat()

    def test_verbosity(self):
        for options in (["-v"], ["--verbosity", 0], ["--verbosity", 1], ["--verbosity", 4]):
            with self.subTest(options):
                self.complete(*options)
                self.chat(*options)

    def test_colors(self):
        self.assertIn("\x1b[", self.complete("--log-colors", "on").err)
        self.complete("--log-colors", "off")

    def test_prefix(self):
        for options in (["--log-prefix"], ["--no-log-prefix"], ["--log-timestamps"],
                        ["--no-log-timestamps", "--no-log-prefix"]):
            with self.subTest(options):
                result = self.complete(*options)
        self.assertIn("\n=== Expert Usage Statistics ===\n", result.err)

    def test_disabled(self):
        # a paused logger drops what it gets: the lines go to stderr as they are
        result = self.complete("--log-disable", file=False)
        self.assertEqual(result.err.splitlines()[0], "[EXPERT-TRACE] Statistics enabled")
        self.chat("--log-disable", file=False)

    def test_jsonl(self):
        # this logger writes to standard output: the lines go to stderr as they are
        self.complete("--log-jsonl", file=False)
        self.chat("--log-jsonl", file=False)

    def test_names_reach_the_log(self):
        result = run("llama-completion", "-m", MIXTRAL.path, "-p", "n", "-n", 1, "-no-cnv", "-t", 1,
                     "--log-file", self.log_path, trace={"NAMES": 1})
        expected = 3 * MIXTRAL.n_used * MIXTRAL.n_layer
        for text in result.err, self.log_path.read_text():
            # the log file has what the model says as well, and there the first line may stand behind it
            lines = re.findall(r"\[EXPERT-TRACE\] Layer \d+, Expert \d+: blk\.\d+\.ffn_.*\.weight\n", text)
            self.assertEqual(len(lines), expected)


class Programs(Logs):
    def test_server(self):
        for options in [], ["-v"], ["--verbosity", 0], ["--log-disable"], ["--log-jsonl"]:
            with self.subTest(options):
                self.log_path.unlink(missing_ok=True)
                with Server("-m", MIXTRAL.path, "-t", 1, "-c", 512, "--log-file", self.log_path, *options,
                            trace=self.trace()) as server:
                    server.post("/completion", prompt=PROMPT, n_predict=N)
                    self.assertEqual(server.stop(), 0)
                    file = options not in (["--log-disable"], ["--log-jsonl"])
                    self.assert_said(server.err(), server.stdout(), MIXTRAL.completion(PROMPT.encode(), N), file=file)

    def test_server_says_while_it_runs(self):
        with Server("-m", MIXTRAL.path, "-t", 1, "-c", 512, trace={"STATS": 1}) as server:
            server.post("/completion", prompt=PROMPT, n_predict=N)
            self.assertEqual(server.said().count("[EXPERT-TRACE] Statistics enabled"), 1)

    def test_simple(self):
        # its callback shows errors alone
        result = run("llama-simple", "-m", MIXTRAL.path, "-n", N, PROMPT, trace=self.trace())
        self.assertEqual(result.status, 0, result.err)
        self.assert_said(result.err, result.out, MIXTRAL.completion(PROMPT.encode(), N))

    def test_bench(self):
        # its callback shows nothing
        result = run("llama-bench", "-m", MIXTRAL.path, "-p", 8, "-n", 0, "-r", 1, "-t", 1,
                     "--no-warmup", trace=self.trace())
        self.assertEqual(result.status, 0, result.err)
        lines = ours(result.err)
        self.assertEqual(len(lines), 7 + MIXTRAL.n_expert + MIXTRAL.n_layer * (1 + MIXTRAL.n_expert))
        self.assertEqual(lines.count("Total tokens: 8"), 1)
        self.assertNotIn("Expert", result.out)

    def test_closed_standard_error(self):
        result = run("/bin/sh", "-c", 'exec "$0" "$@" 2>&-', ENGINE / "llama-simple", "-m", MIXTRAL.path, "-n", N,
                     PROMPT, trace=self.trace())
        self.assertEqual(result.status, 0)
        self.assert_counts(self.stats(), MIXTRAL, MIXTRAL.completion(PROMPT.encode(), N))


class Callbacks(Logs):
    """A host with a log callback of its own gets the lines; stderr has them as well, as the callback may drop them."""

    def check(self, setter):
        result = run("/usr/bin/env", "python3", CLIENTS / "ctypes_scenarios.py", "callback", OLD_ENGINE, MIXTRAL.path,
                     setter, trace=self.trace())
        self.assertEqual(result.status, 0, result.err)
        expected = self.expected(MIXTRAL.completion(b"hear me", 4))
        heard = [line.removeprefix("level 2: ") for line in result.out.splitlines() if line.startswith("level 2: ")]
        self.assertEqual([line for line in heard if OURS.match(line)],
                         [line for line in expected if "Expert" in line or "EXPERT" in line])
        self.assertEqual(ours(result.err), expected)

    def test_llama_log_set(self):
        self.check("llama_log_set")

    def test_ggml_log_set(self):
        self.check("ggml_log_set")


class NobodyReads(TestCase):
    def test_a_closed_pipe_does_not_end_the_program(self):
        # llama-bench says nothing on stderr itself, once its backends are loaded
        reader, writer = os.pipe()
        program = subprocess.Popen([ENGINE / "llama-bench", "-m", MIXTRAL.path, "-p", "8", "-n", "2", "-r", "1",
                                    "-t", "1", "--no-warmup"],
                                   env=environment(self.trace()), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=writer)
        os.close(writer)
        while b"Statistics enabled" not in os.read(reader, 65536):
            pass
        os.close(reader)
        out, _ = program.communicate(timeout=120)
        self.assertEqual(program.returncode, 0)
        self.assertIn(b"tg2", out)
        self.assertEqual(self.stats()["total_tokens"], 10)


if __name__ == "__main__":
    main()
