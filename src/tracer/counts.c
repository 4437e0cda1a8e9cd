#include "counts.h"

#include <stdlib.h>
#include <string.h>

static struct counts_layer * counts_layer_at(struct counts * counts, int32_t index) {
    if (index >= counts->n_layers) {
        const int32_t         n     = index + 16;
        struct counts_layer * grown = realloc(counts->layers, (size_t) n * sizeof(*grown));
        if (!grown) {
            return NULL;
        }
        memset(grown + counts->n_layers, 0, (size_t) (n - counts->n_layers) * sizeof(*grown));
        counts->layers   = grown;
        counts->n_layers = n;
    }
    return &counts->layers[index];
}

static bool layer_make_room(struct counts_layer * layer, int32_t n_expert) {
    if (n_expert <= layer->n_expert) {
        return true;
    }
    uint64_t * grown = realloc(layer->activations, (size_t) n_expert * sizeof(*grown));
    if (!grown) {
        return false;
    }
    memset(grown + layer->n_expert, 0, (size_t) (n_expert - layer->n_expert) * sizeof(*grown));
    layer->activations = grown;
    layer->n_expert    = n_expert;
    return true;
}

bool counts_add_layer(struct counts * counts, const struct routing_layer * routed) {
    struct counts_layer * layer = counts_layer_at(counts, routed->layer);
    if (!layer || !layer_make_room(layer, routed->n_expert)) {
        return false;
    }
    layer->n_used    = routed->n_used;
    layer->n_tokens += (uint64_t) routed->n_tokens;

    const size_t n = (size_t) routed->n_tokens * (size_t) routed->n_used;
    for (size_t i = 0; i < n; i++) {
        layer->activations[routed->experts[i]]++;
    }
    return true;
}

bool counts_add(struct counts * counts, const struct counts * from) {
    counts->n_tokens     += from->n_tokens;
    counts->n_prompt     += from->n_prompt;
    counts->n_generation += from->n_generation;
    counts->n_warmup     += from->n_warmup;
    counts->n_mtp        += from->n_mtp;

    bool whole = true;
    for (int32_t i = 0; i < from->n_layers; i++) {
        const struct counts_layer * source = &from->layers[i];
        if (source->n_expert == 0) {
            continue;
        }
        struct counts_layer * layer = counts_layer_at(counts, i);
        if (!layer || !layer_make_room(layer, source->n_expert)) {
            whole = false;
            continue;
        }
        layer->n_used    = source->n_used;
        layer->n_tokens += source->n_tokens;
        for (int32_t expert = 0; expert < source->n_expert; expert++) {
            layer->activations[expert] += source->activations[expert];
        }
    }
    return whole;
}

void counts_reset(struct counts * counts) {
    for (int32_t i = 0; i < counts->n_layers; i++) {
        struct counts_layer * layer = &counts->layers[i];
        layer->n_tokens = 0;
        if (layer->activations) {
            memset(layer->activations, 0, (size_t) layer->n_expert * sizeof(*layer->activations));
        }
    }
    counts->n_tokens     = 0;
    counts->n_prompt     = 0;
    counts->n_generation = 0;
    counts->n_warmup     = 0;
    counts->n_mtp        = 0;
}

void counts_free(struct counts * counts) {
    for (int32_t i = 0; i < counts->n_layers; i++) {
        free(counts->layers[i].activations);
    }
    free(counts->layers);
    *counts = (struct counts) { 0 };
}
