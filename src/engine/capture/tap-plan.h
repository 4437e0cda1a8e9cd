// What a graph selects, layer by layer, and where that lands.

#pragma once

#include "engine/upstream/layers.h"
#include "engine/upstream/real.h"
#include "routing/routing.h"

#define BACKENDS_MAX 16 // of a scheduler, as in ggml

// Where a layer's selection lands.
struct tap_point {
    struct layer        * layer;
    struct ggml_tensor  * topk;
    struct ggml_tensor  * argsort;   // NULL: not found
    int                   strip;     // -1: it does not land
    bool                  is_placed; // the argsort itself lands, and with it all experts
    size_t                offset;    // in the strip, bytes
    size_t                stride;    // from row to row, bytes
    size_t                size;      // of it all, bytes
    bool                  is_passed; // its selection was met on the walk through the graph
    bool                  has_gates; // the gate weights land as well
    size_t                gates;     // where in the strip, bytes; one row behind the other
};

// Of one graph. Used by the taps and by those who read what landed.
struct tap_plan {
    int                    n_users;
    uint64_t               n_tokens;           // 0: not told
    int32_t                n_layers;
    int32_t                n_layers_max;
    struct tap_point     * points;             // [n_layers] in the order of evaluation
    struct routing_layer * layers;             // [n_layers] but for the experts
    bool                   is_moe;             // the graph has selections, though perhaps of no rows
    size_t                 used[BACKENDS_MAX]; // bytes of each strip
};

// Whoever uses a plan releases it, and the last one frees it. tap_plan_release(NULL) does nothing.
struct tap_plan * tap_plan_use    (struct tap_plan * plan);
void              tap_plan_release(struct tap_plan * plan);

// Where the layer's selection lands, NULL: nobody has planned for it.
struct tap_point * tap_plan_find(const struct tap_plan * plan, const struct layer * layer);

// Adds a layer that does not land yet. Returns NULL where memory runs out.
struct tap_point * tap_plan_add(struct tap_plan * plan);

// Layers that select nothing have done their part: their nodes are there.
void tap_plan_drop_empty(struct tap_plan * plan);
