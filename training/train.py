#!/usr/bin/env python3
"""Trains the model. Goes on where FOLDER/checkpoint.pt ends; --steps may be another then."""

import argparse
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

# One micro-batch per thread, matrices by one: more than one at matrices this small is slower.
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy
import torch

from model import CONTEXT, Model, Shape, losses
from sources import SHARES

KINDS = list(SHARES)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text",   type=Path, help="what gather.py wrote")
    parser.add_argument("folder", type=Path, help="checkpoint.pt and log.jsonl go there")
    parser.add_argument("--steps",         type=int,   default=1800)
    parser.add_argument("--threads",       type=int,   default=2,     help="they change speed alone, but for rounding")
    parser.add_argument("--micro-batches", type=int,   default=2,     help="of a step")
    parser.add_argument("--tokens",        type=int,   default=2048,  help="of a micro-batch")
    parser.add_argument("--context",       type=int,   default=256)
    parser.add_argument("--last-context",  type=int,   default=CONTEXT, help="in the last tenth of the steps")
    parser.add_argument("--rate",          type=float, default=3e-3,  help="AdamW's, at its highest")
    parser.add_argument("--decay",         type=float, default=0.1,   help="AdamW's weight decay")
    parser.add_argument("--balance",       type=float, default=0.05,  help="weight of the load-balancing loss")
    parser.add_argument("--change",        type=float, default=0.1,
                        help="weight of what the experts of neighbours differ by")
    parser.add_argument("--change-steps",  type=int,   nargs=2, default=(300, 600),
                        help="it grows from 0 to that between these")
    parser.add_argument("--seed",          type=int,   default=1)
    parser.add_argument("--save-minutes",  type=float, default=3)
    parser.add_argument("--held-steps",    type=int,   default=250,   help="from one look at held-out text to the next")
    return parser.parse_args()


def load_text(folder, part):
    return {kind: numpy.fromfile(folder/f"{kind}.{part}.bin", numpy.uint16) for kind in KINDS}


def windows(text, n_seq, n_tokens, rng):
    """Sequences of kinds drawn by their shares, from anywhere."""
    shares = numpy.array(list(SHARES.values()))
    rows = []
    for kind in rng.choice(KINDS, n_seq, p=shares/shares.sum()):
        start = rng.integers(len(text[kind]) - n_tokens)
        rows.append(text[kind][start:start + n_tokens + 1])
    return torch.from_numpy(numpy.stack(rows).astype(numpy.int64))


