// Formats for simulators of caches, of requests for experts: libcachesim, and SGLang's two of counts.

#include "commands/export/export-format.h"

#include "tool/input/trace-input.h"

#include <stdlib.h>
#include <string.h>

// How often each expert was chosen: of one layer.
struct layer_counts {
    uint64_t * counts;  // by expert
    int32_t  * order;   // experts with a count, in the order of appearance
    size_t     n_order;
    size_t     n_expert;
};

static void make_room(struct layer_counts * layer, size_t n_expert) {
    if (n_expert > layer->n_expert) {
        layer->counts = memory_resize(layer->counts, n_expert, sizeof(*layer->counts));
        layer->order  = memory_resize(layer->order,  n_expert, sizeof(*layer->order));
        memset(layer->counts + layer->n_expert, 0, (n_expert - layer->n_expert) * sizeof(*layer->counts));
        layer->n_expert = n_expert;
    }
}

static void count_row(struct layer_counts * layer, const struct trace_routing * routing, int32_t row) {
    const uint16_t * experts = export_experts_of(routing, row);
    for (int32_t i = 0; i < routing->n_used; i++) {
        make_room(layer, (size_t) experts[i] + 1);
        if (layer->counts[experts[i]]++ == 0) {
            layer->order[layer->n_order++] = experts[i];
        }
    }
}

static void count_rows(struct layer_counts * layer, const struct export_ubatch * ubatch,
                       const struct trace_routing * routing) {
    for (int32_t row = 0; row < routing->n_rows; row++) {
        if (ubatch->is_chosen[export_token_of(routing, row)]) {
            count_row(layer, routing, row);
        }
    }
}

static void clear(struct layer_counts * layer) {
    for (size_t i = 0; i < layer->n_order; i++) {
        layer->counts[layer->order[i]] = 0;
    }
    layer->n_order = 0;
}

static void free_layer(struct layer_counts * layer) {
    free(layer->counts);
    free(layer->order);
}

//
// libcachesim: a request for each expert of a layer that a ubatch needs
//

struct requests {
    struct layer_counts layer;      // of this ubatch
    int64_t             begin;      // microseconds since 1970, of the first ubatch
    bool                has_begun;
    bool                size_known; // of each expert so far
};

static bool begin_requests(struct trace_export * export, struct error * error) {
    (void) error;
    struct requests * requests = memory_new(1, sizeof(*requests));
    requests->size_known = true;
    export->data         = requests;
    fputs("time,obj_id,obj_size,layer,expert,tokens\n", export->out);
    return true;
}

static int64_t expert_size(const struct trace_export * export, const struct trace_ubatch * ubatch, int32_t layer) {
    const bool                 known = ubatch->table >= 0 && (size_t) ubatch->table < export->info->n_tables;
    const struct trace_layer * told  = known ? trace_input_layer(&export->info->tables[ubatch->table], layer) : NULL;
    return told == NULL ? -1 : trace_input_expert_bytes(told);
}

static void print_requests(FILE * out, const struct layer_counts * counts, int64_t seconds, int32_t layer,
                           int64_t size) {
    for (size_t i = 0; i < counts->n_order; i++) {
        const int32_t expert = counts->order[i];
        fprintf(out, "%lld,%lld,%lld,%d,%d,%llu\n", (long long) seconds, (long long) layer * 65536 + expert,
                    (long long) size, (int) layer,
                (int) expert, (unsigned long long) counts->counts[expert]);
    }
}

static bool write_requests(struct trace_export * export, const struct export_ubatch * ubatch, struct error * error) {
    (void) error;
    struct requests * requests = export->data;
    requests->begin     = requests->has_begun ? requests->begin : ubatch->all->time;
    requests->has_begun = true;
    const int64_t seconds = ubatch->all->time < requests->begin ? 0 : (ubatch->all->time - requests->begin) / 1000000;
    for (size_t i = 0; i < ubatch->n_layers; i++) {
        const int32_t layer = ubatch->layers[i]->layer;
        const int64_t size  = expert_size(export, ubatch->all, layer);
        requests->size_known = requests->size_known && size >= 0;
        count_rows(&requests->layer, ubatch, ubatch->layers[i]);
        print_requests(export->out, &requests->layer, seconds, layer, size < 0 ? 1 : size);
        clear(&requests->layer);
    }
    return true;
}

