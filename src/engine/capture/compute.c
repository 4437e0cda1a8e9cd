// Has the routing of a graph that is computed read: as it lands from the graph itself, or node by node.

#include "engine/capture/compute.h"

#include "engine/capture/tap.h"
#include "engine/upstream/arrival.h"
#include "engine/upstream/host-log.h"
#include "routing/sinks.h"

#include <stdatomic.h>

#define UBATCHES_MAX 128 // of one batch

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
            tap_give_up(tap, tap->context, wrong);
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

// Whether this is of a batch that was begun before us, by a call that would be seen otherwise.
static bool is_under_way(struct tap * tap) {
    return tap->was_there && atomic_load(&arrival_sees_calls) && tap->n_uncalled++ < UBATCHES_MAX;
}

// The context whose graph this is. One that is not seen begins with its first MoE graph.
static struct context * context_of(struct tap * tap, struct ggml_cgraph * graph) {
    struct context * context = context_current();
    tap->lacks_unseen = false;
    if (context) {
        return context;
    }
    if (tap->model_key == NULL || context_is_lacking() || is_under_way(tap)) {
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
    tap_await_flights(tap);
    if (tap->has_our_callback) {
        set_callback(tap, false);
    }
    return call_on(call);
}

struct call_result compute_untapped(const struct call * call, const char * why) {
    const bool       is_lost = why && is_routing_wanted();
    struct context * context = is_lost ? context_current() : NULL;
    const bool       is_open = context && (context_open(context, NULL) || context->sinks.lacks_memory);
    const bool       loses   = is_open || (is_lost && context_is_lacking());
    return loses ? compute_and_lose(call, context, why) : call_on(call);
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
        eval_reading_tell(&tap->reading, &tap->layers, tap->context, &tap->tokens, n_tokens, tap_uses_graph(tap));
    }
    return result;
}

static struct call_result compute_with_taps(struct tap * tap, const struct call * call) {
    flights_mark(&tap->flights, &tap->graph);
    const struct call_result result = call_on(call);
    if (is_computed(result)) {
        tap_landed(tap, flights_add(&tap->flights, &tap->graph, tap->context, &tap->tokens));
    }
    return result;
}

// Where the eval callback that a scheduler has is not known, none of ours can take its place.
static const char * why_lost(const struct tap * tap, const struct context * context, bool is_open) {
    return !is_open             ? context->sinks.lacks_memory ? ROUTING_LACKS_MEMORY : NULL
         : tap->knows_callback  ? context->batch_lost : ROUTING_WAS_UNDER_WAY;
}

struct call_result compute_tapped(struct tap * tap, const struct call * call) {
    struct ggml_cgraph * graph = call_pointer(call, 1);
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
    const bool is_open = context && context_open(context, tap_uses_graph(tap) ? flights_name : eval_reading_name);
    const char * why   = context ? why_lost(tap, context, is_open) : NULL;
    if (why) {
        return compute_and_lose(call, context, why);
    }
    tap->context = is_open ? context : NULL;
    const bool by_callback = tap->context && !graph_taps_catch(&tap->graph, graph);
    if (by_callback) {
        tap_await_flights(tap);
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
