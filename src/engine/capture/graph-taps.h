// Capture without stopping the device: what a graph selects lands in memory of ours, where it stays after the graph
// has run.
//
// Two ways of landing, chosen by layer and graph. Of few tokens (generation) the argsort that selects the experts is
// given memory of ours before the scheduler allocates the graph: nothing more is computed. Of many tokens (prompts) a
// whole argsort would take too much, so a node that copies the selected columns is added behind the layer's router.
//
// Strips are made once, at their final size, which the graph tells that the scheduler reserves memory with first: it is
// the largest. Small ones before it, with which llama.cpp tries out what a device can do, are not reserved, and land
// nowhere.
//
// Which backend routes a layer is learned when the scheduler splits a graph, to reserve memory mostly; where it has
// only one, it is known.

#pragma once

#include "engine/capture/strip.h"
#include "engine/capture/tap-plan.h"
#include "engine/upstream/layers.h"
#include "engine/upstream/real.h"

struct graph_taps {
    const struct real    * real;
    void                 * sched;
    struct layers        * layers;             // the tap's
    int                    n_strips;           // one for each backend
    struct strip           strips[BACKENDS_MAX];
    struct tap_plan      * plan;               // of the graph that is built or allocated, NULL: none
    struct ggml_cgraph   * graph;              // that is allocated, NULL: none
    uint64_t               order;              // of its nodes, before the devices have seen it
    bool                   is_whole;           // all that it selects lands
    bool                   is_planned;         // the scheduler's memory, for a graph with copies and all like it
    bool                   is_reordered;       // a device changes the order of nodes
    bool                   with_gates;         // gate weights are wanted, in this graph and those like it
    int64_t                rows_max;           // of a selection in graphs that were reserved or computed, 0: none was
    bool                   adds_nothing;       // graphs stay as large as they are: selections are placed, or missed
    const char           * trouble;            // why it cannot be done with this engine, NULL: none so far
};

// `adds_nothing`: the scheduler's memory is planned already, for graphs without nodes of ours.
void graph_taps_init(struct graph_taps * taps, const struct real * real, void * sched, struct layers * layers,
                     bool adds_nothing);
void graph_taps_free(struct graph_taps * taps);

// Bytes that the taps will take at most on any backend, from the graphs that were reserved.
size_t graph_taps_room(const struct graph_taps * taps);

// Bytes of the scheduler's own buffers.
size_t graph_taps_compute_size(const struct graph_taps * taps);

// Learns from a graph how much room its selections take.
void graph_taps_measure(struct graph_taps * taps, struct ggml_cgraph * graph);

// A graph is going to be built. Returns whether memory of ours has to be replaced: nothing may be landing then.
// `with_gates`: gate weights are wanted.
bool graph_taps_must_move(struct graph_taps * taps, bool with_gates);
void graph_taps_begin    (struct graph_taps * taps);

// The graph's first node that uses the layer's experts is built. `gates`: the gate weights, NULL: they were not seen.
void graph_taps_add(struct graph_taps * taps, struct ggml_context * ctx, struct ggml_cgraph * graph,
                    struct layer * layer, struct ggml_tensor * ids, struct ggml_tensor * gates);

// The graph is built, and the scheduler is going to look at it.
void graph_taps_place(struct graph_taps * taps, struct ggml_cgraph * graph);

// The scheduler has chosen backends, has reserved memory for the graph (or has not), has allocated it (or has not).
void graph_taps_learn_backends(struct graph_taps * taps);
void graph_taps_reserved      (struct graph_taps * taps, bool done);
void graph_taps_settle        (struct graph_taps * taps, bool done);

// Forgets the graph: it will not be computed.
void graph_taps_drop(struct graph_taps * taps);

// Whether all that this graph selects lands.
bool graph_taps_catch(const struct graph_taps * taps, const struct ggml_cgraph * graph);

bool graph_taps_use(const struct graph_taps * taps, const void * backend);
