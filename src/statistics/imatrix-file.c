// Counts of experts in an imatrix of llama-imatrix, which is a GGUF file.

#include "statistics/imatrix-file.h"

#include "analysis/counts.h"
#include "gguf/gguf-reader.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Every projection of a layer has the counts of the layer's routing: one of them is enough.
static const char * const projections[] = { "down", "gate_up", "gate", "up" };

#define N_PROJECTIONS (sizeof(projections) / sizeof(projections[0]))

// The counts of blk.<layer>.<what>, NULL: there are none.
static const struct gguf_file_tensor * find_counts(const struct gguf_file * file, uint32_t layer, const char * what) {
    char name[128];
    snprintf(name, sizeof(name), "blk.%u.%s.weight.counts", (unsigned) layer, what);
    return gguf_file_find_tensor(file, name);
}

static const struct gguf_file_tensor * find_expert_counts(const struct gguf_file * file, uint32_t layer) {
    for (size_t i = 0; i < N_PROJECTIONS; i++) {
        char what[64];
        snprintf(what, sizeof(what), "ffn_%s_exps", projections[i]);
        const struct gguf_file_tensor * tensor = find_counts(file, layer, what);
        if (tensor != NULL) {
            return tensor;
        }
    }
    return NULL;
}

// One per tensor is what a conversion from the old format knows.
static bool is_per_expert(const struct gguf_file_tensor * tensor) {
    return gguf_file_n_elements(tensor) > 1;
}

static bool read_count(const struct gguf_file * file, const struct gguf_file_tensor * tensor, size_t i,
                       uint64_t * count,
                       struct error * error) {
    const char * path = gguf_file_path(file);
    float        value;
    if (!gguf_file_read(file, tensor, i * sizeof(value), &value, sizeof(value))) {
        return error_set(error,
                         "%s: %s cannot be read: the file became shorter meanwhile, or its disk fails; write it anew "
                                "with llama-imatrix", path, tensor->name);
    }
    if (!(value >= 0.0f && value < 9.0e18f && value == floorf(value))) {
        return error_set(error,
            "%s: element %zu of %s is %g, which is no count: the file is damaged, write it anew with llama-imatrix",
                         path, i, tensor->name, (double) value);
    }
    *count = (uint64_t) value;
    return true;
}

static bool check_shape(const char * path, const struct gguf_file_tensor * tensor, struct error * error) {
    if (tensor->type != GGUF_FILE_TENSOR_F32) {
        const char * type = gguf_file_tensor_type_name(tensor->type);
        return error_set(error,
            "%s: %s is of type %s where llama-imatrix writes f32: this is no imatrix this version can read",
                         path, tensor->name, type == NULL ? "unknown" : type);
    }
    if (gguf_file_n_elements(tensor) > STATISTICS_MAX_EXPERTS) {
        return error_set(error, "%s: %s has %llu elements, more experts than this version can read (%d)",
                         path, tensor->name, (unsigned long long) gguf_file_n_elements(tensor), STATISTICS_MAX_EXPERTS);
    }
    return true;
}

// Tokens that went through layer's router, which is a plain matrix and counts every row.
static bool read_layer_tokens(const struct gguf_file * file, const char * path, uint32_t layer, uint64_t * tokens,
                              struct error * error) {
    const struct gguf_file_tensor * tensor = find_counts(file, layer, "ffn_gate_inp");
    *tokens = 0;
    return tensor == NULL || gguf_file_n_elements(tensor) != 1
        || (check_shape(path, tensor, error) && read_count(file, tensor, 0, tokens, error));
}

static bool has_suffix(const char * text, const char * suffix) {
    const size_t n = strlen(text);
    const size_t m = strlen(suffix);
    return n >= m && strcmp(text + n - m, suffix) == 0;
}

// No matrix of the model sees more rows than there were tokens.
static bool read_total_tokens(const struct gguf_file * file, const char * path, int64_t * total, struct error * error) {
    for (size_t i = 0; i < gguf_file_n_tensors(file); i++) {
        const struct gguf_file_tensor * tensor = gguf_file_tensor(file, i);
        uint64_t tokens = 0;
        if (!has_suffix(tensor->name, ".weight.counts") || gguf_file_n_elements(tensor) != 1) {
            continue;
        }
        if (!check_shape(path, tensor, error) || !read_count(file, tensor, 0, &tokens, error)) {
            return false;
        }
        *total = (int64_t) tokens > *total ? (int64_t) tokens : *total;
    }
    return true;
}

static bool read_layer(struct statistics * statistics, const struct gguf_file * file, uint32_t layer,
                       struct error * error) {
    const struct gguf_file_tensor * tensor = find_expert_counts(file, layer);
    if (tensor == NULL || !is_per_expert(tensor)) {
        return true;
    }

    struct statistics_section * model    = &statistics->model;
    const size_t                n_expert = (size_t) gguf_file_n_elements(tensor);
    uint64_t                  * counts   = statistics_layers_at(&model->per_layer, layer, model->n_expert);
    for (size_t i = 0; i < n_expert; i++) {
        if (!read_count(file, tensor, i, &counts[i], error)) {
            return false;
        }
        if (!counts_add(&model->activations[i], counts[i]) || !counts_add(&model->total_activations, counts[i])) {
            return error_set(error, "%s: the counts add up to more than 2^63 - 1: the file is damaged",
                             statistics->path);
        }
    }
    *statistics_values_at(&statistics->n_expert_per_layer, layer) = (int64_t) n_expert;

    uint64_t tokens;
    if (!read_layer_tokens(file, statistics->path, layer, &tokens, error)) {
        return false;
    }
    const uint64_t routed = counts_sum(counts, n_expert);
    const bool     known  = tokens > 0 && routed > 0 && routed % tokens == 0 && routed / tokens <= n_expert;
    *statistics_values_at(&statistics->n_expert_used_per_layer, layer) =
        known ? (int64_t) (routed / tokens) : STATISTICS_UNKNOWN;
    *statistics_values_at(&model->layer_tokens, layer) = known ? (int64_t) tokens : STATISTICS_UNKNOWN;
    return true;
}

