#!/usr/bin/env python3
"""Tests what src/inject/ does to a process, with the programs that are built from this folder (EXPERT_TRACER_BUILD): it
goes on as if nothing had been, whoever is killed when. The process looks itself; the kernel tells whether it is
stopped.

EXPERT_TRACER_SOAK=1: who injects is killed behind each of its system calls, not behind some.
"""

import json
import mmap
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

BUILT = Path(os.environ["EXPERT_TRACER_BUILD"]) / "tests" / "inject"
INJECT = str(BUILT / "test-inject")
TARGET = str(BUILT / "inject-target")
KILLER = str(BUILT / "inject-killer")
PROBE = str(BUILT / "libinject-probe.so")
CC = os.environ.get("CC", "cc")
SOAK = os.environ.get("EXPERT_TRACER_SOAK") == "1"

LIMITED = ["sleep", "clock", "poll", "ppoll", "select", "futex-time", "epoll-time"]
UNLIMITED = ["poll-pipe", "poll-stale", "epoll-pipe", "accept", "futex", "condition"]
BUSY = ["spin", "malloc", "load"]
UNUSABLE = ["small", "heap", "handler"]
LONGEST_STOP = 50_000_000
NOTHING_BLOCKED = "SigBlk:\t0000000000000000"
DAMAGED = """
import mmap, os, random, select, sys
path, seed, folder, rights = sys.argv[1:]
random.seed(int(seed))
kept = []
for i in range(30):
    with open(path, "rb") as file:
        data = bytearray(file.read())
    for _ in range(random.choice((1, 10, 1000))):
        data[random.randrange(random.choice((64, 1024, 1 << 15)))] = random.choice((0, 1, 255, random.randrange(256)))
    with open(os.path.join(folder, f"damaged-{i}"), "w+b") as file:
        file.write(data)
        file.flush()
        kept.append(mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, int(rights)))
print("mapped", flush=True)
select.select([sys.stdin], [], [])
"""
ENV = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}  # which does not work in a program that is debugged


def inject(pid, library=PROBE, entry="probe", words="words", times=1, before=(), **options):
    """Runs who injects: its exit code, the results, what it said."""
    done = subprocess.run([*before, INJECT, str(pid), str(library), entry, words, str(times)], capture_output=True,
                          text=True, env=ENV, timeout=600, **options)
    return done.returncode, done.stdout.split(), done.stderr.strip()


def state_of(pid):
    """The states of all its threads, and who traces them."""
    states, tracers = "", set()
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        states += lines["State"].strip()[0]
        tracers.add(lines["TracerPid"].strip())
    return states, tracers


class Process:
    """A program that answers what it is asked on its standard output."""

    def __init__(self, *kinds, command=(), **options):
        self.process = subprocess.Popen([*command, options.pop("program", TARGET), *kinds], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, **options)
        self.pid = self.process.pid
        self.ask()

    def ask(self):
        self.process.stdin.write("?")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def end(self):
        """With its input: it must not have to be killed."""
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        self.process.stdout.close()
        return self.process.wait(60)


def setUpModule():
    target = Process("condition")
    code, _, said = inject(target.pid)
    target.process.kill()
    target.end()
    if code != 0 and ("ptrace" in said or "PTRACE" in said):
        raise unittest.SkipTest(said)


class Case(unittest.TestCase):
    maxDiff = None

    def target(self, *kinds, **options):
        target = Process(*kinds, **options)

        def clean():
            target.process.kill()
            target.end()
        self.addCleanup(clean)
        return target

    def folder(self):
        folder = Path(tempfile.mkdtemp(prefix="test-inject-"))
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def assert_well(self, target, before=None):
        """Nothing is wrong, all kinds go on, and no thread is stopped or traced."""
        first = before or target.ask()
        end = time.monotonic() + 60
        while True:
            last = target.ask()
            self.assertEqual((last["wrong"], last["first"]), (0, ""))
            behind = [kind for kind in last if kind not in ("wrong", "first", *UNUSABLE, "signals", "lenient")
                      and last[kind] <= first.get(kind, 0) + 1]
            if not behind:
                break
            self.assertLess(time.monotonic(), end, f"{behind} did not go on")
            time.sleep(0.02)
        states, tracers = state_of(target.pid)
        self.assertEqual(tracers, {"0"})
        self.assertFalse(set(states) & set("tT"), states)

    def assert_refused(self, said, pid, **options):
        code, results, error = inject(pid, **options)
        self.assertEqual((code, results), (1, []), error)
        self.assertIn(said, error)
        self.assertEqual(len(error.splitlines()), 1)


