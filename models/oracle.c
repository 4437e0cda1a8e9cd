// Writes an oracle model: its keys, and a matrix of each kind with nothing but what its routing needs.

#include "oracle.h"

#include "byte-tokenizer.h"
#include "gguf/gguf-writer.h"
#include "oracle-models.h"
#include "token-row.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EMBEDDING   16.0f // large beside the epsilon of the norm
#define NEXT_LOGIT  64.0

#define MAX_DIMS GGUF_FILE_MAX_DIMS

struct architecture {
    const char * name;
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
    const struct oracle_attention * attention = &model->attention;

    gguf_file_writer_set_string(writer, "general.architecture", model->architecture);
    gguf_file_writer_set_string(writer, "general.name",         model->name);
    gguf_file_writer_set_u32   (writer, "general.file_type",    model->types->file_type);

    gguf_file_writer_set_u32(writer, key_of(model, "vocab_size"),                       model->n_vocab);
    gguf_file_writer_set_u32(writer, key_of(model, "context_length"),                   model->n_ctx);
    gguf_file_writer_set_u32(writer, key_of(model, "embedding_length"),                 model->n_embd);
    gguf_file_writer_set_u32(writer, key_of(model, "block_count"),                      model->n_layer);
    gguf_file_writer_set_u32(writer, key_of(model, "feed_forward_length"),              model->n_ff);
    gguf_file_writer_set_u32(writer, key_of(model, "attention.head_count"),             attention->n_head);
    gguf_file_writer_set_u32(writer, key_of(model, "attention.head_count_kv"),          attention->n_head_kv);
    gguf_file_writer_set_u32(writer, key_of(model, "attention.key_length"),             attention->n_embd_head);
    gguf_file_writer_set_u32(writer, key_of(model, "attention.value_length"),           attention->n_embd_head);
    gguf_file_writer_set_f32(writer, key_of(model, "attention.layer_norm_rms_epsilon"), model->epsilon);
    gguf_file_writer_set_u32(writer, key_of(model, "rope.dimension_count"),             attention->n_rot);
    gguf_file_writer_set_f32(writer, key_of(model, "rope.freq_base"),                   attention->rope_base);
    gguf_file_writer_set_u32(writer, key_of(model, "expert_count"),                     model->n_expert);
    gguf_file_writer_set_u32(writer, key_of(model, "expert_used_count"),                model->n_expert_used);
    if (attention->rope_factor > 0) {
        gguf_file_writer_set_string(writer, key_of(model, "rope.scaling.type"),                    "yarn");
        gguf_file_writer_set_f32   (writer, key_of(model, "rope.scaling.factor"),
                                    attention->rope_factor);
        gguf_file_writer_set_u32   (writer, key_of(model, "rope.scaling.original_context_length"),
                                    attention->n_ctx_orig);
    }
}

static void add_keys_llama(struct gguf_file_writer * writer, const struct oracle_model * model) {
    (void) writer;
    (void) model;
}

static void add_keys_gpt_oss(struct gguf_file_writer * writer, const struct oracle_model * model) {
    gguf_file_writer_set_u32(writer, key_of(model, "expert_feed_forward_length"), model->n_ff_exp);
    gguf_file_writer_set_u32(writer, key_of(model, "attention.sliding_window"),   model->attention.n_window);
}

static void add_keys_qwen3next(struct gguf_file_writer * writer, const struct oracle_model * model) {
    const struct oracle_linear_attention * linear = &model->linear;
    gguf_file_writer_set_u32(writer, key_of(model, "expert_feed_forward_length"),        model->n_ff_exp);
    gguf_file_writer_set_u32(writer, key_of(model, "expert_shared_feed_forward_length"), model->n_ff_exp);
    gguf_file_writer_set_u32(writer, key_of(model, "expert_shared_count"),               1);
    gguf_file_writer_set_u32(writer, key_of(model, "ssm.conv_kernel"),                   linear->n_conv);
    gguf_file_writer_set_u32(writer, key_of(model, "ssm.inner_size"),
                             linear->n_head_v*linear->n_state);
    gguf_file_writer_set_u32(writer, key_of(model, "ssm.state_size"),                    linear->n_state);
    gguf_file_writer_set_u32(writer, key_of(model, "ssm.time_step_rank"),                linear->n_head_v);
    gguf_file_writer_set_u32(writer, key_of(model, "ssm.group_count"),                   linear->n_head_k);
    gguf_file_writer_set_u32(writer, key_of(model, "full_attention_interval"),           linear->n_interval);
}

static void add_keys_qwen3moe(struct gguf_file_writer * writer, const struct oracle_model * model) {
    gguf_file_writer_set_u32(writer, key_of(model, "expert_feed_forward_length"), model->n_ff_exp);
}

//
// tensors
//

