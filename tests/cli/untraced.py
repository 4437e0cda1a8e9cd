"""A process that could be attached to, as far as can be seen from outside: it has a file mapped that is called as the
engine's library is."""

import contextlib
import subprocess
import sys

PROGRAM = """
import mmap, sys
file = open(sys.argv[1])
mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
print(flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def untraced_process(folder):
    """Its number, as long as a with statement lasts."""
    engine = folder / "libllama.so"
    engine.write_bytes(bytes(4096))
    with subprocess.Popen([sys.executable, "-c", PROGRAM, engine], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:
        try:
            process.stdout.readline()
            yield process.pid
        finally:
            process.kill()
