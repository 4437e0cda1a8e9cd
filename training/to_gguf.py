#!/usr/bin/env python3
"""Makes the GGUF file of a checkpoint: qwen3moe, matrices in Q8_0, norms and routers in F32."""

import argparse
from pathlib import Path

import tokenizer
from gguf_file import BOOL, F32, I32, STRING, TENSOR_F32, TENSOR_Q8_0, U32, GgufFile
from model import CONTEXT, load_model

NAME      = "Babel 11M"
QUANTIZED = 7 # LLAMA_FTYPE_MOSTLY_Q8_0

# It completes texts; what is said is the text.
CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"

# Every loader wants a list of merges, and not all of them an empty one. This one never applies.
MERGES = ["<|never|> <|never|>"]


def write_metadata(file, shape):
    file.set("general.architecture",                           STRING, "qwen3moe")
    file.set("general.type",                                   STRING, "model")
    file.set("general.name",                                   STRING, NAME)
    file.set("general.file_type",                              U32,    QUANTIZED)
    file.set("general.quantization_version",                   U32,    2)
    file.set("qwen3moe.context_length",                        U32,    CONTEXT)
    file.set("qwen3moe.block_count",                           U32,    shape.n_layer)
    file.set("qwen3moe.embedding_length",                      U32,    shape.n_embd)
    file.set("qwen3moe.feed_forward_length",                   U32,    shape.n_ff_exp)
    file.set("qwen3moe.expert_feed_forward_length",            U32,    shape.n_ff_exp)
    file.set("qwen3moe.expert_count",                          U32,    shape.n_expert)
    file.set("qwen3moe.expert_used_count",                     U32,    shape.n_expert_used)
    file.set("qwen3moe.attention.head_count",                  U32,    shape.n_head)
    file.set("qwen3moe.attention.head_count_kv",               U32,    shape.n_head_kv)
    file.set("qwen3moe.attention.key_length",                  U32,    shape.n_embd_head)
    file.set("qwen3moe.attention.value_length",                U32,    shape.n_embd_head)
    file.set("qwen3moe.attention.layer_norm_rms_epsilon",      F32,    shape.epsilon)
    file.set("qwen3moe.rope.freq_base",                        F32,    shape.rope_base)

    file.set      ("tokenizer.ggml.model",            STRING, "gpt2")
    file.set      ("tokenizer.ggml.pre",              STRING, "qwen2")
    file.set_array("tokenizer.ggml.tokens",           STRING, tokenizer.texts())
    file.set_array("tokenizer.ggml.token_type",       I32,    tokenizer.types())
    file.set_array("tokenizer.ggml.merges",           STRING, MERGES)
    file.set      ("tokenizer.ggml.bos_token_id",     U32,    tokenizer.END)
    file.set      ("tokenizer.ggml.eos_token_id",     U32,    tokenizer.END)
    file.set      ("tokenizer.ggml.add_bos_token",    BOOL,   True)
    file.set      ("tokenizer.ggml.add_eos_token",    BOOL,   False)
    file.set      ("tokenizer.ggml.add_space_prefix", BOOL,   False)
    file.set      ("tokenizer.chat_template",         STRING, CHAT_TEMPLATE)


def write_tensors(file, model):
    def norm(name, module):
        file.add(name, TENSOR_F32, module.weight.detach().numpy())

    def matrix(name, parameter):
        file.add(name, TENSOR_Q8_0, parameter.detach().numpy())

    matrix("token_embd.weight", model.embedding)
    norm("output_norm.weight", model.output_norm)
    matrix("output.weight", model.output)
    for i, layer in enumerate(model.layers):
        attention, experts = layer.attention, layer.experts
        gate, up = experts.gate_up.transpose(1, 2).chunk(2, 1)
        norm  (f"blk.{i}.attn_norm.weight",     layer.attention_norm)
        matrix(f"blk.{i}.attn_q.weight",        attention.q)
        matrix(f"blk.{i}.attn_k.weight",        attention.k)
        matrix(f"blk.{i}.attn_v.weight",        attention.v)
        matrix(f"blk.{i}.attn_output.weight",   attention.output)
        norm  (f"blk.{i}.attn_q_norm.weight",   attention.q_norm)
        norm  (f"blk.{i}.attn_k_norm.weight",   attention.k_norm)
        norm  (f"blk.{i}.ffn_norm.weight",      layer.experts_norm)
        file.add(f"blk.{i}.ffn_gate_inp.weight", TENSOR_F32, experts.router.detach().numpy())
        matrix(f"blk.{i}.ffn_gate_exps.weight", gate)
        matrix(f"blk.{i}.ffn_up_exps.weight",   up)
        matrix(f"blk.{i}.ffn_down_exps.weight", experts.down.transpose(1, 2))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("gguf",       type=Path)
    arguments = parser.parse_args()

    model, step = load_model(arguments.checkpoint)
    file = GgufFile()
    write_metadata(file, model.shape)
    write_tensors(file, model)
    file.write(arguments.gguf)
    print(f"{arguments.gguf}: {arguments.gguf.stat().st_size:,} bytes, after step {step}")


if __name__ == "__main__":
    main()
