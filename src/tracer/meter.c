// Counts what the thread that evaluates delivers, under a sequence lock that readers do not take.

#include "tracer/meter.h"

#include "base/cache-line.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#define ATTEMPTS_MAX 8    // of a reader, before it makes the thread that evaluates wait
#define LAYERS_MORE  8    // room that is made at once, where a model has more layers than were told
#define TOLD_MAX     4096 // layers or experts: more than that is not believed before it is seen

// A sequence lock: the sequence is odd while the counters change. Who reads them takes what did not change meanwhile.
struct meter {
    atomic_uint     sequence;
    atomic_uint     n_resets_done;
    struct counters counts;
    struct counters pending;       // perhaps a warm-up

    _Alignas(CACHE_LINE)
    atomic_uint     n_resets;      // that are asked for: done before anything else is counted
    atomic_bool     is_waited_for; // a reader does not get through: the counters change with the mutex
    pthread_mutex_t mutex;         // of those who read, and of the memory of the two counts
};

static int32_t believable(int32_t told) {
    return told > 0 && told <= TOLD_MAX ? told : 0;
}

struct meter * meter_new(int32_t n_layers, int32_t n_expert) {
    struct meter * meter = cache_line_alloc(sizeof(*meter));
    if (meter == NULL) {
        return NULL;
    }
    pthread_mutex_init(&meter->mutex, NULL);
    n_layers = believable(n_layers);
    n_expert = believable(n_expert);
    if (!counters_make_room(&meter->counts.table, n_layers, n_expert) ||
        !counters_make_room(&meter->pending.table, n_layers, n_expert)) {
        meter_free(meter);
        return NULL;
    }
    return meter;
}

void meter_free(struct meter * meter) {
    counters_free(&meter->counts);
    counters_free(&meter->pending);
    pthread_mutex_destroy(&meter->mutex);
    free(meter);
}

//
// counting
//

static bool make_room_locked(struct meter * meter, struct counters * counts, int32_t n_layers, int32_t n_expert) {
    pthread_mutex_lock(&meter->mutex);
    const bool made = counters_make_room(&counts->table, n_layers, n_expert);
    pthread_mutex_unlock(&meter->mutex);
    return made;
}

// Before the sequence becomes odd: who has the mutex may be waiting for an even one. There is as much room in both, so
// that what is pending fits in where it goes. Returns false where memory runs out.
static bool make_room_for(struct meter * meter, const struct routing_ubatch * ubatch) {
    const struct counters * counts = &meter->counts;
    int32_t n_layers = 0;
    int32_t n_expert = 0;
    for (int32_t i = 0; i < ubatch->n_layers; i++) {
        const struct routing_layer * layer = &ubatch->layers[i];
        n_layers = layer->layer    >= n_layers ? layer->layer + 1 : n_layers;
        n_expert = layer->n_expert >  n_expert ? layer->n_expert  : n_expert;
    }
    if (counters_have_room(&meter->counts.table, n_layers, n_expert) &&
        counters_have_room(&meter->pending.table, n_layers, n_expert)) {
        return true;
    }
    n_layers += n_layers > counts->table.n_layers ? LAYERS_MORE : 0;
    return make_room_locked(meter, &meter->counts, n_layers, n_expert) &&
           make_room_locked(meter, &meter->pending, n_layers, n_expert);
}

// Returns whether the mutex is taken.
static bool change_begin(struct meter * meter) {
    const bool with_mutex = atomic_load_explicit(&meter->is_waited_for, memory_order_relaxed);
    if (with_mutex) {
        pthread_mutex_lock(&meter->mutex);
    }
    const unsigned sequence = atomic_load_explicit(&meter->sequence, memory_order_relaxed);
    atomic_store_explicit(&meter->sequence, sequence + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);

    const unsigned n_resets = atomic_load_explicit(&meter->n_resets, memory_order_relaxed);
    if (n_resets != atomic_load_explicit(&meter->n_resets_done, memory_order_relaxed)) {
        counters_reset(&meter->counts);
        counters_reset(&meter->pending);
        atomic_store_explicit(&meter->n_resets_done, n_resets, memory_order_relaxed);
    }
    return with_mutex;
}

static void change_end(struct meter * meter, bool with_mutex) {
    const unsigned sequence = atomic_load_explicit(&meter->sequence, memory_order_relaxed);
    atomic_store_explicit(&meter->sequence, sequence + 1, memory_order_release);
    if (with_mutex) {
        pthread_mutex_unlock(&meter->mutex);
    }
}

