// Counts of each layer's experts: hot lists as CSV and JSON, and importance for pruning.

#include "commands/export/export-format.h"

#include "analysis/counts.h"
#include "tool/json-values.h"
#include "tool/json-output.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

// What one layer's experts were chosen for. All three formats tell of every expert, also of those that never were.
struct layer_use {
    size_t     n_expert;
    uint64_t * activations; // by expert
    uint64_t * weighed;     // of them, with a gate weight
    double   * weights;     // their sum
};

static void make_room(struct layer_use * use, size_t n_expert) {
    if (n_expert <= use->n_expert) {
        return;
    }
    const size_t more = n_expert - use->n_expert;
    use->activations = memory_resize(use->activations, n_expert, sizeof(*use->activations));
    use->weighed     = memory_resize(use->weighed,     n_expert, sizeof(*use->weighed));
    use->weights     = memory_resize(use->weights,     n_expert, sizeof(*use->weights));
    memset(use->activations + use->n_expert, 0, more * sizeof(*use->activations));
    memset(use->weighed     + use->n_expert, 0, more * sizeof(*use->weighed));
    for (size_t i = use->n_expert; i < n_expert; i++) {
        use->weights[i] = 0.0;
    }
    use->n_expert = n_expert;
}

static void take_row(struct layer_use * use, const struct trace_routing * routing, int32_t row) {
    const uint16_t * experts = export_experts_of(routing, row);
    const float    * weights = export_weights_of(routing, row);
    for (int32_t i = 0; i < routing->n_used; i++) {
        use->activations[experts[i]]++;
        if (weights != NULL) {
            use->weighed[experts[i]]++;
            use->weights[experts[i]] += (double) weights[i];
        }
    }
}

static bool begin_uses(struct trace_export * export, struct error * error) {
    (void) error;
    export->data = memory_new(export->survey->n_layers, sizeof(struct layer_use));
    return true;
}

static bool take_ubatch(struct trace_export * export, const struct export_ubatch * ubatch, struct error * error) {
    (void) error;
    for (size_t i = 0; i < ubatch->n_layers; i++) {
        const struct trace_routing * routing = ubatch->layers[i];
        struct layer_use           * uses    = export->data;
        struct layer_use           * use     = &uses[export_layer_index(export->survey, routing->layer)];
        make_room(use, (size_t) routing->n_expert);
        for (int32_t row = 0; row < routing->n_rows; row++) {
            if (ubatch->is_chosen[export_token_of(routing, row)]) {
                take_row(use, routing, row);
            }
        }
    }
    return true;
}

static bool end_uses(struct trace_export * export, bool ok) {
    struct layer_use * uses = export->data;
    for (size_t i = 0; uses != NULL && i < export->survey->n_layers; i++) {
        free(uses[i].activations);
        free(uses[i].weighed);
        free(uses[i].weights);
    }
    free(uses);
    return ok;
}

// Experts, hottest first; to be freed.
static size_t * rank(const struct layer_use * use) {
    size_t * order = memory_new(use->n_expert, sizeof(*order));
    counts_rank(use->activations, use->n_expert, order);
    return order;
}

//
// hot-csv: the experts of each layer, hottest first
//

static void print_hot_layer(FILE * out, int32_t layer, const struct layer_use * use) {
    const uint64_t total = counts_sum(use->activations, use->n_expert);
    size_t       * order = rank(use);
    for (size_t i = 0; i < use->n_expert; i++) {
        const uint64_t activations = use->activations[order[i]];
        fprintf(out, "%d,%zu,%zu,%llu,%.9g\n", (int) layer, i, order[i], (unsigned long long) activations,
                counts_share(activations, total));
    }
    free(order);
}

static bool end_hot_csv(struct trace_export * export, bool ok, struct error * error) {
    (void) error;
    const struct layer_use * uses = export->data;
    if (ok) {
        fputs("layer,rank,expert,activations,share\n", export->out);
    }
    for (size_t i = 0; ok && i < export->survey->n_layers; i++) {
        print_hot_layer(export->out, export->survey->layers[i], &uses[i]);
    }
    return end_uses(export, ok);
}

