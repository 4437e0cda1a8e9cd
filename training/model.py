"""A Mixture-of-Experts transformer as llama.cpp computes qwen3moe."""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from tokenizer import N_VOCAB

CONTEXT = 1024 # the longest that it is trained on


@dataclass(frozen=True)
class Shape:
    n_vocab:       int   = N_VOCAB
    n_layer:       int   = 8
    n_embd:        int   = 192
    n_head:        int   = 4
    n_head_kv:     int   = 2
    n_embd_head:   int   = 64
    n_expert:      int   = 32
    n_expert_used: int   = 4
    n_ff_exp:      int   = 64
    rope_base:     float = 10000.0
    epsilon:       float = 1e-6


class Norm(nn.Module):
    def __init__(self, width, epsilon):
        super().__init__()
        self.weight, self.epsilon = nn.Parameter(torch.ones(width)), epsilon

    def forward(self, x):
        return x*torch.rsqrt((x*x).mean(-1, keepdim=True) + self.epsilon)*self.weight


def matrix(*sizes, std=0.02):
    return nn.Parameter(torch.randn(*sizes)*std)


def rotations(n_tokens, shape):
    """Cosines and sines of RoPE for the first tokens; the two halves of a head rotate together ("NeoX")."""
    frequencies = shape.rope_base**(-torch.arange(0, shape.n_embd_head, 2)/shape.n_embd_head)
    angles = torch.outer(torch.arange(n_tokens), frequencies)
    return torch.cat([angles.cos(), angles.cos()], -1), torch.cat([-angles.sin(), angles.sin()], -1)


