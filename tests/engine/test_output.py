#!/usr/bin/env python3
"""Where the statistics are written, and what is said where they cannot be."""

import json
import os
import resource
import shutil
import stat
import subprocess
import time
import unittest

from harness import (CLIENTS, ENGINE, GPT_OSS, MIXTRAL, OLD_ENGINES, Result, Server, TestCase, environment, main, run)

OLD_ENGINE = OLD_ENGINES / "0.5.0" / "lib"
PROMPT, N = "write", 4
EVALUATED = MIXTRAL.completion(PROMPT.encode(), N)


class Output(TestCase):
    def complete(self, output, cwd=None, **trace):
        result = run("llama-completion", "-m", MIXTRAL.path, "-p", PROMPT, "-n", N, "-no-cnv", "-t", 1, cwd=cwd,
                     trace={"STATS": 1, "PER_LAYER": 1, "OUTPUT": output, **trace}, timeout=60)
        self.assertEqual(result.status, 0, result.err)
        self.assertEqual(result.out.strip("\n"), bytes(MIXTRAL.generate(PROMPT.encode(), N)).decode())
        return result

    def assert_told(self, result, path, cause):
        """An error that says what, why and what to do, once; and the statistics are printed all the same."""
        told = [line for line in result.said() if "cannot write" in line]
        self.assertEqual(len(told), 1, result.err)
        self.assertIn(f"cannot write {path}: {cause}. Counting goes on; the output needs a file in a folder", told[0])
        self.assertNotIn("Statistics exported", result.err)
        self.assertIn(f"Total tokens: {len(EVALUATED)}", result.said())

    def assert_written(self, path, evaluated=EVALUATED):
        self.assert_counts(self.stats(path), MIXTRAL, evaluated)
        self.assertTrue(self.stats(path)["complete"])

    def names(self):
        return sorted(path.name for path in self.folder.iterdir())


class Paths(Output):
    def test_is_said_where(self):
        result = self.complete(self.stats_path)
        self.assertEqual(result.said().count(f"[EXPERT-TRACE] Statistics exported to {self.stats_path}"), 1)
        self.assertEqual(stat.S_IMODE(self.stats_path.stat().st_mode) & 0o077, 0)

    def test_relative_path(self):
        self.complete("stats.json", cwd=self.folder)
        self.assert_written(self.stats_path)

    def test_relative_path_of_a_program_that_moves(self):
        other = self.folder / "other"
        other.mkdir()
        result = run("/usr/bin/env", "python3", CLIENTS / "ctypes_scenarios.py", "moves",
                     OLD_ENGINE, MIXTRAL.path, other, trace=self.trace(OUTPUT="stats.json"), cwd=self.folder)
        self.assertEqual(result.status, 0, result.err)
        self.assert_written(self.stats_path, MIXTRAL.completion(b"here", 4))
        self.assertEqual(list(other.iterdir()), [])

    def test_symbolic_links(self):
        for target, exists in ("there.json", True), ("new.json", False):
            with self.subTest(target):
                link = self.folder / f"link-to-{target}"
                link.symlink_to(target)
                if exists:
                    (self.folder / target).touch()
                result = self.complete(link)
                self.assertTrue(link.is_symlink())
                self.assert_written(self.folder / target)
                self.assertNotIn("belongs to another", result.err)

    def test_a_link_to_itself(self):
        link = self.folder / "loop"
        link.symlink_to("loop")
        self.assert_told(self.complete(link), link, "Too many levels of symbolic links")

    def test_pattern(self):
        result = self.complete(self.folder / "%m-%p-%x%.json")
        (path,) = self.folder.iterdir()
        self.assert_written(path)
        self.assertEqual(path.name, f"oracle-mixtral-{self.stats(path)['pid']}-%x%.json")
        self.assertIn(f"Statistics exported to {path}", result.err)

    def test_dash_is_a_file(self):
        self.complete("-", cwd=self.folder)
        self.assert_written(self.folder / "-")


    def test_the_longest_names(self):
        for length in 245, 255:
            path = self.folder / ("x" * (length - 5) + ".json")
            result = self.complete(path)
            self.assert_written(path)
            self.assertNotIn("cannot write", result.err)
        self.assertEqual(len(self.names()), 2)


