// Follows each scheduler from its making over the building of its graphs to their end, as the hooks report it, and has
// the routing of each graph read by the taps or by the eval callback.

#include "engine/capture/capture.h"

#include "engine/capture/device-memory.h"
#include "engine/capture/eval-reading.h"
#include "engine/capture/flights.h"
#include "engine/capture/graph-taps.h"
#include "engine/context/context.h"
#include "engine/context/opened-file.h"
#include "engine/upstream/host-log.h"
#include "engine/upstream/keyed-list.h"
#include "engine/upstream/layers.h"
#include "routing/sinks.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct tap {
    struct keyed         keyed;        // by the scheduler
    void               * sched;
    const struct real  * real;
    struct context     * context;      // whose graph is being computed, NULL: nobody's that is traced
    _Atomic(struct context *) owner;   // whose graph was computed last
    struct context     * unseen;       // the context behind this scheduler where llama_decode is not seen
    bool                 lacks_unseen; // there is no memory for it
    const void         * model_key;    // an expert tensor: what the unseen context's model is known by
    struct layers        layers;
    struct graph_inputs  inputs;       // of the graph that was built last
    struct ubatch_tokens tokens;       // of the ubatch that is being computed
    const char         * gave_up;      // why graphs are passed on as they are from now on, NULL: they are not

    ggml_eval_fn         program_fn;   // NULL: the program has none
    void               * program_data;
    bool                 program_wants;    // the node that was asked for last
    bool                 has_our_callback; // the scheduler calls on_node()

    // in the graph
    struct ggml_tensor * gates;        // the gate weights that were made last, NULL: none in this graph
    int32_t              gates_layer;
    bool                 in_graph;     // this way is taken where it can be
    bool                 is_begun;     // with the graph that is being built
    struct graph_taps    graph;
    struct flights       flights;
    size_t               room;         // that the scheduler's sizes include

    struct eval_reading  reading;      // by the eval callback
};

static struct keyed_list    taps = KEYED_LIST_EMPTY;
static atomic_bool          only_by_callback;  // for schedulers to come
static atomic_bool          has_untapped;      // there is a scheduler without a tap, for lack of memory
static _Thread_local const void * building;    // the scheduler whose graph this thread builds
static _Thread_local const void * just_made;   // the scheduler that this thread created a moment ago
static _Thread_local struct {
    struct ggml_context * ctx;
    struct ggml_cgraph  * graph;
} last_graph;                                  // that this thread made
static _Thread_local struct keyed_last last_tap;

bool capture_set_way(const char * way) {
    const bool by_callback = way && strcmp(way, eval_reading_name) == 0;
    if (way && !by_callback && strcmp(way, "auto") != 0 && strcmp(way, flights_name) != 0) {
        return false;
    }
    atomic_store(&only_by_callback, by_callback);
    return true;
}

static struct tap * tap_find(const void * sched) {
    return keyed_find(&taps, &last_tap, sched);
}

void capture_on_sched_new(const struct real * real, void * sched) {
    device_memory_on_sched_new(real, sched);
    const bool   is_wanted = sinks_any();
    struct tap * tap       = is_wanted ? calloc(1, sizeof(*tap)) : NULL;
    if (tap == NULL) {
        if (is_wanted) {
            atomic_store(&has_untapped, true);
        }
        return;
    }
    tap->sched    = sched;
    tap->real     = real;
    if (!atomic_load(&only_by_callback)) {
        graph_taps_init(&tap->graph, real, sched, &tap->layers);
        tap->in_graph = true;
    }
    tap->keyed.key = sched;
    keyed_add(&taps, &tap->keyed);
    just_made = sched;
    building  = NULL;
}

static void give_up(struct tap * tap, struct context * context, const char * why) {
    tap->gave_up = why;
    context_stop(context, why);
    log_line(host_log, LOG_ERROR, "%s; tracing of this context stops here, the program goes on", why);
}

// What was on its way is here.
static void landed(struct tap * tap, bool is_right) {
    if (!is_right && tap->gave_up == NULL) {
        give_up(tap, atomic_load(&tap->owner), routing_looks_wrong);
    }
}

// Waits for what is on its way.
static void await_flights(struct tap * tap) {
    landed(tap, flights_await(&tap->flights, &tap->graph));
}

static void tap_free(struct tap * tap) {
    flights_free(&tap->flights, &tap->graph);
    graph_taps_free(&tap->graph);
    layers_free(&tap->layers);
    tokens_free(&tap->tokens);
    eval_reading_free(&tap->reading);
    free(tap);
}

// The tap is the one of the scheduler that is freed.
static void tap_remove(struct tap * tap) {
    keyed_remove(&taps, &tap->keyed);

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
        tap_remove(tap);
    }
    device_memory_on_sched_free(sched);
}

static bool tap_is_of_backend(const struct tap * tap, const void * backend) {
    return graph_taps_use(&tap->graph, backend);
}