static void add_tensor(struct gguf_file_writer * writer, const char * name, enum oracle_type type, uint64_t ne0,
                       uint64_t ne1, uint64_t ne2) {
    const uint64_t ne[MAX_DIMS] = { ne0, ne1, ne2, 1 };
    gguf_file_writer_add_tensor(writer, name, type, ne2 > 0 ? 3 : ne1 > 0 ? 2 : 1, ne);
}

static void add_layer_tensor(struct gguf_file_writer * writer, uint32_t layer, const char * name, enum oracle_type type,
                             uint64_t ne0, uint64_t ne1, uint64_t ne2) {
    char full_name[64];
    snprintf(full_name, sizeof(full_name), "blk.%u.%s", (unsigned) layer, name);
    add_tensor(writer, full_name, type, ne0, ne1, ne2);
}

static void add_vector(struct gguf_file_writer * writer, uint32_t layer, const char * name, uint64_t n) {
    add_layer_tensor(writer, layer, name, ORACLE_F32, n, 0, 0);
}

static void add_matrix(struct gguf_file_writer * writer, uint32_t layer, const char * name, enum oracle_type type,
                       uint64_t n_in, uint64_t n_out) {
    add_layer_tensor(writer, layer, name, type, n_in, n_out, 0);
}

static void add_experts(struct gguf_file_writer * writer, const struct oracle_model * model, uint32_t layer) {
    const enum oracle_type type = model->types->experts;
    add_layer_tensor(writer, layer, "ffn_gate_inp.weight",  ORACLE_F32, model->n_embd, model->n_expert, 0);
    add_layer_tensor(writer, layer, "ffn_gate_exps.weight", type, model->n_embd,   model->n_ff_exp, model->n_expert);
    add_layer_tensor(writer, layer, "ffn_up_exps.weight",   type, model->n_embd,   model->n_ff_exp, model->n_expert);
    add_layer_tensor(writer, layer, "ffn_down_exps.weight", type, model->n_ff_exp, model->n_embd,   model->n_expert);
}

static void add_layer_llama(struct gguf_file_writer * writer, const struct oracle_model * model, uint32_t layer) {
    const struct oracle_types * types  = model->types;
    const uint64_t              n_embd = model->n_embd;
    const uint64_t              n_q    = (uint64_t) model->attention.n_embd_head*model->attention.n_head;
    const uint64_t              n_kv   = (uint64_t) model->attention.n_embd_head*model->attention.n_head_kv;
    add_vector (writer, layer, "attn_norm.weight",   n_embd);
    add_matrix (writer, layer, "attn_q.weight",      types->matrices, n_embd, n_q);
    add_matrix (writer, layer, "attn_k.weight",      types->kv,       n_embd, n_kv);
    add_matrix (writer, layer, "attn_v.weight",      types->kv,       n_embd, n_kv);
    add_matrix (writer, layer, "attn_output.weight", types->matrices, n_q,    n_embd);
    add_vector (writer, layer, "ffn_norm.weight",    n_embd);
    add_experts(writer, model, layer);
}

static void add_layer_gpt_oss(struct gguf_file_writer * writer, const struct oracle_model * model, uint32_t layer) {
    const struct oracle_types * types  = model->types;
    const uint64_t              n_embd = model->n_embd;
    const uint64_t              n_q    = (uint64_t) model->attention.n_embd_head*model->attention.n_head;
    const uint64_t              n_kv   = (uint64_t) model->attention.n_embd_head*model->attention.n_head_kv;
    add_vector (writer, layer, "attn_norm.weight",           n_embd);
    add_matrix (writer, layer, "attn_q.weight",              types->matrices, n_embd, n_q);
    add_vector (writer, layer, "attn_q.bias",                n_q);
    add_matrix (writer, layer, "attn_k.weight",              types->kv,       n_embd, n_kv);
    add_vector (writer, layer, "attn_k.bias",                n_kv);
    add_matrix (writer, layer, "attn_v.weight",              types->kv,       n_embd, n_kv);
    add_vector (writer, layer, "attn_v.bias",                n_kv);
    add_matrix (writer, layer, "attn_output.weight",         types->matrices, n_q,    n_embd);
    add_vector (writer, layer, "attn_output.bias",           n_embd);
    add_vector (writer, layer, "attn_sinks.weight",          model->attention.n_head);
    add_vector (writer, layer, "post_attention_norm.weight", n_embd);
    add_experts(writer, model, layer);
    add_vector (writer, layer, "ffn_gate_inp.bias",          model->n_expert);
    add_matrix (writer, layer, "ffn_gate_exps.bias", ORACLE_F32, model->n_ff_exp, model->n_expert);
    add_matrix (writer, layer, "ffn_up_exps.bias",   ORACLE_F32, model->n_ff_exp, model->n_expert);
    add_matrix (writer, layer, "ffn_down_exps.bias", ORACLE_F32, n_embd,          model->n_expert);
}

