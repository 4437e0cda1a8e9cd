#!/usr/bin/env python3
"""`integrate` puts the tracer into source trees of llama.cpp, and takes it out so that every byte is what it was."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "engine"))

from harness import BUILD, COMMAND, TestCase, main, run

TREES = sorted(BUILD.glob("llama.cpp-*"))


# Calls of rename() and unlink() for the file named FAIL_AT fail.
FAIL_AT = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
static int fails(const char * path) {
    const char * slash = strrchr(path, '/');
    errno = EPERM;
    return slash != NULL && strcmp(slash + 1, getenv("FAIL_AT")) == 0;
}
int rename(const char * from, const char * to) {
    return fails(to) ? -1 : ((int (*)(const char *, const char *)) dlsym(RTLD_NEXT, "rename"))(from, to);
}
int unlink(const char * path) {
    return fails(path) ? -1 : ((int (*)(const char *)) dlsym(RTLD_NEXT, "unlink"))(path);
}
"""


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
        for name in "src", "include", "ggml/include", "CMakeLists.txt":
            source = tree / name
            (copy / name).parent.mkdir(exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, copy / name)
        return copy

    def each(self):
        self.assertGreaterEqual(len(TREES), 3, "three releases: scripts/fetch-source.sh")
        for tree in TREES:
            with self.subTest(tree.name):
                yield self.copy(tree)

    def integrate(self, *arguments, status=0, **how):
        result = run(COMMAND, "integrate", *arguments, preload=False, **how)
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

    def test_headers_that_declare_something_else(self):
        # what forks have: ik_llama.cpp's batch and callback, and a parameter more
        changes = [
            ("include/llama.h", r"(int8_t +\* *logits;)", r"\1 llama_pos all_pos_0;", "struct llama_batch"),
            ("include/llama.h", r"(llama_token +\* *)token;", r"\1tokens;", "struct llama_batch"),
            ("ggml/include/ggml-backend.h", r"bool (\(\*ggml_backend_sched_eval_callback)", r"int \1",
             "ggml_backend_sched_eval_callback"),
            ("ggml/include/ggml.h", r"(ggml_nrows *\([^)]*)\)", r"\1, int dimension)", "ggml_nrows() has 2 parameters"),
            ("include/llama.h", r"void llama_free\([^)]*\)", r"void llama_free(void)", "llama_free() has 0"),
        ]
        tree = self.copy(TREES[-1])
        for name, old, new, said in changes:
            with self.subTest(new):
                header = tree / name
                text = header.read_text()
                changed, n = re.subn(old, new, text, count=1)
                self.assertEqual(n, 1)
                header.write_text(changed)
                before = contents(tree)
                result = self.integrate(tree, status=1)
                self.assertIn("nothing was changed", result.err)
                self.assertIn(said, result.err)
                self.assertEqual(contents(tree), before)
                header.write_text(text)
        self.integrate(tree)

    def test_more_parameters_where_calls_are_passed_on(self):
        tree = self.copy(TREES[-1])
        header = tree / "include" / "llama.h"
        changed, n = re.subn(r"(llama_perf_context_reset *\([^)]*)\)", r"\1, int how)", header.read_text())
        self.assertEqual(n, 1)
        header.write_text(changed)
        self.integrate(tree)

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

    def test_the_diff_to_an_older_version(self):
        tree = self.copy(TREES[-1])
        self.integrate(tree)
        after = contents(tree)
        for path in tree / "src" / "CMakeLists.txt", tree / "src" / "llama-expert-tracer.c":
            path.write_text(path.read_text().replace("ggml_mul_mat_id", "ggml_mul_mat_id_of_old"))
        patch = self.integrate("--diff", tree).out
        self.assertIn("-        ggml_mul_mat_id_of_old\n", patch)
        self.assertNotIn("llama-expert-tracer.h", patch)
        subprocess.run(["patch", "-s", "-p1"], input=patch.encode(), cwd=tree, check=True)
        self.assertEqual(contents(tree), after)

    def test_no_diff_where_it_is_in_already(self):
        tree = self.copy(TREES[-1])
        self.integrate(tree)
        result = self.integrate("--diff", tree)
        self.assertEqual(result.out, "")
        self.assertIn("in it already", result.err)

    def test_what_is_behind_the_call_stays_behind_it(self):
        for behind in " # a (comment", "\n", "":
            with self.subTest(behind):
                tree = self.copy(TREES[-1])
                lists = tree / "src" / "CMakeLists.txt"
                text = lists.read_text()
                end = text.index(")", text.index("add_library(llama\n")) + 1
                lists.write_text(text[:end] + behind + (text[end:] if "#" in behind else ""))
                before = contents(tree)
                patch = self.integrate("--diff", tree).out
                self.integrate(tree)
                after = contents(tree)
                self.assertTrue(lists.read_text().startswith(text[:end] + behind.rstrip("\n")
                                                             + "\n\n# llama-expert-tracer: begin\n"))
                self.integrate("--remove", tree)
                self.assertEqual(contents(tree), before)
                subprocess.run(["patch", "-s", "-p1"], input=patch.encode(), cwd=tree, check=True)
                self.assertEqual(contents(tree), after)
                shutil.rmtree(tree)

    def test_a_block_without_the_empty_line(self):
        tree = self.copy(TREES[-1])
        before = contents(tree)
        lists = tree / "src" / "CMakeLists.txt"
        self.integrate(tree)
        lists.write_text(lists.read_text().replace("\n\n# llama-expert-tracer: begin",
                                                   "\n# llama-expert-tracer: begin"))
        self.assertIn("in this version", self.integrate(tree).out)
        self.assertEqual(lists.read_text().count("# llama-expert-tracer: begin"), 1)
        lists.write_text(lists.read_text().replace("\n\n# llama-expert-tracer: begin",
                                                   "\n# llama-expert-tracer: begin"))
        self.assertIn("out of it", self.integrate("--remove", tree).out)
        self.assertEqual(contents(tree), before)

    def test_a_damaged_block_is_told_and_nothing_is_changed(self):
        begin, end = "# llama-expert-tracer: begin\n", "# llama-expert-tracer: end\n"
        for old, new in (begin, ""), (end, ""), (begin, end), (end, begin), (end, begin + end):
            tree = self.copy(TREES[-1])
            self.integrate(tree)
            lists = tree / "src" / "CMakeLists.txt"
            lists.write_text(lists.read_text().replace(old, new))
            before = contents(tree)
            for action in ["--diff"], ["--remove"], []:
                result = self.integrate(*action, tree, status=1)
                self.assertIn("nothing was changed", result.err)
                self.assertIn("src/CMakeLists.txt", result.err)
                self.assertEqual(contents(tree), before)
            shutil.rmtree(tree)

    def test_removed_from_a_tree_that_it_does_not_know(self):
        """Nor are the files needed that are put in: the command stands alone here."""
        tree = self.copy(TREES[-1])
        alone = self.folder / "alone"
        shutil.copy2(COMMAND, alone)
        self.integrate(tree)
        lists = tree / "src" / "CMakeLists.txt"
        lists.write_text(lists.read_text().replace("add_library(llama\n", "add_library(lama\n"))
        for path in tree.joinpath("src").glob("*.cpp"):
            path.write_text(path.read_text().replace("llama_decode", "llama_evaluate"))
        self.integrate(tree, status=1)
        result = run(alone, "integrate", "--remove", tree, preload=False)
        self.assertEqual(result.status, 0, result.err)
        self.assertNotIn("llama-expert-tracer", lists.read_text())
        self.assertFalse(list(tree.joinpath("src").glob("llama-expert-tracer*")))

    def test_a_place_that_is_missing_is_told_and_nothing_is_changed(self):
        changes = {
            "llama_decode": ("llama-context.cpp", "llama_decode", "llama_evaluate"),
            "ffn_moe_topk": ("llama-graph.cpp", "ffn_moe_topk", "ffn_moe_chosen"),
            "ggml_backend_sched_graph_compute_async": ("llama-context.cpp",
                                                       "ggml_backend_sched_graph_compute_async", "ggml_compute"),
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

    def test_what_fails_half_way_is_undone(self):
        code, library = self.folder / "fail.c", self.folder / "fail.so"
        code.write_text(FAIL_AT)
        subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-o", library, code, "-ldl"], check=True)
        tree = self.copy(TREES[-1])
        without = contents(tree)
        self.integrate(tree)
        (tree / "src" / "llama-expert-tracer.h").chmod(0o640)
        within = contents(tree)
        names = "CMakeLists.txt", "llama-expert-tracer.c", "llama-expert-tracer.h"
        for path in (tree / "src" / name for name in names):
            path.write_text(path.read_text().replace("# llama-expert-tracer: end", "# old\n# llama-expert-tracer: end")
                            if path.suffix == ".txt" else path.read_text() + "// old\n")
        older = contents(tree)

        def fails(name, what, before, *action):
            with self.subTest(name, action=action):
                result = self.integrate(*action, tree, status=1, LD_PRELOAD=str(library), FAIL_AT=name)
                self.assertIn(f"cannot {what}", result.err)
                self.assertIn(name, result.err)
                self.assertEqual(contents(tree), before)

        for name in names:
            fails(name, "write", older)
            fails(name, "write" if name == "CMakeLists.txt" else "remove", older, "--remove")
        self.integrate(tree)
        self.assertEqual(contents(tree), within)
        self.integrate("--remove", tree)
        for name in names:
            fails(name, "write", without)

    def test_a_folder_in_the_place_of_a_file(self):
        tree = self.copy(TREES[-1])
        (tree / "src" / "llama-expert-tracer.c").mkdir()
        before = contents(tree)
        for action in ["--remove"], []:
            self.assertIn("llama-expert-tracer.c", self.integrate(*action, tree, status=1).err)
            self.assertEqual(contents(tree), before)

    def test_other_files_and_links_stay(self):
        tree = self.copy(TREES[-1])
        lists, elsewhere = tree / "src" / "CMakeLists.txt", tree / "src" / "lists"
        lists.rename(elsewhere)
        lists.symlink_to("lists")
        for name in "CMakeLists.txt.new", "lists.new", "llama-expert-tracer.c.new":
            (tree / "src" / name).write_text("mine")
        before = contents(tree)
        self.integrate(tree)
        self.assertTrue(lists.is_symlink())
        self.assertIn("llama-expert-tracer: begin", elsewhere.read_text())
        self.integrate("--remove", tree)
        self.assertTrue(lists.is_symlink())
        self.assertEqual(contents(tree), before)

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
