#!/usr/bin/env python3
"""Tests of the command llama-expert-tracer, whose path is in EXPERT_TRACER_CLI.

With EXPERT_TRACER_ENGINE (a folder with stock programs of llama.cpp) those are checked too. With EXPERT_TRACER_SOAK=1
ten times as many damaged files are tried.
"""

import json
import math
import os
import random
import re
import shutil
import signal
import stat
import struct
import subprocess
import tempfile
import unittest
from pathlib import Path

CLI = os.environ.get("EXPERT_TRACER_CLI", "")
ENGINE = Path(os.environ.get("EXPERT_TRACER_ENGINE", "/nonexistent"))
LIST = os.environ.get("EXPERT_TRACER_LIST", "")
SOAK = 10 if os.environ.get("EXPERT_TRACER_SOAK") else 1
CC = shutil.which(os.environ.get("CC", "cc")) or shutil.which("cc")
NAMES = ("STATS", "NAMES", "PER_LAYER", "OUTPUT", "INTERVAL", "CAPTURE", "ROUTING", "BUFFER",
         "ROTATE_SIZE", "ROTATE_TIME", "SAMPLE", "HOTTEST", "QUIET")

STATISTICS = {
    "format": "llama-expert-tracer-statistics",
    "version": 1,
    "complete": True,
    "run": "1-1",
    "pid": 1,
    "engine": "llama.cpp 0.7.0, ggml 0.27.0",
    "capture": "eval-callback",
    "model": {"name": "Oracle", "architecture": "llama", "file": "/m/oracle.gguf"},
    "n_layer": 2,
    "n_expert": 4,
    "n_expert_used": 2,
    "total_tokens": 10,
    "prompt_tokens": 4,
    "generation_tokens": 6,
    "warmup_tokens": 2,
    "total_activations": 38,
    "layer_tokens": {"0": 10, "1": 9},
    "expert_activations": {"0": 8, "1": 20, "2": 0, "3": 10},
    "per_layer": {"0": {"0": 8, "1": 10, "2": 0, "3": 2}, "1": {"0": 0, "1": 10, "2": 0, "3": 8}},
}
MINIMAL = {"total_tokens": 3, "expert_activations": {"0": 4, "3": 2}}


def environment(**changes):
    keep = {k: v for k, v in os.environ.items()
            if not k.startswith(("LLAMA_EXPERT_", "LD_")) and k not in ("NO_COLOR", "COLUMNS")}
    keep.update({"LC_ALL": "C.UTF-8", **changes})
    return {k: v for k, v in keep.items() if v is not None}


def altered(**changes):
    return {**STATISTICS, **changes}


def imatrix(layers, tokens=None, general_type="imatrix", scale=1):
    """A GGUF as llama-imatrix writes it: layers[i] is the list of counts of layer i."""
    tensors = []
    for i, counts in layers.items():
        for projection in ("down", "gate", "up"):
            tensors.append((f"blk.{i}.ffn_{projection}_exps.weight.counts", [c * scale for c in counts]))
        if tokens:
            tensors.append((f"blk.{i}.ffn_gate_inp.weight.counts", [tokens]))
            tensors.append((f"blk.{i}.attn_q.weight.counts", [tokens]))

    def text(value):
        return struct.pack("<Q", len(value)) + value.encode()
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), 1)
    head += text("general.type") + struct.pack("<I", 8) + text(general_type)
    data = b""
    for name, counts in tensors:
        ne = (1, len(counts))
        head += text(name) + struct.pack("<IQQIQ", 2, *ne, 0, len(data))
        data += struct.pack(f"<{len(counts)}f", *counts)
        data += bytes(-len(data) % 32)
    return head + bytes(-len(head) % 32) + data


def elf(needed=(), folders=(), interpreter="/lib64/ld-linux-x86-64.so.2"):
    """A program of x86-64 that is all header: what it needs, where it looks for that, and what loads it."""
    strings, offsets = b"\0", []
    for text in (*needed, ":".join(folders)):
        offsets.append(len(strings))
        strings += text.encode() + b"\0"
    at, interp = 0x1000, interpreter.encode() + b"\0"
    strings_at = at + (len(offsets) + 3) * 16
    tags = [(1, offset) for offset in offsets[:-1]] + [(29, offsets[-1]), (5, strings_at), (10, len(strings)), (0, 0)]
    dynamic = b"".join(struct.pack("<qQ", *tag) for tag in tags)
    end = strings_at + len(strings)
    segments = ((1, 0, end), (2, at, len(dynamic)), (3, 0x800, len(interp)))
    head = b"\x7fELF\2\1\1" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, len(segments), 0, 0, 0)
    for kind, offset, size in segments:
        head += struct.pack("<IIQQQQQQ", kind, 5, offset, offset, offset, size, size, 8)
    return (head.ljust(0x800, b"\0") + interp).ljust(at, b"\0") + dynamic + strings


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="test-cli-"))

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def file(self, name, content):
        path = self.folder / name
        if isinstance(content, (dict, list)):
            content = json.dumps(content)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def cli(self, *args, status=0, stdin="", env=None, cwd=None):
        done = subprocess.run([CLI, *args], input=stdin, capture_output=True, text=True, errors="replace",
                              env=env or environment(), cwd=cwd, timeout=60)
        if status is not None:
            self.assertEqual(done.returncode, status, f"{args}: {done.stdout}{done.stderr}")
        return done

    def refuses(self, *args, status=1, says=()):
        done = self.cli(*args, status=status)
        for word in (says,) if isinstance(says, str) else says:
            self.assertIn(word, done.stderr)
        return done


class Usage(Case):
    def test_help(self):
        self.assertIn("merge", self.cli("--help").stdout)
        self.assertIn("merge", self.cli("help").stdout)
        for command in ("run", "check", "show", "merge", "info", "dump", "cat", "export", "integrate"):
            first = self.cli(command, "--help")
            self.assertTrue(first.stdout.startswith(f"usage: llama-expert-tracer {command} "))
            self.assertEqual(first.stderr, "")
            self.assertEqual(self.cli("help", command).stdout, first.stdout)
        self.assertRegex(self.cli("--version").stdout, r"^llama-expert-tracer \d+\.\d+\.\d+\n$")

    def test_errors(self):
        self.refuses(status=2, says="which command? run, check, ps, attach, detach, top, ctl, serve, report, "
                                    "cache, compare, predict, show, merge, info, dump, cat, export")
        self.refuses("shwo", status=2, says="did you mean 'show'")
        self.refuses("utterly", status=2, says="unknown command 'utterly'")
        self.refuses("help", "mrege", status=2, says="did you mean 'merge'")
        self.refuses("show", status=2, says="which file")
        self.refuses("merge", status=2, says="which files")
        self.refuses("check", status=2, says="which program")
        self.refuses("run", status=2, says="which program")
        self.refuses("run", "--", status=2, says="which program")
        self.refuses("show", "--nope", "x", status=2, says="--nope")
        self.refuses("show", "--json=1", "x", status=2, says="takes no value")
        self.refuses("show", "-q", "x", status=2, says="-q")
        self.refuses("show", "--top", status=2, says="needs a value")
        for value in ("0", "-1", "x", "1x", ""):
            self.refuses("show", "--top", value, "x", status=2, says="--top")
        self.refuses("show", "--sort", "name", "x", status=2, says="--sort")
        self.refuses("show", "--color", "blue", "x", status=2, says="--color")
        self.refuses("run", "--interval", "-1", "true", status=2, says="--interval")
        self.refuses("run", "--interval", "inf", "true", status=2, says="--interval")
        self.refuses("run", "--hottest", "1001", "true", status=2, says="--hottest")
        self.refuses("run", "--capture", "callback", "true", status=2, says="--capture")
        self.refuses("run", "-o", "-", "true", status=2, says="standard output")


