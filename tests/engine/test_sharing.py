#!/usr/bin/env python3
"""What routing gives away of a text, and what `pack --share` leaves of that: the attack of bench/privacy.py in small.

The model is models/babel-11m.gguf; nothing is sampled, and what is asked for holds by margins that a processor's
rounding does not reach.
"""

import math
from collections import Counter, defaultdict

from harness import COMMAND, REPOSITORY, main, run
from traces import Trace, TraceTestCase

MODEL = REPOSITORY / "models" / "babel-11m.gguf"
CONTEXT, N_KNOWN, N_ATTACKED = 512, 8, 4  # tokens of a chunk, chunks
WINDOW = 4 * 8 * 32


def choices(ubatch):
    """Of each token: the pairs of layer and expert that it was routed to."""
    chosen = [[] for _ in ubatch.tokens]
    for layer in ubatch.layers:
        for row, experts in zip(layer.rows, layer.experts):
            chosen[row] += [(layer.layer, expert) for expert in experts]
    return chosen


class NaiveBayes:
    """Learns from tokens and what they were routed to."""

    SMOOTHING = 0.5

    def __init__(self, tokens):
        self.kinds = Counter(token for token, _ in tokens)
        self.counts = defaultdict(Counter)
        for token, chosen in tokens:
            for choice in chosen:
                self.counts[choice][token] += 1
        self.logs = {}

    def weights(self, choice):
        if choice not in self.logs:
            its = self.counts[choice]
            total = sum(its.values()) / sum(self.kinds.values())
            self.logs[choice] = {kind: math.log((its[kind] + self.SMOOTHING * total + 1e-6) / (n + self.SMOOTHING))
                                 for kind, n in self.kinds.items()}
        return self.logs[choice]

    def guess(self, chosen):
        weights = [self.weights(choice) for choice in chosen]
        return max(self.kinds, key=lambda kind: math.log(self.kinds[kind]) + sum(weight[kind] for weight in weights))


    def guess_sum(self, ubatch):
        """One kind for all tokens of a window."""
        counts = Counter(choice for chosen in choices(ubatch) for choice in chosen)
        def score(kind):
            seen = sum(n * self.weights(choice)[kind] for choice, n in counts.items())
            return math.log(self.kinds[kind]) + seen / len(ubatch.tokens)
        return max(self.kinds, key=score)


class Sharing(TraceTestCase):
    def traced(self, text, n_chunks, **more):
        """A trace of a text that is read; a token is a byte."""
        path = self.folder / "text"
        path.write_text(text[:(n_chunks + 1) * CONTEXT])
        self.path.unlink(missing_ok=True)
        result = run("llama-perplexity", "-m", MODEL, "-f", path, "-c", CONTEXT, "--chunks", n_chunks, "-t", 1,
                     trace={"ROUTING": self.path, "ON_FULL": "wait", **more})
        self.assertEqual(result.status, 0, result.err[-2000:])
        return [ubatch for ubatch in self.read().ubatches if not ubatch.warmup]

    def shared(self):
        path = self.folder / "shared.moetrace"
        result = run(COMMAND, "pack", "--share", "-f", "-o", path, self.path, preload=False)
        self.assertEqual(result.status, 0, result.err)
        return path

    def recovered(self, guesses, truth):
        return sum(guess == token for guess, token in zip(guesses, truth)) / len(truth)

    def test_a_trace_gives_the_text_away_and_a_shared_one_does_not(self):
        prose = "".join((REPOSITORY / "docs" / name).read_text() for name in ("architecture.md", "analysis.md"))
        known = self.traced(prose, N_KNOWN, TOKENS=1)
        bayes = NaiveBayes([(token.id, chosen) for u in known for token, chosen in zip(u.tokens, choices(u))])

        text = (REPOSITORY / "docs" / "statistics-format.md").read_text()
        truth = [token.id for u in self.traced(text, N_ATTACKED, TOKENS=1) for token in u.tokens]
        attacked = self.traced(text, N_ATTACKED)
        self.assertEqual({token.id for u in attacked for token in u.tokens}, {None})
        self.assertEqual(len(truth), N_ATTACKED * CONTEXT)

        commonest = bayes.kinds.most_common(1)[0][0]
        chance = self.recovered([commonest] * len(truth), truth)
        # of every other token, which is enough
        some = [chosen for u in attacked for chosen in choices(u)][::2]
        self.assertGreater(self.recovered([bayes.guess(chosen) for chosen in some], truth[::2]), 0.6)

        windows = Trace(self.shared()).ubatches
        rows = [chosen for u in windows for chosen in choices(u)]
        self.assertEqual(len(rows), len(truth))
        self.assertLess(self.recovered([bayes.guess(chosen) for chosen in rows[::2]], truth[::2]), 1.5 * chance)
        for u in windows: # as if its sum were one token, from as many layers as it takes
            self.assertLess(self.recovered([bayes.guess_sum(u)] * len(truth), truth), 1.5 * chance)

    def test_sums_are_those_of_the_run(self):
        """Counts of a shared trace, by an independent reader, are those that the statistics of the run have."""
        text = (REPOSITORY / "docs" / "trace-format.md").read_text()
        self.traced(text, N_ATTACKED, WEIGHTS=1, TOKENS=1, **self.trace())
        stats, trace = self.stats(), Trace(self.shared())
        self.assertEqual(trace.header["shared"], {"window": WINDOW, "left_out_tokens": 0})
        counts = Counter(choice for u in trace.ubatches for chosen in choices(u) for choice in chosen)
        self.assertEqual(len(trace.ubatches), N_ATTACKED * CONTEXT // WINDOW)
        for layer in range(7):  # the last one is computed for half of the tokens
            its = {str(expert): counts[layer, expert] for expert in range(32)}
            self.assertEqual(its, stats["per_layer"][str(layer)])
        self.assertEqual({token for u in trace.ubatches for token in u.tokens}, {trace.ubatches[0].tokens[0]})
        self.assertTrue(all(layer.weights is None for u in trace.ubatches for layer in u.layers))
        for secret in stats["run"], str(self.folder), str(MODEL.parent):
            self.assertNotIn(secret.encode(), self.shared().read_bytes())


if __name__ == "__main__":
    main()
