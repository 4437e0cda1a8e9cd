"""docs/performance.md: the tables, and the machine that they were measured on."""

import os
import platform
import re
from pathlib import Path

from pairs import Spread

PHASES = {"prompt_us": "prompt", "generate_us": "generation", "token_us": "median token"}


def machine(devices=()):
    """The processor, its cores, the memory, the kernel, and what else computes."""
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = int(re.search(r"^MemTotal: +(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)[1])
    facts = [cpu[1].strip() if cpu else platform.machine(), f"{os.cpu_count()} cores",
             f"{memory / 2**20:.0f} GiB of memory", f"{platform.system()} {platform.release()}"]
    return ", ".join([*facts, *(device for device in dict.fromkeys(devices) if device != facts[0])])


def number(value, form):
    """Without a minus before what is rounded to nothing."""
    text = format(value, form)
    return text if text.strip("-+.,0") else text.replace("-", "")


def spread(values, form):
    s = Spread(values)
    return f"{number(s.median, form)} ({number(s.low, form)} … {number(s.high, form)})"


def table(heads, rows):
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def measurement_table(measurement, labels, base="untraced"):
    heads = ["", "pairs"]
    phases = next(iter(measurement.rows.values())).phases
    for name in phases:
        heads += [f"{PHASES[name]}, share of {base}"] + ["µs a token"] * (name != "generate_us")
    rows = []
    for way, row in measurement.rows.items():
        cells = [labels[way], str(len(row.phases["prompt_us"].shares))]
        for name, phase in row.phases.items():
            cells += [spread(phase.shares, ".3f")] + [spread(phase.extra, "+.1f")] * (name != "generate_us")
        rows.append(cells)
    return table(heads, rows)


def measurement_text(measurement, labels, base="untraced"):
    n_prompt, n_generate = measurement.n_prompt, measurement.n_generate
    how = base if base == "untraced" else f"with {base}"
    facts = [f"A prompt of {n_prompt}, {how} {measurement.speed('prompt_us'):.1f} tokens a second"]
    if n_generate:
        facts.append(f"then {n_generate} generated, {measurement.speed('token_us'):.1f} a second")
    text = ", ".join(facts) + "."
    captures = sorted({row.capture for way, row in measurement.rows.items() if row.capture and way != "callback"})
    if captures:
        text += f" The routing is read by: {', '.join(captures)}."
    if "names" in measurement.rows:
        lines = measurement.rows["names"].lines / (n_prompt + n_generate)
        text += f" Names are {lines:.0f} lines a token."
    return f"### {measurement.name}\n\n{text}\n\n{measurement_table(measurement, labels, base)}"


INTRODUCTION = """# What tracing costs

Written by `{command}`; measured on: {machine}. Engine: {engine}.

Every traced repetition stands between two untraced ones of the same process and is compared with the mean of both
(bench/pairs.py); a cell is the median over all such pairs, and in parentheses the middle half of them. A share of 0.99
is one percent slower. *Generation* is all tokens that a repetition generates, *median token* the one in the middle of
them by time, on which what else the machine does has the least influence. *Untraced, once more* is compared like
the others and shows what these numbers are worth: it is not traced, so whatever it differs from 1.000 by is \
the machine.
All of them use one context but the bare eval callback, which is given to a context for good and has one of its own.
"""


def page(command, engine, devices, sections):
    parts = [INTRODUCTION.format(command=command, machine=machine(devices), engine=engine).rstrip()]
    return "\n\n".join(parts + [section.rstrip() for section in sections]) + "\n"