PRELOAD = r"""
#include <stdio.h>
#include <stdlib.h>
__attribute__((constructor)) static void begin(void) {
    const char * report = getenv("TEST_REPORT");
    FILE * out = report == NULL ? NULL : fopen(report, "a");
    if (out == NULL) {
        return;
    }
    const char * names[] = { VARIABLES, "LD_PRELOAD" };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        fprintf(out, "%s%s", i == 0 ? "" : "|", getenv(names[i]) == NULL ? "-" : getenv(names[i]));
    }
    fputs("\n", out);
    fclose(out);
}
""".replace("VARIABLES", ", ".join(f'"LLAMA_EXPERT_TRACE_{name}"' for name in NAMES))


@unittest.skipUnless(CC, "needs a C compiler")
class WithPrograms(Case):
    @classmethod
    def compile(cls, name, source, *flags, compiler=None):
        """The path, or None where this machine cannot build such a thing."""
        path = cls.folder / name
        code = cls.folder / (name + ".c")
        code.write_text(source)
        done = subprocess.run([compiler or CC, "-o", path, code, *flags], capture_output=True)
        return str(path) if done.returncode == 0 else None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.library = cls.compile("libllama-expert-tracer.so", PRELOAD, "-shared", "-fPIC")
        cls.plain = cls.compile("plain", "int main(void) { return 0; }")

    def env(self, **changes):
        return environment(LLAMA_EXPERT_TRACER_LIBRARY=self.library, **changes)

    def script(self, name, body, interpreter="#!/bin/sh"):
        path = self.file(name, f"{interpreter}\n{body}\n")
        os.chmod(path, 0o755)
        return path


class Run(WithPrograms):
    def traced(self, *args, status=0, cwd=None, **changes):
        """What the preloaded library saw in `true`: a dictionary of the variables."""
        report = self.folder / "report"
        report.unlink(missing_ok=True)
        self.cli("run", *args, "true", status=status, cwd=cwd, env=self.env(TEST_REPORT=str(report), **changes))
        line = report.read_text().splitlines()[-1]
        return dict(zip(NAMES + ("PRELOAD",), (None if v == "-" else v for v in line.split("|"))))

    def test_variables(self):
        nothing = dict.fromkeys(NAMES)
        for args, expected in (
            ((),                               {"STATS": "1"}),
            (("--stats",),                     {"STATS": "1"}),
            (("--",),                          {"STATS": "1"}),
            (("--names",),                     {"NAMES": "1"}),
            (("--per-layer",),                 {"PER_LAYER": "1", "STATS": "1"}),
            (("--hottest", "0"),               {"HOTTEST": "0", "STATS": "1"}),
            (("-q", "-o", "/tmp/y"),           {"QUIET": "1", "OUTPUT": "/tmp/y", "STATS": "1"}),
            (("--interval", "2.5"),            {"INTERVAL": "2.5", "STATS": "1"}),
            (("--capture", "eval-callback"),   {"CAPTURE": "eval-callback", "STATS": "1"}),
            (("-o", "/tmp/y"),                   {"OUTPUT": "/tmp/y", "STATS": "1"}),
            (("-o", "/tmp/y", "--names"),        {"OUTPUT": "/tmp/y", "NAMES": "1", "STATS": "1"}),
            (("--output=/tmp/y", "--stats"),     {"OUTPUT": "/tmp/y", "STATS": "1"}),
            (("-o", "/tmp/y", "--per-layer"),    {"OUTPUT": "/tmp/y", "PER_LAYER": "1", "STATS": "1"}),
        ):
            seen = self.traced(*args)
            del seen["PRELOAD"]
            self.assertEqual(seen, {**nothing, "HOTTEST": "20", **expected}, args)

    def test_own_variables_stay(self):
        seen = self.traced("--per-layer", LLAMA_EXPERT_TRACE_OUTPUT="mine.json", LLAMA_EXPERT_TRACE_STATS="0")
        self.assertEqual((seen["OUTPUT"], seen["STATS"], seen["PER_LAYER"]), ("mine.json", "0", "1"))
        self.assertEqual(self.traced(LLAMA_EXPERT_TRACE_HOTTEST="")["HOTTEST"], "")
        seen = self.traced("-o", "/other", "--stats", LLAMA_EXPERT_TRACE_OUTPUT="mine.json",
                           LLAMA_EXPERT_TRACE_STATS="0")
        self.assertEqual((seen["OUTPUT"], seen["STATS"]), ("/other", "1"))

    def test_output_is_relative_to_here(self):
        here = os.path.realpath(self.folder)
        self.assertEqual(self.traced("-o", "a-%p.json", cwd=here)["OUTPUT"], here + "/a-%p.json")
        odd = Path(here) / "100%pure"
        odd.mkdir()
        self.assertEqual(self.traced("-o", "a.json", cwd=odd)["OUTPUT"], "a.json")

    def test_a_file_that_cannot_be_is_told_before_the_program_begins(self):
        self.file("file", "")
        (self.folder / "folder").mkdir(exist_ok=True)
        missing = self.folder / "missing"
        for path, says in ((missing / "x", (f"to the folder {missing}: No such file", "Make it, or name another file")),
                           (self.folder / "file" / "x", "Not a directory"),
                           (self.folder / "folder", "a directory: name a file in it"),
                           ("/proc/x" if os.geteuid() else missing / "%p", "nothing can be written to the folder")):
            for option, variable in ("--output", "OUTPUT"), ("--routing", "ROUTING"):
                variables = {f"LLAMA_EXPERT_TRACE_{variable}": str(path)}
                for args, changes, source in (((option, str(path)), {}, f"{option} "),
                                              ((), variables, f"{variable}=")):
                    done = self.cli("run", *args, "sh", "-c", "echo began", status=1, env=self.env(**changes))
                    self.assertEqual(done.stdout, "")
                    for what in (f"{source}{path}: ", says) if isinstance(says, str) else (f"{source}{path}: ", *says):
                        self.assertIn(what, done.stderr)

    def test_values_that_the_library_would_not_take(self):
        for option, values in (("--buffer", ("1", "1023KiB", "999999TiB", "1e9", "64 MiB", "-1", "")),
                               ("--sample", ("1.5", "2.", "-1", "1e3", "2k", "x", "")),
                               ("--rotate-size", ("1", "1000", "x")), ("--rotate-time", ("0.5", "2y", "1hm")),
                               ("--interval", ("0.05", "86401", "1s", "nan", "0x1"))):
            for value in values:
                done = self.cli("run", option, value, "sh", "-c", "echo began", status=2, env=self.env())
                self.assertIn(f"{option} needs", done.stderr)
                self.assertEqual(done.stdout, "")
        for option, values in (("--buffer", ("1MiB", "2.5m", "1048576", "0")), ("--sample", ("1", "1000", "0")),
                               ("--rotate-size", ("1MiB", "1.5GB", "0")),
                               ("--rotate-time", ("1", "1.5h", "90min", "0")),
                               ("--interval", ("0", "0.1", "86400", ".5"))):
            for value in values:
                self.assertEqual(self.traced(option, value)[option[2:].replace("-", "_").upper()], value)
        done = self.cli("run", "-o", "x", "-r", "x", "true", status=2, env=self.env())
        self.assertIn("--output and --routing are one file, x: name two", done.stderr)

    def test_preload(self):
        self.assertEqual(self.traced()["PRELOAD"], self.library)
        self.assertEqual(self.traced(LD_PRELOAD="")["PRELOAD"], self.library)
        other = self.compile("other.so", "", "-shared", "-fPIC")
        self.assertEqual(self.traced(LD_PRELOAD=other)["PRELOAD"], f"{self.library}:{other}")
        both = f"{other} {self.library}"
        self.assertEqual(self.traced(LD_PRELOAD=both)["PRELOAD"], both)

    def test_library(self):
        done = self.cli("run", "true", status=1, env=environment(LLAMA_EXPERT_TRACER_LIBRARY="/not/there.so"))
        self.assertIn("/not/there.so", done.stderr)
        spaced = self.folder / "a folder"
        spaced.mkdir()
        shutil.copy(self.library, spaced)
        path = spaced / Path(self.library).name
        done = self.cli("run", "true", status=1, env=environment(LLAMA_EXPERT_TRACER_LIBRARY=str(path)))
        self.assertIn("space", done.stderr)
        self.assertIn("ln -s", done.stderr)
        link = self.folder / "link.so"
        link.symlink_to(path)
        self.cli("run", "true", env=environment(LLAMA_EXPERT_TRACER_LIBRARY=str(link)))
        self.cli("run", "true", env=environment(LLAMA_EXPERT_TRACER_LIBRARY="link.so"), cwd=self.folder)

    def test_library_near_the_command(self):
        for folders in (("here", "here"), ("tree/bin", "tree/lib")):
            bin_, lib = (self.folder / f for f in folders)
            bin_.mkdir(parents=True, exist_ok=True)
            lib.mkdir(parents=True, exist_ok=True)
            shutil.copy(CLI, bin_ / "let")
            shutil.copy(self.library, lib)
            done = subprocess.run([bin_ / "let", "run", "sh", "-c", "echo $LD_PRELOAD"], capture_output=True, text=True,
                                  env=environment())
            self.assertEqual(done.stdout.strip(), os.path.realpath(lib / Path(self.library).name), done.stderr)

    def test_program_stays_what_it_is(self):
        done = self.cli("run", "sh", "-c", 'cat; printf "%s," "$@"; echo err >&2; exit 7', "x",
                        "a b", "--help", "-o", "", status=7, stdin="in", env=self.env())
        self.assertEqual((done.stdout, done.stderr), ("ina b,--help,-o,,", "err\n"))
        self.cli("run", "sh", "-c", "kill -TERM $$", status=-signal.SIGTERM, env=self.env())
        with subprocess.Popen([CLI, "run", "sh", "-c", "echo $$"], stdout=subprocess.PIPE, env=self.env()) as child:
            self.assertEqual(int(child.stdout.read()), child.pid)

    def test_not_started(self):
        text = self.file("text", "hello")
        for program, status, word in (("no-such-program", 127, "PATH"),
                                      ("./no/such", 127, "no such program"), ("", 127, "empty"),
                                      (text, 126, "not executable"), (str(self.folder), 126, "directory"),
                                      (text + "/x", 127, "text/x")):
            done = self.cli("run", program, status=status, env=self.env())
            self.assertIn(word, done.stderr)

    def test_static_is_refused(self):
        static = self.compile("static", "int main(void) { return 0; }", "-static")
        if static is None:
            self.skipTest("no static C library")
        done = self.cli("run", static, status=1, env=self.env())
        self.assertIn("statically linked", done.stderr)
        wrapper = self.script("wrapper-of-static", f"exec {static}")
        done = self.cli("run", wrapper, env=self.env())
        self.assertIn("warning", done.stderr)

    def test_in_vain_is_said(self):
        self.assertIn("warning", self.cli("run", self.plain, env=self.env()).stderr)

    def test_script(self):
        done = self.cli("run", self.script("script", "echo $LD_PRELOAD"), env=self.env())
        self.assertEqual(done.stdout.strip(), self.library)
        bare = self.script("bare", "echo $LD_PRELOAD", interpreter="")
        self.assertEqual(self.cli("run", bare, env=self.env()).stdout.strip(), self.library)

    def test_unreadable_program_runs(self):
        path = self.folder / "unreadable"
        shutil.copy(self.plain, path)
        path.chmod(0o111)
        self.cli("run", str(path), env=self.env())