const struct export_format export_hot_csv = {
    .name         = "hot-csv",
    .kind         = FILE_KIND_HOT_CSV,
    .needs_survey = true,
    .begin        = begin_uses,
    .ubatch       = take_ubatch,
    .end          = end_hot_csv,
};

//
// hot-json: likewise
//

static void set_hot_layer(json_t * layers, json_t * activations, int32_t layer, const struct layer_use * use) {
    char     key[16];
    json_t * experts = json_array();
    json_t * counts  = json_array();
    size_t * order   = rank(use);
    for (size_t i = 0; i < use->n_expert; i++) {
        json_array_append_new(experts, json_integer((json_int_t) order[i]));
        json_array_append_new(counts,  json_integer((json_int_t) use->activations[order[i]]));
    }
    free(order);
    snprintf(key, sizeof(key), "%d", (int) layer);
    json_object_set_new(layers,      key, experts);
    json_object_set_new(activations, key, counts);
}

static void print_hot_json(const struct trace_export * export) {
    const struct trace_info   * info        = export->info;
    const struct layer_use    * uses        = export->data;
    json_t                    * layers      = json_object();
    json_t                    * activations = json_object();
    for (size_t i = 0; i < export->survey->n_layers; i++) {
        set_hot_layer(layers, activations, export->survey->layers[i], &uses[i]);
    }
    json_t * model = json_pack("{s:o, s:o, s:o}", "name", json_value_text(info->model_name),
                               "architecture", json_value_text(info->architecture),
                               "fingerprint", json_value_text(info->fingerprint));
    json_t * root  = json_pack("{s:i, s:o, s:I, s:o, s:o}", "llama_expert_tracer_hot", 1, "model", model,
                               "tokens", (json_int_t) export->survey->n_tokens, "layers", layers,
                               "activations", activations);
    json_output_put(export->out, root, JSON_COMPACT);
    json_decref(root);
}

static bool end_hot_json(struct trace_export * export, bool ok, struct error * error) {
    (void) error;
    if (ok) {
        print_hot_json(export);
    }
    return end_uses(export, ok);
}

const struct export_format export_hot_json = {
    .name         = "hot-json",
    .kind         = FILE_KIND_HOT_JSON,
    .needs_survey = true,
    .begin        = begin_uses,
    .ubatch       = take_ubatch,
    .end          = end_hot_json,
};

//
// importance: what pruning goes by
//

static void print_importance(FILE * out, int32_t layer, const struct layer_use * use) {
    const uint64_t total   = counts_sum(use->activations, use->n_expert);
    const bool     weighed = counts_sum(use->weighed,     use->n_expert) > 0;
    for (size_t i = 0; i < use->n_expert; i++) {
        fprintf(out, "%d,%zu,%llu,%.9g,", (int) layer, i, (unsigned long long) use->activations[i],
                counts_share(use->activations[i], total));
        if (use->weighed[i] > 0) {
            fprintf(out, "%.9g", use->weights[i] / (double) use->weighed[i]);
        }
        putc(',', out);
        if (weighed) {
            fprintf(out, "%.9g", use->weights[i]);
        }
        putc('\n', out);
    }
}

static bool end_importance(struct trace_export * export, bool ok, struct error * error) {
    (void) error;
    const struct layer_use * uses = export->data;
    if (ok) {
        fputs("layer,expert,activations,share,mean_weight,weight_sum\n", export->out);
    }
    for (size_t i = 0; ok && i < export->survey->n_layers; i++) {
        print_importance(export->out, export->survey->layers[i], &uses[i]);
    }
    return end_uses(export, ok);
}

const struct export_format export_importance = {
    .name         = "importance",
    .kind         = FILE_KIND_IMPORTANCE,
    .needs_survey = true,
    .begin        = begin_uses,
    .ubatch       = take_ubatch,
    .end          = end_importance,
};
