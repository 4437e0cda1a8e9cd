// The counters of one context: what they add up to, and what others see of them meanwhile.

#include "unit.h"

#include "tracer/meter.c" // what is inside it is made to happen here

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { N_LAYERS = 24, N_EXPERT = 64, N_USED = 4, N_ROWS = 2 };

static const int32_t experts[N_ROWS * N_USED] = { 0, 9, 63, 9, 1, 2, 3, 9 };

static struct routing_layer layers[N_LAYERS];

static const struct meter_place nowhere;

static int setup(void ** state) {
    (void) state;
    for (int32_t i = 0; i < N_LAYERS; i++) {
        layers[i] = (struct routing_layer) { .layer = i, .n_expert = N_EXPERT, .n_used = N_USED,
                                             .n_tokens = N_ROWS, .experts = experts };
    }
    return 0;
}

static bool count(struct meter * meter, enum routing_fate fate) {
    const struct routing_ubatch ubatch = { .fate = fate, .n_tokens = N_ROWS, .n_layers = N_LAYERS, .layers = layers };
    return meter_ubatch(meter, &ubatch, false, false);
}

static void decode(struct meter * meter, enum routing_fate fate, int64_t n_correction) {
    const struct routing_decode decoded = { .fate = fate, .n_prompt = 1, .n_generation = 1,
                                            .n_correction = n_correction };
    meter_decode(meter, &decoded, false);
}

// Every layer of every ubatch is there, and nothing else.
static void assert_whole(const struct counters * counts, uint64_t n_ubatches) {
    assert_int_equal(counts->totals.n_tokens, N_ROWS * n_ubatches);
    for (int32_t i = 0; i < N_LAYERS && n_ubatches > 0; i++) {
        const _Atomic uint64_t * row = counters_row(&counts->table, i);
        assert_int_equal(counts->table.layers[i].n_tokens, N_ROWS * n_ubatches);
        assert_int_equal(counter_get(&row[0]),  1 * n_ubatches);
        assert_int_equal(counter_get(&row[9]),  3 * n_ubatches);
        assert_int_equal(counter_get(&row[63]), 1 * n_ubatches);
        assert_int_equal(counter_get(&row[4]),  0);
    }
}

static void assert_counted(struct meter * meter, uint64_t n_ubatches) {
    struct counters counts = { 0 };
    assert_true(meter_read(meter, &counts));
    assert_whole(&counts, n_ubatches);
    counters_free(&counts);
}

static void counts_in_the_room_that_is_told(void ** state) {
    (void) state;
    struct meter * meter = meter_new(N_LAYERS, N_EXPERT, &nowhere);
    assert_counted(meter, 0);
    for (uint64_t i = 1; i < 4; i++) {
        assert_true(count(meter, ROUTING_COUNT));
        assert_counted(meter, i);
    }
    meter_free(meter);
}

static void makes_room_for_what_was_not_told(void ** state) {
    (void) state;
    static const struct { int32_t n_layers, n_expert; } told[] = {
        { 0, 0 }, { N_LAYERS, 0 }, { 0, N_EXPERT }, { 3, N_EXPERT }, { N_LAYERS, 3 }, { -1, -1 }, { 1 << 30, 1 << 30 },
    };
    for (size_t i = 0; i < sizeof(told) / sizeof(told[0]); i++) {
        struct meter * meter = meter_new(told[i].n_layers, told[i].n_expert, &nowhere);
        assert_true(count(meter, ROUTING_COUNT));
        assert_true(count(meter, ROUTING_PENDING));
        assert_counted(meter, 2);
        meter_settle(meter, false);
        assert_counted(meter, 2);
        meter_free(meter);
    }
}

