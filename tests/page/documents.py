"""Documents as `report`, `cache` and `compare` print them with --json, made up:
of any shape, and with known numbers."""

import math
import random


def spread(n, skew, rng):
    """How often each of n experts is used: the skewer, the more a few of them."""
    return [0 if rng.random() < 0.02 else int(rng.random() ** skew * 10000) + 1 for _ in range(n)]


def coverage(rows):
    counts = sorted((count for row in rows for count in row), reverse=True)
    total = sum(counts)
    sums = [0]
    for count in counts:
        sums.append(sums[-1] + count)
    return {**{str(mark): next(i for i, s in enumerate(sums) if s >= total * mark / 100) for mark in (50, 80, 90, 99)},
            "slots": len(counts), "curve": [sums[len(counts) * i // 100] / total for i in range(101)]}


def entropy(counts):
    total = sum(counts)
    return -sum(c / total * math.log2(c / total) for c in counts if c)


def layer(number, n_expert, n_used, rng):
    prompt, generation = spread(n_expert, 3, rng), spread(n_expert, 6, rng)
    both = [a + b for a, b in zip(prompt, generation)]
    bits = entropy(both)
    return {"layer": number, "n_expert": n_expert, "n_expert_used": n_used, "expert_bytes": 2359296,
            "activations": {"all": both, "prompt": prompt, "generation": generation},
            "entropy": bits / math.log2(n_expert), "effective_experts": 2 ** bits,
            "hottest": {"expert": both.index(max(both)), "share": max(both) / sum(both)}, "never_used": both.count(0),
            "neighbours": {"generation": 0.25 + 0.15 * rng.random(), "prompt": 0.15 + 0.1 * rng.random(),
                           "chance": n_used / n_expert}}


def rates(share, generation):
    at = {"static": share ** 0.7, "lru": share ** 0.45, "lfu": share ** 0.42, "optimum": share ** 0.3,
          "pooled_lru": share ** 0.4, "pooled_static": share ** 0.65, "pooled_optimum": share ** 0.28,
          "llama_cpp": share ** 0.41}
    if not generation:
        at = {policy: rate * 0.6 for policy, rate in at.items()}
    return {**at, "prompt_oracle": share ** 0.55 if generation else None}


def cache(n_layers=4, n_expert=16, n_used=2, name="Small"):
    slots = sorted({max(1, n_expert * i // 16) for i in (1, 2, 4, 6, 8, 12, 16)})
    mib = n_layers * 2.25
    return {
        "llama_expert_tracer_cache": 1, "file": "a.moetrace",
        "model": {"name": name, "architecture": "qwen3moe", "file": "/m/small.gguf", "engine": "llama.cpp 0.7.0"},
        "tokens": {"prompt": 512, "generation": 1234, "warmup": 2},
        "requests": {"generation": 98765, "prompt": 4321}, "max_rows": 32,
        "sizes": [{"slots": n, "share": n / n_expert, "mib": n * mib,
                   "generation": rates(n / n_expert, True), "prompt": rates(n / n_expert, False)} for n in slots],
        "lru": {"generation": [(n / n_expert) ** 0.45 for n in range(n_expert + 1)],
                "prompt": [0.6 * (n / n_expert) ** 0.45 for n in range(n_expert + 1)]},
        "layers": [], "llama_cpp": [],
        "distances": {phase: {"first": n_expert * n_layers, "counts": [int(40000 / (d + 1)) for d in range(n_expert)]}
                      for phase in ("generation", "prompt")},
        "concurrency": [{"sequences": n, "experts": n_expert * (1 - (1 - n_used / n_expert) ** n),
                         "share": 1 - (1 - n_used / n_expert) ** n,
                         "mib": mib * n_expert * (1 - (1 - n_used / n_expert) ** n)} for n in (1, 2, 4, 8)],
        "allocation": None, "time": None,
        "verdict": "A cache of 4 slots in each layer would hit 53.6 % of what generation asks for; "
                   "pinning hot experts only 37.9 %.",
    }


def report(n_layers=4, n_expert=16, n_used=2, name="Small", with_cache=True):
    rng = random.Random(n_layers)
    layers = [layer(number, n_expert, n_used, rng) for number in range(n_layers)]
    return {
        "llama_expert_tracer_report": 1, "file": "a.moetrace", "kind": "trace" if with_cache else "statistics",
        "model": {"name": name, "architecture": "qwen3moe", "file": "/m/small.gguf", "engine": "llama.cpp 0.7.0"},
        "tokens": {"prompt": 512, "generation": 1234, "warmup": 2, "all": 1746},
        "layers": layers,
        "coverage": {phase: coverage([one["activations"][phase] for one in layers])
                     for phase in ("all", "prompt", "generation")},
        "neighbours": {"generation": 0.31, "prompt": 0.2, "chance": n_used / n_expert},
        "cache": cache(n_layers, n_expert, n_used, name) if with_cache else None,
        "verdict": "The routing is uneven: a third of the experts does four fifths of the work.",
    }


def divergence(a, b):
    p, q = [c / sum(a) for c in a], [c / sum(b) for c in b]
    middle = [(x + y) / 2 for x, y in zip(p, q)]
    return sum(x * math.log2(x / m) / 2 for side in (p, q) for x, m in zip(side, middle) if x)


def compare(n_layers=4, n_expert=16, names=("chat.moetrace", "code.moetrace")):
    rng = random.Random(n_layers)
    counts = [[spread(n_expert, 4, rng) for _ in range(n_layers)] for _ in names]
    pairs = [(a, b) for a in range(len(names)) for b in range(a + 1, len(names))]
    return {"llama_expert_tracer_compare": 1,
            "files": [{"file": name, "model": {"name": "Small"}, "tokens": {"prompt": 10, "generation": 20}}
                      for name in names],
            "pairs": [pair(a, b, counts[a], counts[b], n_expert) for a, b in pairs], "counts": counts,
            "verdict": "The two use different experts: 0.3112 bits apart, "
                       "where their own halves are 0.0210 bits apart."}


def pair(a, b, of_a, of_b, n_expert):
    layers = [{"layer": i, "divergence": divergence(x, y), "overlap": 0.5, "noise_a": 0.02, "noise_b": 0.03 + 0.001 * i}
              for i, (x, y) in enumerate(zip(of_a, of_b))]
    experts = [{"layer": i, "expert": e, "a": x[e] / sum(x), "b": y[e] / sum(y)}
               for i, (x, y) in enumerate(zip(of_a, of_b)) for e in range(n_expert)]
    experts.sort(key=lambda row: -abs(row["a"] - row["b"]))
    return {"a": a, "b": b, "divergence": sum(row["divergence"] for row in layers) / len(layers), "overlap": 0.25,
            "noise": {"a": 0.021, "b": 0.0305}, "layers": layers, "experts": experts[:20],
            "hot_set": [{"share": share, "a_on_b": share, "b_on_b": 3 * share, "b_on_a": share, "a_on_a": 2.5 * share}
                        for share in (0.1, 0.25)]}


def shares(rate):
    n_prompt, n_generation = 4096, 98765
    return {"all": {"share": rate * (0.6 * n_prompt + n_generation) / (n_prompt + n_generation),
                    "of": n_prompt + n_generation},
            "prompt": {"share": 0.6 * rate, "of": n_prompt}, "generation": {"share": rate, "of": n_generation}}


def forget_phases(frame):
    """The same frame of a program whose calls are not seen: what is prompt and what generation is not known."""
    def forgotten(value):
        return {**value, "prompt": None, "generation": None}
    frame["model"]["phases_known"] = False
    for key in ("tokens", "rates", "window_rates"):
        frame[key] = forgotten(frame[key])
    frame.update(reuse=forgotten({"all": {"share": None, "of": 0}}), sequences=[])
    for size in frame["sizes"]:
        size.update({key: forgotten(size[key]) for key in ("lru", "llama", "lru_all", "llama_all")})
    return frame


def watch(n_layers=4, n_expert=16, n_used=2, name="Small", n_sequences=3, bytes_known=True):
    """A frame of `serve`'s stream."""
    rng = random.Random(n_layers)
    all_bytes = 2359296 * n_layers * n_expert
    counts = [spread(n_expert, 4, rng) for _ in range(n_layers)]
    slots = sorted({max(1, n_expert * i // 16) for i in (1, 2, 3, 4, 6, 8, 10, 12, 14)})
    hot = sorted(((n, layer, expert) for layer, row in enumerate(counts) for expert, n in enumerate(row)), reverse=True)
    return {
        "llama_expert_tracer_watch": 1, "pid": 4242, "program": "/usr/bin/llama-server", "tracer": "0.1.0",
        "started": 1.7e9, "time": 1.7e9 + 600, "counting": True, "names": False, "recording": False,
        "model": {"model": 1, "name": name, "architecture": "qwen3moe", "engine": "llama.cpp 0.7.0",
                  "capture": "graph", "contexts": 1, "phases_known": True},
        "models": 1, "window": 10.0, "tokens": {"all": 123456, "prompt": 23456, "generation": 100000, "lost": 0},
        "rates": {"all": 298.5, "prompt": 256.0, "generation": 42.5},
        "window_rates": {"all": 169.0, "prompt": 128.0, "generation": 41.0},
        "layers": [{"layer": i, "n_expert": n_expert, "n_expert_used": n_used, "activations": sum(row), "counts": row,
                    "entropy": entropy(row) / math.log2(n_expert), "never_used": row.count(0),
                    "hottest": {"expert": row.index(max(row)), "share": max(row) / sum(row)}}
                   for i, row in enumerate(counts)],
        "slots": n_layers * n_expert, "activations": sum(map(sum, counts)), "entropy": 0.872,
        "hot": [{"layer": layer, "expert": expert, "count": n, "share": n / sum(counts[layer])}
                for n, layer, expert in hot[:64]],
        "drift": {"divergence": 0.034, "noise": 0.021, "times": 1.62},
        "watched": {"seconds": 93.0, "tokens": 3906, "overrun_bytes": 0},
        "reuse": shares(0.31),
        "sequences": [{"context": 1, "sequence": i, "life": 2 - i % 3, "position": 512 + 100 * i,
                       "phase": "prompt" if i == 1 else "generation", "age": 0.02 + 70.0 * (i > 1),
                       "prompt_tokens": 500, "generation_tokens": 100 * i, "rate": 14.2, "used": 0.2 + 0.1 * i % 0.8}
                      for i in range(n_sequences)],
        "sizes": [{"slots": float(n), "share": n / n_expert, "asked": False,
                   "llama_slots": n * n_layers * (n > slots[0]),
                   "bytes": all_bytes * n // n_expert if bytes_known else None,
                   "lru": shares((n / n_expert) ** 0.4), "llama": shares((n / n_expert) ** 0.41),
                   "lru_all": shares((n / n_expert) ** 0.45), "llama_all": shares((n / n_expert) ** 0.46)}
                  for n in slots],
        "expert_bytes": all_bytes if bytes_known else None,
    }
