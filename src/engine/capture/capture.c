// Follows each scheduler from its making over the building of its graphs to their end, as the hooks report it, and has
// the routing of each graph read by the taps or by the eval callback.

#include "engine/capture/capture.h"

#include "engine/capture/compute.h"
#include "engine/capture/device-memory.h"
#include "engine/capture/tap.h"
#include "engine/context/opened-file.h"
#include "engine/upstream/arrival.h"
#include "engine/upstream/host-log.h"
#include "engine/upstream/layers.h"
#include "routing/sinks.h"

#include <stdatomic.h>

static _Thread_local const void * building;    // the scheduler whose graph this thread builds
static _Thread_local const void * just_made;   // the scheduler that this thread created a moment ago
static _Thread_local struct {
    struct ggml_context * ctx;
    struct ggml_cgraph  * graph;
} last_graph;                                  // that this thread made

bool capture_set_way(const char * way) {
    return tap_set_way(way);
}

void capture_on_sched_new(const struct real * real, void * sched) {
    device_memory_on_sched_new(real, sched);
    if (sinks_any() && tap_new(real, sched, false)) {
        just_made = sched;
        building  = NULL;
    }
}

// The tap is the one of the scheduler that is freed.
static void remove_tap(struct tap * tap) {
    tap_unlist(tap);
    const int n_lost = flights_drop(&tap->flights);
    if (n_lost > 0) {
        log_line(host_log, LOG_ERROR, "the program freed its devices' memory before it waited for them: the last %d "
            "ubatches are not counted", n_lost);
    }
    // a context replaces its scheduler by making the new one first
    struct tap * heir = tap_find(just_made);
    just_made = NULL;
    building  = NULL;
    if (tap->unseen && heir && heir->unseen == NULL && heir->model_key == NULL) {
        heir->unseen = tap->unseen; // unless its first graph shows another model
    } else if (tap->unseen) {
        context_close(tap->unseen);
    }
    tap_free(tap);
}

void capture_on_sched_free(void * sched) {
    struct tap * tap = tap_find(sched);
    if (tap) {
        remove_tap(tap);
    }
    device_memory_on_sched_free(sched);
}

static bool is_of_backend(const struct tap * tap, const void * backend) {
    return graph_taps_use(&tap->graph, backend);
}

static bool is_of_context(const struct tap * tap, const void * context) {
    return atomic_load(&tap->owner) == context;
}

// Older releases free a context's backends without waiting for them, and its scheduler after that.
void capture_on_backend_free(const void * backend) {
    tap_await_flights_of(is_of_backend, backend);
}

void capture_on_context_free(const struct llama_context * key) {
    const struct context * context = context_of_key(key);
    if (context) {
        tap_await_flights_of(is_of_context, context);
    }
}

//
// building
//

// Memory is reserved for taps although nobody wants them yet: later there may be none left. That is done outside of
// batches mostly.
static bool is_worth_tapping(void) {
    const struct context * context = context_current();
    return sinks_any() && (context == NULL || context_is_wanted(context));
}

// The graph's first node of ours, or the end of its building: before that, nothing is known of it.
static void begin_graph(struct tap * tap) {
    if (tap->is_begun) {
        return;
    }
    tap->is_begun = true;
    atomic_store(&tap->is_in_graph, false);
    if (!tap_uses_graph(tap) || tap->gave_up || !is_worth_tapping()) {
        graph_taps_drop(&tap->graph);
        return;
    }
    if (graph_taps_must_move(&tap->graph, sinks_want() & ROUTING_WANTS_GATES)) { // nothing may be landing then
        tap->real->ggml_backend_sched_synchronize(tap->sched);
        tap_await_flights(tap);
    }
    graph_taps_begin(&tap->graph);
    atomic_store(&tap->is_in_graph, true);
}

void capture_on_sched_reset(const struct real * real, void * sched) {
    struct tap * tap = tap_find(sched);
    if (tap == NULL && sched && arrived_late() && sinks_any()) {
        device_memory_keep(sched);
        tap = tap_new(real, sched, true);
    }
    building = tap ? sched : NULL;
    if (tap) {
        tap->is_begun = false;
        tap->inputs.n = 0;
        tap->gates    = NULL;
    }
}

void capture_on_set_eval_callback(void * sched, ggml_eval_fn fn, void * user_data) {
    struct tap * tap = tap_find(sched);
    just_made = NULL;
    if (tap) {
        tap->knows_callback   = true;
        tap->program_fn       = fn;
        tap->program_data     = user_data;
        tap->has_our_callback = false;
    }
}

void capture_on_new_graph(struct ggml_context * ctx, struct ggml_cgraph * graph) {
    last_graph.ctx   = ctx;
    last_graph.graph = graph;
}

void capture_on_named(struct ggml_tensor * tensor, const char * name) {
    int32_t      index = 0;
    struct tap * tap   = building && is_worth_tapping() && node_kind(name, &index) == NODE_GATES ? tap_find(building)
                       : NULL;
    if (tap) {
        tap->gates       = tensor;
        tap->gates_layer = index;
    }
}

void capture_on_set_input(const struct ggml_tensor * tensor) {
    struct tap * tap = building ? tap_find(building) : NULL;
    if (tap && tap->inputs.n < GRAPH_INPUTS_MAX) {
        tap->inputs.at[tap->inputs.n++] = tensor;
    }
}