static void room_grows_around_what_was_counted(void ** state) {
    (void) state;
    struct routing_layer  more  = { .layer = N_LAYERS, .n_expert = 2 * N_EXPERT, .n_used = 1, .n_tokens = 1,
                                    .experts = (int32_t[]) { 127 } };
    struct routing_ubatch other = { .fate = ROUTING_PENDING, .n_layers = 1, .layers = &more };
    struct meter        * meter = meter_new(N_LAYERS, N_EXPERT, &nowhere);
    struct counters         sum   = { 0 };
    assert_true(count(meter, ROUTING_COUNT));
    assert_true(meter_ubatch(meter, &other, false, false)); // in what is pending
    meter_settle(meter, false); // and where it belongs
    assert_true(count(meter, ROUTING_COUNT));
    assert_true(meter_read(meter, &sum));
    assert_whole(&sum, 2);
    assert_int_equal(sum.table.layers[N_LAYERS].n_expert, 2 * N_EXPERT);
    assert_int_equal(counter_get(&counters_row(&sum.table, N_LAYERS)[127]), 1);
    counters_free(&sum);
    meter_free(meter);
}

static void what_is_pending_is_settled(void ** state) {
    (void) state;
    struct meter * meter = meter_new(N_LAYERS, N_EXPERT, &nowhere);
    count (meter, ROUTING_PENDING);
    decode(meter, ROUTING_PENDING, 0);
    assert_counted(meter, 1);
    meter_settle(meter, false);
    assert_counted(meter, 1);
    count (meter, ROUTING_PENDING);
    decode(meter, ROUTING_PENDING, 0);
    assert_counted(meter, 2);
    meter_settle(meter, true);
    assert_counted(meter, 1);

    struct counters sum = { 0 };
    assert_true(meter_read(meter, &sum));
    assert_int_equal(sum.totals.n_prompt, 1);
    assert_int_equal(sum.totals.n_generation, 1);
    assert_int_equal(sum.totals.n_warmup, N_ROWS);
    counters_free(&sum);
    meter_free(meter);
}

static void a_reset_is_seen_at_once_and_once(void ** state) {
    (void) state;
    struct meter * meter = meter_new(N_LAYERS, N_EXPERT, &nowhere);
    count(meter, ROUTING_COUNT);
    count(meter, ROUTING_PENDING);
    meter_reset(meter);
    assert_counted(meter, 0);
    count(meter, ROUTING_COUNT);
    assert_counted(meter, 1);
    meter_settle(meter, true); // nothing is pending any more
    count(meter, ROUTING_COUNT);
    assert_counted(meter, 2);

    struct counters sum = { 0 };
    meter_reset(meter);
    meter_reset(meter);
    assert_true(meter_read(meter, &sum));
    assert_int_equal(sum.totals.n_warmup, 0);
    assert_int_equal(sum.table.layers[N_LAYERS - 1].n_expert, N_EXPERT); // what is known of layers stays
    counters_free(&sum);
    meter_free(meter);
}

static void a_reset_inside_a_batch_leaves_nothing_to_take_back(void ** state) {
    (void) state;
    struct meter * meter = meter_new(N_LAYERS, N_EXPERT, &nowhere);
    count(meter, ROUTING_COUNT);
    meter_reset(meter);
    decode(meter, ROUTING_COUNT, -1);
    assert_counted(meter, 0);
    count(meter, ROUTING_COUNT);
    assert_counted(meter, 1);
    meter_free(meter);
}

//
// orders
//

static uint64_t ubatch_number;

// Of a batch of two ubatches.
static void count_next(struct meter * meter, bool goes_on) {
    const struct routing_ubatch ubatch = {
        .n_tokens = N_ROWS, .n_layers = N_LAYERS, .layers = layers, .number = ubatch_number++,
    };
    assert_true(meter_ubatch(meter, &ubatch, false, goes_on));
}

static void assert_holds(struct meter * meter, bool holds, uint64_t from) {
    uint64_t ubatch;
    assert_int_equal(meter_holds(meter, &ubatch), holds);
    if (holds) {
        assert_int_equal(ubatch, from);
    }
}

