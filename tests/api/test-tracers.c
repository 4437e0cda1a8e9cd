// Tracers come and go: how they are made, how many there may be, and when they end.

#include "oracle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TRACERS_MAX 8

static struct llama_model * model;
static char                 output[64];

static int setup(void ** state) {
    model = *state;
    snprintf(output, sizeof(output), "/tmp/expert-tracer-api-%ld.json", (long) getpid());
    unlink(output);
    return 0;
}

static int teardown(void ** state) {
    (void) state;
    unlink(output);
    return 0;
}

static struct expert_tracer * quiet_tracer(const char * path) {
    struct expert_tracer_config config = EXPERT_TRACER_CONFIG_INIT;
    config.stats  = false;
    config.output = path;
    struct expert_tracer * tracer = expert_tracer_new(&config);
    assert_non_null(tracer);
    return tracer;
}

static void assert_evaluated(struct expert_tracer * tracer, const char * text) {
    struct expert_tracer_snapshot * snapshot = expert_tracer_snapshot_take(tracer, 0);
    oracle_assert_evaluated(snapshot, text);
    expert_tracer_snapshot_free(snapshot);
}

static void ignore(const struct expert_tracer_event * event, void * user_data) {
    (void) event;
    (*(int *) user_data)++;
}

static void test_no_configuration(void ** state) {
    (void) state;
    struct expert_tracer * tracer = expert_tracer_new(NULL);
    assert_non_null(tracer);
    struct llama_context * ctx = oracle_context(model, 64);
    oracle_evaluate(ctx, "default");
    assert_evaluated(tracer, "default");
    llama_free(ctx);
    expert_tracer_free(tracer);
    expert_tracer_free(NULL);
}

// A program built when the struct ended before `output` has anything behind it.
static void test_struct_of_an_older_version(void ** state) {
    (void) state;
    struct expert_tracer_config config;
    memset(&config, 0xff, sizeof(config));
    config.size      = offsetof(struct expert_tracer_config, output);
    config.stats     = false;
    config.names     = false;
    config.per_layer = false;
    struct expert_tracer * tracer = expert_tracer_new(&config);
    assert_non_null(tracer);
    struct llama_context * ctx = oracle_context(model, 64);
    oracle_evaluate(ctx, "older");
    assert_evaluated(tracer, "older");
    llama_free(ctx);
    expert_tracer_free(tracer);
}

static void test_struct_of_a_newer_version(void ** state) {
    (void) state;
    struct {
        struct expert_tracer_config config;
        char                        more[64];
    } newer = { EXPERT_TRACER_CONFIG_INIT, "more" };
    newer.config.size   = sizeof(newer);
    newer.config.stats  = false;
    newer.config.output = output;
    struct expert_tracer * tracer = expert_tracer_new(&newer.config);
    assert_non_null(tracer);
    struct llama_context * ctx = oracle_context(model, 64);
    oracle_evaluate(ctx, "newer");
    llama_free(ctx);
    assert_true(oracle_file_says(output, "\"total_tokens\": 5,"));
    expert_tracer_free(tracer);
}

static void test_struct_without_a_size(void ** state) {
    (void) state;
    struct expert_tracer_config config = EXPERT_TRACER_CONFIG_INIT;
    config.size = 0;
    assert_null(expert_tracer_new(&config));
}

static void test_room_for_eight(void ** state) {
    (void) state;
    struct expert_tracer * tracers[TRACERS_MAX];
    for (int i = 0; i < TRACERS_MAX; i++) {
        tracers[i] = quiet_tracer(NULL);
    }
    assert_null(expert_tracer_new(NULL));
    assert_null(expert_tracer_new_from_env());

    struct llama_context * ctx = oracle_context(model, 64);
    oracle_evaluate(ctx, "all of them");
    for (int i = 0; i < TRACERS_MAX; i++) {
        assert_evaluated(tracers[i], "all of them");
    }
    expert_tracer_free(tracers[5]);
    tracers[5] = quiet_tracer(NULL);
    llama_free(ctx);
    for (int i = 0; i < TRACERS_MAX; i++) {
        expert_tracer_free(tracers[i]);
    }
}

static void test_a_context_made_before_is_not_seen(void ** state) {
    (void) state;
    struct llama_context * ctx    = oracle_context(model, 64);
    struct expert_tracer * tracer = quiet_tracer(NULL);
    oracle_evaluate(ctx, "unseen");
    assert_null(expert_tracer_snapshot_take(tracer, 0));
    llama_free(ctx);

    ctx = oracle_context(model, 64);
    oracle_evaluate(ctx, "seen");
    assert_evaluated(tracer, "seen");
    llama_free(ctx);
    expert_tracer_free(tracer);
}

