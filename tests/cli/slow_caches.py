"""What caches of experts hit, the slow and plain way: an independent witness for `llama-expert-tracer cache`.

A run is a list of Steps, one for each layer of each ubatch, in the order of evaluation. Each function returns Rates:
requests and hits by span ("judged": the second half; "whole": all of it) and kind ("generation", "prompt", "all").
"""

import math
from collections import Counter, OrderedDict, namedtuple

# layer: its index; experts: distinct, in the order in which they appear; rows: of experts, by token; lives: of tokens
Step = namedtuple("Step", "layer experts rows lives kind second")

Shape = namedtuple("Shape", "n_expert n_used bytes") # of each layer: lists

MIB = 1 << 20


class Rates:
    def __init__(self):
        self.requests = Counter()
        self.hits = Counter()

    def add(self, step, hits, spans=("judged", "whole"), requests=None):
        requests = len(step.experts) if requests is None else requests
        if step.kind == "warmup":
            return
        for span in spans:
            if span == "judged" and not step.second:
                continue
            for kind in {"judged": (step.kind,), "whole": (step.kind, "all")}[span]:
                self.requests[span, kind] += requests
                self.hits[span, kind] += hits

    def of(self, span, kind):
        requests = self.requests[span, kind]
        return self.hits[span, kind] / requests if requests else None


def groups_of(shape):
    """Layers whose experts have the same number and bytes share a list: the number of each layer's group."""
    known = []
    for n_expert, size in zip(shape.n_expert, shape.bytes):
        if (n_expert, size) not in known:
            known.append((n_expert, size))
    return [known.index(pair) for pair in zip(shape.n_expert, shape.bytes)]


def share_of_group(shape, group):
    groups = groups_of(shape)
    bytes_of = [n * size for n, size in zip(shape.n_expert, shape.bytes)]
    return sum(b for b, g in zip(bytes_of, groups) if g == group) / sum(bytes_of)