static void an_order_holds_from_the_next_batch(void ** state) {
    (void) state;
    struct meter * meter = meter_new(N_LAYERS, N_EXPERT, &nowhere);
    ubatch_number = 0;
    count_next(meter, true);
    meter_order(meter, LIVE_ORDER_STOP);
    assert_holds(meter, false, 0);
    count_next(meter, true); // of the same batch
    assert_counted(meter, 2);
    assert_holds(meter, false, 0);
    decode(meter, ROUTING_COUNT, 0);
    assert_holds(meter, true, 2);
    count_next(meter, true);
    decode(meter, ROUTING_COUNT, 0);
    assert_counted(meter, 2);

    meter_order(meter, LIVE_ORDER_RESET); // nothing is evaluated: at once
    assert_counted(meter, 0);
    assert_holds(meter, true, 3);
    meter_order(meter, LIVE_ORDER_START);
    assert_holds(meter, true, 3);
    count_next(meter, true);
    assert_counted(meter, 1);
    meter_order(meter, LIVE_ORDER_RESET);
    meter_order(meter, LIVE_ORDER_STOP); // and what was ordered before
    assert_counted(meter, 1);
    decode(meter, ROUTING_COUNT, 0);
    assert_counted(meter, 0);
    assert_holds(meter, true, 4);
    meter_free(meter);
}

static void note_order(void * n) {
    ++*(int *) n;
}

static void what_only_the_thread_can_do_it_does_before_the_next_batch(void ** state) {
    (void) state;
    struct meter * meter = meter_new(N_LAYERS, N_EXPERT, &nowhere);
    int            n     = 0;
    ubatch_number = 5;
    meter_on_order(meter, note_order, &n);
    count_next(meter, false);
    meter_order(meter, LIVE_ORDER_CONFIG);
    assert_holds(meter, true, 6); // already known
    assert_int_equal(n, 0);
    count_next(meter, false);
    assert_int_equal(n, 1);
    assert_holds(meter, true, 6);
    count_next(meter, false);
    assert_int_equal(n, 1);
    meter_free(meter);
}

static void what_a_context_counted_goes_to_the_closed_ones(void ** state) {
    (void) state;
    struct meter * meter  = meter_new(N_LAYERS, N_EXPERT, &nowhere);
    struct meter * closed = meter_new(0, 0, &nowhere);
    count(meter, ROUTING_COUNT);
    count(meter, ROUTING_PENDING);
    assert_true(meter_close_into(meter, closed));
    assert_counted(closed, 2);
    meter_free(meter);
    meter_free(closed);
}

//
// with others that read
//

struct writing {
    struct meter * meter;
    atomic_bool    done;
    atomic_uint    n_ubatches; // at least so many are counted
    atomic_uint    n_begun;    // at most
};

// Without a pause: who reads has to get in between.
static void * count_on(void * data) {
    struct writing * writing = data;
    while (!atomic_load(&writing->done)) {
        atomic_fetch_add(&writing->n_begun, 1);
        if (atomic_load(&writing->n_begun) % 7 == 0) {
            count(writing->meter, ROUTING_PENDING);
            meter_settle(writing->meter, false);
        } else {
            count(writing->meter, ROUTING_COUNT);
        }
        atomic_fetch_add(&writing->n_ubatches, 1);
    }
    return NULL;
}

static void read_often(struct writing * writing, int times) {
    for (int i = 0; i < times; i++) {
        struct counters  sum   = { 0 };
        const unsigned least = atomic_load(&writing->n_ubatches);
        assert_true(meter_read(writing->meter, &sum));
        const unsigned most  = atomic_load(&writing->n_begun);
        assert_whole(&sum, sum.totals.n_tokens / N_ROWS);
        assert_in_range(sum.totals.n_tokens / N_ROWS, least, most);
        counters_free(&sum);
    }
}

static void who_reads_sees_whole_ubatches(void ** state) {
    (void) state;
    struct writing writing = { .meter = meter_new(0, 0, &nowhere) };
    pthread_t      thread;
    assert_int_equal(pthread_create(&thread, NULL, count_on, &writing), 0);
    while (atomic_load(&writing.n_ubatches) == 0) {
    }
    read_often(&writing, 500);
    atomic_store(&writing.done, true);
    pthread_join(thread, NULL);
    assert_counted(writing.meter, atomic_load(&writing.n_ubatches));
    meter_free(writing.meter);
}

static void * read_once(void * meter) {
    struct counters sum = { 0 };
    assert_true(meter_read(meter, &sum));
    assert_whole(&sum, 1);
    counters_free(&sum);
    return NULL;
}

