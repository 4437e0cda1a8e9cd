#!/usr/bin/env python3
"""Tests `ps` and `ctl` (EXPERT_TRACER_CLI) with processes that show themselves as tracers do (fake_tracer.py). Where
the system lets us, all of it has its own numbers of processes, so that no tracer of somebody else's is seen or steered.
"""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "trace")]

from untraced import untraced_process # noqa: E402

CLI = os.environ["EXPERT_TRACER_CLI"]
LIBRARY = os.environ["EXPERT_TRACER_ANY_LIBRARY"]
ALONE = "EXPERT_TRACER_TEST_LIVE_ALONE"
FAKE = HERE / "fake_tracer.py"

MODEL = {"model": 1, "name": "Qwen3 30B A3B", "architecture": "qwen3moe", "file": "/models/qwen3.gguf",
         "engine": "llama.cpp 0.7.0, ggml 0.9.4 (/usr/lib/libllama.so.0)", "capture": "graph", "contexts": 1,
         "recording": None, "tokens": 1234, "prompt_tokens": 1000, "generation_tokens": 234, "lost_tokens": 0}
STATUS = {"version": 1, "program": "llama-server", "tracer": "0.1.0", "started": 1_700_000_000_000_000,
          "counting": True, "names": False, "watched": False, "interval": 5, "output": None, "models": [MODEL]}
HOLDS = {"holds": [{"model": 1, "context": 1, "ubatch": 17}]}


