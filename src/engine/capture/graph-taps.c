// Adds to a graph what makes its selections land in the strips: when it is built, before it is allocated, and as far as
// the scheduler's own split shows where each layer is routed.

#include "engine/capture/graph-taps.h"

#include "engine/capture/device-memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GGML_TYPE_F32      0
#define GGML_TYPE_I32     26
#define LARGE_BATCH       32 // tokens from which a scheduler may move work to another backend
#define ALIGNMENT_MAX   4096 // of a selection while the backend is not known
#define WARMUP_ROWS        2 // BOS and EOS, for which older releases use every expert

static bool has_all(const struct real * real) {
    return real->ggml_backend_sched_alloc_graph && real->ggml_backend_sched_reserve &&
           real->ggml_backend_sched_synchronize && real->ggml_backend_sched_get_n_backends &&
           real->ggml_backend_sched_get_backend && real->ggml_backend_sched_get_tensor_backend &&
           real->ggml_backend_get_default_buffer_type && real->ggml_backend_get_device &&
           real->ggml_backend_dev_type && real->ggml_backend_supports_op && real->ggml_backend_tensor_get_async &&
           real->ggml_backend_buft_alloc_buffer && real->ggml_backend_buft_get_alignment &&
           real->ggml_backend_buft_is_host && real->ggml_backend_buffer_get_base &&
           real->ggml_backend_buffer_get_size && real->ggml_backend_buffer_free && real->ggml_backend_tensor_alloc &&
           real->ggml_init && real->ggml_free && real->ggml_new_tensor_1d && real->ggml_new_tensor_2d &&
           real->ggml_view_1d && real->ggml_cpy && real->ggml_set_name && real->ggml_get_data &&
           real->ggml_build_forward_expand && real->ggml_graph_size && real->ggml_new_graph_custom &&
           real->ggml_used_mem && real->ggml_get_mem_size && real->ggml_tensor_overhead;
}

// Releases before June 2025 trip over a tensor that had memory of its own in the graph before and has none in this one.
static bool keeps_plans(const struct real * real) {
    return real->ggml_backend_sched_get_buffer_type != NULL;
}

static size_t aligned(size_t n, size_t alignment) {
    return (n + alignment - 1) / alignment * alignment;
}

//
// memory
//

// What a layer's selection takes at most. The last layer's is of fewer rows than the others' for now and then.
static size_t selection_room(const struct graph_taps * taps, const struct layer * layer) {
    const size_t rows   = layer->row * (size_t) taps->rows_max;
    const size_t warmup = layer->row > 0 ? (size_t) layer->n_expert * sizeof(int32_t) * WARMUP_ROWS : 0;
    const size_t known  = rows > warmup ? rows : warmup;
    return layer->room > known ? layer->room : known;
}

// All that may land in a strip: every layer's selection, and the gate weights where they are wanted. Which layers a
// backend routes may change with the batch.
static size_t strip_room(const struct graph_taps * taps, size_t alignment) {
    size_t room = 0;
    for (int32_t i = 0; i < taps->layers->n; i++) {
        const struct layer * layer = taps->layers->at[i];
        room += layer ? aligned(selection_room(taps, layer), alignment) : 0;
    }
    return taps->with_gates ? 2 * room : room;
}

static bool routes(const struct graph_taps * taps, int index) {
    for (int32_t i = 0; i < taps->layers->n; i++) {
        const struct layer * layer = taps->layers->at[i];
        if (layer && (layer->backend[BATCH_SMALL] == index || layer->backend[BATCH_LARGE] == index)) {
            return true;
        }
    }
    return false;
}

// What a strip has to be for the graph that is built, 0: as it is.
static size_t strip_wanted(const struct graph_taps * taps, int index) {
    const size_t room = taps->rows_max > 0 && routes(taps, index) ? strip_room(taps, taps->strips[index].alignment) : 0;
    return room > taps->strips[index].size ? room : 0;
}

