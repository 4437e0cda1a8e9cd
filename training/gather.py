#!/usr/bin/env python3
"""Gathers the text to train on from Debian packages: TEXT/KIND.train.bin and TEXT/KIND.held.bin, tokens of 16 bits.

A document begins with END. Every twentieth byte, in whole documents, is held out."""

import argparse
import fnmatch
import hashlib
import json
import random
import subprocess
from pathlib import Path

import numpy

from sources import SHARES, SOURCES
from tokenizer import END

SHORTEST = 400    # bytes of a document worth having
LARGEST  = 40_000 # what is longer becomes several
HELD_OUT = 0.05
SEED     = 1


def unpack(packages, debs, root):
    """The version of the first package; it and the others are below root then."""
    if not root.exists():
        subprocess.run(["apt-get", "download", "-qq", *packages], cwd=debs, check=True, stderr=subprocess.DEVNULL)
        unfinished = root.with_suffix(".unfinished")
        unfinished.mkdir(parents=True, exist_ok=True)
        for package in packages:
            subprocess.run(["dpkg-deb", "-x", deb_of(package, debs), unfinished], check=True)
        unfinished.rename(root)
    return subprocess.run(["dpkg-deb", "-f", deb_of(packages[0], debs), "Version"],
                          check=True, capture_output=True, text=True).stdout.strip()


def deb_of(package, debs):
    return max(debs.glob(f"{package}_*.deb"), key=lambda path: path.stat().st_mtime)


def matching_files(root, globs):
    left_out = [glob[1:] for glob in globs if glob.startswith("!")]
    found = {path for glob in globs if not glob.startswith("!") for path in root.glob(glob) if path.is_file()}
    return sorted(path for path in found if not any(fnmatch.fnmatch(str(path), glob) for glob in left_out))


def pieces(document):
    """Cut at ends of lines."""
    while len(document) > LARGEST:
        end = document.rfind(b"\n", 1, LARGEST) + 1 or LARGEST
        yield document[:end]
        document = document[end:]
    yield document


def documents_of(source, root, seen):
    """Texts in a fixed random order, none twice, up to the bytes that the source may give."""
    documents = []
    for path in matching_files(root, source.paths):
        for text in source.read(path):
            for document in pieces(text.encode()):
                digest = hashlib.sha256(document).digest()
                if len(document) >= SHORTEST and digest not in seen:
                    seen.add(digest)
                    documents.append(document)
    random.Random(SEED).shuffle(documents)

    taken, n_bytes = [], 0
    for document in documents:
        if n_bytes + len(document) <= source.most_bytes:
            taken.append(document)
            n_bytes += len(document)
    return taken


def write_tokens(path, documents):
    end = numpy.array([END], numpy.uint16)
    numpy.concatenate([part for document in documents
                       for part in (end, numpy.frombuffer(document, numpy.uint8))]).tofile(path)


def split(documents):
    """Held out, to train on."""
    random.Random(SEED).shuffle(documents)
    wanted, n_held, held = HELD_OUT*sum(map(len, documents)), 0, 0
    while n_held < wanted:
        n_held += len(documents[held])
        held += 1
    return documents[:held], documents[held:]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="packages, unpacked packages and text go below it")
    folder = parser.parse_args().folder.resolve()
    debs, text = folder/"packages", folder/"text"
    for path in (debs, text):
        path.mkdir(parents=True, exist_ok=True)

    seen, documents, records = set(), {kind: [] for kind in SHARES}, []
    for source in SOURCES:
        root = folder/"unpacked"/source.package
        version = unpack((source.package, *source.needs), debs, root)
        found = documents_of(source, root, seen)
        documents[source.kind] += found
        records.append({"kind": source.kind, "package": source.package, "version": version, "licence": source.licence,
                        "documents": len(found), "bytes": sum(map(len, found))})
        line = "{kind:8} {bytes:9,} bytes of {documents:5} documents: {package} {version} ({licence})"
        print(line.format(**records[-1]))

    for kind, of_kind in documents.items():
        held, train = split(of_kind)
        write_tokens(text/f"{kind}.held.bin", held)
        write_tokens(text/f"{kind}.train.bin", train)
        print(f"{kind:8} {sum(map(len, train)):9,} bytes to train on, {sum(map(len, held)):7,} held out")
    (text/"sources.json").write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
