// Brings what landed in the strips to the host behind each graph, and delivers it to the listeners in order.

#include "engine/capture/flights.h"

#include "engine/capture/device-memory.h"
#include "engine/context/context-events.h"

#include <stdlib.h>
#include <string.h>

#define ALIGNMENT         128 // of a device's part
#define SHARE_MAX         100 // all that we add is at most one in so many bytes of the compute buffers
#define FLIGHTS_MIN         2
#define SMALL       (1 << 20) // bytes that are not worth counting

const char flights_name[] = "graph";

//
// memory
//

static void memory_free(struct flight * flight) {
    if (flight->buffer) {
        device_memory_give_back(flight->buffer);
    } else {
        free(flight->memory);
    }
    flight->buffer = NULL;
    flight->memory = NULL;
    flight->size   = 0;
}

// Memory that a device can write to by itself, if one of those that take part offers it.
static void * pinned(const struct graph_taps * taps, const struct tap_plan * plan, size_t size) {
    const struct real * real = taps->real;
    for (int i = 0; i < taps->n_strips && real->ggml_backend_dev_host_buffer_type; i++) {
        if (plan->used[i] == 0 || taps->strips[i].is_cpu) {
            continue;
        }
        void * const device = real->ggml_backend_get_device(taps->strips[i].backend);
        void * const type   = device ? real->ggml_backend_dev_host_buffer_type(device) : NULL;
        void * const buffer = type   ? device_memory_take(real, type, device, size) : NULL;
        if (buffer) {
            return buffer;
        }
    }
    return NULL;
}

// Takes as much as the largest graph needs: once.
static bool memory_make(const struct graph_taps * taps, const struct tap_plan * plan, struct flight * flight,
                        size_t size) {
    if (flight->size >= size) {
        return true;
    }
    const size_t largest = graph_taps_room(taps);
    size = largest > size ? largest : size;
    memory_free(flight);
    flight->buffer = pinned(taps, plan, size);
    flight->memory = flight->buffer ? taps->real->ggml_backend_buffer_get_base(flight->buffer) : malloc(size);
    flight->size   = flight->memory ? size : 0;
    return flight->memory != NULL;
}

int flights_number(size_t room, size_t compute) {
    int n = FLIGHTS_MAX;
    while (n > FLIGHTS_MIN && room * (size_t) (1 + n) > SMALL && room * (size_t) (1 + n) > compute / SHARE_MAX) {
        n--;
    }
    return n;
}

void flights_free(struct flights * flights, const struct graph_taps * taps) {
    for (int i = 0; i < FLIGHTS_MAX; i++) {
        struct flight * flight = &flights->ring[i];
        memory_free(flight);
        tokens_free(&flight->tokens);
        for (int k = 0; k < taps->n_strips; k++) {
            if (flight->events[k]) {
                taps->real->ggml_backend_event_free(flight->events[k]);
            }
        }
    }
    free(flights->compact);
    *flights = (struct flights) { 0 };
}

//
// landing
//

// Whether the rows do not lie one behind the other.
static bool is_scattered(const struct tap_point * point, const struct routing_layer * layer) {
    return layer->n_tokens > 1 && point->stride != (size_t) layer->n_used * sizeof(int32_t);
}

static size_t n_ids(const struct routing_layer * layer) {
    return (size_t) layer->n_tokens * (size_t) layer->n_used;
}

// Memory for the layers whose rows are scattered.
static bool compact_make(struct flights * flights, const struct tap_plan * plan) {
    size_t n = 0;
    for (int32_t i = 0; i < plan->n_layers; i++) {
        n += is_scattered(&plan->points[i], &plan->layers[i]) ? n_ids(&plan->layers[i]) : 0;
    }
    if (n > flights->n_compact) {
        int32_t * grown = realloc(flights->compact, n * sizeof(*grown));
        if (grown == NULL) {
            return false;
        }
        flights->compact   = grown;
        flights->n_compact = n;
    }
    return true;
}

static void tell_lost_flight(const struct flight * flight, const char * why) {
    context_deliver_lost(flight->context, flight->fate, flight->n_tokens, why);
}

