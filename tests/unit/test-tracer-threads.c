// Contexts in several threads, a snapshot now and then, and the tracer's own thread, under ThreadSanitizer.

#include "unit.h"

#include "routing/sinks.h"
#include "tracer/listener.h"
#include "tracer/tracer.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N_THREADS = 4, N_BATCHES = 2000, N_CONTEXTS = 200 };

static atomic_int n_events;

static void ignore(enum log_level level, const char * lines) {
    (void) level;
    (void) lines;
}

static void on_event(const struct expert_tracer_event * event, void * user_data) {
    (void) event;
    (void) user_data;
    atomic_fetch_add(&n_events, 1);
}

static const struct routing_model model = { .key = "a model", .n_layer = 1, .phases_known = true };
static const int32_t              experts[] = { 1, 0 };
static const struct routing_layer layer = { .layer = 0, .n_expert = 2, .n_used = 1, .n_tokens = 2, .experts = experts };

static void * evaluate(void * key) {
    struct sinks_context context = { 0 };
    for (int i = 0; i < N_BATCHES; i++) {
        const enum routing_fate     fate   = i % 5 ? ROUTING_COUNT : ROUTING_PENDING;
        const struct routing_ubatch ubatch = { fate, 2, 1, &layer, .layers_told = true };
        const struct routing_decode decode = { .fate = fate, .n_prompt = 1, .n_generation = 1 };
        assert_true(sinks_open(&context, &model, key));
        sinks_layer (&context, &layer, &ubatch);
        sinks_ubatch(&context, &ubatch);
        sinks_decode(&context, &decode);
        sinks_settle(&context, false);
    }
    sinks_close(&context);
    return NULL;
}

// Of every ubatch all is there, or nothing.
static void assert_whole(const struct expert_tracer_snapshot * snapshot) {
    for (size_t i = 0; i < snapshot->n_layers; i++) {
        assert_int_equal(snapshot->layers[i].n_tokens, snapshot->total_tokens);
        assert_int_equal(snapshot->layers[i].activations[0], snapshot->total_tokens / 2);
        assert_int_equal(snapshot->layers[i].activations[1], snapshot->total_tokens / 2);
    }
}

static void threads_do_not_disturb_each_other(void ** state) {
    (void) state;
    char path[] = "/tmp/expert-tracer-unit-XXXXXX";
    assert_int_equal(close(mkstemp(path)), 0);

    const struct tracer_setup setup  = { ignore, ignore, "test-run", false, NULL };
    struct config             config = { .stats = true, .output = strdup(path), .interval = 0.01 };
    struct expert_tracer    * tracer = tracer_new(&config, &setup);
    const int                 slot   = sinks_attach(&tracer_sink, tracer);
    const int                 events = expert_tracer_subscribe(tracer, on_event, NULL);
    assert_true(events > 0);

    pthread_t  threads[N_THREADS];
    const char keys   [N_THREADS] = { 0 };
    for (int i = 0; i < N_THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, evaluate, (void *) &keys[i]), 0);
    }
    for (int i = 0; i < 50; i++) {
        struct expert_tracer_snapshot * snapshot = expert_tracer_snapshot_take(tracer, 0);
        if (snapshot) {
            assert_whole(snapshot);
            expert_tracer_snapshot_free(snapshot);
        }
        usleep(1000);
    }
    for (int i = 0; i < N_THREADS; i++) {
        pthread_join(threads[i], NULL);
    }

    struct expert_tracer_snapshot * snapshot = expert_tracer_snapshot_take(tracer, 0);
    assert_int_equal(snapshot->total_tokens, 2 * N_THREADS * N_BATCHES);
    assert_int_equal(snapshot->prompt_tokens, N_THREADS * N_BATCHES);
    assert_int_equal(snapshot->activations[0], N_THREADS * N_BATCHES);
    assert_true(snapshot->complete);
    assert_int_equal(atomic_load(&n_events), N_THREADS * N_BATCHES);
    expert_tracer_snapshot_free(snapshot);

    sinks_detach(slot);
    assert_false(sinks_any());
    tracer_free(tracer);
    unlink(path);
}

static void resets_leave_whole_ubatches(void ** state) {
    (void) state;
    const struct tracer_setup setup  = { ignore, ignore, "test-run", true, NULL };
    struct config             config = { 0 };
    struct expert_tracer    * tracer = tracer_new(&config, &setup);
    const int                 slot   = sinks_attach(&tracer_sink, tracer);

    pthread_t  threads[N_THREADS];
    const char keys   [N_THREADS] = { 0 };
    for (int i = 0; i < N_THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, evaluate, (void *) &keys[i]), 0);
    }
    for (int i = 0; i < 50; i++) {
        expert_tracer_reset(tracer);
        struct expert_tracer_snapshot * snapshot = expert_tracer_snapshot_take(tracer, 0);
        if (snapshot) {
            assert_whole(snapshot);
            expert_tracer_snapshot_free(snapshot);
        }
    }
    for (int i = 0; i < N_THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    expert_tracer_reset(tracer);
    struct expert_tracer_snapshot * snapshot = expert_tracer_snapshot_take(tracer, 0);
    assert_int_equal(snapshot->total_tokens, 0);
    assert_int_equal(snapshot->total_activations, 0);
    expert_tracer_snapshot_free(snapshot);
    sinks_detach(slot);
    tracer_free(tracer);
}

static void * open_and_close(void * self) {
    for (int i = 0; i < N_CONTEXTS; i++) {
        const struct routing_ubatch ubatch  = { ROUTING_COUNT, 2, 1, &layer, .layers_told = true };
        void                      * context = tracer_sink.context_open(self, &model, &ubatch);
        assert_non_null(context);
        tracer_sink.ubatch(context, &ubatch);
        tracer_sink.context_close(context);
    }
    return NULL;
}

// Between its contexts a model takes the tracer's configuration over, while others still read the one before.
static void contexts_of_one_model_come_and_go(void ** state) {
    (void) state;
    char path[] = "/tmp/expert-tracer-unit-XXXXXX";
    assert_int_equal(close(mkstemp(path)), 0);

    const struct tracer_setup setup  = { ignore, ignore, "test-run", false, NULL };
    struct config             config = { .stats = true, .output = strdup(path), .interval = 0.001 };
    struct expert_tracer    * tracer = tracer_new(&config, &setup);

    pthread_t threads[N_THREADS];
    for (int i = 0; i < N_THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, open_and_close, tracer), 0);
    }
    for (int i = 0; i < 50; i++) {
        config = (struct config) { .stats = true, .output = strdup(path), .interval = i % 2 ? 0.001 : 0 };
        tracer_configure(tracer, &config);
        usleep(1000);
    }
    for (int i = 0; i < N_THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    struct expert_tracer_snapshot * snapshot = expert_tracer_snapshot_take(tracer, 0);
    assert_int_equal(snapshot->total_tokens, 2 * N_THREADS * N_CONTEXTS);
    expert_tracer_snapshot_free(snapshot);
    tracer_free(tracer);
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_do_not_disturb_each_other),
        cmocka_unit_test(resets_leave_whole_ubatches),
        cmocka_unit_test(contexts_of_one_model_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
