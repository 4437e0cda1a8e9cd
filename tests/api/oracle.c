// What the oracle model routes, from the formulas, and where its file is.

#include "oracle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int32_t oracle_expert(int32_t layer, llama_token token, int32_t rank) {
    const int32_t multiplier = 37 + 2 * (layer / 8);
    const int32_t step       =  1 + 2 * (layer % 2);
    return (multiplier * token + 11 * layer + 5 + step * rank) % ORACLE_N_EXPERT;
}

const char * oracle_path(const char * name) {
    static char  path[4096];
    const char * build = getenv("EXPERT_TRACER_BUILD");
    snprintf(path, sizeof(path), "%s/models/oracle-%s.gguf", build ? build : "build", name);
    return path;
}

struct llama_model * oracle_load(const char * name) {
    struct llama_model * model = llama_model_load_from_file(oracle_path(name), llama_model_default_params());
    assert_non_null(model);
    return model;
}

struct llama_context * oracle_context(struct llama_model * model, uint32_t n_ubatch) {
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx           = 64;
    params.n_batch         = 64;
    params.n_ubatch        = n_ubatch;
    params.n_threads       = 1;
    params.n_threads_batch = 1;
    struct llama_context * ctx = llama_init_from_model(model, params);
    assert_non_null(ctx);
    return ctx;
}

void oracle_evaluate(struct llama_context * ctx, const char * text) {
    llama_token   tokens[64];
    const int32_t n = (int32_t) strlen(text);
    for (int32_t i = 0; i < n; i++) {
        tokens[i] = text[i];
    }
    assert_int_equal(llama_decode(ctx, llama_batch_get_one(tokens, n)), 0);
}

void oracle_assert_counts(const struct expert_tracer_snapshot * snapshot, size_t n_texts, const char * const * texts) {
    uint64_t counts[ORACLE_N_LAYER][ORACLE_N_EXPERT] = { { 0 } };
    uint64_t rows  [ORACLE_N_LAYER]                  = { 0 };
    uint64_t totals[ORACLE_N_EXPERT]                 = { 0 };
    uint64_t n_tokens = 0;
    uint64_t total    = 0;

    for (size_t t = 0; t < n_texts; t++) {
        for (const char * c = texts[t]; *c; c++) {
            n_tokens++;
            // the last layer has the token that asks for logits alone
            for (int32_t layer = 0; layer < ORACLE_N_LAYER - (c[1] != '\0'); layer++) {
                rows[layer]++;
                for (int32_t rank = 0; rank < ORACLE_N_USED; rank++) {
                    const int32_t expert = oracle_expert(layer, *c, rank);
                    counts[layer][expert]++;
                    totals[expert]++;
                    total++;
                }
            }
        }
    }
    assert_non_null(snapshot);
    assert_int_equal(snapshot->n_layer,  ORACLE_N_LAYER);
    assert_int_equal(snapshot->n_expert, ORACLE_N_EXPERT);
    assert_int_equal(snapshot->n_used,   ORACLE_N_USED);
    assert_int_equal(snapshot->n_layers, ORACLE_N_LAYER);
    assert_int_equal(snapshot->total_tokens,      n_tokens);
    assert_int_equal(snapshot->total_activations, total);
    assert_memory_equal(snapshot->activations, totals, sizeof(totals));
    for (int32_t i = 0; i < ORACLE_N_LAYER; i++) {
        const struct expert_tracer_layer * layer = &snapshot->layers[i];
        assert_int_equal(layer->layer,    i);
        assert_int_equal(layer->n_expert, ORACLE_N_EXPERT);
        assert_int_equal(layer->n_used,   ORACLE_N_USED);
        assert_int_equal(layer->n_tokens, rows[i]);
        assert_false    (layer->mtp);
        assert_memory_equal(layer->activations, counts[i], sizeof(counts[i]));
    }
}

static void say_errors_only(enum ggml_log_level level, const char * text, void * user_data) {
    (void) user_data;
    if (level == GGML_LOG_LEVEL_ERROR) {
        fputs(text, stderr);
    }
}

int oracle_group_setup(void ** state) {
    llama_log_set(say_errors_only, NULL);
    ggml_backend_load_all();
    *state = oracle_load("mixtral");
    return 0;
}

int oracle_group_teardown(void ** state) {
    llama_model_free(*state);
    llama_backend_free();
    return 0;
}

bool oracle_file_says(const char * path, const char * what) {
    static char text[65536];
    FILE      * file = fopen(path, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    fclose(file);
    return strstr(text, what) != NULL;
}
