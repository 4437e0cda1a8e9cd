#!/usr/bin/env python3
"""What is downloaded is what was tested, whole, and whole later; and a checkout in a folder whose name has a space."""

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
import unittest
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
NPM = """#!/bin/sh
# Downloads nothing, but counts how often it was asked to.
echo "$@" >>"$NPM_LOG"
[ "$1" = pack ] && cp "$NPM_PACKAGE" "$4/package.tgz"
"""


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="expert tracer "))
        self.addCleanup(shutil.rmtree, self.folder)
        self.repository = self.folder / "a check out"
        shutil.copytree(REPOSITORY / "scripts", self.repository / "scripts")
        shutil.copy(REPOSITORY / "Makefile", self.repository)

    def run_in(self, *command, status=0, **variables):
        env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")} # that runs these tests
        done = subprocess.run(list(map(str, command)), cwd=self.repository, capture_output=True, text=True, timeout=120,
                              env={**env, **variables})
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout + done.stderr


@unittest.skipUnless(shutil.which("node"), "needs node")
class Downloads(Case):
    def setUp(self):
        super().setUp()
        bin_ = self.folder / "bin"
        bin_.mkdir()
        (bin_ / "npm").write_text(NPM)
        (bin_ / "npm").chmod(0o755)
        self.log = self.folder / "npm.log"
        self.package = self.folder / "package.tgz"
        self.script = f"#!/bin/bash\nset -euo pipefail\n. '{self.repository}/scripts/common.sh'\n"
        self.variables = {"PATH": f"{bin_}:{os.environ['PATH']}", "NPM_LOG": str(self.log),
                          "NPM_PACKAGE": str(self.package)}

    def pack(self, content):
        (self.folder / "content.js").write_text(content)
        with tarfile.open(self.package, "w:gz") as tar:
            tar.add(self.folder / "content.js", "package/dist/echarts.min.js")

    def hash(self, package):
        digest = base64.b64encode(hashlib.sha512(self.package.read_bytes()).digest()).decode()
        (self.repository / "scripts" / "npm-packages.txt").write_text(f"# a comment\n{package} sha512-{digest}\n")

    def bash(self, text, status=0):
        return self.run_in("bash", "-c", self.script + text, status=status, **self.variables)

    def n_asked(self):
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0

    def test_a_package_is_the_one_that_was_tested(self):
        self.pack("tested")
        self.hash("some@1.0.0")
        self.assertIn("package.tgz", self.bash("npm_pack some@1.0.0 ."))
        self.pack("another")
        said = self.bash("file=$(npm_pack some@1.0.0 .) || exit; echo got it", status=1)
        self.assertIn("some@1.0.0 is not the one that was tested: its hash is sha512-", said)
        self.assertNotIn("got it", said)
        self.package.write_bytes(self.package.read_bytes()[:100])
        self.bash("npm_pack some@1.0.0 .", status=1)
        self.assertIn("no hash of other@1.0.0", self.bash("npm_pack other@1.0.0 .", status=1))

    def test_a_folder_is_whole(self):
        self.bash("mkdir -p 'a folder/below'; echo one >'a folder/below/a file'; echo two >'a folder/two'; "
                  "seal 'a folder'; is_whole 'a folder'")
        for harm in ("truncate -s 2 'a folder/two'", "rm 'a folder/below/a file'", "rm 'a folder/.files'",
                     "touch 'a folder/more'", ":>'a folder/.files'"):
            with self.subTest(harm):
                self.bash(f"cp -r 'a folder' copy; {harm.replace('a folder', 'copy')}; ! is_whole copy; rm -rf copy")
        self.bash("! is_whole nowhere")

    def test_what_is_there_is_looked_at(self):
        """Of the charts' library the hash is known: what is cut off, or another one, is fetched again."""
        self.pack("tested")
        self.hash("echarts@6.1.0")
        script = self.repository / "scripts" / "fetch-plotting.sh"
        wanted = hashlib.sha256(b"tested").hexdigest()
        lines = [f"sha256={wanted}" if line.startswith("sha256=") else line for line in script.read_text().splitlines()]
        script.write_text("\n".join(lines) + "\n")
        file = self.repository / "build" / "plotting" / "echarts.min.js"
        for before, n in (None, 1), ("tested", 1), ("test", 2), ("", 3):
            if before is not None:
                file.write_text(before)
            self.run_in(script, **self.variables)
            self.assertEqual(file.read_text(), "tested")
            self.assertEqual(self.n_asked(), n, before)

    def test_every_package_has_a_hash(self):
        packages = dict(line.split() for line in (REPOSITORY / "scripts" / "npm-packages.txt").read_text().splitlines()
                        if line[0] != "#")
        for package, digest in packages.items():
            self.assertEqual(len(base64.b64decode(digest.removeprefix("sha512-"), validate=True)), 64, package)
        used = "".join(path.read_text() for path in (REPOSITORY / "scripts").glob("fetch-*.sh"))
        for package in packages:
            self.assertIn(package.split("@")[-1], used)


class Spaces(Case):
    def test_make_says_what_works(self):
        self.assertIn("build the library", self.run_in("make", "help"))
        said = self.run_in("make", "test", status=2)
        self.assertIn("has a space in it", said.splitlines()[0])
        self.assertFalse((self.repository / "build").exists())

    def test_it_builds(self):
        """What make does in such a folder, configured alone: building takes too long here."""
        for name in "CMakeLists.txt", "src", "include", "models", "docs", "LICENSE", "README.md":
            source = REPOSITORY / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, self.repository / name)
        self.run_in("cmake", "-S", ".", "-B", "build")
        self.run_in("cmake", "--build", "build", "--target", "built-in", "expert-tracer-page")
        self.assertTrue((self.repository / "build" / "built-in" / "llama-expert-tracer.c").stat().st_size > 100000)


if __name__ == "__main__":
    unittest.main()
