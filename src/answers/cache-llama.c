// Describes a traced model to llama.cpp's cache.

#include "answers/cache-llama.h"

#include "tool/error.h"

#include <stdlib.h>

#define ALIGNMENT 128 // of CUDA's buffers; other devices have less, which is a slot at most

struct llama_moe_cache * cache_llama_new(const struct trace_shape * shape, const bool * is_kept, double bytes,
                                         int32_t max_rows, size_t * n_slots) {
    const struct llama_moe_cache_options options = { bytes, ALIGNMENT, max_rows };
    struct llama_moe_cache_layer       * layers  = memory_new(shape->n_layers, sizeof(*layers));
    for (size_t i = 0; i < shape->n_layers; i++) {
        const struct shape_layer * layer = &shape->layers[i];
        layers[i] = (struct llama_moe_cache_layer) {
            layer->n_expert, layer->n_used, layer->group, is_kept != NULL && is_kept[i], layer->n_tensors,
            layer->tensor_bytes,
        };
    }
    struct llama_moe_cache * cache = llama_moe_cache_new(shape->n_layers, layers, &options);
    free(layers);
    *n_slots = 0;
    for (int32_t group = 0; cache != NULL && group < shape->n_groups; group++) {
        *n_slots += llama_moe_cache_slots(cache, group);
    }
    return cache;
}