class Disturbance(Case):
    def test_each_way_of_waiting(self):
        for kind in LIMITED + UNLIMITED:
            with self.subTest(kind):
                target = self.target(kind)
                self.assertEqual(inject(target.pid, times=3), (0, ["1", "2", "3"], ""))
                self.assert_well(target)
                self.assertEqual(target.end(), 0)

    def test_a_busy_program_at_random_moments(self):
        target = self.target(*LIMITED, *UNLIMITED, *BUSY, *UNUSABLE)
        self.assertEqual(inject(target.pid, times=200), (0, [str(i + 1) for i in range(200)], ""))
        self.assert_well(target)
        self.assertEqual(target.end(), 0)

    def test_only_limited_waits_beside_malloc_and_dlopen(self):
        target = self.target(*LIMITED, *BUSY)
        self.assertEqual(inject(target.pid, times=10)[0], 0)
        self.assert_well(target)

    def test_signals_all_the_time(self):
        target = self.target("epoll-pipe", "accept", "futex", "condition", "malloc", "signals")
        self.assertEqual(inject(target.pid, times=20)[0], 0)
        self.assert_well(target)

    def test_memory_is_as_it_was(self):
        def code_of(pid):
            parts = {}
            with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb") as memory:
                for line in maps:
                    span, rights = line.split()[:2]
                    start, end = (int(part, 16) for part in span.split("-"))
                    if "x" in rights and "[v" not in line:
                        memory.seek(start)
                        parts[line] = memory.read(end - start)
            return parts

        target = self.target("condition")
        before = code_of(target.pid)
        inject(target.pid, times=2)
        after = code_of(target.pid)
        self.assertEqual([line for line in before if before[line] != after.get(line)], [])
        maps = Path(f"/proc/{target.pid}/maps").read_text()
        inject(target.pid, times=5)
        self.assertEqual(Path(f"/proc/{target.pid}/maps").read_text().count("\n"), maps.count("\n"))

    def test_a_thread_is_stopped_for_a_moment(self):
        target = self.target(*UNLIMITED)
        times = []
        for _ in range(5):
            done = subprocess.run([KILLER, "0", INJECT, str(target.pid), PROBE, "probe", "words"], env=ENV,
                                  capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 0, done.stderr)
            times.append(int(done.stdout.split()[-1]))
        self.assertLess(min(times), LONGEST_STOP)  # of the best: others may have the processor
        self.assert_well(target)

    def test_what_a_call_has_left_on_the_stack(self):
        target = self.target("deep")
        self.assertEqual(inject(target.pid, times=40)[0], 0)
        self.assert_well(target)

    def test_the_signals_of_its_threads(self):
        def blocked():
            return {status.parent.name: next(line for line in status.read_text().splitlines() if "SigBlk" in line)
                    for status in Path(f"/proc/{target.pid}/task").glob("*/status")}

        def await_masks(right):
            end = time.monotonic() + 60
            while not right(blocked()) and time.monotonic() < end:
                time.sleep(0.01)

        target = self.target("condition", "futex")
        await_masks(lambda masks: set(masks.values()) == {NOTHING_BLOCKED})  # threads that begin have them blocked
        before = blocked()
        self.assertEqual(set(before.values()), {NOTHING_BLOCKED})
        self.assertEqual(inject(target.pid, entry="signals"), (0, ["0"], ""))
        await_masks(lambda masks: masks == before)  # the call is over, and its thread is on its way back
        self.assertEqual(blocked(), before)

    def test_two_at_once(self):
        target = self.target("condition", "futex")
        command = [INJECT, str(target.pid), PROBE, "probe", "words", "20"]
        both = [subprocess.Popen(command, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                for _ in range(2)]
        for process in both:
            _, error = process.communicate(timeout=60)
            self.assertTrue(process.returncode == 0 or "something else is being injected" in error, error)
        self.assertEqual(inject(target.pid)[0], 0)
        self.assert_well(target)


class Killed(Case):
    def kill_behind(self, target, n):
        """False: it had fewer system calls."""
        done = subprocess.run([KILLER, str(n), INJECT, str(target.pid), PROBE, "probe", "words"], env=ENV,
                              capture_output=True, text=True, timeout=60)
        return done.stdout.split()[-1] == "killed"

    def sweep(self, target, step):
        n = random.randrange(step) + 1
        while self.kill_behind(target, n):
            states, tracers = state_of(target.pid)
            self.assertIsNone(target.process.poll(), f"it ended when its injector was killed behind {n}")
            before = target.ask()
            self.assertEqual((before["wrong"], before["first"]), (0, ""), n)
            if n % (8 * step) < step:
                code, results, error = inject(target.pid)
                self.assertEqual((code, len(results), error), (0, 1, ""), n)
                self.assertGreater(int(results[0]), 0, n)
            self.assert_well(target, before)
            n += step
        self.assertEqual(inject(target.pid)[0], 0)
        self.assert_well(target)
        self.assertGreater(n, 100)

    def test_who_injects_behind_its_system_calls(self):
        self.sweep(self.target(*UNLIMITED, "spin", "malloc", "lenient"), 1 if SOAK else 11)

    def test_who_injects_where_waits_are_limited(self):
        self.sweep(self.target(*LIMITED, "lenient"), 3 if SOAK else 47)

    def test_who_is_injected_into(self):
        for delay in range(0, 40, 2 if SOAK else 8):
            target = self.target("condition")
            process = subprocess.Popen([INJECT, str(target.pid), PROBE, "probe", "words", "50"], env=ENV,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            time.sleep(delay / 1000)
            target.process.kill()
            error = process.communicate(timeout=60)[1]
            target.end()
            self.assertEqual(process.returncode, 1)
            self.assertEqual(len(error.splitlines()), 1, error)


class Library(Case):
    def test_words(self):
        target = self.target("condition")
        for words in ("", "x", "y" * 100_000):
            self.assertEqual(inject(target.pid, entry="measure", words=words), (0, [str(len(words))], ""))

    def test_what_cannot_be_loaded(self):
        target = self.target("condition")
        folder = self.folder()
        (folder / "text").write_text("no library\n")
        source = folder / "lacking.c"
        source.write_text("int nobody_has_this(void);\nint probe(void) { return nobody_has_this(); }\n")
        subprocess.run([CC, "-shared", "-fPIC", "-o", folder / "lacking.so", source], check=True)
        self.assert_refused("No such file", target.pid, library=folder / "none")
        self.assert_refused("not a shared library", target.pid, library=folder / "text")
        self.assert_refused("undefined symbol: nobody_has_this", target.pid, library=folder / "lacking.so")
        self.assert_refused("has no function nobody()", target.pid, entry="nobody")
        self.assert_well(target)

    def test_a_function_that_ends_the_process(self):
        target = self.target("condition")
        self.assert_refused("has ended while it was running the library's function", target.pid, entry="crash")
        self.assertEqual(target.process.wait(60), -signal.SIGABRT)

    def test_libraries_that_are_damaged(self):
        """Mapped, as if they were loaded: what they say of themselves is believed as far as it fits."""
        with open(f"/proc/{os.getpid()}/maps") as maps:
            path = next(line.split()[-1] for line in maps if "libc.so.6" in line or "libc-2" in line)
        program = self.folder() / "damaged.py"
        program.write_text(DAMAGED)
        for seed, rights in enumerate((mmap.PROT_READ, *4 * [mmap.PROT_READ | mmap.PROT_EXEC])):
            process = subprocess.Popen([sys.executable, program, path, str(seed), program.parent, str(rights)],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self.assertEqual(process.stdout.readline(), "mapped\n")
            code, _, error = inject(process.pid)
            self.assertIn(code, (0, 1) if rights & mmap.PROT_EXEC else (0,), error)
            self.assertEqual(len(error.splitlines()), code, error)
            process.communicate()
            self.assertEqual(process.returncode, 0)

    @unittest.skipUnless(SOAK, "ten seconds and more")
    def test_a_function_that_takes_long(self):
        target = self.target("condition")
        self.assert_refused("not through with running the library's function after ten seconds", target.pid,
                            entry="slow")
        self.assertEqual(inject(target.pid), (0, ["1"], ""))
        self.assert_well(target)

    def test_a_process_that_does_not_see_the_file(self):
        folder = self.folder()
        library = shutil.copy(PROBE, folder)
        user = [] if os.geteuid() == 0 else ["-U", "-r"]
        hide = ["unshare", *user, "-m", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(folder)]
        if subprocess.run([*hide, "true"], capture_output=True).returncode != 0:
            self.skipTest("no namespaces here")
        target = self.target(*UNLIMITED, command=hide)
        self.assertEqual(inject(target.pid, library=library), (0, ["1"], ""))
        self.assertIn("/memfd:libinject-probe.so", Path(f"/proc/{target.pid}/maps").read_text())
        self.assertFalse([link for link in Path(f"/proc/{target.pid}/fd").iterdir() if "memfd" in os.readlink(link)])
        self.assert_well(target)

    def test_a_file_that_the_user_may_not_read(self):
        if os.geteuid() != 0:
            self.skipTest("needs root")
        folder = self.folder()
        program = self.folder()
        program.chmod(0o755)
        program = shutil.copy(TARGET, program)
        target = self.target("condition", program=program, user=65534, group=65534, extra_groups=())
        self.assertEqual(inject(target.pid, library=shutil.copy(PROBE, folder)), (0, ["1"], ""))
        self.assert_well(target)


class Refusals(Case):
    def test_threads_that_may_not_be_used(self):
        for kinds in (["small"], ["heap"], ["handler"], ["spin"], ["futex-stale"]):
            with self.subTest(kinds):
                target = self.target(*kinds)
                self.assert_refused("no thread", target.pid)
                self.assert_well(target)

    def test_no_process(self):
        process = subprocess.Popen(["true"])
        process.wait()
        self.assert_refused("there is no process", process.pid)
        self.assert_refused("no number of a process", 0)
        self.assert_refused("no number of a process", -5)

    def test_itself(self):
        done = subprocess.run(["sh", "-c", 'exec "$0" $$ "$1" probe words', INJECT, PROBE], capture_output=True,
                              text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("into itself", done.stderr)

    def test_a_zombie(self):
        process = subprocess.Popen(["true"])
        while state_of(process.pid)[0] != "Z":
            time.sleep(0.01)
        self.assert_refused("has ended", process.pid)
        process.wait()

    def test_a_thread(self):
        target = self.target("condition")
        thread = max(int(name) for name in os.listdir(f"/proc/{target.pid}/task"))
        self.assert_refused(f"is a thread of process {target.pid}", thread)

    def test_a_stopped_process(self):
        target = self.target("condition")
        os.kill(target.pid, signal.SIGSTOP)
        while set(state_of(target.pid)[0]) != {"T"}:
            time.sleep(0.01)
        self.assert_refused("is stopped", target.pid)
        os.kill(target.pid, signal.SIGCONT)
        self.assert_well(target)

    def test_a_debugged_process(self):
        debugger = self.target("condition", command=(KILLER, "0"))
        children = Path(f"/proc/{debugger.pid}/task/{debugger.pid}/children").read_text().split()
        self.assert_refused(f"is being debugged by process {debugger.pid}", int(children[0]))

    def test_the_kernel(self):
        if os.geteuid() != 0 or not Path("/proc/2").exists() or os.path.exists("/proc/2/exe"):
            self.skipTest("process 2 is none of the kernel's")
        self.assert_refused("one of the kernel's", 2)

    def built(self, *command, source="#include <unistd.h>\nint main(void) { char c; return (int) read(0, &c, 1); }\n"):
        folder = self.folder()
        (folder / "wait.c").write_text(source)
        if not shutil.which(command[0]) or subprocess.run(
                [*command, "-o", folder / "wait", folder / "wait.c"], capture_output=True).returncode != 0:
            self.skipTest(f"{' '.join(command)} does not work here")
        try:
            process = subprocess.Popen([folder / "wait"], stdin=subprocess.PIPE)
        except OSError as error:
            self.skipTest(str(error))
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.addCleanup(process.stdin.close)
        while os.path.basename(os.readlink(f"/proc/{process.pid}/exe")) != "wait":
            time.sleep(0.01)
        time.sleep(0.1)
        return process

    def test_a_static_program(self):
        self.assert_refused("linked to it dynamically", self.built(CC, "-static").pid)

    def test_a_program_with_musl(self):
        self.assert_refused("musl, not with glibc", self.built("musl-gcc").pid)

    def test_a_32_bit_program(self):
        pause = 'void _start(void);\nvoid _start(void) { for (;;) { __asm__ volatile("int $0x80" :: "a"(29)); } }\n'
        self.assert_refused("32-bit", self.built(CC, "-m32", "-static", "-nostdlib", source=pause).pid)

    def test_another_users_process(self):
        if os.geteuid() != 0:
            self.skipTest("needs root")
        target = self.target("condition")
        folder = self.folder()
        folder.chmod(0o755)
        program, library = shutil.copy(INJECT, folder), shutil.copy(PROBE, folder)
        done = subprocess.run([program, str(target.pid), library, "probe", "words"], capture_output=True, text=True,
                              user=65534, group=65534, extra_groups=())
        self.assertEqual(done.returncode, 1)
        self.assertIn("another user's", done.stderr)


if __name__ == "__main__":
    sys.exit(unittest.main())