static void who_does_not_get_through_is_waited_for(void ** state) {
    (void) state;
    struct meter * meter = meter_new(N_LAYERS, N_EXPERT, &nowhere);
    pthread_t      reader;
    count(meter, ROUTING_COUNT);
    assert_false(change_begin(meter));
    assert_int_equal(pthread_create(&reader, NULL, read_once, meter), 0);
    while (!atomic_load(&meter->is_waited_for)) {
        sched_yield();
    }
    change_end(meter, false);
    pthread_join(reader, NULL);
    assert_false(atomic_load(&meter->is_waited_for));

    atomic_store(&meter->is_waited_for, true); // another one
    assert_true(change_begin(meter));
    assert_int_equal(pthread_mutex_trylock(&meter->mutex), EBUSY);
    change_end(meter, true);
    assert_int_equal(pthread_mutex_trylock(&meter->mutex), 0);
    pthread_mutex_unlock(&meter->mutex);
    meter_free(meter);
}

static void * grow_on(void * data) {
    struct writing * writing = data;
    static const int32_t expert[] = { 0 };
    for (int32_t i = N_LAYERS; i < 16 * N_LAYERS && !atomic_load(&writing->done); i++) {
        const struct routing_layer  more  = { .layer = i, .n_expert = N_EXPERT + i, .n_used = 1,
                                              .n_tokens = 1, .experts = expert };
        const struct routing_ubatch other = { .fate = ROUTING_COUNT, .n_layers = 1, .layers = &more };
        assert_true(count(writing->meter, ROUTING_COUNT));
        assert_true(meter_ubatch(writing->meter, &other, false, false));
    }
    return NULL;
}

static void who_reads_sees_whole_ubatches_while_room_is_made(void ** state) {
    (void) state;
    struct writing writing = { .meter = meter_new(N_LAYERS, N_EXPERT, &nowhere) };
    pthread_t      thread;
    assert_int_equal(pthread_create(&thread, NULL, grow_on, &writing), 0);
    for (int i = 0; i < 200; i++) {
        struct counters sum = { 0 };
        assert_true(meter_read(writing.meter, &sum));
        assert_whole(&sum, sum.totals.n_tokens / N_ROWS);
        counters_free(&sum);
    }
    atomic_store(&writing.done, true);
    pthread_join(thread, NULL);
    meter_free(writing.meter);
}

// With a pause: the mutex does not go to who waited longest.
static void * reset_on(void * data) {
    struct writing      * writing = data;
    const struct timespec pause   = { 0, 100000 };
    while (!atomic_load(&writing->done)) {
        meter_reset(writing->meter);
        nanosleep(&pause, NULL);
    }
    return NULL;
}

static void resets_take_whole_ubatches(void ** state) {
    (void) state;
    struct writing writing = { .meter = meter_new(N_LAYERS, N_EXPERT, &nowhere) };
    pthread_t      writer;
    pthread_t      resetter;
    assert_int_equal(pthread_create(&writer,   NULL, count_on, &writing), 0);
    assert_int_equal(pthread_create(&resetter, NULL, reset_on, &writing), 0);
    for (int i = 0; i < 500; i++) {
        struct counters sum = { 0 };
        assert_true(meter_read(writing.meter, &sum));
        assert_whole(&sum, sum.totals.n_tokens / N_ROWS);
        counters_free(&sum);
    }
    atomic_store(&writing.done, true);
    pthread_join(writer,   NULL);
    pthread_join(resetter, NULL);
    meter_free(writing.meter);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_in_the_room_that_is_told),
        cmocka_unit_test(makes_room_for_what_was_not_told),
        cmocka_unit_test(room_grows_around_what_was_counted),
        cmocka_unit_test(what_is_pending_is_settled),
        cmocka_unit_test(a_reset_is_seen_at_once_and_once),
        cmocka_unit_test(a_reset_inside_a_batch_leaves_nothing_to_take_back),
        cmocka_unit_test(an_order_holds_from_the_next_batch),
        cmocka_unit_test(what_only_the_thread_can_do_it_does_before_the_next_batch),
        cmocka_unit_test(what_a_context_counted_goes_to_the_closed_ones),
        cmocka_unit_test(who_reads_sees_whole_ubatches),
        cmocka_unit_test(who_does_not_get_through_is_waited_for),
        cmocka_unit_test(who_reads_sees_whole_ubatches_while_room_is_made),
        cmocka_unit_test(resets_take_whole_ubatches),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