void capture_on_mul_mat_id(const struct real * real, struct ggml_context * ctx, const struct ggml_tensor * weights,
                           struct ggml_tensor * ids, const struct ggml_tensor * product) {
    struct tap * tap = building ? tap_find(building) : NULL;
    if (tap == NULL || (tap->model_key && !is_worth_tapping())) {
        return;
    }
    const size_t   expert_bytes = layer_bytes_of_one(real, weights, product);
    struct layer * layer        = layers_add_tensor(&tap->layers, real->ggml_get_name(weights), expert_bytes);
    if (layer == NULL) {
        return;
    }
    if (tap->model_key == NULL) {
        tap->model_key = weights;
    }
    begin_graph(tap);
    if (last_graph.ctx == ctx) {
        struct ggml_tensor * gates = tap->gates_layer == layer->index ? tap->gates : NULL;
        graph_taps_add(&tap->graph, ctx, last_graph.graph, layer, ids, gates);
    }
}

//
// allocating
//

// What the scheduler tells of its memory has ours in it, from the first reserve on.
static void measure(struct tap * tap, struct ggml_cgraph * graph) {
    if (tap->in_graph && tap->graph.trouble == NULL) {
        graph_taps_measure(&tap->graph, graph);
        const size_t room = graph_taps_room(&tap->graph);
        tap->room = room > tap->room ? room : tap->room;
    }
}

// On every device there may be a strip, and on the host what is brought there from the devices.
static size_t room_at(const struct tap * tap, int strip, size_t compute) {
    const bool is_host = tap->graph.strips[strip].is_cpu && tap->graph.n_strips > 1;
    return is_host ? tap->room * (size_t) (1 + flights_number(tap->room, compute)) : tap->room;
}

// The graph is built. Returns its scheduler's tap, NULL: it has none.
static struct tap * end_graph(void * sched, struct ggml_cgraph * graph) {
    struct tap * tap = tap_find(sched);
    building = NULL;
    if (tap) {
        begin_graph(tap);
        graph_taps_place(&tap->graph, graph);
    }
    return tap;
}

struct call_result capture_reserve(const struct call * call) {
    struct ggml_cgraph     * graph  = call_pointer(call, 1);
    struct tap             * tap    = end_graph(call_pointer(call, 0), graph);
    const struct call_result result = call_on(call);
    building = NULL;
    if (tap) {
        measure(tap, graph);
        graph_taps_reserved(&tap->graph, call_bool(result));
    }
    return result;
}

struct call_result capture_reserve_size(const struct call * call) {
    struct ggml_cgraph     * graph  = call_pointer(call, 1);
    size_t                 * sizes  = call_pointer(call, 2);
    struct tap             * tap    = end_graph(call_pointer(call, 0), graph);
    const struct call_result result = call_on(call);
    building = NULL;
    if (tap == NULL) {
        return result;
    }
    measure(tap, graph);
    graph_taps_reserved(&tap->graph, false);
    size_t compute = 0;
    for (int i = 0; i < tap->graph.n_strips; i++) {
        compute += sizes[i];
    }
    for (int i = 0; i < tap->graph.n_strips; i++) {
        sizes[i] += room_at(tap, i, compute);
    }
    return result;
}

void capture_on_split(void * sched) {
    struct tap * tap = tap_find(sched);
    if (tap) {
        graph_taps_learn_backends(&tap->graph);
    }
}

struct call_result capture_buffer_size(const struct call * call) {
    const struct tap * tap     = tap_find(call_pointer(call, 0));
    const void       * backend = call_pointer(call, 1);
    struct call_result result  = call_on(call);
    for (int i = 0; tap && tap->room > 0 && i < tap->graph.n_strips; i++) {
        if (tap->graph.strips[i].backend == backend) {
            result.low += room_at(tap, i, graph_taps_compute_size(&tap->graph));
            break;
        }
    }
    return result;
}

// Once for each layer, and again where a further tensor of it turns up.
static void check_bytes(struct tap * tap) {
    const char * path     = NULL;
    bool         is_found = false;
    for (int32_t i = 0; i < tap->layers.n; i++) {
        struct layer * layer = tap->layers.at[i];
        if (layer == NULL || layer->is_checked || layer->n_tensors == 0) {
            continue;
        }
        if (!is_found) {
            is_found = true;
            path     = context_model_file(context_current());
        }
        struct file_tensor tensors[ROUTING_TENSORS_MAX];
        int32_t            n_expert = 0;
        int                n        = 0;
        if (path) {
            n = opened_file_tensors(path, layer->index, tensors, ROUTING_TENSORS_MAX, &n_expert);
        }
        layer_check_bytes(layer, tensors, n, n_expert);
    }
}

struct call_result capture_alloc_graph(const struct call * call) {
    struct tap             * tap    = end_graph(call_pointer(call, 0), call_pointer(call, 1));
    const struct call_result result = call_on(call);
    if (tap) {
        check_bytes(tap);
        graph_taps_settle(&tap->graph, call_bool(result));
    }
    return result;
}

struct call_result capture_compute(const struct call * call) {
    struct tap * tap = tap_find(call_pointer(call, 0));
    building  = NULL;
    just_made = NULL;
    return tap ? compute_tapped(tap, call) : compute_untapped(call, tap_why_none());
}

void capture_on_synchronize(void * sched) {
    struct tap * tap = tap_find(sched);
    if (tap) {
        tap_landed(tap, flights_land(&tap->flights, &tap->graph));
    }
}

bool capture_is_in_graphs(void) {
    return tap_any_in_graph();
}

void capture_drop_all(void) {
    tap_drop_all();
    device_memory_keep(NULL);
}

void capture_forget_all(void) {
    tap_forget_all();
    flights_forget_all();
    device_memory_forget_all();
    building  = NULL;
    just_made = NULL;
}
