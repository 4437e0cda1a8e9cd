// The oracle models: sizes, types of tensors, and the real models that they resemble.

#include "oracle-models.h"

#include "oracle.h"

#include <stddef.h>
#include <string.h>

// Nothing that a processor has matrix units or a layout of its own for: some of their kernels are wrong
// for sizes that no real model has (F16 on Intel's AMX, for several sequences of a recurrent model), and
// tests must not depend on that.
static const struct oracle_types types_f32 = { 0, ORACLE_F32, ORACLE_F32, ORACLE_F32, ORACLE_F32, ORACLE_F32 };

// What llama-quantize chooses (llama-quant.cpp), and published files have.
static const struct oracle_types types_q4_0 = {
     2, ORACLE_Q4_0, ORACLE_Q4_0, ORACLE_Q4_0,  ORACLE_Q4_0, ORACLE_Q6_K,
};
static const struct oracle_types types_q4_0_8_experts = {
     2, ORACLE_Q4_0, ORACLE_Q8_0, ORACLE_Q4_0,  ORACLE_Q4_0, ORACLE_Q6_K,
};
static const struct oracle_types types_mxfp4_moe = {
    38, ORACLE_Q8_0, ORACLE_Q8_0, ORACLE_MXFP4, ORACLE_Q8_0, ORACLE_Q8_0,
};

static const struct oracle_model models[] = {
    // As narrow as may be: a place for every token, whole heads, and sizes that GPU kernels take too.
    {
        .kind          = "mixtral",
        .architecture  = "llama",
        .name          = "Oracle Mixtral 32x8",
        .n_vocab       = ORACLE_N_TOKENS,
        .n_ctx         = 32768,
        .n_layer       = 32,
        .n_embd        = 320,
        .n_ff          = 32,
        .n_ff_exp      = 32,
        .n_expert      = 8,
        .n_expert_used = 2,
        .epsilon       = 1e-6f,
        .attention     = { .n_head = 5, .n_head_kv = 1, .n_embd_head = 64, .n_rot = 64, .rope_base = 1e6f },
        .types         = &types_f32,
    },
    {
        .kind          = "gpt-oss",
        .architecture  = "gpt-oss",
        .name          = "Oracle GPT-OSS 36x128",
        .n_vocab       = ORACLE_N_TOKENS,
        .n_ctx         = 32768,
        .n_layer       = 36,
        .n_embd        = 320,
        .n_ff          = 16,
        .n_ff_exp      = 16,
        .n_expert      = 128,
        .n_expert_used = 4,
        .epsilon       = 1e-6f,
        .attention     = { .n_head = 5, .n_head_kv = 1, .n_embd_head = 64, .n_rot = 64,
                           .rope_base = 1e6f, .n_window = 128 },
        .types         = &types_f32,
    },
    {
        .kind          = "qwen3next",
        .architecture  = "qwen3next",
        .name          = "Oracle Qwen3-Next 48x512",
        .n_vocab       = ORACLE_N_TOKENS,
        .n_ctx         = 32768,
        .n_layer       = 48,
        .n_embd        = 320,
        .n_ff          = 8,
        .n_ff_exp      = 8,
        .n_expert      = 512,
        .n_expert_used = 10,
        .epsilon       = 1e-6f,
        .attention     = { .n_head = 5, .n_head_kv = 1, .n_embd_head = 64, .n_rot = 64, .rope_base = 1e6f },
        .linear        = { .n_conv = 4, .n_state = 64, .n_head_k = 2, .n_head_v = 2, .n_interval = 4 },
        .types         = &types_f32,
    },
    // Published sizes.
    // config.json of mistralai/Mixtral-8x7B-v0.1
    {
        .kind          = "full-mixtral-8x7b",
        .architecture  = "llama",
        .name          = "Full-size Mixtral 8x7B",
        .n_vocab       = 32000,
        .n_ctx         = 32768,
        .n_layer       = 32,
        .n_embd        = 4096,
        .n_ff          = 14336,
        .n_ff_exp      = 14336,
        .n_expert      = 8,
        .n_expert_used = 2,
        .epsilon       = 1e-5f,
        .attention     = { .n_head = 32, .n_head_kv = 8, .n_embd_head = 128, .n_rot = 128, .rope_base = 1e6f },
        .types         = &types_q4_0_8_experts,
    },
    // config.json of openai/gpt-oss-120b; types of ggml-org/gpt-oss-120b-GGUF
    {
        .kind          = "full-gpt-oss-120b",
        .architecture  = "gpt-oss",
        .name          = "Full-size GPT-OSS 120B",
        .n_vocab       = 201088,
        .n_ctx         = 131072,
        .n_layer       = 36,
        .n_embd        = 2880,
        .n_ff          = 2880,
        .n_ff_exp      = 2880,
        .n_expert      = 128,
        .n_expert_used = 4,
        .epsilon       = 1e-5f,
        .attention     = {
            .n_head = 64, .n_head_kv = 8, .n_embd_head = 64, .n_rot = 64,
            .rope_base = 150000.0f, .rope_factor = 32, .n_ctx_orig = 4096, .n_window = 128,
        },
        .types         = &types_mxfp4_moe,
    },
    // config.json of Qwen/Qwen3-Next-80B-A3B-Instruct
    {
        .kind          = "full-qwen3-next-80b",
        .architecture  = "qwen3next",
        .name          = "Full-size Qwen3-Next 80B-A3B",
        .n_vocab       = 151936,
        .n_ctx         = 262144,
        .n_layer       = 48,
        .n_embd        = 2048,
        .n_ff          = 5120,
        .n_ff_exp      = 512,
        .n_expert      = 512,
        .n_expert_used = 10,
        .epsilon       = 1e-6f,
        .attention     = { .n_head = 16, .n_head_kv = 2, .n_embd_head = 256, .n_rot = 64, .rope_base = 1e7f },
        .linear        = { .n_conv = 4, .n_state = 128, .n_head_k = 16, .n_head_v = 32, .n_interval = 4 },
        .types         = &types_q4_0,
    },
    // config.json of Qwen/Qwen3-30B-A3B
    {
        .kind          = "full-qwen3-30b-a3b",
        .architecture  = "qwen3moe",
        .name          = "Full-size Qwen3 30B-A3B",
        .n_vocab       = 151936,
        .n_ctx         = 40960,
        .n_layer       = 48,
        .n_embd        = 2048,
        .n_ff          = 6144,
        .n_ff_exp      = 768,
        .n_expert      = 128,
        .n_expert_used = 8,
        .epsilon       = 1e-6f,
        .attention     = { .n_head = 32, .n_head_kv = 4, .n_embd_head = 128, .n_rot = 128, .rope_base = 1e6f },
        .types         = &types_q4_0,
    },
};

const struct oracle_model * oracle_model_at(uint32_t i) {
    return i < sizeof(models)/sizeof(models[0]) ? &models[i] : NULL;
}

const struct oracle_model * oracle_model_of(const char * kind) {
    for (uint32_t i = 0; oracle_model_at(i) != NULL; i++) {
        if (strcmp(kind, models[i].kind) == 0) {
            return &models[i];
        }
    }
    return NULL;
}
