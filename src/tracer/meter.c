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
    struct live_meter   * shown;   // in the live memory, or on the heap
    struct counters_table counts;
    struct counters_table pending; // perhaps a warm-up
    struct live_memory  * live;
    int                   entry;   // there
    meter_order_fn        on_order;
    void                * self;
    uint64_t              n_begun;    // batches
    uint64_t              n_ended;    // of them, and of those of which that was not told
    uint64_t              config_from; // LIVE_ORDER_CONFIG is followed when so many have ended
    atomic_bool           is_inside; // the thread that evaluates changes the counters, without the mutex

    _Alignas(CACHE_LINE)
    atomic_bool           is_waited_for; // a reader does not get through: the counters change with the mutex
    pthread_mutex_t       mutex;         // of those who read, and of the memory of the two tables
};

static int32_t believable(int32_t told) {
    return told > 0 && told <= TOLD_MAX ? told : 0;
}

//
// what is shown
//

static void show_table(struct meter * meter, struct live_table * shown, const struct counters_table * table) {
    shown->n_layers = table->n_layers;
    shown->n_expert = table->n_expert;
    shown->offset   = live_memory_offset(meter->live, table->layers);
}

// Between live_memory_change() and its end.
static void show_tables(struct meter * meter) {
    show_table(meter, &meter->shown->counts_table,  &meter->counts);
    show_table(meter, &meter->shown->pending_table, &meter->pending);
}

static bool make_tables(struct meter * meter, int32_t n_layers, int32_t n_expert) {
    live_memory_change(meter->live);
    const bool made = counters_make_room(&meter->counts,  n_layers, n_expert) &&
                      counters_make_room(&meter->pending, n_layers, n_expert);
    show_tables(meter);
    live_memory_change_end(meter->live);
    return made;
}

static void show_meter(struct meter * meter, const struct meter_place * place) {
    const struct live_entry entry = {
        .kind = place->kind, .model = place->model, .context = place->context, .size = sizeof(*meter->shown),
    };
    live_memory_change(meter->live);
    meter->entry = live_memory_add(meter->live, &entry, meter->shown);
    live_memory_change_end(meter->live);
    if (meter->entry < 0 || live_memory_offset(meter->live, meter->pending.layers) == 0) {
        live_memory_note_hidden(meter->live);
    }
}

struct meter * meter_new(int32_t n_layers, int32_t n_expert, const struct meter_place * place) {
    const struct memory_source * memory = live_memory_source(place->live);
    struct meter               * meter  = cache_line_alloc(sizeof(*meter));
    if (meter == NULL) {
        return NULL;
    }
    pthread_mutex_init(&meter->mutex, NULL);
    meter->live           = place->live;
    meter->entry          = -1;
    meter->counts.memory  = memory;
    meter->pending.memory = memory;
    meter->shown          = memory ? memory->take(memory->self, sizeof(*meter->shown))
                                   : cache_line_alloc(sizeof(*meter->shown));
    if (meter->shown == NULL || !make_tables(meter, believable(n_layers), believable(n_expert))) {
        meter_free(meter);
        return NULL;
    }
    meter->shown->is_off = place->is_off;
    meter->n_begun       = place->in_batch;
    if (meter->live) {
        show_meter(meter, place);
    }
    return meter;
}

static void hide_meter(struct meter * meter) {
    live_memory_remove(meter->live, meter->entry);
    meter->entry = -1;
}

void meter_free(struct meter * meter) {
    if (meter == NULL) {
        return;
    }
    const struct memory_source * memory = live_memory_source(meter->live);
    live_memory_change(meter->live);
    hide_meter(meter);
    live_memory_change_end(meter->live);
    counters_free_table(&meter->counts);
    counters_free_table(&meter->pending);
    if (memory && meter->shown) {
        memory->give(memory->self, meter->shown, sizeof(*meter->shown));
    } else {
        free(meter->shown);
    }
    pthread_mutex_destroy(&meter->mutex);
    free(meter);
}

void meter_on_order(struct meter * meter, meter_order_fn fn, void * self) {
    meter->on_order = fn;
    meter->self     = self;
}

//
// counting
//

static bool make_room_locked(struct meter * meter, int32_t n_layers, int32_t n_expert) {
    pthread_mutex_lock(&meter->mutex);
    const bool made = make_tables(meter, n_layers, n_expert);
    pthread_mutex_unlock(&meter->mutex);
    return made;
}