static void test_a_second_tracer_counts_from_then_on(void ** state) {
    (void) state;
    struct expert_tracer * first = quiet_tracer(NULL);
    struct llama_context * ctx   = oracle_context(model, 64);
    oracle_evaluate(ctx, "abc");
    struct expert_tracer * second = quiet_tracer(NULL);
    oracle_evaluate(ctx, "d");
    assert_evaluated(second, "d");
    expert_tracer_free(first);
    llama_free(ctx);
    expert_tracer_free(second);
}

// A thread makes it, at any time.
static void wait_for_output(void) {
    const struct timespec step = { 0, 10000000 };
    for (int i = 0; i < 3000 && access(output, R_OK) != 0; i++) {
        nanosleep(&step, NULL);
    }
}

static void test_freed_while_a_context_is_open(void ** state) {
    (void) state;
    int                    n_events = 0;
    struct expert_tracer * tracer   = quiet_tracer(output);
    struct llama_context * ctx      = oracle_context(model, 64);
    assert_true(expert_tracer_subscribe(tracer, ignore, &n_events) > 0);
    oracle_evaluate(ctx, "free");
    wait_for_output();
    assert_false(oracle_file_says(output, "\"complete\": true"));
    expert_tracer_free(tracer);
    assert_true(oracle_file_says(output, "\"complete\": true"));
    assert_true(oracle_file_says(output, "\"total_tokens\": 4,"));
    assert_int_equal(n_events, ORACLE_N_LAYER);

    oracle_evaluate(ctx, "!");
    assert_int_equal(n_events, ORACLE_N_LAYER);
    struct expert_tracer * next = quiet_tracer(NULL);
    oracle_evaluate(ctx, "next");
    assert_evaluated(next, "next");
    llama_free(ctx);
    expert_tracer_free(next);
}

// From here on the process has a tracer that the environment asked for.
static void test_environment(void ** state) {
    (void) state;
    setenv("LLAMA_EXPERT_TRACE_STATS",  "1",    1);
    setenv("LLAMA_EXPERT_TRACE_OUTPUT", output, 1);
    struct llama_context * ctx = oracle_context(model, 64);
    unsetenv("LLAMA_EXPERT_TRACE_STATS");
    unsetenv("LLAMA_EXPERT_TRACE_OUTPUT");

    struct expert_tracer * tracer = expert_tracer_new_from_env(); // nothing is set: it counts quietly
    assert_non_null(tracer);
    oracle_evaluate(ctx, "both");
    assert_evaluated(tracer, "both");
    llama_free(ctx);
    assert_true(oracle_file_says(output, "\"total_tokens\": 4,"));
    assert_true(oracle_file_says(output, "\"complete\": true"));
    expert_tracer_free(tracer);
}

// The parent's tracer is nothing to the child, and freeing it there neither waits nor writes.
static void test_child_of_a_fork(void ** state) {
    (void) state;
    struct expert_tracer * tracer = quiet_tracer(output);
    struct llama_context * ctx    = oracle_context(model, 64);
    oracle_evaluate(ctx, "fork");
    const pid_t child = fork();
    if (child == 0) {
        expert_tracer_free(tracer);
        if (expert_tracer_new(NULL)) {
            execlp("true", "true", NULL); // without a look for leaks: the parent's memory is not the child's to free
        }
        _exit(1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    wait_for_output();
    assert_false(oracle_file_says(output, "\"complete\": true"));
    llama_free(ctx);
    assert_true(oracle_file_says(output, "\"complete\": true"));
    assert_true(oracle_file_says(output, "\"total_tokens\": 4,"));
    expert_tracer_free(tracer);
}

static void test_version(void ** state) {
    (void) state;
    int major, minor, patch, end = 0;
    assert_int_equal(sscanf(expert_tracer_version(), "%d.%d.%d%n", &major, &minor, &patch, &end), 3);
    assert_int_equal(end, strlen(expert_tracer_version()));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_version,                             setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_configuration,                    setup, teardown),
        cmocka_unit_test_setup_teardown(test_struct_of_an_older_version,          setup, teardown),
        cmocka_unit_test_setup_teardown(test_struct_of_a_newer_version,           setup, teardown),
        cmocka_unit_test_setup_teardown(test_struct_without_a_size,               setup, teardown),
        cmocka_unit_test_setup_teardown(test_room_for_eight,                      setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_context_made_before_is_not_seen,   setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_second_tracer_counts_from_then_on, setup, teardown),
        cmocka_unit_test_setup_teardown(test_freed_while_a_context_is_open,       setup, teardown),
        cmocka_unit_test_setup_teardown(test_child_of_a_fork,                     setup, teardown),
        cmocka_unit_test_setup_teardown(test_environment,                         setup, teardown),
    };
    return cmocka_run_group_tests(tests, oracle_group_setup, oracle_group_teardown);
}
