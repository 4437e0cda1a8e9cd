#!/usr/bin/env python3
"""Tests that docs/json.md is what `report`, `cache`, `compare` and `predict` (EXPERT_TRACER_CLI) print with --json: the
tables of that page are read as a schema, and every object that is printed is held against it."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "trace")]

import moetrace as m       # noqa: E402
import test_cache          # noqa: E402
import test_predict        # noqa: E402
import test_report         # noqa: E402

PAGE = HERE.parent.parent / "docs" / "json.md"
LIVE = {"ps", "ps-process", "live-status", "live-model", "ctl", "ctl-process", "hold"} # test_live.py has those
WATCH = "watch" # and what begins with it: test_serve_live.py
PLAIN = {"string": (str,), "integer": (int,), "number": (float,), "boolean": (bool,)}


def sections():
    """name -> key -> (type, optional)"""
    found = {}
    for line in PAGE.read_text().splitlines():
        heading = re.fullmatch(r"##+ ([\w-]+)", line)
        row = re.fullmatch(r"\| `([^`]+)` \| (.+?) \| (.*?) ?\|", line)
        if heading:
            its = found.setdefault(heading[1], {})
        elif row:
            its[row[1]] = row[2], row[3].startswith("Only ")
    return found


class Reader:
    """Reads an object by the page and nothing else."""

    def __init__(self):
        self.sections = sections()
        self.seen = set()

    def read(self, value, its, where):
        if its.endswith(" or null") and self.top_level(its):
            if value is None:
                return
            its = its[:-len(" or null")]
        inner = re.fullmatch(r"list of \((.*)\)|list of (.*)", its)
        link = re.fullmatch(r"\[([\w-]+)\]\(#\1\)", its)
        if inner:
            assert isinstance(value, list), (where, its, value)
            for i, one in enumerate(value):
                self.read(one, inner[1] or inner[2], f"{where}[{i}]")
        elif its.endswith(" by layer"):
            for key, one in value.items():
                assert key.isdecimal(), (where, key)
                self.read(one, its[:-len(" by layer")], f"{where}.{key}")
        elif link:
            self.read_object(value, link[1], where)
        else:
            assert type(value) in PLAIN[its], (where, its, value)
            assert its != "integer" or value >= 0, (where, value)

    @staticmethod
    def top_level(its):
        return its.count("(") == its[:-len(" or null")].count(")") + its[-len(" or null"):].count(")")

    def read_object(self, value, section, where):
        assert isinstance(value, dict), (where, value)
        rows = self.sections[section]
        for key, one in value.items():
            assert key in rows, f"{where}.{key} is not in docs/json.md, section {section}"
            self.seen.add((section, key))
            self.read(one, rows[key][0], f"{where}.{key}")
        for key, (_, optional) in rows.items():
            assert optional or key in value, f"{where}.{key} is in docs/json.md, and was not printed"


class Json(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="test-json-"))
        cls.reader = Reader()
        write = cls.write
        cls.cache = write("cache", test_cache.conversation(test_cache.skewed(1)).trace())
        table = test_report.table()
        cls.report = write("report", m.joined(m.encode(m.new_header(n_layer=6, model=test_report.MODEL), [table],
                                                       test_report.conversation(test_report.skewed(1), table))))
        tables = [test_predict.TABLE, test_predict.HEAD]
        cls.predict = write("predict", m.joined(m.encode(test_predict.header(), tables, test_predict.events())))
        sure = [m.new_ubatch(i, test_predict.TABLE, its, test_predict.Routing(1, test_predict.noisy))
                for i, its in enumerate(test_predict.generated(1200))]
        cls.sure = write("sure", m.joined(m.encode(test_predict.header(), tables, sure)))
        one = m.new_ubatch(0, table, test_report.tokens(0, 0, 3), test_report.skewed(1))
        cls.short = write("short", m.joined(m.encode(m.new_header(n_layer=6), [table], [one])))
        unknown = [event for event in test_predict.events() if isinstance(event, m.Ubatch)]
        for event in unknown:
            event.tokens = [token._replace(sequence=None, position=None, generation=False) for token in event.tokens]
        cls.unknown = write("unknown", m.joined(m.encode(test_predict.header(phases_known=False), tables, unknown)))
        counts = {"1": {str(e): e for e in range(16)}, "2": {"3": 7}}
        sums = {str(e): e + 7 * (e == 3) for e in range(16)}
        whole = {"model": {"name": "Small"}, "n_expert": 16, "n_expert_used": 2, "total_tokens": 60,
                 "total_activations": 127,
                 "expert_activations": sums}
        cls.statistics = write("statistics", json.dumps({**whole, "per_layer": counts}).encode())
        cls.sums = write("sums", json.dumps(whole).encode())
        cls.traces = (cls.cache, cls.report, cls.predict, cls.unknown, cls.short)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    @classmethod
    def write(cls, name, content):
        path = cls.folder / name
        path.write_bytes(content)
        return str(path)

    def held_against_page(self, command, *args):
        done = subprocess.run([test_report.CLI, command, "--json", *args], capture_output=True, timeout=60)
        self.assertEqual((done.returncode, done.stderr), (0, b""), args)
        self.reader.read_object(json.loads(done.stdout), command, command)

    def test_all(self):
        """Of traces and statistics that know more and less; and what the page lists is printed of one of them."""
        for path in (*self.traces, self.statistics, self.sums):
            self.held_against_page("report", path)
        for path in self.traces[:4]:
            self.held_against_page("cache", path)
            self.held_against_page("cache", "--layer", "1", path)
        machine = "--vram", "60MiB", "--pcie", "25GB/s", "--ram", "60GB/s", "--tg", "18"
        self.held_against_page("cache", "--vram", "1MiB", self.cache)
        self.held_against_page("cache", *machine, self.cache)
        self.held_against_page("cache", "--moe-cache-mib", "1,9", "--phase", "prompt", self.cache)
        for path in (*self.traces, self.sure):
            self.held_against_page("predict", path)
        self.held_against_page("predict", "--layer", "2-", self.predict)
        for pair in ((self.report, self.report), (self.statistics, self.statistics),
                     (self.cache, self.cache, self.cache),
                     (self.unknown, self.unknown), (self.short, self.report)):
            self.held_against_page("compare", *pair)
        listed = {(section, key) for section, rows in self.reader.sections.items()
                  if section not in LIVE and not section.startswith(WATCH) for key in rows}
        self.assertEqual(listed - self.reader.seen, set())

    def test_a_key_that_the_page_lacks_is_noticed(self):
        with self.assertRaisesRegex(AssertionError, "not in docs/json.md"):
            self.reader.read_object({"hits": 1, "misses": 2, "others": 3}, "hits", "hits")
        for wrong in ({"hits": 1}, {"hits": 1, "misses": None}, {"hits": 1, "misses": -1}, {"hits": 1, "misses": 1.5}):
            with self.assertRaises(AssertionError):
                self.reader.read_object(wrong, "hits", "hits")


if __name__ == "__main__":
    unittest.main()
