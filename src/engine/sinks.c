#include "sinks.h"

#include "fork-reset.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

struct slot {
    const struct routing_sink * sink;
    void                      * self;
    atomic_uint                 generation; // odd: attached
    atomic_int                  busy;       // calls that are running
};

static struct slot     slots[SINKS_MAX];
static pthread_mutex_t attach_mutex = PTHREAD_MUTEX_INITIALIZER;

static bool is_attached(unsigned generation) {
    return generation % 2 == 1;
}

int sinks_attach(const struct routing_sink * sink, void * self) {
    int found = -1;
    pthread_mutex_lock(&attach_mutex);
    for (int i = 0; i < SINKS_MAX && found < 0; i++) {
        if (!is_attached(atomic_load(&slots[i].generation))) {
            found         = i;
            slots[i].sink = sink;
            slots[i].self = self;
            atomic_fetch_add(&slots[i].generation, 1);
        }
    }
    pthread_mutex_unlock(&attach_mutex);
    return found;
}

void sinks_detach(int slot) {
    pthread_mutex_lock(&attach_mutex);
    atomic_fetch_add(&slots[slot].generation, 1);
    while (atomic_load(&slots[slot].busy) > 0) {
        sched_yield();
    }
    pthread_mutex_unlock(&attach_mutex);
}

void sinks_forget_all(void) {
    fork_reset_mutex(&attach_mutex);
    for (int i = 0; i < SINKS_MAX; i++) {
        const unsigned generation = atomic_load(&slots[i].generation);
        atomic_store(&slots[i].generation, generation + generation % 2);
        atomic_store(&slots[i].busy, 0);
    }
}

bool sinks_any(void) {
    for (int i = 0; i < SINKS_MAX; i++) {
        if (is_attached(atomic_load_explicit(&slots[i].generation, memory_order_relaxed))) {
            return true;
        }
    }
    return false;
}

// Enters a slot for one call, if somebody is attached there. To be left again. Returns its generation, 0: nobody.
static unsigned enter(struct slot * slot) {
    atomic_fetch_add(&slot->busy, 1);
    const unsigned generation = atomic_load(&slot->generation);
    if (!is_attached(generation)) {
        atomic_fetch_sub(&slot->busy, 1);
        return 0;
    }
    return generation;
}

static void leave(struct slot * slot) {
    atomic_fetch_sub(&slot->busy, 1);
}

#define FOR_EACH_OPEN(context, sink, handle, call)                              \
    for (int i = 0; i < SINKS_MAX; i++) {                                       \
        void * const handle = (context)->handles[i];                            \
        if (!handle) {                                                          \
            continue;                                                           \
        }                                                                       \
        const unsigned generation = enter(&slots[i]);                           \
        if (generation == (context)->generations[i]) {                          \
            const struct routing_sink * const sink = slots[i].sink;             \
            call;                                                               \
        }                                                                       \
        if (generation) {                                                       \
            leave(&slots[i]);                                                   \
        }                                                                       \
    }

bool sinks_open(struct sinks_context * context, const struct routing_model * model, const void * context_key) {
    bool interest = false;
    for (int i = 0; i < SINKS_MAX; i++) {
        const unsigned generation = enter(&slots[i]);
        if (!generation) {
            continue;
        }
        if (context->generations[i] != generation) {
            context->generations[i] = generation;
            context->handles[i]     = slots[i].sink->context_open(slots[i].self, model, context_key);
        }
        interest = interest || context->handles[i];
        leave(&slots[i]);
    }
    return interest;
}

void sinks_layer(struct sinks_context * context, const struct routing_layer * layer, enum routing_fate fate) {
    FOR_EACH_OPEN(context, sink, handle, sink->layer(handle, layer, fate))
}

void sinks_ubatch(struct sinks_context * context, const struct routing_ubatch * ubatch) {
    FOR_EACH_OPEN(context, sink, handle, sink->ubatch(handle, ubatch))
}

void sinks_decode(struct sinks_context * context, const struct routing_decode * decode) {
    FOR_EACH_OPEN(context, sink, handle, sink->decode(handle, decode))
}

void sinks_settle(struct sinks_context * context, bool warmup) {
    FOR_EACH_OPEN(context, sink, handle, sink->settle(handle, warmup))
}

void sinks_close(struct sinks_context * context) {
    FOR_EACH_OPEN(context, sink, handle, sink->context_close(handle))
    for (int i = 0; i < SINKS_MAX; i++) {
        context->handles[i] = NULL;
    }
}

void sinks_model_close(const void * model_key) {
    for (int i = 0; i < SINKS_MAX; i++) {
        if (enter(&slots[i])) {
            slots[i].sink->model_close(slots[i].self, model_key);
            leave(&slots[i]);
        }
    }
}