class Own:
    """Each layer has slots of its own: as many in each, and with what is left one more in the first layers."""

    def __init__(self, shape, budget):
        each = min(int(budget // sum(shape.bytes)), max(shape.n_expert))
        self.slots = {i: min(each, n) for i, n in enumerate(shape.n_expert)}
        left = budget - sum(n * shape.bytes[i] for i, n in self.slots.items())
        given = True
        while given:
            given = False
            for i, size in enumerate(shape.bytes):
                if self.slots[i] < shape.n_expert[i] and size <= left:
                    self.slots[i] += 1
                    left -= size
                    given = True

    def key(self, step, expert):
        return step.layer, (step.layer, expert)


class Shared:
    """The layers of a group share slots, and groups the budget by the bytes of all of their experts."""

    def __init__(self, shape, budget):
        self.groups = groups_of(shape)
        self.slots = {}
        for group in set(self.groups):
            layers = [i for i, g in enumerate(self.groups) if g == group]
            fits = budget * share_of_group(shape, group) / shape.bytes[layers[0]]
            self.slots[group] = min(int(fits + 1e-6), sum(shape.n_expert[i] for i in layers))

    def key(self, step, expert):
        return self.groups[step.layer], (step.layer, expert)


def passes(step, max_rows):
    return max_rows > 0 and len(step.rows) > max_rows


def lru(run, where, max_rows):
    held = {cache: OrderedDict() for cache in where.slots}
    rates = Rates()
    for step in run:
        cache = where.key(step, 0)[0]
        keys = [where.key(step, e)[1] for e in step.experts]
        rates.add(step, sum(key in held[cache] for key in keys))
        if not passes(step, max_rows):
            for key in keys:
                held[cache][key] = None
                held[cache].move_to_end(key)
            while len(held[cache]) > where.slots[cache]:
                held[cache].popitem(last=False)
    return rates


def lfu(run, where, max_rows, half_life):
    """The highest counts, a use counting half after so many steps of the layer; of equals the one used last."""
    scores, last, steps = {}, {}, Counter()
    rates = Rates()
    for now, step in enumerate(run):
        cache = where.key(step, 0)[0]
        score = {key: value * 2 ** ((at - steps[cache]) / half_life) for key, (value, at) in scores.items()
                 if key[0] == step.layer}
        order = sorted(score, key=lambda key: (-round(score[key], 9), [-n for n in last[key]]))
        held = set(order[:where.slots[cache]])
        rates.add(step, sum(where.key(step, e)[1] in held for e in step.experts))
        if not passes(step, max_rows):
            for i, expert in enumerate(step.experts):
                key = where.key(step, expert)[1]
                scores[key] = score.get(key, 0) + 1, steps[cache]
                last[key] = now, i
            steps[cache] += 1
    return rates


def static(run, where, shape):
    """The hottest of the first half by the kind that is judged, of equals by the other kind, and then the lowest."""
    learned = Counter()
    for step in run:
        if not step.second and step.kind != "warmup":
            learned.update((step.kind, where.key(step, e)[1]) for e in step.experts)
    layers = {where.key(Step(i, (), (), (), "", False), 0)[0]: [] for i in range(len(shape.n_expert))}
    for i, n in enumerate(shape.n_expert):
        layers[where.key(Step(i, (), (), (), "", False), 0)[0]] += [(i, e) for e in range(n)]
    pinned = {}
    for kind, other in (("generation", "prompt"), ("prompt", "generation")):
        for cache, keys in layers.items():
            hot = sorted(keys, key=lambda key: (-learned[kind, key], -learned[other, key], key))
            pinned[kind, cache] = set(hot[:where.slots[cache]])
    rates = Rates()
    for step in run:
        if step.kind != "warmup":
            held = pinned[step.kind, where.key(step, 0)[0]]
            rates.add(step, sum(where.key(step, e)[1] in held for e in step.experts), ("judged",))
    return rates


def optimum(run, where, span, kind):
    """The most requests of a kind that can be hits: intervals from use to use, in the order of their ends, each taken
    if there is a slot all the time. What is judged may begin with anything; the whole run begins with nothing."""
    steps_of, last = {}, {}
    rates = Rates()
    for cache in where.slots:
        steps_of[cache] = [step for step in run if where.key(step, 0)[0] == cache and (step.second or span == "whole")]
    for cache, steps in steps_of.items():
        free = [where.slots[cache]] * (len(steps) + 1) # between one step and the next, before the first at 0
        for now, step in enumerate(steps, 1):
            hits = 0
            for expert in step.experts:
                key = where.key(step, expert)[1]
                begin = last.get(key, 0 if span == "judged" else None)
                last[key] = now
                judged = step.kind == kind or (kind == "all" and step.kind != "warmup")
                if judged and begin is not None and min(free[begin:now]) > 0:
                    hits += 1
                    free[begin:now] = [n - 1 for n in free[begin:now]]
            rates.add(step, hits, (span,))
        last.clear()
    return rates


class OneList:
    """All layers share slots of as many bytes as their experts have on the mean, whatever each has."""

    def __init__(self, shape, budget):
        mean = sum(n * size for n, size in zip(shape.n_expert, shape.bytes)) / sum(shape.n_expert)
        self.slots = {0: int(budget // mean)}

    def key(self, step, expert):
        return 0, (step.layer, expert)


def belady(run, where):
    """What people usually call so: everything is taken in, what is used again last goes. From an empty cache on."""
    uses = {}
    for now, step in enumerate(run):
        for expert in step.experts:
            uses.setdefault(where.key(step, expert)[1], []).append(now)
    held = {cache: set() for cache in where.slots}
    rates = Rates()
    for now, step in enumerate(run):
        cache = where.key(step, 0)[0]
        keys = {where.key(step, e)[1] for e in step.experts}
        rates.add(step, len(keys & held[cache]))
        for key in keys:
            uses[key].pop(0)
        held[cache] |= keys
        while len(held[cache]) > where.slots[cache]:
            held[cache].remove(max(held[cache] - keys or held[cache],
                                   key=lambda key: (uses[key][0] if uses[key] else math.inf, key)))
    return rates


def oracle(run, where):
    """The hottest of each life, known beforehand; of activations of generated tokens."""
    counts = {}
    for step in run:
        if step.second and step.kind != "warmup":
            for row, (life, generated) in zip(step.rows, step.lives):
                if generated:
                    counts.setdefault((step.layer, life), Counter()).update(row)
    rates = Rates()
    for (layer, _), used in counts.items():
        rates.requests["judged", "generation"] += sum(used.values())
        rates.hits["judged", "generation"] += sum(n for _, n in used.most_common(where.slots[layer]))
    return rates


def whole_layers(run, shape, budget):
    first = len(shape.bytes)
    while first > 0 and budget >= shape.n_expert[first - 1] * shape.bytes[first - 1]:
        first -= 1
        budget -= shape.n_expert[first] * shape.bytes[first]
    rates = Rates()
    for step in run:
        rates.add(step, len(step.experts) if step.layer >= first else 0)
    return rates


def llama_slots(shape, tensors, budget, kept=()):
    """Of each group: a buffer for each tensor, with room for one expert more, rounded up to 128 bytes."""
    groups = groups_of(shape)
    slots = {}
    bytes_of = [0 if i in kept else n * size for i, (n, size) in enumerate(zip(shape.n_expert, shape.bytes))]
    for group in set(groups):
        layers = [i for i, g in enumerate(groups) if g == group and i not in kept]
        slots[group] = 0
        if not layers:
            continue
        share = budget * sum(bytes_of[i] for i in layers) / sum(bytes_of)
        most = sum(shape.n_expert[i] for i in range(len(groups)) if groups[i] == group)
        while slots[group] < most and sum((size * (slots[group] + 2) + 127) // 128 * 128
                                          for size in tensors[layers[0]]) <= share:
            slots[group] += 1
        if slots[group] < max(shape.n_used[i] for i in layers):
            slots[group] = 0
    return slots


def llama(run, shape, slots, max_rows, kept=(), held=None):
    """One list for the layers of a group, the most recent last. Returns its rates, and what it counts itself: in small
    and large steps, and in those that pass by."""
    groups = groups_of(shape)
    held = {group: OrderedDict.fromkeys(held[group] if held else ()) for group in slots}
    rates, own = Rates(), {kind: [0, 0] for kind in ("small", "large", "passed")}
    for step in run:
        if step.layer in kept:
            rates.add(step, len(step.experts))
            continue
        group = groups[step.layer]
        cached = held[group]
        keys = [(step.layer, e) for e in step.experts]
        there = [key for key in keys if key in cached]
        rates.add(step, len(there) if slots[group] > 0 else 0)
        if slots[group] == 0:
            continue
        rows = len(step.rows)
        most = min(rows * shape.n_used[step.layer], shape.n_expert[step.layer])
        passed = passes(step, max_rows) or most > slots[group]
        count = own["passed" if passed else "small" if rows <= 8 else "large"]
        count[0] += len(keys)
        count[1] += len(there)
        if not passed:
            for key in there + sorted(key for key in keys if key not in there):
                cached[key] = None
                cached.move_to_end(key)
            while len(cached) > slots[group]:
                cached.popitem(last=False)
    return rates, own


def recent_first_half(run, shape, max_rows):
    """Keys of each group that the first half used, in the order of their last uses."""
    groups = groups_of(shape)
    order = {group: [] for group in set(groups)}
    for step in run:
        if not step.second and not passes(step, max_rows):
            keys = [(step.layer, e) for e in step.experts]
            group = groups[step.layer]
            order[group] = [key for key in order[group] if key not in keys] + keys
    return order
