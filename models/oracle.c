#include "oracle.h"

#include "byte-tokenizer.h"
#include "gguf-writer.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Widths, as small as they may be: a place for every token, whole heads, and sizes that GPU kernels take too.
#define N_EMBD      320
#define N_EMBD_HEAD  64
#define N_HEAD        5
#define N_HEAD_KV     1
#define N_CTX     32768
#define EMBEDDING    16.0f // large beside the epsilon of the norm
#define NEXT_LOGIT   64.0

// linear attention of qwen3next
#define SSM_CONV      4
#define SSM_STATE    64
#define SSM_HEADS     2
#define SSM_INNER   (SSM_STATE*SSM_HEADS)

#define MAX_DIMS GGUF_FILE_MAX_DIMS

struct oracle_model {
    const char * kind;
    const char * architecture;
    const char * name;
    uint32_t     n_layer;
    uint32_t     n_expert;
    uint32_t     n_expert_used;
    uint32_t     n_ff_exp;
    void      (* add_keys)  (struct gguf_file_writer * writer, const struct oracle_model * model);
    void      (* add_layer) (struct gguf_file_writer * writer, const struct oracle_model * model, uint32_t layer);
};

//
// keys
//

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
static const char * key_of(const struct oracle_model * model, const char * format, ...) {
    static char key[128];
    const int n = snprintf(key, sizeof(key), "%s.", model->architecture);
    va_list args;
    va_start(args, format);
    vsnprintf(key + n, sizeof(key) - (size_t) n, format, args);
    va_end(args);
    return key;
}

static void add_common_keys(struct gguf_file_writer * writer, const struct oracle_model * model) {
    gguf_file_writer_set_string(writer, "general.architecture", model->architecture);
    gguf_file_writer_set_string(writer, "general.name",         model->name);
    gguf_file_writer_set_u32   (writer, "general.file_type",    1); // mostly F16

    gguf_file_writer_set_u32(writer, key_of(model, "vocab_size"),                       ORACLE_N_VOCAB);
    gguf_file_writer_set_u32(writer, key_of(model, "context_length"),                   N_CTX);
    gguf_file_writer_set_u32(writer, key_of(model, "embedding_length"),                 N_EMBD);
    gguf_file_writer_set_u32(writer, key_of(model, "block_count"),                      model->n_layer);
    gguf_file_writer_set_u32(writer, key_of(model, "feed_forward_length"),              model->n_ff_exp);
    gguf_file_writer_set_u32(writer, key_of(model, "attention.head_count"),             N_HEAD);
    gguf_file_writer_set_u32(writer, key_of(model, "attention.head_count_kv"),          N_HEAD_KV);
    gguf_file_writer_set_u32(writer, key_of(model, "attention.key_length"),             N_EMBD_HEAD);
    gguf_file_writer_set_u32(writer, key_of(model, "attention.value_length"),           N_EMBD_HEAD);
    gguf_file_writer_set_f32(writer, key_of(model, "attention.layer_norm_rms_epsilon"), 1e-6f);
    gguf_file_writer_set_u32(writer, key_of(model, "rope.dimension_count"),             N_EMBD_HEAD);
    gguf_file_writer_set_f32(writer, key_of(model, "rope.freq_base"),                   1e6f);
    gguf_file_writer_set_u32(writer, key_of(model, "expert_count"),                     model->n_expert);
    gguf_file_writer_set_u32(writer, key_of(model, "expert_used_count"),                model->n_expert_used);
}

static void add_keys_mixtral(struct gguf_file_writer * writer, const struct oracle_model * model) {
    (void) writer;
    (void) model;
}

static void add_keys_gpt_oss(struct gguf_file_writer * writer, const struct oracle_model * model) {
    gguf_file_writer_set_u32(writer, key_of(model, "expert_feed_forward_length"), model->n_ff_exp);
    gguf_file_writer_set_u32(writer, key_of(model, "attention.sliding_window"),   128);
}

