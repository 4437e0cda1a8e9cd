#!/usr/bin/env python3
"""Tests of what llama-expert-tracer (EXPERT_TRACER_CLI) does with routing traces: info, dump, cat and export.

The traces are made by tests/trace/moetrace.py; what comes out is compared with what was put in.
"""

import csv
import fcntl
import io
import json
import math
import os
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import unittest
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "trace"))

import moetrace as m  # noqa: E402

CLI = os.environ.get("EXPERT_TRACER_CLI", "")
ROOT = HERE.parents[1]
DUCKDB = Path(os.environ.get("EXPERT_TRACER_DUCKDB", ROOT / "build" / "duckdb"))
FLIP_READ = os.environ.get("EXPERT_TRACER_FLIP_READ", "")
NUMPY = next((python for python in (sys.executable, "/usr/bin/python3")
              if Path(python).exists()
              and subprocess.run([python, "-c", "import numpy"], capture_output=True).returncode == 0), None)

N_EXPERT, N_USED = 8, 2
TABLE = [m.new_layer(layer, N_EXPERT, N_USED, (f"blk.{layer}.ffn_up_exps.weight", 100),
                     (f"blk.{layer}.ffn_down_exps.weight", 50))
         for layer in (1, 2, 4)]
HEAD = [m.new_layer(6, 4, 1, ("blk.6.ffn_up_exps.weight", 7))]
FINGERPRINT = "1234-0123456789abcdef"
MODEL = {"name": "Small", "architecture": "qwen3moe", "file": "/m/small.gguf", "fingerprint": FINGERPRINT}
PHASES = {False: "prompt", True: "generation"}


def expert(layer, token, rank):
    return (3 * layer + 5 * token.position + 3 * rank) % (4 if layer == 6 else N_EXPERT)


def weight(layer, token, rank):
    return (0.625, 0.375)[rank]


def token(sequence, life, position, generation=False, output=False):
    return m.Token(1000 * sequence + 100 * life + position, sequence, life, position, generation, output)


def tokens(sequence, life, first, n, **more):
    return [token(sequence, life, first + i, **more) for i in range(n)]


def events():
    """A warm-up, a prompt whose last layer has the row asked for alone, two sequences side by side, what is drafted and
    rejected, what is missing, a second life, and a ubatch of a multi-token-prediction head."""
    def ubatch(number, its, table=0, **more):
        return m.new_ubatch(number, (TABLE, HEAD)[table], its, expert, weight,
                            time=2000000 * number + 1700000000000000, table=table, **more)
    prompt = tokens(0, 1, 0, 5)
    prompt[-1] = prompt[-1]._replace(output=True)
    draft = tokens(0, 1, 5, 3, generation=True, output=True)
    return [
        ubatch(0, tokens(0, 0, 0, 2), first=True),
        ubatch(1, prompt, rows=lambda layer: [4] if layer == 4 else None),
        m.Warmup(0, 1),
        ubatch(2, draft + tokens(1, 0, 0, 2)),
        m.Rejected(2, 1, 2),
        ubatch(3, [token(1, 0, 2, True, True)], table=1, mtp=True),
        m.Cut(4, 0, 0, 1, 6),
        m.Gap(4, 3, 7, m.DISK),
        m.Gap(7, 1, 1, m.SAMPLING),
        ubatch(8, [token(0, 1, 6, True, True), token(1, 0, 2, True, True)], first=False),
        ubatch(9, tokens(1, 1, 0, 1, output=True)),
    ]


def header(**more):
    return m.new_header(**{"trace": "first", "run": "1-1", "pid": 7, "model": MODEL, "n_layer": 6,
                           "weights": True, "tokens": True, **more})


def made(its=None, tables=(TABLE, HEAD), chunk_every=2, head=None, **more):
    return m.encode(head or header(), tables, events() if its is None else its, chunk_every=chunk_every, **more)


def chosen(its, warmup=False, mtp=False, keep=lambda ubatch, token: True):
    """(ubatch, index, token) of what an export is to have in it, as a reader that knows the amendments sees it."""
    for ubatch in m.Trace(m.joined(made(its))).ubatches:
        for index, one in enumerate(ubatch.tokens):
            if (warmup or not ubatch.warmup) and (mtp or not ubatch.mtp) and keep(ubatch, one):
                yield ubatch, index, one


