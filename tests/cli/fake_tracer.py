#!/usr/bin/env python3
"""A process that shows itself as a running tracer does (docs/live-format.md), without an engine: its memory has a
header and nothing else, and it answers what it was given.

usage: fake_tracer.py FOLDER [ANSWERS]

ANSWERS is JSON: verb -> the answer, an object or, to be sent as it is, a string; "" closes the connection, null does
not answer. Prints its name, and then a line of JSON for each request: its words, and what came with it.
"""

import array
import fcntl
import json
import mmap
import os
import secrets
import socket
import stat
import struct
import sys
import threading

SIZE = 1 << 16
NAME = f"{os.getpid()}-{secrets.token_hex(4)}"


def make_memory():
    fd = os.memfd_create("llama-expert-tracer", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, SIZE)
    memory = mmap.mmap(fd, SIZE)
    header = struct.pack("<8s4IQqq32s256s32s", b"MOELIVE\0", 1, 1024, 32, 480, SIZE, 1_700_000_000_000_000, os.getpid(),
                         NAME.encode(), b"fake-server", b"0.1.0")
    memory[:len(header)] = header
    fcntl.fcntl(fd, 1033, 2 | 4) # F_ADD_SEALS: shrink, grow
    return fd, memory


def take_name(folder):
    """The lock first: whoever sees a socket finds it locked."""
    hidden = f"{folder}/.{NAME}.lock.aaaaaa.tmp"
    lock = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.rename(hidden, f"{folder}/{NAME}.lock") # it stays open


def listen(folder):
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    before = os.getcwd()
    os.chdir(folder)
    server.bind(f"{NAME}.sock")
    os.chdir(before)
    server.listen()
    return server


def describe(fd):
    status = os.fstat(fd)
    return {"mode": fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE, "regular": stat.S_ISREG(status.st_mode),
            "size": status.st_size, "permissions": stat.S_IMODE(status.st_mode)}


def answer(client, words, fd, answers, memory):
    """False: the connection is at its end."""
    verb = words[0]
    its = answers.get(verb, {"holds": []})
    if its is None:
        return True
    if its == "":
        return False
    if fd is not None and verb == "dump" and "error" not in its:
        its = {"bytes": os.pwrite(fd, b'{\n  "format": "llama-expert-tracer-statistics"\n}\n', 0)}
    if fd is not None and verb == "record" and "error" not in its:
        os.pwrite(fd, b"trace", 0)
    data = its.encode() if isinstance(its, str) else json.dumps(its).encode()
    beside = []
    if verb == "hello" and memory is not None:
        beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [memory]).tobytes())]
    client.sendmsg([data], beside)
    return True


def serve(client, answers, memory):
    with client:
        try:
            serve_requests(client, answers, memory)
        except OSError:
            pass


def serve_requests(client, answers, memory):
    while True:
        data, beside, _, _ = client.recvmsg(65536, socket.CMSG_SPACE(16))
        if not data:
            return
        fds = array.array("i")
        for _, _, content in beside:
            fds.frombytes(content[:len(content) // 4 * 4])
        words = data.decode(errors="surrogateescape").split("\0")[:-1]
        print(json.dumps({"words": words, "files": [describe(fd) for fd in fds]}) + "\n", end="", flush=True)
        goes_on = answer(client, words, fds[0] if fds else None, answers, memory)
        for fd in fds:
            os.close(fd)
        if not goes_on:
            return


def main():
    folder, answers = sys.argv[1], json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    answers.setdefault("hello", {"version": 1, "name": NAME, "pid": os.getpid()})
    fd, memory = make_memory()
    memory_sent = {"nothing": None, "a pipe": os.pipe()[0]}.get(answers.pop("memory", ""), fd)
    if answers.pop("version", 1) != 1:
        memory[8] = 2
    take_name(folder)
    server = listen(folder)
    print(NAME, flush=True)
    while True:
        client, _ = server.accept() # somebody else may be looking at all tracers of the machine
        threading.Thread(target=serve, args=(client, answers, memory_sent), daemon=True).start()


if __name__ == "__main__":
    main()
