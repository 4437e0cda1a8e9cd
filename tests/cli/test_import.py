#!/usr/bin/env python3
"""Tests of llama-expert-tracer import (EXPERT_TRACER_CLI).

What it makes of each format is read by tests/trace/moetrace.py, and compared with what was put in.
"""

import csv
import io
import json
import math
import os
import resource
import stat
import struct
import subprocess
import unittest
from collections import Counter
from pathlib import Path

import test_trace_commands as made_traces
from test_trace_commands import CLI, N_EXPERT, NUMPY, ROOT, TABLE, header, made, weight

import moetrace as m

SHARED = Path(os.environ.get("EXPERT_TRACER_SHARED") or ROOT.parent / "shared" / "data")
REAL = {"qwen3-30b-a3b": (48, 128, 6, 28, 128, 38.0), "gpt-oss-120b": (36, 128, 2, 85, 64, 17.9)}
ROUTE_HEAD = """# route_trace v1
# model=/m/a model.gguf arch=qwen3moe n_layer=3 n_expert=8 n_expert_used=2
# layer=0 expert_bytes=0 dense_bytes=77
# layer=1 expert_bytes=100 dense_bytes=7
# layer=2 expert_bytes=50 dense_bytes=7
turn,phase,step,layer,slot,expert,weight,residency,expert_bytes
"""


def route(cells, head=ROUTE_HEAD):
    """A route trace of cells: turn, phase, step, layer, experts."""
    return head + "".join(f"{turn},{phase},{step},{layer},{slot},{one},{weight(layer, None, slot)},0,0\n"
                          for turn, phase, step, layer, experts in cells for slot, one in enumerate(experts))


def npy(shape, values, descr="'<i2'", order="False", version=1, code=None):
    """An npy file by hand."""
    code = code or {"'<i2'": "h", "'<i4'": "i", "'<f4'": "f", "'>i2'": "h", "'<i8'": "q", "'|u1'": "B"}[descr]
    sizes = ", ".join(map(str, shape)) + "," * (len(shape) == 1)
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': ({sizes}), }}"
    size = "<H" if version == 1 else "<I"
    room = -(10 + 2 * (version > 1) + len(text) + 1) % 64
    head = (text + " " * room + "\n").encode()
    head = b"\x93NUMPY" + bytes([version, 0]) + struct.pack(size, len(head)) + head
    return head + struct.pack(f"<{len(values)}{code}", *values)


