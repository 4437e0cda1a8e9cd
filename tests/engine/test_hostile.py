#!/usr/bin/env python3
"""Names as input: a model and files that are called what no terminal should see,
and an environment that is not obeyed."""

import json
import os
import re
import shutil
import subprocess
import unicodedata
import unittest

from gguf import Gguf, rename
from harness import BUILD, COMMAND, LIBRARY, MIXTRAL, OLD_ENGINES, Result, environment, main, run
from traces import TraceTestCase

# an escape sequence that paints, one that sets the title, a return, a new line that looks like ours,
# C1 as UTF-8 and as a byte, bidi controls, a line separator, and what ends a script
EVIL = ("e\033[31mv\033]0;i\7l\r\n[EXPERT-TRACE] forged\x7f\x9b2J\u202egnp\u2066\u200f\u2028"
        "</script><img src=x onerror=alert(1)>&amp;")
RAW_C1 = b"\x9b1m"
SHOWN = {"\n", "\t"}  # of control characters: the lines' own
PROMPT = b"evil"
SETUID_EXAMPLE = BUILD / "tests" / "api" / "api-hottest-experts"


def is_hostile(character):
    is_control = unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp") and character not in SHOWN
    return is_control or 0xdc80 <= ord(character) <= 0xdcff


class Hostile(TraceTestCase):
    def setUp(self):
        super().setUp()
        self.model = self.folder / os.fsdecode(b"m\033[1m\n" + RAW_C1 + "\u202e.gguf".encode())
        rename(Gguf(MIXTRAL.path), self.model, "general.name", EVIL.encode() + b"x" * 100000)

    def complete(self, model, **trace):
        result = run("llama-completion", "-m", model, "-p", PROMPT.decode(), "-n", 3, "-no-cnv", "-t", 1,
                     trace=trace, cwd=self.folder)
        self.assertEqual(result.status, 0, result.err)
        return result

    def assert_harmless(self, text, what):
        found = {repr(character) for character in text if is_hostile(character)}
        self.assertEqual(found, set(), f"{what}: {text!r}"[:3000])

    def ours(self, result):
        """The lines that we said: the program has its own of the model."""
        return [line for line in result.said() if "EXPERT-TRACE" in line]

    def quiet(self, *arguments, status=0):
        done = subprocess.run([COMMAND, *map(str, arguments)], capture_output=True,
                              env=environment(preload=False), timeout=120)
        if status is not None:
            self.assertEqual(done.returncode, status, done.stderr)
        for what, text in ("output", done.stdout), ("errors", done.stderr):
            self.assert_harmless(text.decode(errors="surrogateescape"), f"{what} of {arguments[0]}")
        return done.stdout.decode(), done.stderr.decode()


