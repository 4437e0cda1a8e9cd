#!/usr/bin/env python3
"""What is made of the commands' tables of options: --help, the manual page, and what shells complete."""

import os
import re
import shlex
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

CLI = os.environ["EXPERT_TRACER_CLI"]
SHARE = Path(os.environ["EXPERT_TRACER_SHARE"])
MANUAL = SHARE / "man" / "man1" / "llama-expert-tracer.1"
BASH = SHARE / "bash-completion" / "completions" / "llama-expert-tracer"
ZSH = SHARE / "zsh" / "site-functions" / "_llama-expert-tracer"
FISH = SHARE / "fish" / "vendor_completions.d" / "llama-expert-tracer.fish"


def run(*command, status=0, **options):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, **options)
    if done.returncode != status:
        raise AssertionError(f"{command}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def commands():
    return re.findall(r"^  ([a-z]+) +\S", run(CLI, "help"), re.MULTILINE)


def options(command):
    """[(letter or "", name, placeholder of the value or "")] that --help has."""
    found = re.findall(r"^  (?:-(\w), |    )--([a-z-]+)(?: (\S+))?(?:  |$)", run(CLI, command, "--help"), re.MULTILINE)
    return [(letter, name, value) for letter, name, value in found if name != "help"]


def section(text, begin, end):
    start = text.index(begin)
    stop = text.find(end, start + len(begin))
    return text[start:] if stop < 0 else text[start:stop]


class Help(unittest.TestCase):
    def test_every_command(self):
        self.assertEqual(len(commands()), 23)
        for command in commands():
            text = run(CLI, command, "--help")
            self.assertTrue(text.startswith(f"usage: llama-expert-tracer {command} "), text)
            self.assertRegex(text, r"\n  -h, --help  +show this\n")
            self.assertEqual(run(CLI, "help", command), text)
            for line in text.splitlines():
                self.assertLessEqual(len(line), 80, line)
        self.assertEqual(len(options("run")), 19)
        self.assertEqual(len(options("cache")), 24)

    def test_every_option_is_taken(self):
        """An option that --help lists is no unknown one, and takes a value if --help says so."""
        for command in commands():
            for letter, name, value in options(command):
                for option in [f"--{name}"] + [f"-{letter}"] * bool(letter):
                    one_more = ["x"] if command == "serve" and not value else [] # it would serve
                    done = subprocess.run([CLI, command, option, *one_more], capture_output=True, text=True,
                                          stdin=subprocess.DEVNULL)
                    self.assertNotIn("unknown", done.stderr.replace("unknown command", ""), f"{command} {option}")
                    self.assertEqual("needs a value" in done.stderr, value != "", f"{command} {option}: {done.stderr}")

    def test_template(self):
        with tempfile.TemporaryDirectory() as folder:
            template = Path(folder) / "template"
            for text, why in (("@command nope\n", "@command nope: no such command"),
                              ("", "has only 0 commands of all")):
                template.write_text(text)
                done = subprocess.run([CLI, "help", "--manual", template], capture_output=True, text=True)
                self.assertEqual(done.returncode, 1)
                self.assertIn(why, done.stderr)
            done = subprocess.run([CLI, "help", "--manual", folder + "/absent"], capture_output=True, text=True)
            self.assertEqual(done.returncode, 1)
            self.assertIn("absent: No such file", done.stderr)


class Manual(unittest.TestCase):
    def test_every_option(self):
        text = MANUAL.read_text().replace("\\-", "-")
        for command in commands():
            its = section(text, f"\n.Ss {command}\n", "\n.Ss ")
            self.assertIn(f"\n.Nm\n.Cm {command}\n", text)
            for letter, name, value in options(command):
                place = f" Ar {value}" if value else ""
                self.assertIn(f"\n.It {f'Fl {letter}{place} , ' if letter else ''}Fl Fl {name}{place}\n", its, command)

    def test_it_can_be_read(self):
        self.assertNotIn("\n@", MANUAL.read_text())
        if not shutil.which("groff"):
            self.skipTest("no groff")
        done = subprocess.run(["groff", "-k", "-mdoc", "-Tutf8", "-ww", "-P-c", MANUAL], capture_output=True, text=True)
        if "can't find macro file" in done.stderr or "can't open" in done.stderr or "doc.tmac" in done.stderr:
            self.skipTest("no macros of manual pages")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        plain = re.sub(".\x08|\x1b\\[[0-9;]*m", "", done.stdout)
        for word in ("--rotate-size SIZE", "moe-cache-profile", "run [OPTION]... [--] PROGRAM"):
            self.assertIn(word, plain)
        if shutil.which("man"):
            done = subprocess.run(["man", "-l", "--warnings", MANUAL], capture_output=True, text=True,
                                  env={**os.environ, "MANPAGER": "cat", "LC_ALL": "C.UTF-8"})
            self.assertEqual(done.stderr, "")


class Bash(unittest.TestCase):
    def setUp(self):
        if not shutil.which("bash"):
            self.skipTest("no bash")
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        for name in ("a file", "trace"):
            (Path(folder.name) / name).touch()
        (Path(folder.name) / "tree").mkdir()

    def complete(self, *words):
        """What is offered for the last word. Words are those that readline makes: it parts them at `=`."""
        quoted = " ".join(shlex.quote(w) for w in ("llama-expert-tracer", *words))
        script = (f"source {shlex.quote(str(BASH))}; COMP_WORDS=({quoted}); COMP_CWORD={len(words)}\n"
                  "_llama_expert_tracer; printf '%s\\n' \"${COMPREPLY[@]}\"")
        return [line for line in run("bash", "--norc", "-c", script, cwd=self.folder).splitlines() if line]

    def test_script(self):
        run("bash", "-n", BASH)
        self.assertIn("_llama_expert_tracer", run("bash", "--norc", "-c",
                                                  f"source {shlex.quote(str(BASH))}; complete -p llama-expert-tracer"))
        if shutil.which("shellcheck"):
            run("shellcheck", "-s", "bash", BASH)

    def test_commands(self):
        self.assertEqual(self.complete("re"), ["report"])
        self.assertEqual(self.complete("c"), ["check", "ctl", "cache", "compare", "cat", "completion"])
        self.assertEqual(self.complete("--v"), ["--version"])
        self.assertEqual(set(self.complete("")), {*commands(), "--help", "--version"})
        self.assertEqual(self.complete("help", "me"), ["merge"])
        self.assertEqual(self.complete("completion", ""), ["bash", "zsh", "fish"])
        self.assertEqual(self.complete("nope", ""), [])

    def test_every_option(self):
        for command in commands():
            names = [f"--{name}" for _, name, _ in options(command)] + ["--help"]
            self.assertEqual(self.complete(command, "--"), names, command)

    def test_values(self):
        self.assertEqual(self.complete("run", "--capture", ""), ["auto", "graph", "eval-callback"])
        self.assertEqual(self.complete("show", "--color", "="), ["auto", "always", "never"])
        self.assertEqual(self.complete("show", "--color", "=", "al"), ["always"])
        self.assertEqual(self.complete("export", "-f", "hot"), ["hot-csv", "hot-json"])
        self.assertEqual(self.complete("show", "--top", ""), [])
        self.assertEqual(sorted(self.complete("merge", "-o", "")), ["a file", "trace", "tree"])

    def test_arguments(self):
        self.assertEqual(sorted(self.complete("show", "")), ["a file", "trace", "tree"])
        self.assertEqual(self.complete("show", "-l", "a"), ["a file"])
        self.assertEqual(self.complete("integrate", ""), ["tree"])
        self.assertIn("bash", self.complete("run", "bas"))

    def test_the_program_of_run_has_options_of_its_own(self):
        for before in (["sh"], ["--stats", "sh"], ["-o", "out", "sh"], ["--color", "=", "x", "sh"], ["--", "sh"],
                       ["--output", "=", "out", "sh"]):
            self.assertEqual(self.complete("run", *before, "--"), [], before)
            self.assertEqual(self.complete("run", *before, "tra"), ["trace"], before)
        self.assertIn("--stats", self.complete("run", "-o", "out", "--"))
        self.assertIn("--stats", self.complete("run", "--output", "=", "out", "--s"))


class Zsh(unittest.TestCase):
    def test_every_option(self):
        text = ZSH.read_text()
        self.assertTrue(text.startswith("#compdef llama-expert-tracer\n"))
        for command in commands():
            its = section(text, f"\n        {command})\n", "\n            ;;\n")
            self.assertIn(f"\n        '{command}:", text)
            for letter, name, value in options(command):
                row = f"'(-{letter} --{name})'{{-{letter}{'+' * bool(value)},--{name}" if letter else f"'--{name}"
                self.assertIn(f" {row}{'=' * bool(value)}", its, command)

    def test_script(self):
        if not shutil.which("zsh"):
            self.skipTest("no zsh")
        run("zsh", "-n", ZSH)


class Fish(unittest.TestCase):
    def test_every_option(self):
        lines = FISH.read_text().splitlines()
        for command in commands():
            self.assertTrue(any(f"-n __fish_use_subcommand -a {command} -d '" in line for line in lines), command)
            its = [line for line in lines if f"'__fish_seen_subcommand_from {command}'" in line]
            for letter, name, value in options(command):
                line, = (line for line in its if f" -l {name} " in line)
                self.assertEqual(f" -s {letter} " in line, letter != "")
                self.assertEqual(" -x" in line or " -r" in line, value != "")

    def test_script(self):
        if not shutil.which("fish"):
            self.skipTest("no fish")
        run("fish", "--no-execute", FISH)
        script = f"source {shlex.quote(str(FISH))}; complete -C 'llama-expert-tracer re'"
        self.assertIn("report", run("fish", "-c", script))


if __name__ == "__main__":
    unittest.main()
