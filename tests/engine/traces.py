"""Routing traces of stock programs, held against what the oracle models route."""

import sys
from collections import Counter

from harness import REPOSITORY, TestCase, forget

sys.path.insert(0, str(REPOSITORY / "tests" / "trace"))
from moetrace import LOST, MEMORY, SAMPLING, Cut, Gap, Trace, Ubatch, is_sampled  # noqa: E402, F401
from packed import unpacked  # noqa: E402, F401


class Lives:
    """What each life of each sequence held: the tokens by position, before every cut and at the end."""

    def __init__(self, trace):
        self.held = {}  # by (context, sequence, life): ids by position
        self.runs = {}  # likewise, what it held at those times: pairs of first position and ids
        for event in trace.events:
            if isinstance(event, Cut):
                self.cut((event.context, event.sequence, event.life), event.position)
            elif isinstance(event, Ubatch) and not event.warmup:
                self.extend(event)
        for life in self.held:
            self.cut(life, 0)

    def extend(self, ubatch):
        for token in ubatch.tokens:
            held = self.held.setdefault((ubatch.context, token.sequence, token.life), {})
            if not token.rejected:
                if held and token.position != max(held) + 1:
                    raise ValueError(f"position {token.position} behind {max(held)} in ubatch {ubatch.number}")
                held[token.position] = token.id

    def cut(self, life, position):
        held = self.held.setdefault(life, {})
        if held and max(held) >= position:
            self.runs.setdefault(life, []).append((min(held), [held[i] for i in sorted(held)]))
        self.held[life] = {at: token for at, token in held.items() if at < position}

    def texts(self):
        """Pairs of first position and bytes, sorted."""
        return sorted((first, bytes(ids)) for runs in self.runs.values() for first, ids in runs)

    def whole(self):
        """Those that begin at position 0."""
        return [text for first, text in self.texts() if first == 0]


class TraceTestCase(TestCase):
    def setUp(self):
        super().setUp()
        self.path = self.folder / "run.moetrace"

    def routing(self, **more):
        """Variables for a trace into this test's file."""
        forget(self.path)
        return self.routing_again(**more)

    def routing_again(self, **more):
        """The same, and what an earlier run has left there stays."""
        return {"ROUTING": self.path, "TOKENS": 1, **more}

    def read(self, *paths, complete=True):
        """A trace in which nothing is missing. Complete: the program said that it was at its end."""
        trace = Trace(*(paths or [self.path]))
        self.assertEqual(trace.gaps, [])
        if complete:
            self.assertEqual(trace.damage, [])
            self.assertTrue(trace.end["complete"] and trace.end["last_part"])
        return trace

    def assert_layers(self, ubatch, oracle, ids, last_rows=None):
        """A ubatch of these tokens has what the oracle predicts, in every row of every layer.

        last_rows: those of the last layer, None: the tokens that ask for output
        """
        everyone = list(range(len(ids)))
        if last_rows is None:
            last_rows = [i for i in everyone if ubatch.tokens[i].output]
        self.assertEqual([layer.layer for layer in ubatch.layers if layer.rows],
                         list(range(oracle.n_layer - (not last_rows))))
        for layer in ubatch.layers:
            rows = last_rows if layer.layer == oracle.n_layer - 1 else everyone
            self.assertEqual(layer.rows, rows, f"ubatch {ubatch.number}, layer {layer.layer}")
            self.assertEqual(layer.n_expert, oracle.n_expert)
            if layer.n_used == oracle.n_used:
                self.assertEqual(layer.experts, [oracle.experts(layer.layer, ids[row]) for row in layer.rows],
                                 f"ubatch {ubatch.number}, layer {layer.layer}")
            else: # a warm-up that uses all of them
                self.assertTrue(ubatch.warmup)
                self.assertEqual([sorted(row) for row in layer.experts],
                                 [list(range(oracle.n_expert))] * len(layer.rows))

    def assert_weights(self, ubatch, oracle):
        """The gate weights of every row are those that the oracle predicts, as half floats."""
        expected = [2 ** (oracle.n_used - 1 - rank) / (2 ** oracle.n_used - 1) for rank in range(oracle.n_used)]
        for layer in ubatch.layers:
            self.assertEqual(len(layer.weights), len(layer.rows))
            for row in layer.weights:
                self.assert_close(row, expected, f"ubatch {ubatch.number}, layer {layer.layer}")
                self.assertAlmostEqual(sum(row), 1, delta=1e-3)

    def assert_close(self, weights, expected, message, precision=1e-7):
        self.assertEqual(len(weights), len(expected), message)
        for weight, each in zip(weights, expected):
            self.assertAlmostEqual(weight, each, delta=abs(each) / 1024 + precision, msg=message)

    def assert_routing(self, trace, oracle):
        """Every decision is the one that the oracle predicts of the token that is said to be there."""
        for ubatch in trace.ubatches:
            self.assert_layers(ubatch, oracle, [token.id for token in ubatch.tokens])

    def assert_statistics(self, trace, stats):
        """The statistics of the same run are sums of the trace."""
        counted = [ubatch for ubatch in trace.ubatches if not ubatch.warmup]
        tokens = Counter(token.generation for ubatch in counted for token in ubatch.tokens)
        warmup = sum(len(ubatch.tokens) for ubatch in trace.ubatches if ubatch.warmup)
        if trace.header["phases_known"]:
            self.assert_phases(stats, tokens[False], tokens[True], warmup)
        self.assertEqual(stats["total_tokens"], sum(tokens.values()))
        rows, activations = Counter(), Counter()
        for ubatch in counted:
            for layer in ubatch.layers:
                rows[str(layer.layer)] += len(layer.rows)
                activations.update((str(layer.layer), str(expert)) for row in layer.experts for expert in row)
        self.assertEqual(stats["layer_tokens"], {layer: n for layer, n in rows.items() if n})
        self.assertEqual({(layer, expert): n for layer, row in stats["per_layer"].items()
                          for expert, n in row.items() if n}, activations)

    def texts(self, trace):
        return Lives(trace).whole()