class Check(WithPrograms):
    def check(self, program, status, *words, env=None):
        done = self.cli("check", str(program), status=status, env=env or self.env())
        for word in words:
            self.assertIn(word, done.stdout + done.stderr)
        return done.stdout

    def test_not_there(self):
        self.check("no-such-program", 2, "PATH")
        self.check(self.folder, 2, "directory")
        self.check(self.file("text", "x"), 2, "not executable")

    def test_plain(self):
        self.check(self.plain, 1, "cannot be traced", "nothing of llama.cpp")

    def test_loads_and_starts(self):
        loads = self.compile("loads", '#include <dlfcn.h>\nint main(void) { return dlopen("x", 1) != 0; }', "-ldl")
        self.check(loads, 0, "may be traced", "if it loads one")
        starts = self.compile("starts", '#include <stdlib.h>\nint main(void) { return system("true"); }')
        self.check(starts, 0, "may be traced", "if it starts")

    def test_static(self):
        static = self.compile("static", "int main(void) { return 0; }", "-static")
        pie = self.compile("static-pie", "int main(void) { return 0; }", "-static-pie")
        inside = self.compile("static-llama",
                              'const char * volatile x = "ffn_moe_topk"; int main(void) { return !x; }', "-static")
        if None in (static, inside):
            self.skipTest("no static C library")
        self.check(static, 1, "statically linked")
        self.check(inside, 1, "BUILD_SHARED_LIBS")
        if pie:
            self.check(pie, 1, "statically linked")

    def test_llama_inside(self):
        inside = self.compile("inside", 'const char * volatile x = "ffn_moe_topk"; int main(void) { return !x; }')
        self.check(inside, 1, "linked into the program", "BUILD_SHARED_LIBS")

    def test_llama_inside_a_library(self):
        """What calls itself through the linker can be traced, as an addon of Node; what does not cannot."""
        code = ('const char * volatile x = "ffn_moe_topk";\n'
                "int ggml_backend_sched_graph_compute_async(void) { return !x; }\n"
                "int llama_decode(void) { return ggml_backend_sched_graph_compute_async(); }")
        addon = self.compile("addon.node", code, "-shared", "-fPIC", "-Wl,-soname,addon.node")
        os.chmod(addon, 0o644)
        self.check(addon, 0, "may be traced", "a library with llama.cpp inside")
        direct = ('\n__attribute__((visibility("protected"))) void ggml_backend_sched_synchronize(void) {}\n'
                  "void f(void) { ggml_backend_sched_synchronize(); }")
        partly = self.compile("partly.node", code + direct, "-shared", "-fPIC", "-Wl,-soname,partly.node")
        self.check(partly, 1, "calls it directly")
        for name, flag in (("direct", "-Wl,-Bsymbolic"), ("symbolic", "-Wl,-z,now,-Bsymbolic-functions")):
            addon = self.compile(f"{name}.node", code, "-shared", "-fPIC", f"-Wl,-soname,{name}.node", flag)
            self.check(addon, 1, "a library with llama.cpp inside", "calls it directly",
                       "BUILD_SHARED_LIBS", "integrate")
            program = self.compile(f"uses-{name}",
                                   "int llama_decode(void); int main(void) { return llama_decode(); }", addon,
                                   "-Wl,-rpath,$ORIGIN")
            self.check(program, 1, "linked into its library", "integrate")
            self.assertIn("nothing will be traced", self.cli("run", program, status=None, env=self.env()).stderr)

    def test_containers(self):
        """The client of a container service, by itself and behind a script: the tracer does not come there."""
        client = self.folder / "docker"
        shutil.copy(self.plain, client)
        path = f"{self.folder}:{os.environ['PATH']}"
        self.check(client, 1, "in containers", "LD_PRELOAD", "inside the container")
        self.assertIn("inside the container",
                      self.cli("run", "docker", "run", "x", status=1, env=self.env(PATH=path)).stderr)
        for i, body in enumerate(("docker run x", "exec docker run x", "cd / && sudo docker run x",
                                  "if true; then\n  /usr/bin/podman run x\nfi")):
            self.check(self.script(f"starts{i}", body), 1, "in a container", "inside the container")
        self.check(self.script("bash", "docker run x", "#!/usr/bin/env bash"), 1, "in a container")
        for i, body in enumerate(("echo docker run x", "# docker run x", "dockers run x", "")):
            self.check(self.script(f"none{i}", body), 0, "a script")
        self.check(self.script("python", "docker run x", "#!/usr/bin/env python3"), 0, "a script")
        done = self.cli("run", self.script("runs", "docker run x"), env=self.env(PATH=path))
        self.assertIn("warning", done.stderr)

    def test_this_command(self):
        """What it searches programs for is in itself."""
        self.check(CLI, 0, "may be traced", "it is this command")

    def test_tracer_inside(self):
        """A static program that has both is traced with the variables alone."""
        inside = self.compile("static-traced", '#include <stdio.h>\n#include <stdlib.h>\n'
                              'const char * volatile a = "ffn_moe_topk";\n'
                              'const char * volatile b = "llama-expert-tracer is built in";\n'
                              'int main(void) { puts(getenv("LLAMA_EXPERT_TRACE_STATS")); return a == b; }', "-static")
        if inside is None:
            self.skipTest("no static C library")
        self.check(inside, 0, "can be traced", "with the tracer built in")
        self.assertEqual(self.cli("run", inside, env=self.env()).stdout, "1\n")

    def test_libraries(self):
        """A libllama and libggml that only look like them."""
        folder = self.folder
        ggml = self.compile("libggml-base.so.0.27.0", "int ggml_backend_sched_graph_compute_async(void) { return 0; }",
                            "-shared", "-fPIC", "-Wl,-soname,libggml-base.so.0")
        (folder / "libggml-base.so.0").symlink_to(ggml)
        llama = self.compile("libllama.so.0.7.0", "int ggml_backend_sched_graph_compute_async(void);\n"
                             "int llama_decode(void) { return ggml_backend_sched_graph_compute_async(); }",
                             "-shared", "-fPIC", "-Wl,-soname,libllama.so.0", "-Wl,-rpath,$ORIGIN", ggml)
        (folder / "libllama.so.0").symlink_to(llama)
        code = "int llama_decode(void); int main(void) { return llama_decode(); }"
        link = ("-L", str(folder), "-Wl,-rpath-link," + str(folder), llama, ggml)
        lost = self.compile("lost", code, *link)
        found = self.compile("found", code, *link, "-Wl,-rpath,$ORIGIN")
        self.check(lost, 1, "does not start here", "libllama.so.0", "LD_LIBRARY_PATH")
        self.check(lost, 0, "can be traced", env=self.env(LD_LIBRARY_PATH=str(folder)))
        out = self.check(found, 0, "can be traced")
        self.assertIn(f"0.7.0  {os.path.realpath(llama)}", out)
        self.assertIn(f"0.27.0  {os.path.realpath(ggml)}", out)
        self.assertNotIn("fork", out)
        # the function that ik_llama.cpp's libggml has, and llama.cpp's has not
        self.compile("libggml-base.so.0.27.0", "int ggml_backend_sched_graph_compute_async(void) { return 0; }\n"
                     "int ggml_moe_up_gate(void) { return 0; }", "-shared", "-fPIC", "-Wl,-soname,libggml-base.so.0")
        self.check(found, 0, "can be traced", "fork       ik_llama.cpp")

    def test_llama_with_ggml_inside(self):
        llama = self.compile("libllama.so", "int llama_decode(void) { return 0; }",
                             "-shared", "-fPIC", "-Wl,-soname,libllama.so")
        program = self.compile("merged", "int llama_decode(void); int main(void) { return llama_decode(); }", llama,
                               "-Wl,-rpath," + str(self.folder))
        self.check(program, 1, "has ggml inside")

    def test_other_machines(self):
        other = self.compile("other", "int main(void) { return 0; }", "-m32")
        if other:
            self.check(other, 1, "32-bit", "build the tracer")
        if shutil.which("musl-gcc"):
            self.check(self.compile("musl", "int main(void) { return 0; }", compiler="musl-gcc"), 1, "musl")

    def test_library_and_loader(self):
        os.chmod(self.library, 0o755)
        named = self.compile("libnamed.so", "", "-shared", "-fPIC", "-Wl,-soname,libnamed.so")
        self.check(named, 1, "shared library")
        loader = Path("/lib64/ld-linux-x86-64.so.2")
        if loader.exists():
            self.check(loader, 0, "dynamic loader")

    def test_scripts(self):
        def script(name, text):
            path = self.file(name, text)
            os.chmod(path, 0o755)
            return path
        self.check(script("plain-script", "#!/usr/bin/env python3\n"), 0, "may be traced", "/usr/bin/env")
        self.check(script("bare-script", "echo\n"), 0, "/bin/sh")
        self.check(script("wrapper", f'#!/bin/sh\n  exec "{self.plain}" "$@"\n'), 1, "starts", self.plain)
        self.check(script("two", f"#!/bin/sh\nexec {self.plain}\nexec {self.plain}\n"), 0, "a script")
        self.check(script("computed", "#!/bin/sh\nexec $HOME/x\n"), 0, "a script")
        self.check(script("itself", f"#!/bin/sh\nexec {self.folder}/itself\n"), 0, "a script")
        self.check(script("binary", b"\0\1\2"), 1, "neither")
        self.check(script("empty", ""), 1, "neither")

    @unittest.skipUnless(os.getuid() == 0, "needs root")
    def test_setuid(self):
        for name, mode in (("setuid", stat.S_ISUID), ("setgid", stat.S_ISGID)):
            path = self.folder / name
            shutil.copy(self.plain, path)
            os.chown(path, 65534, 65534)
            path.chmod(0o755 | mode)
            if os.statvfs(path).f_flag & os.ST_NOSUID or "NoNewPrivs:\t1" in Path("/proc/self/status").read_text():
                self.skipTest("setuid means nothing here")
            self.check(path, 1, name, "ignores LD_PRELOAD")
            self.cli("run", str(path), status=1, env=self.env())

    def test_without_a_library(self):
        env = environment(LLAMA_EXPERT_TRACER_LIBRARY="/not/there.so")
        self.check(self.plain, 1, "warning", "/not/there.so", env=env)

    def test_damaged_programs(self):
        whole = Path(self.plain).read_bytes()
        chance = random.Random(1)
        path = self.folder / "damaged"
        for i in range(40 * SOAK):
            bytes_ = bytearray(whole[:chance.choice((len(whole), len(whole), chance.randrange(1200)))])
            for _ in range(chance.randrange(1, 12)):
                if bytes_:
                    at = chance.randrange(min(len(bytes_), 0x800))
                    bytes_[at] = chance.choice((0, 1, 0x7f, 0xff, chance.randrange(256)))
            path.write_bytes(bytes_)
            path.chmod(0o755)
            done = self.cli("check", str(path), status=None, env=self.env())
            self.assertIn(done.returncode, (0, 1, 2), done.stderr)

    def test_nothing_of_the_program_is_started(self):
        """Not what it names as its loader either, whatever that is called."""
        mark = self.folder / "mark"
        evil = self.script("ld-evil", f"touch {mark}\nexec sleep 1000")
        program = self.compile("with-evil-loader", "int main(void) { return 0; }", "-Wl,--dynamic-linker=" + evil)
        self.check(program, 0, "not known", evil)
        evil = self.compile("ld-evil.so", f'#include <stdlib.h>\nint main(void) {{ return system("touch {mark}"); }}')
        program = self.compile("with-evil-loader", "int main(void) { return 0; }", "-Wl,--dynamic-linker=" + evil)
        self.check(program, 0, "not known", evil)
        self.assertFalse(mark.exists())

    @unittest.skipUnless(os.uname().machine == "x86_64", "made for x86-64")
    def test_programs_made_to_mislead(self):
        """They come to an end, and to no other."""
        def check(name, *words, **made):
            path = self.file(name, elf(**made))
            os.chmod(path, 0o755)
            done = self.cli("check", path, status=None, env=self.env())
            self.assertIn(done.returncode, (0, 1, 2), done.stderr)
            for word in words:
                self.assertIn(word, done.stdout)
        origin = ["$ORIGIN"]
        os.mkfifo(self.folder / "fifo.so")
        (self.folder / "big.so").write_bytes(elf())
        os.truncate(self.folder / "big.so", 1 << 41)
        for i in range(1100):
            self.file(f"chain{i}.so", elf([f"chain{i + 1}.so", f"chain{i - 1}.so"], origin))
        check("chain", "followed to the end", needed=["chain0.so"], folders=origin)
        self.file("ring1.so", elf(["ring2.so"], origin))
        self.file("ring2.so", elf(["ring1.so", "lost.so"], origin))
        check("ring", "will not find lost.so", needed=["ring1.so", "ring2.so"], folders=["${ORIGIN}", *origin])
        check("many", "followed to the end", needed=[f"{i}.so" for i in range(60000)],
              folders=[f"/{i}" for i in range(9000)])
        check("deep", needed=["x.so"], folders=["$ORIGIN/" * 900] * 9000)
        check("fifo", "will not find fifo.so", needed=["fifo.so"], folders=origin)
        check("big", needed=["big.so", "libc.so.6"], folders=origin)
        check("fifo-loader", interpreter=str(self.folder / "fifo.so"))
        check("folder-loader", "not known", interpreter="/tmp")
        check("own-loader", "not known", interpreter=str(self.folder / "own-loader"))

    def test_libraries_as_the_loader_finds_them(self):
        """What is read is what `ld.so --list` of trusted programs says;
        that one's answer for a link is the link's folder's."""
        programs = [shutil.which(name) for name in ("sh", "python3", "ld", "git", "cmake", "openssl")]
        programs += sorted(ENGINE.glob("llama-s*")) if ENGINE.exists() else []
        for program in [os.path.realpath(path) for path in programs if path]:
            loader = re.search(rb"/[\x21-\x7e]*/ld-linux-[\x21-\x7e]*\0", Path(program).read_bytes())
            if not loader:
                continue
            listed = subprocess.run([loader[0][:-1], "--list", program], capture_output=True, text=True,
                                    env=environment()).stdout
            want = dict(re.findall(r"^\t(\S+) => (\S+) \(", listed, re.MULTILINE))
            done = subprocess.run([LIST, program], capture_output=True, text=True, env=environment())
            have = dict(line.split(" => ") for line in done.stdout.splitlines()
                        if not re.search(r"/ld-linux\S*$", line))
            self.assertEqual((done.returncode, have), (0, {k: v for k, v in want.items() if "/" not in k}), program)

    def test_system_libraries_of_another_release(self):
        """One that asks for a version that its library does not have does not start."""
        old = self.compile("libversioned.so", "int f(void) { return 1; }", "-shared",
                           "-fPIC", "-Wl,-soname,libversioned.so",
                           "-Wl,--version-script=" + self.file("new.map", "V_2 { global: f; };"))
        program = self.compile("asks-for-v2", "int f(void); int main(void) { return f(); }", old, "-Wl,-rpath,$ORIGIN")
        self.check(program, 1, "nothing of llama.cpp")
        self.compile("libversioned.so", "int f(void) { return 1; }", "-shared", "-fPIC", "-Wl,-soname,libversioned.so",
                     "-Wl,--version-script=" + self.file("old.map", "V_1 { global: f; };"))
        self.check(program, 1, "does not start here", "has no version V_2")

    @unittest.skipUnless((ENGINE / "llama-cli").exists(), "needs stock programs of llama.cpp")
    def test_engine(self):
        for path in sorted(ENGINE.glob("llama-*")):
            if path.name in ("llama-gguf", "llama-gguf-hash"):
                continue
            out = self.check(path, 0, "can be traced")
            self.assertRegex(out, r"llama\.cpp +\d+\.\d+\.\d+ .*libllama\.so")
            self.assertRegex(out, r"ggml +\d+\.\d+\.\d+ .*libggml-base\.so")