// Before it is inside: who has the mutex may be waiting for it. There is as much room in both, so that what is pending
// fits in where it goes. Returns false where memory runs out.
static bool make_room_for(struct meter * meter, const struct routing_ubatch * ubatch) {
    int32_t n_layers = 0;
    int32_t n_expert = 0;
    for (int32_t i = 0; i < ubatch->n_layers; i++) {
        const struct routing_layer * layer = &ubatch->layers[i];
        n_layers = layer->layer    >= n_layers ? layer->layer + 1 : n_layers;
        n_expert = layer->n_expert >  n_expert ? layer->n_expert  : n_expert;
    }
    if (counters_have_room(&meter->counts, n_layers, n_expert) &&
        counters_have_room(&meter->pending, n_layers, n_expert)) {
        return true;
    }
    n_layers += n_layers > meter->counts.n_layers ? LAYERS_MORE : 0;
    return make_room_locked(meter, n_layers, n_expert);
}

static void reset_all(struct meter * meter) {
    counters_reset_table (&meter->counts);
    counters_reset_table (&meter->pending);
    counters_reset_totals(&meter->shown->counts);
    counters_reset_totals(&meter->shown->pending);
}

// With an odd sequence, or with the thread that evaluates kept out.
static void follow(struct meter * meter, uint32_t order) {
    struct live_meter * shown = meter->shown;
    if (order & LIVE_ORDER_RESET) {
        reset_all(meter);
    }
    if (order & (LIVE_ORDER_START | LIVE_ORDER_STOP)) {
        atomic_store_explicit(&shown->is_off, (order & LIVE_ORDER_STOP) != 0, memory_order_relaxed);
    }
}

static void step(struct meter * meter, memory_order order) {
    const uint32_t sequence = atomic_load_explicit(&meter->shown->sequence, memory_order_relaxed);
    atomic_store_explicit(&meter->shown->sequence, sequence + 1, order);
}

