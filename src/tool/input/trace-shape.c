// Gathers the layers of all tables of a trace.

#include "tool/input/trace-shape.h"

#include "tool/error.h"
#include "tool/input/trace-input.h"

#include <stdlib.h>
#include <string.h>

static bool is_mtp(const struct trace_info * info, const struct trace_layer * layer) {
    return info->n_layer > 0 && layer->layer >= info->n_layer;
}

// The place of a layer, made where it is not there yet.
static struct shape_layer * layer_at(struct trace_shape * shape, int32_t layer) {
    size_t at = shape->n_layers;
    while (at > 0 && shape->layers[at - 1].layer > layer) {
        at--;
    }
    if (at > 0 && shape->layers[at - 1].layer == layer) {
        return &shape->layers[at - 1];
    }
    shape->layers = memory_resize(shape->layers, shape->n_layers + 1, sizeof(*shape->layers));
    memmove(shape->layers + at + 1, shape->layers + at, (shape->n_layers - at) * sizeof(*shape->layers));
    shape->n_layers++;
    shape->layers[at] = (struct shape_layer) { .layer = layer, .expert_bytes = -1 };
    return &shape->layers[at];
}

static void take_tensors(struct shape_layer * to, const struct trace_layer * from) {
    to->n_tensors    = from->n_tensors;
    to->tensor_bytes = memory_new(from->n_tensors, sizeof(*to->tensor_bytes));
    to->expert_bytes = trace_input_expert_bytes(from);
    for (size_t i = 0; i < from->n_tensors; i++) {
        to->tensor_bytes[i] = from->tensors[i].expert_bytes;
    }
}

static void take_layer(struct trace_shape * shape, const struct trace_layer * from) {
    struct shape_layer * to = layer_at(shape, from->layer);
    to->n_expert = from->n_expert > to->n_expert ? from->n_expert : to->n_expert;
    to->n_used   = from->n_used   > to->n_used   ? from->n_used   : to->n_used;
    if (to->tensor_bytes == NULL && from->n_tensors > 0) {
        take_tensors(to, from);
    }
}

static bool same_layout(const struct shape_layer * a, const struct shape_layer * b) {
    return a->n_expert == b->n_expert && a->n_tensors == b->n_tensors
        && (a->n_tensors == 0
            || memcmp(a->tensor_bytes, b->tensor_bytes, a->n_tensors * sizeof(*a->tensor_bytes)) == 0);
}

static int32_t group_of(struct trace_shape * shape, size_t layer) {
    for (size_t i = 0; i < layer; i++) {
        if (same_layout(&shape->layers[i], &shape->layers[layer])) {
            return shape->layers[i].group;
        }
    }
    return shape->n_groups++;
}

static void sum_up(struct trace_shape * shape) {
    shape->same_experts = true;
    shape->bytes_known  = shape->n_layers > 0;
    for (size_t i = 0; i < shape->n_layers; i++) {
        struct shape_layer * layer = &shape->layers[i];
        layer->group         = group_of(shape, i);
        shape->n_expert      = layer->n_expert > shape->n_expert ? layer->n_expert : shape->n_expert;
        shape->n_used        = layer->n_used   > shape->n_used   ? layer->n_used   : shape->n_used;
        shape->same_experts &= layer->n_expert == shape->layers[0].n_expert;
        shape->bytes_known  &= layer->expert_bytes >= 0;
    }
    shape->token_bytes = shape->bytes_known ? 0 : -1;
    shape->all_bytes   = shape->bytes_known ? 0 : -1;
    for (size_t i = 0; shape->bytes_known && i < shape->n_layers; i++) {
        shape->token_bytes += shape->layers[i].n_used   * shape->layers[i].expert_bytes;
        shape->all_bytes   += shape->layers[i].n_expert * shape->layers[i].expert_bytes;
    }
}

struct trace_shape * trace_shape_new(const struct trace_info * info, bool mtp, const struct trace_filter * chosen) {
    struct trace_shape * shape = memory_new(1, sizeof(*shape));
    for (size_t i = 0; i < info->n_tables; i++) {
        for (size_t j = 0; j < info->tables[i].n_layers; j++) {
            const struct trace_layer * layer = &info->tables[i].layers[j];
            const bool is_chosen = chosen == NULL || trace_filter_has_layer(chosen, layer->layer);
            if (is_chosen && (mtp || !is_mtp(info, layer))) {
                take_layer(shape, layer);
            }
        }
    }
    sum_up(shape);
    return shape;
}

void trace_shape_free(struct trace_shape * shape) {
    if (shape == NULL) {
        return;
    }
    for (size_t i = 0; i < shape->n_layers; i++) {
        free(shape->layers[i].tensor_bytes);
    }
    free(shape->layers);
    free(shape);
}

int32_t trace_shape_find(const struct trace_shape * shape, int32_t layer) {
    size_t low  = 0;
    size_t high = shape->n_layers;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (shape->layers[middle].layer < layer) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < shape->n_layers && shape->layers[low].layer == layer ? (int32_t) low : -1;
}