void graph_taps_init(struct graph_taps * taps, const struct real * real, void * sched, struct layers * layers,
                     bool adds_nothing) {
    *taps = (struct graph_taps) { .real = real, .sched = sched, .layers = layers, .adds_nothing = adds_nothing };
    if (!has_all(real) || (adds_nothing && !keeps_plans(real))) {
        taps->trouble = "this release of llama.cpp lacks functions that are needed";
        return;
    }
    const int n = real->ggml_backend_sched_get_n_backends(sched);
    if (n > BACKENDS_MAX) {
        taps->trouble = "it has too many backends";
        return;
    }
    taps->n_strips = n;
    for (int i = 0; i < n; i++) {
        if (!strip_init(&taps->strips[i], real, real->ggml_backend_sched_get_backend(sched, i))) {
            taps->trouble = "it joins several devices to one";
        }
    }
}

void graph_taps_free(struct graph_taps * taps) {
    graph_taps_drop(taps);
    for (int i = 0; i < taps->n_strips; i++) {
        strip_free(&taps->strips[i], taps->real);
    }
}

size_t graph_taps_room(const struct graph_taps * taps) {
    size_t alignment = sizeof(int32_t);
    for (int i = 0; i < taps->n_strips; i++) {
        if (taps->strips[i].alignment > alignment && taps->strips[i].alignment <= ALIGNMENT_MAX) {
            alignment = taps->strips[i].alignment;
        }
    }
    const size_t room = strip_room(taps, alignment);
    return room > 0 ? device_memory_round(room) : 0;
}

size_t graph_taps_compute_size(const struct graph_taps * taps) {
    size_t size = 0;
    for (int i = 0; i < taps->n_strips; i++) {
        size += taps->real->ggml_backend_sched_get_buffer_size(taps->sched, taps->strips[i].backend);
    }
    return size;
}

//
// building
//

bool graph_taps_must_move(struct graph_taps * taps, bool with_gates) {
    taps->with_gates = with_gates;
    for (int i = 0; i < taps->n_strips; i++) {
        if (taps->strips[i].buffer && strip_wanted(taps, i) > 0) {
            return true;
        }
    }
    return false;
}

void graph_taps_drop(struct graph_taps * taps) {
    tap_plan_release(taps->plan);
    taps->plan     = NULL;
    taps->graph    = NULL;
    taps->is_whole = false;
}

void graph_taps_begin(struct graph_taps * taps) {
    graph_taps_drop(taps);
    if (taps->trouble) {
        return;
    }
    for (int i = 0; i < taps->n_strips; i++) {
        const size_t wanted = strip_wanted(taps, i);
        if (wanted > 0 && !strip_make(&taps->strips[i], taps->real, wanted)) {
            taps->trouble = "a device has no memory left";
            return;
        }
    }
    taps->plan = calloc(1, sizeof(*taps->plan));
    if (taps->plan) {
        tap_plan_use(taps->plan);
    }
}

// Whether a node and what it copies to can be added. Nobody tells how many leafs a graph has: a quarter of it is
// left to them, which is twice what llama.cpp plans for.
static bool has_room(const struct real * real, struct ggml_context * ctx, struct ggml_cgraph * graph) {
    const size_t node = real->ggml_tensor_overhead();
    return real->ggml_graph_n_nodes(graph) < real->ggml_graph_size(graph) / 4 * 3 &&
           real->ggml_used_mem(ctx) + 16 * node < real->ggml_get_mem_size(ctx);
}

// The room is there from a later graph on. In the warm-up of older releases rows are as long as there are experts.
static void make_known(const struct graph_taps * taps, struct layer * layer, const struct ggml_tensor * topk) {
    const int64_t n_rows = taps->real->ggml_nrows(topk);
    const size_t  bytes  = (size_t) taps->real->ggml_nelements(topk) * sizeof(int32_t);
    const size_t  row    = n_rows > 0 ? bytes / (size_t) n_rows : 0;
    layer->room = bytes > layer->room ? bytes : layer->room;
    layer->row  = row > 0 && (layer->row == 0 || row < layer->row) ? row : layer->row;
    if (taps->n_strips == 1) {
        layer->backend[BATCH_SMALL] = 0;
    }
}