// First it says that it is inside, and then it looks who waits and what is ordered: who waits or orders says that
// first, and looks whether it is inside then (Dekker). One at a time changes the sequence: who is inside, or has the
// mutex while nobody is. Returns whether the mutex is taken.
static bool meter_enter(struct meter * meter) {
    atomic_store(&meter->is_inside, true);
    const bool with_mutex = atomic_load(&meter->is_waited_for);
    if (with_mutex) {
        atomic_store(&meter->is_inside, false);
        pthread_mutex_lock(&meter->mutex);
    }
    step(meter, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    return with_mutex;
}

static void change_end(struct meter * meter, bool with_mutex) {
    step(meter, memory_order_release);
    if (with_mutex) {
        pthread_mutex_unlock(&meter->mutex);
    } else {
        atomic_store_explicit(&meter->is_inside, false, memory_order_release);
    }
}

static bool has_orders(const struct meter * meter) {
    return atomic_load(&meter->shown->asked) != atomic_load_explicit(&meter->shown->done, memory_order_relaxed);
}

static bool meter_may_follow(const struct meter * meter) {
    const uint32_t asked = atomic_load(&meter->shown->asked);
    return !atomic_load_explicit(&meter->shown->in_batch, memory_order_relaxed) &&
           (!(asked & LIVE_ORDER_CONFIG) || meter->n_ended >= meter->config_from);
}

// Between batches. The function that is called may take locks that come before the mutex, and wait for who reads.
static bool follow_orders(struct meter * meter, bool with_mutex) {
    struct live_meter * shown = meter->shown;
    while (has_orders(meter) && meter_may_follow(meter)) {
        const uint32_t asked = atomic_load(&shown->asked);
        const uint64_t since = atomic_load_explicit(&shown->next_ubatch, memory_order_relaxed);
        follow(meter, asked);
        atomic_store_explicit(&shown->since, since, memory_order_relaxed);
        atomic_store_explicit(&shown->done,  asked, memory_order_relaxed);
        if (asked & LIVE_ORDER_CONFIG && meter->on_order) {
            change_end(meter, with_mutex);
            meter->on_order(meter->self);
            with_mutex = meter_enter(meter);
        }
    }
    return with_mutex;
}

static bool change_begin(struct meter * meter) {
    const bool with_mutex = meter_enter(meter);
    return has_orders(meter) ? follow_orders(meter, with_mutex) : with_mutex;
}

void meter_begin(struct meter * meter) {
    const bool with_mutex = change_begin(meter);
    meter->n_begun++;
    change_end(meter, with_mutex);
}

// A batch is over. Returns whether the mutex is taken.
static bool end_batch(struct meter * meter, bool with_mutex) {
    meter->n_ended += meter->n_ended < meter->n_begun;
    atomic_store_explicit(&meter->shown->in_batch, 0, memory_order_relaxed);
    return has_orders(meter) ? follow_orders(meter, with_mutex) : with_mutex;
}

void meter_skip(struct meter * meter) {
    const bool with_mutex = change_begin(meter);
    change_end(meter, end_batch(meter, with_mutex));
}

static void count_ubatch(struct meter * meter, const struct routing_ubatch * ubatch, bool is_mtp, bool has_room) {
    const bool               is_pending = ubatch->fate == ROUTING_PENDING;
    struct counters_table  * table      = is_pending ? &meter->pending        : &meter->counts;
    struct counters_totals * totals     = is_pending ? &meter->shown->pending : &meter->shown->counts;
    for (int32_t i = 0; i < ubatch->n_layers && has_room; i++) {
        counters_add_layer(table, &ubatch->layers[i]);
    }
    counter_add(is_mtp ? &totals->n_mtp : &totals->n_tokens, ubatch->n_tokens);
    if (ubatch->lost || !has_room) {
        counter_add(&totals->n_lost_ubatches, ubatch->lost ? ubatch->n_lost : 1);
        counter_add(&totals->n_lost, ubatch->n_tokens);
    }
}

static bool is_off(const struct meter * meter) {
    return atomic_load_explicit(&meter->shown->is_off, memory_order_relaxed);
}

bool meter_ubatch(struct meter * meter, const struct routing_ubatch * ubatch, bool is_mtp, bool goes_on) {
    const bool has_room   = make_room_for(meter, ubatch);
    const bool with_mutex = change_begin(meter);
    if (!is_off(meter) && ubatch->fate != ROUTING_WARMUP) {
        count_ubatch(meter, ubatch, is_mtp, has_room);
    }
    const uint64_t next = ubatch->lost ? counter_get(&meter->shown->next_ubatch) + ubatch->n_lost : ubatch->number + 1;
    counter_set(&meter->shown->next_ubatch, next);
    atomic_store_explicit(&meter->shown->in_batch, goes_on, memory_order_relaxed);
    change_end(meter, with_mutex);
    return has_room;
}

// A reset while a batch is evaluated leaves less than what is to be taken back.
static void correct(_Atomic uint64_t * counter, int64_t correction) {
    const uint64_t n = counter_get(counter);
    counter_set(counter, correction < 0 && n < (uint64_t) -correction ? 0 : n + (uint64_t) correction);
}

static void count_decode(struct counters_totals * totals, const struct routing_decode * decode, bool is_mtp) {
    if (decode->fate == ROUTING_WARMUP) {
        counter_add(&totals->n_warmup, decode->n_prompt + decode->n_generation);
    } else if (is_mtp) {
        correct(&totals->n_mtp, decode->n_correction);
    } else {
        correct(&totals->n_tokens, decode->n_correction);
        counter_add(&totals->n_prompt,     decode->n_prompt);
        counter_add(&totals->n_generation, decode->n_generation);
    }
}

void meter_decode(struct meter * meter, const struct routing_decode * decode, bool is_mtp) {
    const bool is_pending = decode->fate == ROUTING_PENDING;
    const bool with_mutex = change_begin(meter);
    if (!is_off(meter)) {
        count_decode(is_pending ? &meter->shown->pending : &meter->shown->counts, decode, is_mtp);
    }
    change_end(meter, end_batch(meter, with_mutex));
}

void meter_settle(struct meter * meter, bool warmup) {
    struct live_meter * shown      = meter->shown;
    const bool          with_mutex = change_begin(meter);
    if (warmup) {
        counter_add(&shown->counts.n_warmup, counter_get(&shown->pending.n_tokens));
    } else {
        counters_add_table (&meter->counts, &meter->pending); // there is room
        counters_add_totals(&shown->counts, &shown->pending);
    }
    counters_reset_table (&meter->pending);
    counters_reset_totals(&shown->pending);
    change_end(meter, with_mutex);
}

//
// reading and ordering
//

// With the mutex: keeps the thread that evaluates out, which may be counting at this moment.
static void keep_out(struct meter * meter) {
    atomic_store(&meter->is_waited_for, true);
    while (atomic_load(&meter->is_inside)) {
        sched_yield();
    }
}

static void let_in(struct meter * meter) {
    atomic_store(&meter->is_waited_for, false);
}

static void copy_all(const struct meter * meter, struct counters * copy) {
    counters_reset(copy);
    counters_add_table (&copy->table,  &meter->counts);
    counters_add_table (&copy->table,  &meter->pending);
    counters_add_totals(&copy->totals, &meter->shown->counts);
    counters_add_totals(&copy->totals, &meter->shown->pending);
}

// With the mutex and with room for all. Returns false where the counters changed meanwhile.
static bool try_to_read(const struct meter * meter, struct counters * copy) {
    const uint32_t before = atomic_load_explicit(&meter->shown->sequence, memory_order_acquire);
    if (before % 2 != 0) {
        sched_yield();
        return false;
    }
    copy_all(meter, copy);
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&meter->shown->sequence, memory_order_relaxed) == before;
}