static void add_keys_qwen3next(struct gguf_file_writer * writer, const struct oracle_model * model) {
    gguf_file_writer_set_u32(writer, key_of(model, "expert_feed_forward_length"),        model->n_ff_exp);
    gguf_file_writer_set_u32(writer, key_of(model, "expert_shared_feed_forward_length"), model->n_ff_exp);
    gguf_file_writer_set_u32(writer, key_of(model, "expert_shared_count"),               1);
    gguf_file_writer_set_u32(writer, key_of(model, "ssm.conv_kernel"),                   SSM_CONV);
    gguf_file_writer_set_u32(writer, key_of(model, "ssm.inner_size"),                    SSM_INNER);
    gguf_file_writer_set_u32(writer, key_of(model, "ssm.state_size"),                    SSM_STATE);
    gguf_file_writer_set_u32(writer, key_of(model, "ssm.time_step_rank"),                SSM_HEADS);
    gguf_file_writer_set_u32(writer, key_of(model, "ssm.group_count"),                   SSM_HEADS);
    gguf_file_writer_set_u32(writer, key_of(model, "full_attention_interval"),           4);
}

//
// tensors
//

static void add_tensor(struct gguf_file_writer * writer, const char * name, uint32_t type, uint64_t ne0, uint64_t ne1, uint64_t ne2) {
    const uint64_t ne[MAX_DIMS] = { ne0, ne1, ne2, 1 };
    gguf_file_writer_add_tensor(writer, name, type, ne2 > 0 ? 3 : ne1 > 0 ? 2 : 1, ne);
}

static void add_layer_tensor(struct gguf_file_writer * writer, uint32_t layer, const char * name, uint32_t type, uint64_t ne0, uint64_t ne1, uint64_t ne2) {
    char full_name[64];
    snprintf(full_name, sizeof(full_name), "blk.%u.%s", (unsigned) layer, name);
    add_tensor(writer, full_name, type, ne0, ne1, ne2);
}

static void add_vector(struct gguf_file_writer * writer, uint32_t layer, const char * name, uint64_t n) {
    add_layer_tensor(writer, layer, name, GGUF_FILE_TENSOR_F32, n, 0, 0);
}

static void add_matrix(struct gguf_file_writer * writer, uint32_t layer, const char * name, uint64_t n_in, uint64_t n_out) {
    add_layer_tensor(writer, layer, name, GGUF_FILE_TENSOR_F16, n_in, n_out, 0);
}

static void add_experts(struct gguf_file_writer * writer, const struct oracle_model * model, uint32_t layer) {
    const uint32_t f16 = GGUF_FILE_TENSOR_F16;
    add_layer_tensor(writer, layer, "ffn_gate_inp.weight",  GGUF_FILE_TENSOR_F32, N_EMBD, model->n_expert, 0);
    add_layer_tensor(writer, layer, "ffn_gate_exps.weight", f16, N_EMBD,          model->n_ff_exp, model->n_expert);
    add_layer_tensor(writer, layer, "ffn_up_exps.weight",   f16, N_EMBD,          model->n_ff_exp, model->n_expert);
    add_layer_tensor(writer, layer, "ffn_down_exps.weight", f16, model->n_ff_exp, N_EMBD,          model->n_expert);
}

static void add_layer_mixtral(struct gguf_file_writer * writer, const struct oracle_model * model, uint32_t layer) {
    add_vector (writer, layer, "attn_norm.weight",   N_EMBD);
    add_matrix (writer, layer, "attn_q.weight",      N_EMBD, N_EMBD_HEAD*N_HEAD);
    add_matrix (writer, layer, "attn_k.weight",      N_EMBD, N_EMBD_HEAD*N_HEAD_KV);
    add_matrix (writer, layer, "attn_v.weight",      N_EMBD, N_EMBD_HEAD*N_HEAD_KV);
    add_matrix (writer, layer, "attn_output.weight", N_EMBD_HEAD*N_HEAD, N_EMBD);
    add_vector (writer, layer, "ffn_norm.weight",    N_EMBD);
    add_experts(writer, model, layer);
}