def rate_at(step, arguments):
    """Warm, then constant, then down to nothing in the last third."""
    warm, fall = max(1, min(200, arguments.steps//10)), max(1, arguments.steps//3)
    return arguments.rate*min(1, (step + 1)/warm, (arguments.steps - step)/fall)


def change_weight_at(step, arguments):
    """Experts shall have found their kinds of text before: else a layer takes the same few always."""
    first, last = arguments.change_steps
    return arguments.change*min(1, max(0, (step - first)/(last - first)))


def optimizer_of(model, arguments):
    parameters = list(model.named_parameters())
    return torch.optim.AdamW([
        {"params": [p for name, p in parameters if p.dim() > 1 and name != "embedding"],
         "weight_decay": arguments.decay},
        {"params": [p for name, p in parameters if p.dim() == 1 or name == "embedding"], "weight_decay": 0},
    ], lr=arguments.rate, betas=(0.9, 0.95), foreach=True)


@torch.no_grad()
def held_losses(model, held, n_seq=16, n_tokens=256):
    means = {}
    for kind, text in held.items():
        starts = numpy.linspace(0, len(text) - n_tokens - 1, n_seq).astype(int)
        tokens = numpy.stack([text[start:start + n_tokens + 1] for start in starts]).astype(numpy.int64)
        means[kind] = losses(model, torch.from_numpy(tokens))[0].mean().item()
    return means


class Training:
    def __init__(self, arguments):
        torch.manual_seed(arguments.seed)
        self.arguments  = arguments
        self.model      = Model(Shape())
        self.parameters = list(self.model.parameters())
        self.optimizer  = optimizer_of(self.model, arguments)
        self.shares     = torch.full((self.model.shape.n_layer, self.model.shape.n_expert), 1/self.model.shape.n_expert)
        self.change     = 0 # in the last step
        self.step       = 0
        self.threads    = ThreadPoolExecutor(arguments.threads)
        self.checkpoint = arguments.folder/"checkpoint.pt"
        if self.checkpoint.exists():
            self.load()

    def load(self):
        state = torch.load(self.checkpoint)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.shares, self.step = state["shares"], state["step"]

    def save(self):
        state = {"shape": asdict(self.model.shape), "model": self.model.state_dict(),
                 "optimizer": self.optimizer.state_dict(), "shares": self.shares, "step": self.step}
        unfinished = self.checkpoint.with_suffix(".unfinished")
        torch.save(state, unfinished)
        unfinished.rename(self.checkpoint)

    def gradient(self, tokens):
        """Balance is asked for over the last steps, not within a batch: experts may keep to a kind of text."""
        costs, probabilities, shares, changes = losses(self.model, tokens)
        imbalance = self.model.shape.n_expert*(self.shares*probabilities).sum(1).mean()
        change    = changes.mean()
        loss      = costs.mean() + self.arguments.balance*imbalance + change_weight_at(self.step, self.arguments)*change
        gradients = torch.autograd.grad(loss, self.parameters)
        return costs.mean().item(), gradients, shares, change.item()

    def advance(self, text):
        """One step; returns its loss."""
        arguments = self.arguments
        rng       = numpy.random.default_rng([arguments.seed, self.step])
        context   = arguments.last_context if self.step >= 0.9*arguments.steps else arguments.context
        batches   = [windows(text, arguments.tokens//context, context, rng) for _ in range(arguments.micro_batches)]
        costs, gradients, shares, changes = zip(*self.threads.map(self.gradient, batches))

        for parameter, *of_batches in zip(self.parameters, *gradients):
            parameter.grad = sum(of_batches[1:], of_batches[0])/len(of_batches)
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(self.step, arguments)
        self.optimizer.step()

        self.change = sum(changes)/len(changes)
        self.shares = 0.95*self.shares + 0.05*torch.stack(shares).mean(0)
        self.step  += 1
        return sum(costs)/len(costs)


def main():
    arguments = parse_arguments()
    torch.set_num_threads(1)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    text, held = load_text(arguments.text, "train"), load_text(arguments.text, "held")
    training   = Training(arguments)
    print(f"{sum(p.numel() for p in training.parameters):,} parameters, step {training.step} of {arguments.steps}",
          flush=True)

    saved = begun = time.monotonic()
    recent = []
    with open(arguments.folder/"log.jsonl", "a") as log:
        while training.step < arguments.steps:
            recent.append(training.advance(text))
            if training.step % 50 == 0 or training.step == arguments.steps:
                seconds, begun = time.monotonic() - begun, time.monotonic()
                record = {"step": training.step, "loss": sum(recent)/len(recent),
                          "rate": rate_at(training.step - 1, arguments),
                          "tokens_per_second": len(recent)*arguments.micro_batches*arguments.tokens/seconds,
                          "change": training.change,
                          "largest_share": training.shares.max().item(), "smallest_share": training.shares.min().item()}
                if training.step % arguments.held_steps == 0 or training.step == arguments.steps:
                    record["held"] = held_losses(training.model, held)
                    begun = time.monotonic()
                recent = []
                log.write(json.dumps(record) + "\n")
                log.flush()
                print(describe(record), flush=True)
            if time.monotonic() - saved > 60*arguments.save_minutes:
                training.save()
                saved = time.monotonic()
    training.save()


def describe(record):
    line = ("step {step:6} loss {loss:.3f} rate {rate:.5f} {tokens_per_second:6.0f} tokens/s, change {change:.3f}, "
            "experts {smallest_share:.4f} .. {largest_share:.4f}")
    return line.format(**record) + "".join(f" {kind} {loss:.3f}" for kind, loss in record.get("held", {}).items())


if __name__ == "__main__":
    main()
