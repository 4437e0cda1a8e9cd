#!/usr/bin/env python3
"""`attach` to stock programs of every kind as they run: what is recorded is what the oracle models route, and the
program's answer is what it is without us."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path

from engines import CLIENTS, OLD_ENGINES, OLD, RELEASES, STOCK
from harness import ENGINE, GPT_OSS, MIXTRAL, Server, environment, main, rpc_servers, run, wait_for
from test_attach import AttachTestCase

PROMPT = b"The quick brown fox"
N_TOKENS = 1500


def maps(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/maps").read_text()
    return ""


class Clients(AttachTestCase):
    """Programs that generate, whose output is known."""

    def check(self, command, oracle, n=N_TOKENS, phases=True):
        """Attached to as soon as the model is mapped."""
        process = subprocess.Popen([str(word) for word in command], env=environment(preload=False),
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(process.kill)
        wait_for("the model", lambda: str(oracle.path.resolve()) in maps(process.pid))
        time.sleep(0.3)
        self.attach(process.pid, "-r", self.path, "--tokens")
        out, err = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 0, err)
        tokens = oracle.generate(PROMPT, n)
        self.assertEqual(json.loads(out), {"prompt": tokens[:len(PROMPT)], "generated": tokens[len(PROMPT):]})
        ubatches = self.check_trace(self.path, oracle)
        self.assertGreater(len(ubatches), n // 3)
        return ubatches

    def test_node(self):
        release = OLD[-1]
        self.check([shutil.which("node"), CLIENTS / "node-client.mjs", OLD_ENGINES / release / "node", MIXTRAL.path,
                    PROMPT.decode(), N_TOKENS], MIXTRAL)


if __name__ == "__main__":
    main()