// Tells the listeners what landed. `memory`: where each strip's part is. Returns false where it is not as it should be.
static bool tell(struct flights * flights, const struct flight * flight, const char * const memory[]) {
    struct tap_plan     * plan   = flight->plan;
    struct routing_ubatch ubatch = {
        .fate = flight->fate, .n_tokens = flight->n_tokens, .n_layers = plan->n_layers, .layers = plan->layers,
        .is_moe = plan->is_moe, .capture = flights_name,
    };
    if (!compact_make(flights, plan)) {
        tell_lost_flight(flight, ROUTING_LACKS_MEMORY);
        return true;
    }
    tokens_describe(&flight->tokens, &ubatch);
    int32_t * compact = flights->compact;
    for (int32_t i = 0; i < plan->n_layers; i++) {
        const struct tap_point * point = &plan->points[i];
        struct routing_layer   * layer = &plan->layers[i];
        const char       * const from  = memory[point->strip] + point->offset;
        if (is_scattered(point, layer)) {
            routing_compact(compact, from, point->stride, layer->n_tokens, layer->n_used);
            layer->experts = compact;
            compact += n_ids(layer);
        } else {
            layer->experts = (const int32_t *) (const void *) from;
        }
        layer->gates = point->has_gates ? (const float *) (const void *) (memory[point->strip] + point->gates) : NULL;
        if (!routing_is_in_range(layer)) {
            tell_lost_flight(flight, routing_looks_wrong);
            return false;
        }
        ubatch.rows_known = tokens_describe_rows(&flight->tokens, layer) && ubatch.rows_known;
    }
    context_ubatch_deliver(flight->context, &ubatch);
    return true;
}

// Takes the oldest out of the ring. It stays as it is until a further one takes off.
atomic_int flights_in_the_air;

void flights_forget_all(void) {
    atomic_store(&flights_in_the_air, 0);
}

static struct flight * take_first(struct flights * flights) {
    struct flight * flight = &flights->ring[flights->first];
    flights->first = (flights->first + 1) % FLIGHTS_MAX;
    flights->n--;
    atomic_fetch_sub_explicit(&flights_in_the_air, 1, memory_order_relaxed);
    return flight;
}

static bool land_first(struct flights * flights, const struct graph_taps * taps) {
    struct flight   * flight = take_first(flights);
    struct tap_plan * plan   = flight->plan;
    const char      * memory[BACKENDS_MAX];
    for (int i = 0; i < taps->n_strips; i++) {
        memory[i] = flight->memory + flight->at[i];
    }
    const bool told = tell(flights, flight, memory);
    context_events_ubatch_landed(flight->context);
    tap_plan_release(plan);
    return told;
}

bool flights_land(struct flights * flights, struct graph_taps * taps) {
    bool whole = true;
    while (flights->n > 0) {
        whole = land_first(flights, taps) && whole;
    }
    return whole;
}

bool flights_await(struct flights * flights, struct graph_taps * taps) {
    if (flights->n == 0) {
        return true;
    }
    taps->real->ggml_backend_sched_synchronize(taps->sched);
    return flights_land(flights, taps);
}

int flights_drop(struct flights * flights) {
    const int n = flights->n;
    while (flights->n > 0) {
        struct flight * flight = take_first(flights);
        context_events_ubatch_landed(flight->context);
        tap_plan_release(flight->plan);
    }
    return n;
}

//
// taking off
//

// Waits for the oldest alone where its devices can tell, and for everything where they cannot.
static bool make_place(struct flights * flights, struct graph_taps * taps) {
    const struct flight * oldest = &flights->ring[flights->first];
    if (!oldest->is_marked) {
        return flights_await(flights, taps);
    }
    for (int i = 0; i < taps->n_strips; i++) {
        if (oldest->plan->used[i] > 0 && oldest->events[i]) {
            taps->real->ggml_backend_event_synchronize(oldest->events[i]);
        }
    }
    return land_first(flights, taps);
}

static bool can_mark(const struct real * real) {
    return real->ggml_backend_event_new && real->ggml_backend_event_free && real->ggml_backend_event_record &&
           real->ggml_backend_event_synchronize;
}

// Returns whether the device can tell when it has come so far.
static bool mark(const struct graph_taps * taps, struct flight * flight, int strip) {
    const struct real * real    = taps->real;
    void        * const backend = taps->strips[strip].backend;
    if (!flight->events[strip] && can_mark(real)) {
        flight->events[strip] = real->ggml_backend_event_new(real->ggml_backend_get_device(backend));
    }
    if (flight->events[strip]) {
        real->ggml_backend_event_record(flight->events[strip], backend);
    }
    return flight->events[strip];
}

