"""Instructions that a token takes, counted by callgrind: no other program on the machine changes them.

A run of more tokens than another executes those tokens' instructions more; loading the model drops out. From run to run
addresses differ, and with them the number of probes in ggml's hash tables:
a difference of about a thousand instructions a token between two ways is nothing.
"""

import collections
import contextlib
import dataclasses
import re
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from client import environment

# What is called there counts for us, too. What we call in the engine would have been called anyway.
C_LIBRARY = re.compile(r"/(libc|libpthread|libdl|ld-linux[^/]*)\.so")


class Count:
    """Instructions of one run."""

    def __init__(self, profile, library):
        self.total = 0
        self.ours = 0  # of the tracer's library, with what it calls of the C library
        self._read(profile, re.compile(re.escape(library.name)))

    def _read(self, profile, library):
        names = {}
        ours = calls_c = in_call = False
        cost = re.compile(r"[+\-*0-9]\S* (\d+)$")
        name = re.compile(r"(c?ob)=(\(\d+\))(?: (.*))?$")
        objects = collections.defaultdict(str)
        for line in profile.open(errors="replace"):
            if found := cost.match(line):
                n = int(found[1])
                if not in_call:
                    self.total += n
                if ours and (calls_c or not in_call):
                    self.ours += n
                in_call = calls_c = False
            elif found := name.match(line):
                kind, number, full = found.groups()
                if full is not None:
                    names[number] = full
                objects[kind] = names[number]
                if kind == "ob":
                    ours = bool(library.search(objects["ob"]))
            elif line.startswith("fn="):
                objects["cob"] = ""
            elif line.startswith("calls="):
                in_call = True
                calls_c = bool(C_LIBRARY.search(objects["cob"]))
                objects["cob"] = ""  # a call without one stays in its object


@dataclasses.dataclass(frozen=True)
class Way:
    """How a run is traced: what the client does, and what its environment has."""
    client: str
    preload: tuple = ()
    settings: tuple = ()    # (variable, value)
    is_shown: bool = False  # in a live memory
    is_watched: bool = False
    is_attached: bool = False # after a first run
    is_detached: bool = False # after another one

    def environment(self, folder):
        shown = {"LLAMA_EXPERT_TRACE_LIVE": str(folder)} if self.is_shown else {}
        return environment(self.preload) | dict(self.settings) | shown


@contextlib.contextmanager
def watching(folder, wanted):
    """Watches the tracer that shows itself in the folder from its first moment on, as a viewer does."""
    ended = threading.Event()
    answers = []

    def watch():
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            while not ended.is_set():
                for path in folder.glob("*.sock"):
                    connection.connect(str(path))
                    connection.send(b"watch\0")
                    answers.append(connection.recv(65536))
                    ended.wait()
                time.sleep(0.01)

    thread = threading.Thread(target=watch)
    if wanted:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if wanted:
            thread.join()
    if wanted and not answers:
        raise RuntimeError("nothing could be watched")


def await_socket(folder):
    """Of the tracer that shows itself in the folder, soon."""
    end = time.monotonic() + 60
    while not (found := list(folder.glob("*.sock"))):
        if time.monotonic() > end:
            raise RuntimeError("no tracer shows itself")
        time.sleep(0.01)
    return str(found[0])


def detach(folder):
    """Until the tracer is gone: its thread ends by itself, within some seconds."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(await_socket(folder))
        connection.send(b"detach\0")
        while connection.recv(65536):
            pass
    time.sleep(5)


def converse(process, way, sizes, folder, library):
    """Has the client do what the way wants, and runs of that size at last."""
    def ask(*words):
        process.stdin.write(f"{' '.join(map(str, words))}\n")
        process.stdin.flush()
        return process.stdout.readline()

    process.stdout.readline()
    if way.is_attached:
        ask("run", way.client, 4, 4)
        if '"result": 0' not in ask("attach", library, folder):
            raise RuntimeError("it cannot be attached to")
        await_socket(folder)
        ask("run", way.client, 4, 4)
    if way.is_detached:
        detach(folder)
    ask("run", way.client, *sizes)


def count(client, model, way, sizes, library):
    with tempfile.TemporaryDirectory(prefix="expert-tracer-bench-") as folder:
        profile = Path(folder) / "profile"
        shown = Path(folder) / "live"
        shown.mkdir(0o700)
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={profile}", str(client),
                   "--model", str(model), "--threads", "1", "--ctx", "256", "--routing", f"{folder}/run.moetrace"]
        with watching(shown, way.is_watched), tempfile.TemporaryFile("w+") as log:
            process = subprocess.Popen(command, env=way.environment(shown), text=True, stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, stderr=log)
            with contextlib.suppress(BrokenPipeError), process: # where it has ended, its log tells why
                converse(process, way, sizes, shown, library)
            if process.returncode != 0:
                log.seek(0)
                raise RuntimeError(f"{' '.join(command)} failed:\n{log.read()[-2000:]}")
        return Count(profile, library)


def per_token(client, model, way, few, many, library):
    """Instructions of one token, of all and of the tracer itself,
    from two runs of so many (prompt, generated) tokens."""
    fewer, more = (count(client, model, way, sizes, library) for sizes in (few, many))
    n = sum(many) - sum(few)
    return (more.total - fewer.total) / n, (more.ours - fewer.ours) / n