class Show(Case):
    def rows(self, *args):
        lines = self.cli("show", *args).stdout.splitlines()
        begin = next(i for i, line in enumerate(lines) if line.lstrip().startswith("rank"))
        return [line.split() for line in lines[begin + 1:]]

    def test_table(self):
        path = self.file("a.json", STATISTICS)
        out = self.cli("show", path).stdout
        for word in ("Oracle (llama)", "/m/oracle.gguf", "0.27.0", "10: 4 prompt, 6 generation; not counted: 2 warm-up",
                     "2, 2 of them with experts", "4, 2 for each token", "38", "yes", "1 of 4 experts", "52.63%"):
            self.assertIn(word, out)
        rows = self.rows(path)
        self.assertEqual([row[1] for row in rows], ["1", "3", "0", "2"])
        self.assertEqual(rows[0][:5], ["1", "1", "20", "52.63%", "52.63%"])
        self.assertEqual(rows[1][4], "78.95%")
        self.assertNotIn("\033", out)

    def test_entropy_of_layers_comes_first(self):
        """Then the sum over layers, whose experts have nothing in common, as such."""
        text = self.cli("show", self.file("a.json", STATISTICS)).stdout
        lines = text.splitlines()
        entropies = [-sum(x / sum(its) * math.log2(x / sum(its)) for x in its) / 2 for its in ((8, 10, 2), (10, 8))]
        at = next(i for i, line in enumerate(lines) if line.startswith("entropy"))
        self.assertTrue(lines[at].startswith(f"entropy     {sum(entropies) / 2:.3f}, mean of 2 layers "))
        self.assertEqual(lines[at + 1].strip(), f"layer 0: {entropies[0]:.3f}, layer 1: {entropies[1]:.3f}")
        self.assertRegex(lines[at + 2], r"^ +0\.9\d\d if as many tokens used all experts alike$")
        self.assertIn("nothing in common", lines[at + 3])
        self.assertRegex(text, r"\nentropy +0\.734 of the sum ")
        many = {str(layer): {"0": 10, "1": 10 + layer, "2": 10 + 2 * layer, "3": 10} for layer in range(12)}
        text = self.cli("show", self.file("many.json", altered(per_layer=many, layer_tokens={}, n_layer=12,
                                                               expert_activations={}, total_activations=0))).stdout
        self.assertRegex(text, r"\n +least even: layer 11: [\d.]+, layer 10: [\d.]+, layer 9: ")
        self.assertRegex(text, r"\n +most even: +layer 2: [\d.]+, layer 1: [\d.]+, layer 0: 1\.000\n")
        self.assertEqual([line for line in text.splitlines() if len(line) > 80], [])
        one = self.cli("show", self.file("m.json", MINIMAL)).stdout
        self.assertNotIn("nothing in common", one)
        self.assertEqual(one.count("entropy"), 1)

    def test_files_of_other_commands(self):
        """Each names the command that reads it, whatever it was given to."""
        import_it = "make a routing trace of it with `import`"
        files = {
            "trace":   (b"\x89MOET\r\n\x1a" + bytes(90), "a routing trace: use `report` or `info`"),
            "counts":  (json.dumps(STATISTICS).encode(), "statistics: use `show`, `report`, `compare` or `merge`"),
            "small":   (json.dumps(MINIMAL).encode(), "statistics: use `show`"),
            "npy":     (b"\x93NUMPY\1\0v\0{}" + bytes(90), f"an npy array: {import_it}"),
            "csv":     (b"ubatch,token,context,sequence,life,position,phase,\n", f"a csv export: {import_it}"),
            "jsonl":   (b'{"ubatch":0,"token":1}\n', f"a jsonl export: {import_it}"),
            "route":   (b"# route_trace v1\n", f"a route trace of BigMoeOnEdge: {import_it}"),
            "pairs":   (b"layer,expert\n0,1\n", f"a moe-trace: {import_it}"),
            "sglang":  (b'{"logical_count": [[1, 2]]}', "counts of SGLang: make statistics of them with `import`"),
            "program": (b"\x7fELF" + bytes(90), "a program or library: `check` reads those"),
        }
        for name, (content, says) in files.items():
            path = self.file(name, content)
            for command in ("show", "merge", "info", "dump", "cat", "pack", "report", "cache", "compare", "predict"):
                reads = {"counts", "small"} if command in ("show", "merge") else {"trace"}
                reads = {"trace", "counts", "small"} if command in ("report", "compare") else reads
                with self.subTest(command, file=name):
                    args = (command, path, path) if command == "compare" else (command, path)
                    done = subprocess.run([CLI, *args], capture_output=True, text=True, env=environment(), timeout=60)
                    self.assertEqual(says in done.stderr, name not in reads, done.stderr)
        for content, says in ((b"", "a GGUF model, which has no routing"),
                              (b"imatrix.chunk_count", "an imatrix, which has counts: use `show`")):
            self.refuses("info", self.file("m.gguf", b"GGUF" + bytes(20) + content + bytes(90)), says=("m.gguf", says))

    def test_order_and_number(self):
        path = self.file("a.json", STATISTICS)
        self.assertEqual([row[1] for row in self.rows("--sort", "id", path)], ["0", "1", "2", "3"])
        self.assertEqual([row[0] for row in self.rows("--sort", "id", path)], ["3", "1", "4", "2"])
        self.assertEqual([row[1] for row in self.rows("--top", "2", path)][:2], ["1", "3"])
        self.assertIn("and 2 more with 21.05%", self.cli("show", "--top", "2", path).stdout)
        wide = self.file("wide.json", {"total_tokens": 1, "expert_activations": {str(i): i for i in range(128)}})
        self.assertEqual(len(self.rows(wide)), 21)
        self.assertEqual(len(self.rows("--all", wide)), 128)
        self.assertEqual(len(self.rows("--top", "500", wide)), 128)

    def test_width_and_color(self):
        path = self.file("a.json", STATISTICS)
        for width in (40, 60, 80, 132):
            out = self.cli("show", path, env=environment(COLUMNS=str(width))).stdout
            table = out[out.index("rank"):].splitlines()
            self.assertLessEqual(max(map(len, table)), max(width, 48))
        self.assertIn("\033[", self.cli("show", "--color", "always", path, env=environment(NO_COLOR="1")).stdout)
        self.assertIn("#", self.cli("show", path, env=environment(LC_ALL="C")).stdout)
        self.assertTrue(self.cli("show", path, env=environment(LC_ALL="C")).stdout.isascii())

    def test_per_layer(self):
        path = self.file("a.json", STATISTICS)
        out = self.cli("show", "--per-layer", path).stdout
        self.assertRegex(out, r"\n +0 +10 +4 +1 +50\.00% +\S+  1 \(50\.0%\)  0 \(40\.0%\)")
        self.assertRegex(out, r"\n +1 +9 +4 +2 +55\.56% +\S+  1 \(55\.6%\)  3 \(44\.4%\)\n")
        self.assertIn("2 (0.0%)", self.cli("show", "-l", "--all", path).stdout)
        self.assertNotIn("0 (40.0%)", self.cli("show", "-l", "--top", "1", path).stdout)
        self.refuses("show", "-l", self.file("m.json", MINIMAL), says=("m.json", "run --per-layer"))

    def test_minimal_and_dense(self):
        out = self.cli("show", self.file("m.json", MINIMAL)).stdout
        self.assertIn("name unknown", out)
        self.assertIn("4 or more", out)
        dense = self.file("d.json", altered(n_expert=0, n_expert_used=0, total_activations=0, layer_tokens={},
                                            expert_activations={}, per_layer={}))
        for args in ((), ("-l",), ("--json",)):
            self.cli("show", *args, dense)
        self.assertIn("dense", self.cli("show", dense).stdout)

    def test_mtp_and_layers_that_differ(self):
        mtp = {"total_tokens": 3, "total_activations": 6, "layer_tokens": {"2": 3},
               "expert_activations": {"0": 6, "1": 0}, "per_layer": {"2": {"0": 6, "1": 0}}}
        path = self.file("x.json",
                         altered(mtp=mtp, n_expert_per_layer={"0": 4, "1": 2}, n_expert_used_per_layer={"0": 2, "1": 1},
                                 per_layer=None, complete=False, model=None, engine=None))
        out = self.cli("show", path).stdout
        for word in ("multi-token-prediction", "layers differ", "still running"):
            self.assertIn(word, out)
        self.assertEqual(json.loads(self.cli("show", "--json", path).stdout)["mtp"], mtp)

    def test_several_and_stdin(self):
        a, b = self.file("a.json", STATISTICS), self.file("m.json", MINIMAL)
        out = self.cli("show", a, b).stdout
        self.assertIn(f"==> {a} <==", out)
        self.assertIn(f"\n==> {b} <==", out)
        self.assertNotIn("==>", self.cli("show", a).stdout)
        self.assertIn("Oracle", self.cli("show", "-", stdin=json.dumps(STATISTICS)).stdout)
        done = self.cli("show", "/no/such", a, status=1)
        self.assertIn("/no/such", done.stderr)
        self.assertIn("Oracle", done.stdout)

    def test_json(self):
        shown = json.loads(self.cli("show", "--json", self.file("a.json", STATISTICS)).stdout)
        summary = shown.pop("summary")
        self.assertEqual(shown, STATISTICS)
        self.assertEqual(summary["experts_unused"], 1)
        self.assertAlmostEqual(summary["hottest_tenth_share"], 20 / 38)
        self.assertAlmostEqual(summary["entropy"], 0.73373, 4)
        again = self.cli("show", "--json", "-", stdin=json.dumps(shown)).stdout
        self.assertEqual(json.loads(again), {**shown, "summary": summary})

    def test_text_cannot_command_the_terminal(self):
        model = {"name": "a\u001b[31mb\u009bc", "architecture": None, "file": "x\ny"}
        path = self.file("evil.json", altered(model=model))
        out = self.cli("show", path).stdout
        self.assertNotIn("\x1b", out)
        self.assertNotIn("\x9b", out)

    def test_totals_that_disagree(self):
        done = self.cli("show", self.file("t.json", altered(total_activations=39)))
        self.assertIn("warning", done.stderr)
        done = self.cli("show", self.file("t.json", altered(expert_activations={"0": 9, "1": 19, "2": 0, "3": 10})))
        self.assertIn("per_layer", done.stderr)

    def test_reader_that_leaves(self):
        path = self.file("wide.json", {"total_tokens": 1, "expert_activations": {str(i): i for i in range(20000)}})
        done = subprocess.run(f"'{CLI}' show --all '{path}' | head -1", shell=True, capture_output=True,
                              text=True, env=environment())
        self.assertEqual(done.stderr, "")
        with open("/dev/full", "w") as full:
            done = subprocess.run([CLI, "show", "--all", path], stdout=full, stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("No space left", done.stderr)


class Imatrix(Case):
    LAYERS = {0: [4, 0, 1, 3], 2: [0, 0, 8, 0]}

    def test_counts(self):
        path = self.file("i.gguf", imatrix(self.LAYERS, tokens=4))
        shown = json.loads(self.cli("show", "--json", path).stdout)
        self.assertEqual(shown["expert_activations"], {"0": 4, "1": 0, "2": 9, "3": 3})
        self.assertEqual(shown["per_layer"]["2"], {"0": 0, "1": 0, "2": 8, "3": 0})
        self.assertEqual((shown["total_tokens"], shown["n_expert"], shown["n_expert_used"]), (4, 4, 2))
        self.assertEqual(shown["layer_tokens"], {"0": 4, "2": 4})
        self.assertEqual(shown["capture"], "imatrix")
        self.cli("show", "-l", path)

    def test_unknown_tokens_and_different_layers(self):
        shown = json.loads(self.cli("show", "--json", self.file("i.gguf", imatrix({0: [1, 2], 1: [1, 1, 1]}))).stdout)
        self.assertIsNone(shown["total_tokens"])
        self.assertIsNone(shown["n_expert_used"])
        self.assertEqual(shown["n_expert_per_layer"], {"0": 2, "1": 3})
        self.assertEqual(shown["per_layer"]["0"], {"0": 1, "1": 2})

    def test_merge(self):
        path = self.file("i.gguf", imatrix(self.LAYERS, tokens=4))
        merged = json.loads(self.cli("merge", path, path).stdout)
        self.assertEqual(merged["expert_activations"]["2"], 18)

    def test_refused(self):
        def refuses(content, *says):
            self.refuses("show", self.file("bad.gguf", content), says=("bad.gguf", *says))
        refuses(imatrix(self.LAYERS, general_type="model"), "a model")
        refuses(imatrix(self.LAYERS, general_type="adapter"), "no imatrix")
        refuses(imatrix({}), "without counts")
        refuses(imatrix({0: [5]}), "one count per tensor")
        refuses(imatrix(self.LAYERS, scale=-1), "no count")
        refuses(imatrix(self.LAYERS, scale=0.5), "no count")
        refuses(imatrix(self.LAYERS, scale=float("nan")), "no count")
        refuses(imatrix(self.LAYERS)[:150])
        refuses(b"GGUF")
        done = subprocess.run([CLI, "show", "-"], input=imatrix(self.LAYERS), capture_output=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"save it", done.stderr)


    def test_truncated(self):
        whole = imatrix(self.LAYERS, tokens=4)
        for size in range(1, len(whole) - 32, 41):  # behind the last tensor there is nothing
            self.refuses("show", self.file("cut.gguf", whole[:size]), says="cut.gguf")


class BadInput(Case):
    def test_each(self):
        for name, content, *says in (
            ("empty",     "",                                        "empty"),
            ("blank",     " \n\n",                                   "empty"),
            ("text",      "hello\nworld",                            "text:1:", "not valid JSON"),
            ("broken",    '{\n "total_tokens": 1,\n oops\n}',        "broken:3:"),
            ("cut",       json.dumps(STATISTICS, indent=1)[:300],    "truncated"),
            ("binary",    b"\1\0\2\0" * 50,                          "binary"),
            ("list",      "[1]",                                     "an array"),
            ("other",     {"hello": 1},                              "total_tokens"),
            ("package",   {"format": "x", "version": 1},             "something else"),
            ("newer",     altered(version=9),                        "update"),
            ("negative",  altered(expert_activations={"0": -4}),     "-4"),
            ("fraction",  altered(expert_activations={"0": 1.5}),    "expert 0"),
            ("string",    altered(total_tokens="3"),                 "total_tokens", "a string"),
            ("too-many",  altered(expert_activations={"4": 1}),      "n_expert is 4"),
            ("huge",      altered(n_expert=10**12),                  "n_expert"),
            ("deep",      "[" * 100000,                              "deep:"),
            ("not-utf-8", b'{"total_tokens": "\xff"}',               "not-utf-8:1"),
            ("bignum",    '{"total_tokens": 99999999999999999999}',  "bignum:1"),
        ):
            path = self.file(name, content)
            for command in ("show", "merge"):
                done = self.refuses(command, path, says=(path, *says))
                self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)
                self.assertEqual(done.stdout, "")

    def test_files(self):
        self.refuses("show", str(self.folder), says="directory")
        self.refuses("show", "/no/such/file", says="/no/such/file")
        if os.getuid() != 0:
            path = self.file("secret", STATISTICS)
            os.chmod(path, 0)
            self.refuses("show", path, says=("secret", "denied"))

    def test_damaged(self):
        chance = random.Random(2)
        sources = (json.dumps(altered(mtp={"total_tokens": 1, "expert_activations": {"0": 1}})).encode(),
                   imatrix(Imatrix.LAYERS, tokens=4))
        for i in range(40 * SOAK):
            bytes_ = bytearray(chance.choice(sources))
            for _ in range(chance.randrange(1, 6)):
                at = chance.randrange(len(bytes_))
                change = chance.randrange(3)
                if change == 0:
                    bytes_[at] = chance.randrange(256)
                elif change == 1:
                    del bytes_[at:at + chance.randrange(1, 20)]
                else:
                    bytes_[at:at] = bytes_[chance.randrange(len(bytes_)):][:chance.randrange(1, 20)]
                bytes_ = bytes_ or bytearray(b"x")
            path = self.file("damaged", bytes(bytes_))
            for command in (("show",), ("show", "-l"), ("show", "--json"), ("merge", path)):
                done = subprocess.run([CLI, *command, path], capture_output=True, env=environment(), timeout=60)
                self.assertIn(done.returncode, (0, 1), (bytes_, done.stderr))