class Names(Hostile):
    def files(self):
        return [path for path in self.folder.iterdir() if path != self.model]

    def test_a_hostile_model(self):
        result = self.complete(self.model, STATS=1, PER_LAYER=1, NAMES=1, OUTPUT=self.folder / "%m.json",
                               ROUTING=self.folder / "%m.moetrace")
        lines = self.ours(result)
        self.assertTrue(any("Statistics exported to" in line for line in lines))
        for line in lines:
            self.assert_harmless(line, "a line")
            self.assertFalse(line.startswith("[EXPERT-TRACE] forged"))
        self.assertEqual(len(self.files()), 2)
        for path in self.files():
            self.assert_harmless(path.name, "a file's name")
            self.assertRegex(path.name, r"^m-\[1m--1m-\.(json|moetrace)$")

        # machines read what it is
        (written,) = self.folder.glob("*.json")
        (trace,) = self.folder.glob("*.moetrace")
        self.assert_harmless(written.read_text(), "the statistics")
        name = self.stats(written)["model"]["name"]
        self.assertTrue((EVIL + "x" * 1000).startswith(name) and len(name) > len(EVIL), name)
        self.assertEqual(self.stats(written)["total_tokens"], len(PROMPT) + 2)
        self.commands(written, trace, name)

    def commands(self, written, trace, name):
        hostile = self.folder / os.fsdecode(b"t\033[1m\n" + RAW_C1 + "\u202e.moetrace".encode())
        shutil.copy(trace, hostile)
        statistics = self.folder / os.fsdecode(b"s\033[1m\r" + RAW_C1 + b".json")
        shutil.copy(written, statistics)
        other = self.folder / "other.json"
        other.write_text(json.dumps({**self.stats(written), "run": "2-2", "pid": 1,
                                     "model": {"name": EVIL[::-1], "architecture": EVIL}}))

        for arguments in (("info", hostile), ("info", trace, hostile), ("show", statistics),
                          ("show", "-l", statistics, other), ("report", hostile),
                          ("cache", hostile), ("predict", hostile), ("compare", hostile, statistics), ("dump", hostile),
                          ("export", "-f", "csv", hostile), ("cat", "-o", self.folder / "cat.moetrace", hostile),
                          ("pack", "-o", self.folder / "packed.moetrace", hostile), ("check", self.model),
                          ("integrate", hostile.parent / (hostile.name + "x"))):
            with self.subTest(arguments[0]):
                out, err = self.quiet(*arguments, status=None)
                self.assertTrue(out or err or arguments[0] == "cat")
        for arguments in (("info", "--json", hostile), ("show", "--json", statistics),
                          ("report", "--json", hostile), ("merge", statistics),
                          ("compare", "--json", hostile, statistics)):
            with self.subTest(arguments[0] + " --json"):
                out, _ = self.quiet(*arguments)
                self.assertIn(json.dumps(name)[1:50].lower(), json.dumps(json.loads(out)).lower())
        page = self.folder / "page.html"
        if "--html" in self.quiet("report",
                                  "--help")[0] and self.quiet("report", "--html", page, hostile, status=None)[1] == "":
            html = page.read_text()
            self.assertNotIn("<img src=x", html)
            self.assertEqual(len(re.findall("</script>", html)), len(re.findall("<script", html)))

        # what is wrong is told in a line
        for arguments in (("show", self.folder / os.fsdecode(b"no\n\033[1m" + RAW_C1)), ("merge", statistics, other),
                          ("cat", hostile, self.model), ("run", "\033[1m\n" + "x" * 300),
                          ("run", "--buffer", "1\033[1m\n", "true"), ("info", "--\033[1m\n"), ("\033[1m\n",),
                          ("pack", hostile, "-o", self.folder), ("show", self.model),
                          ("dump", "--model", self.model, hostile)):
            with self.subTest(arguments[0]):
                self.quiet(*arguments, status=None)

    def test_a_model_of_dots(self):
        for name, file in ("...gguf",
                           "-."), (".gguf", "-gguf"), ("..gguf", "-"), (".hidden.gguf", "-hidden"), ("a b.gguf", "a-b"):
            with self.subTest(name):
                shutil.copy(MIXTRAL.path.resolve(), self.folder / name)
                folder = self.folder / "out"
                folder.mkdir()
                self.complete(self.folder / name, OUTPUT=f"{folder}/%m", INTERVAL=0)
                self.assertEqual(os.listdir(folder), [file])
                shutil.rmtree(folder)
                (self.folder / name).unlink()

    def test_values_of_variables(self):
        result = self.complete(MIXTRAL.path, STATS="\033[1m\n[EXPERT-TRACE] forged" + "x" * 100000,
                               NAMES=os.fsdecode(RAW_C1), CAPTURE="\u202e" * 40000,
                               OUTPUT="\033[1m\n" + "y" * 100000, ROUTING="\r\033[1m" + "z" * 100000,
                               BUFFER="\x9b", SAMPLE="\u2066")
        lines = self.ours(result)
        for variable in "STATS", "NAMES", "CAPTURE", "BUFFER", "SAMPLE":
            self.assertEqual(sum(f"LLAMA_EXPERT_TRACE_{variable}=" in line for line in lines), 1, variable)
        failed = [line for line in lines if "cannot write " in line and ": File name too long. " in line]
        self.assertEqual(sorted("the routing trace " in line for line in failed), [False, True], lines)
        for line in lines:
            self.assert_harmless(line, "a line")
            self.assertLess(len(line), 5000)


class Privileges(TraceTestCase):
    """A program of another user's privileges does not do what its environment says."""

    def test_the_library_never_reads_the_environment_of_those(self):
        done = subprocess.run(["nm", "-D", "--undefined-only", LIBRARY], capture_output=True, text=True)
        if done.returncode != 0:
            self.skipTest("needs nm")
        wanted = {line.split()[-1].split("@")[0] for line in done.stdout.splitlines()}
        self.assertIn("secure_getenv", wanted)
        self.assertNotIn("getenv", wanted)

    @unittest.skipUnless(os.geteuid() == 0 and shutil.which("setpriv"), "needs root and setpriv")
    @unittest.skipUnless(SETUID_EXAMPLE.exists(), "not built: llama.cpp's headers or the engine 0.5.0 were not there")
    def test_a_setuid_program(self):
        self.folder.chmod(0o755)
        model = self.folder / "model.gguf"
        shutil.copy(MIXTRAL.path.resolve(), model)
        model.chmod(0o644)
        for setuid in False, True:
            with self.subTest(setuid=setuid):
                out = self.folder / f"out-{setuid}"
                out.mkdir()
                out.chmod(0o777)
                program = out / "program"
                shutil.copy(SETUID_EXAMPLE, program)
                program.chmod(0o4755 if setuid else 0o755)
                trace = {"OUTPUT": out / "stats.json", "ROUTING": out / "run.moetrace", "STATS": 1, "NAMES": 1}
                result = Result(subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", program,
                                                model, "evil", "2", "1"],
                                               env=environment(trace, preload=False),
                                               cwd=OLD_ENGINES / "0.5.0" / "lib", capture_output=True,
                                               stdin=subprocess.DEVNULL, timeout=120))
                if result.status in (126, 127) or "Permission denied" in result.err:
                    self.skipTest(f"another user cannot run what is here: {result.err}")
                self.assertEqual(result.status, 0, result.err)
                written = sorted(path.name for path in out.iterdir() if path != program)
                if setuid and os.statvfs(out).f_flag & os.ST_NOSUID:
                    self.skipTest("the file system of temporary files ignores setuid")
                self.assertEqual(written, [] if setuid else ["run.moetrace", "stats.json"])
                self.assertEqual("EXPERT-TRACE" in result.err, not setuid)


if __name__ == "__main__":
    main()