static int64_t largest(const struct statistics_values * values) {
    int64_t max = STATISTICS_UNKNOWN;
    for (size_t i = 0; i < values->n; i++) {
        max = values->values[i] > max ? values->values[i] : max;
    }
    return max;
}

static bool is_known(const struct statistics_values * values) {
    for (size_t i = 0; i < values->n; i++) {
        if (values->values[i] == STATISTICS_UNKNOWN) {
            return false;
        }
    }
    return values->n > 0;
}

static bool differs(const struct statistics_values * values) {
    for (size_t i = 1; i < values->n; i++) {
        if (values->values[i] != values->values[0]) {
            return true;
        }
    }
    return false;
}

static void forget(struct statistics_values * values) {
    free(values->layers);
    free(values->values);
    *values = (struct statistics_values) { 0 };
}

// What is known of every layer is known; what is the same in every layer is told once.
static void conclude(struct statistics * statistics) {
    statistics->n_expert      = largest(&statistics->n_expert_per_layer);
    statistics->n_expert_used = is_known(&statistics->n_expert_used_per_layer)
        ? largest(&statistics->n_expert_used_per_layer) : STATISTICS_UNKNOWN;

    struct statistics_values * const maps[] = { &statistics->n_expert_per_layer, &statistics->n_expert_used_per_layer };
    for (size_t i = 0; i < 2; i++) {
        maps[i]->known = is_known(maps[i]) && differs(maps[i]);
        if (!maps[i]->known) {
            forget(maps[i]);
        }
    }
    statistics->model.layer_tokens.known = is_known(&statistics->model.layer_tokens);
    if (!statistics->model.layer_tokens.known) {
        forget(&statistics->model.layer_tokens);
    }
}

static bool survey(struct statistics * statistics, const struct gguf_file * file, struct error * error) {
    bool found_any = false;
    for (uint32_t layer = 0; layer < STATISTICS_MAX_LAYERS; layer++) {
        const struct gguf_file_tensor * tensor = find_expert_counts(file, layer);
        if (tensor == NULL) {
            continue;
        }
        found_any = true;
        if (!check_shape(statistics->path, tensor, error)) {
            return false;
        }
        const size_t n_expert = is_per_expert(tensor) ? (size_t) gguf_file_n_elements(tensor) : 0;
        statistics->model.n_expert = n_expert > statistics->model.n_expert ? n_expert : statistics->model.n_expert;
    }
    if (!found_any) {
        return error_set(error,
            "%s: an imatrix without counts of experts (no blk.<n>.ffn_*_exps.weight.counts): its model has none, "
                                "or llama-imatrix saw none of them", statistics->path);
    }
    if (statistics->model.n_expert == 0) {
        return error_set(error,
                         "%s: an imatrix with one count per tensor, not per expert: converted from an old .dat file, "
                                "which does not tell; write it anew with llama-imatrix", statistics->path);
    }
    return true;
}

static bool read_all(struct statistics * statistics, const struct gguf_file * file, struct error * error) {
    if (!survey(statistics, file, error)) {
        return false;
    }
    statistics->model.activations     = memory_new(statistics->model.n_expert, sizeof(uint64_t));
    statistics->model.per_layer.known = true;
    for (uint32_t layer = 0; layer < STATISTICS_MAX_LAYERS; layer++) {
        if (!read_layer(statistics, file, layer, error)) {
            return false;
        }
    }
    conclude(statistics);
    return read_total_tokens(file, statistics->path, &statistics->model.total_tokens, error);
}

static bool check_type(const struct gguf_file * file, const char * path, struct error * error) {
    const char * type         = NULL;
    const char * architecture = NULL;
    gguf_file_get_string(file, "general.type", &type);
    gguf_file_get_string(file, "general.architecture", &architecture);
    if (type != NULL && strcmp(type, "imatrix") == 0) {
        return true;
    }
    return error_set(error,
                     "%s: a GGUF file, but %s: give the imatrix that llama-imatrix writes with -o, or statistics of "
                            "`llama-expert-tracer run -o FILE`", path,
                     architecture != NULL || (type != NULL && strcmp(type, "model") == 0)
                     ? "a model, which has no counts" : "no imatrix");
}

struct statistics * imatrix_file_load(const char * path, struct error * error) {
    char               why[512];
    struct gguf_file * file = gguf_file_open(path, why, sizeof(why));
    if (file == NULL) {
        // the reader names the file already
        error_set(error, "%s%s%s", strncmp(why, path, strlen(path)) == 0 ? "" : path,
                  strncmp(why, path, strlen(path)) == 0 ? "" : ": ", why);
        return NULL;
    }

    struct statistics * statistics = statistics_new(path);
    statistics->capture = memory_text("%s", "imatrix");
    if (!check_type(file, path, error) || !read_all(statistics, file, error)) {
        statistics_free(statistics);
        statistics = NULL;
    }
    gguf_file_close(file);
    return statistics;
}
