// Adds up routing in one block of memory that grows with the layers and experts that turn up.

#include "statistics/counters.h"

#include "base/cache-line.h"

#include <stdlib.h>

static int32_t greater_of(int32_t a, int32_t b) {
    return a > b ? a : b;
}

// What is known of a layer mostly stays as it is.
static inline void describe_layer(struct counters_layer * layer, int32_t n_expert, int32_t n_used) {
    if (n_expert > layer->n_expert) {
        layer->n_expert = n_expert;
    }
    if (n_used != layer->n_used) {
        layer->n_used = n_used;
    }
}

static void add_row(struct counters * counts, const struct counters * from, int32_t index) {
    const struct counters_layer * layer    = &from->layers[index];
    const int32_t               n_expert = layer->n_expert;
    const uint64_t              n_tokens = counter_get(&layer->n_tokens);
    if (n_expert > 0) {
        describe_layer(&counts->layers[index], n_expert, layer->n_used);
    }
    if (n_tokens == 0) {
        return; // no activations either
    }
    _Atomic uint64_t       * row    = counters_row(counts, index);
    const _Atomic uint64_t * source = counters_row(from,   index);
    for (int32_t i = 0; i < n_expert; i++) {
        counter_add(&row[i], counter_get(&source[i]));
    }
    counter_add(&counts->layers[index].n_tokens, n_tokens);
}

static void add_rows(struct counters * counts, const struct counters * from) {
    for (int32_t i = 0; i < from->n_layers; i++) {
        add_row(counts, from, i);
    }
}

bool counters_make_room(struct counters * counts, int32_t n_layers, int32_t n_expert) {
    if (counters_have_room(counts, n_layers, n_expert)) {
        return true;
    }
    struct counters grown = {
        .n_layers = greater_of(n_layers, counts->n_layers),
        .n_expert = greater_of(n_expert, counts->n_expert),
    };
    const size_t layers_size = (size_t) grown.n_layers * sizeof(*grown.layers);
    const size_t words_size  = (size_t) grown.n_layers * (size_t) grown.n_expert * sizeof(*grown.activations);
    grown.layers = cache_line_alloc(layers_size + words_size);
    if (!grown.layers) {
        return false;
    }
    grown.activations = (_Atomic uint64_t *) (grown.layers + grown.n_layers);
    add_rows(&grown, counts);
    free(counts->layers);
    counts->n_layers    = grown.n_layers;
    counts->n_expert    = grown.n_expert;
    counts->layers      = grown.layers;
    counts->activations = grown.activations;
    return true;
}

bool counters_add_layer(struct counters * counts, const struct routing_layer * routed) {
    if (!counters_have_room(counts, routed->layer + 1, routed->n_expert)) {
        return false;
    }
    struct counters_layer * layer = &counts->layers[routed->layer];
    describe_layer(layer, routed->n_expert, routed->n_used);
    counter_add(&layer->n_tokens, (uint64_t) routed->n_tokens);

    _Atomic uint64_t * row     = counters_row(counts, routed->layer);
    const int32_t    * experts = routed->experts;
    const size_t       n       = (size_t) routed->n_tokens * (size_t) routed->n_used;
    for (size_t i = 0; i < n; i++) {
        counter_add(&row[experts[i]], 1);
    }
    return true;
}

bool counters_add(struct counters * counts, const struct counters * from) {
    if (!counters_make_room(counts, from->n_layers, from->n_expert)) {
        return false;
    }
    add_rows(counts, from);
    counter_add(&counts->n_tokens,     counter_get(&from->n_tokens));
    counter_add(&counts->n_prompt,     counter_get(&from->n_prompt));
    counter_add(&counts->n_generation, counter_get(&from->n_generation));
    counter_add(&counts->n_warmup,     counter_get(&from->n_warmup));
    counter_add(&counts->n_mtp,        counter_get(&from->n_mtp));
    counter_add(&counts->n_lost,       counter_get(&from->n_lost));
    counter_add(&counts->n_lost_ubatches, counter_get(&from->n_lost_ubatches));
    return true;
}

void counters_reset(struct counters * counts) {
    for (int32_t i = 0; i < counts->n_layers; i++) {
        if (counter_get(&counts->layers[i].n_tokens) == 0) {
            continue;
        }
        counter_set(&counts->layers[i].n_tokens, 0);
        _Atomic uint64_t * row = counters_row(counts, i);
        for (int32_t expert = 0; expert < counts->n_expert; expert++) {
            counter_set(&row[expert], 0);
        }
    }
    counter_set(&counts->n_tokens,     0);
    counter_set(&counts->n_prompt,     0);
    counter_set(&counts->n_generation, 0);
    counter_set(&counts->n_warmup,     0);
    counter_set(&counts->n_mtp,        0);
    counter_set(&counts->n_lost,       0);
    counter_set(&counts->n_lost_ubatches, 0);
}

void counters_free(struct counters * counts) {
    free(counts->layers);
    *counts = (struct counters) { 0 };
}
