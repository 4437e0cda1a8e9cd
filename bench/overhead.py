#!/usr/bin/env python3
"""What tracing costs: prints tables, and writes them to docs/performance.md.

The machine should have nothing else to do. What is measured, a part after the other:
  cpu            every way to trace, on models that make a token cheap
  ubatches       a prompt of four ubatches
  rpc            the same as cpu on an RPC device, which is on this machine, too
  full           the shapes of real models, those of build/models/full-*.gguf that are there (make models-full)
  off            the library preloaded while nothing is asked for, against a process without it
  stock          stock programs: llama-imatrix, and names in llama-completion's --log-file
  trace-cost     the routing trace, against statistics
  trace-size     how large it is: recorded, packed, and as other programs know it
  instructions   instructions of a token, by callgrind
  analysis       how fast traces are analysed, and in how much memory
LLAMA_EXPERT_TRACE_CAPTURE says how the tracer shall read the routing.
"""

import argparse
import collections
import concurrent.futures
import os
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

import analysis
import page
from client import RpcServer
from instructions import Way, per_token
from pairs import Spread, say
from sections import ALL_WAYS, RECORDING, measure, measure_off
from sizes import CHUNK, Sizes, expanded, text_of
from stock import Evaluation, LogFile

REPOSITORY = Path(__file__).resolve().parents[1]
BUILD = Path(os.environ.get("BUILD", REPOSITORY / "build")).resolve()
MODELS = BUILD / "models"
ENGINE = BUILD / "engine" / "bin"
CLIENT = BUILD / "bench" / "bench-client"
ANALYSIS = BUILD / "bench" / "bench-analysis"

# The layers, experts and top-k of Mixtral-8x7B and GPT-OSS-120B at a width that makes a token cheap.
FAST = MODELS / "oracle-mixtral.gguf"
MIDDLE = MODELS / "oracle-gpt-oss.gguf"
# Experts and top-k of Qwen3-Next-80B-A3B, likewise.
WIDE = MODELS / "oracle-qwen3next.gguf"
FULL = MODELS / "full-qwen3-30b-a3b.gguf"

# Ways to count instructions in, beside those of the sections.
NOTHING_ASKED = "preloaded, nothing asked for"
DORMANT = "preloaded, dormant"
SHOWN = "statistics, shown"
WATCHED = "statistics, shown and watched"
ATTACHED = "attached"
DETACHED = "attached, and detached"

TRACED_CHUNKS = 20 # 10,240 tokens

ENOUGH_PAIRS = 6

# A part's share of the time. Of these there is one for each model.
WEIGHTS = {"cpu": 3, "ubatches": 1.5, "rpc": 3, "full": 3, "off": 1, "stock": 1.5, "trace-cost": 1.5}


# Instructions that tracing costs a token.
Cost = collections.namedtuple("Cost", "more percent ours")


