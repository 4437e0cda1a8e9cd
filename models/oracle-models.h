// Which oracle models there are, and what they are made of.

#pragma once

#include <stdint.h>

// Tensor types, with the numbers of enum ggml_type in GGUF files.
enum oracle_type {
    ORACLE_F32   = 0,
    ORACLE_Q4_0  = 2,
    ORACLE_Q8_0  = 8,
    ORACLE_Q6_K  = 14,
    ORACLE_MXFP4 = 39,
};

struct oracle_types {
    uint32_t         file_type; // enum llama_ftype
    enum oracle_type matrices;  // of attention and shared experts
    enum oracle_type kv;        // attn_k and attn_v
    enum oracle_type experts;
    enum oracle_type input;     // token_embd
    enum oracle_type output;
};

// Attention of the layers that attend to all (or the last n_window) tokens.
struct oracle_attention {
    uint32_t n_head;
    uint32_t n_head_kv;
    uint32_t n_embd_head;
    uint32_t n_rot;       // places of a head that RoPE turns
    float    rope_base;
    uint32_t rope_factor; // of YaRN, 0: none
    uint32_t n_ctx_orig;  // what YaRN stretches
    uint32_t n_window;    // of every other layer in gpt-oss
};

// Gated delta-net of the other layers in qwen3next.
struct oracle_linear_attention {
    uint32_t n_conv;
    uint32_t n_state;     // width of a head
    uint32_t n_head_k;
    uint32_t n_head_v;
    uint32_t n_interval;  // every n-th layer is one of ordinary attention
};

struct oracle_model {
    const char *                   kind;
    const char *                   architecture;
    const char *                   name;
    uint32_t                       n_vocab;
    uint32_t                       n_ctx;
    uint32_t                       n_layer;
    uint32_t                       n_embd;
    uint32_t                       n_ff;          // of dense layers; none of the models has one
    uint32_t                       n_ff_exp;      // of an expert, and of a shared one
    uint32_t                       n_expert;
    uint32_t                       n_expert_used;
    float                          epsilon;       // of the norms
    struct oracle_attention        attention;
    struct oracle_linear_attention linear;
    const struct oracle_types *    types;
};

// The i-th of all models, NULL behind the last.
const struct oracle_model * oracle_model_at(uint32_t i);
// NULL when there is none of this kind.
const struct oracle_model * oracle_model_of(const char * kind);
