#!/usr/bin/env python3
"""`integrate` puts the tracer into source trees of llama.cpp, and takes it out so that every byte is what it was."""

import hashlib
import os
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "engine"))

from harness import BUILD, COMMAND, TestCase, main, run

TREES = sorted(BUILD.glob("llama.cpp-*"))


def contents(tree):
    """Hash and rights of every file below src/ and of what else integrate might touch."""
    found = {}
    for path in sorted([*tree.joinpath("src").rglob("*"), *tree.glob("*"), *tree.joinpath("include").rglob("*")]):
        if path.is_file():
            found[str(path.relative_to(tree))] = (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mode)
    return found


class Integrate(TestCase):
    def copy(self, tree):
        copy = self.folder / tree.name
        copy.mkdir()
        for name in "src", "include", "CMakeLists.txt":
            source = tree / name
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, copy / name)
        return copy

    def each(self):
        self.assertGreaterEqual(len(TREES), 3, "three releases: scripts/fetch-source.sh")
        for tree in TREES:
            with self.subTest(tree.name):
                yield self.copy(tree)

    def integrate(self, *arguments, status=0):
        result = run(COMMAND, "integrate", *arguments, preload=False)
        self.assertEqual(result.status, status, result.err)
        return result

    def test_removed_it_is_what_it_was(self):
        for tree in self.each():
            before = contents(tree)
            self.integrate(tree)
            added = {name for name in contents(tree).items() ^ before.items()}
            self.assertEqual({name for name, _ in added},
                             {"src/CMakeLists.txt", "src/llama-expert-tracer.c", "src/llama-expert-tracer.h"})
            self.integrate("--remove", tree)
            self.assertEqual(contents(tree), before)

    def test_twice_is_once(self):
        for tree in self.each():
            self.integrate(tree)
            once = contents(tree)
            self.assertIn("already", self.integrate(tree).out)
            self.assertEqual(contents(tree), once)
            self.assertIn("out of it", self.integrate("--remove", tree).out)
            self.assertIn("not in it", self.integrate("--remove", tree).out)

    def test_the_diff_is_what_is_done(self):
        for tree in self.each():
            before = contents(tree)
            patch = self.integrate("--diff", tree).out
            self.assertEqual(contents(tree), before)
            subprocess.run(["patch", "-s", "-p1"], input=patch.encode(), cwd=tree, check=True)
            self.assertIn("already", self.integrate(tree).out)

    def test_an_older_version_is_replaced(self):
        tree = self.copy(TREES[-1])
        before = contents(tree)
        self.integrate(tree)
        for path in tree / "src" / "CMakeLists.txt", tree / "src" / "llama-expert-tracer.c":
            path.write_text(path.read_text().replace("ggml_mul_mat_id", "ggml_mul_mat_id_of_old"))
        self.assertIn("in this version", self.integrate(tree).out)
        self.assertNotIn("_of_old", (tree / "src" / "CMakeLists.txt").read_text())
        self.integrate("--remove", tree)
        self.assertEqual(contents(tree), before)

    def test_a_place_that_is_missing_is_told_and_nothing_is_changed(self):
        changes = {
            "llama_decode": ("llama-context.cpp", "llama_decode", "llama_evaluate"),
            "ffn_moe_topk": ("llama-graph.cpp", "ffn_moe_topk", "ffn_moe_chosen"),
            "ggml_backend_sched_graph_compute_async": ("llama-context.cpp", "ggml_backend_sched_graph_compute_async", "ggml_compute"),
            "add_library": ("CMakeLists.txt", "add_library(llama", "add_library(lama"),
        }
        for what, (name, old, new) in changes.items():
            with self.subTest(what):
                tree = self.copy(TREES[-1])
                for path in tree.joinpath("src").glob(name if name == "CMakeLists.txt" else "*.cpp"):
                    path.write_text(path.read_text().replace(old, new))
                before = contents(tree)
                result = self.integrate(tree, status=1)
                self.assertIn(what, result.err)
                self.assertIn("nothing was changed", result.err)
                self.assertEqual(contents(tree), before)
                shutil.rmtree(tree)

    def test_comments_are_no_places(self):
        tree = self.copy(TREES[-1])
        for path in tree.joinpath("src").glob("*.cpp"):
            path.write_text(path.read_text().replace("llama_decode(", "llama_evaluate( // llama_decode(\n"))
        self.assertIn("llama_decode", self.integrate(tree, status=1).err)

    def test_not_a_tree(self):
        self.assertIn("not a source tree of llama.cpp", self.integrate(self.folder, status=1).err)
        self.assertIn("which source tree", self.integrate(status=2).err)

    @unittest.skipIf(os.getuid() == 0, "root writes everywhere")
    def test_a_tree_that_cannot_be_written(self):
        tree = self.copy(TREES[-1])
        before = contents(tree)
        (tree / "src").chmod(0o555)
        self.assertIn("cannot write", self.integrate(tree, status=1).err)
        (tree / "src").chmod(0o755)
        self.assertEqual(contents(tree), before)


if __name__ == "__main__":
    main()
