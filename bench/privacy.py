#!/usr/bin/env python3
"""Measures what routing gives away: prompts are made again from a trace without token ids, and what can be is told from
statistics and from what `pack --share` makes.

The attacker has a trace with token ids of other text on the same model. Everybody who has the model can make one. Text
is llama.cpp's documentation: the attacked one is below docs/, the attacker's is the rest. Models are
models/babel-11m.gguf, which was trained and whose tokens are bytes, and one of random weights with GPT-2's vocabulary.

Exits with 1 where a shared trace gives away more than 1.5 times what can be guessed without it: the commonest token
where tokens at their place are asked for, the usual frequencies where order is left aside.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy

import attacks
import random_model

REPOSITORY = Path(__file__).resolve().parents[1]
BUILD = Path(os.environ.get("BUILD", REPOSITORY / "build")).resolve()
SOURCE = BUILD / "llama.cpp-0.5.0"
COMMAND = BUILD / "llama-expert-tracer"
FOLDER = BUILD / "privacy"
sys.path.insert(0, str(REPOSITORY / "tests" / "trace"))
from moetrace import Trace  # noqa: E402

LIMIT = 1.5       # times what is guessed without a file
N_ATTACKED = 5000 # tokens that are made again one by one
N_WINDOWS = 40    # at most, of a size
N_NAMED = 10      # tokens that are expected less than every other window, and named as being in it
N_TEXTS = 100     # of which one is in a window
TEXT = 256        # tokens of each

MODELS = { # path, experts, bytes of text to learn from and to attack, how many tokens the language model looks at
    "babel":  (REPOSITORY / "models" / "babel-11m.gguf", 32, 100_000, 36_000, 5),
    "random": (FOLDER / "random.gguf", random_model.N_EXPERT, 450_000, 120_000, 3),
}


def say(text):
    print(text, file=sys.stderr, flush=True)


def run(*command, **variables):
    env = {key: value for key, value in os.environ.items()
           if not key.startswith("LLAMA_EXPERT_TRACE") and key != "LD_PRELOAD"}
    if variables:
        env["LD_PRELOAD"] = str(BUILD / "libllama-expert-tracer.so")
        env |= {f"LLAMA_EXPERT_TRACE_{key}": str(value) for key, value in variables.items()}
    done = subprocess.run(list(map(str, command)), env=env, stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed:\n{done.stderr.decode(errors='replace')[-2000:]}")
    return done.stdout.decode(errors="replace")


def documents(attacked):
    """Text of the source tree's documentation, in the order of names."""
    paths = sorted(path for path in SOURCE.rglob("*.md") if (path.relative_to(SOURCE).parts[0] == "docs") == attacked)
    return "\n\n".join(path.read_text(errors="replace") for path in paths).encode()


class Recorded:
    """What a file of a run has: features of tokens, and token ids where they were asked for."""

    def __init__(self, name, kind, with_ids, keep):
        path, n_expert, *sizes, _ = MODELS[name]
        stem = FOLDER / f"{name}-{kind}{'-ids' if with_ids else ''}"
        self.trace, self.statistics = stem.with_suffix(".moetrace"), stem.with_suffix(".json")
        text, array = stem.with_suffix(".txt"), stem.with_suffix(".npy")
        if not (keep and self.trace.exists() and self.statistics.exists()):
            text.write_bytes(documents(kind == "attacked")[:sizes[kind == "attacked"]])
            self.trace.unlink(missing_ok=True)
            self.statistics.unlink(missing_ok=True)
            run(BUILD / "engine" / "bin" / "llama-perplexity", "-m", path, "-f", text, "-c", 512, "-t", 1,
                ROUTING=self.trace, ON_FULL="wait", TOKENS=int(with_ids), OUTPUT=self.statistics, PER_LAYER=1)
        if json.loads(run(COMMAND, "info", "--json", self.trace))["tokens_known"] != with_ids:
            raise RuntimeError(f"{self.trace}: has token ids, or has none")
        run(COMMAND, "export", "-f", "npy", "-o", array, self.trace)
        experts = numpy.load(array)
        self.n_features = experts.shape[1] * n_expert
        self.features = attacks.features(experts, n_expert)
        self.ids = numpy.load(array.with_suffix(".tokens.npy"))["id"]

    def counts(self, places=slice(None)):
        counts = numpy.bincount(self.features[places].ravel(), minlength=self.n_features + 1)
        return counts[:self.n_features].astype(float)


def read_statistics(path, n_layers, n_expert):
    layers = json.loads(path.read_text())["per_layer"]
    return numpy.array([layers[str(i)][str(expert)] for i in range(n_layers) for expert in range(n_expert)], float)


