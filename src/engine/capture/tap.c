// Finds schedulers' taps, makes and frees them, and waits for what is on its way through them.

#include "engine/capture/tap.h"

#include "engine/capture/device-memory.h"
#include "engine/upstream/arrival.h"
#include "engine/upstream/host-log.h"

#include <stdlib.h>
#include <string.h>

static struct keyed_list               taps = KEYED_LIST_EMPTY;
static _Thread_local struct keyed_last last_tap;
static atomic_bool                     only_by_callback; // for schedulers to come
static atomic_bool                     has_untapped;     // there is a scheduler without a tap, for lack of memory

bool tap_set_way(const char * way) {
    const bool by_callback = way && strcmp(way, eval_reading_name) == 0;
    if (way && !by_callback && strcmp(way, "auto") != 0 && strcmp(way, flights_name) != 0) {
        return false;
    }
    atomic_store(&only_by_callback, by_callback);
    return true;
}

struct tap * tap_find(const void * sched) {
    return keyed_find(&taps, &last_tap, sched);
}

struct tap * tap_new(const struct real * real, void * sched, bool was_there) {
    struct tap * tap = calloc(1, sizeof(*tap));
    if (tap == NULL) {
        atomic_store(&has_untapped, true);
        return NULL;
    }
    tap->sched          = sched;
    tap->real           = real;
    tap->was_there      = was_there;
    tap->knows_callback = !was_there;
    if (!atomic_load(&only_by_callback)) {
        graph_taps_init(&tap->graph, real, sched, &tap->layers, was_there);
        tap->in_graph = true;
    }
    tap->keyed.key = sched;
    keyed_add(&taps, &tap->keyed);
    return tap;
}

const char * tap_why_none(void) {
    return atomic_load_explicit(&has_untapped, memory_order_relaxed) ? ROUTING_LACKS_MEMORY
         : arrived_late()                                            ? ROUTING_WAS_UNDER_WAY : NULL;
}

void tap_unlist(struct tap * tap) {
    keyed_remove(&taps, &tap->keyed);
}

void tap_free(struct tap * tap) {
    flights_free(&tap->flights, &tap->graph);
    graph_taps_free(&tap->graph);
    layers_free(&tap->layers);
    tokens_free(&tap->tokens);
    eval_reading_free(&tap->reading);
    free(tap);
}

bool tap_uses_graph(const struct tap * tap) {
    return tap->in_graph && tap->program_fn == NULL;
}

void tap_give_up(struct tap * tap, struct context * context, const char * why) {
    tap->gave_up = why;
    context_stop(context, why);
    log_line(host_log, LOG_ERROR, "%s; tracing of this context stops here, the program goes on", why);
}

void tap_landed(struct tap * tap, bool is_right) {
    if (!is_right && tap->gave_up == NULL) {
        tap_give_up(tap, atomic_load(&tap->owner), routing_looks_wrong);
    }
}

void tap_await_flights(struct tap * tap) {
    tap_landed(tap, flights_await(&tap->flights, &tap->graph));
}

void tap_await_flights_of(bool (*is_it)(const struct tap * tap, const void * whose), const void * whose) {
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
        tap_await_flights((struct tap *) keyed);
    }
}

//
// all of them
//

bool tap_any_in_graph(void) {
    bool found = false;
    pthread_mutex_lock(&taps.mutex);
    for (const struct keyed * keyed = taps.first; keyed && !found; keyed = keyed->next) {
        found = atomic_load(&((const struct tap *) keyed)->is_in_graph);
    }
    pthread_mutex_unlock(&taps.mutex);
    return found;
}

// A graph that is evaluated again, without us, writes to the memory that was placed in it.
static void leave_memory(struct tap * tap) {
    for (int i = 0; i < tap->graph.n_strips && atomic_load(&tap->is_in_graph); i++) {
        device_memory_leave_to(tap->graph.strips[i].buffer, tap->sched);
        tap->graph.strips[i].buffer = NULL;
    }
}

void tap_drop_all(void) {
    while (taps.first) {
        struct tap * tap = (struct tap *) taps.first;
        tap_unlist(tap);
        flights_drop(&tap->flights);
        leave_memory(tap);
        tap_free(tap);
    }
}

void tap_forget_all(void) {
    keyed_forget_all(&taps);
}