static bool end_requests(struct trace_export * export, bool ok, struct error * error) {
    (void) error;
    struct requests * requests = export->data;
    if (requests == NULL) {
        return ok;
    }
    if (ok && !requests->size_known) {
        error_warning("the size of an expert is not known in every layer, and is 1 there: "
                      "give cachesim --ignore-obj-size 1");
    }
    free_layer(&requests->layer);
    free(requests);
    return ok;
}

const struct export_format export_libcachesim = {
    .name   = "libcachesim",
    .kind   = FILE_KIND_LIBCACHESIM,
    .begin  = begin_requests,
    .ubatch = write_requests,
    .end    = end_requests,
};

//
// sglang: how often each expert was chosen
//

static bool begin_distribution(struct trace_export * export, struct error * error) {
    (void) error;
    export->data = memory_new(export->survey->n_layers, sizeof(struct layer_counts));
    return true;
}

static bool write_distribution(struct trace_export * export, const struct export_ubatch * ubatch,
                               struct error * error) {
    (void) error;
    struct layer_counts * layers = export->data;
    for (size_t i = 0; i < ubatch->n_layers; i++) {
        count_rows(&layers[export_layer_index(export->survey, ubatch->layers[i]->layer)], ubatch, ubatch->layers[i]);
    }
    return true;
}

static void print_distribution(FILE * out, int32_t layer, const struct layer_counts * counts) {
    for (size_t i = 0; i < counts->n_expert; i++) {
        if (counts->counts[i] > 0) {
            fprintf(out, "%d,%zu,%llu\n", (int) layer, i, (unsigned long long) counts->counts[i]);
        }
    }
}

static bool free_distribution(struct trace_export * export, bool ok) {
    struct layer_counts * layers = export->data;
    for (size_t i = 0; layers != NULL && i < export->survey->n_layers; i++) {
        free_layer(&layers[i]);
    }
    free(layers);
    return ok;
}

static bool end_distribution(struct trace_export * export, bool ok, struct error * error) {
    (void) error;
    const struct layer_counts * layers = export->data;
    if (ok) {
        fputs("layer_id,expert_id,count\n", export->out);
    }
    for (size_t i = 0; ok && i < export->survey->n_layers; i++) {
        print_distribution(export->out, export->survey->layers[i], &layers[i]);
    }
    return free_distribution(export, ok);
}

const struct export_format export_sglang = {
    .name         = "sglang",
    .kind         = FILE_KIND_SGLANG,
    .needs_survey = true,
    .begin        = begin_distribution,
    .ubatch       = write_distribution,
    .end          = end_distribution,
};

//
// sglang-json: the same for --init-expert-location, with a row for each layer of the model
//

static void print_row(FILE * out, const struct layer_counts * counts, size_t n_expert) {
    for (size_t i = 0; i < n_expert; i++) {
        putc_unlocked(i == 0 ? '[' : ',', out);
        export_number(out, counts == NULL || i >= counts->n_expert ? 0 : (int64_t) counts->counts[i]);
    }
    putc_unlocked(']', out);
}

// Dense layers have a row of zeros: SGLang finds a layer by its place.
static void print_logical_count(const struct trace_export * export) {
    const struct export_survey * survey = export->survey;
    const struct layer_counts  * layers = export->data;
    const int32_t                last   = survey->n_layers == 0 ? -1 : survey->layers[survey->n_layers - 1];
    const int32_t                n      = export->info->n_layer > last ? export->info->n_layer : last + 1;
    fputs("{\"logical_count\":[", export->out);
    for (int32_t layer = 0; layer < n; layer++) {
        const size_t at       = export_layer_index(survey, layer);
        const bool   is_there = at < survey->n_layers && survey->layers[at] == layer;
        fputs(layer == 0 ? "\n" : ",\n", export->out);
        print_row(export->out, is_there ? &layers[at] : NULL, (size_t) survey->n_expert);
    }
    fputs("]}\n", export->out);
}

static bool end_logical_count(struct trace_export * export, bool ok, struct error * error) {
    (void) error;
    if (ok) {
        print_logical_count(export);
    }
    return free_distribution(export, ok);
}

const struct export_format export_sglang_json = {
    .name         = "sglang-json",
    .kind         = FILE_KIND_SGLANG_JSON,
    .needs_survey = true,
    .begin        = begin_distribution,
    .ubatch       = write_distribution,
    .end          = end_logical_count,
};
