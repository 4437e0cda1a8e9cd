// Delivery to listeners that come and go, under ThreadSanitizer.

#include "unit.h"

#include "routing/sinks.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

enum { N_THREADS = 5 };

// A listener that can be held inside a call.
struct listener {
    atomic_int  n_open;    // calls of context_open
    atomic_int  n_ubatches;
    atomic_int  n_inside;
    atomic_bool is_held;
    bool        wants;
};

static void * on_open(void * self, const struct routing_model * about, const void * key) {
    (void) about;
    (void) key;
    struct listener * listener = self;
    atomic_fetch_add(&listener->n_open, 1);
    return listener->wants ? listener : NULL;
}

static void on_ubatch(void * self, const struct routing_ubatch * ubatch) {
    (void) ubatch;
    struct listener * listener = self;
    atomic_fetch_add(&listener->n_inside, 1);
    while (atomic_load(&listener->is_held)) {
        sched_yield();
    }
    atomic_fetch_add(&listener->n_ubatches, 1);
    atomic_fetch_sub(&listener->n_inside, 1);
}

static const struct routing_sink  sink   = { .context_open = on_open, .ubatch = on_ubatch };
static const struct routing_model model  = { .key = "a model" };
static const struct routing_ubatch ubatch = { .n_tokens = 1 };

static void a_context_is_opened_with_each_listener_once(void ** state) {
    (void) state;
    struct listener      first   = { .wants = true };
    struct listener      second  = { .wants = false };
    struct sinks_context context = { 0 };
    assert_false(sinks_any());
    assert_false(sinks_open(&context, &model, "key"));

    const int slot = sinks_attach(&sink, &first);
    assert_true(sinks_any());
    assert_true(sinks_open(&context, &model, "key"));
    const int other = sinks_attach(&sink, &second);
    assert_true(sinks_open(&context, &model, "key"));
    assert_true(sinks_open(&context, &model, "key"));
    sinks_ubatch(&context, &ubatch);
    assert_int_equal(first.n_open,  1);
    assert_int_equal(second.n_open, 1);
    assert_int_equal(first.n_ubatches,  1);
    assert_int_equal(second.n_ubatches, 0);

    sinks_detach(slot);
    assert_false(sinks_open(&context, &model, "key")); // the other is not interested
    sinks_ubatch(&context, &ubatch);
    assert_int_equal(first.n_ubatches, 1);

    assert_int_equal(sinks_attach(&sink, &first), slot); // the same place, and another listener
    sinks_ubatch(&context, &ubatch);
    assert_int_equal(first.n_ubatches, 1);
    assert_true(sinks_open(&context, &model, "key"));
    sinks_ubatch(&context, &ubatch);
    assert_int_equal(first.n_open, 2);
    assert_int_equal(first.n_ubatches, 2);
    sinks_detach(slot);
    sinks_detach(other);
    assert_false(sinks_any());
}

static void * deliver_one(void * data) {
    (void) data;
    struct sinks_context context = { 0 };
    assert_true(sinks_open(&context, &model, "key"));
    sinks_ubatch(&context, &ubatch);
    return NULL;
}

struct detaching {
    int         slot;
    atomic_bool done;
};

static void * detach(void * data) {
    struct detaching * detaching = data;
    sinks_detach(detaching->slot);
    atomic_store(&detaching->done, true);
    return NULL;
}

static void detaching_waits_for_calls_in_every_thread(void ** state) {
    (void) state;
    struct listener  listener  = { .wants = true, .is_held = true };
    struct detaching detaching = { .slot = sinks_attach(&sink, &listener) };
    pthread_t        threads[N_THREADS];
    pthread_t        detacher;
    for (int i = 0; i < N_THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, deliver_one, NULL), 0);
    }
    while (atomic_load(&listener.n_inside) < N_THREADS) {
        sched_yield();
    }
    assert_int_equal(pthread_create(&detacher, NULL, detach, &detaching), 0);
    usleep(50000);
    assert_false(atomic_load(&detaching.done));

    atomic_store(&listener.is_held, false);
    pthread_join(detacher, NULL);
    assert_int_equal(atomic_load(&listener.n_inside), 0);
    for (int i = 0; i < N_THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(atomic_load(&listener.n_ubatches), N_THREADS);
}

static void * deliver_on(void * data) {
    const atomic_bool  * done    = data;
    struct sinks_context context = { 0 };
    while (!atomic_load(done)) {
        sinks_open  (&context, &model, "key");
        sinks_ubatch(&context, &ubatch);
    }
    return NULL;
}

// After detaching nothing calls a listener that is not there any more.
static void listeners_come_and_go(void ** state) {
    (void) state;
    atomic_bool done = false;
    pthread_t   threads[N_THREADS];
    for (int i = 0; i < N_THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, deliver_on, &done), 0);
    }
    for (int i = 0; i < 50; i++) {
        struct listener listener = { .wants = true };
        const int       slot     = sinks_attach(&sink, &listener);
        usleep(200);
        sinks_detach(slot);
        assert_int_equal(atomic_load(&listener.n_inside), 0);
    }
    atomic_store(&done, true);
    for (int i = 0; i < N_THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_context_is_opened_with_each_listener_once),
        cmocka_unit_test(detaching_waits_for_calls_in_every_thread),
        cmocka_unit_test(listeners_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