static void add_layer_gpt_oss(struct gguf_file_writer * writer, const struct oracle_model * model, uint32_t layer) {
    const uint32_t f32 = GGUF_FILE_TENSOR_F32;
    add_vector (writer, layer, "attn_norm.weight",           N_EMBD);
    add_matrix (writer, layer, "attn_q.weight",              N_EMBD, N_EMBD_HEAD*N_HEAD);
    add_vector (writer, layer, "attn_q.bias",                N_EMBD_HEAD*N_HEAD);
    add_matrix (writer, layer, "attn_k.weight",              N_EMBD, N_EMBD_HEAD*N_HEAD_KV);
    add_vector (writer, layer, "attn_k.bias",                N_EMBD_HEAD*N_HEAD_KV);
    add_matrix (writer, layer, "attn_v.weight",              N_EMBD, N_EMBD_HEAD*N_HEAD_KV);
    add_vector (writer, layer, "attn_v.bias",                N_EMBD_HEAD*N_HEAD_KV);
    add_matrix (writer, layer, "attn_output.weight",         N_EMBD_HEAD*N_HEAD, N_EMBD);
    add_vector (writer, layer, "attn_output.bias",           N_EMBD);
    add_vector (writer, layer, "attn_sinks.weight",          N_HEAD);
    add_vector (writer, layer, "post_attention_norm.weight", N_EMBD);
    add_experts(writer, model, layer);
    add_vector (writer, layer, "ffn_gate_inp.bias",          model->n_expert);
    add_layer_tensor(writer, layer, "ffn_gate_exps.bias", f32, model->n_ff_exp, model->n_expert, 0);
    add_layer_tensor(writer, layer, "ffn_up_exps.bias",   f32, model->n_ff_exp, model->n_expert, 0);
    add_layer_tensor(writer, layer, "ffn_down_exps.bias", f32, N_EMBD,          model->n_expert, 0);
}

static void add_layer_qwen3next(struct gguf_file_writer * writer, const struct oracle_model * model, uint32_t layer) {
    add_vector(writer, layer, "attn_norm.weight",           N_EMBD);
    add_vector(writer, layer, "post_attention_norm.weight", N_EMBD);
    if ((layer + 1) % 4 == 0) {
        add_matrix(writer, layer, "attn_q.weight",      N_EMBD, N_EMBD_HEAD*N_HEAD*2); // with its gate
        add_matrix(writer, layer, "attn_k.weight",      N_EMBD, N_EMBD_HEAD*N_HEAD_KV);
        add_matrix(writer, layer, "attn_v.weight",      N_EMBD, N_EMBD_HEAD*N_HEAD_KV);
        add_matrix(writer, layer, "attn_output.weight", N_EMBD_HEAD*N_HEAD, N_EMBD);
        add_vector(writer, layer, "attn_q_norm.weight", N_EMBD_HEAD);
        add_vector(writer, layer, "attn_k_norm.weight", N_EMBD_HEAD);
    } else {
        add_matrix(writer, layer, "attn_qkv.weight",  N_EMBD, 3*SSM_INNER);
        add_matrix(writer, layer, "attn_gate.weight", N_EMBD, SSM_INNER);
        add_layer_tensor(writer, layer, "ssm_conv1d.weight", GGUF_FILE_TENSOR_F32, SSM_CONV, 3*SSM_INNER, 0);
        add_vector(writer, layer, "ssm_dt.bias",      SSM_HEADS);
        add_vector(writer, layer, "ssm_a",            SSM_HEADS);
        add_matrix(writer, layer, "ssm_ba.weight",    N_EMBD, 2*SSM_HEADS);
        add_vector(writer, layer, "ssm_norm.weight",  SSM_STATE);
        add_matrix(writer, layer, "ssm_out.weight",   SSM_INNER, N_EMBD);
    }
    add_experts(writer, model, layer);
    add_vector(writer, layer, "ffn_gate_inp_shexp.weight", N_EMBD);
    add_matrix(writer, layer, "ffn_gate_shexp.weight",     N_EMBD, model->n_ff_exp);
    add_matrix(writer, layer, "ffn_up_shexp.weight",       N_EMBD, model->n_ff_exp);
    add_matrix(writer, layer, "ffn_down_shexp.weight",     model->n_ff_exp, N_EMBD);
}