static int backend_of(const struct layer * layer, int64_t n_rows) {
    const enum batch_size size  = n_rows >= LARGE_BATCH ? BATCH_LARGE : BATCH_SMALL;
    const enum batch_size other = size == BATCH_LARGE   ? BATCH_SMALL : BATCH_LARGE;
    return layer->backend[size] >= 0 ? layer->backend[size] : layer->backend[other];
}

// Whether the argsorts of this graph must not land in a graph of as many nodes as others have. A plan of the
// scheduler's memory that was made for copies has room for both, the other way round it has not, and not where a device
// brings the nodes into an order of its own.
static bool is_apart(const struct graph_taps * taps) {
    return !taps->is_planned || taps->is_reordered || !keeps_plans(taps->real);
}

static void add_named(const struct graph_taps * taps, struct ggml_cgraph * graph, struct ggml_tensor * node,
                      const struct layer * layer) {
    char name[LAYER_NAME_MAX];
    snprintf(name, sizeof(name), "expert_trace-%d", (int) layer->index);
    taps->real->ggml_set_name(node, name);
    taps->real->ggml_build_forward_expand(graph, node);
}

// Adds what brings the layer's selection into the strip. Both ways add one node and one leaf: graphs that differ in
// nothing else need no new plan of the scheduler's memory. Where the argsort itself lands the node does nothing.
static bool add_node(struct graph_taps * taps, struct ggml_context * ctx, struct ggml_cgraph * graph,
                     const struct tap_point * point, const struct routing_layer * routed) {
    const struct real  * real  = taps->real;
    const struct strip * strip = &taps->strips[point->strip];
    struct ggml_tensor * leaf  = real->ggml_new_tensor_2d(ctx, GGML_TYPE_I32, routed->n_used, routed->n_tokens);
    real->ggml_backend_tensor_alloc(strip->buffer, leaf, strip->base + point->offset);

    struct ggml_tensor * node = point->is_placed ? real->ggml_view_1d(ctx, leaf, 1, 0)
                                                 : real->ggml_cpy(ctx, point->topk, leaf);
    if (!point->is_placed && !real->ggml_backend_supports_op(strip->backend, node)) {
        taps->trouble = "a device cannot copy the selection";
        return false;
    }
    add_named(taps, graph, node, point->layer);
    if (point->is_placed && is_apart(taps)) {
        add_named(taps, graph, real->ggml_view_1d(ctx, leaf, 1, 0), point->layer);
    }
    return true;
}

// Adds what brings the layer's gate weights into the strip. Where that cannot be done the selection lands without them.
static void add_gates(struct graph_taps * taps, struct ggml_context * ctx, struct ggml_cgraph * graph,
                      struct tap_point * point, const struct routing_layer * routed, struct ggml_tensor * gates) {
    const struct real  * real  = taps->real;
    const struct strip * strip = &taps->strips[point->strip];
    const int64_t        n     = (int64_t) routed->n_used * routed->n_tokens;
    const size_t         at    = taps->plan->used[point->strip];
    const size_t         size  = aligned((size_t) n * sizeof(float), strip->alignment);
    if (real->ggml_nelements(gates) != n || real->ggml_element_size(gates) != sizeof(float) ||
        at + size > strip->size) {
        return;
    }
    struct ggml_tensor * leaf = real->ggml_new_tensor_2d(ctx, GGML_TYPE_F32, routed->n_used, routed->n_tokens);
    real->ggml_backend_tensor_alloc(strip->buffer, leaf, strip->base + (n > 0 ? at : 0));
    struct ggml_tensor * node = real->ggml_cpy(ctx, gates, leaf);
    if (real->ggml_backend_supports_op(strip->backend, node)) {
        add_named(taps, graph, node, point->layer);
        point->has_gates = true;
        point->gates     = at;
        taps->plan->used[point->strip] += size;
    }
}