class NotAFile(Output):
    def test_folder(self):
        for path in self.folder, f"{self.folder}/":
            self.assert_told(self.complete(path), path, "Is a directory")

    def test_missing_folder(self):
        path = self.folder / "missing" / "stats.json"
        self.assert_told(self.complete(path), path, "No such file or directory")
        self.assertEqual(self.names(), [])

    def test_a_file_is_no_folder(self):
        (self.folder / "file").write_text("")
        path = self.folder / "file" / "stats.json"
        self.assert_told(self.complete(path), path, "Not a directory")

    def test_devices_stay(self):
        for path in "/dev/null", "/dev/full", "/dev/tty":
            if os.path.exists(path):
                before = os.stat(path)
                told = [line for line in self.complete(path).said() if "cannot write" in line]
                self.assertEqual(len(told), 1)
                self.assertEqual(os.stat(path).st_rdev, before.st_rdev)
                self.assertTrue(stat.S_ISCHR(os.stat(path).st_mode))

    def test_fifo_stays(self):
        path = self.folder / "fifo"
        os.mkfifo(path)
        self.assert_told(self.complete(path), path, "not a regular file")
        self.assertTrue(path.is_fifo())

    def test_standard_output_stays(self):
        # its output would be lost in a file that is no more
        out = self.folder / "out"
        for name in "/dev/stdout", "/proc/self/fd/1", str(out):
            with self.subTest(name), open(out, "wb") as stdout:
                process = subprocess.run([ENGINE / "llama-completion", "-m", MIXTRAL.path, "-p", PROMPT,
                                          "-n", str(N), "-no-cnv", "-t", "1"],
                                         env=environment({"STATS": 1, "OUTPUT": name}),
                                         stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE)
            self.assertEqual(process.returncode, 0)
            self.assertEqual(out.read_text().strip("\n"), bytes(MIXTRAL.generate(PROMPT.encode(), N)).decode())
            self.assertEqual(process.stderr.count(b"the program's own output goes there"), 1)
            self.assertEqual(self.names(), ["out"])

    def test_without_an_interval_the_end_is_the_next_try(self):
        path = self.folder / "missing" / "stats.json"
        result = self.complete(path, INTERVAL=0)
        self.assert_told(result, path, "No such file or directory")
        self.assertIn("It is tried again at the end\n", result.err)