class Attacked:
    """The text that is attacked: its truth is asked for by nothing but the judging."""

    def __init__(self, name, keep):
        say(f"{name}: recording")
        *_, self.order = MODELS[name]
        self.name, self.n_expert = name, MODELS[name][1]
        own = Recorded(name, "known", True, keep)
        self.seen = Recorded(name, "attacked", False, keep)
        truth = Recorded(name, "attacked", True, keep)
        if not numpy.array_equal(self.seen.features, truth.features):
            raise RuntimeError(f"{name}: two runs of the same text were routed differently")
        sums = read_statistics(self.seen.statistics, self.seen.n_features // self.n_expert, self.n_expert)
        if not numpy.array_equal(self.seen.counts(), sums):
            raise RuntimeError(f"{name}: the statistics are not what the trace adds up to")
        self.known = attacks.Known(own.features, own.ids, own.n_features)
        places = numpy.searchsorted(self.known.types, truth.ids).clip(max=self.known.n_types - 1)
        self.truth = numpy.where(self.known.types[places] == truth.ids, places, -1)
        self.commonest = int(self.known.frequencies.argmax())
        say(f"{name}: learning")
        self.sums = attacks.Sums(self.known)

    def bag(self, places):
        here = self.truth[places]
        return numpy.bincount(here[here >= 0], minlength=self.known.n_types)


def one_by_one(attacked):
    """A row for each attack on the trace."""
    say(f"{attacked.name}: attacking the trace")
    n = min(N_ATTACKED, len(attacked.truth))
    truth, features = attacked.truth[:n], attacked.seen.features[:n]
    bayes = attacks.NaiveBayes(attacked.known, 0.1, (0, -1, 1))
    scores = bayes.scores(features)
    beside = bayes.scores(features, 1) + bayes.scores(features, 2)
    decoded = attacks.decode(scores, attacks.Language(attacked.known, attacked.order), 0.5)
    for what, guess in (("guessing the commonest token", numpy.full(n, attacked.commonest)),
                        ("naive Bayes", (scores + bayes.prior).argmax(1)),
                        ("naive Bayes, routing of the tokens beside it too",
                         (scores + 0.1 * beside + bayes.prior).argmax(1)),
                        (f"naive Bayes, and which {attacked.order} tokens follow each other", decoded)):
        yield what, float((guess == truth).mean())


class Judged:
    """Means over sums of tokens."""

    def __init__(self, attacked):
        self.attacked, self.found = attacked, []

    def window(self, counts, places):
        """A sum of the tokens at these places."""
        sums, bag, n = self.attacked.sums, self.attacked.bag(places), len(places)
        amounts, expected = sums.amounts(counts, n), n * sums.share
        rare = expected < 0.5
        def overlap(guess):
            return numpy.minimum(attacks.whole_numbers(guess, n), bag).sum() / n
        def named(guess):
            return (bag[numpy.argsort(-numpy.where(rare, guess, -numpy.inf))[:N_NAMED]] > 0).mean()
        self.found.append((bag[self.attacked.commonest] / n, bag[amounts.argmax()] / n, bag.max() / n,
                           overlap(expected), overlap(amounts), named(expected), named(amounts),
                           self.finds_text(counts, places)))

    def finds_text(self, counts, places):
        """Whether that of N_TEXTS texts is found which the window has, the attacker having their counts."""
        seen, n = self.attacked.seen, len(places)
        all_tokens = numpy.arange(len(seen.features))
        texts = [all_tokens[i * (len(all_tokens) - TEXT) // N_TEXTS:][:TEXT] for i in range(N_TEXTS)]
        outside = [text for text in texts if not numpy.isin(text, places).any()]
        if n < TEXT or not outside:
            return None
        inside = places[(n - TEXT) // 2:][:TEXT]
        evidence = [self.attacked.sums.evidence(counts, n, seen.counts(text), TEXT) for text in (inside, *outside)]
        return evidence[0] > max(evidence[1:])

    def row(self):
        columns = [[value for value in column if value is not None] for column in zip(*self.found)]
        means = [float(numpy.mean(column)) if column else None for column in columns]
        cells = (f"{'-':>8}" if mean is None else f"{100 * mean:7.1f}%" for mean in means)
        return means, f"{len(self.found):7}  " + "  ".join(cells)


HEADER = ("windows  commonest  guessed  at most  bag, by  bag, by  rare, by  rare, by  text\n"
          + " " * 31 + "                     freq.    sums     freq.    sums    found")


def of_statistics(attacked):
    n_counts = attacked.seen.n_features
    for n in sorted({16, 64, 256, n_counts, 4 * n_counts, 16 * n_counts, len(attacked.truth)}):
        if n <= len(attacked.truth):
            judged = Judged(attacked)
            for i in range(min(N_WINDOWS, len(attacked.truth) // n)):
                places = numpy.arange(i * n, (i + 1) * n)
                judged.window(attacked.seen.counts(places), places)
            yield n, judged.row()


def tokens_of_windows(source, shared):
    """Where the tokens of each window are in the trace that it was made of: windows are of one table and one phase."""
    tables = [table for table in source.tables[0] if any(u.table == table and not u.warmup for u in source.ubatches)]
    rows, at = {}, 0
    for ubatch in source.ubatches:
        if not ubatch.warmup:
            for token in ubatch.tokens:
                rows.setdefault((ubatch.table, token.generation), []).append(at)
                at += 1
    for ubatch in shared.ubatches:
        its = rows[tables[ubatch.table], ubatch.tokens[0].generation]
        yield ubatch, numpy.array(its[:len(ubatch.tokens)])
        del its[:len(ubatch.tokens)]


def of_shared(attacked):
    """Means over the windows of the file that `pack --share` makes, as another reader reads it."""
    path = FOLDER / f"{attacked.name}.shared.moetrace"
    run(COMMAND, "pack", "--share", "--force", "-o", path, attacked.seen.trace)
    trace, judged, n_rows, rows_right = Trace(path), Judged(attacked), 0, 0
    bayes = attacks.NaiveBayes(attacked.known, 0.1)
    for ubatch, places in tokens_of_windows(Trace(attacked.seen.trace), trace):
        n = len(places)
        n_layers, n_used = attacked.seen.n_features // attacked.n_expert, max(layer.n_used for layer in ubatch.layers)
        experts = numpy.full((n, n_layers, n_used), -1)
        for layer in ubatch.layers:
            if layer.rows:
                experts[:, layer.layer] = layer.experts
        features = attacks.features(experts, attacked.n_expert)
        counts = numpy.bincount(features.ravel(), minlength=attacked.seen.n_features + 1)[:-1].astype(float)
        for layer in range(experts.shape[1]): # one that is left out is as it always is
            cells = slice(layer * attacked.n_expert, (layer + 1) * attacked.n_expert)
            if not counts[cells].any():
                counts[cells] = n * attacked.sums.mean[cells]
        judged.window(counts, places)
        rows_right += int(((bayes.scores(features) + bayes.prior).argmax(1) == attacked.truth[places]).sum())
        n_rows += n
    return trace.header["shared"]["window"], judged.row(), rows_right / n_rows


def measure(name, keep):
    attacked = Attacked(name, keep)
    known = attacked.known
    print(f"\n{name}: {known.n_types} kinds of tokens in {len(known.tokens)} that the attacker knows; "
          f"{100 * (attacked.truth < 0).mean():.1f}% of those attacked are of no such kind\n")
    print(f"a trace without token ids, {min(N_ATTACKED, len(attacked.truth))} tokens: recovered at their place")
    for what, share in one_by_one(attacked):
        print(f"  {100 * share:5.1f}%  {what}")
    say(f"{name}: attacking sums")
    print(f"\nstatistics, by the tokens that they are of\n tokens  {HEADER}")
    for n, (_, text) in of_statistics(attacked):
        print(f"{n:7}  {text}", flush=True)
    window, (means, text), rows_right = of_shared(attacked)
    print(f"\na shared trace, {attacked.seen.n_features} counts in a window of\n tokens  {HEADER}\n{window:7}  {text}")
    print(f"  {100 * rows_right:.1f}% are recovered by naive Bayes from its rows, which are none of tokens")
    place, order_aside = max(*means[1:3], rows_right) / means[0], means[4] / means[3]
    print(f"  recovered at their place: at most {place:.2f} times as many as by guessing the commonest (limit {LIMIT})")
    print(f"  order left aside: {order_aside:.2f} times as many as by guessing the usual frequencies (limit {LIMIT})")
    return max(place, order_aside) <= LIMIT


EXPLANATION = f"""
commonest   of the tokens in a window, how many are the commonest token of the attacker's text
guessed     how many are the token of which the sums say that it is the commonest here
at most     how many are the token that is: who knows all tokens of a window, but no order, recovers no more
bag         how many are named right, order left aside: by the frequencies of the attacker's text, and by the sums
rare        of {N_NAMED} kinds that are in less than half of such windows, how many of those named are there
text found  how often a text of {TEXT} tokens in the window is found among up to {N_TEXTS + 1} at hand
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(MODELS)} (default: all)")
    parser.add_argument("--keep", action="store_true", help="use the recordings that are there")
    arguments = parser.parse_args()
    chosen = arguments.models or list(MODELS)
    if set(chosen) - set(MODELS):
        parser.error(f"of {', '.join(MODELS)}, not {' '.join(chosen)}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    if "random" in chosen and not (arguments.keep and MODELS["random"][0].exists()):
        random_model.write(SOURCE / "models" / "ggml-vocab-gpt-2.gguf", MODELS["random"][0])
    fine = [measure(name, arguments.keep) for name in chosen]
    print(EXPLANATION)
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main())
