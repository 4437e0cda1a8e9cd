// Delivers events to up to SINKS_MAX listeners without a lock: each thread notes in a lane of its own that it is inside
// one, and whoever detaches a listener looks at all lanes.

#include "routing/sinks.h"

#include "base/cache-line.h"
#include "base/fork-reset.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#define N_LANES        64      // more threads than that share some
#define PATIENCE_STEP  1000000 // nanoseconds
#define PATIENCE_STEPS 500

struct slot {
    const struct routing_sink * sink;
    void                      * self;
    atomic_uint                 generation; // odd: attached
};

// Calls that are running, of the threads that use this lane: one thread mostly.
struct lane {
    _Alignas(CACHE_LINE) atomic_int busy[SINKS_MAX]; // by slot
};

static struct slot       slots[SINKS_MAX];
static pthread_mutex_t   attach_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct lane       lanes[N_LANES];
static atomic_uint       n_lanes_given;
static _Thread_local int lane_number; // from 1, 0: none yet

static struct lane * own_lane(void) {
    if (lane_number == 0) {
        lane_number = (int) (atomic_fetch_add(&n_lanes_given, 1) % N_LANES) + 1;
    }
    return &lanes[lane_number - 1];
}

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

// Nobody listens there any more; calls may still be running.
static void unplug(int slot) {
    if (is_attached(atomic_load(&slots[slot].generation))) {
        atomic_fetch_add(&slots[slot].generation, 1);
    }
}

static bool is_busy(int slot) {
    bool busy = false;
    for (int i = 0; i < N_LANES && !busy; i++) {
        busy = atomic_load(&lanes[i].busy[slot]) > 0;
    }
    return busy;
}

void sinks_detach(int slot) {
    pthread_mutex_lock(&attach_mutex);
    unplug(slot);
    while (is_busy(slot)) {
        sched_yield();
    }
    pthread_mutex_unlock(&attach_mutex);
}

void sinks_detach_at_end(int slot) {
    const struct timespec step = { 0, PATIENCE_STEP };
    unplug(slot);
    for (int i = 0; i < PATIENCE_STEPS && is_busy(slot); i++) {
        nanosleep(&step, NULL);
    }
}

void sinks_forget_all(void) {
    fork_reset_mutex(&attach_mutex);
    for (int i = 0; i < SINKS_MAX; i++) {
        const unsigned generation = atomic_load(&slots[i].generation);
        atomic_store(&slots[i].generation, generation + generation % 2);
        for (int k = 0; k < N_LANES; k++) {
            atomic_store(&lanes[k].busy[i], 0);
        }
    }
}

// Not yet, or not any more, is soon enough to notice.
static unsigned generation_of(int slot) {
    return atomic_load_explicit(&slots[slot].generation, memory_order_relaxed);
}

bool sinks_any(void) {
    for (int i = 0; i < SINKS_MAX; i++) {
        if (is_attached(generation_of(i))) {
            return true;
        }
    }
    return false;
}

// Enters a slot for one call, if somebody is attached there. To be left again. Returns its generation, 0: nobody.
static unsigned enter(int slot) {
    atomic_int * busy = &own_lane()->busy[slot];
    atomic_fetch_add(busy, 1);
    const unsigned generation = atomic_load(&slots[slot].generation);
    if (!is_attached(generation)) {
        atomic_fetch_sub(busy, 1);
        return 0;
    }
    return generation;
}

static void leave(int slot) {
    atomic_fetch_sub(&own_lane()->busy[slot], 1);
}

#define FOR_EACH_OPEN(context, sink, handle, call)                              \
    for (int i = 0; i < SINKS_MAX; i++) {                                       \
        void * const handle = (context)->handles[i];                            \
        if (!handle) {                                                          \
            continue;                                                           \
        }                                                                       \
        const unsigned generation = enter(i);                                   \
        if (generation == (context)->generations[i]) {                          \
            const struct routing_sink * const sink = slots[i].sink;             \
            call;                                                               \
        }                                                                       \
        if (generation) {                                                       \
            leave(i);                                                           \
        }                                                                       \
    }

static void open_with(int slot, struct sinks_context * context, const struct routing_model * model,
                      const void * context_key) {
    const unsigned generation = enter(slot);
    if (generation) {
        void * const handle = slots[slot].sink->context_open(slots[slot].self, model, context_key);
        const bool   lacks  = handle == ROUTING_NO_MEMORY;
        context->generations[slot] = lacks ? 0    : generation;
        context->handles    [slot] = lacks ? NULL : handle;
        context->lacks_memory      = context->lacks_memory || lacks;
        leave(slot);
    }
}

bool sinks_open(struct sinks_context * context, const struct routing_model * model, const void * context_key) {
    bool interest = false;
    context->lacks_memory = false;
    for (int i = 0; i < SINKS_MAX; i++) {
        const unsigned now = generation_of(i);
        if (is_attached(now) && now != context->generations[i]) {
            open_with(i, context, model, context_key);
        }
        interest = interest || (now == context->generations[i] && context->handles[i]);
    }
    return interest;
}

void sinks_layer(struct sinks_context * context, const struct routing_layer * layer,
                 const struct routing_ubatch * ubatch) {
    FOR_EACH_OPEN(context, sink, handle, sink->layer(handle, layer, ubatch))
}

void sinks_begin(struct sinks_context * context) {
    FOR_EACH_OPEN(context, sink, handle, if (sink->begin) { sink->begin(handle); })
}

void sinks_skip(struct sinks_context * context) {
    FOR_EACH_OPEN(context, sink, handle, if (sink->skip) { sink->skip(handle); })
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

void sinks_cut(struct sinks_context * context, const struct routing_cut * cut) {
    FOR_EACH_OPEN(context, sink, handle, sink->cut(handle, cut))
}

void sinks_reject(struct sinks_context * context, const struct routing_rejection * rejection) {
    FOR_EACH_OPEN(context, sink, handle, sink->reject(handle, rejection))
}

void sinks_close(struct sinks_context * context) {
    FOR_EACH_OPEN(context, sink, handle, sink->context_close(handle))
    for (int i = 0; i < SINKS_MAX; i++) {
        context->handles[i] = NULL;
    }
}

unsigned sinks_want(void) {
    unsigned wants = 0;
    for (int i = 0; i < SINKS_MAX; i++) {
        if (is_attached(generation_of(i)) && enter(i)) {
            wants |= slots[i].sink->wants(slots[i].self);
            leave(i);
        }
    }
    return wants;
}

void sinks_model_close(const void * model_key) {
    for (int i = 0; i < SINKS_MAX; i++) {
        if (is_attached(generation_of(i)) && enter(i)) {
            slots[i].sink->model_close(slots[i].self, model_key);
            leave(i);
        }
    }
}