static void read_whole(struct meter * meter, struct counters * copy) {
    for (int i = 0; i < ATTEMPTS_MAX; i++) {
        if (try_to_read(meter, copy)) {
            return;
        }
    }
    keep_out(meter);
    copy_all(meter, copy);
    let_in(meter);
}

bool meter_read(struct meter * meter, struct counters * sum) {
    struct counters copy = { 0 };
    pthread_mutex_lock(&meter->mutex);
    const bool has_room = counters_make_room(&copy.table, meter->counts.n_layers,  meter->counts.n_expert) &&
                          counters_make_room(&copy.table, meter->pending.n_layers, meter->pending.n_expert);
    if (has_room) {
        read_whole(meter, &copy);
    }
    pthread_mutex_unlock(&meter->mutex);

    const bool whole = has_room && counters_add(sum, &copy);
    counters_free(&copy);
    return whole;
}

bool meter_close_into(struct meter * meter, struct meter * closed) {
    struct counters copy = { 0 };
    if (!meter_read(meter, &copy) || !make_room_locked(closed, copy.table.n_layers, copy.table.n_expert)) {
        counters_free(&copy);
        return false;
    }
    live_memory_change(meter->live);
    const bool with_mutex = meter_enter(closed);
    counters_add_table (&closed->counts,        &copy.table);
    counters_add_totals(&closed->shown->counts, &copy.totals);
    change_end(closed, with_mutex);
    hide_meter(meter);
    live_memory_change_end(meter->live);
    counters_free(&copy);
    return true;
}

void meter_reset(struct meter * meter) {
    pthread_mutex_lock(&meter->mutex);
    keep_out(meter);
    step(meter, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    reset_all(meter);
    step(meter, memory_order_release);
    let_in(meter);
    pthread_mutex_unlock(&meter->mutex);
}

// Where nothing is evaluated it is followed here, but for what the thread that evaluates has to do. What was ordered
// before and is not followed yet is ordered again.
void meter_order(struct meter * meter, uint32_t order) {
    struct live_meter * shown   = meter->shown;
    const uint32_t      flags   = LIVE_ORDER_STEP - 1;
    const uint32_t      on_off  = LIVE_ORDER_START | LIVE_ORDER_STOP;
    pthread_mutex_lock(&meter->mutex);
    keep_out(meter);
    const uint32_t      asked   = shown->asked;
    const uint32_t      before  = asked != shown->done ? asked & flags : 0;
    const uint32_t      left    = order & on_off ? before & ~on_off : before;
    uint32_t            now     = left | order;
    meter->config_from = order & LIVE_ORDER_CONFIG ? meter->n_begun : meter->config_from;
    if (!shown->in_batch) {
        step(meter, memory_order_relaxed);
        atomic_thread_fence(memory_order_release);
        follow(meter, now);
        step(meter, memory_order_release);
        now &= LIVE_ORDER_CONFIG;
    }
    atomic_store(&shown->asked, (asked & ~flags) + LIVE_ORDER_STEP + now);
    if (now == 0) {
        shown->since = shown->next_ubatch;
        shown->done  = shown->asked;
    }
    let_in(meter);
    pthread_mutex_unlock(&meter->mutex);
}

bool meter_holds(struct meter * meter, uint64_t * ubatch) {
    struct live_meter * shown = meter->shown;
    pthread_mutex_lock(&meter->mutex);
    keep_out(meter);
    const bool is_done = shown->asked == shown->done;
    const bool holds   = is_done || (!shown->in_batch && meter->n_ended >= meter->config_from);
    *ubatch = is_done ? shown->since : shown->next_ubatch;
    let_in(meter);
    pthread_mutex_unlock(&meter->mutex);
    return holds;
}

bool meter_is_in_batch(const struct meter * meter) {
    return atomic_load_explicit(&meter->shown->in_batch, memory_order_relaxed);
}
