#!/usr/bin/env python3
"""The library as an object that is loaded into other people's programs, on old systems too."""

import re
import shutil
import subprocess
import unittest

from harness import LIBRARY, TestCase, main, run

GLIBC_OLDEST = (2, 31)  # Debian 11, Ubuntu 20.04

# What we stand in front of besides the engine: a function of the stock programs, and how they end without a word.
OTHERS = {"_Z16common_log_pauseP10common_log", "_exit", "_Exit"}


def readelf(*options):
    return subprocess.run(["readelf", "--wide", *options, str(LIBRARY)], check=True,
                          capture_output=True, text=True).stdout


def exported():
    """Names of the functions and variables that other objects may bind to."""
    names = set()
    for line in readelf("--dyn-syms").splitlines():
        fields = line.split()
        if len(fields) >= 8 and fields[4] in ("GLOBAL", "WEAK") and fields[5] == "DEFAULT" and fields[6] != "UND":
            names.add(fields[7].split("@")[0])
    return names


@unittest.skipUnless(shutil.which("readelf"), "readelf is missing")
class Library(TestCase):
    def test_needs_libc_alone(self):
        needed = re.findall(r"\(NEEDED\).*\[(.*)\]", readelf("--dynamic"))
        # parts of libc themselves, where it is older than 2.34
        self.assertEqual(set(needed), {"libc.so.6", "libpthread.so.0", "libdl.so.2"})

    def test_needs_no_newer_libc(self):
        versions = set(re.findall(r"Name: GLIBC_([\d.]+)", readelf("--version-info")))
        self.assertTrue(versions)
        newer = {version for version in versions if tuple(map(int, version.split("."))) > GLIBC_OLDEST}
        self.assertEqual(newer, set())
        self.assertNotIn("GLIBC_ABI_DT_RELR", readelf("--version-info"))  # packed relocations: glibc 2.36

    def test_exports_the_api_and_what_it_stands_in_front_of(self):
        names = exported()
        self.assertEqual({name for name in names if not re.match(r"expert_tracer_|ggml_|gguf_|llama_", name)}, OTHERS)
        self.assertGreaterEqual(names, {
            "expert_tracer_new", "expert_tracer_new_from_env", "expert_tracer_free", "expert_tracer_subscribe",
            "expert_tracer_unsubscribe", "expert_tracer_snapshot_take", "expert_tracer_snapshot_free",
            "expert_tracer_reset", "expert_tracer_export_json", "expert_tracer_version",
            "ggml_backend_sched_graph_compute_async", "llama_decode",
        })

    def test_can_be_preloaded_safely(self):
        dynamic = readelf("--dynamic")
        self.assertRegex(dynamic, r"FLAGS_1.*NODELETE")
        self.assertRegex(dynamic, r"SONAME.*\[libllama-expert-tracer\.so\.\d+\]")
        self.assertNotRegex(dynamic, r"RPATH|RUNPATH|TEXTREL")
        segments = readelf("--segments")
        self.assertNotRegex(segments, r"\bRWE\b")  # nothing is writable and executable, the stack included
        self.assertIn("GNU_RELRO", segments)

    def test_in_a_program_without_llama(self):
        for trace in {}, {"STATS": 1, "NAMES": 1, "OUTPUT": self.stats_path}:
            with self.subTest(trace=trace):
                result = run("/bin/sh", "-c", "echo fine; true | cat", trace=trace)
                self.assertEqual((result.status, result.out, result.err), (0, "fine\n", ""))
        self.assertFalse(self.stats_path.exists())


if __name__ == "__main__":
    main()