class Bench:
    def __init__(self, arguments):
        self.threads = arguments.threads
        self.library = arguments.library
        self.rounds = 1 if arguments.quick else 3
        self.parts = arguments.only
        self.traced_chunks = 4 if arguments.quick else TRACED_CHUNKS
        self.traced_chunks_full = arguments.full_chunks
        self.analysed = 10 ** 7 if arguments.quick else 10 ** 9 # activations
        self.full = [] if arguments.quick else sorted(MODELS.glob("full-*.gguf"))
        if arguments.models:
            self.full = [path for path in self.full if path.stem in arguments.models]
        models = {"cpu": 2, "full": len(self.full), "trace-cost": 2}
        weights = sum(WEIGHTS[part] * models.get(part, 1) for part in self.parts if part in WEIGHTS)
        self.unit = 60 * (2 if arguments.quick else arguments.minutes) / max(weights, 1)
        self.sections = []
        self.targets = []

    def seconds(self, part):
        return self.unit * WEIGHTS[part]

    def options(self, *more):
        return ["--threads", self.threads, *more]

    def table(self, part, name, model, options, **how):
        rounds = 1 if part == "full" else self.rounds
        measurement, _ = measure(name, CLIENT, self.library, model, options, self.seconds(part), rounds, **how)
        self.sections.append(page.measurement_text(measurement, ALL_WAYS))
        return measurement

    def target(self, what, aim, values, holds, form=".3f"):
        s = Spread(values)
        if 1 < s.n < ENOUGH_PAIRS:
            verdict = f"{s.n} pairs are too few to say"
        elif holds(s.median):
            verdict = "yes"
        else:
            verdict = "not shown" if holds(s.low) or holds(s.high) else "no"
        self.targets.append([what, aim, page.spread(values, form) if s.n > 1 else page.number(s.median, form), verdict])

    def share_target(self, measurement, way, phase, least, of=""):
        phase_name = page.PHASES[phase]
        self.target(f"{measurement.name}: {ALL_WAYS[way]}, {phase_name}", f"at least {least}{of}",
                    measurement.rows[way].phases[phase].shares, lambda share: share >= least)

    def cpu_targets(self, measurement):
        for phase in ("prompt_us", "token_us"):
            self.share_target(measurement, "stats", phase, 0.995)
        for way, least in (("per-layer", 0.98), ("json", 0.99), ("names", 0.9)):
            if way in measurement.rows:
                self.share_target(measurement, way, "token_us", least)

    def cpu(self):
        for model in (FAST, MIDDLE):
            self.cpu_targets(self.table("cpu", f"CPU, {model.stem}", model, self.options()))

    def ubatches(self):
        measurement = self.table("ubatches", f"CPU, {MIDDLE.stem}, a prompt of four ubatches", MIDDLE,
                                 self.options("--ctx", 2304, "--batch", 2048, "--ubatch", 512),
                                 ways=("stats", "control", "stats", "callback"), sizes=(2048, 0))
        self.share_target(measurement, "stats", "prompt_us", 0.995)

    def rpc(self):
        # the device is on this machine, too, and they must not wait for each other's cores
        threads = max(1, self.threads // 2)
        with RpcServer(ENGINE / "ggml-rpc-server", threads) as server:
            measurement = self.table("rpc", f"RPC device on loopback, {MIDDLE.stem}", MIDDLE,
                                     ["--threads", threads, "--rpc", server.endpoint, "--gpu-layers", 99])
        self.share_target(measurement, "stats", "token_us", 0.99)
        self.target(f"{measurement.name}: statistics, median token, µs", "at most 100",
                    measurement.rows["stats"].phases["token_us"].extra, lambda extra: extra <= 100, "+.1f")

    def full_shapes(self):
        if self.full:
            self.sections.append("The full shapes are sparse files: layers, experts and widths are those of the real "
                                 "models, most weights are zero. Their text is two tokens by turns, because all of "
                                 "their experts do not fit into every machine's memory.")
        else:
            say("full shapes are left out: no build/models/full-*.gguf is there")
        for model in self.full:
            measurement = self.table("full", f"CPU, {model.stem}", model, self.options("--no-repack", "--distinct", 2),
                                     ways=("stats", "control", "names", "stats", "callback"))
            self.cpu_targets(measurement)

    def off(self):
        measurement = measure_off("off", CLIENT, self.library, FAST, self.options(), self.seconds("off"), self.rounds)
        text = ("Two processes, which differ by more than their speeds: where their memory lies, for one. "
                "Counted instructions tell more (below).")
        labels = {"off": "preloaded, nothing asked for"}
        self.sections.append(f"### Preloaded and off, CPU, {FAST.stem}\n\n{text}\n\n"
                             f"{page.measurement_table(measurement, labels)}")

    def stock(self):
        evaluation = Evaluation(ENGINE, self.library, MIDDLE, self.threads, 4, self.seconds("stock") / 2)
        log_file = LogFile(ENGINE, self.library, MIDDLE, self.threads, 64, self.seconds("stock") / 2)
        rows = [[way, str(len(shares)), f"{page.spread(shares, '.2f')} times the time of llama-perplexity"]
                for way, shares in evaluation.shares.items()]
        rows.append(["llama-completion, names in --log-file", str(len(log_file.ratios)),
                     f"{page.spread(log_file.ratios, '.3f')} of the untraced tokens per second in generation"])
        text = (f"Each run is a process of its own, an untraced one before it; "
                f"such runs differ by more than tracing costs. "
                f"llama-imatrix, which counts activations among much else, and llama-perplexity evaluate the same "
                f"{evaluation.n_tokens} tokens; llama-perplexity takes {evaluation.seconds.median:.1f} s "
                f"from its start to its end. "
                f"The log file gets {log_file.lines:.0f} lines a generated token.")
        self.sections.append(f"### Stock programs, CPU, {MIDDLE.stem}\n\n{text}\n\n"
                             f"{page.table(['', 'pairs', ''], rows)}")

    def trace_cost(self):
        labels = ALL_WAYS | {"untraced": "untraced", "stats": "statistics, once more"}
        for model in (FAST, MIDDLE):
            measurement, _ = measure(f"Routing trace: cost, CPU, {model.stem}", CLIENT,
                                     self.library, model, self.options(), self.seconds("trace-cost"), self.rounds,
                                     ("routing", "untraced", "routing-all", "stats"), sizes=(512, 64), base="stats")
            text = page.measurement_text(measurement, labels, base="statistics")
            self.sections.append(f"{text}\n\nHere every repetition stands between two with statistics. Ways with a "
                                 "routing trace have no statistics. A trace is written by a thread of its own, up to "
                                 "a second later: counted instructions (below) have all of that in them.")
            for way in RECORDING:
                for phase in ("prompt_us", "token_us"):
                    self.share_target(measurement, way, phase, 0.99, " of statistics")

    def traces(self):
        """What is recorded for its size: a name, and the command."""
        with tempfile.TemporaryDirectory(prefix="expert-tracer-bench-") as folder:
            folder = Path(folder)
            text = folder / "text"
            text.write_text(text_of(CHUNK * (max(self.traced_chunks, self.traced_chunks_full) + 1)))
            evaluation = ["-f", text, "-c", CHUNK, "-b", CHUNK, "-t", self.threads, "--chunks"]
            for model in (FAST, MIDDLE, WIDE):
                yield model.stem, [ENGINE / "llama-perplexity", "-m", model, *evaluation, self.traced_chunks]
            n_tokens = CHUNK * self.traced_chunks
            yield f"{FAST.stem}, generation", [ENGINE / "llama-completion", "-m", FAST, "-p", "hello", "-no-cnv",
                                               "--ignore-eos", "-n", n_tokens // 4, "-c", n_tokens, "-t", self.threads]
            if (ENGINE / "test-llama-archs").exists():
                model = expanded(ENGINE, MODELS / "expand-experts", folder)
                yield "expanded-qwen3moe", [ENGINE / "llama-perplexity", "-m", model, *evaluation, self.traced_chunks]
            if FULL in self.full:
                yield FULL.stem, [ENGINE / "llama-perplexity", "-m", FULL, "--no-repack", *evaluation,
                                  self.traced_chunks_full]

    def trace_size(self):
        if not shutil.which("zstd"):
            say("sizes of the routing trace are left out: zstd is not there; scripts/install-deps.sh installs it")
            return
        traces = [Sizes(what, self.library, *command) for what, command in self.traces()]
        forms = [[t.what, f"{t.tokens:,}",
                  *(f"{size / t.activations:.3f} / {size / t.tokens:,.1f}" for size in t.bytes.values())]
                 for t in traces]
        of_what = [[t.what, f"{t.ubatches:,}", f"{t.activations:,}", f"{8 * t.ids / t.activations:.3f} of {t.bits}",
                    f"{t.rest / t.tokens:.2f} of {t.allowed / t.tokens:.2f}", f"{t.once:,}",
                    f"{8 * t.entropy / t.activations:.3f}", f"{t.bytes['packed'] / t.entropy:.3f}"] for t in traces]
        self.sections.append(
            "### Routing trace: size\n\nExperts alone are recorded, without gate weights and token ids. The text is "
            "characters by chance, the same in each run, some much more frequent than others. Bytes an activation / a "
            "token:\n\n" +
            page.table(["", "tokens", *traces[0].bytes], forms) +
            "\n\nThe CSV is as `export` writes it, a row for each token and layer, and moe-trace a row for each "
            "activation.\n\n"
            "What is recorded, and what it could be told with: the *entropy* is that of each layer's experts by "
            "themselves, counted in the CSV, and what is packed is compared with it, tables and all:\n\n" +
            page.table(["", "ubatches", "activations", "bits an activation", "bytes a token beside",
                        "bytes once", "entropy, bits", "packed, of the entropy"], of_what) +
            "\n\nIn oracle models and full shapes the token alone says which experts it meets in all layers. Entropies "
            "are those of the text's characters, and zstd finds whole tokens again: nothing of that can be said of a "
            "trained model. The two layers of expanded-qwen3moe have random weights and heed what was read before, "
            "though the token says most there, too.")
        for t in traces:
            self.target(f"Routing trace, {t.what}: bytes beside the experts",
                        "at most 4 a token + 32 a ubatch", [t.rest / t.allowed], lambda share: share <= 1)

    def instructions(self):
        if not shutil.which("valgrind"):
            say("instructions are left out: valgrind is not there; scripts/install-deps.sh installs it")
            return
        preload = (self.library,)
        counts_all = (("LLAMA_EXPERT_TRACE_STATS", "1"),)
        ways = {
            "untraced":                  Way("untraced"),
            NOTHING_ASKED:               Way("untraced", preload),
            DORMANT:                     Way("untraced", preload, (("LLAMA_EXPERT_TRACE_DORMANT", "1"),), True),
            ALL_WAYS["stats"]:           Way("stats", preload),
            "statistics, of a variable": Way("untraced", preload, counts_all),
            SHOWN:                       Way("untraced", preload, counts_all, True),
            WATCHED:                     Way("untraced", preload, counts_all, True, True),
            ATTACHED:                    Way("untraced", is_attached=True),
            DETACHED:                    Way("untraced", is_attached=True, is_detached=True),
            **{ALL_WAYS[way]:            Way(way, preload) for way in RECORDING},
            ALL_WAYS["callback"]:        Way("callback"),
        }
        sizes = {"generated": ((4, 4), (4, 12)), "prompt": ((8, 1), (24, 1))}
        say("counting instructions")
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:  # others on the machine do not change them
            counts = {(phase, label): pool.submit(per_token, CLIENT, MIDDLE, way, *pair, self.library)
                      for phase, pair in sizes.items() for label, way in ways.items()}
        rows = []
        for (phase, label), counted in counts.items():
            total, ours = counted.result()
            untraced, _ = counts[phase, "untraced"].result()
            percent = 100 * (total - untraced) / untraced
            way = ways[label]
            if way.client in RECORDING:
                statistics, _ = counts[phase, ALL_WAYS["stats"]].result()
                self.target(f"CPU, {MIDDLE.stem}: {label}, percent of a {phase} token's instructions with statistics",
                            "at most 1 more", [100 * (total - statistics) / statistics], lambda p: p <= 1)
            rows.append([phase, label, f"{total:,.0f}", f"{total - untraced:+,.0f}", f"{percent:+.3f} %",
                         f"{ours:,.0f}" if way.preload or way.is_attached else ""])
            if label == WATCHED:
                shown, _ = counts[phase, SHOWN].result()
                self.target(f"CPU, {MIDDLE.stem}: {WATCHED}, percent of a {phase} token's instructions more",
                            "at most 0.3", [100 * (total - shown) / shown], lambda p: p <= 0.3)
            self.instruction_target(phase, label, Cost(total - untraced, percent, ours))
        text = ("One thread. The last column is what the tracer's own library executes, with what it calls of the C "
                "library. The difference to untraced has more in it: what the engine does because of the tracer; it is "
                "exact to about a thousand instructions only, because ggml's hash tables depend on addresses.")
        heads = ["token", "", "instructions", "more than untraced", "", "in the tracer"]
        self.sections.append(f"### Instructions, CPU, {MIDDLE.stem}\n\n{text}\n\n{page.table(heads, rows)}")

    def instruction_target(self, phase, label, cost):
        if label in (ALL_WAYS["stats"], SHOWN, ATTACHED):
            self.target(f"CPU, {MIDDLE.stem}: {label}, percent of a {phase} token's instructions", "less than 0.2",
                        [cost.percent], lambda p: p < 0.2)
        elif label == DETACHED:
            self.target(f"CPU, {MIDDLE.stem}: {label}, instructions of a {phase} token more",
                        "none, to a thousand", [cost.more], lambda n: abs(n) < 1000, ",.0f")
        elif label in (NOTHING_ASKED, DORMANT) and phase == "generated":
            self.target(f"CPU, {MIDDLE.stem}: {label}, instructions of a generated token",
                        "fewer than 2000", [cost.ours], lambda n: n < 2000, ",.0f")

    def analysis(self):
        curves = []
        for shape, (n_layers, n_expert, n_used) in analysis.SHAPES.items():
            speeds = analysis.speeds(ANALYSIS, shape, n_expert // 4)
            several = analysis.speeds(ANALYSIS, shape,
                                      *sorted({max(1, n_expert * i // 16) for i in analysis.SIXTEENTHS}))
            shown = [*speeds.values(), several["optimum"]]
            curves.append([f"{shape}: {n_layers}, {n_expert}, {n_used}", *(f"{speed / 1e6:.1f}" for speed in shown)])
            for what, name, least in ("LRU at all sizes", "lru", 50), ("optimum of a size", "optimum", 10):
                self.target(f"Analysis, {shape}: {what}, millions of activations a second and core",
                            f"at least {least}", [speeds[name] / 1e6], lambda speed, least=least: speed >= least, ".1f")
        commands, memory = [], []
        tenth = self.analysed // 10
        planned = [("cache", tenth), ("report", tenth), ("report", self.analysed)]
        for name, n, n_bytes, run in analysis.runs(BUILD / "llama-expert-tracer", planned):
            memory.append(run.mib)
            commands.append([name, f"{n:,}", f"{n_bytes / 2 ** 20:,.0f}", f"{run.seconds:.1f}",
                             f"{n / run.processor / 1e6:.1f}", f"{run.mib:.1f}"])
        self.target("Analysis, report: memory for ten times the trace", "at most 1.1 times as much",
                    [memory[-1] / memory[-2]], lambda times: times <= 1.1)
        n_sizes = len(analysis.SIXTEENTHS)
        self.sections.append(
            "### Analysis of traces\n\nMillions of activations a second and core, of tokens that come one by one, so "
            "that each activation is a request for an expert. Some experts are much more frequent than others, and "
            "others after a while.\n\n" +
            page.table(["layers, experts, top-k", "LRU, all sizes", "LFU, all sizes", "optimum, a size",
                        f"optimum, {n_sizes} sizes"],
                       curves) +
            f"\n\nWhole commands, on traces as {analysis.WRITTEN} would give them: lives of {analysis.N_PROMPT} tokens "
            f"of prompt and {analysis.N_GENERATED} generated ones. They go through the trace twice, and look at all of "
            f"what they print, at {n_sizes} sizes. Memory is the most that was resident.\n\n" +
            page.table(["", "activations", "file, MiB", "seconds", "millions a second and core",
                        "memory, MiB"], commands))

    def run(self):
        steps = {"cpu": self.cpu, "ubatches": self.ubatches, "rpc": self.rpc, "full": self.full_shapes, "off": self.off,
                 "stock": self.stock, "trace-cost": self.trace_cost, "trace-size": self.trace_size,
                 "instructions": self.instructions, "analysis": self.analysis}
        failed = []
        for part, step in steps.items():
            if part in self.parts:
                try:
                    step()
                except Exception:
                    traceback.print_exc() # the others' minutes are not lost
                    failed.append(part)
        if self.targets:
            heads = ["target", "", "measured", "holds"]
            self.sections.insert(0, f"## Targets\n\n{page.table(heads, self.targets)}\n\n## Measured")
        return failed


def main():
    parts = [*WEIGHTS, "trace-size", "instructions", "analysis"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=16,
                        help="what the timed parts may take together (%(default)s)")
    parser.add_argument("--quick", action="store_true",
                        help="a few minutes, without the full shapes: for trying it out")
    parser.add_argument("--only", type=lambda text: text.split(","), default=parts, metavar="PART,…",
                        help=f"of {', '.join(parts)}")
    parser.add_argument("--models", type=lambda text: text.split(","), metavar="NAME,…",
                        help="of the full shapes, e.g. full-mixtral-8x7b")
    parser.add_argument("--full-chunks", type=int, default=2, metavar="N",
                        help=f"trace-size: {CHUNK} tokens so many times of {FULL.stem}, a minute each (%(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--library", type=Path, default=BUILD / "libllama-expert-tracer.so")
    parser.add_argument("--page", type=Path,
                        help="where to write the page; default: docs/performance.md after a whole run")
    arguments = parser.parse_args()
    if unknown := set(arguments.only) - set(parts):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")

    bench = Bench(arguments)
    failed = bench.run()
    text = page.page("make bench", (BUILD / "engine" / "origin").read_text().strip(), [], bench.sections)
    print(text, end="")
    whole = arguments.only == parts and not arguments.quick and not arguments.models and not failed
    if target := arguments.page or (REPOSITORY / "docs" / "performance.md" if whole else None):
        target.write_text(text)
        print(f"written to {target}", file=sys.stderr)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