class Full(Output):
    @unittest.skipUnless(os.geteuid() == 0, "mounts a file system")
    def test_full_disk(self):
        self.check_mounted(lambda path: None, "No space left on device", size="4k")

    @unittest.skipUnless(os.geteuid() == 0, "mounts a file system")
    def test_read_only(self):
        self.check_mounted(lambda path: subprocess.run(["mount", "-o", "remount,ro", path], check=True),
                           "Read-only file system")

    def check_mounted(self, prepare, cause, size="1m"):
        folder = self.folder / "mounted"
        folder.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder],
                          stderr=subprocess.DEVNULL).returncode:
            self.skipTest("may not mount")
        self.addCleanup(subprocess.run, ["umount", folder])
        prepare(folder)
        oracle = GPT_OSS  # its statistics are larger than what is left, whole or not
        result = run("llama-completion", "-m", oracle.path, "-p", PROMPT, "-n", N, "-no-cnv", "-t", 1,
                     trace=self.trace(OUTPUT=folder / "stats.json"))
        self.assertEqual(result.status, 0, result.err)
        self.assert_told(result, folder / "stats.json", cause)
        for path in folder.iterdir():  # an earlier version may stand
            self.assertEqual(path.name, "stats.json")
            self.assertFalse(json.loads(path.read_text())["complete"])

    def test_limit_on_the_size_of_files(self):
        # the kernel sends SIGXFSZ, which would end the program
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))

        result = Result(subprocess.run([ENGINE / "llama-completion", "-m", MIXTRAL.path, "-p", PROMPT,
                                        "-n", str(N), "-no-cnv", "-t", "1"],
                                       env=environment(self.trace()), stdin=subprocess.DEVNULL,
                                       capture_output=True, preexec_fn=limit))
        self.assertEqual(result.status, 0, result.err)
        self.assert_told(result, self.stats_path, "File too large")
        self.assertLessEqual(set(self.names()), {"stats.json"})

    def test_is_written_as_soon_as_it_can_be(self):
        folder = self.folder / "later"
        path = folder / "stats.json"
        with Server("-m", MIXTRAL.path, "-t", 1, "-c", 512, trace=self.trace(OUTPUT=path, INTERVAL=0.1)) as server:
            server.post("/completion", prompt="later", n_predict=5)
            self.assertEqual(server.err().count(f"cannot write {path}: No such file or directory"), 1)
            folder.mkdir()
            deadline = time.monotonic() + 30
            while not path.exists() and time.monotonic() < deadline:
                time.sleep(0.02)
            self.assertFalse(self.stats(path)["complete"])
            self.assert_counts(self.stats(path), MIXTRAL, MIXTRAL.completion(b"later", 5))
            self.assertEqual(server.stop(), 0)
            self.assertEqual(server.err().count("cannot write"), 1)
            self.assertEqual(server.err().count(f"{path} can be written now"), 1)
        self.assertTrue(self.stats(path)["complete"])

    def test_is_tried_when_the_first_batch_comes(self):
        # not only at the end, when it is too late
        with Server("-m", MIXTRAL.path, "-t", 1, "-c", 512, trace=self.trace(INTERVAL=0)) as server:
            server.post("/completion", prompt="a", n_predict=1)
            self.assertTrue(self.stats_path.exists())
            self.assertEqual(server.stop(), 0)
        with Server("-m", MIXTRAL.path, "-t", 1, "-c", 512,
                    trace=self.trace(OUTPUT=self.folder / "no" / "x", INTERVAL=0)) as server:
            server.post("/completion", prompt="a", n_predict=1)
            self.assertEqual(server.err().count("cannot write"), 1)
            self.assertEqual(server.stop(), 0)


