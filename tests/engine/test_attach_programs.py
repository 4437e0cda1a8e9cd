#!/usr/bin/env python3
"""`attach` to stock programs of every kind as they run: what is recorded is what the oracle models route, and the
program's answers are what they are without us."""

import contextlib
import json
import os
import random
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

from engines import CLIENTS, OLD, OLD_ENGINES, last_layer_is_whole
from harness import ENGINE, GPT_OSS, MIXTRAL, Server, environment, main, rpc_servers, wait_for
from test_attach import SOAK, AttachTestCase, expected

N_LOADS = 50 if SOAK else 5
TRIED = OLD if SOAK else [OLD[0], "b8179", OLD[-1]]
PROMPT = b"The quick brown fox"


def routed(oracle, prompt, n, release=None):
    """What answering evaluates: pairs (token, routed in the last layer)."""
    return [(token, asks or (release is not None and last_layer_is_whole(release, oracle)))
            for token, asks in oracle.completion(list(prompt), n)]


def start(command, **options):
    return subprocess.Popen([str(word) for word in command], env=environment(preload=False), stdout=subprocess.PIPE,
                            **options)


class Python(AttachTestCase):
    """Its ctypes, whose calls of llama_decode pass by us: prompt and generation are not known then."""

    def ask(self, process, oracle, prompt, n):
        process.stdin.write(f"{n} {' '.join(map(str, prompt))}\n".encode())
        process.stdin.flush()
        tokens = oracle.generate(prompt, n)
        self.assertEqual(json.loads(process.stdout.readline()),
                         {"prompt": tokens[:len(prompt)], "generated": tokens[len(prompt):]})

    def check(self, release, oracle):
        command = [sys.executable, CLIENTS / "ctypes_client.py", "--serve", OLD_ENGINES / release / "lib", oracle.path]
        with start(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            self.addCleanup(process.kill)
            self.assertEqual(process.stdout.readline(), b"{}\n")
            self.ask(process, oracle, b"not this", 5)
            for prompt, n in (b"one", 7), (b"and another", 30):
                self.attach(process.pid)
                self.ask(process, oracle, prompt, n)
                self.ask(process, oracle, prompt, n)
                statistics = self.detach(process.pid)
                self.assertNotIn("lost", statistics)
                self.assert_counts(statistics, oracle, 2 * routed(oracle, prompt, n, release))
                self.assert_phases(statistics, None, None)
                self.ask(process, oracle, b"nor this", 5)

    def test_each_release(self):
        for release in TRIED:
            with self.subTest(release):
                self.check(release, MIXTRAL)


class Node(AttachTestCase):
    def test_each_release(self):
        n = 600
        for release in TRIED:
            with self.subTest(release), start([shutil.which("node"), CLIENTS / "node-client.mjs",
                                               OLD_ENGINES / release / "node", MIXTRAL.path, PROMPT.decode(), n],
                                              stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
                self.addCleanup(process.kill)
                maps = Path(f"/proc/{process.pid}/maps")
                wait_for("the model", lambda: str(MIXTRAL.path.resolve()) in maps.read_text())
                self.attach(process.pid, "-r", self.path, "--tokens", "-f")
                out, err = process.communicate(timeout=120)
                tokens = MIXTRAL.generate(PROMPT, n)
                self.assertEqual((process.returncode, json.loads(out)),
                                 (0, {"prompt": tokens[:len(PROMPT)], "generated": tokens[len(PROMPT):]}), err)
                self.assertGreater(len(self.check_trace(self.path, MIXTRAL)), n // 3)


class Loading(AttachTestCase):
    def test_at_random_moments(self):
        """From the first one at which the engine is there."""
        choice = random.Random(19)
        for i in range(N_LOADS):
            with self.subTest(load=i):
                server = self.plain()
                with contextlib.closing(server.log), contextlib.closing(server.out):
                    pid = server.process.pid
                    wait_for("the engine", lambda: "libllama.so" in Path(f"/proc/{pid}/maps").read_text())
                    time.sleep(choice.random() / 2)
                    self.attach(pid)
                    with server:
                        answer = self.complete(server, "abc", 4)["content"]
                        statistics = self.detach(pid)
                self.assertEqual(answer, expected(GPT_OSS, "abc", 4))
                self.assertNotIn("lost", statistics)
                self.assert_counts(statistics, GPT_OSS, routed(GPT_OSS, b"abc", 4))
                self.assert_phases(statistics, 3, 3, statistics["warmup_tokens"])


class TwoModels(AttachTestCase):
    def test_a_draft(self):
        """Both models of a server that drafts are counted, each apart."""
        prompt, n = b"hello", 12
        with self.plain(MIXTRAL, "-md", GPT_OSS.path, "--spec-type", "draft-simple", "--spec-draft-n-max", 4, "-t", 1,
                        "-td", 1, slots=1) as server:
            pid = server.process.pid
            self.complete(server, "not this", 9)
            self.attach(pid)
            answer = self.complete(server, prompt.decode(), n)
            target, drafter = (json.loads(self.command("ctl", pid, "dump", "-", "--model", name))
                               for name in ("Oracle Mixtral 32x8", "Oracle GPT-OSS 36x128"))
            self.command("detach", pid)
            self.assertEqual(self.complete(server, prompt.decode(), n)["content"], answer["content"])
        self.assertEqual(answer["content"], expected(MIXTRAL, prompt.decode(), n))
        self.assertGreater(answer["timings"]["draft_n"], 0)
        self.assert_counts(target, MIXTRAL, routed(MIXTRAL, prompt, n))
        self.assertGreater(drafter["total_tokens"], len(prompt))
        self.assertEqual(drafter["total_activations"], sum(drafter["layer_tokens"].values()) * GPT_OSS.n_used)


class Router(AttachTestCase):
    """One llama-server that starts one of its kind for each model, and ends it."""

    def children(self, server):
        tasks = Path(f"/proc/{server.process.pid}/task").glob("*/children")
        return [int(word) for task in tasks for word in task.read_text().split()]

    def ask(self, server, model, oracle, prompt="router"):
        answer = server.post("/completion", model=model, prompt=prompt, n_predict=4, cache_prompt=False)
        self.assertEqual(answer["content"], expected(oracle, prompt, 4))

    def test_models_that_follow_each_other(self):
        models = self.folder / "models"
        models.mkdir()
        (models / "first.gguf").symlink_to(MIXTRAL.path)
        (models / "second.gguf").symlink_to(GPT_OSS.path)
        with Server("--models-dir", models, "--models-max", 1, "-t", 1, "-c", 1024, preload=False) as server:
            for model, oracle in ("first", MIXTRAL), ("second", GPT_OSS), ("first", MIXTRAL):
                self.ask(server, model, oracle, "not this")
                child, = self.children(server)
                path = self.folder / f"{model}.moetrace"
                self.attach(child, "--dormant")
                self.command("ctl", child, "start")
                self.ask(server, model, oracle)
                self.command("ctl", child, "record", path, "--tokens", "-f")
                self.ask(server, model, oracle, "this")
                statistics = json.loads(self.command("ctl", child, "dump", "-"))
                self.assert_counts(statistics, oracle, routed(oracle, b"router", 4) + routed(oracle, b"this", 4))
                if model == "second": # the others end with their process
                    self.command("detach", child)
            self.assertEqual(server.stop(), 0)
        for path, oracle in (("first", MIXTRAL), ("second", GPT_OSS)):
            ubatches = self.check_trace(self.folder / f"{path}.moetrace", oracle)
            self.assertEqual(sum(len(ubatch.tokens) for ubatch in ubatches), 7)


class Terminal(AttachTestCase):
    def read_until(self, master, *texts):
        """All of them, in this order."""
        seen = b""
        for text in texts:
            while text not in seen:
                self.assertTrue(select.select([master], [], [], 60)[0], seen)
                seen += os.read(master, 4096)
            seen = seen.split(text, 1)[1]

    def say(self, master, line):
        os.write(master, line + b"\n")
        self.read_until(master, line, b"[ Prompt:", b"> ")

    def test_a_conversation(self):
        """llama-cli, which waits for its user."""
        master, slave = os.openpty()
        self.addCleanup(os.close, master)
        with subprocess.Popen([ENGINE / "llama-cli", "-m", MIXTRAL.path, "-t", "1", "-c", "1024", "-n", "8"],
                              env=environment(preload=False), stdin=slave, stdout=slave,
                              stderr=subprocess.DEVNULL, start_new_session=True) as process:
            os.close(slave)
            self.addCleanup(process.kill)
            self.read_until(master, b"Loading model", b"> ")
            self.say(master, b"not this")
            self.attach(process.pid)
            self.say(master, b"hello")
            self.command("ctl", process.pid, "record", self.path, "--tokens")
            self.say(master, b"and again")
            statistics = self.detach(process.pid)
            self.say(master, b"nor this")
            os.write(master, b"/exit\n")
            self.assertEqual(process.wait(60), 0)
        tokens = [token for ubatch in self.check_trace(self.path, MIXTRAL) for token in ubatch.tokens]
        self.assertIn(b"and again", bytes(token.id for token in tokens))
        self.assertEqual(sum(token.generation for token in tokens), 7)
        self.assertEqual(statistics["generation_tokens"], 14)
        self.assertNotIn("lost", statistics)


class Devices(AttachTestCase):
    def test_a_server(self):
        """Whose layers are on devices that are reached by RPC."""
        for n_devices in 1, 2:
            with self.subTest(devices=n_devices), rpc_servers(self.folder, n_devices) as rpc, \
                 self.plain(MIXTRAL, "--rpc", rpc, "-ngl", 99) as server:
                pid = server.process.pid
                self.complete(server, "not this", 9)
                for prompt, n in ("abc", 4), ("one and another", 30):
                    self.attach(pid)
                    self.assertEqual(self.complete(server, prompt, n)["content"], expected(MIXTRAL, prompt, n))
                    statistics = self.detach(pid)
                    self.assertNotIn("lost", statistics)
                    self.assert_counts(statistics, MIXTRAL, routed(MIXTRAL, prompt.encode(), n))


if __name__ == "__main__":
    main()
