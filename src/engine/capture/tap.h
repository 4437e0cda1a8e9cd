// The tap of a scheduler: what is known of it, and what brings the routing of its graphs to us.

#pragma once

#include "engine/capture/eval-reading.h"
#include "engine/capture/flights.h"
#include "engine/capture/graph-taps.h"
#include "engine/capture/tokens.h"
#include "engine/context/context.h"
#include "engine/upstream/keyed-list.h"
#include "engine/upstream/layers.h"

struct tap {
    struct keyed         keyed;        // by the scheduler
    void               * sched;
    const struct real  * real;
    struct context     * context;      // whose graph is being computed, NULL: nobody's that is traced
    _Atomic(struct context *) owner;   // whose graph was computed last
    struct context     * unseen;       // the context behind this scheduler where llama_decode is not seen
    bool                 lacks_unseen; // there is no memory for it
    bool                 was_there;    // before us
    int                  n_uncalled;   // graphs without a call of llama_decode that was seen
    const void         * model_key;    // an expert tensor: what the unseen context's model is known by
    struct layers        layers;
    struct graph_inputs  inputs;       // of the graph that was built last
    struct ubatch_tokens tokens;       // of the ubatch that is being computed
    const char         * gave_up;      // why graphs are passed on as they are from now on, NULL: they are not

    ggml_eval_fn         program_fn;   // NULL: the program has none
    void               * program_data;
    bool                 program_wants;    // the node that was asked for last
    bool                 has_our_callback; // the scheduler calls on_node()
    bool                 knows_callback;   // whether the program has one

    // in the graph
    struct ggml_tensor * gates;        // the gate weights that were made last, NULL: none in this graph
    int32_t              gates_layer;
    bool                 in_graph;     // this way is taken where it can be
    bool                 is_begun;     // with the graph that is being built
    atomic_bool          is_in_graph;  // the graph that was built last has something of ours
    struct graph_taps    graph;
    struct flights       flights;
    size_t               room;         // that the scheduler's sizes include

    struct eval_reading  reading;      // by the eval callback
};

// Chooses how the routing of schedulers to come is read. Returns false where there is no such way.
bool tap_set_way(const char * way);

// Returns NULL where the scheduler has none.
struct tap * tap_find(const void * sched);

// `was_there`: before us, so that its memory is planned, and its eval callback set. Returns NULL where memory runs out.
struct tap * tap_new(const struct real * real, void * sched, bool was_there);

// Why a scheduler has none that should have one, NULL: none should.
const char * tap_why_none(void);

// It is not found any more; and nobody has it.
void tap_unlist(struct tap * tap);
void tap_free  (struct tap * tap);

// Whether the routing is read from the graph where it can be. Where the program has an eval callback, each node is
// awaited anyway, and nodes of ours would be shown to it.
bool tap_uses_graph(const struct tap * tap);

// Nothing of the scheduler is read any more; why is said once.
void tap_give_up(struct tap * tap, struct context * context, const char * why);

// What was on its way is here; waits for it; waits for what is on its way to the first tap that `is_it`.
void tap_landed          (struct tap * tap, bool is_right);
void tap_await_flights   (struct tap * tap);
void tap_await_flights_of(bool (*is_it)(const struct tap * tap, const void * whose), const void * whose);

// Whether graphs that were built last have anything of ours.
bool tap_any_in_graph(void);

// Frees all, where nobody can use any; or, in the child of a fork, forgets them.
void tap_drop_all  (void);
void tap_forget_all(void);