//
// data: what is not written here is zero
//

static float * new_floats(uint64_t n) {
    float * values = calloc(n, sizeof(*values));
    if (values == NULL) {
        fprintf(stderr, "oracle-model: no memory\n");
        exit(1);
    }
    return values;
}

// what a norm makes of the one place of an embedding that is not zero
static double normed(void) {
    return sqrt((double) N_EMBD);
}

static void fill_embeddings(float * values) {
    for (uint32_t token = 0; token < ORACLE_N_VOCAB; token++) {
        values[token*N_EMBD + token] = EMBEDDING;
    }
}

static void fill_output(float * values) {
    for (uint32_t token = 0; token < ORACLE_N_VOCAB; token++) {
        values[oracle_next(token)*N_EMBD + token] = (float) (NEXT_LOGIT/normed());
    }
}

static void fill_router(float * values, const struct oracle_model * model, uint32_t layer) {
    for (uint32_t token = 0; token < ORACLE_N_VOCAB; token++) {
        for (uint32_t rank = 0; rank < model->n_expert_used; rank++) {
            const uint32_t expert = oracle_expert(layer, token, rank, model->n_expert);
            values[expert*N_EMBD + token] = (float) (oracle_logit(rank, model->n_expert_used)/normed());
        }
    }
}

static void fill_ones(float * values, uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        values[i] = 1.0f;
    }
}

static bool ends_with(const char * text, const char * end) {
    return strlen(text) >= strlen(end) && strcmp(text + strlen(text) - strlen(end), end) == 0;
}

static void write_tensor(struct gguf_file_writer * writer, const struct oracle_model * model, int64_t i_tensor) {
    const struct gguf_file_tensor * tensor = gguf_file_writer_tensor(writer, i_tensor);
    unsigned                        layer  = 0;
    const bool is_router = ends_with(tensor->name, ".ffn_gate_inp.weight") && sscanf(tensor->name, "blk.%u.", &layer) == 1;
    const bool is_norm   = ends_with(tensor->name, "norm.weight");
    const bool is_input  = strcmp(tensor->name, "token_embd.weight") == 0;
    const bool is_output = strcmp(tensor->name, "output.weight")     == 0;
    if (!is_router && !is_norm && !is_input && !is_output) {
        return;
    }
    const uint64_t n      = gguf_file_n_elements(tensor);
    float *        values = new_floats(n);
    if (is_router) {
        fill_router(values, model, layer);
    } else if (is_norm) {
        fill_ones(values, n);
    } else if (is_input) {
        fill_embeddings(values);
    } else {
        fill_output(values);
    }
    gguf_file_writer_write(writer, i_tensor, 0, values, n*sizeof(*values));
    free(values);
}