def command_alone():
    """What this script is started by again, so that it sees no processes but its own; None where that cannot be."""
    if not shutil.which("unshare"):
        return None
    user = ["-U", "-r"] if os.geteuid() != 0 else []
    command = ["unshare", *user, "-p", "-f", "-m", "--mount-proc", "--kill-child"]
    done = subprocess.run([*command, "true"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return command if done.returncode == 0 else None


class Fake:
    """A running fake."""

    def __init__(self, folder, answers, before=(), **options):
        command = [*before, sys.executable, str(FAKE), str(folder), json.dumps(answers)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)
        self.name = self.process.stdout.readline().strip()
        self.pid = self.process.pid

    def end(self):
        if not self.process.stdout.closed:
            self.process.kill()
            self.rest = self.process.communicate()[0]

    def requests(self):
        """What it was asked but for what any watcher asks; it ends."""
        self.end()
        requests = [json.loads(line) for line in self.rest.splitlines()]
        return [request for request in requests if request["words"][0] not in ("hello", "status", "watch")]


class Live(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="test-live-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.runtime = self.folder / "runtime"
        self.shown = self.runtime / "llama-expert-tracer"
        self.runtime.mkdir(mode=0o700)
        self.shown.mkdir(mode=0o700)
        self.env = {**os.environ, "XDG_RUNTIME_DIR": str(self.runtime), "COLUMNS": "80", "LC_ALL": "C.UTF-8"}
        self.env.pop("LLAMA_EXPERT_TRACE_LIVE", None)

    def fake(self, folder=None, before=(), env=None, **answers):
        fake = Fake(folder or self.shown, {"status": STATUS, **answers}, before, env=env or self.env)
        self.addCleanup(fake.end)
        return fake

    def run_cli(self, *args, status=0, env=None, cwd=None):
        done = subprocess.run([CLI, *map(str, args)], capture_output=True, text=True, env=env or self.env, timeout=60,
                              cwd=cwd or self.folder)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        self.assertNotRegex(done.stderr, "runtime error|Sanitizer")
        return done.stdout if status == 0 else done.stderr

    def listed(self, env=None):
        """pid or name -> row"""
        rows = json.loads(self.run_cli("ps", "--json", env=env))["processes"]
        return {row["pid"]: row for row in rows} | {row["name"]: row for row in rows if row["name"]}

    def alone(self):
        if ALONE not in os.environ:
            self.skipTest("would see what others run")


class Ps(Live):
    def test_nothing(self):
        self.alone()
        self.assertIn("Nothing is traced", self.run_cli("ps"))
        self.assertEqual(json.loads(self.run_cli("ps", "--json")), {"llama_expert_tracer_ps": 1, "processes": []})

    def test_a_server(self):
        fake = self.fake()
        row = self.listed()[fake.pid]
        self.assertEqual(row["name"], fake.name)
        self.assertEqual(row["folder"], str(self.shown))
        self.assertEqual(row["user"], os.geteuid())
        self.assertEqual((row["traced"], row["error"], row["program"]), (True, None, "llama-server"))
        self.assertEqual(row["status"]["models"][0]["tokens"], 1234)
        text = self.run_cli("ps")
        self.assertRegex(text, rf"{fake.pid} .* llama-server +Qwen3 30B A3B +0\.7\.0 +1234  counting\n")
        self.assertRegex(text.splitlines()[0], r"^ *PID  (USER +)?PROGRAM +MODEL +ENGINE +TOKENS  ON$")

    def test_what_is_on(self):
        other = {**MODEL, "model": 2, "name": "Second", "recording": "/traces/a.moetrace", "tokens": 123456789}
        for status, on in (({"counting": False}, ["dormant"]), ({"names": True}, ["counting,names"]),
                           ({"models": []}, ["counting"]), ({"models": [], "counting": False}, ["dormant"]),
                           ({"models": [MODEL, other], "counting": False, "names": True}, ["names", "names,trace"])):
            fake = self.fake(status={**STATUS, **status})
            text = self.run_cli("ps")
            lines = [line for line in text.splitlines() if re.match(rf" *{fake.pid} ", line)]
            self.assertEqual([line.split()[-1] for line in lines], on)
            self.assertEqual("  trace: /traces/a.moetrace\n" in text, len(on) == 2)
            self.assertEqual("123.5M" in text, len(on) == 2)
            fake.end()

    def test_80_columns(self):
        long = {**MODEL, "name": "A Model whose Name is far too long, " * 3,
                "engine": "llama.cpp b99999-" + "0123456789" * 3}
        self.fake(status={**STATUS, "program": "a-program-with-a-long-name", "models": [long], "names": True})
        for line in self.run_cli("ps").splitlines():
            self.assertLessEqual(len(line), 80, line)

    def test_what_a_terminal_would_take_for_a_command(self):
        self.fake(status={**STATUS, "program": "\x1b[2Jevil\n", "models": [{**MODEL, "name": "a\x1b]0;b\x07",
                                                                          "recording": "/x\n  trace: /y"}]})
        text = self.run_cli("ps")
        self.assertNotIn("\x1b", text)
        self.assertIn("?[2Jevil?", text)
        self.assertIn("/x?  trace: /y", text)

    def test_folders(self):
        named = self.folder / "named"
        named.mkdir()
        fake = self.fake(named)
        env = {**self.env, "LLAMA_EXPERT_TRACE_LIVE": str(named)}
        other = self.fake()
        self.assertIn(fake.pid, self.listed(env))
        self.assertNotIn(other.pid, self.listed(env), "one folder alone is asked for")
        self.assertIn(other.pid, self.listed())
        self.assertIn(fake.pid, self.listed(), "/proc tells of it")
        self.assertEqual(self.listed()[fake.pid]["folder"], str(named))
        self.assertIn(fake.pid, self.listed({**env, "LLAMA_EXPERT_TRACE_LIVE": "1"}))
        named.chmod(0o777)
        self.assertNotIn(fake.pid, self.listed(env), "others could write there")

    def test_a_process_that_was_killed(self):
        fake = self.fake()
        other = self.fake()
        fake.end()
        self.assertNotIn(fake.name, self.listed())
        self.assertIn(other.name, self.listed())
        self.assertEqual(sorted(path.name for path in self.shown.iterdir()),
                         [f"{other.name}.lock", f"{other.name}.sock"])

    def test_a_process_that_is_stopped(self):
        fake = self.fake()
        other = self.fake()
        os.kill(fake.pid, signal.SIGSTOP)
        rows = self.listed()
        self.assertIn("does not answer", rows[fake.name]["error"])
        self.assertIsNone(rows[fake.name]["status"])
        self.assertIsNone(rows[other.name]["error"])
        self.assertRegex(self.run_cli("ps"), rf"{fake.pid} .* -  \?\n  {fake.name}: it does not answer")

    def test_answers_that_are_none(self):
        for answers in ({"hello": "x"}, {"hello": ""}, {"hello": "[]"}, {"hello": {"error": "no"}}, {"status": "{"},
                        {"status": ""}, {"memory": "nothing"}, {"memory": "a pipe"}, {"version": 2},
                        {"hello": None}, {"status": None}):
            fake = self.fake(**answers)
            row = self.listed()[fake.name]
            self.assertTrue(row["error"], answers)
            fake.end()

    def test_answers_that_lack_everything(self):
        for status in ({}, {"models": 3}, {"models": [{}, 4]}, {"started": "x", "models": [{"tokens": -4}]}):
            fake = self.fake(status=status)
            self.assertIsNone(self.listed()[fake.name]["error"])
            self.run_cli("ps")
            fake.end()

    def test_programs_that_could_be_traced(self):
        library = self.folder / "libllama.so.0"
        shutil.copy(LIBRARY, library)
        tracer = self.folder / "libllama-expert-tracer.so.0"
        shutil.copy(LIBRARY, tracer)
        code = ("import ctypes, sys, time\n[ctypes.CDLL(name) for name in sys.argv[1:]]\nprint(flush=True)\n"
                "time.sleep(99)")
        for names, traced, advice in (([library], False, "attach PID"),
                                      ([library, tracer], True, "LLAMA_EXPERT_TRACE_LIVE=1")):
            with subprocess.Popen([sys.executable, "-c", code, *map(str, names)], stdout=subprocess.PIPE) as process:
                process.stdout.readline()
                row = self.listed()[process.pid]
                self.assertEqual((row["traced"], row["name"], row["status"]), (traced, None, None))
                self.assertTrue(row["program"].startswith("python"))
                text = self.run_cli("ps")
                self.assertRegex(text, rf"{process.pid} .*python.* -\n")
                self.assertIn(advice, re.sub(r"\s+", " ", text))
                process.kill()

    def test_root_sees_everybody(self):
        self.alone()
        if os.geteuid() != 0 or not shutil.which("setpriv"):
            self.skipTest("not root")
        theirs = self.folder / "theirs"
        theirs.mkdir(mode=0o700)
        self.folder.chmod(0o755)
        os.chown(theirs, 65534, 65534)
        before = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
        done = subprocess.run([*before, sys.executable, "-c", f"open({str(FAKE)!r})"], stderr=subprocess.DEVNULL)
        if done.returncode != 0:
            self.skipTest("others cannot read this script")
        fake = self.fake(theirs, before=before)
        row = self.listed()[fake.pid]
        self.assertEqual((row["user"], row["error"], row["name"]), (65534, None, fake.name))
        self.assertRegex(self.run_cli("ps"), rf"{fake.pid}  (nobody|65534) ")
        own = self.fake()
        done = subprocess.run([*before, CLI, "ps", "--json"], capture_output=True, text=True, env=self.env)
        if done.returncode == 0: # where others may run it at all
            self.assertEqual([row["pid"] for row in json.loads(done.stdout)["processes"]], [fake.pid])
            self.assertNotEqual(own.pid, fake.pid)

    def test_a_tmp_of_its_own(self):
        """As systemd's PrivateTmp=, and containers."""
        self.alone()
        if os.geteuid() != 0:
            self.skipTest("not root")
        inside = self.folder / "inside"
        inside.mkdir()
        script = f'mount -t tmpfs tmpfs {inside} && mkdir -m 700 {inside}/live && exec "$@"'
        fake = self.fake(inside / "live", before=["unshare", "-m", "sh", "-c", script, "sh"])
        self.assertFalse((inside / "live").exists())
        row = self.listed()[fake.pid]
        self.assertEqual((row["error"], row["folder"]), (None, str(inside / "live")))
        self.assertIn("counting", self.run_cli("ctl", fake.pid, "start"))

    def test_usage(self):
        self.assertIn("takes no argument", self.run_cli("ps", "1", status=2))


class Ctl(Live):
    def test_words(self):
        for args, words, text in (
                (["start"], ["start"], "counting from ubatch 17 of context 1 on"),
                (["stop"], ["stop"], "not counting from ubatch 17 of context 1 on"),
                (["reset"], ["reset"], "counting begins at zero from ubatch 17 of context 1 on"),
                (["names", "on"], ["names", "on=1"], "names are logged from ubatch 17"),
                (["names", "off"], ["names", "on=0"], "names are not logged from ubatch 17"),
                (["record", "stop"], ["record-stop"], "the trace is whole, and nothing is recorded from ubatch 17"),
                (["record", "stop", "--model", "3"], ["record-stop", "model=3"], "nothing is recorded"),
                (["interval", "2.5"], ["interval", "seconds=2.5"], "written every 2.5 s"),
                (["interval", "0"], ["interval", "seconds=0"], "only at the end")):
            fake = self.fake(**{words[0]: HOLDS if words[0] != "interval" else {}})
            said = self.run_cli("ctl", fake.pid, *args)
            self.assertTrue(said.startswith(f"fake-server ({fake.pid}): "), said)
            self.assertIn(text, said)
            request, = fake.requests()
            self.assertEqual((request["words"], request["files"]), (words, []))

    def test_where_it_holds_from(self):
        def hold(model, context, ubatch):
            return {"model": model, "context": context, "ubatch": ubatch}
        for holds, text in (([], "counting from the first batch on"),
                            ([hold(1, 2, None)], "counting from the next batch of context 2 on"),
                            ([hold(1, 1, 3), hold(1, 2, 0)],
                             "counting from ubatch 3 of context 1 and ubatch 0 of context 2 on"),
                            ([hold(1, 1, 3), hold(1, 2, 4), hold(2, 1, None)],
                             "counting from ubatch 3 of context 1 of model 1, ubatch 4 of context 2 of model 1 and the "
                             "next batch of context 1 of model 2 on")):
            fake = self.fake(start={"holds": holds})
            self.assertEqual(self.run_cli("ctl", fake.pid, "start"), f"fake-server ({fake.pid}): {text}\n")
            its, = json.loads(self.run_cli("ctl", fake.name, "start", "--json"))["processes"]
            self.assertEqual((its["holds"], its["pid"], its["name"], its["error"]), (holds, fake.pid, fake.name, None))
            fake.end()

    def test_status(self):
        fake = self.fake(status={**STATUS, "output": "stats-%p.json", "interval": 0,
                                 "models": [{**MODEL, "recording": "/t.moetrace", "lost_tokens": 3}]})
        text = self.run_cli("ctl", fake.pid, "status")
        for line in (f"process     fake-server ({fake.pid})", "counting    on", "names       off",
                     "statistics  stats-%p.json, only at the end", "model 1     Qwen3 30B A3B (qwen3moe)",
                     "            /models/qwen3.gguf",
                     "tokens      1234: 1000 prompt, 234 generation; of 3 the routing is not known",
                     "recording   /t.moetrace"):
            self.assertIn(line + "\n", text)
        its = json.loads(self.run_cli("ctl", fake.pid, "status", "--json"))
        self.assertEqual((its["verb"], its["processes"][0]["status"]["models"][0]["tokens"]), ("status", 1234))
        idle = self.fake(status={**STATUS, "models": []})
        self.assertIn("none has evaluated anything yet", self.run_cli("ctl", idle.pid, "status"))

    def test_dump(self):
        fake = self.fake()
        said = self.run_cli("ctl", fake.pid, "dump", "stats.json")
        self.assertRegex(said, r": stats\.json: \d+ bytes\n")
        path = self.folder / "stats.json"
        content = path.read_text()
        self.assertIn("llama-expert-tracer-statistics", content)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.run_cli("ctl", fake.pid, "dump", "stats.json") # an earlier one of the same kind
        path.write_text("something else")
        self.assertIn("--force", self.run_cli("ctl", fake.pid, "dump", "stats.json", status=1))
        self.run_cli("ctl", fake.pid, "dump", "-f", "stats.json")
        self.assertEqual(path.read_text(), content)
        self.assertEqual(self.run_cli("ctl", fake.pid, "dump", "-"), content)
        with (self.folder / "out").open("w") as out:
            subprocess.run([CLI, "ctl", str(fake.pid), "dump", "/dev/stdout"], stdout=out, env=self.env, check=True)
        self.assertTrue((self.folder / "out").read_text().startswith(content))
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["out", "runtime", "stats.json"])
        for request in fake.requests():
            self.assertEqual(request["words"], ["dump"])
            self.assertTrue(request["files"][0]["regular"])
            self.assertEqual(request["files"][0]["size"], 0)

    def test_dump_is_refused(self):
        fake = self.fake(dump={"error": "it has 2 models"})
        (self.folder / "there.json").write_text("")
        for path in ("new.json", "there.json"):
            self.assertIn("it has 2 models", self.run_cli("ctl", fake.pid, "dump", path, status=1))
        self.assertEqual((self.folder / "there.json").read_text(), "")
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["runtime", "there.json"])
        self.assertIn("No such file", self.run_cli("ctl", fake.pid, "dump", "nowhere/x.json", status=1))

    def test_models(self):
        second = {**MODEL, "model": 2, "name": "Second"}
        fake = self.fake(status={**STATUS, "models": [MODEL, second, {**second, "model": 3}]})
        self.run_cli("ctl", fake.pid, "dump", "--model", "2", "-")
        self.run_cli("ctl", fake.pid, "dump", "--model", "Qwen3 30B A3B", "-")
        for name, text in (("Second", "several models 'Second'"), ("Third", "no model 'Third'")):
            self.assertIn(text, self.run_cli("ctl", fake.pid, "dump", "--model", name, "-", status=1))
        self.assertEqual([request["words"] for request in fake.requests()], [["dump", "model=2"], ["dump", "model=1"]])

    def test_record(self):
        fake = self.fake(record=HOLDS)
        path = self.folder / "a.moetrace"
        said = self.run_cli("ctl", fake.pid, "record", "a.moetrace")
        self.assertEqual(said, f"fake-server ({fake.pid}): recording to {path} from ubatch 17 of context 1 on\n")
        self.assertEqual((path.read_bytes(), stat.S_IMODE(path.stat().st_mode)), (b"trace", 0o600))
        self.assertIn("holds something", self.run_cli("ctl", fake.pid, "record", path, status=1))
        self.run_cli("ctl", fake.pid, "record", "--force", "--weights", "--tokens", "--model", "1", path)
        self.assertEqual(path.read_bytes(), b"trace")
        (self.folder / "empty").touch(mode=0o644)
        self.run_cli("ctl", fake.pid, "record", "empty")
        os.symlink("through", self.folder / "link")
        self.run_cli("ctl", fake.pid, "record", "link")
        self.assertEqual((self.folder / "through").read_bytes(), b"trace")
        first, second, third, fourth = fake.requests()
        self.assertEqual(first["words"], ["record", "weights=0", "tokens=0", f"name={path}"])
        self.assertEqual(second["words"], ["record", "weights=1", "tokens=1", f"name={path}", "model=1"])
        for request in (first, second, third, fourth):
            its, = request["files"]
            self.assertEqual((its["mode"], its["regular"], its["size"]), (os.O_RDWR, True, 0))
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()),
                         ["a.moetrace", "empty", "link", "runtime", "through"])

    def test_record_is_refused(self):
        fake = self.fake(record={"error": "it is being recorded already"})
        path = self.folder / "there.moetrace"
        path.write_bytes(b"earlier")
        for args in (["new"], ["-f", path]):
            self.assertIn("recorded already", self.run_cli("ctl", fake.pid, "record", *args, status=1))
        self.assertEqual(path.read_bytes(), b"earlier")
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["runtime", "there.moetrace"])
        os.mkfifo(self.folder / "fifo")
        for name in ("fifo", "/dev/null", "-"):
            self.assertIn("regular file", self.run_cli("ctl", fake.pid, "record", "-f", name, status=1))
        self.assertTrue(stat.S_ISCHR(os.stat("/dev/null").st_mode))

    def test_record_that_rotates(self):
        fake = self.fake(record={**HOLDS, "path": "/inside/a-000000.moetrace"})
        said = self.run_cli("ctl", fake.pid, "record", "--rotate-size", "1GiB", "--rotate-time", "90m",
                            "--keep", "10GiB", "a.moetrace")
        self.assertIn("recording to /inside/a-000000.moetrace from ubatch 17", said)
        request, = fake.requests()
        self.assertEqual(request["files"], [])
        self.assertEqual(request["words"], ["record", "weights=0", "tokens=0", f"path={self.folder}/a.moetrace",
                                            "rotate-size=1073741824", "rotate-time=5400", "keep=10737418240"])
        self.assertFalse((self.folder / "a.moetrace").exists())

    def test_all(self):
        self.alone()
        self.assertIn("see `llama-expert-tracer ps`", self.run_cli("ctl", "--all", "start", status=1))
        fakes = [self.fake(start=HOLDS) for _ in range(3)]
        said = self.run_cli("ctl", "--all", "start")
        self.assertEqual(len(said.splitlines()), 3)
        self.assertIn("3 processes", self.run_cli("ctl", "--all", "dump", "x", status=1))
        self.assertEqual(self.run_cli("ctl", "--all", "status").count("\n\nprocess "), 2)
        bad = self.fake(start={"error": "not now"})
        done = subprocess.run([CLI, "ctl", "--all", "--json", "start"], capture_output=True, text=True, env=self.env)
        self.assertEqual(done.returncode, 1)
        self.assertIn("not now", done.stderr)
        its = {row["name"]: row for row in json.loads(done.stdout)["processes"]}
        self.assertEqual((its[bad.name]["error"], its[bad.name]["holds"]), ("not now", None))
        self.assertEqual([its[fake.name]["holds"] for fake in fakes], [HOLDS["holds"]] * 3)

    def test_a_process_that_ends_or_hangs_meanwhile(self):
        for start, text in (("", "has ended"), ("{", "no JSON object")):
            fake = self.fake(start=start)
            self.assertIn(text, self.run_cli("ctl", fake.pid, "start", status=1))
            fake.end()
        fake = self.fake()
        fake.end()
        self.assertIn("cannot be steered", self.run_cli("ctl", fake.pid, "start", status=1))
        self.assertIn("cannot be steered", self.run_cli("ctl", fake.name, "start", status=1))

    def test_what_could_be_attached_to(self):
        """Which is a process that has the engine's library: here a file of that name."""
        self.alone()
        with untraced_process(self.folder) as pid:
            offer = f"`llama-expert-tracer attach {pid}` traces it as it runs"
            for command in (["top"], ["top", pid], ["ctl", pid, "start"], ["ctl", "--all", "start"], ["detach", pid]):
                said = self.run_cli(*command, status=1)
                self.assertIn(offer, said, command)
                self.assertEqual(len(said.splitlines()), 1)
            self.assertIn("cannot be steered", self.run_cli("ctl", pid + 1, "start", status=1))
            self.assertIn("`llama-expert-tracer attach PID`", " ".join(self.run_cli("ps").split()))

    def test_other_processes(self):
        self.assertIn(f"process {os.getpid()} cannot be steered", self.run_cli("ctl", os.getpid(), "start", status=1))

    def test_usage(self):
        for args, text in (([], "which process?"), (["start"], "no number of a process"),
                           (["1"], "what is to be done?"),
                           (["1", "nope"], "unknown order 'nope'"), (["1", "start", "x"], "what is 'x'?"),
                           (["1", "dump"], "which file?"), (["1", "record"], "which file?"),
                           (["1", "dump", ""], "name of"),
                           (["1", "names"], "on, or names off"), (["1", "names", "x"], "not 'x'"),
                           (["1", "interval"], "how many seconds"), (["1", "interval", "0.01"], "0.1 to 86400"),
                           (["1", "interval", "-1"], "-1"), (["1", "record", "stop", "x"], "what is 'x'?"),
                           (["--all", "1", "start"], "not both"), (["--all"], "what is to be done?"),
                           (["1", "start", "--weights"], "belong to `record FILE`"),
                           (["1", "start", "-f"], "--force belongs"),
                           (["1", "record", "-f", "--keep", "1G", "x"], "leave out --force"),
                           (["1", "record", "--rotate-size", "1k", "x"], "1MiB at least"),
                           (["1", "dump", "--json", "-"], "name a file")):
            self.assertIn(text, self.run_cli("ctl", *args, status=2), args)


class Page(Live):
    def test_json(self):
        """docs/json.md has what is printed, and nothing else."""
        import test_json
        reader = test_json.Reader()
        fake = self.fake(start={"holds": HOLDS["holds"] + [{"model": 1, "context": 2, "ubatch": None}]}, record=HOLDS,
                         status={**STATUS, "output": "x"})
        self.fake(status=None)
        reader.read_object(json.loads(self.run_cli("ps", "--json")), "ps", "ps")
        for args in (["start"], ["status"], ["dump", "stats.json"], ["record", "x"], ["interval", "3"]):
            reader.read_object(json.loads(self.run_cli("ctl", fake.pid, *args, "--json")), "ctl", "ctl")
        listed = {(section, key) for section in test_json.LIVE for key in reader.sections[section]}
        self.assertEqual(listed - reader.seen, set())


if __name__ == "__main__":
    if ALONE not in os.environ:
        command = command_alone()
        if command:
            os.execvpe(command[0], [*command, sys.executable, *sys.argv], {**os.environ, ALONE: "1"})
    unittest.main()