static bool is_selection_of(const struct real * real, const struct ggml_tensor * tensor, const struct layer * layer) {
    int32_t index = -1;
    return tensor && node_kind(real->ggml_get_name(tensor), &index) == NODE_TOPK && index == layer->index &&
           real->ggml_element_size(tensor) == sizeof(int32_t);
}

// What the node gets may follow from the selection (slots of an expert cache, chunks of experts).
static struct ggml_tensor * selection(const struct real * real, struct ggml_cgraph * graph, const struct layer * layer,
                                      struct ggml_tensor * ids) {
    if (is_selection_of(real, ids, layer)) {
        return ids;
    }
    char name[LAYER_NAME_MAX];
    snprintf(name, sizeof(name), "ffn_moe_topk-%d", (int) layer->index);
    struct ggml_tensor * found = real->ggml_graph_get_tensor(graph, name);
    return is_selection_of(real, found, layer) ? found : NULL;
}

// Chooses where the selection lands. Returns false where it cannot, in this graph.
static bool choose_place(const struct graph_taps * taps, struct tap_point * point,
                         const struct routing_layer * routed) {
    const struct layer * layer = point->layer;
    const size_t         rows  = (size_t) routed->n_tokens;
    const size_t         row   = (size_t) routed->n_used * sizeof(int32_t);
    const size_t         whole = (size_t) layer->n_expert * sizeof(int32_t);
    const int            index = backend_of(layer, routed->n_tokens);
    if (index < 0 || (taps->adds_nothing && taps->with_gates)) {
        return false;
    }
    const bool   place = rows > 0 && layer->is_argsort && whole * rows <= selection_room(taps, layer);
    const size_t size  = aligned((place ? whole : row) * rows, taps->strips[index].alignment);
    if (taps->plan->used[index] + size > taps->strips[index].size || (taps->adds_nothing && rows > 0 && !place)) {
        return false;
    }
    point->strip     = index;
    point->is_placed = place;
    point->offset    = rows > 0 ? taps->plan->used[index] : 0;
    point->stride    = place ? whole : row;
    point->size      = size;
    return true;
}

void graph_taps_add(struct graph_taps * taps, struct ggml_context * ctx, struct ggml_cgraph * graph,
                    struct layer * layer, struct ggml_tensor * ids, struct ggml_tensor * gates) {
    const struct real * real = taps->real;
    struct tap_plan   * plan = taps->plan;
    if (plan == NULL || taps->trouble || tap_plan_find(plan, layer)) {
        return;
    }
    struct ggml_tensor * topk  = selection(real, graph, layer, ids);
    struct tap_point   * point = topk ? tap_plan_add(plan) : NULL;
    if (point == NULL) {
        return; // the walk through the graph will miss it
    }
    const int64_t          n_rows = real->ggml_nrows(topk);
    struct routing_layer * routed = &plan->layers[plan->n_layers - 1];
    routed->n_tokens = (int32_t) n_rows;
    routed->n_used   = n_rows > 0 ? (int32_t) (real->ggml_nelements(topk) / n_rows) : 1;
    point->layer     = layer;
    point->topk      = topk;
    make_known(taps, layer, topk);
    if (!choose_place(taps, point, routed)) {
        return;
    }
    if (taps->adds_nothing) {
        plan->used[point->strip] += point->size;
        return;
    }
    if (!has_room(real, ctx, graph)) {
        taps->trouble = "its graph has no room for further nodes";
    } else if (add_node(taps, ctx, graph, point, routed)) {
        plan->used[point->strip] += point->size;
        if (taps->with_gates && gates) {
            add_gates(taps, ctx, graph, point, routed, gates);
        }
        return;
    }
    point->strip = -1;
}

//
// allocating
//