static void add_layer_qwen3next(struct gguf_file_writer * writer, const struct oracle_model * model, uint32_t layer) {
    const struct oracle_types *            types  = model->types;
    const struct oracle_linear_attention * linear = &model->linear;
    const uint64_t                         n_embd = model->n_embd;
    add_vector(writer, layer, "attn_norm.weight",           n_embd);
    add_vector(writer, layer, "post_attention_norm.weight", n_embd);
    if ((layer + 1) % linear->n_interval == 0) {
        const uint64_t n_head = model->attention.n_embd_head;
        const uint64_t n_q    = n_head*model->attention.n_head;
        const uint64_t n_kv   = n_head*model->attention.n_head_kv;
        add_matrix(writer, layer, "attn_q.weight",      types->matrices, n_embd, n_q*2); // with its gate
        add_matrix(writer, layer, "attn_k.weight",      types->kv,       n_embd, n_kv);
        add_matrix(writer, layer, "attn_v.weight",      types->kv,       n_embd, n_kv);
        add_matrix(writer, layer, "attn_output.weight", types->matrices, n_q,    n_embd);
        add_vector(writer, layer, "attn_q_norm.weight", n_head);
        add_vector(writer, layer, "attn_k_norm.weight", n_head);
    } else {
        const uint64_t n_k = (uint64_t) linear->n_state*linear->n_head_k;
        const uint64_t n_v = (uint64_t) linear->n_state*linear->n_head_v;
        add_matrix(writer, layer, "attn_qkv.weight",    types->matrices, n_embd,         2*n_k + n_v);
        add_matrix(writer, layer, "attn_gate.weight",   types->matrices, n_embd,         n_v);
        add_matrix(writer, layer, "ssm_conv1d.weight",  ORACLE_F32,      linear->n_conv, 2*n_k + n_v);
        add_vector(writer, layer, "ssm_dt.bias",        linear->n_head_v);
        add_vector(writer, layer, "ssm_a",              linear->n_head_v);
        add_matrix(writer, layer, "ssm_ba.weight",      types->matrices, n_embd,         2*linear->n_head_v);
        add_vector(writer, layer, "ssm_norm.weight",    linear->n_state);
        add_matrix(writer, layer, "ssm_out.weight",     types->matrices, n_v,            n_embd);
    }
    add_experts(writer, model, layer);
    add_vector(writer, layer, "ffn_gate_inp_shexp.weight", n_embd);
    add_matrix(writer, layer, "ffn_gate_shexp.weight",     types->matrices, n_embd,          model->n_ff_exp);
    add_matrix(writer, layer, "ffn_up_shexp.weight",       types->matrices, n_embd,          model->n_ff_exp);
    add_matrix(writer, layer, "ffn_down_shexp.weight",     types->matrices, model->n_ff_exp, n_embd);
}

static void add_layer_qwen3moe(struct gguf_file_writer * writer, const struct oracle_model * model, uint32_t layer) {
    add_layer_llama(writer, model, layer);
    add_vector(writer, layer, "attn_q_norm.weight", model->attention.n_embd_head);
    add_vector(writer, layer, "attn_k_norm.weight", model->attention.n_embd_head);
}

static const struct architecture architectures[] = {
    { "llama",     add_keys_llama,     add_layer_llama     },
    { "gpt-oss",   add_keys_gpt_oss,   add_layer_gpt_oss   },
    { "qwen3next", add_keys_qwen3next, add_layer_qwen3next },
    { "qwen3moe",  add_keys_qwen3moe,  add_layer_qwen3moe  },
};

