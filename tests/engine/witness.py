"""What stock programs tell of the routing: an account that knows nothing of ours."""

import re

from gguf import Gguf
from harness import run


def run_whole(*command, **how):
    """Runs a program whose output ends in an empty line, until it does: stock programs may exit before their logger
    has written everything, traced or not (https://github.com/ggml-org/llama.cpp/issues/22142).
    """
    for _ in range(30):
        result = run(*command, **how)
        if result.status != 0 or result.out.endswith("\n\n"):
            break
    return result


def imatrix_counts(path):
    """From a file of llama-imatrix: how many rows each expert was multiplied with, by (layer, projection)."""
    imatrix = Gguf(path)
    counts = {}
    for name in imatrix.shapes:
        found = re.fullmatch(r"blk\.(\d+)\.(ffn_\w+_exps)\.weight\.counts", name)
        if found:
            counts[int(found[1]), found[2]] = [int(count) for count in imatrix.floats(name)]
    return counts


class Evaluation:
    """The nodes that llama-eval-callback prints of the graph that it evaluates."""

    NODE = re.compile(r"common_debug_cb_eval: +(.+?) = \(\w+\) +(\w+)\((.*?)\{")

    def __init__(self, printed):
        self.topk = {}     # by layer, in the order of evaluation: the selected experts of each row
        self.weights = {}  # by layer: the stacked weights that are multiplied with, each once
        rows = None
        for line in printed.splitlines():
            node = self.NODE.match(line)
            if node:
                rows = self.begin(*node.groups())
            elif rows is not None:
                numbers = re.fullmatch(r" +\[([^\[\]]+)\],", line)
                if numbers:
                    rows.append([int(float(number)) for number in numbers[1].split(",")])
                elif "..." in line:
                    raise ValueError("rows were left out: give a prompt of six tokens at the most")

    def begin(self, name, op, source):
        """A node. Returns where its rows are to be put, if they are wanted."""
        found = re.fullmatch(r"ffn_moe_topk-(\d+)", name)
        if found:
            layer = int(found[1])
            if layer in self.topk:
                return None  # GroveMoE has two of a name: the first one selects the experts
            self.topk[layer] = []
            return self.topk[layer]
        found = re.fullmatch(r"blk\.(\d+)\.ffn_\w+_exps\.weight", source)
        if found and op == "MUL_MAT_ID":
            weights = self.weights.setdefault(int(found[1]), [])
            if source not in weights:
                weights.append(source)
        return None

    def counts(self, n_expert):
        """Activations of each expert of each layer that routed at least one row."""
        counts = {}
        for layer, rows in self.topk.items():
            if rows:
                counts[layer] = [sum(row.count(expert) for row in rows) for expert in range(n_expert)]
        return counts


class GateWeights:
    """What llama-eval-callback prints of the gate weights: of each layer the last node, flat."""

    def __init__(self, printed):
        self.layers = {}
        numbers = None
        for line in printed.splitlines():
            node = Evaluation.NODE.match(line)
            if node:
                found = re.fullmatch(r"ffn_moe_weights(?:_softmax|_norm|_scaled)?-(\d+)", node[1])
                numbers = [] if found else None
                if found:
                    self.layers[int(found[1])] = numbers
            elif numbers is not None:
                row = re.fullmatch(r" +\[([^\[\]]+)\],", line)
                numbers += [float(number) for number in row[1].split(",")] if row else []


def computed_gates(path):
    """What gates.so wrote down, a dictionary for each graph that routes:
    by layer the last gate weights that were computed, flat."""
    graphs = []
    for line in path.read_text().splitlines():
        name, _, values = line.partition("\t")
        found = re.fullmatch(r"ffn_moe_weights(?:_softmax|_norm|_scaled)?-(\d+)", name)
        if name == "graph":
            graphs.append({})
        elif found:
            graphs[-1][int(found[1])] = list(map(float, values.split()))
    return [layers for layers in graphs if layers]