def gguf(keys, tensors):
    """A GGUF file by hand, of numbers and strings, and of F32 tensors without anything in them."""
    text = lambda string: struct.pack("<Q", len(string)) + string.encode()
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys))
    for key, value in keys.items():
        is_text = isinstance(value, str)
        head += text(key) + struct.pack("<I", 8 if is_text else 4)
        head += text(value) if is_text else struct.pack("<I", value)
    offset = 0
    for name, shape in tensors.items():
        head += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, offset)
        offset += -(-4 * math.prod(shape) // 32) * 32
    return head + bytes(-len(head) % 32 + offset)


def moe_model(more=None, n_expert=8, n_layer=3):
    """A model whose first layer is dense, of top 2: an expert of layer 1 takes 96 bytes, of layer 2 160."""
    keys = {"general.architecture": "qwen3moe", "general.name": "A model", "qwen3moe.block_count": n_layer,
            "qwen3moe.expert_count": n_expert, "qwen3moe.expert_used_count": 2, **(more or {})}
    return gguf(keys, {"blk.0.ffn_up.weight": (8, 8), "blk.2.ffn_down_exps.weight": (4, 8, n_expert),
                       "blk.1.ffn_up_exps.weight": (4, 2, n_expert), "blk.1.ffn_down_exps.weight": (4, 4, n_expert),
                       "blk.1.ffn_up_exps.bias": (4, n_expert), "blk.2.ffn_up_exps.weight": (4, 2, n_expert),
                       "blk.2.ffn_up_shexp.weight": (4, 2)})


def tokens_of(trace, outputs=True, ids=True):
    """What a trace says of each ubatch's tokens, and of what each was routed to."""
    found = []
    for ubatch in trace.ubatches:
        its = []
        for index, token in enumerate(ubatch.tokens):
            layers = [(layer.layer, layer.n_used, layer.experts[layer.rows.index(index)],
                       layer.weights and layer.weights[layer.rows.index(index)])
                      for layer in ubatch.layers if index in layer.rows]
            token = token if outputs else token._replace(output=False)
            its.append((token if ids else token._replace(id=None), layers))
        found.append((ubatch.context, ubatch.warmup, its))
    return found


def decisions(trace):
    """Layers and experts of each token."""
    return [[(layer, experts) for layer, _, experts, _ in layers]
            for _, _, its in tokens_of(trace) for _, layers in its]


class Case(made_traces.Case):
    def imported(self, source, *options, name="imported.moetrace", stdin=None):
        path = self.folder / name
        path.unlink(missing_ok=True)
        self.quiet("import", *options, "-o", path, source, stdin=stdin)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        return m.Trace(path.read_bytes())

    def exported(self, form, *options, trace=None):
        path = self.folder / f"exported.{form}"
        path.unlink(missing_ok=True) # nothing tells some of them from what others write
        self.quiet("export", "-f", form, "-o", path, *options, trace or self.trace)
        return path

    def csv_of(self, trace):
        """The decisions of each token, as `export -f csv` has them."""
        found = {}
        for row in csv.DictReader(io.StringIO(self.quiet("export", "-f", "csv", trace))):
            experts = [int(row[key]) for key in row if key.startswith("expert") and row[key]]
            found.setdefault((row["context"], row["ubatch"], row["token"]), []).append((int(row["layer"]), experts))
        return list(found.values())

    def check_round_trips(self, trace, n_expert, n_used):
        """Whatever it is exported to, it is the same when it is imported again."""
        want = self.csv_of(trace)
        hints = "--experts", n_expert
        for form, *more in (("csv",), ("jsonl",), ("npy",), ("moe-trace", "--top-k", n_used), ("moe-cache-profile",)):
            with self.subTest(form):
                found = self.imported(self.exported(form, trace=trace), *hints, *more, name="again.moetrace")
                self.assertEqual(self.csv_of(self.folder / "again.moetrace"), want)
                self.assertEqual(decisions(found), want)
        with self.subTest("sglang-json"):
            stats = self.folder / "again.json"
            stats.unlink(missing_ok=True)
            self.quiet("import", "-o", stats, self.exported("sglang-json", trace=trace))
            counts = Counter((layer, one) for its in want for layer, experts in its for one in experts)
            found = json.loads(self.run_cli("show", "--json", stats))["per_layer"]
            self.assertEqual({(int(layer), int(one)): n for layer, row in found.items() for one, n in row.items() if n},
                             counts)

    def fails(self, content, *says, options=(), name="bad"):
        """It is refused, in one line that names the file, and nothing is left."""
        path = self.write(name, content)
        output = self.folder / "none"
        output.unlink(missing_ok=True)
        before = sorted(os.listdir(self.folder))
        self.refuses("import", *options, "-o", output, path, says=(path, *says))
        self.assertEqual(self.stderr.count("\n"), 1)
        self.assertEqual(sorted(os.listdir(self.folder)), before)


class RoundTrips(Case):
    """export, then import: all that the format tells is there again."""

    def original(self, warmup=True):
        trace = m.Trace(m.joined(made()))
        trace.events = [each for each in trace.ubatches if not each.mtp and (warmup or not each.warmup)]
        return trace

    def test_decisions(self):
        self.check_round_trips(self.trace, N_EXPERT, 2)
        self.assertEqual(self.csv_of(self.trace), decisions(self.original(warmup=False)))

    def test_csv(self):
        found = self.imported(self.exported("csv", "--warmup"), "--experts", N_EXPERT)
        want = tokens_of(self.original(), outputs=False)
        self.assertEqual(tokens_of(found, outputs=False), want)
        self.assertTrue(found.header["phases_known"] and found.header["weights"] and found.header["tokens"])
        self.assertEqual([token.output for token in found.ubatches[1].tokens],
                         [False] * 4 + [True]) # as its last layer shows
        self.assertTrue(found.end["complete"])

    def test_jsonl(self):
        found = self.imported(self.exported("jsonl", "--warmup"), "--experts", N_EXPERT)
        self.assertEqual(tokens_of(found), tokens_of(self.original()))

    def test_npy(self):
        found = self.imported(self.exported("npy", "--warmup"), "--experts", N_EXPERT)
        self.assertEqual(tokens_of(found), tokens_of(self.original()))
        self.assertEqual([layer["layer"] for layer in found.tables[0][0]], [1, 2, 4])

    def test_npy_alone(self):
        """From the standard input there is nothing beside it."""
        found = self.imported("-", "--experts", N_EXPERT, stdin=self.exported("npy").read_bytes())
        place = {1: 0, 2: 1, 4: 2}
        self.assertEqual(decisions(found), [[(place[layer], experts) for layer, experts in its]
                                            for its in decisions(self.original(warmup=False))])
        self.assertFalse(found.header["phases_known"] or found.header["weights"] or found.header["tokens"])
        for ubatch in found.ubatches:
            self.assertEqual([(one.sequence, one.position) for one in ubatch.tokens], [(None, None)])

    def test_moe_trace(self):
        found = self.imported(self.exported("moe-trace"), "--experts", N_EXPERT, "--top-k", 2)
        want = self.original(warmup=False)
        self.assertEqual(decisions(found), decisions(want))
        self.assertEqual([len(ubatch.tokens) for ubatch in found.ubatches],
                         [len(ubatch.tokens) for ubatch in want.ubatches])
        self.assertFalse(found.header["phases_known"])

    def test_moe_cache_profile(self):
        found = self.imported(self.exported("moe-cache-profile"), "--experts", N_EXPERT)
        want = self.original(warmup=False)
        self.assertEqual(decisions(found), decisions(want))
        phases = lambda trace: [[token.generation for token in ubatch.tokens] for ubatch in trace.ubatches]
        self.assertEqual(phases(found), phases(want))
        self.assertEqual({token.sequence for ubatch in found.ubatches for token in ubatch.tokens}, {None})
        self.assertRegex(self.quiet("info", self.folder / "imported.moetrace"), r"sequences +unknown")
        self.assertIsNone(json.loads(self.quiet("info", "--json", self.folder / "imported.moetrace"))["sequences"])

    def counts(self):
        counts = Counter((layer, one) for its in decisions(self.original(warmup=False))
                         for layer, experts in its for one in experts)
        return [[counts[layer, one] for one in range(N_EXPERT)] for layer in range(6)]

    def test_sglang(self):
        path = self.exported("sglang-json")
        self.assertEqual(json.loads(path.read_text()), {"logical_count": self.counts()})
        stats = self.folder / "stats.json"
        self.quiet("import", "--top-k", 2, "-m", "A model", "-o", stats, path)
        found = json.loads(self.run_cli("show", "--json", stats))
        want = {str(layer): {str(one): n for one, n in enumerate(row)}
                for layer, row in enumerate(self.counts()) if any(row)}
        self.assertEqual(found["per_layer"], want)
        self.assertEqual(found["layer_tokens"], {layer: sum(row.values()) // 2 for layer, row in want.items()})
        self.assertEqual((found["n_layer"], found["n_expert"], found["n_expert_used"]), (6, N_EXPERT, 2))
        self.assertEqual((found["total_tokens"], found["model"]["name"]), (None, "A model"))
        self.assertIn("A model", self.run_cli("report", stats))
        twice = json.loads(self.run_cli("merge", stats, stats))
        self.assertEqual(twice["total_activations"], 2 * sum(map(sum, self.counts())))
        rounds = json.dumps({"rank": 0, "logical_count": [self.counts(), self.counts()]}).replace("0", "0.0", 1)
        both = json.loads(self.quiet("import", self.write("rounds.json", rounds)))
        self.assertEqual(both["per_layer"], twice["per_layer"])

    def test_expert_bytes(self):
        found = self.imported(self.exported("csv"), "--experts", N_EXPERT, "--expert-bytes", "2KiB", "--model", "Large")
        self.assertEqual({tensor["expert_bytes"] for layer in found.tables[0][0] for tensor in layer["tensors"]},
                         {2048})
        self.assertEqual(found.header["model"], {"name": "Large", "architecture": None, "file": None,
                                                 "fingerprint": None})

    def test_what_is_not_known_stays_unknown(self):
        dark = self.write("dark", m.joined(m.encode(header(phases_known=False, weights=False, tokens=False), [TABLE],
                          [m.new_ubatch(0, TABLE, [m.Token(sequence=None)] * 2, lambda layer, its, rank: 7 - rank)])))
        for form in ("csv", "jsonl"):
            path = self.folder / f"dark.{form}"
            self.quiet("export", "-f", form, "-o", path, dark)
            found = self.imported(path, "--experts", N_EXPERT)
            self.assertFalse(found.header["phases_known"] or found.header["weights"] or found.header["tokens"])
            self.assertEqual(tokens_of(found), tokens_of(m.Trace(Path(dark).read_bytes())))

    @unittest.skipUnless(NUMPY, "no numpy")
    def test_numpy(self):
        path = self.folder / "vllm.npy"
        script = "import numpy, sys\nnumpy.save(sys.argv[1], numpy.arange(24).reshape(2, 3, 4).astype('int16'))"
        subprocess.run([NUMPY, "-c", script, path], check=True)
        found = self.imported(path, "--experts", 24)
        want = [[(layer, [12 * token + 4 * layer + i for i in range(4)]) for layer in range(3)] for token in range(2)]
        self.assertEqual(decisions(found), want)


class RouteTraces(Case):
    CELLS = [(0, 0, 0, 1, (3, 5)), (0, 0, 1, 1, (7, 0)), (0, 0, 1, 2, (2, 6)),
             (0, 1, 2, 1, (1, 2)), (0, 1, 2, 2, (4, 3)), (0, 1, 3, 1, (0, 7)), (0, 1, 3, 2, (5, 1))]

    def test_all_of_it(self):
        found = self.imported(self.write("run.csv", route(self.CELLS)))
        self.assertEqual([len(ubatch.tokens) for ubatch in found.ubatches], [2, 1, 1])
        want = {}
        for _, _, step, layer, experts in self.CELLS:
            want.setdefault(step, []).append((layer, list(experts)))
        self.assertEqual(decisions(found), [want[step] for step in range(4)])
        self.assertEqual([token for ubatch in found.ubatches for token in ubatch.tokens],
                         [m.Token(None, 0, 0, step, step > 1, step == 1) for step in range(4)])
        self.assertEqual(found.ubatches[0].layers[0].weights, [[0.625, 0.375]] * 2)
        self.assertEqual(found.header["model"], {"name": None, "architecture": "qwen3moe", "file": "/m/a model.gguf",
                                                 "fingerprint": None})
        self.assertEqual((found.header["n_layer"], found.header["phases_known"], found.header["engine"]),
                         (3, True, None))
        self.assertEqual([(layer["layer"], layer["n_expert"], layer["n_expert_used"],
                           layer["tensors"][0]["expert_bytes"])
                          for layer in found.tables[0][0]], [(1, 8, 2, 100), (2, 8, 2, 50)])

    def test_columns_are_found_by_their_names(self):
        rows = list(csv.reader(route(self.CELLS).splitlines()[5:]))
        turned = [[*reversed(row), "1"] for row in rows]
        turned[0][-1] = "dropped"
        head = ROUTE_HEAD.splitlines()[:5]
        path = self.write("turned.csv", "\r\n".join(head + [",".join(row) for row in turned]))
        plain = self.imported(self.write("run.csv", route(self.CELLS)))
        self.assertEqual(tokens_of(self.imported(path)), tokens_of(plain))
        few = [",".join(row[1:6]) for row in rows]
        found = self.imported(self.write("few.csv", "\n".join(head + few)))
        self.assertEqual(decisions(found), decisions(self.imported(path)))
        self.assertFalse(found.header["weights"])

    def test_weights_that_are_not_known(self):
        text = route(self.CELLS)
        found = self.imported(self.write("nan.csv", text.replace("0.625", "nan").replace("0.375", "nan")))
        self.assertEqual({layer.weights for ubatch in found.ubatches for layer in ubatch.layers}, {None})

    def test_a_comment_between_rows(self):
        text = route(self.CELLS)
        more = text + "# model=/n arch=n n_layer=9 n_expert=65536 n_expert_used=3\n# layer=1 expert_bytes=7\n"
        found = self.imported(self.write("more.csv", more + "0,1,4,1,0,7,1,0,0\n0,1,4,1,1,6,1,0,0\n"))
        self.assertEqual(decisions(found)[-1], [(1, [7, 6])])
        self.assertEqual(found.header["n_layer"], 3)
        self.fails(more + "0,1,4,1,0,60000,1,0,0\n0,1,4,1,1,6,1,0,0\n", "expert 60000 of layer 1, which has 8")

    def test_a_prompt_of_two_batches(self):
        cells = [(0, 0, step, layer, (step, layer + 4))
                 for first in (0, 2) for layer in (1, 2) for step in (first, first + 1)]
        found = self.imported(self.write("two.csv", route(cells)))
        self.assertEqual([[token.position for token in ubatch.tokens] for ubatch in found.ubatches], [[0, 1], [2, 3]])

    def test_turns(self):
        """One that goes on, one that goes on from further before, and one from the beginning."""
        cells = [(turn, phase, step, layer, (step, 7)) for turn, phase, step in
                 ((0, 0, 0), (0, 1, 1), (0, 1, 2), (1, 0, 3), (1, 1, 4), (2, 0, 2), (3, 0, 0)) for layer in (1, 2)]
        found = self.imported(self.write("turns.csv", route(cells)))
        self.assertEqual([(token.life, token.position) for ubatch in found.ubatches for token in ubatch.tokens],
                         [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (0, 2), (1, 0)])
        self.assertEqual([(cut.number, cut.life, cut.position) for cut in found.cuts], [(5, 0, 2)])

    def test_what_is_wrong(self):
        good = route(self.CELLS)
        row = lambda n, old, new: "\n".join(line.replace(old, new, 1) if i == n else line
                                            for i, line in enumerate(good.split("\n"), 1))
        for content, *says in (
            (row(9, "0,0,1,1,0,7", "0,0,1,1,0,8"), "line 9, column 6", "expert 8", "which has 8"),
            (row(10, "0,0,1,1,1,0", "0,0,1,1,1,7"), "line 10, column 6", "expert 7 twice"),
            (row(10, "0,0,1,1,1,0", "0,0,1,1,2,0"), "line 10, column 5", "slot 2, and 1 is to come"),
            (row(8, "0,0,0,1,1,5", "0,0,0,1,1,x"), "line 8, column 6", "'x'", "no whole number"),
            (row(8, "0,0,0,1,1,5", "0,0,0,1,1,-5"), "line 8, column 6", "-5"),
            (row(8, "0,0,0,1,1,5", "0,2,0,1,1,5"), "line 8, column 2", "phase is 2"),
            (row(8, "0,0,0,1,1,5", "0,0,-1,1,1,5"), "line 8, column 3", "step is -1"),
            (row(8, "0.375", "heavy"), "line 8, column 7", "'heavy'"),
            (row(8, "0,0,0,1,1,5,0.375,0,0", "0,0,0"), "line 8", "the line ends after column 3"),
            ("\n".join(good.split("\n")[:7]), "line 7", "1 experts for this token, and 2"),
            (good.replace("slot", "place"), "line 6", "no column slot"),
            (good.replace("n_expert=8", "n_expert=many"), "line 2", "n_expert is 'many'"),
            (good.replace("n_expert=8", "n_expert=100000"), "line 2", "n_expert is '100000'"),
            (good.replace("expert_bytes=100", "expert_bytes=-1"), "line 4", "expert_bytes is '-1'"),
            (good.replace(" n_expert=8", ""), "--experts N"),
            (ROUTE_HEAD, "no routing is in it"),
            (good[:200], "no routing is in it"),
            (good.replace("0,0,0,1,0,3", "0,0\0,1,0,3"), "line 7", "a zero byte"),
            (route([*self.CELLS, (0, 0, 4, 1, (0, 1)), (0, 0, 5, 1, (0, 1)), (0, 0, 6, 1, (0, 1)), (0, 0, 4, 2, (0, 1)),
                    (0, 0, 5, 2, (1, 0)), (0, 0, 6, 3, (1, 0))]),
             "ubatch from line 21 on", "its 2 rows are neither all 3 tokens"),
            (route([(0, 0, 0, 1, (0, 1)), (0, 0, 1, 1, (0, 1)), (0, 0, 0, 1, (0, 1))]), "line 11",
             "has this token already"),
        ):
            with self.subTest(says=says):
                self.fails(content, *says)
        self.fails(good, "--experts says 9", "leave that out", options=("--experts", 9))
        self.imported(self.write("same.csv", good), "--experts", 8, "--top-k", 2)


class Models(Case):
    """--model names a GGUF file, which tells what the format does not."""
    ROWS = "1,3\n1,5\n2,7\n2,0\n"

    def bytes_of(self, trace):
        return {layer["layer"]: [tensor["expert_bytes"] for tensor in layer["tensors"]] for layer in trace.tables[0][0]}

    def test_what_it_tells(self):
        model = self.write("a.gguf", moe_model())
        found = self.imported(self.write("rows.csv", self.ROWS), "--model", model)
        self.assertEqual(decisions(found), [[(1, [3, 5]), (2, [7, 0])]])
        self.assertEqual(found.header["model"], {"name": "A model", "architecture": "qwen3moe", "file": None,
                                                 "fingerprint": None})
        self.assertEqual(found.header["n_layer"], 3)
        self.assertEqual(self.bytes_of(found), {1: [96], 2: [160]})
        found = self.imported(self.write("rows.csv", self.ROWS), "--model", model, "--expert-bytes", 7)
        self.assertEqual(self.bytes_of(found), {1: [7], 2: [7]})
        found = self.imported(self.write("four.csv", "1,3\n1,5\n1,2\n1,0\n"), "--model", model, "--top-k", 4)
        self.assertEqual(decisions(found), [[(1, [3, 5, 2, 0])]])

    def test_a_multi_token_prediction_head(self):
        model = self.write("mtp.gguf", moe_model({"qwen3moe.nextn_predict_layers": 1}))
        found = self.imported(self.write("rows.csv", self.ROWS), "--model", model)
        self.assertEqual((found.header["n_layer"], self.bytes_of(found)), (2, {1: [96], 2: []}))

    def test_layers_of_an_array(self):
        """As many as have experts: theirs. As many as there are: their places."""
        model = self.write("a.gguf", moe_model())
        found = self.imported(self.write("moe.npy", npy((1, 2, 2), [3, 5, 7, 0])), "--model", model)
        self.assertEqual(decisions(found), [[(1, [3, 5]), (2, [7, 0])]])
        found = self.imported(self.write("all.npy", npy((1, 3, 1), [-1, 5, 7])), "--model", model)
        self.assertEqual(decisions(found), [[(1, [5]), (2, [7])]])
        self.fails(npy((1, 4, 1), [1, 2, 3, 4]), "4 layers", f"{model} 2 with experts", "is that its model?",
                   options=("--model", model))

    def test_what_the_format_tells_itself(self):
        """Its top-k too: a program may use fewer experts than the model was made for."""
        cells = [(*place, experts[:1]) for *place, experts in RouteTraces.CELLS]
        path = self.write("one.csv", route(cells, ROUTE_HEAD.replace("_used=2", "_used=1")))
        found = self.imported(path, "--model", self.write("a.gguf", moe_model(n_layer=4)))
        self.assertEqual((found.header["model"]["name"], found.header["model"]["file"]), ("A model", "/m/a model.gguf"))
        self.assertEqual((found.header["n_layer"], self.bytes_of(found)), (3, {1: [100], 2: [50]}))

    def test_statistics(self):
        model = self.write("a.gguf", moe_model())
        counts = json.dumps({"logical_count": [[0] * 8, [2] * 8, [4] * 8]})
        found = json.loads(self.quiet("import", "--model", model, self.write("counts.json", counts)))
        self.assertEqual(found["model"]["name"], "A model")
        self.assertEqual((found["n_expert_used"], found["layer_tokens"]), (2, {"1": 8, "2": 16}))
        self.fails('{"logical_count": [[1, 2]]}', "2 experts", f"{model} 8", "is that its model?",
                   options=("--model", model))

    def test_one_file_of_several(self):
        model = self.write("a-00001-of-00002.gguf", moe_model({"split.count": 2}))
        rows = self.write("rows.csv", self.ROWS)
        self.run_cli("import", "--force", "-o", self.folder / "part.moetrace", "--model", model, rows)
        self.assertIn(f"{model}: is not all of the model", self.stderr)
        found = m.Trace((self.folder / "part.moetrace").read_bytes())
        self.assertEqual((found.header["n_layer"], self.bytes_of(found)), (3, {1: [], 2: []}))
        self.imported(rows, "--model", model, "--expert-bytes", "1KiB")

    def test_a_name(self):
        """What is there, and is no GGUF, is taken for a name."""
        other = self.write("Large", "text")
        found = self.imported(self.write("rows.csv", self.ROWS), "--model", other, "--experts", 8, "--top-k", 2)
        self.assertEqual(found.header["model"]["name"], other)

    def test_what_is_wrong(self):
        for name, content, *says in (
            ("absent.gguf", None, "No such file"),
            ("text.gguf", "text", "text.gguf"),
            ("short.gguf", moe_model()[:200], "short.gguf"),
            ("dense.gguf", gguf({"general.architecture": "llama", "llama.block_count": 3}, {}), "tells of no experts"),
        ):
            with self.subTest(name):
                path = self.folder / name if content is None else self.write(name, content)
                self.refuses("import", "--model", path, "-o", self.folder / "none", self.write("rows.csv", self.ROWS),
                             says=(f"{self.folder}/{name}", *says))
        model = self.write("a.gguf", moe_model())
        self.fails(self.ROWS, "has 9 experts in a layer", f"{model} 8", "is that its model?",
                   options=("--model", model, "--experts", 9))
        self.refuses("import", "--force", "--model", model, "-o", model, self.write("rows.csv", self.ROWS),
                     says="is what is read")


class Refusals(Case):
    """Each with where it is."""

    def test_npy(self):
        good = (2, 2, 2), [1, 2, 3, 4, 5, 6, 7, 0]
        experts = ("--experts", 8)
        self.imported(self.write("good.npy", npy(*good)), *experts)
        self.imported(self.write("good.npy", npy(*good, descr="'<i4'", version=2)), *experts)
        for content, *says in (
            (npy((2, 2, 2), [1, 2, 3, 4, 5, 8, 7, 0]), "[1, 0, 1]", "expert 8"),
            (npy((2, 2, 2), [1, 2, 3, 3, 5, 6, 7, 0]), "[0, 1, 1]", "expert 3 twice"),
            (npy((2, 2, 2), [1, -2, 3, 4, 5, 6, 7, 0]), "[0, 0, 1]", "expert -2"),
            (npy((2, 2, 2), [-1, 2, 3, 4, 5, 6, 7, 0]), "[0, 0, 1]", "behind a -1"),
            (npy((2, 2, 2), [1, 2, 3, 4, 5, -1, 7, 0]), "[1, 0, 0]", "1 experts for this token, and 2 elsewhere"),
            (npy((1, 1500, 1), [0] * 1500), "1500 rows, and all of them take expert 0"),
            (npy((1500, 1, 1), [0] * 1500), "1500 rows, and all of them take expert 0"),
            (npy((2, 2), [1, 2, 3, 4]), "2 dimensions"),
            (npy((2, 2, 2, 1), good[1]), "at most 3 dimensions"),
            (npy((2, 0, 2), []), "0 layers"),
            (npy((0, 2, 2), []), "no routing is in it"),
            (npy((2, 2, 2), [-1] * 8), "no routing is in it"),
            (npy((3, 2, 2), good[1]), "24 bytes", "16 follow"),
            (npy((2, 2, 2), good[1] + [1]), "16 bytes", "18 follow"),
            (npy((2 ** 62, 2, 2), good[1]), "no file has"),
            (npy(*good, descr="'<i8'"), "'<i8'", "int32"),
            (npy(*good, descr="'>i2'"), "'>i2'"),
            (npy(*good, order="True"), "Fortran"),
            (npy(*good).replace(b"'shape'", b"'shade'"), "header"),
            (npy(*good)[:60], "ends in its header"),
        ):
            with self.subTest(says=says):
                self.fails(content, *says, options=experts)
        self.fails(npy(*good), "how many experts", "--experts N")
        self.fails(npy(*good), "2 experts for this token, and 3", options=(*experts, "--top-k", 3))

    def test_what_is_beside_an_npy(self):
        for more, content, *says in (
            (".layers", npy((3,), [0, 1, 2], "'<i4'"), "2 numbers of layers"),
            (".layers", npy((2,), [1, 0], "'<i4'"), "[1]"),
            (".tokens", npy((2,), [1, 0], "'<i4'"), "does not tell of the array's tokens"),
            (".weights", npy((2, 2, 1), [1.0] * 4, "'<f4'"), "not of the array's shape"),
            (".weights", b"text", "does not begin as an npy file does"),
        ):
            with self.subTest(more=more, says=says):
                beside = Path(self.write(f"run{more}.npy", content))
                path = self.write("run.npy", npy((2, 2, 2), [1, 2, 3, 4, 5, 6, 7, 0]))
                self.refuses("import", "--experts", 8, "-o", self.folder / "none", path, says=(str(beside), *says))
                beside.unlink()

    def test_csv(self):
        head = ("ubatch,token,context,sequence,life,position,phase,warmup,rejected,token_id,layer,expert0,expert1,"
                "weight0,weight1\n")
        good = head + "0,0,0,0,0,7,prompt,0,0,11,3,1,2,0.5,0.25\n0,0,0,0,0,7,prompt,0,0,11,4,2,1,0.5,0.25\n"
        experts = ("--experts", 8)
        self.imported(self.write("good.csv", good), *experts)
        for old, new, *says in (
            ("11,4,2,1", "11,4,2,8", "line 3, column 13", "expert 8"),
            ("11,4,2,1", "11,4,2,2", "line 3, column 13", "twice"),
            ("11,4,2,1", "11,4,,2", "line 3, column 12", "''"),
            ("11,4,2,1", "11,4,2,1,0.5,0.25\n0,1,0,0,0,8,prompt,0,0,11,4,2,", "line 4, column 12",
             "layer 4 has 1 experts for this token, and 2 elsewhere"),
            ("11,4,2,1", "11,,2,1", "line 3, column 11", "no layer"),
            ("11,4,2,1", "11,5000,2,1", "line 3, column 11", "5000"),
            ("11,4,2,1", "11,3,2,1", "line 3", "has this token already"),
            ("prompt,0,0,11,4", "decode,0,0,11,4", "line 3, column 7", "'decode'", "prompt or generation"),
            ("prompt,0,0,11,4", ",0,0,11,4", "line 3, column 7", "''"),
            ("prompt,0,0,11,4", "prompt,2,0,11,4", "line 3, column 8", "warmup is 2"),
            ("0,0,0,0,0,7,prompt,0,0,11,4", "-1,0,0,0,0,7,prompt,0,0,11,4", "line 3, column 1", "ubatch is -1"),
            ("0,0,0,0,0,7,prompt,0,0,11,4", "1,0,5000,0,0,7,prompt,0,0,11,4", "ubatch from line 3 on", "context 5000"),
            (",4,2,1,0.5,0.25", ",4,2,1,0.5,light", "line 3, column 15", "'light'"),
            (",4,2,1,0.5,0.25", ",4,2,1,0.5", "line 3, column 15"),
            (",weight1", "", "line 1, column 14", "columns of weights"),
            (",layer,", ",level,", "line 1", "no column layer"),
        ):
            with self.subTest(new=new):
                self.assertIn(old, good)
                at = good.rindex(old)
                self.fails(good[:at] + new + good[at + len(old):], *says, options=experts)
        self.fails(head, "no routing", options=experts)
        self.fails(good, "--experts N")

    def test_jsonl(self):
        good = {"ubatch": 0, "token": 0, "context": 0, "sequence": 0, "life": 0, "position": 3, "phase": "prompt",
                "output": False,
                "warmup": False, "rejected": False, "layers": [{"layer": 3, "experts": [1, 2], "weights": [0.5, None]}]}
        experts = ("--experts", 8)
        dense = lambda value: json.dumps(value, separators=(",", ":"))
        line = lambda **more: dense(good) + "\n" + dense({**good, **more})
        layer = lambda **more: line(layers=[{**good["layers"][0], **more}])
        self.imported(self.write("good.jsonl", line()), *experts)
        for content, *says in (
            (layer(experts=[1, 8]), "line 2", "layers[0].experts[1]", "expert 8"),
            (layer(experts=[2, 2]), "line 2", "layers[0].experts[1]", "twice"),
            (layer(experts=[2]), "line 2", "layers[0]"),
            (layer(experts=["2", 1]), "layers[0].experts[0]", "is no expert"),
            (layer(experts=2), "layers[0].experts"),
            (layer(weights=[1]), "layers[0].weights[1]"),
            (layer(weights=[1, "x"]), "layers[0].weights[1]", "no number"),
            (layer(layer=None), "line 2", "layer"),
            (layer(layer=9999), "line 2", "layer"),
            (line(layers=None), "line 2", "layers"),
            (line(position=-3), "line 2", "position"),
            (line(position=2 ** 31), "line 2", "position"),
            (line(phase="decode"), "line 2", "phase"),
            (line(phase=None), "line 2", "phase"),
            (line(output="no"), "line 2", "output"),
            (line(ubatch=None), "line 2", "ubatch"),
            (line()[:-5], "line 2, column"),
            (line() + "\n[]", "line 3", "no JSON object"),
        ):
            with self.subTest(says=says):
                self.fails(content, *says, options=experts)
        self.fails(line(), "--experts N")

    def test_moe_trace(self):
        hints = ("--experts", 8, "--top-k", 2)
        for content, *says in (
            ("0,1\n0,2\n1,3\n1,8\n", "line 4, column 2", "expert 8"),
            ("0,1\n0,2\n1,3\n1,3\n", "line 4, column 2", "twice"),
            ("0,1\n0,2\n1,9\n1,3\n", "line 3, column 2", "expert 9"),
            ("0,1\n0,2\n0,3\n1,3\n", "line 4", "3 experts", "--top-k 2"),
            ("0,1\n0,2\n0,3\n", "layer 0", "3 experts"),
            ("0,1\n0,2,3\n", "line 2", "3 cells"),
            ("0,1\n0,x\n", "line 2, column 2", "'x'"),
        ):
            with self.subTest(says=says):
                self.fails(content, *says, options=hints)
        self.fails("0,1\n0,2\n", "--top-k K", options=("--experts", 8))
        self.fails("0,1\n0,2\n", "--experts N", options=("--top-k", 2))

    def test_moe_cache_profile(self):
        for content, *says in (
            ("-1,0,1,2\n-1,1,3,8\n", "line 2, column 4", "expert 8"),
            ("-1,0,1,2\n-1,1,3,3\n", "line 2, column 4", "twice"),
            ("-1,0,1,2\n-1,1,3\n-1,1,4\n", "line 3", "has this token already"),
            ("-1,0,1,2\n-1,1\n", "line 2", "2 cells"),
            ("-1,0,1,2\n-x,1,2,3\n", "line 2, column 1", "'-x'"),
            ("-1,0,1,2\n-1,0,2,1\n", "line 2", "has this token already"),
        ):
            with self.subTest(says=says):
                self.fails(content, *says, options=("--experts", 8))
        self.fails("-1,0,1,2\n", "--experts N")

    def test_sglang(self):
        for content, *says in (
            ('{"logical_count": [[1, 2], [3]]}', "logical_count[1]", "not as long"),
            ('{"logical_count": [[1, 2], [3, -1]]}', "logical_count[1][1]"),
            ('{"logical_count": [[1, 2], [3, 0.5]]}', "logical_count[1][1]"),
            ('{"logical_count": [[1, 2], [3, "x"]]}', "logical_count[1][1]"),
            ('{"logical_count": [[[1, 2]], [[1, 2], [3, 4]]]}', "logical_count[1]", "layers"),
            ('{"logical_count": [[[1, 2]], [[1, 1e300]]]}', "logical_count[1][0][1]"),
            ('{"logical_count": [[0, 0]]}', "nothing was counted"),
            ('{"logical_count": []}', "no array of layers"),
            ('{"logical_count": 3}', "no array of layers"),
            ('{"logical_count": [[1, 2]', "line 1, column"),
        ):
            with self.subTest(says=says):
                self.fails(content, *says)
        self.fails('{"count": 1}', "logical_count", options=("-f", "sglang"))
        self.fails('{"logical_count": [[1, 2]]}', "--experts says 3", options=("--experts", 3))

    def test_usage(self):
        path = self.write("run.csv", "0,1\n")
        for args, *says in (
            ((), "which file"), ((path, path), "one file"), (("-f", "xml", path), "'xml'", "route-trace"),
            (("--experts", "0", path), "--experts"), (("--experts", "8x", path), "'8x'"),
            (("--experts", "65537", path), "from 1 to 65536"), (("--top-k", "-1", path), "--top-k"),
            (("--expert-bytes", "0", path), "--expert-bytes"),
            (("--expert-bytes", "big", path), "'big'"), (("--nope", path), "--nope"), (("-o",), "-o needs a value"),
        ):
            self.refuses("import", *args, status=2, says=says)
        self.assertIn("usage: llama-expert-tracer import", self.quiet("import", "--help"))

    def test_the_format(self):
        self.fails("", "is empty")
        self.fails("text\n", "--format is route-trace, npy")
        self.fails(Path(self.trace).read_bytes(), "is a routing trace already")
        self.fails('{\n  "format": "llama-expert-tracer-statistics",\n', "is a statistics file already")
        self.fails("0,1\n", "line 1", "no column ubatch", options=("-f", "csv", "--experts", 8))
        self.refuses("import", self.folder / "absent", says=("absent", "No such file"))
        self.refuses("import", self.folder, says=(str(self.folder), "no regular file"))


class Outputs(Case):
    def setUp(self):
        self.source = self.write("run.csv", route(RouteTraces.CELLS))

    def test_what_is_there_already(self):
        other = Path(self.write("other", "mine"))
        self.refuses("import", "-o", other, self.source, says=(str(other), "--force"))
        self.assertEqual(other.read_text(), "mine")
        self.quiet("import", "-o", other, "--force", self.source)
        before = other.read_bytes()
        self.quiet("import", "-o", other, self.source) # a trace is replaced
        self.assertNotEqual(other.read_bytes(), before)
        self.refuses("import", "--force", "-o", self.source, self.source, says="is what is read")
        self.fails("0,1\n0,1\n", "twice", options=("--experts", 8, "--top-k", 2))
        self.refuses("import", "--experts", 8, "--top-k", 2, "-o", other, self.write("bad", "0,1\n0,1\n"), says="twice")
        self.assertTrue(m.Trace(other.read_bytes()).end["complete"])

    def test_pipes(self):
        want = tokens_of(self.imported(self.source))
        text = Path(self.source).read_bytes()
        self.assertEqual(tokens_of(m.Trace(self.run_cli("import", self.source, binary=True))), want)
        self.assertEqual(tokens_of(m.Trace(self.run_cli("import", "-o", "-", "-", stdin=text, binary=True))), want)
        self.run_cli("import", "-", stdin=b"0,1\n", status=1)
        self.assertIn("standard input: does not tell how many experts", self.stderr)

    def test_a_disk_that_is_full(self):
        cells = [(0, 1, step, layer, (step % 7, 7)) for step in range(4000) for layer in (1, 2)]
        large = self.write("large.csv", route(cells))
        before = sorted(os.listdir(self.folder))
        done = subprocess.run([CLI, "import", "-o", str(self.folder / "none"), large], capture_output=True, text=True,
                              preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)))
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn(f"{self.folder}/none: cannot be written: File too large", done.stderr)
        self.assertEqual(sorted(os.listdir(self.folder)), before)
        self.run_cli("import", "-o", "/dev/full", large, status=1)
        self.assertIn("/dev/full: cannot be written", self.stderr)

    def test_the_model_is_not_looked_at(self):
        """Its file is of another machine: one of that name that is here may be another one."""
        model = self.write("a model.gguf", "GGUF")
        found = self.imported(self.write("here.csv", route(RouteTraces.CELLS).replace("/m/a model.gguf", model)))
        self.assertEqual(found.header["model"]["file"], model)
        self.assertIsNone(found.header["model"]["fingerprint"])

    def test_other_commands_read_it(self):
        path = self.folder / "all.moetrace"
        self.quiet("import", "--force", "-o", path, self.source)
        self.assertIn("4: 2 prompt, 2 generation", self.quiet("info", path))
        for command in ("report", "cache", "predict", "dump"):
            self.run_cli(command, path)
        other = self.folder / "other.moetrace"
        self.quiet("import", "-o", other, self.source)
        self.assertEqual(len(m.Trace(self.quiet("cat", path, other, binary=True)).ubatches), 6)


@unittest.skipUnless(all((SHARED / f"{name}.route.csv").exists() for name in REAL), f"no route traces in {SHARED}")
class RealTraces(Case):
    def check(self, name):
        n_layer, n_expert, n_used, n_prompt, n_generated, share = REAL[name]
        source = SHARED / f"{name}.route.csv"
        lines = source.read_text().splitlines()
        rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
        sizes = {int(line.split()[1][6:]): int(line.split()[2][13:]) for line in lines if line.startswith("# layer=")}
        found = self.imported(source)
        layers = [layer for table in found.tables[0].values() for layer in table]
        self.assertEqual({layer["layer"] for layer in layers}, set(range(n_layer)))
        self.assertEqual({(layer["n_expert"], layer["n_expert_used"]) for layer in layers}, {(n_expert, n_used)})
        self.assertEqual({layer["layer"]: layer["tensors"][0]["expert_bytes"] for layer in layers}, sizes)
        tokens = [token for ubatch in found.ubatches for token in ubatch.tokens]
        self.assertEqual(Counter(token.generation for token in tokens), {False: n_prompt, True: n_generated})
        self.assertEqual([token.position for token in tokens], list(range(n_prompt + n_generated)))
        self.assertEqual([len(ubatch.tokens) for ubatch in found.ubatches], [n_prompt] + [1] * n_generated)
        want, weights = {}, {}
        for row in rows:
            want.setdefault((int(row["step"]), int(row["layer"])), []).append(int(row["expert"]))
            weights.setdefault((int(row["step"]), int(row["layer"])), []).append(float(row["weight"]))
        its = {}
        for ubatch in found.ubatches:
            for layer in ubatch.layers:
                for row, experts, gates in zip(layer.rows, layer.experts, layer.weights):
                    key = (ubatch.tokens[row].position, layer.layer)
                    its[key] = experts
                    for gate, expected in zip(gates, weights[key]):
                        self.assertAlmostEqual(gate, expected, delta=expected / 1000 + 1e-7)
        self.assertEqual(its, want)
        return self.previous_share(), share

    def previous_share(self):
        """Of a generated token's experts, how many the one before had: from what the trace is exported to again."""
        text = self.quiet("export", "-f", "csv", self.folder / "imported.moetrace")
        before, shared, all_of_them = {}, 0, 0
        for row in csv.DictReader(io.StringIO(text)):
            experts = {row[key] for key in row if key.startswith("expert")}
            if row["phase"] == "generation":
                if row["layer"] in before:
                    shared += len(experts & before[row["layer"]])
                    all_of_them += len(experts)
                before[row["layer"]] = experts
        return 100 * shared / all_of_them

    def test_qwen(self):
        self.assertAlmostEqual(*self.check("qwen3-30b-a3b"), delta=0.06)

    def test_gpt_oss(self):
        self.assertAlmostEqual(*self.check("gpt-oss-120b"), delta=0.06)

    def test_round_trips(self):
        for name, (_, n_expert, n_used, *_) in REAL.items():
            with self.subTest(name):
                self.imported(SHARED / f"{name}.route.csv")
                self.check_round_trips(self.folder / "imported.moetrace", n_expert, n_used)


if __name__ == "__main__":
    unittest.main()
