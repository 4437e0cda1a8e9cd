// The layers that a trace has rows of, as commands that look at all of them count them: from 0, in ascending order.

#pragma once

#include "tool/input/trace-filter.h"
#include "trace/read/trace-reader.h"

struct shape_layer {
    int32_t         layer;        // as in blk.<layer>.
    int32_t         n_expert;     // the most of any table
    int32_t         n_used;
    int32_t         group;        // layers with as many bytes of an expert in each tensor are one group, from 0
    int64_t         expert_bytes; // of all tensors, -1: not known
    size_t          n_tensors;
    int64_t       * tensor_bytes; // [n_tensors] of one expert
};

struct trace_shape {
    size_t               n_layers;
    struct shape_layer * layers;
    int32_t              n_groups;
    int32_t              n_expert;     // the most of any layer
    int32_t              n_used;       // likewise
    bool                 same_experts; // all layers have as many
    bool                 bytes_known;
    int64_t              token_bytes;  // experts that one token uses in all layers, -1: not known
    int64_t              all_bytes;    // all experts of all layers, -1: not known
};

// Layers of a multi-token-prediction head are left out unless `mtp`; so are those that `chosen`, where it is not NULL,
// does not choose.
struct trace_shape * trace_shape_new (const struct trace_info * info, bool mtp, const struct trace_filter * chosen);
void                 trace_shape_free(struct trace_shape * shape);

// The index of a layer, -1: not one of these.
int32_t trace_shape_find(const struct trace_shape * shape, int32_t layer);
