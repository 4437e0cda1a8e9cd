// A program that makes the tracer of LLAMA_EXPERT_TRACE_* itself: the library makes no second one.

#include "oracle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEADLINE "=== Expert Usage Statistics ==="

static char output[64];
static int  n_printed;

static void listen(enum ggml_log_level level, const char * text, void * user_data) {
    (void) level;
    (void) user_data;
    n_printed += strstr(text, HEADLINE) != NULL;
}

static void evaluate(struct llama_model * model, const char * text) {
    struct llama_context * ctx = oracle_context(model, 64);
    oracle_evaluate(ctx, text);
    llama_free(ctx);
}

static void test_the_programs_tracer_is_the_environments(void ** state) {
    struct llama_model * model = *state;
    llama_log_set(listen, NULL);
    snprintf(output, sizeof(output), "/tmp/expert-tracer-api-%ld.json", (long) getpid());
    setenv("LLAMA_EXPERT_TRACE_STATS",  "1",    1);
    setenv("LLAMA_EXPERT_TRACE_OUTPUT", output, 1);

    struct expert_tracer * tracer = expert_tracer_new_from_env();
    assert_non_null(tracer);
    evaluate(model, "env");
    assert_int_equal(n_printed, 1);
    assert_true(oracle_file_says(output, "\"total_tokens\": 3,"));

    struct expert_tracer_snapshot * snapshot = expert_tracer_snapshot_take(tracer, 0);
    oracle_assert_evaluated(snapshot, "env");
    expert_tracer_snapshot_free(snapshot);

    unsetenv("LLAMA_EXPERT_TRACE_STATS"); // it was configured when it was made
    evaluate(model, "more");
    assert_int_equal(n_printed, 2);

    setenv("LLAMA_EXPERT_TRACE_STATS", "1", 1);
    expert_tracer_free(tracer);
    evaluate(model, "afterwards");
    assert_int_equal(n_printed, 2);
    assert_true(oracle_file_says(output, "\"total_tokens\": 7,"));
    unlink(output);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_the_programs_tracer_is_the_environments) };
    return cmocka_run_group_tests(tests, oracle_group_setup, oracle_group_teardown);
}