// In generation there is never more than one on its way, and nobody has to wait for it alone.
void flights_mark(struct flights * flights, const struct graph_taps * taps) {
    struct flight * last = flights->n > 0 ? &flights->ring[(flights->first + flights->n - 1) % FLIGHTS_MAX] : NULL;
    if (last == NULL || last->is_marked) {
        return;
    }
    last->is_marked = true;
    for (int i = 0; i < taps->n_strips; i++) {
        if (last->plan->used[i] > 0 && !taps->strips[i].is_cpu) {
            last->is_marked = mark(taps, last, i) && last->is_marked;
        }
    }
}

static bool is_here(const struct graph_taps * taps) {
    for (int i = 0; i < taps->n_strips; i++) {
        if (taps->plan->used[i] > 0 && !taps->strips[i].is_cpu) {
            return false;
        }
    }
    return true;
}

// All of it is in the processor's own memory already.
static bool tell_at_once(struct flights * flights, const struct graph_taps * taps, const struct flight * flight) {
    const char * memory[BACKENDS_MAX];
    for (int i = 0; i < taps->n_strips; i++) {
        memory[i] = taps->strips[i].base;
    }
    return tell(flights, flight, memory);
}

static void swap_tokens(struct ubatch_tokens * a, struct ubatch_tokens * b) {
    const struct ubatch_tokens kept = *a;
    *a = *b;
    *b = kept;
}

bool flights_add(struct flights * flights, struct graph_taps * taps, struct context * context,
                 struct ubatch_tokens * tokens) {
    const struct real * real     = taps->real;
    struct tap_plan   * plan     = taps->plan;
    const uint64_t      n_tokens = plan->n_tokens;
    if (n_tokens == 0) {
        return true; // not a model's graph: the memory's own
    }
    for (int32_t i = 0; i < plan->n_layers; i++) {
        if (plan->layers[i].n_expert == 0) { // the graph does not tell
            plan->layers[i].n_expert = context->model.n_expert;
        }
    }
    const enum routing_fate fate = context_ubatch_begin(context, plan->layers, plan->n_layers, n_tokens);
    if (flights->n == 0 && is_here(taps)) {
        const struct flight arrived = {
            .plan = plan, .context = context, .fate = fate, .n_tokens = n_tokens, .tokens = *tokens,
        };
        return tell_at_once(flights, taps, &arrived);
    }
    if (flights->n_max == 0) {
        flights->n_max = flights_number(graph_taps_room(taps), graph_taps_compute_size(taps));
    }
    const bool is_right = flights->n < flights->n_max || make_place(flights, taps);
    flights->first = flights->n > 0 ? flights->first : 0; // generation needs one alone
    struct flight * flight = &flights->ring[(flights->first + flights->n) % FLIGHTS_MAX];
    size_t          size   = 0;
    for (int i = 0; i < taps->n_strips; i++) {
        flight->at[i] = size;
        size         += (plan->used[i] + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    if (!memory_make(taps, plan, flight, size)) {
        context_deliver_lost(context, fate, n_tokens, ROUTING_LACKS_MEMORY);
        return is_right;
    }
    flight->is_marked = false;
    for (int i = 0; i < taps->n_strips; i++) {
        const struct strip * strip = &taps->strips[i];
        if (plan->used[i] > 0 && strip->is_cpu) {
            memcpy(flight->memory + flight->at[i], strip->base, plan->used[i]);
        } else if (plan->used[i] > 0) {
            char * const to = flight->memory + flight->at[i];
            real->ggml_backend_tensor_get_async(strip->backend, strip->whole, to, 0, plan->used[i]);
        }
    }
    flight->plan     = tap_plan_use(plan);
    flight->context  = context;
    flight->fate     = fate;
    flight->n_tokens = n_tokens;
    swap_tokens(&flight->tokens, tokens);
    flights->n++;
    atomic_fetch_add_explicit(&flights_in_the_air, 1, memory_order_relaxed);
    context_events_ubatch_started(context);
    return is_right;
}