static const struct architecture * architecture_of(const struct oracle_model * model) {
    for (size_t i = 0; i < sizeof(architectures)/sizeof(architectures[0]); i++) {
        if (strcmp(architectures[i].name, model->architecture) == 0) {
            return &architectures[i];
        }
    }
    fprintf(stderr, "oracle-model: %s: architecture %s cannot be written\n", model->kind, model->architecture);
    exit(1);
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
static double normed(const struct oracle_model * model) {
    return sqrt((double) model->n_embd);
}

// These three get a row of values for each token or expert, with a place for each token.

static void fill_embeddings(float * values) {
    for (uint32_t token = 0; token < ORACLE_N_TOKENS; token++) {
        values[token*ORACLE_N_TOKENS + token] = EMBEDDING;
    }
}

static void fill_output(float * values, const struct oracle_model * model) {
    for (uint32_t token = 0; token < ORACLE_N_TOKENS; token++) {
        values[oracle_next(token)*ORACLE_N_TOKENS + token] = (float) (NEXT_LOGIT/normed(model));
    }
}

static void fill_router(float * values, const struct oracle_model * model, uint32_t layer) {
    for (uint32_t token = 0; token < ORACLE_N_TOKENS; token++) {
        for (uint32_t rank = 0; rank < model->n_expert_used; rank++) {
            const uint32_t expert = oracle_expert(layer, token, rank, model->n_expert);
            values[expert*ORACLE_N_TOKENS + token] = (float) (oracle_logit(rank, model->n_expert_used)/normed(model));
        }
    }
}

// Places behind those of tokens and rows behind the last one stay zero.
static void write_rows(struct gguf_file_writer * writer, int64_t i_tensor, const float * values, uint32_t n_rows) {
    const struct gguf_file_tensor * tensor   = gguf_file_writer_tensor(writer, i_tensor);
    const uint64_t                  row_size = tensor->nbytes/tensor->ne[1];
    for (uint32_t row = 0; row < n_rows; row++) {
        uint8_t      bytes[TOKEN_ROW_MAX_BYTES];
        const size_t size = token_row_encode(tensor->type, values + row*ORACLE_N_TOKENS, bytes);
        gguf_file_writer_write(writer, i_tensor, row*row_size, bytes, size);
    }
}

static void write_ones(struct gguf_file_writer * writer, int64_t i_tensor) {
    const uint64_t n      = gguf_file_n_elements(gguf_file_writer_tensor(writer, i_tensor));
    float *        values = new_floats(n);
    for (uint64_t i = 0; i < n; i++) {
        values[i] = 1.0f;
    }
    gguf_file_writer_write(writer, i_tensor, 0, values, n*sizeof(*values));
    free(values);
}

static bool ends_with(const char * text, const char * end) {
    return strlen(text) >= strlen(end) && strcmp(text + strlen(text) - strlen(end), end) == 0;
}

static void write_tensor(struct gguf_file_writer * writer, const struct oracle_model * model, int64_t i_tensor) {
    const char *   name      = gguf_file_writer_tensor(writer, i_tensor)->name;
    unsigned       layer     = 0;
    const bool     is_router = ends_with(name, ".ffn_gate_inp.weight") && sscanf(name, "blk.%u.", &layer) == 1;
    const bool     is_input  = strcmp(name, "token_embd.weight") == 0;
    const bool     is_output = strcmp(name, "output.weight")     == 0;
    if (ends_with(name, "norm.weight")) {
        write_ones(writer, i_tensor);
    }
    if (!is_router && !is_input && !is_output) {
        return;
    }
    const uint32_t n_rows = is_router ? model->n_expert : ORACLE_N_TOKENS;
    float *        values = new_floats((uint64_t) n_rows*ORACLE_N_TOKENS);
    if (is_router) {
        fill_router(values, model, layer);
    } else if (is_input) {
        fill_embeddings(values);
    } else {
        fill_output(values, model);
    }
    write_rows(writer, i_tensor, values, n_rows);
    free(values);
}

static bool write_model(const struct oracle_model * model, const char * path) {
    const struct architecture * architecture = architecture_of(model);
    struct gguf_file_writer *   writer       = gguf_file_writer_new(path);
    if (writer == NULL) {
        fprintf(stderr, "oracle-model: no memory\n");
        return false;
    }
    add_common_keys(writer, model);
    architecture->add_keys(writer, model);
    byte_tokenizer_write(writer, model->n_vocab);

    add_tensor(writer, "token_embd.weight",  model->types->input,  model->n_embd, model->n_vocab, 0);
    add_tensor(writer, "output_norm.weight", ORACLE_F32,           model->n_embd, 0,              0);
    add_tensor(writer, "output.weight",      model->types->output, model->n_embd, model->n_vocab, 0);
    for (uint32_t layer = 0; layer < model->n_layer; layer++) {
        architecture->add_layer(writer, model, layer);
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
    for (uint32_t token = 0; token < ORACLE_N_TOKENS; token++) {
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
    for (uint32_t token = 0; token < ORACLE_N_TOKENS; token++) {
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
                fprintf(stderr, "oracle-model: %s: layers %u and %u choose alike\n", model->kind,
                        (unsigned) other, (unsigned) layer);
                return false;
            }
        }
    }
    return true;
}

int main(int argc, char ** argv) {
    const struct oracle_model * model = argc == 3 ? oracle_model_of(argv[1]) : NULL;
    if (model == NULL) {
        fprintf(stderr, "usage: oracle-model KIND OUT.gguf\nkinds:");
        for (uint32_t i = 0; oracle_model_at(i) != NULL; i++) {
            fprintf(stderr, " %s", oracle_model_at(i)->kind);
        }
        fprintf(stderr, "\n");
        return 2;
    }
    return keeps_promises(model) && write_model(model, argv[2]) ? 0 : 1;
}
