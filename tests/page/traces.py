"""Routing traces for pages, with the look of real ones:
popular experts, and tokens that like what the token before them liked."""

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "trace"))

import moetrace as m  # noqa: E402


class Router:
    """Draws the experts of each token in each layer."""

    def __init__(self, seed, n_expert, n_used, stickiness=0.35):
        self.rng = random.Random(seed)
        self.n_expert, self.n_used, self.stickiness = n_expert, n_used, stickiness
        self.weights, self.last, self.drawn = {}, {}, {}

    def __call__(self, layer, token, rank):
        if rank == 0:
            self.drawn[layer] = self.draw(layer, token.sequence)
        return self.drawn[layer][rank]

    def draw(self, layer, sequence):
        weights = self.weights.setdefault(layer,
                                          [self.rng.paretovariate(1.2 + layer / 40) for _ in range(self.n_expert)])
        kept = [expert for expert in self.last.get((layer, sequence), ()) if self.rng.random() < self.stickiness]
        while len(kept) < self.n_used:
            expert = self.rng.choices(range(self.n_expert), weights)[0]
            if expert not in kept:
                kept.append(expert)
        self.last[layer, sequence] = kept
        return kept


def write(path, seed=1, n_layers=4, n_expert=16, n_used=2, n_prompt=24, n_generated=80, n_answers=2,
          name="Small", expert_bytes=3 << 20):
    """A few prompts, one after the other, each with its answer."""
    layers = [m.new_layer(layer, n_expert, n_used, (f"blk.{layer}.ffn_up_exps.weight", expert_bytes))
              for layer in range(n_layers)]
    router = Router(seed, n_expert, n_used)
    events = []
    for life in range(n_answers):
        def token(position, **more):
            return m.Token(sequence=0, life=life, position=position, **more)
        events.append(m.new_ubatch(len(events), layers,
                                   [token(i, output=i == n_prompt - 1) for i in range(n_prompt)], router))
        for i in range(n_generated):
            events.append(m.new_ubatch(len(events), layers,
                                       [token(n_prompt + i, generation=True, output=True)], router))
    header = m.new_header(trace="page", run="1-1", pid=1, n_layer=n_layers,
                          model={"name": name, "architecture": "qwen3moe",
                                 "file": "/m/small.gguf", "fingerprint": None})
    m.write(path, header, [layers], events)