def rotate(x, rotation):
    cosines, sines = rotation
    return x*cosines + x.roll(x.shape[-1]//2, -1)*sines


class Attention(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape  = shape
        self.q      = matrix(shape.n_head*shape.n_embd_head,    shape.n_embd)
        self.k      = matrix(shape.n_head_kv*shape.n_embd_head, shape.n_embd)
        self.v      = matrix(shape.n_head_kv*shape.n_embd_head, shape.n_embd)
        self.output = matrix(shape.n_embd, shape.n_head*shape.n_embd_head, std=0.02/math.sqrt(2*shape.n_layer))
        self.q_norm = Norm(shape.n_embd_head, shape.epsilon)
        self.k_norm = Norm(shape.n_embd_head, shape.epsilon)

    def forward(self, x, rotation, mask):
        shape, (n_seq, n_tokens, _) = self.shape, x.shape
        n_group = shape.n_head//shape.n_head_kv

        def heads(weight):
            return functional.linear(x, weight).view(n_seq, n_tokens, -1, shape.n_embd_head).transpose(1, 2)

        q = rotate(self.q_norm(heads(self.q)), rotation)/math.sqrt(shape.n_embd_head)
        k = rotate(self.k_norm(heads(self.k)), rotation)
        v = heads(self.v)

        # The queries of a group share keys and values: one tall matrix.
        q = q.reshape(n_seq*shape.n_head_kv, n_group*n_tokens, shape.n_embd_head)
        k = k.reshape(n_seq*shape.n_head_kv, n_tokens, shape.n_embd_head)
        v = v.reshape(n_seq*shape.n_head_kv, n_tokens, shape.n_embd_head)
        scores = torch.bmm(q, k.transpose(1, 2)).view(-1, n_group, n_tokens, n_tokens) + mask
        attended = torch.bmm(scores.softmax(-1).view(-1, n_group*n_tokens, n_tokens), v)
        attended = attended.view(n_seq, shape.n_head, n_tokens, shape.n_embd_head).transpose(1, 2)
        return functional.linear(attended.reshape(n_seq, n_tokens, -1), self.output)


class RunExperts(torch.autograd.Function):
    """Sum over a token's experts of weight * down(silu(gate(x)) * up(x)), one expert after the other: what belongs to
    one fits the cache."""

    @staticmethod
    def forward(ctx, x, weights, chosen, gate_up, down):
        n_expert_used = chosen.shape[1]
        order  = chosen.flatten().argsort()
        counts = chosen.flatten().bincount(minlength=gate_up.shape[0]).tolist()
        places = order.split(counts)
        ctx.save_for_backward(x, weights, gate_up, down)
        ctx.rows = []
        out = torch.zeros_like(x)
        for expert, place in enumerate(places):
            token  = torch.div(place, n_expert_used, rounding_mode="floor")
            input_ = x.index_select(0, token)
            gate, up = (input_ @ gate_up[expert]).chunk(2, 1)
            weight = weights.view(-1).index_select(0, place).unsqueeze(1)
            out.index_add_(0, token, (functional.silu(gate)*up*weight) @ down[expert])
            ctx.rows.append((token, place, input_, gate, up, weight))
        return out

    @staticmethod
    def backward(ctx, d_out):
        x, weights, gate_up, down = ctx.saved_tensors
        d_x, d_weights = torch.zeros_like(x), torch.zeros_like(weights)
        d_gate_up, d_down = torch.empty_like(gate_up), torch.empty_like(down)
        for expert, (token, place, input_, gate, up, weight) in enumerate(ctx.rows):
            sigmoid = gate.sigmoid()
            silu    = gate*sigmoid
            hidden  = silu*up
            d_rows  = d_out.index_select(0, token)
            torch.mm((hidden*weight).t(), d_rows, out=d_down[expert])
            d_hidden = d_rows @ down[expert].t()
            d_weights.view(-1)[place] = (d_hidden*hidden).sum(1)
            d_hidden *= weight
            d_inner = torch.cat([d_hidden*up*(sigmoid + silu*(1 - sigmoid)), d_hidden*silu], 1)
            torch.mm(input_.t(), d_inner, out=d_gate_up[expert])
            d_x.index_add_(0, token, d_inner @ gate_up[expert].t())
        ctx.rows = None
        return d_x, d_weights, None, d_gate_up, d_down


class Experts(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape   = shape
        self.router  = matrix(shape.n_expert, shape.n_embd)
        self.gate_up = matrix(shape.n_expert, shape.n_embd, 2*shape.n_ff_exp)
        self.down    = matrix(shape.n_expert, shape.n_ff_exp, shape.n_embd, std=0.02/math.sqrt(2*shape.n_layer))

    def forward(self, x):
        """The output, every expert's mean probability, its share of the choices, and how much probability goes to other
        experts from a token to the next."""
        rows = x.reshape(-1, x.shape[-1])
        probabilities = functional.linear(rows, self.router).softmax(-1)
        weights, chosen = probabilities.topk(self.shape.n_expert_used, -1)
        weights = weights/weights.sum(-1, keepdim=True)
        out = RunExperts.apply(rows, weights, chosen, self.gate_up, self.down)
        share = chosen.flatten().bincount(minlength=self.shape.n_expert)/chosen.numel()
        by_sequence = probabilities.view(*x.shape[:2], -1)
        change = (by_sequence[:, 1:] - by_sequence[:, :-1]).abs().sum(-1).mean()/2
        return out.view_as(x), probabilities.mean(0), share, change


class Layer(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.attention_norm = Norm(shape.n_embd, shape.epsilon)
        self.attention      = Attention(shape)
        self.experts_norm   = Norm(shape.n_embd, shape.epsilon)
        self.experts        = Experts(shape)

    def forward(self, x, rotation, mask):
        x = x + self.attention(self.attention_norm(x), rotation, mask)
        out, *routing = self.experts(self.experts_norm(x))
        return x + out, *routing


class Model(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape       = shape
        self.embedding   = matrix(shape.n_vocab, shape.n_embd)
        self.layers      = nn.ModuleList(Layer(shape) for _ in range(shape.n_layer))
        self.output_norm = Norm(shape.n_embd, shape.epsilon)
        self.output      = matrix(shape.n_vocab, shape.n_embd)

    def forward(self, tokens):
        """Logits; and, a row per layer, the experts' mean probabilities, shares of the choices, and changes."""
        n_tokens = tokens.shape[1]
        rotation = rotations(n_tokens, self.shape)
        mask     = torch.full((n_tokens, n_tokens), -math.inf).triu(1)
        x = functional.embedding(tokens, self.embedding)
        routing = []
        for layer in self.layers:
            x, *of_layer = layer(x, rotation, mask)
            routing.append(of_layer)
        return functional.linear(self.output_norm(x), self.output), *map(torch.stack, zip(*routing))


def losses(model, tokens):
    """Of every token but the first, what it cost to predict."""
    logits, *routing = model(tokens[:, :-1])
    costs = functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    return costs.view(tokens.shape[0], -1), *routing


def load_model(checkpoint):
    """The model as train.py left it, and after how many steps."""
    state = torch.load(checkpoint)
    model = Model(Shape(**state["shape"]))
    model.load_state_dict(state["model"])
    return model, state["step"]