static struct counters * counters_of(struct meter * meter, enum routing_fate fate) {
    return fate == ROUTING_PENDING ? &meter->pending : &meter->counts;
}

bool meter_ubatch(struct meter * meter, const struct routing_ubatch * ubatch, bool is_mtp) {
    struct counters * counts   = counters_of(meter, ubatch->fate);
    const bool      has_room   = make_room_for(meter, ubatch);
    const bool      with_mutex = change_begin(meter);
    for (int32_t i = 0; i < ubatch->n_layers && has_room; i++) {
        counters_add_layer(&counts->table, &ubatch->layers[i]);
    }
    counter_add(is_mtp ? &counts->totals.n_mtp : &counts->totals.n_tokens, ubatch->n_tokens);
    if (ubatch->lost || !has_room) {
        counter_add(&counts->totals.n_lost_ubatches, ubatch->lost ? ubatch->n_lost : 1);
        counter_add(&counts->totals.n_lost, ubatch->n_tokens);
    }
    change_end(meter, with_mutex);
    return has_room;
}

// A reset while a batch is evaluated leaves less than what is to be taken back.
static void correct(_Atomic uint64_t * counter, int64_t correction) {
    const uint64_t n = counter_get(counter);
    counter_set(counter, correction < 0 && n < (uint64_t) -correction ? 0 : n + (uint64_t) correction);
}

void meter_decode(struct meter * meter, const struct routing_decode * decode, bool is_mtp) {
    struct counters * counts     = counters_of(meter, decode->fate);
    const bool      with_mutex = change_begin(meter);
    if (decode->fate == ROUTING_WARMUP) {
        counter_add(&counts->totals.n_warmup, decode->n_prompt + decode->n_generation);
    } else if (is_mtp) {
        correct(&counts->totals.n_mtp, decode->n_correction);
    } else {
        correct(&counts->totals.n_tokens, decode->n_correction);
        counter_add(&counts->totals.n_prompt,     decode->n_prompt);
        counter_add(&counts->totals.n_generation, decode->n_generation);
    }
    change_end(meter, with_mutex);
}

void meter_settle(struct meter * meter, bool warmup) {
    const bool with_mutex = change_begin(meter);
    if (warmup) {
        counter_add(&meter->counts.totals.n_warmup, counter_get(&meter->pending.totals.n_tokens));
    } else {
        counters_add(&meter->counts, &meter->pending); // there is room
    }
    counters_reset(&meter->pending);
    change_end(meter, with_mutex);
}

//
// reading
//

// With the mutex and with room for all. Returns false where the counters changed meanwhile.
static bool try_to_read(struct meter * meter, struct counters * copy) {
    const unsigned before = atomic_load_explicit(&meter->sequence, memory_order_acquire);
    if (before % 2 != 0) {
        sched_yield();
        return false;
    }
    counters_reset(copy);
    counters_add(copy, &meter->counts);
    counters_add(copy, &meter->pending);
    const unsigned n_resets_done = atomic_load_explicit(&meter->n_resets_done, memory_order_relaxed);
    atomic_thread_fence(memory_order_acquire);
    if (atomic_load_explicit(&meter->sequence, memory_order_relaxed) != before) {
        return false;
    }
    if (n_resets_done != atomic_load(&meter->n_resets)) {
        counters_reset(copy); // nothing was counted since
    }
    return true;
}

static void read_whole(struct meter * meter, struct counters * copy) {
    for (int i = 0; !try_to_read(meter, copy); i++) {
        if (i == ATTEMPTS_MAX) {
            atomic_store(&meter->is_waited_for, true);
        }
    }
    atomic_store(&meter->is_waited_for, false);
}

bool meter_read(struct meter * meter, struct counters * sum) {
    struct counters copy = { 0 };
    pthread_mutex_lock(&meter->mutex);
    const struct counters_table * counts  = &meter->counts.table;
    const struct counters_table * pending = &meter->pending.table;
    const bool has_room = counters_make_room(&copy.table, counts->n_layers,  counts->n_expert) &&
                          counters_make_room(&copy.table, pending->n_layers, pending->n_expert);
    if (has_room) {
        read_whole(meter, &copy);
    }
    pthread_mutex_unlock(&meter->mutex);

    const bool whole = has_room && counters_add(sum, &copy);
    counters_free(&copy);
    return whole;
}

void meter_reset(struct meter * meter) {
    atomic_fetch_add(&meter->n_resets, 1);
}
