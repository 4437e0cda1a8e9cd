"""Writes a Mixture-of-Experts model of random weights with the vocabulary of a real one, for what needs many tokens.

Its routing follows from the token and, through random attention and random experts, from the tokens before it. Nothing
was learned: what it says of real models is what a large vocabulary does, and no more.
"""

import sys
from pathlib import Path

import numpy

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path += [str(REPOSITORY / "training"), str(REPOSITORY / "tests" / "engine")]
from gguf import Gguf  # noqa: E402
from gguf_file import BOOL, F32, I32, STRING, TENSOR_F32, TENSOR_Q8_0, U32, GgufFile  # noqa: E402

CONTEXT, WIDTH, N_LAYER, N_EXPERT, N_USED, WIDTH_EXPERT = 1024, 256, 12, 64, 6, 64
N_HEAD, N_HEAD_KV, WIDTH_HEAD = 4, 2, 64
STEP = 0.35  # how far attention, and the experts, move the residual stream in a layer, its beginning being 1


def write_metadata(file, vocabulary):
    file.set("general.architecture",                           STRING, "qwen3moe")
    file.set("general.name",                                   STRING, "random")
    file.set("qwen3moe.context_length",                        U32,    CONTEXT)
    file.set("qwen3moe.block_count",                           U32,    N_LAYER)
    file.set("qwen3moe.embedding_length",                      U32,    WIDTH)
    file.set("qwen3moe.feed_forward_length",                   U32,    WIDTH_EXPERT)
    file.set("qwen3moe.expert_feed_forward_length",            U32,    WIDTH_EXPERT)
    file.set("qwen3moe.expert_count",                          U32,    N_EXPERT)
    file.set("qwen3moe.expert_used_count",                     U32,    N_USED)
    file.set("qwen3moe.attention.head_count",                  U32,    N_HEAD)
    file.set("qwen3moe.attention.head_count_kv",               U32,    N_HEAD_KV)
    file.set("qwen3moe.attention.key_length",                  U32,    WIDTH_HEAD)
    file.set("qwen3moe.attention.value_length",                U32,    WIDTH_HEAD)
    file.set("qwen3moe.attention.layer_norm_rms_epsilon",      F32,    1e-6)
    file.set("qwen3moe.rope.freq_base",                        F32,    10000.0)
    for key in ("model", "pre"):
        file.set(f"tokenizer.ggml.{key}", STRING, vocabulary[f"tokenizer.ggml.{key}"])
    for key, kind in (("tokens", STRING), ("token_type", I32), ("merges", STRING)):
        file.set_array(f"tokenizer.ggml.{key}", kind, vocabulary[f"tokenizer.ggml.{key}"])
    for key in ("bos", "eos"):
        file.set(f"tokenizer.ggml.{key}_token_id", U32, vocabulary[f"tokenizer.ggml.{key}_token_id"])
    file.set("tokenizer.ggml.add_bos_token", BOOL, False)


def write_tensors(file, n_vocab, seed):
    random = numpy.random.default_rng(seed)

    def ones(name, n):
        file.add(name, TENSOR_F32, numpy.ones(n, numpy.float32))

    def matrix(name, *shape, scale=1.0, kind=TENSOR_Q8_0):
        file.add(name, kind, random.standard_normal(shape, numpy.float32) * numpy.float32(scale / shape[-1] ** 0.5))

    matrix("token_embd.weight", n_vocab, WIDTH, scale=WIDTH ** 0.5)
    ones("output_norm.weight", WIDTH)
    for i in range(N_LAYER):
        for name, n in (("attn_norm", WIDTH), ("ffn_norm", WIDTH),
                        ("attn_q_norm", WIDTH_HEAD), ("attn_k_norm", WIDTH_HEAD)):
            ones(f"blk.{i}.{name}.weight", n)
        matrix(f"blk.{i}.attn_q.weight", N_HEAD * WIDTH_HEAD, WIDTH)
        matrix(f"blk.{i}.attn_k.weight", N_HEAD_KV * WIDTH_HEAD, WIDTH)
        matrix(f"blk.{i}.attn_v.weight", N_HEAD_KV * WIDTH_HEAD, WIDTH)
        # an average of values is short
        matrix(f"blk.{i}.attn_output.weight", WIDTH, N_HEAD * WIDTH_HEAD, scale=3 * STEP)
        matrix(f"blk.{i}.ffn_gate_inp.weight", N_EXPERT, WIDTH, kind=TENSOR_F32)
        matrix(f"blk.{i}.ffn_gate_exps.weight", N_EXPERT, WIDTH_EXPERT, WIDTH)
        matrix(f"blk.{i}.ffn_up_exps.weight", N_EXPERT, WIDTH_EXPERT, WIDTH)
        matrix(f"blk.{i}.ffn_down_exps.weight", N_EXPERT, WIDTH, WIDTH_EXPERT, scale=3 * STEP)


def write(vocabulary_path, path, seed=1):
    vocabulary = Gguf(vocabulary_path).metadata
    file = GgufFile()
    write_metadata(file, vocabulary)
    write_tensors(file, len(vocabulary["tokenizer.ggml.tokens"]), seed)
    file.write(path)


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