static bool tap_is_of_context(const struct tap * tap, const void * context) {
    return atomic_load(&tap->owner) == context;
}

// Waits for what is on its way to the first tap that `is_it`.
static void await_flights_of(bool (*is_it)(const struct tap *, const void *), const void * whose) {
    if (atomic_load_explicit(&taps.n, memory_order_relaxed) == 0) {
        return;
    }
    pthread_mutex_lock(&taps.mutex);
    struct keyed * keyed = taps.first;
    while (keyed && !is_it((const struct tap *) keyed, whose)) {
        keyed = keyed->next;
    }
    pthread_mutex_unlock(&taps.mutex);
    if (keyed) {
        await_flights((struct tap *) keyed);
    }
}

// Older releases free a context's backends without waiting for them, and its scheduler after that.
void capture_on_backend_free(const void * backend) {
    await_flights_of(tap_is_of_backend, backend);
}

void capture_on_context_free(const struct llama_context * key) {
    const struct context * context = context_of_key(key);
    if (context) {
        await_flights_of(tap_is_of_context, context);
    }
}

//
// building
//

// Where the program has an eval callback, each node is awaited anyway, and nodes of ours would be shown to it.
static bool uses_graph(const struct tap * tap) {
    return tap->in_graph && tap->program_fn == NULL;
}

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
    if (!uses_graph(tap) || tap->gave_up || !is_worth_tapping()) {
        graph_taps_drop(&tap->graph);
        return;
    }
    if (graph_taps_must_move(&tap->graph, sinks_want() & ROUTING_WANTS_GATES)) { // nothing may be landing then
        tap->real->ggml_backend_sched_synchronize(tap->sched);
        await_flights(tap);
    }
    graph_taps_begin(&tap->graph);
}