def rows(ubatch, index):
    """(layer, experts) of one token."""
    for layer in ubatch.layers:
        if index in layer.rows:
            yield layer.layer, layer.experts[layer.rows.index(index)]


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="test-trace-commands-"))
        cls.trace = cls.write("a.moetrace", m.joined(made()))

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    @classmethod
    def write(cls, name, content):
        path = cls.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    def run_cli(self, *args, status=0, stdin=None, binary=False):
        keep = {k: v for k, v in os.environ.items()
                if not k.startswith("LLAMA_EXPERT_") and k not in ("NO_COLOR", "COLUMNS", "TZ")}
        done = subprocess.run([CLI, *map(str, args)], input=stdin, capture_output=True,
                              env={**keep, "LC_ALL": "C.UTF-8", "TZ": "UTC"}, timeout=60)
        self.assertEqual(done.returncode, status, f"{args}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        self.stderr = done.stderr.decode()
        return done.stdout if binary else done.stdout.decode()

    def quiet(self, *args, **more):
        out = self.run_cli(*args, **more)
        self.assertEqual(self.stderr, "")
        return out

    def refuses(self, *args, status=1, says=()):
        self.assertEqual(self.run_cli(*args, status=status), "")
        for word in (says,) if isinstance(says, str) else says:
            self.assertIn(word, self.stderr)


class Errors(Case):
    def test_usage(self):
        for command in ("info", "dump", "cat", "export"):
            self.refuses(command, "--nope", self.trace, status=2, says=("--nope", f"{command} --help"))
        self.refuses("info", status=2, says="which file")
        self.refuses("dump", status=2, says="which file")
        self.refuses("dump", "a", "b", status=2, says="one file at a time")
        self.refuses("cat", status=2, says="which files")
        self.refuses("export", self.trace, status=2, says=("--format", "npy", "sglang"))
        self.refuses("export", "-f", "xml", self.trace, status=2, says=("'xml'", "jsonl"))
        self.refuses("export", "-f", "csv", status=2, says="which file")
        self.refuses("export", "-f", "csv", "--split", "sequence", "-o", "x", self.trace, status=2, says="--split")
        self.refuses("export", "-f", "npy", "--split", "sequence", self.trace, status=2, says="-o")
        self.refuses("export", "-f", "npy", "--split", "layer", "-o", "x", self.trace, status=2, says="'layer'")
        for value in ("", "x", "1-", "2-1", "1,,2", "-1", "1;2", "99999999999999999999"):
            if value != "1-":
                self.refuses("dump", "--layer", value, self.trace, status=2, says=("--layer", f"'{value}'"))
        for value in ("", "decode", "prompt,", "prompt,decode"):
            self.refuses("dump", "--phase", value, self.trace, status=2, says=("--phase", f"'{value}'"))

    def test_what_is_no_trace(self):
        text = self.write("text", "no trace, but text that is long enough to hold a chunk's header, and more of it")
        empty = self.write("empty", b"")
        for command in (("info",), ("dump",), ("cat",), ("export", "-f", "csv")):
            self.refuses(*command, text, says=(text,))
            self.refuses(*command, empty, says=(empty,))
            self.refuses(*command, self.folder / "absent", says=("absent", "No such file"))
            self.refuses(*command, self.folder, says=str(self.folder))

    def test_what_is_not_known(self):
        dark = self.write("dark", m.joined(m.encode(header(phases_known=False, weights=False, tokens=False), [TABLE],
                                                    [m.new_ubatch(0, TABLE, [m.Token(sequence=None)] * 2,
                                                                  lambda layer, its, rank: rank)])))
        self.refuses("dump", "--sequence", "0", dark, says="--sequence")
        self.refuses("dump", "--phase", "prompt", dark, says="--phase")
        self.refuses("export", "-f", "csv", "--tokens", "0", dark, says="--tokens")
        self.refuses("export", "-f", "moe-cache-profile", dark, says="moe-cache-profile")
        self.refuses("export", "-f", "npy", "--split", "sequence", "-o", self.folder / "x.npy", dark, says="--split")
        rows = self.quiet("export", "-f", "csv", dark).splitlines()
        self.assertEqual(rows[0],
                         "ubatch,token,context,sequence,life,position,phase,warmup,rejected,layer,expert0,expert1")
        self.assertEqual(rows[1], "0,0,0,,,,,0,0,1,0,1")
        self.assertIn("unknown", self.quiet("info", dark))
        self.assertIsNone(json.loads(self.quiet("info", "--json", dark))["sequences"])


class Info(Case):
    def test_json(self):
        told = json.loads(self.quiet("info", "--json", self.trace))
        counted = list(chosen(events(), warmup=True, mtp=True))
        expected = {
            "tokens": {"all": len(counted),
                       "prompt": sum(not u.warmup and not t.generation for u, _, t in counted),
                       "generation": sum(not u.warmup and t.generation for u, _, t in counted),
                       "warmup": 2, "rejected": 2},
            "ubatches": 6, "batches": 5, "contexts": 1, "sequences": 2, "lives": 4, "cuts": 1,
            "activations": sum(len(experts) for u, i, _ in counted if not u.warmup for _, experts in rows(u, i)),
            "warmup_activations": sum(len(experts) for u, i, _ in counted if u.warmup for _, experts in rows(u, i)),
            "dropped": {"ubatches": 3, "tokens": 7}, "left_out": {"ubatches": 1, "tokens": 1},
            "lost": {"damaged": False, "ubatches": 0}, "model": MODEL, "n_layer": 6, "trace": "first", "part": 0,
            "run": "1-1", "pid": 7, "engine": "llama.cpp", "capture": "graph",
            "tracer": "0.0.0", "phases_known": True, "weights": True, "tokens_known": True, "sample": 1, "seed": None,
            "packed": False, "stopped": None, "size": os.path.getsize(self.trace), "ended": "complete",
            "file": self.trace, "begin": 1700000000.0, "end": 1700000018.0,
            "layers": [{"layer": layer, "n_expert": N_EXPERT, "n_expert_used": N_USED, "expert_bytes": 150}
                       for layer in (1, 2, 4)] +
                      [{"layer": 6, "n_expert": 4, "n_expert_used": 1, "expert_bytes": 7}],
        }
        self.assertEqual(told, expected)

    def test_text(self):
        text = self.quiet("info", self.trace)
        for words in ("Small (qwen3moe)", "/m/small.gguf", FINGERPRINT, "6, 4 of them with experts",
                      "4 to 8, 1 to 2 for each token", "150 bytes in a layer at most, in all layers 457 bytes",
                      "14: 8 prompt, 6 generation; not counted: 2 warm-up",
                      "2 of them drafted and rejected", "2 with 4 lives, cut 1 time",
                      "6 in 5 batches, 1 of them warm-up, 1 of a multi",
                      "2023-11-14 22:13:20 to 2023-11-14 22:13:38 (18.000 s)", "3 ubatches with 7 tokens: the disk",
                      "1 ubatches with 1 tokens: sampled", "experts, gate weights, token ids", "ended       complete"):
            self.assertIn(words, text)
        self.assertRegex(text, r"size .* bytes for each activation")
        self.assertNotIn("\033", text)
        self.assertIn("\033", self.quiet("info", "--color", "always", self.trace))

    def test_several_and_standard_input(self):
        text = self.quiet("info", self.trace, self.trace)
        self.assertEqual(text.count(f"==> {self.trace} <=="), 2)
        told = json.loads(self.quiet("info", "--json", "-", stdin=Path(self.trace).read_bytes()))
        self.assertEqual((told["file"], told["tokens"]["all"]), ("-", 16))
        self.assertEqual(self.run_cli("info", self.trace, self.folder / "absent", status=1).count("Small"), 1)

    def test_control_characters_are_no_commands(self):
        evil = self.write("evil", m.joined(made(head=header(model={**MODEL, "name": "a\033]0;b\007c"}))))
        for command in ("info", "dump"):
            self.assertNotIn("\033", self.quiet(command, evil))

    def test_endings(self):
        whole = m.joined(made(end=None))
        for name, content, ended in (("killed", whole, "interrupted"), ("half", whole[:-9], "interrupted"),
                                     ("rotated", m.joined(made(end={"last_part": False})), "rotated")):
            path = self.write(name, content)
            self.assertEqual(json.loads(self.quiet("info", "--json", path))["ended"], ended)
            self.assertIn(ended, self.quiet("info", path))
        self.assertIn("still runs, or was killed", self.quiet("info", self.write("killed", whole)))

    def test_damage(self):
        chunks = made()
        data = [chunk.number for chunk in chunks if chunk.kind == m.DATA]
        broken = self.write("broken", m.damaged(chunks, data[0], m.HEAD.size + 9))
        missing = self.write("missing", m.joined([chunk for chunk in chunks if chunk.number != data[0]]))
        for path in (broken, missing):
            told = json.loads(self.run_cli("info", "--json", path, status=1))
            self.assertIn("damaged", self.stderr)
            self.assertEqual(told["lost"], {"damaged": True, "ubatches": 2})
            self.assertEqual((told["ubatches"], told["tokens"]["all"]), (4, 9))
            self.assertIn("damaged", self.run_cli("info", path, status=1))
        for command in (("dump",), ("export", "-f", "csv"), ("export", "-f", "npy")):
            self.assertNotEqual(self.run_cli(*command, broken, status=1, binary=True), b"")
            self.assertIn("damaged", self.stderr)
        self.assertIn("missing ubatches=0-1\n", self.run_cli("dump", broken, status=1))


def fields(line):
    """A line of a dump: what has a value by name, and the words that have none."""
    words = line.split(" ")
    return dict(word.split("=", 1) for word in words if "=" in word), {word for word in words if "=" not in word}


class Dump(Case):
    def lines(self, *args, path=None):
        return [line for line in self.quiet("dump", *args, path or self.trace).splitlines() if " layer=" in line]

    def test_lines(self):
        expected = [(u.number, i, t, layer, experts, u) for u, i, t in chosen(events(), warmup=True, mtp=True)
                    for layer, experts in rows(u, i)]
        lines = self.lines()
        self.assertEqual(len(lines), len(expected))
        for line, (number, index, its, layer, experts, ubatch) in zip(lines, expected):
            values, words = fields(line)
            self.assertEqual(values, {"ubatch": str(number), "token": str(index), "seq": f"{its.sequence}.{its.life}",
                                      "pos": str(its.position), "layer": str(layer),
                                      "experts": ",".join(map(str, experts)),
                                      "weights": "0.625,0.375"[:5 if layer == 6 else None], "id": str(its.id)})
            flags = {PHASES[its.generation]}
            flags |= {name for name, on in (("output", its.output), ("warmup", ubatch.warmup), ("mtp", ubatch.mtp),
                                            ("rejected", its.rejected)) if on}
            self.assertEqual(words, flags)

    def test_compact(self):
        lines = [line for line in self.quiet("dump", "-c", self.trace).splitlines() if " token=" in line]
        self.assertEqual(len(lines), len(list(chosen(events(), warmup=True, mtp=True))))
        self.assertIn(" 1:3,6*0.625,0.375 2:6,1*0.625,0.375 id=100", lines[2])
        self.assertNotIn(" 4:", lines[2])
        self.assertIn(" 4:", lines[6])

    def test_ubatches_and_what_is_missing(self):
        text = self.quiet("dump", self.trace)
        self.assertTrue(text.startswith("# model        Small\n"))
        self.assertIn("ubatch=0 context=0 tokens=2 time=2023-11-14T22:13:20.000000Z new-batch warmup\n", text)
        self.assertIn("ubatch=8 context=0 tokens=2 time=2023-11-14T22:13:36.000000Z\n", text)
        self.assertIn("missing ubatches=4-7\ncut context=0 seq=0.1 pos=6-\nubatch=8 ", text)
        self.assertEqual(text.count("missing"), 1)

    def test_filters(self):
        def places(*args):
            return [(int(v["ubatch"]), int(v["token"]), int(v["layer"])) for v, _ in map(fields, self.lines(*args))]

        def expected(keep, layers=(1, 2, 4, 6)):
            return [(u.number, i, layer) for u, i, _ in chosen(events(), True, True, keep)
                    for layer, _ in rows(u, i) if layer in layers]
        for args, keep, layers in (
            (("--layer", "2,4"),              lambda u, t: True,                                    (2, 4)),
            (("--layer", "0-1,5-"),           lambda u, t: True,                                    (1, 6)),
            (("--sequence", "1"),             lambda u, t: t.sequence == 1,                         (1, 2, 4, 6)),
            (("--tokens", "1-2,6"),           lambda u, t: t.position in (1, 2, 6),                 (1, 2, 4, 6)),
            (("--ubatch", "2-3,9"),           lambda u, t: u.number in (2, 3, 9),                   (1, 2, 4, 6)),
            (("--phase", "prompt"),           lambda u, t: not u.warmup and not t.generation,       (1, 2, 4, 6)),
            (("--phase", "generation"),       lambda u, t: t.generation,                            (1, 2, 4, 6)),
            (("--phase", "warmup"),           lambda u, t: u.warmup,                                (1, 2, 4, 6)),
            (("--phase", "warmup,prompt"),    lambda u, t: u.warmup or not t.generation,            (1, 2, 4, 6)),
            (("--no-warmup",),                lambda u, t: not u.warmup,                            (1, 2, 4, 6)),
            (("--no-rejected",),              lambda u, t: not t.rejected,                          (1, 2, 4, 6)),
            (("--warmup", "--phase", "generation", "--sequence", "0", "--layer", "1"),
                                              lambda u, t: (u.warmup or t.generation) and t.sequence == 0, (1,)),
        ):
            self.assertEqual(places(*args), expected(keep, layers), args)
            self.assertTrue(places(*args), args)

    def test_text_of_tokens(self):
        def text(value):
            return struct.pack("<Q", len(value)) + value

        def gguf(kind, vocabulary):
            values = [(b"tokenizer.ggml.model", struct.pack("<I", 8) + text(kind)),
                      (b"tokenizer.ggml.tokens", struct.pack("<IIQ", 9, 8, len(vocabulary))
                       + b"".join(text(word.encode()) for word, _ in vocabulary)),
                      (b"tokenizer.ggml.token_type", struct.pack("<IIQ", 9, 5, len(vocabulary))
                       + b"".join(struct.pack("<i", t) for _, t in vocabulary))]
            head = b"GGUF" + struct.pack("<IQQ", 3, 0, len(values))
            head += b"".join(text(key) + value for key, value in values)
            return self.write(f"{kind.decode()}.gguf", head + bytes(-len(head) % 32))

        def fingerprint(path):
            content, value = Path(path).read_bytes(), 0xcbf29ce484222325
            for byte in content:
                value = (value ^ byte) * 0x100000001b3 % (1 << 64)
            return f"{len(content)}-{value:016x}"

        def texts(model, n):
            its = [m.new_ubatch(0, TABLE, [m.Token(i, 0, 0, i) for i in range(n)], expert)]
            path = self.write("texts",
                              m.joined(m.encode(header(weights=False,
                                                       model={**MODEL, "fingerprint": fingerprint(model)}),
                                                [TABLE], its)))
            return [line.split(" text=", 1)[1] for line in self.lines("--model", model, "--layer", "1", path=path)]
        normal, control, byte = 1, 3, 6
        gpt2 = gguf(b"gpt2", [("Ġthe", normal), ("<|endĠ|>", control), ("ĊÃ¼", normal), ("ÿ", normal),
                              ('"\\', normal), ("Ā", normal)])
        self.assertEqual(texts(gpt2, 7), ['" the"', '"<|endĠ|>"', '"\\nü"', '"\\xff"', '"\\"\\\\"', '"\\x00"', '"?"'])
        llama = gguf(b"llama",
                     [("▁a▁b", normal), ("<0x0A>", byte), ("<0xE2>", byte), ("<s>", control), ("\u009b1m", normal)])
        self.assertEqual(texts(llama, 5), ['" a b"', '"\\n"', '"\\xe2"', '"<s>"', '"\\xc2\\x9b1m"'])
        self.assertIn("text=", self.run_cli("dump", "-m", llama, self.trace))
        self.assertIn("not the file that the trace is of", self.stderr)
        self.refuses("dump", "-m", self.folder / "absent.gguf", self.trace, says="absent.gguf")
        none = self.write("none", m.joined(m.encode(header(tokens=False), [TABLE], [])))
        self.refuses("dump", "-m", gpt2, none, says="no token ids")

    def test_a_reader_that_leaves(self):
        its = [m.new_ubatch(n, TABLE, tokens(0, 0, 64 * n, 64), expert) for n in range(300)]
        path = self.write("long", m.joined(m.encode(header(weights=False), [TABLE], its)))
        for command in ("dump", "export -f csv", "export -f jsonl", "export -f npy", "cat"):
            done = subprocess.run(["bash",
                                   "-c", f'"$0" {command} "$1" | head -c 100 >/dev/null; echo "${{PIPESTATUS[0]}}"',
                                   CLI, path],
                                  capture_output=True, text=True, timeout=60)
            self.assertEqual(done.stderr, "", command)
            self.assertIn(done.stdout.strip(), ("0", "141"), command)


class Cat(Case):
    def joined(self, *paths, **more):
        out = self.folder / "joined"
        self.run_cli("cat", *paths, "-o", out, **more)
        self.assertEqual(stat.S_IMODE(out.stat().st_mode), 0o600)
        return m.Trace(str(out))

    def shape(self, trace):
        return [(type(event).__name__, event) for event in trace.events]

    def test_one(self):
        once = m.Trace(self.trace)
        again = self.joined(self.trace)
        self.assertEqual(self.shape(again), self.shape(once))
        self.assertEqual((again.header, again.end, again.tables), (once.header, once.end, once.tables))
        self.assertEqual(self.run_cli("cat", self.trace, binary=True), (self.folder / "joined").read_bytes())

    def parts(self):
        """Three parts of a trace; what becomes known of the first is in the second,
        and the last begins with another table."""
        def ubatch(number, table=0, **more):
            return m.new_ubatch(number, (TABLE, HEAD)[table], tokens(0, 0, 2 * number, 2), expert,
                                weight, time=number, **more)
        ids = [[ubatch(0), ubatch(1)], [ubatch(2), m.Rejected(1, 0, 1), m.Warmup(0, 1)],
               [ubatch(3, 1, mtp=True), ubatch(4)]]
        ids[2][1].table = 1
        paths = []
        for part, its in enumerate(ids):
            tables = (HEAD, TABLE) if part == 2 else (TABLE, HEAD)
            so_far = [event for done in ids[:part + 1] for event in done]
            paths.append(self.write(f"part{part}",
                                    m.joined(m.encode(header(part=part), tables, its, first=(0, 2, 3)[part],
                                                      end={"last_part": part == 2, **m.totals(so_far)}))))
        return paths

    def test_parts(self):
        paths = self.parts()
        separate, together = m.Trace(*paths), self.joined(*paths)
        self.assertEqual(together.tables, [{0: TABLE, 1: HEAD}])
        for ubatch in separate.ubatches:
            ubatch.table = 1 if ubatch.mtp else 0
        self.assertEqual(self.shape(together), self.shape(separate))
        self.assertEqual(together.header["trace"], "first")
        self.assertEqual((together.end["ubatches"], together.end["last_part"]), (5, True))
        self.assertTrue(together.ubatches[0].warmup and together.ubatches[1].tokens[0].rejected)
        told = json.loads(self.quiet("info", "--json", self.folder / "joined"))
        self.assertEqual((told["ubatches"], told["ended"], told["lost"]["damaged"]), (5, "complete", False))

    def test_parts_in_no_order(self):
        first, second, third = self.parts()
        self.refuses("cat", second, first, says=("part 0", "in order"))
        self.refuses("cat", first, first, says="same part")
        self.refuses("cat", first, self.write("other", m.joined(made(head=header(trace="other")))),
                     second, says="in order")
        self.run_cli("cat", first, third, "-o", self.folder / "joined")
        self.assertIn("missing", self.stderr)
        self.assertIn("missing ubatches=2-2\n", self.quiet("dump", self.folder / "joined"))

    def test_later_parts_alone(self):
        _, second, third = self.parts()
        self.run_cli("cat", second, third, "-o", self.folder / "joined")
        self.assertNotIn("missing", self.quiet("dump", self.folder / "joined"))
        self.run_cli("cat", third, self.trace.replace("a.moetrace", "b.moetrace"), status=1)
        other = self.write("b.moetrace", m.joined(made(head=header(trace="second"))))
        self.assertEqual([u.number for u in self.joined(second, third, other).ubatches][:5], [0, 1, 2, 3, 4])

    def test_runs(self):
        other = header(trace="second", run="2-2", pid=8, engine="llama.cpp 2",
                       model={**MODEL, "name": "Other", "fingerprint": None}, sample=2, weights=False, tokens=False)
        second = self.write("second",
                            m.joined(made(head=other, tables=(TABLE, HEAD), chunk_every=None, end={"waited_ms": 5})))
        both = self.joined(self.trace, second)
        once = m.Trace(self.trace)
        self.assertEqual(both.tables, [{0: TABLE, 1: HEAD}])
        self.assertEqual([u.number for u in both.ubatches],
                         [n + shift for shift in (0, 10) for n in (0, 1, 2, 3, 8, 9)])
        self.assertEqual([u.context for u in both.ubatches], [0] * 6 + [1] * 6)
        self.assertEqual([u.tokens for u in both.ubatches], [u.tokens for u in once.ubatches] * 2)
        self.assertEqual([u.layers for u in both.ubatches], [u.layers for u in once.ubatches] * 2)
        self.assertEqual([u.warmup for u in both.ubatches], [u.warmup for u in once.ubatches] * 2)
        self.assertEqual([(c.number, c.context) for c in both.cuts], [(4, 0), (14, 1)])
        self.assertEqual(both.header["model"], {**MODEL, "name": None})
        self.assertEqual((both.header["engine"], both.header["sample"], both.header["weights"]),
                         ("llama.cpp; llama.cpp 2", 2, True))
        self.assertEqual(both.header["runs"], ["1-1/7", "2-2/8"])
        self.assertNotIn(both.header["trace"], ("first", "second"))
        self.assertEqual((both.end["complete"], both.end["waited_ms"], both.end["dropped_tokens"]), (True, 5, 14))
        self.assertEqual(json.loads(self.quiet("info", "--json", self.folder / "joined"))["lives"], 8)

    def test_sampled(self):
        """One trace keeps its seed; contexts of several get other numbers, for which it tells nothing."""
        paths = [self.write(trace, m.joined(made(head=header(trace=trace, sample=4, seed=7))))
                 for trace in ("first", "second")]
        self.assertIn("one batch in 4, at random (seed 7)", self.quiet("info", paths[0]))
        self.assertEqual(json.loads(self.quiet("info", "--json", paths[0]))["seed"], 7)
        self.assertEqual(self.joined(paths[0]).header["seed"], 7)
        both = self.joined(*paths).header
        self.assertEqual((both["sample"], "seed" in both), (4, False))
        told = self.quiet("info", self.folder / "joined")
        self.assertIn("one batch in 4\n", told)
        self.assertNotIn("seed", told)

    def test_joined_again(self):
        second = self.write("second", m.joined(made(head=header(trace="second"))))
        third = self.write("third", m.joined(made(head=header(trace="third"))))
        both = self.folder / "both"
        self.quiet("cat", self.trace, second, "-o", both)
        self.assertEqual(self.shape(self.joined(both, third)), self.shape(self.joined(self.trace, second, third)))

    def test_packed(self):
        packed = self.folder / "packed"
        its = [m.new_ubatch(n, TABLE, tokens(0, 0, 16 * n, 16), expert) for n in range(40)]
        plain = self.write("plain", m.joined(m.encode(header(weights=False), [TABLE], its, chunk_every=10)))
        self.quiet("pack", plain, "-o", packed)
        self.assertTrue(json.loads(self.quiet("info", "--json", packed))["packed"])
        self.assertEqual(self.shape(self.joined(packed)), self.shape(m.Trace(plain)))
        second = self.write("second", m.joined(made(head=header(trace="second"))))
        self.assertEqual(self.shape(self.joined(second, packed)), self.shape(self.joined(second, plain)))
        for command in (("dump",), ("export", "-f", "csv"), ("export", "-f", "npy")):
            self.assertEqual(self.run_cli(*command, packed, binary=True), self.run_cli(*command, plain, binary=True))

    def test_other_models(self):
        def refused(says, tables=(TABLE, HEAD), **more):
            path = self.write("foreign", m.joined(made(tables=tables, head=header(trace="foreign", **more))))
            self.refuses("cat", self.trace, path, "-o", self.folder / "refused", says=(says, "not of the same model"))
            self.assertFalse((self.folder / "refused").exists())
        refused("fingerprint: " + FINGERPRINT + " and 9-", model={**MODEL, "fingerprint": "9-0123456789abcdef"})
        refused("architecture: qwen3moe and llama", model={**MODEL, "architecture": "llama"})
        refused("layers: 6 and 7", n_layer=7)
        wide = [m.new_layer(layer, 2 * N_EXPERT, N_USED) for layer in (1, 2, 4)]
        refused("layer 1 has 8 experts, 2 used, and 16, 2 used", tables=(wide, HEAD))

    def test_damage_and_endings(self):
        chunks = made(head=header(trace="second"))
        data = [chunk.number for chunk in chunks if chunk.kind == m.DATA]
        broken = self.write("broken", m.damaged(chunks, data[0], m.HEAD.size + 9))
        self.run_cli("cat", self.trace, broken, "-o", self.folder / "joined", status=1)
        self.assertIn("damaged", self.stderr)
        both = m.Trace(str(self.folder / "joined"), strict=False)
        self.assertEqual([u.number for u in both.ubatches][6:], [12, 13, 18, 19])
        told = json.loads(self.run_cli("info", "--json", self.folder / "joined", status=1))
        self.assertEqual(told["lost"], {"damaged": True, "ubatches": 2})
        killed = self.write("killed", m.joined(made(head=header(trace="killed"), end=None))[:-5])
        self.run_cli("cat", killed, self.trace, "-o", self.folder / "joined")
        self.assertIn("not all of them have ended", self.stderr)
        self.assertEqual(json.loads(self.quiet("info", "--json", self.folder / "joined"))["ended"], "interrupted")


READ_NPY = """
import json, sys, numpy
for path in sys.argv[1:]:
    array = numpy.load(path, mmap_mode="r")
    fields = array.dtype.names
    values = [dict(zip(fields, row)) for row in array.tolist()] if fields else numpy.nan_to_num(array, nan=-1).tolist()
    print(json.dumps({"shape": array.shape, "dtype": str(array.dtype), "values": values,
                      "mapped": isinstance(array, numpy.memmap)}))
"""


@unittest.skipUnless(NUMPY, "needs numpy: scripts/install-deps.sh test")
class ExportNpy(Case):
    def load(self, *paths):
        done = subprocess.run([NUMPY, "-c", READ_NPY, *map(str, paths)], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def expected(self, its, layers, n_used=N_USED):
        return [[(dict(rows(u, i)).get(layer, []) + [-1] * n_used)[:n_used] for layer in layers] for u, i, _ in its]

    def test_array(self):
        out = self.folder / "all.npy"
        self.quiet("export", "-f", "npy", "-o", out, self.trace)
        array, layers, told, weights = self.load(out, *(self.folder / f"all.{name}.npy"
                                                        for name in ("layers", "tokens", "weights")))
        its = list(chosen(events()))
        self.assertEqual(array, {"shape": [len(its), 3, N_USED], "dtype": "int16",
                                 "values": self.expected(its, (1, 2, 4)), "mapped": True})
        self.assertIn([-1, -1], [layer for one in array["values"] for layer in one])
        self.assertEqual(layers["values"], [1, 2, 4])
        self.assertEqual(weights["values"], [[[0.625, 0.375] if layer in dict(rows(u, i)) else [-1, -1]
                                              for layer in (1, 2, 4)] for u, i, _ in its])
        self.assertEqual(told["values"], [
            {"ubatch": u.number, "token": i, "context": 0, "sequence": t.sequence, "life": t.life,
             "position": t.position, "id": t.id, "generation": t.generation, "output": t.output, "warmup": u.warmup,
             "rejected": t.rejected} for u, i, t in its])
        self.assertEqual({stat.S_IMODE(path.stat().st_mode) for path in self.folder.glob("all.*npy")}, {0o600})
        self.assertEqual(list(self.folder.glob("*.tmp*")), [])

    def test_standard_output(self):
        path = self.write("piped.npy",
                          self.run_cli("export", "-f", "npy", "--warmup", "--mtp", self.trace, binary=True))
        its = list(chosen(events(), warmup=True, mtp=True))
        self.assertEqual(self.load(path)[0]["values"], self.expected(its, (1, 2, 4, 6)))

    def test_filters(self):
        out = self.folder / "some.npy"
        self.quiet("export", "-f", "npy", "--layer", "4", "--sequence", "0", "--no-rejected", "-o", out, self.trace)
        its = list(chosen(events(), keep=lambda u, t: t.sequence == 0 and not t.rejected))
        self.assertEqual(self.load(out)[0]["values"], self.expected(its, (4,)))

    def test_lives(self):
        self.quiet("export", "-f", "npy", "--split", "sequence", "-o", self.folder / "life", self.trace)
        lives = {"c0-s0-l1": (0, 1), "c0-s1-l0": (1, 0), "c0-s1-l1": (1, 1)}
        self.assertEqual({path.name for path in self.folder.glob("life*")},
                         {f"life-{name}{more}.npy" for name in lives for more in ("", ".tokens", ".weights")}
                         | {"life.layers.npy"})
        for name, life in lives.items():
            its = list(chosen(events(), keep=lambda u, t: (t.sequence, t.life) == life))
            array, told = self.load(self.folder / f"life-{name}.npy", self.folder / f"life-{name}.tokens.npy")
            self.assertEqual(array["values"], self.expected(its, (1, 2, 4)))
            self.assertEqual([one["position"] for one in told["values"]], [t.position for _, _, t in its])

    def test_wide_layers_and_no_tokens(self):
        table = [m.new_layer(0, 40000, 1)]
        its = [m.new_ubatch(0, table, tokens(0, 0, 0, 2), lambda layer, its, rank: 39999 - its.position)]
        path = self.write("wide", m.joined(m.encode(header(weights=False), [table], its)))
        array, = self.load(self.write("wide.npy", self.run_cli("export", "-f", "npy", path, binary=True)))
        self.assertEqual((array["dtype"], array["values"]), ("int32", [[[39999]], [[39998]]]))
        array, = self.load(self.write("none.npy",
                                      self.run_cli("export", "-f", "npy", "--sequence", "7", path, binary=True)))
        self.assertEqual(array["values"], [])


class ChangedWhileRead(Case):
    """One read is another one than the file is: before, between and after the passes of whoever reads twice."""
    def flipped(self, read, *args, **more):
        env = {**os.environ, "LC_ALL": "C.UTF-8", "LD_PRELOAD": FLIP_READ, "FLIP_READ": str(read), **more}
        return subprocess.run([CLI, *map(str, args)], capture_output=True, env=env, timeout=60)

    def sweep(self, *args, out=None):
        """Every read once: the result is the same, or it is said what is wrong with the file;
        and that something changed is said at least once."""
        files = lambda: {path.name: path.read_bytes() for path in self.folder.glob(out + "*")} if out else {}
        whole = self.flipped(0, *args, FLIP_COUNT=str(self.folder / "count"))
        self.assertEqual(whole.returncode, 0, whole.stderr)
        expected, said = files(), []
        for read in range(1, int((self.folder / "count").read_text()) + 1):
            for path in self.folder.glob(out + "*") if out else ():
                path.unlink()
            done = self.flipped(read, *args)
            if done.returncode == 0:
                self.assertEqual((done.stdout, files()), (whole.stdout, expected), (args, read, done.stderr))
            else:
                self.assertEqual(done.returncode, 1, (args, read, done.stderr))
                self.assertIn(b"a.moetrace", done.stderr)
            if b"changed while it was read" in done.stderr:
                said.append(read)
                self.assertEqual(files(), {}, (args, read))
        return said

    def test_exports(self):
        for form in ("npy", "sglang", "sglang-json", "hot-csv", "hot-json", "importance", "moe-cache-profile"):
            self.assertTrue(self.sweep("export", "-f", form, "--mtp", "-o", self.folder / "changed.out",
                                       self.trace, out="changed"), form)
        self.assertTrue(self.sweep("export", "-f", "npy", "--split", "sequence", "-o", self.folder / "lives",
                                   self.trace, out="lives"))

    def test_pack(self):
        trace = self.write("long/a.moetrace",
                           m.joined(made([m.new_ubatch(i, TABLE, tokens(0, 0, 64 * i, 64), expert) for i in range(40)],
                                         head=header(weights=False))))
        packed = self.folder / "packed.moetrace"
        self.assertTrue(self.sweep("pack", "--force", "-o", packed, trace, out="packed"))
        self.run_cli("pack", "-o", self.folder / "long/packed.a.moetrace", trace)
        self.sweep("pack", "--unpack", "--force", "-o", packed, self.folder / "long/packed.a.moetrace", out="packed")
        self.assertTrue(self.sweep("cat", "-o", packed, trace, out="packed"))

    def test_analyses(self):
        for args in (("report",), ("report", "--json"), ("cache", "--vram", "1MiB"),
                     ("predict",), ("compare", self.trace), ("info",), ("dump",)):
            self.sweep(*args, self.trace)


class ReadTwice(Case):
    """How many bytes of a trace are read: `info` goes through it once."""
    def read_by(self, *args):
        env = {**os.environ, "LC_ALL": "C.UTF-8", "LD_PRELOAD": FLIP_READ, "FLIP_BYTES": str(self.folder / "bytes")}
        done = subprocess.run([CLI, *map(str, args)], capture_output=True, env=env, timeout=60)
        self.assertEqual(done.returncode, 0, (args, done.stderr))
        return int((self.folder / "bytes").read_text())

    def test_analyses(self):
        ubatches = [m.new_ubatch(i, TABLE, tokens(0, 0, 64 * i, 64), expert) for i in range(60)]
        trace = self.write("long.moetrace", m.joined(made(ubatches)))
        self.run_cli("pack", "-o", self.folder / "long.packed.moetrace", trace)
        for path in trace, self.folder / "long.packed.moetrace":
            once = self.read_by("info", path)
            self.assertGreater(once, Path(path).stat().st_size // 2)
            for args in (("report",), ("report", "--json"), ("cache",), ("cache", "--vram", "1MiB", "--json"),
                         ("predict",),
                         ("predict", "--json")):
                self.assertLessEqual(self.read_by(*args, path), 2 * once, (args, path))
            for args in (("compare",), ("compare", "--json")):
                self.assertLessEqual(self.read_by(*args, path, path), 2 * 2 * once, (args, path))


WRITERS = {"page": ("report", "--html"), "page of cache": ("cache", "--html"), "trace": ("cat", "-o"),
           **{form: ("export", "-f", form, "-o") for form in
              ("npy", "csv", "jsonl", "libcachesim", "sglang", "sglang-json", "hot-csv", "hot-json", "importance",
               "moe-trace", "moe-cache-profile")}}
UNMARKED = ("moe-trace", "moe-cache-profile")


class Outputs(Case):
    """What is written over what, and how."""
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.writers = dict(WRITERS)
        page = subprocess.run([CLI, "report", "--html", cls.folder / "try.html", cls.trace], capture_output=True)
        if b"built without" in page.stderr:
            cls.writers = {name: args for name, args in WRITERS.items() if "page" not in name}

    def test_over_what_is_not_its_own(self):
        """getopt takes a file for an option's value: nothing is lost by that."""
        out = self.folder / "thing"
        kinds = {"a routing trace": Path(self.trace).read_bytes(), "a GGUF file": b"GGUF\3\0\0\0",
                 "a program": b"\x7fELF\2\1\1",
                 "a statistics file": b'{\n  "format": "llama-expert-tracer-statistics",',
                 "something else": b"<!DOCTYPE html>\n<title>mine"}
        for name, args in self.writers.items():
            for there, content in kinds.items():
                if (name, there) == ("trace", "a routing trace"):
                    continue
                out.write_bytes(content)
                self.refuses(*args, out, self.trace, says=(str(out), "--force", "there" if name in UNMARKED else there))
                self.assertEqual(out.read_bytes(), content)
            self.run_cli(*args, out, "--force", self.trace)
            self.assertNotEqual(out.read_bytes(), content)
        self.assertEqual(list(self.folder.glob("*.tmp")), [])

    def test_over_its_own(self):
        for i, (name, args) in enumerate(self.writers.items()):
            out = self.folder / f"own{i}"
            out.touch()
            self.run_cli(*args, out, self.trace)
            once = out.read_bytes()
            self.run_cli(*args, out, self.trace, status=1 if name in UNMARKED else 0)
            self.assertEqual(out.read_bytes(), once, name)

    def test_npy_and_what_is_beside_it(self):
        other = self.folder / "beside.tokens.npy"
        other.write_bytes(b"mine")
        self.refuses("export", "-f", "npy", "-o", self.folder / "beside.npy", self.trace,
                     says=("beside.tokens.npy", "--force"))
        self.assertEqual([path.name for path in self.folder.glob("beside*")], [other.name])

    def test_an_input_is_no_output(self):
        mine = self.write("in.moetrace", Path(self.trace).read_bytes())
        hard, soft = self.folder / "hard.moetrace", self.folder / "soft.moetrace"
        os.link(mine, hard)
        soft.symlink_to(mine)
        for args in (*self.writers.values(), ("pack", "-o")):
            for out in (mine, hard, soft):
                self.run_cli(*args, out, "--force", mine, status=1)
                self.assertIn(f"{out}: is what is read", self.stderr)
        self.refuses("cat", "--force", "-o", mine, mine, says="is what is read")
        with open(mine, "rb") as stdin:
            done = subprocess.run([CLI, "cat", "--force", "-o", mine, "-"], stdin=stdin, capture_output=True)
        self.assertIn(b"is what is read", done.stderr)
        self.assertEqual(Path(mine).read_bytes(), Path(self.trace).read_bytes())

    def test_devices(self):
        expected = self.quiet("export", "-f", "csv", self.trace)
        self.quiet("export", "-f", "csv", "-o", "/dev/null", self.trace)
        for out in ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"):
            self.assertEqual(self.quiet("export", "-f", "csv", "-o", out, self.trace), expected)
        path = self.folder / "appended"
        path.write_text("before\n")
        with open(path, "a") as stdout:
            subprocess.run([CLI, "export", "-f", "csv", "-o", "/dev/stdout", self.trace], stdout=stdout, check=True)
        self.assertEqual(path.read_text(), "before\n" + expected)
        with open(path, "w") as stdout:
            done = subprocess.run([CLI, "export", "-f", "csv", "-o", path, self.trace], stdout=stdout,
                                  capture_output=False, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"own output", done.stderr)
        fifo = self.folder / "fifo"
        os.mkfifo(fifo)
        with subprocess.Popen([CLI, "export", "-f", "csv", "-o", fifo, self.trace]):
            self.assertEqual(fifo.read_text(), expected)

    def test_what_was_left_behind(self):
        """By a run that was killed; what another one writes just now stays."""
        for form in ("csv", "moe-trace"):
            out = self.folder / f"left.{form}"
            self.quiet("export", "-f", form, "-o", out, self.trace)
            left, held, foreign, named = (self.folder / f"{out.name}.{end}"
                                          for end in ("abcDE1.tmp", "abcDE2.tmp", "notes.tmp", "tmp-1"))
            for path in (left, held):
                path.write_bytes(out.read_bytes()[:100])
            foreign.write_text("mine")
            with open(held) as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self.quiet("export", "-f", form, "--force", "-o", out, self.trace)
            self.assertEqual([path.exists() for path in (left, held, foreign)], [False, True, True])

    def test_a_name_that_is_taken(self):
        """As by a run of the same process number that was killed."""
        out = self.folder / "taken.csv"
        done = subprocess.run(["sh", "-c", 'echo > "$1.tmp-$$"; exec "$0" export -f csv -o "$1" "$2"',
                               CLI, out, self.trace],
                              capture_output=True)
        self.assertEqual((done.returncode, done.stderr), (0, b""))

    def test_lives_are_whole_or_not_at_all(self):
        self.write("lives-c0-s1-l1.npy", "mine")
        self.refuses("export", "-f", "npy", "--split", "sequence", "-o", self.folder / "lives", self.trace,
                     says="lives-c0-s1-l1.npy")
        self.assertEqual([path.name for path in self.folder.glob("lives*")], ["lives-c0-s1-l1.npy"])


class ExportText(Case):
    def rows(self, name, *args):
        return list(csv.reader(io.StringIO(self.quiet("export", "-f", name, *args, self.trace))))

    def test_csv(self):
        head, *found = self.rows("csv")
        columns = ("ubatch,token,context,sequence,life,position,phase,warmup,rejected,token_id,layer,"
                   "expert0,expert1,weight0,weight1")
        self.assertEqual(head, columns.split(","))
        expected = [[u.number, i, 0, t.sequence, t.life, t.position, PHASES[t.generation], 0, int(t.rejected), t.id,
                     layer, *experts, 0.625, 0.375]
                    for u, i, t in chosen(events()) for layer, experts in rows(u, i)]
        self.assertEqual(found, [list(map(str, row)) for row in expected])

    def test_csv_of_layers_that_differ(self):
        found = self.rows("csv", "--mtp", "--layer", "6")[1:]
        self.assertEqual([row[-5:] for row in found], [["6", str(expert(6, token(1, 0, 2), 0)), "", "0.625", ""]])

    def test_jsonl(self):
        found = [json.loads(line) for line in self.quiet("export", "-f", "jsonl", "--warmup", self.trace).splitlines()]
        self.assertEqual(found, [
            {"ubatch": u.number, "token": i, "context": 0, "sequence": t.sequence,
             "life": t.life, "position": t.position, "phase": PHASES[t.generation], "output": t.output,
             "warmup": u.warmup, "rejected": t.rejected, "token_id": t.id,
             "layers": [{"layer": layer, "experts": experts, "weights": [0.625, 0.375]}
                        for layer, experts in rows(u, i)]}
            for u, i, t in chosen(events(), warmup=True)])

    def by_layer(self):
        """(ubatch, layer, index, token, experts), the layers of a ubatch one after the other."""
        its = list(chosen(events()))
        for ubatch in dict.fromkeys(u.number for u, _, _ in its):
            same = [one for one in its if one[0].number == ubatch]
            for layer in (1, 2, 4):
                for u, i, t in same:
                    if layer in dict(rows(u, i)):
                        yield u, layer, i, t, dict(rows(u, i))[layer]

    def test_moe_trace(self):
        expected = [[str(layer), str(one)] for _, layer, _, _, experts in self.by_layer() for one in experts]
        self.assertEqual(self.rows("moe-trace"), expected)

    def test_moe_cache_profile(self):
        its = list(chosen(events()))
        prompt = [(u.number, i) for u, i, t in its if not t.generation]
        generation = [(u.number, i) for u, i, t in its if t.generation]

        def position(number, index):
            place = (number, index)
            return prompt.index(place) - len(prompt) if place in prompt else generation.index(place)
        self.assertEqual(self.rows("moe-cache-profile"),
                         [list(map(str, (position(u.number, i), layer, *experts)))
                          for u, layer, i, _, experts in self.by_layer()])

    def test_libcachesim(self):
        head, *found = self.rows("libcachesim")
        self.assertEqual(head, ["time", "obj_id", "obj_size", "layer", "expert", "tokens"])
        expected = []
        for u, layer, _, _, experts in self.by_layer():
            for one in experts:
                key = [str(2 * (u.number - 1)), str(65536 * layer + one), "150", str(layer), str(one)]
                same = [row for row in expected if row[:-1] == key]
                if same:
                    same[0][-1] += 1
                else:
                    expected.append([*key, 1])
        self.assertEqual(found, [[*row[:-1], str(row[-1])] for row in expected])
        self.assertTrue(any(row[-1] != "1" for row in found))

    def test_libcachesim_without_sizes(self):
        table = [m.new_layer(0, 4, 1, ("blk.0.ffn_up_exps.weight", None))]
        path = self.write("sizeless", m.joined(m.encode(header(weights=False), [table],
                                                        [m.new_ubatch(0, table, tokens(0, 0, 0, 1), expert)])))
        self.assertEqual(self.run_cli("export", "-f", "libcachesim", path).splitlines()[1], "0,0,1,0,0,1")
        self.assertIn("--ignore-obj-size", self.stderr)

    def test_sglang(self):
        head, *found = self.rows("sglang")
        self.assertEqual(head, ["layer_id", "expert_id", "count"])
        counts = Counter((layer, one) for _, layer, _, _, experts in self.by_layer() for one in experts)
        self.assertEqual(found, [[str(layer), str(one), str(n)] for (layer, one), n in sorted(counts.items())])

    def test_sglang_json(self):
        """A row for each layer of the model, by number: the dense ones have zeros."""
        found = json.loads(self.run_cli("export", "-f", "sglang-json", self.trace))
        counts = Counter((layer, one) for _, layer, _, _, experts in self.by_layer() for one in experts)
        self.assertEqual(found, {"logical_count": [[counts[layer, one] for one in range(N_EXPERT)]
                                                   for layer in range(6)]})
        small = json.loads(self.run_cli("export", "-f", "sglang-json", "--layer", "2", self.trace))["logical_count"]
        self.assertEqual([layer for layer, row in enumerate(small) if any(row)], [2])
        unknown = self.write("unknown", m.joined(made(head=header(n_layer=0))))
        self.assertEqual(len(json.loads(self.run_cli("export", "-f", "sglang-json", unknown))["logical_count"]), 5)

    def used(self, keep=lambda u, t: True, layers=(1, 2, 4)):
        """By layer and expert: the gate weights of each activation."""
        weights = {layer: {one: [] for one in range(N_EXPERT)} for layer in layers}
        for u, i, _ in chosen(events(), keep=keep):
            for layer in u.layers:
                if i in layer.rows and layer.layer in layers:
                    row = layer.rows.index(i)
                    for one, weight in zip(layer.experts[row], layer.weights[row]):
                        weights[layer.layer][one].append(weight)
        return weights

    def hottest(self, its):
        return sorted(its, key=lambda one: (-len(its[one]), one))

    def test_hot_csv(self):
        for args, how in (((), {}), (("--no-rejected", "--phase", "generation", "--layer", "2,4"),
                                     {"keep": lambda u, t: t.generation and not t.rejected, "layers": (2, 4)})):
            head, *found = self.rows("hot-csv", *args)
            self.assertEqual(head, ["layer", "rank", "expert", "activations", "share"])
            expected = [(layer, rank, one, len(its[one]), len(its[one]) / sum(map(len, its.values())))
                        for layer, its in self.used(**how).items() for rank, one in enumerate(self.hottest(its))]
            self.assertEqual([tuple(map(int, row[:4])) for row in found], [row[:4] for row in expected])
            for row, (*_, share) in zip(found, expected):
                self.assertAlmostEqual(float(row[4]), share, 8)
        self.assertIn("0", [row[3] for row in found])

    def test_hot_json(self):
        found = json.loads(self.quiet("export", "-f", "hot-json", self.trace))
        used = self.used()
        self.assertEqual(found, {
            "llama_expert_tracer_hot": 1, "model": {key: MODEL[key] for key in ("name", "architecture", "fingerprint")},
            "tokens": len(list(chosen(events()))),
            "layers": {str(layer): self.hottest(its) for layer, its in used.items()},
            "activations": {str(layer): [len(its[one]) for one in self.hottest(its)] for layer, its in used.items()}})
        self.assertEqual(list(found["layers"]), ["1", "2", "4"])

    def test_importance(self):
        head, *found = self.rows("importance", "--sequence", "1")
        self.assertEqual(head, ["layer", "expert", "activations", "share", "mean_weight", "weight_sum"])
        used = self.used(keep=lambda u, t: t.sequence == 1)
        expected = [(layer, one, weights, sum(map(len, its.values()))) for layer, its in used.items()
                    for one, weights in sorted(its.items())]
        self.assertEqual([tuple(map(int, row[:3])) for row in found],
                         [(layer, one, len(weights)) for layer, one, weights, _ in expected])
        for row, (_, _, weights, total) in zip(found, expected):
            self.assertAlmostEqual(float(row[3]), len(weights) / total, 8)
            self.assertAlmostEqual(float(row[5]), sum(weights), 6)
            if weights:
                self.assertAlmostEqual(float(row[4]), sum(weights) / len(weights), 6)
            else:
                self.assertEqual(row[4], "")
        self.assertIn("", [row[4] for row in found])

    def test_importance_without_weights(self):
        its = [m.new_ubatch(0, TABLE, tokens(0, 0, 0, 3), expert)]
        path = self.write("weightless", m.joined(m.encode(header(weights=False), [TABLE], its)))
        found = list(csv.reader(io.StringIO(self.quiet("export", "-f", "importance", path))))[1:]
        self.assertEqual(len(found), 3 * N_EXPERT)
        self.assertEqual({tuple(row[4:]) for row in found}, {("", "")})
        self.assertEqual(sum(int(row[2]) for row in found), 3 * 3 * N_USED)

    def test_nothing_is_hot(self):
        for name, nothing in (("hot-csv", "layer,rank,expert,activations,share\n"),
                              ("importance", "layer,expert,activations,share,mean_weight,weight_sum\n")):
            self.assertEqual(self.quiet("export", "-f", name, "--sequence", "7", self.trace), nothing)
        found = json.loads(self.quiet("export", "-f", "hot-json", "--sequence", "7", self.trace))
        self.assertEqual((found["tokens"], found["layers"], found["activations"]), (0, {}, {}))

    def test_files(self):
        out = self.folder / "out.csv"
        self.quiet("export", "-f", "csv", "-o", out, self.trace)
        self.assertEqual(out.read_text(), self.quiet("export", "-f", "csv", "-o", "-", self.trace))
        self.assertEqual(stat.S_IMODE(out.stat().st_mode), 0o600)
        self.assertEqual(self.quiet("export", "-f", "csv", "-", stdin=Path(self.trace).read_bytes()), out.read_text())
        before = out.read_text()
        self.refuses("export", "-f", "csv", "-o", out, self.folder / "absent", says="absent")
        self.assertEqual(out.read_text(), before)
        self.refuses("export", "-f", "csv", "-o", self.folder / "no" / "folder", self.trace, says="folder")
        self.refuses("export", "-f", "npy", "-o", self.folder, self.trace)
        self.assertEqual(list(self.folder.glob("*.tmp*")), [])
        link = self.folder / "link.csv"
        link.symlink_to(out)
        self.quiet("export", "-f", "sglang", "--force", "-o", link, self.trace)
        self.assertTrue(link.is_symlink())
        self.assertTrue(out.read_text().startswith("layer_id"))

    def test_a_full_disk(self):
        self.run_cli("export", "-f", "csv", "-o", "/dev/full", self.trace, status=1)
        self.assertIn("/dev/full: cannot be written: No space left on device: make room there, or name a file "
                      "elsewhere", self.stderr)

    @unittest.skipUnless(os.geteuid() == 0, "mounts a file system")
    def test_a_disk_that_fills_up(self):
        # what fails long before the end is told as what fails at the end
        its = [m.new_ubatch(i, TABLE, tokens(0, 0, 100 * i, 100), expert, weight, first=True) for i in range(100)]
        trace = self.write("long", m.joined(m.encode(header(), [TABLE], its, chunk_every=10)))
        folder = self.folder / "mounted"
        folder.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder],
                          stderr=subprocess.DEVNULL).returncode:
            self.skipTest("may not mount")
        self.addCleanup(subprocess.run, ["umount", folder])
        (folder / "before").write_bytes(bytes(60000))
        for command in ("export", "-f", "csv"), ("cat",), ("pack", "--unpack"):
            out = folder / "out"
            self.refuses(*command, "-o", out, trace, says=f"{out}")
            self.assertIn("No space left on device", self.stderr)
            self.assertIn("make room", self.stderr)
            self.assertEqual([path.name for path in folder.iterdir()], ["before"])

    def test_the_longest_name(self):
        out = self.folder / ("x" * 251 + ".csv")
        self.quiet("export", "-f", "csv", "-o", out, self.trace)
        self.assertEqual(out.read_text(), self.quiet("export", "-f", "csv", self.trace))


QUERY = """
import { DuckDBInstance } from '@duckdb/node-api';
const connection = await (await DuckDBInstance.create(':memory:')).connect();
const answer = await connection.runAndReadAll(process.argv[1]);
console.log(JSON.stringify(answer.getRowsJson()));
"""


@unittest.skipUnless(shutil.which("npm"), "needs npm, for DuckDB")
class ExportDuckDB(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        subprocess.run([str(ROOT / "scripts" / "fetch-duckdb.sh"), str(DUCKDB)], check=True, timeout=600)

    def query(self, sql):
        done = subprocess.run(["node", "--input-type=module", "-e", QUERY, "--", sql], cwd=DUCKDB,
                              capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def test_csv(self):
        out = self.folder / "duck.csv"
        self.quiet("export", "-f", "csv", "-o", out, self.trace)
        found = self.query("select layer::int, count(*)::int, sum(expert0 + expert1)::int, max(weight0)::double "
                           f"from '{out}' group by layer order by layer")
        expected = [[layer, sum(layer in dict(rows(u, i)) for u, i, _ in chosen(events())),
                     sum(sum(dict(rows(u, i)).get(layer, ())) for u, i, _ in chosen(events())),
                     0.625] for layer in (1, 2, 4)]
        self.assertEqual(found, expected)

    def test_jsonl(self):
        out = self.folder / "duck.jsonl"
        self.quiet("export", "-f", "jsonl", "-o", out, self.trace)
        found = self.query("select l.layer::int, count(*)::int "
                           f"from (select unnest(layers) as l from read_json('{out}')) group by 1 order by 1")
        self.assertEqual(found, [[layer, sum(layer in dict(rows(u, i)) for u, i, _ in chosen(events()))]
                                 for layer in (1, 2, 4)])


if __name__ == "__main__":
    unittest.main()