class Merge(Case):
    def merge(self, *contents, args=(), status=0):
        paths = [self.file(f"{i}.json", content) for i, content in enumerate(contents)]
        done = self.cli("merge", *args, *paths, status=status)
        return (json.loads(done.stdout) if status == 0 else None), done.stderr

    def test_sums(self):
        merged, said = self.merge(STATISTICS, altered(run="2-2"), altered(run="3-3"))
        self.assertEqual(said, "")
        self.assertEqual(merged["expert_activations"], {"0": 24, "1": 60, "2": 0, "3": 30})
        self.assertEqual(merged["per_layer"]["1"], {"0": 0, "1": 30, "2": 0, "3": 24})
        self.assertEqual(merged["layer_tokens"], {"0": 30, "1": 27})
        self.assertEqual([merged[k] for k in ("total_tokens", "prompt_tokens", "generation_tokens",
                                              "warmup_tokens", "total_activations")],
                         [30, 12, 18, 6, 114])
        self.assertEqual(merged["runs"], ["1-1/1", "2-2/1", "3-3/1"])
        for key in ("format", "version", "complete", "model", "n_layer", "n_expert",
                    "n_expert_used", "engine", "capture"):
            self.assertEqual(merged[key], STATISTICS[key])
        self.assertNotIn("run", merged)
        self.assertNotIn("pid", merged)

    def test_one(self):
        self.assertEqual(self.merge(STATISTICS)[0], STATISTICS)

    def test_what_is_not_known_everywhere(self):
        merged, said = self.merge(STATISTICS,
                                  altered(run="2", prompt_tokens=None, complete=False, engine="llama.cpp 1, ggml 1",
                                          per_layer=None))
        self.assertIsNone(merged["prompt_tokens"])
        self.assertIs(merged["complete"], False)
        self.assertNotIn("per_layer", merged)
        self.assertIn("per_layer", said)
        self.assertIn("ggml 1", merged["engine"])
        merged, said = self.merge(MINIMAL, STATISTICS)
        self.assertEqual(merged["expert_activations"], {"0": 12, "1": 20, "2": 0, "3": 12})
        self.assertIsNone(merged["complete"])
        self.assertEqual(merged["model"]["name"], "Oracle")
        self.assertIn("layer_tokens", said)

    def test_mtp(self):
        mtp = {"total_tokens": 3, "total_activations": 6, "layer_tokens": {"2": 3},
               "expert_activations": {"0": 6, "1": 0}, "per_layer": {"2": {"0": 6, "1": 0}}}
        merged, _ = self.merge(STATISTICS, altered(run="2", mtp=mtp))
        self.assertEqual(merged["mtp"], mtp)
        merged, _ = self.merge(altered(mtp=mtp), altered(run="2", mtp=mtp))
        self.assertEqual(merged["mtp"]["per_layer"], {"2": {"0": 12, "1": 0}})

    def test_different_models(self):
        other = altered(run="2", model={"name": "Other", "architecture": "qwen3moe", "file": "/elsewhere"},
                        n_expert_used=1)
        _, said = self.merge(STATISTICS, other, status=1)
        for word in ("Oracle", "Other", "qwen3moe", "n_expert_used", "0.json", "1.json", "--force"):
            self.assertIn(word, said)
        merged, said = self.merge(STATISTICS, other, altered(run="3"), args=("--force",))
        self.assertIn("warning", said)
        self.assertEqual(merged["model"], {"name": None, "architecture": None, "file": None})
        self.assertIsNone(merged["n_expert_used"])
        self.assertEqual(merged["total_tokens"], 30)

    def test_different_shapes(self):
        for other in (altered(run="2", n_layer=3), altered(run="2", n_expert=8),
                      {"total_tokens": 1, "expert_activations": {"7": 1}}):
            for args in ((), ("--force",)):
                self.assertIn("shapes", self.merge(STATISTICS, other, args=args, status=1)[1])

    def test_same_file_path_may_differ(self):
        merged, _ = self.merge(STATISTICS, altered(run="2", model={**STATISTICS["model"], "file": "/elsewhere"}))
        self.assertEqual(merged["model"], {"name": "Oracle", "architecture": "llama", "file": None})

    def test_same_run_twice(self):
        self.assertIn("twice", self.merge(STATISTICS, STATISTICS, status=1)[1])
        self.assertEqual(self.merge(STATISTICS, STATISTICS, args=("--force",))[0]["total_tokens"], 20)
        self.assertEqual(self.merge(STATISTICS, altered(pid=2))[0]["total_tokens"], 20)  # a server and its child
        merged, _ = self.merge(STATISTICS, altered(run="2-2"))
        self.assertIn("2-2", self.merge(merged, altered(run="2-2"), status=1)[1])

    def test_overflow(self):
        large = altered(expert_activations={"0": 2**63 - 1}, total_activations=2**63 - 1, per_layer=None)
        self.assertIn("2^63", self.merge(large, altered(run="2"), status=1)[1])

    def test_output(self):
        path = self.file("a.json", STATISTICS)
        out = self.folder / "out.json"
        for name in (str(out), path):
            self.assertEqual(self.cli("merge", path, "-o", name).stdout, "")
            self.assertEqual(json.loads(Path(name).read_text()), STATISTICS)
        link = self.folder / "link.json"
        link.symlink_to(out)
        self.cli("merge", "-o", str(link), path)
        self.assertTrue(link.is_symlink())
        self.assertEqual(json.loads(self.cli("merge", "-o", "-", path).stdout), STATISTICS)
        self.cli("merge", "-o", "/dev/null", path)
        self.refuses("merge", "-o", "/no/such/folder/x", path, says="/no/such/folder/x")
        self.refuses("merge", "-o", str(self.folder), path, says="directory")
        self.refuses("merge", "-o", "/dev/full", path, says="/dev/full")
        longest = self.folder / ("x" * 255)
        self.cli("merge", "-o", str(longest), path)
        self.assertEqual(longest.read_text(), self.cli("merge", path).stdout)
        before = out.read_text()
        self.refuses("merge", "-o", str(out), path, "/no/such", says="/no/such")
        self.assertEqual(out.read_text(), before)
        other = self.file("model.gguf", b"GGUF\3\0\0\0")
        self.refuses("merge", "-o", other, path, says=(other, "a GGUF file", "--force"))
        self.assertEqual(Path(other).read_bytes(), b"GGUF\3\0\0\0")
        self.cli("merge", "--force", "-o", other, path)
        self.assertEqual(json.loads(Path(other).read_text()), STATISTICS)
        self.assertEqual([p.name for p in self.folder.iterdir() if ".tmp" in p.name], [])


if __name__ == "__main__":
    if not CLI:
        raise SystemExit("EXPERT_TRACER_CLI is not set: it names the command to test")
    unittest.main()