void capture_on_sched_reset(void * sched) {
    struct tap * tap = tap_find(sched);
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
    struct tap * tap   = building && node_kind(name, &index) == NODE_GATES ? tap_find(building) : NULL;
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
    if (tap == NULL) {
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

void capture_on_synchronize(void * sched) {
    struct tap * tap = tap_find(sched);
    if (tap) {
        landed(tap, flights_land(&tap->flights, &tap->graph));
    }
}

//
// computing
//

// Asked before a node is computed: is it wanted? And, if it was, after: shall the graph go on? Releases want a bool,
// forks an int that is exactly 1. A register with 0 or 1 in it is both; what the program's own callback says goes back
// as it is.
static uintptr_t on_node(struct ggml_tensor * node, uintptr_t ask, void * user_data) {
    struct tap    * tap   = user_data;
    const uintptr_t yes   = 1;
    const bool      asked = (ask & 0xff) != 0; // a bool or an int, 0 or 1
    if (asked) {
        const uintptr_t said = tap->program_fn ? tap->program_fn(node, yes, tap->program_data) : 0;
        tap->program_wants   = (said & 0xff) != 0;
        const bool wanted    = tap->context && tap->gave_up == NULL &&
                               eval_reading_look(&tap->reading, tap->real, &tap->layers, node);
        return wanted ? yes : tap->program_wants ? said : 0;
    }
    if (tap->context && tap->gave_up == NULL) {
        const char * wrong = eval_reading_read(&tap->reading, tap->real, &tap->layers, tap->context, &tap->tokens,
                                               node);
        if (wrong) {
            give_up(tap, tap->context, wrong);
        }
    }
    return tap->program_wants ? tap->program_fn(node, 0, tap->program_data) : yes;
}

static void set_callback(struct tap * tap, bool ours) {
    tap->has_our_callback = ours;
    const ggml_eval_fn fn   = ours ? on_node      : tap->program_fn;
    void       * const data = ours ? (void *) tap : tap->program_data;
    tap->real->ggml_backend_sched_set_eval_callback(tap->sched, fn, data);
}

static bool has_routing(const struct real * real, struct ggml_cgraph * graph) {
    const int n = real->ggml_graph_n_nodes(graph);
    for (int i = 0; i < n; i++) {
        int32_t index;
        if (node_kind(real->ggml_get_name(real->ggml_graph_node(graph, i)), &index) == NODE_TOPK) {
            return true;
        }
    }
    return false;
}

// The context whose graph this is. One that is not seen begins with its first MoE graph.
static struct context * context_of(struct tap * tap, struct ggml_cgraph * graph) {
    struct context * context = context_current();
    tap->lacks_unseen = false;
    if (context) {
        return context;
    }
    if (tap->model_key == NULL || context_is_lacking()) {
        return NULL;
    }
    if (tap->unseen && tap->unseen->model.key != tap->model_key) {
        context_close(tap->unseen); // inherited, and not the same model after all
        tap->unseen = NULL;
    }
    if (tap->unseen == NULL && has_routing(tap->real, graph)) {
        tap->unseen       = context_new_unseen(tap->real, tap->sched, tap->model_key);
        tap->lacks_unseen = tap->unseen == NULL;
    }
    return tap->unseen;
}

// Why the taps cannot do it is logged once for each scheduler.
static void fall_back(struct tap * tap) {
    log_line(host_log, LOG_INFO, "routing is read by the eval callback, which stops the device at every layer: %s",
        tap->graph.trouble);
    tap->in_graph = false;
    tap->room     = 0;
}

static bool is_computed(struct call_result result) {
    return (int32_t) (uint32_t) result.low == 0; // GGML_STATUS_SUCCESS
}

// Nothing is read of this graph, though there are listeners: that is delivered if it is a model's.
static struct call_result compute_and_lose(const struct call * call, struct context * context, const char * why) {
    struct ggml_cgraph     * graph    = call_pointer(call, 1);
    const uint64_t           n_tokens = graph_n_tokens(call->real, graph);
    const bool               is_lost  = n_tokens > 0 || has_routing(call->real, graph);
    const struct call_result result   = call_on(call);
    if (is_lost && is_computed(result)) {
        context_lose_ubatch(context, n_tokens, why);
    }
    return result;
}

static bool is_routing_wanted(void) {
    const struct context * context = context_current();
    return context ? context_is_wanted(context) : sinks_want() & ROUTING_WANTS_ROUTING;
}

// Nobody wants to know.
static struct call_result compute_unread(struct tap * tap, const struct call * call) {
    await_flights(tap);
    if (tap->has_our_callback) {
        set_callback(tap, false);
    }
    return call_on(call);
}

// There is no tap. Where that is for lack of memory, what the context evaluates is lost.
static struct call_result compute_untapped(const struct call * call) {
    const bool       is_lost = atomic_load_explicit(&has_untapped, memory_order_relaxed) && is_routing_wanted();
    struct context * context = is_lost ? context_current() : NULL;
    const bool       is_open = context && (context_open(context, NULL) || context->sinks.lacks_memory);
    const bool       loses   = is_open || (is_lost && context_is_lacking());
    return loses ? compute_and_lose(call, context, ROUTING_LACKS_MEMORY) : call_on(call);
}

static struct call_result compute_with_callback(struct tap * tap, const struct call * call) {
    eval_reading_reset(&tap->reading, sinks_want() & ROUTING_WANTS_GATES);
    const struct call_result result = call_on(call);
    if (is_computed(result)) {
        const uint64_t n_tokens = graph_n_tokens(tap->real, call_pointer(call, 1));
        if (tap->gave_up) {
            context_lose_ubatch(tap->context, n_tokens, tap->gave_up);
            return result;
        }
        eval_reading_tell(&tap->reading, &tap->layers, tap->context, &tap->tokens, n_tokens, uses_graph(tap));
    }
    return result;
}

static struct call_result compute_with_taps(struct tap * tap, const struct call * call) {
    flights_mark(&tap->flights, &tap->graph);
    const struct call_result result = call_on(call);
    if (is_computed(result)) {
        landed(tap, flights_add(&tap->flights, &tap->graph, tap->context, &tap->tokens));
    }
    return result;
}

struct call_result capture_compute(const struct call * call) {
    struct tap         * tap   = tap_find(call_pointer(call, 0));
    struct ggml_cgraph * graph = call_pointer(call, 1);
    building  = NULL;
    just_made = NULL;
    if (tap == NULL) {
        return compute_untapped(call);
    }
    if (!is_routing_wanted()) {
        return compute_unread(tap, call);
    }
    if (tap->gave_up) {
        struct context * context = context_current() ? context_current() : tap->unseen;
        return context ? compute_and_lose(call, context, tap->gave_up) : call_on(call);
    }
    if (tap->in_graph && tap->graph.trouble) {
        fall_back(tap);
    }
    struct context * context = context_of(tap, graph);
    if (context_is_lacking() || tap->lacks_unseen) {
        return compute_and_lose(call, NULL, ROUTING_LACKS_MEMORY);
    }
    const bool is_open = context && context_open(context, uses_graph(tap) ? flights_name : eval_reading_name);
    if (context && (is_open ? context->is_batch_lost : context->sinks.lacks_memory)) {
        return compute_and_lose(call, context, ROUTING_LACKS_MEMORY);
    }
    tap->context = is_open ? context : NULL;
    const bool by_callback = tap->context && !graph_taps_catch(&tap->graph, graph);
    if (by_callback) {
        await_flights(tap);
    }
    if (by_callback != tap->has_our_callback) {
        set_callback(tap, by_callback);
    }
    struct call_result result;
    if (tap->context == NULL) {
        result = call_on(call);
    } else {
        atomic_store(&tap->owner, tap->context);
        tokens_read(&tap->tokens, call->real, &tap->inputs, tap->context, graph);
        result = by_callback ? compute_with_callback(tap, call) : compute_with_taps(tap, call);
    }
    tap->context = NULL;
    return result;
}

void capture_forget_all(void) {
    keyed_forget_all(&taps);
    flights_forget_all();
    device_memory_forget_all();
    building  = NULL;
    just_made = NULL;
}