static bool write_model(const struct oracle_model * model, const char * path) {
    struct gguf_file_writer * writer = gguf_file_writer_new(path);
    if (writer == NULL) {
        fprintf(stderr, "oracle-model: no memory\n");
        return false;
    }
    add_common_keys(writer, model);
    model->add_keys(writer, model);
    byte_tokenizer_write(writer, ORACLE_N_VOCAB);

    add_tensor(writer, "token_embd.weight",  GGUF_FILE_TENSOR_F32, N_EMBD, ORACLE_N_VOCAB, 0);
    add_tensor(writer, "output_norm.weight", GGUF_FILE_TENSOR_F32, N_EMBD, 0,              0);
    add_tensor(writer, "output.weight",      GGUF_FILE_TENSOR_F32, N_EMBD, ORACLE_N_VOCAB, 0);
    for (uint32_t layer = 0; layer < model->n_layer; layer++) {
        model->add_layer(writer, model, layer);
    }
    for (int64_t i = 0; gguf_file_writer_tensor(writer, i) != NULL; i++) {
        write_tensor(writer, model, i);
    }
    char error[1024];
    if (!gguf_file_writer_finish(writer, error, sizeof(error))) {
        fprintf(stderr, "oracle-model: %s\n", error);
        return false;
    }
    return true;
}

//
// The promises of oracle.h, kept before a model is written
//

static bool reaches_all_experts(const struct oracle_model * model, uint32_t layer) {
    bool * reached = calloc(model->n_expert, sizeof(*reached));
    if (reached == NULL) {
        return false;
    }
    uint32_t n_reached = 0;
    for (uint32_t token = 0; token < ORACLE_N_VOCAB; token++) {
        for (uint32_t rank = 0; rank < model->n_expert_used; rank++) {
            bool * expert = &reached[oracle_expert(layer, token, rank, model->n_expert)];
            n_reached += !*expert;
            *expert    = true;
        }
    }
    free(reached);
    return n_reached == model->n_expert;
}

static bool chooses(const struct oracle_model * model, uint32_t layer, uint32_t token, uint32_t expert) {
    for (uint32_t rank = 0; rank < model->n_expert_used; rank++) {
        if (oracle_expert(layer, token, rank, model->n_expert) == expert) {
            return true;
        }
    }
    return false;
}

static bool layers_differ(const struct oracle_model * model, uint32_t a, uint32_t b) {
    for (uint32_t token = 0; token < ORACLE_N_VOCAB; token++) {
        for (uint32_t rank = 0; rank < model->n_expert_used; rank++) {
            if (!chooses(model, b, token, oracle_expert(a, token, rank, model->n_expert))) {
                return true;
            }
        }
    }
    return false;
}

static bool keeps_promises(const struct oracle_model * model) {
    for (uint32_t layer = 0; layer < model->n_layer; layer++) {
        if (!reaches_all_experts(model, layer)) {
            fprintf(stderr, "oracle-model: %s: layer %u does not reach all experts\n", model->kind, (unsigned) layer);
            return false;
        }
        for (uint32_t other = 0; other < layer; other++) {
            if (!layers_differ(model, layer, other)) {
                fprintf(stderr, "oracle-model: %s: layers %u and %u choose alike\n", model->kind, (unsigned) other, (unsigned) layer);
                return false;
            }
        }
    }
    return true;
}

static const struct oracle_model models[] = {
    { "mixtral",   "llama",     "Oracle Mixtral 32x8",       32,   8,  2, 32, add_keys_mixtral,   add_layer_mixtral   },
    { "gpt-oss",   "gpt-oss",   "Oracle GPT-OSS 36x128",     36, 128,  4, 32, add_keys_gpt_oss,   add_layer_gpt_oss   },
    { "qwen3next", "qwen3next", "Oracle Qwen3-Next 48x512",  48, 512, 10, 16, add_keys_qwen3next, add_layer_qwen3next },
};

int main(int argc, char ** argv) {
    for (size_t i = 0; argc == 3 && i < sizeof(models)/sizeof(models[0]); i++) {
        if (strcmp(argv[1], models[i].kind) == 0) {
            return keeps_promises(&models[i]) && write_model(&models[i], argv[2]) ? 0 : 1;
        }
    }
    fprintf(stderr, "usage: oracle-model mixtral|gpt-oss|qwen3next OUT.gguf\n");
    return 2;
}