void graph_taps_measure(struct graph_taps * taps, struct ggml_cgraph * graph) {
    const struct real * real = taps->real;
    const int           n    = real->ggml_graph_n_nodes(graph);
    for (int i = 0; i < n; i++) {
        const struct ggml_tensor * node  = real->ggml_graph_node(graph, i);
        int32_t                    index = 0;
        if (node_kind(real->ggml_get_name(node), &index) != NODE_TOPK) {
            continue;
        }
        struct layer * layer  = layers_at(taps->layers, index);
        const int64_t  n_rows = real->ggml_nrows(node);
        taps->rows_max = n_rows > taps->rows_max ? n_rows : taps->rows_max;
        if (layer) {
            make_known(taps, layer, node);
        }
    }
}

static void place_argsort(const struct graph_taps * taps, struct tap_point * point, const struct routing_layer * routed,
                          struct ggml_tensor * argsort) {
    const struct real * real = taps->real;
    if (point->argsort || routed->n_tokens == 0 || real->ggml_nrows(argsort) != routed->n_tokens ||
        real->ggml_nelements(argsort) != (int64_t) point->layer->n_expert * routed->n_tokens) {
        return;
    }
    point->argsort = argsort;
    if (point->is_placed) {
        const struct strip * strip = &taps->strips[point->strip];
        real->ggml_backend_tensor_alloc(strip->buffer, argsort, strip->base + point->offset);
    }
}

// Returns whether the node is a selection that nobody has planned for.
static bool visit(struct graph_taps * taps, struct ggml_tensor * node) {
    const struct real  * real  = taps->real;
    struct tap_plan    * plan  = taps->plan;
    int32_t              index = 0;
    const enum node_kind kind  = node_kind(real->ggml_get_name(node), &index);
    if (kind == NODE_OTHER) {
        return false;
    }
    if (kind == NODE_INPUT) {
        plan->n_tokens = (uint64_t) real->ggml_nrows(node);
        return false;
    }
    plan->is_moe = plan->is_moe || kind == NODE_TOPK;
    struct layer     * layer = layers_at(taps->layers, index);
    struct tap_point * point = layer ? tap_plan_find(plan, layer) : NULL;
    if (point == NULL) {
        return kind == NODE_TOPK && real->ggml_nrows(node) > 0;
    }
    if (point->is_passed) {
        return false; // GroveMoE's second selection of this name
    }
    if (kind != NODE_TOPK) {
        layer_learn_experts(layer, real, node);
    }
    if (kind == NODE_ARGSORT) {
        place_argsort(taps, point, &plan->layers[point - plan->points], node);
    }
    point->is_passed = kind == NODE_TOPK;
    return false;
}

// A number that is another one, most likely, when the graph's nodes are in another order.
static uint64_t order_with(uint64_t order, const struct ggml_tensor * node) {
    return order * 31 + (uintptr_t) node;
}

static uint64_t order_of(const struct real * real, struct ggml_cgraph * graph) {
    const int n     = real->ggml_graph_n_nodes(graph);
    uint64_t  order = 0;
    for (int i = 0; i < n; i++) {
        order = order_with(order, real->ggml_graph_node(graph, i));
    }
    return order;
}

void graph_taps_place(struct graph_taps * taps, struct ggml_cgraph * graph) {
    const struct real * real = taps->real;
    struct tap_plan   * plan = taps->plan;
    if (plan == NULL) {
        return;
    }
    const int n = real->ggml_graph_n_nodes(graph);
    taps->graph    = graph;
    taps->order    = 0;
    taps->is_whole = true;
    for (int i = 0; i < n; i++) {
        struct ggml_tensor * node = real->ggml_graph_node(graph, i);
        taps->order = order_with(taps->order, node);
        if (visit(taps, node)) {
            taps->is_whole = false;
        }
    }
    const uint64_t n_tokens = graph_n_tokens(real, graph);
    if (n_tokens > 0) {
        plan->n_tokens = n_tokens;
    }
}

// Where the rows of a tensor are further apart than they are long.
static size_t stride_of(const struct real * real, const struct ggml_tensor * tensor,
                        const struct routing_layer * routed) {
    const size_t row   = (size_t) routed->n_used * sizeof(int32_t);
    const size_t bytes = real->ggml_nbytes(tensor);
    return routed->n_tokens > 1 ? (bytes - row) / (size_t) (routed->n_tokens - 1) : row;
}

