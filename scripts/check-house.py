#!/usr/bin/env python3
"""Checks what the house's rules say that a program can see (docs/architecture.md, CONTRIBUTING.md).

usage: check-house.py [FOLDER]        (default: the repository that it is in)

Prints a line for each breach, `path:line: what is wrong`, and fails where there is one. Files are those that
git does not ignore.
"""

import collections
import os
import re
import subprocess
import sys

COLUMNS        = 120
LINES_OF_FILE  = 600  # of src/
SHARE_OF_ROOM  = 0.20 # of the lines of src/, with its subfolders
SHARE_COMMANDS = 0.25
CODE           = (".c", ".h", ".py", ".sh", ".js", ".mjs", ".css", ".html", ".cmake")
NAMES          = ("CMakeLists.txt", "Makefile")

# A room of src/, and the rooms whose headers its files may include besides its own.
GUEST = {
    "base":            (),
    "routing":         ("base",),
    "engine/upstream": ("base", "routing"),
    "engine/context":  ("base", "routing", "engine/upstream"),
    "engine/capture":  ("base", "routing", "engine/upstream", "engine/context"),
    "engine/hooks":    ("base", "routing", "engine/upstream", "engine/context", "engine/capture"),
    "trace/format":    ("base",),
    "trace/write":     ("base", "routing", "trace/format"),
    "statistics":      ("base", "routing"),
    "live":            ("base", "routing", "statistics"),
    "tracer":          ("base", "routing", "statistics", "trace/write", "live"),
    "library":         ("base", "routing", "engine/upstream", "engine/hooks", "engine/context", "engine/capture",
                        "tracer"),
}
TOOL = {
    "gguf":          ("base",),
    "page":          (),
    "analysis":      ("base", "routing"),
    "trace/read":    ("base", "routing", "trace/format"),
    "trace/rewrite": ("base", "trace/format", "trace/read"),
    "tool":          ("base", "analysis", "page"),
    "tool/launch":   ("base", "tool"),
    "inject":        ("base", "tool", "tool/launch"),
    "tool/input":    ("base", "routing", "gguf", "trace/format", "trace/read", "trace/rewrite", "tool"),
    "statistics":    ("base", "routing", "analysis", "gguf", "tool"),
    "live":          ("base", "routing", "statistics", "tool"),
    "serve":         ("base", "routing", "analysis", "statistics", "trace/write", "live", "tool", "tool/input"),
    "built-in":      ("base", "tool", "engine/upstream"),
    "answers":       ("base", "routing", "analysis", "statistics", "trace/read", "tool", "tool/input"),
    "watch":         ("base", "routing", "analysis", "statistics", "trace/read", "live", "tool", "tool/input",
                      "answers"),
}
TOOL["commands"] = (*TOOL, "base", "routing", "trace/format", "trace/write")

# Functions that a guest in somebody else's process does not call.
NOT_FOR_GUESTS = re.compile(r"(?<![\w.>])(abort|exit|assert|printf|puts|putchar)\s*\(")

# Two sources of which each program has one: this, or that whose functions it has too; or one for each processor.
GUEST_ALTERNATIVES = {"src/engine/upstream/real-built-in.c"}
ALTERNATIVES       = GUEST_ALTERNATIVES | {"src/commands/top/top-missing.c", "src/inject/inject-missing.c",
                                           "src/inject/inject-x86-64.c"}

FUNCTION = re.compile(r"^(?!static\b|typedef\b|extern\b|#)[A-Za-z_][\w ]*[ *]+\**(\w+)\s*\(", re.M)


