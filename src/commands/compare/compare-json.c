// Writes the values of a comparison as JSON.

#include "commands/compare/compare-json.h"

#include "commands/compare/compare-verdict.h"
#include "commands/routing-json.h"
#include "tool/json-values.h"

#include <math.h>
#include <stdlib.h>

static json_t * json_file(const struct routing_counts * counts, const char * name) {
    return json_pack("{s:o, s:o, s:o, s:o}", "file", json_value_text(routing_counts_name(counts)),
                     "name", json_value_text(name),
                     "model", routing_json_model(&counts->model), "tokens", routing_json_tokens(&counts->tokens));
}

static json_t * json_noise(const struct compare_layer * mean) {
    if (isnan(mean->noise_a) && isnan(mean->noise_b)) {
        return json_null();
    }
    return json_pack("{s:o, s:o}", "a", json_value_real(mean->noise_a), "b", json_value_real(mean->noise_b));
}

static json_t * json_hot(const struct compare_hot * hot) {
    return json_pack("{s:f, s:o, s:o, s:o, s:o}", "share", hot->share,
                     "a_on_b", json_value_real(hot->a_on_b), "b_on_b", json_value_real(hot->b_on_b),
                     "b_on_a", json_value_real(hot->b_on_a), "a_on_a", json_value_real(hot->a_on_a));
}

static json_t * json_layer(int32_t number, const struct compare_layer * layer) {
    return json_pack("{s:i, s:o, s:o, s:o, s:o}", "layer", (int) number,
                     "divergence", json_value_real(layer->divergence), "overlap", json_value_real(layer->overlap),
                     "noise_a",    json_value_real(layer->noise_a),    "noise_b", json_value_real(layer->noise_b));
}

static json_t * json_expert(const struct compare_expert * expert) {
    return json_pack("{s:i, s:o, s:f, s:f}", "layer", (int) expert->layer, "expert", json_value_count(expert->expert),
                     "a", expert->a, "b", expert->b);
}

static const char * const sharings[] = {
    [COMPARE_UNKNOWN] = NULL,      [COMPARE_SHARE]     = "share", [COMPARE_A_FOR_B]   = "a for b",
    [COMPARE_B_FOR_A] = "b for a", [COMPARE_NOT]       = "not",   [COMPARE_TOO_CLOSE] = "too close",
};

static json_t * json_pair(const struct compare_answer * comparison, const struct compare_pair * pair) {
    const struct routing_counts * first   = comparison->files[0];
    json_t                      * hot     = json_array();
    json_t                      * layers  = json_array();
    json_t                      * experts = json_array();
    for (size_t i = 0; i < COMPARE_N_HOT; i++) {
        json_array_append_new(hot, json_hot(&pair->hot[i]));
    }
    for (size_t i = 0; i < first->n_layers; i++) {
        json_array_append_new(layers, json_layer(first->layers[i].layer, &pair->layers[i]));
    }
    for (size_t i = 0; i < pair->n_experts; i++) {
        json_array_append_new(experts, json_expert(&pair->experts[i]));
    }
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:s?, s:o, s:o, s:o}",
                     "a", json_value_count(pair->a), "b", json_value_count(pair->b),
                     "divergence", json_value_real(pair->mean.divergence),
                     "overlap",    json_value_real(pair->mean.overlap),
                     "noise", json_noise(&pair->mean),
                     "sharing", sharings[pair->sharing], "hot_set", hot, "layers", layers, "experts", experts);
}

static json_t * json_counts(const struct routing_counts * counts) {
    json_t * array = json_array();
    for (size_t i = 0; i < counts->n_layers; i++) {
        const struct counted_layer * layer = &counts->layers[i];
        json_array_append_new(array, json_value_counts(layer->activations[COUNTED_ALL], layer->n_expert));
    }
    return array;
}

static json_t * json_matrix(const struct compare_answer * comparison) {
    const size_t n     = comparison->n_files;
    json_t     * array = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(array, json_value_reals(comparison->matrix + i * n, n));
    }
    return array;
}

json_t * compare_json(const struct compare_answer * comparison) {
    json_t * files  = json_array();
    json_t * pairs  = json_array();
    json_t * counts = json_array();
    for (size_t i = 0; i < comparison->n_files; i++) {
        json_array_append_new(files,  json_file  (comparison->files[i], comparison->names[i]));
        json_array_append_new(counts, json_counts(comparison->files[i]));
    }
    for (size_t i = 0; i < comparison->n_pairs; i++) {
        json_array_append_new(pairs, json_pair(comparison, &comparison->pairs[i]));
    }
    char   * verdict = compare_verdict(comparison);
    json_t * json    = json_pack("{s:i, s:o, s:o, s:o, s:o, s:s}", "llama_expert_tracer_compare", 1,
                                 "files", files, "pairs", pairs, "matrix", json_matrix(comparison), "counts", counts,
                                 "verdict", verdict);
    free(verdict);
    return json;
}