static void learn_backend(struct graph_taps * taps, struct tap_point * point, const struct routing_layer * routed) {
    if (routed->n_tokens == 0) {
        return;
    }
    const enum batch_size      size    = routed->n_tokens >= LARGE_BATCH ? BATCH_LARGE : BATCH_SMALL;
    struct ggml_tensor * const tensor  = point->argsort ? point->argsort : point->topk;
    const void         * const backend = taps->real->ggml_backend_sched_get_tensor_backend(taps->sched, tensor);
    for (int i = 0; i < taps->n_strips; i++) {
        if (taps->strips[i].backend == backend) {
            point->layer->backend[size] = i;
        }
    }
}

// Learns whether the selection is the beginning of the argsort's rows.
static void learn_argsort(struct graph_taps * taps, struct tap_point * point, const struct routing_layer * routed) {
    const struct real * real  = taps->real;
    struct layer      * layer = point->layer;
    const size_t        whole = (size_t) layer->n_expert * sizeof(int32_t);
    const bool          is_it = point->argsort &&
        real->ggml_get_data(point->argsort) == real->ggml_get_data(point->topk) &&
        (routed->n_tokens == 1 || stride_of(real, point->topk, routed) == whole);
    if (!is_it) {
        layer->is_never_argsort = true;
    }
    layer->is_argsort = !layer->is_never_argsort;
    if (point->is_placed && !is_it) {
        point->strip = -1; // it is elsewhere
    }
}

void graph_taps_learn_backends(struct graph_taps * taps) {
    for (int32_t i = 0; taps->plan && i < taps->plan->n_layers; i++) {
        learn_backend(taps, &taps->plan->points[i], &taps->plan->layers[i]);
    }
}

// What the scheduler's memory is planned for now.
static void note_plan(struct graph_taps * taps, bool is_new) {
    const struct tap_plan * plan   = taps->plan;
    bool                    copies = false;
    for (int32_t i = 0; plan && i < plan->n_layers; i++) {
        copies = copies || (plan->points[i].strip >= 0 && !plan->points[i].is_placed);
    }
    taps->is_planned = copies || (taps->is_planned && plan && !is_new);
}

void graph_taps_reserved(struct graph_taps * taps, bool done) {
    if (done) {
        note_plan(taps, true);
    }
    if (taps->graph && order_of(taps->real, taps->graph) != taps->order) {
        taps->is_reordered = true;
    }
    graph_taps_drop(taps); // it is not computed
}

void graph_taps_settle(struct graph_taps * taps, bool done) {
    struct tap_plan * plan = taps->plan;
    note_plan(taps, false);
    if (plan == NULL || !done) {
        graph_taps_drop(taps);
        return;
    }
    tap_plan_drop_empty(plan);
    graph_taps_learn_backends(taps);
    for (int32_t i = 0; i < plan->n_layers; i++) {
        struct tap_point     * point  = &plan->points[i];
        struct routing_layer * routed = &plan->layers[i];
        taps->rows_max = routed->n_tokens > taps->rows_max ? routed->n_tokens : taps->rows_max;
        layer_describe(point->layer, 0, routed);
        learn_argsort(taps, point, routed);
        taps->is_whole = taps->is_whole && point->strip >= 0;
        if (backend_of(point->layer, routed->n_tokens) < 0 && taps->trouble == NULL) {
            taps->trouble = "it does not tell which device routes";
        }
    }
}

bool graph_taps_catch(const struct graph_taps * taps, const struct ggml_cgraph * graph) {
    return taps->graph == graph && taps->is_whole && taps->trouble == NULL;
}

bool graph_taps_use(const struct graph_taps * taps, const void * backend) {
    for (int i = 0; i < taps->n_strips; i++) {
        if (taps->strips[i].backend == backend) {
            return true;
        }
    }
    return false;
}