def files_of(folder):
    """Their paths, as git tells them; all but build/ where there is no git, as in a tarball."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        out   = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
        paths = out.splitlines()
    except (OSError, subprocess.CalledProcessError):
        paths = [os.path.relpath(os.path.join(where, name), folder)
                 for where, _, names in os.walk(folder) for name in names]
        paths = [path for path in paths if not path.startswith(("build/", "."))]
    return [path for path in paths if os.path.isfile(os.path.join(folder, path))]


def without_comments(text):
    """The text, with blanks for comments and for what is between quotes: lines stay where they are."""
    def blank(match):
        return re.sub(r"[^\n]", " ", match.group(0))
    return re.sub(r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", blank, text, flags=re.S)


class House:
    def __init__(self, folder):
        self.folder   = folder
        self.breaches = []
        self.paths    = files_of(folder)
        self.texts    = {}
        for path in self.paths:
            if path.endswith(CODE) or os.path.basename(path) in NAMES:
                with open(os.path.join(folder, path), encoding="utf-8") as file:
                    self.texts[path] = file.read()
        self.sources = {path: text for path, text in self.texts.items()
                        if path.startswith("src/") and path.endswith((".c", ".h"))}
        self.bare = {path: without_comments(text) for path, text in self.sources.items()}

    def breach(self, path, line, what):
        self.breaches.append(f"{path}:{line}: {what}")

    # -- each file

    def check_lines(self):
        for path, text in self.texts.items():
            makefile = os.path.basename(path) == "Makefile"
            for number, line in enumerate(text.split("\n"), 1):
                columns = len(line.expandtabs(8))
                if columns > COLUMNS:
                    self.breach(path, number, f"{columns} columns: {COLUMNS} at most")
                if "\t" in line and not makefile:
                    self.breach(path, number, "a tab: four spaces")
                if line != line.rstrip():
                    self.breach(path, number, "blanks at the end of the line")

    def check_heads(self):
        marks = {".py": '"""', ".html": "<!--", ".css": "/*"}
        for path, text in self.texts.items():
            lines = [line for line in text.split("\n")[:3] if not line.startswith(("#!", "<!doctype", "<!DOCTYPE"))]
            kind  = os.path.splitext(path)[1]
            slash = kind in (".c", ".h", ".js", ".mjs")
            mark  = "// " if slash else marks.get(kind, "# ")
            if not (lines and lines[0].startswith(mark)):
                self.breach(path, 1, f"does not begin with what the file is for ({mark.strip()} …)")

    def check_sizes(self):
        room_lines = collections.Counter()
        for path in self.paths:
            if path.startswith("src/"):
                with open(os.path.join(self.folder, path), encoding="utf-8") as file:
                    n = sum(1 for _ in file)
                if n > LINES_OF_FILE and path.endswith((".c", ".h")):
                    self.breach(path, n, f"{n} lines: {LINES_OF_FILE} at most")
                room_lines[path.split("/")[1] if path.count("/") > 1 else "."] += n
        whole = sum(room_lines.values())
        for room, n in room_lines.items():
            most = SHARE_COMMANDS if room == "commands" else SHARE_OF_ROOM
            if n > most * whole:
                self.breach(f"src/{room}", 0, f"{n} of {whole} lines: a share of {most} at most")

    # -- who includes whom

    def guest_sources(self):
        listed = self.texts["src/library/CMakeLists.txt"]
        names  = re.findall(r"^    ([\w./-]+\.c)$", listed, re.M)
        return {os.path.normpath(os.path.join("src/library", name)) for name in names} | GUEST_ALTERNATIVES

    def includes(self, path):
        """The files of src/ that one includes: (line, path)."""
        for number, line in enumerate(self.sources[path].split("\n"), 1):
            match = re.match(r'#\s*include\s+"([^"]+)"', line)
            if match and match.group(1) != "llama-expert-tracer.h":
                yield number, "src/" + match.group(1)

    def check_includes(self):
        guests = self.guest_sources()
        for path in self.sources:
            room    = os.path.dirname(path)[len("src/"):]
            guest   = path in guests or re.sub(r"\.h$", ".c", path) in guests
            tables  = (GUEST, TOOL) if guest else (TOOL, GUEST)
            rooms   = (room, room.split("/")[0])
            allowed = next((table[each] for each in rooms for table in tables if each in table), None)
            if allowed is None:
                self.breach(path, 1, f"the room src/{room} is not in check-house.py: which may it include?")
                continue
            for number, target in self.includes(path):
                if target not in self.sources:
                    self.breach(path, number, f"{target} is not there: includes name the folder from src/ on")
                    continue
                other = os.path.dirname(target)[len("src/"):]
                if other not in (room, *allowed) and (room + other).count("commands") != 2:
                    self.breach(path, number, f"src/{room} does not know src/{other}")
                own = re.sub(r"\.h$", ".c", target)
                if path in guests and own in self.sources and own not in guests:
                    self.breach(path, number, f"{own} is not part of the library")

    def check_circles(self):
        """No source and its header include each other in a circle, through whatever is between them."""
        arrows = collections.defaultdict(dict)
        for path in self.sources:
            stem = os.path.splitext(path)[0]
            for number, target in self.includes(path):
                other = os.path.splitext(target)[0]
                if other != stem:
                    arrows[stem].setdefault(other, (path, number))
        done, way = set(), []

        def walk(stem):
            if stem in way:
                circle      = way[way.index(stem):] + [stem]
                path, number = arrows[circle[-2]][stem]
                self.breach(path, number, "a circle: " + " -> ".join(os.path.basename(each) for each in circle))
                return
            if stem in done:
                return
            way.append(stem)
            for other in arrows[stem]:
                walk(other)
            way.pop()
            done.add(stem)

        for stem in sorted(arrows):
            walk(stem)

    # -- what is defined where

    def line_of(self, path, position):
        return self.bare[path].count("\n", 0, position) + 1

    def check_tags(self):
        where = collections.defaultdict(list)
        for path, text in self.bare.items():
            for match in re.finditer(r"\b(?:struct|union|enum)\s+(\w+)\s*\{", text):
                where[match.group(1)].append((path, self.line_of(path, match.start())))
        for tag, places in where.items():
            if len(places) > 1 and any(path.endswith(".h") for path, _ in places):
                for path, number in places[1:]:
                    self.breach(path, number, f"{tag} is defined in {places[0][0]} already")

    def functions(self, path, end):
        """External functions of a file whose parameters are followed by `end`: (line, name)."""
        text = self.bare[path]
        for match in FUNCTION.finditer(text):
            depth, position = 1, match.end()
            while depth and position < len(text):
                depth += {"(": 1, ")": -1}.get(text[position], 0)
                position += 1
            rest = re.sub(r"^\s*(__attribute__\s*\(\(.*?\)\)\)?\s*)*", "", text[position:position + 200], flags=re.S)
            if rest.startswith(end):
                yield self.line_of(path, match.start()), match.group(1)

    def check_functions(self):
        defined = collections.defaultdict(list)
        for path in self.sources:
            if path.endswith(".c") and path not in ALTERNATIVES:
                for number, name in self.functions(path, "{"):
                    defined[name].append((path, number))
        for name, places in defined.items():
            for path, number in places[1:]:
                if path != places[0][0]: # in one source they are alternatives of the preprocessor
                    self.breach(path, number, f"{name}() is defined in {places[0][0]} already")
        for path in self.sources:
            if path.endswith(".h"):
                own = re.sub(r"\.h$", ".c", path)
                for number, name in self.functions(path, ";"):
                    for place, _ in defined.get(name, ()):
                        if place != own:
                            self.breach(path, number, f"{name}() is of {place}: a header serves one source")

    def check_guests(self):
        for path in sorted(self.guest_sources()):
            for match in NOT_FOR_GUESTS.finditer(self.bare[path]):
                number = self.line_of(path, match.start())
                self.breach(path, number, f"{match.group(1)}() in other people's processes")

    def check(self):
        self.check_lines()
        self.check_heads()
        self.check_sizes()
        self.check_includes()
        self.check_circles()
        self.check_tags()
        self.check_functions()
        self.check_guests()
        return self.breaches


def main():
    default  = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
    breaches = House(sys.argv[1] if len(sys.argv) > 1 else default).check()
    print("\n".join(breaches) if breaches else "the house is in order")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
