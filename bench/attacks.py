"""What somebody learns of a text who has its routing, or counts of it, and a trace with token ids of other text.

Everything here sees of the attacked text what a file has, and nothing else: rows of features (of a token, in each
layer, each of the experts that it chose), or sums of them.
"""

import collections
import math

import numpy

def features(experts, n_expert):
    """Of ids [tokens, layers, top-k], -1 for none: a number for each layer and expert. None has the last."""
    layers = numpy.arange(experts.shape[1])[None, :, None] * n_expert
    return numpy.where(experts < 0, experts.shape[1] * n_expert, experts + layers).reshape(len(experts), -1)


class Known:
    """The attacker's own trace: features and token ids."""

    def __init__(self, features, tokens, n_features):
        self.features, self.n_features = features, n_features
        self.types, self.tokens = numpy.unique(tokens, return_inverse=True)
        self.n_types = len(self.types)
        self.frequencies = numpy.bincount(self.tokens, minlength=self.n_types).astype(float)

    def counts(self, shift=0):
        """How often each feature came with each type, [features, types]; of the token that many places on."""
        n = len(self.tokens)
        here = numpy.arange(max(0, -shift), n - max(0, shift))
        cells = self.features[here + shift] * self.n_types + self.tokens[here, None]
        counted = numpy.bincount(cells.ravel(), minlength=(self.n_features + 1) * self.n_types)
        return counted.reshape(self.n_features + 1, self.n_types)[:self.n_features].astype(float)


class NaiveBayes:
    """A token's features tell of it independently of each other; so may those of the tokens beside it."""

    def __init__(self, known, smoothing=0.5, shifts=(0,)):
        self.known, self.shifts = known, shifts
        self.prior = numpy.log(known.frequencies / known.frequencies.sum()).astype(numpy.float32)
        self.tables, self.bases = [], []
        for shift in shifts:
            counts = known.counts(shift)
            n = known.frequencies
            overall = counts.sum(1, keepdims=True) / n.sum()
            chances = (counts + smoothing * overall) / (n + smoothing)
            chances = numpy.clip(chances, 1e-6, 1 - 1e-6)
            absent = numpy.log1p(-chances)
            table = numpy.zeros((known.n_features + 1, known.n_types), numpy.float32)
            table[:-1] = numpy.log(chances) - absent
            self.tables.append(table)
            self.bases.append(absent.sum(0).astype(numpy.float32))

    def scores(self, features, place=0):
        """Logarithms of likelihoods, [tokens, types], of what is seen `shifts[place]` tokens on."""
        shift, table, base = self.shifts[place], self.tables[place], self.bases[place]
        scores = numpy.zeros((len(features), self.known.n_types), numpy.float32)
        for i in range(max(0, -shift), len(features) - max(0, shift)):
            scores[i] = table[features[i + shift]].sum(0) + base
        return scores


class Language:
    """Which token follows which: counts of n tokens in a row, each order leaning on the one below (Witten and Bell)."""

    def __init__(self, known, order):
        self.order = order
        self.unigram = (known.frequencies + 0.5) / (known.frequencies + 0.5).sum()
        self.follow = [collections.defaultdict(dict) for _ in range(order)]
        tokens = known.tokens.tolist()
        for n in range(1, order):
            for i in range(n, len(tokens)):
                table = self.follow[n][tuple(tokens[i - n:i])]
                table[tokens[i]] = table.get(tokens[i], 0) + 1
        self.totals = [{key: sum(table.values()) for key, table in tables.items()} for tables in self.follow]

    def chance(self, before, token):
        chance = self.unigram[token]
        for n in range(1, self.order):
            key = before[-n:]
            table = self.follow[n].get(key) if len(key) == n else None
            if table is None:
                break
            total = self.totals[n][key]
            chance = (table.get(token, 0) + len(table) * chance) / (total + len(table))
        return chance


def decode(scores, language, weight, n_hypotheses=12, n_candidates=8):
    """The most probable row of tokens, what is seen counting `weight` times: the best few are kept at each token."""
    best = numpy.argpartition(-scores, n_candidates, axis=1)[:, :n_candidates]
    hypotheses = [(0.0, (), None)]
    for row, candidates in zip(scores, best.tolist()):
        seen = {token: weight * float(row[token]) for token in candidates}
        found = []
        cache = {}
        for score, before, chain in hypotheses:
            for token, value in seen.items():
                key = (before, token)
                if key not in cache:
                    cache[key] = math.log(language.chance(before, token))
                found.append((score + value + cache[key], (before + (token,))[-(language.order - 1):], (chain, token)))
        found.sort(key=lambda each: -each[0])
        kept = {}
        for each in found:
            kept.setdefault(each[1], each)
            if len(kept) == n_hypotheses:
                break
        hypotheses = list(kept.values())
    tokens, chain = [], hypotheses[0][2]
    while chain is not None:
        chain, token = chain
        tokens.append(token)
    return numpy.array(tokens[::-1])


class Sums:
    """What sums of features tell. The one-hot vector of a token's type is guessed from its features, linearly; of a sum
    the guesses add up. That is the best linear guess, however many tokens there are."""

    PART = 4096 # tokens whose features are multiplied at a time

    def __init__(self, known, ridge=5.0):
        n, n_features = len(known.tokens), known.n_features
        crossed = known.counts()
        self.share = known.frequencies / n
        self.mean = crossed.sum(1) / n
        crossed -= numpy.outer(self.mean, known.frequencies)
        together = ridge * numpy.eye(n_features)
        for at in range(0, n, self.PART):
            part = numpy.zeros((min(self.PART, n - at), n_features + 1), numpy.float32)
            numpy.put_along_axis(part, known.features[at:at + len(part)], 1, 1)
            part = part[:, :-1] - self.mean.astype(numpy.float32)
            together += part.T @ part
        self.inverse = numpy.linalg.inv(together / n)
        self.weights = self.inverse @ (crossed / n)

    def amounts(self, counts, n):
        """How often each type is among the n tokens that a sum is of."""
        return n * self.share + (counts - n * self.mean) @ self.weights

    def evidence(self, counts, n, part, n_part):
        """How well a sum agrees with the sum of a part that may be in it."""
        return (counts - n * self.mean) @ self.inverse @ (part - n_part * self.mean)


def whole_numbers(amounts, n):
    """As many tokens as there are, none less than 0 times."""
    amounts = numpy.maximum(amounts, 0)
    amounts = amounts * (n / max(amounts.sum(), 1e-9))
    whole = numpy.floor(amounts).astype(int)
    missing = n - whole.sum()
    whole[numpy.argsort(whole - amounts)[:missing]] += 1
    return whole
