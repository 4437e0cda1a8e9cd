#!/usr/bin/env python3
"""What `make install` leaves is enough for others: find_package(), pkg-config, the command and its man page."""

import os
import shutil
import subprocess
import unittest

from harness import BUILD, MIXTRAL, OLD_ENGINES, REPOSITORY, TestCase, main, run

HEADERS = BUILD / "llama.cpp-0.5.0"
ENGINE = OLD_ENGINES / "0.5.0" / "lib"
PROMPT, N = b"installed", 5

# a llama.cpp that was installed would bring the target llama itself
PROJECT = """
cmake_minimum_required(VERSION 3.22)
project(app LANGUAGES C)
find_package(llama-expert-tracer 0.1 REQUIRED)
file(GLOB objects {engine}/libllama.v*.so {engine}/libggml.v*.so {engine}/libggml-base.so)
add_library(llama INTERFACE)
target_include_directories(llama INTERFACE {headers}/include {headers}/ggml/include)
target_link_libraries(llama INTERFACE ${{objects}})
add_executable(app {source})
target_link_libraries(app PRIVATE llama-expert-tracer::llama-expert-tracer llama)
"""


@unittest.skipUnless(HEADERS.exists() and ENGINE.exists(), "the source or the engine of 0.5.0 was not fetched")
class Package(TestCase):
    def setUp(self):
        super().setUp()
        self.prefix = self.folder / "prefix"
        self.do("cmake", "--install", BUILD, "--prefix", self.prefix)
        self.libdir = next(self.prefix.rglob("libllama-expert-tracer.so")).parent

    def do(self, *command, **env):
        done = subprocess.run([*map(str, command)], env={**os.environ, **{k: str(v) for k, v in env.items()}},
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def assert_traces(self, app):
        result = run(app, MIXTRAL.path, PROMPT.decode(), N, 1, cwd=ENGINE, preload=False, trace=self.trace(),
                     LD_LIBRARY_PATH=f"{self.libdir}:{ENGINE}")
        self.assertEqual(result.status, 0, result.err)
        self.assertEqual(len(result.out.splitlines()), N)
        self.assert_counts(self.stats(), MIXTRAL, MIXTRAL.completion(PROMPT, N))

    def test_find_package(self):
        (self.folder / "CMakeLists.txt").write_text(
            PROJECT.format(engine=ENGINE, headers=HEADERS, source=REPOSITORY / "examples" / "hottest-experts.c"))
        self.do("cmake", "-S", self.folder, "-B", self.folder / "build", f"-DCMAKE_PREFIX_PATH={self.prefix}")
        self.do("cmake", "--build", self.folder / "build")
        self.assert_traces(self.folder / "build" / "app")

    def test_pkg_config(self):
        flags = self.do("pkg-config", "--cflags", "--libs", "llama-expert-tracer",
                        PKG_CONFIG_PATH=self.libdir / "pkgconfig").split()
        objects = [path for pattern in ("libllama.v*.so", "libggml.v*.so", "libggml-base.so")
                   for path in ENGINE.glob(pattern)]
        self.do("cc", REPOSITORY / "examples" / "hottest-experts.c", "-o", self.folder / "app", f"-I{HEADERS}/include",
                f"-I{HEADERS}/ggml/include", *flags, *objects, f"-Wl,-rpath-link,{ENGINE}")
        self.assert_traces(self.folder / "app")

    def test_the_command_finds_what_is_installed_with_it(self):
        command = self.prefix / "bin" / "llama-expert-tracer"
        self.assertIn(str(self.prefix), self.do(command, "integrate", "--cmake"))
        result = run(command, "run", "--", "sh", "-c", 'echo "$LD_PRELOAD"', preload=False)
        self.assertIn(str(self.libdir), result.out)
        moved = self.folder / "moved"
        shutil.move(self.prefix, moved)
        result = run(moved / "bin" / "llama-expert-tracer", "run", "--", "sh",
                     "-c", 'echo "$LD_PRELOAD"', preload=False)
        self.assertIn(str(moved), result.out)

    def test_what_is_beside_the_command(self):
        for path in ("man/man1/llama-expert-tracer.1", "bash-completion/completions/llama-expert-tracer",
                     "zsh/site-functions/_llama-expert-tracer", "fish/vendor_completions.d/llama-expert-tracer.fish",
                     "doc/llama-expert-tracer/LICENSE", "doc/llama-expert-tracer/analysis.md",
                     "doc/llama-expert-tracer/export-formats.md", "doc/llama-expert-tracer/SECURITY.md"):
            self.assertTrue((self.prefix / "share" / path).exists(), path)


if __name__ == "__main__":
    main()