class Neighbours(Output):
    def test_the_path_has_the_newest_run(self):
        runs = []
        for n in range(1, 4):
            result = self.complete(self.stats_path)
            runs.append(self.stats()["run"])
            self.assertEqual(self.names(), [f"stats-{i}.json" for i in range(2, n + 1)] + ["stats.json"])
            moved = f"an earlier run's statistics in {self.stats_path} are in {self.folder}/stats-{n}.json now"
            self.assertEqual(result.err.count(moved), n > 1)
        self.assertEqual([self.stats(self.folder / f"stats-{i}.json")["run"] for i in (2, 3)], runs[:2])
        self.assertEqual(len(set(runs)), 3)

    def test_what_all_runs_may_take(self):
        for _ in range(4):
            self.complete(self.stats_path)
        (self.folder / "stats-9.json").write_text("mine")
        size = max(path.stat().st_size for path in self.folder.iterdir())
        self.complete(self.stats_path, KEEP=int(3.5 * size))
        self.assertEqual(self.names(), ["stats-10.json", "stats-4.json", "stats-9.json", "stats.json"])
        self.assert_written(self.stats_path)

    def test_replaced_while_running(self):
        with Server("-m", MIXTRAL.path, "-t", 1, "-c", 512, trace=self.trace(INTERVAL=0)) as server:
            server.post("/completion", prompt="gone", n_predict=3)
            precious = self.folder / "precious"
            precious.write_text("mine")
            precious.rename(self.stats_path)
            self.assertEqual(server.stop(), 0)
            told = [line for line in server.said() if "EXPERT-TRACE" in line and str(self.stats_path) in line]
            self.assertIn(f"[EXPERT-TRACE] {self.stats_path} was replaced while it was written; what is there stays",
                          told)
            self.assertTrue(any("there is a file of that name that is no statistics file" in line for line in told))
        self.assertEqual(self.stats_path.read_text(), "mine")
        self.assertEqual(self.names(), ["stats.json"])

    def test_what_is_no_statistics_stays(self):
        model = self.folder / "m.gguf"
        shutil.copyfile(MIXTRAL.path, model)
        (self.folder / "link").symlink_to("m.gguf")
        (self.folder / "text").write_text("x" * 100000)
        for path in model, self.folder / "link", self.folder / "text":
            with self.subTest(path):
                before = path.read_bytes()
                result = run("llama-completion", "-m", model, "-p", PROMPT, "-n", N, "-no-cnv", "-t", 1,
                             trace={"STATS": 1, "PER_LAYER": 1, "OUTPUT": path})
                self.assertEqual(result.status, 0, result.err)
                self.assert_told(result, path, "there is a file of that name that is no statistics file, and stays")
                self.assertEqual(path.read_bytes(), before)
        self.assertEqual(self.names(), ["link", "m.gguf", "text"])

    def test_the_program_itself_stays(self):
        result = self.complete("/proc/self/exe")
        self.assert_told(result, "/proc/self/exe", "there is a file of that name that is no statistics file, and stays")

    def test_two_processes_with_one_path(self):
        with Server("-m", MIXTRAL.path, "-t", 1, "-c", 512, trace=self.trace()) as one, \
             Server("-m", MIXTRAL.path, "-t", 1, "-c", 512, trace=self.trace()) as other:
            one.post("/completion", prompt="one", n_predict=3)
            other.post("/completion", prompt="the other", n_predict=3)
            self.assertEqual((one.stop(), other.stop()), (0, 0))
            moved = [server for server in (one, other) if "belongs to another model or process" in server.err()]
            self.assertEqual(len(moved), 1)
            second = self.folder / "stats-2.json"
            self.assertIn(f"{self.stats_path} belongs to another model or process; these statistics go to {second}\n",
                          moved[0].err())
            self.assertIn(f"Statistics exported to {second}\n", moved[0].err())
            self.assertEqual(self.stats(second)["pid"], moved[0].process.pid)
        self.assertEqual(self.names(), ["stats-2.json", "stats.json"])
        for path in self.folder.iterdir():
            prompt = {5: b"one", 11: b"the other"}[self.stats(path)["total_tokens"]]
            self.assert_written(path, MIXTRAL.completion(prompt, 3))

    def test_a_model_loaded_twice(self):
        result = run("/usr/bin/env", "python3", CLIENTS / "ctypes_scenarios.py", "twice", OLD_ENGINE,
                     MIXTRAL.path, trace=self.trace())
        self.assertEqual(result.status, 0, result.err)
        self.assertEqual(self.names(), ["stats-2.json", "stats.json"])
        self.assert_written(self.stats_path, MIXTRAL.completion(b"first", 4))
        self.assert_written(self.folder / "stats-2.json", MIXTRAL.completion(b"second one", 4))

    def test_deleted_while_running(self):
        with Server("-m", MIXTRAL.path, "-t", 1, "-c", 512, trace=self.trace(INTERVAL=0)) as server:
            server.post("/completion", prompt="gone", n_predict=3)
            self.stats_path.unlink()
            self.assertEqual(server.stop(), 0)
            self.assertNotIn("cannot write", server.err())
        self.assert_written(self.stats_path, MIXTRAL.completion(b"gone", 3))

    def test_folder_deleted_while_running(self):
        folder = self.folder / "folder"
        folder.mkdir()
        with Server("-m", MIXTRAL.path, "-t", 1, "-c", 512,
                    trace=self.trace(OUTPUT=folder / "stats.json", INTERVAL=0)) as server:
            server.post("/completion", prompt="gone", n_predict=3)
            shutil.rmtree(folder)
            self.assertEqual(server.stop(), 0)
            self.assertEqual(server.err().count(f"cannot write {folder}/stats.json: No such file or directory"), 1)
            self.assertIn("Total tokens: 6", server.said())


if __name__ == "__main__":
    main()
