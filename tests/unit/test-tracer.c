#include "unit.h"

#include "tracer/tracer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char said[16384];

static void listen(enum log_level level, const char * lines) {
    (void) level;
    strncat(said, lines, sizeof(said) - strlen(said) - 1);
}

static const struct tracer_setup setup = { listen, listen, "test-run", false };

static const struct routing_model model = {
    .key = "a model", .name = "Test", .architecture = "test", .engine = "none", .capture = "by hand",
    .n_layer = 2, .n_expert = 4, .n_used = 2, .phases_known = true,
};

static const int32_t experts[] = { 0, 2, 2, 3 };

static const struct routing_layer layers[] = {
    { .layer = 0, .n_expert = 4, .n_used = 2, .n_tokens = 2, .experts = experts, .n_weights = 2,
      .weights = { "blk.0.ffn_down_exps.weight", "blk.0.ffn_gate_up_exps.weight" } },
    { .layer = 1, .n_expert = 4, .n_used = 2, .n_tokens = 1, .experts = experts },
};

static const struct routing_layer mtp_layer = { .layer = 2, .n_expert = 4, .n_used = 2, .n_tokens = 2, .experts = experts };

static struct expert_tracer * start(bool stats, bool names, bool per_layer) {
    struct config config = { .stats = stats, .names = names, .per_layer = per_layer };
    said[0] = '\0';
    return tracer_new(&config, &setup);
}

static void decode(void * context, enum routing_fate fate, const struct routing_layer * evaluated, int32_t n_layers) {
    const struct routing_ubatch ubatch = { fate, 2, n_layers, evaluated };
    const struct routing_decode done   = { fate, 1, 1, 0 };
    tracer_sink.ubatch(context, &ubatch);
    tracer_sink.decode(context, &done);
}

static struct expert_tracer_snapshot * take(struct expert_tracer * tracer) {
    struct expert_tracer_snapshot * snapshot = expert_tracer_snapshot_take(tracer, 0);
    assert_non_null(snapshot);
    return snapshot;
}

static void counts_and_prints(void ** state) {
    (void) state;
    struct expert_tracer * tracer  = start(true, false, true);
    void                 * context = tracer_sink.context_open(tracer, &model, "a context");
    assert_string_equal(said, "[EXPERT-TRACE] Statistics enabled\n");
    decode(context, ROUTING_COUNT, layers, 2);
    said[0] = '\0';
    tracer_sink.context_close(context);
    assert_string_equal(said,
        "\n=== Expert Usage Statistics ===\n"
        "Total tokens: 2\n"
        "Total expert activations: 6\n\n"
        "  Expert   0:        2 activations (33.33%)\n"
        "  Expert   1:        0 activations (0.00%)\n"
        "  Expert   2:        3 activations (50.00%)\n"
        "  Expert   3:        1 activations (16.67%)\n"
        "\nPer-layer breakdown:\n"
        "  Layer 0:\n"
        "    Expert   0:        1\n"
        "    Expert   1:        0\n"
        "    Expert   2:        2\n"
        "    Expert   3:        1\n"
        "  Layer 1:\n"
        "    Expert   0:        1\n"
        "    Expert   1:        0\n"
        "    Expert   2:        1\n"
        "    Expert   3:        0\n");
    tracer_free(tracer);
}

static void contexts_of_a_model_are_summed_and_printed_with_the_last(void ** state) {
    (void) state;
    struct expert_tracer * tracer = start(true, false, false);
    void * one   = tracer_sink.context_open(tracer, &model, "one");
    void * other = tracer_sink.context_open(tracer, &model, "other");
    decode(one,   ROUTING_COUNT, layers, 2);
    decode(other, ROUTING_COUNT, layers, 2);
    tracer_sink.context_close(one);
    assert_null(strstr(said, "==="));
    tracer_sink.context_close(other);
    assert_non_null(strstr(said, "Total tokens: 4\n"));
    tracer_free(tracer);
}

static void a_model_that_is_loaded_again_is_another(void ** state) {
    (void) state;
    struct expert_tracer * tracer = start(true, false, false);
    for (int i = 0; i < 2; i++) {
        void * context = tracer_sink.context_open(tracer, &model, "a context");
        decode(context, ROUTING_COUNT, layers, 2);
        tracer_sink.context_close(context);
        tracer_sink.model_close(tracer, model.key);
    }
    assert_null(strstr(said, "Total tokens: 4\n"));
    struct expert_tracer_snapshot * second = expert_tracer_snapshot_take(tracer, 1);
    assert_int_equal(second->total_tokens, 2);
    assert_true(second->complete);
    expert_tracer_snapshot_free(second);
    assert_null(expert_tracer_snapshot_take(tracer, 2));
    tracer_free(tracer);
}

static void warmup_is_apart(void ** state) {
    (void) state;
    struct expert_tracer * tracer  = start(true, true, false);
    void                 * context = tracer_sink.context_open(tracer, &model, "a context");
    decode(context, ROUTING_WARMUP,  layers, 2);
    decode(context, ROUTING_PENDING, layers, 2);
    tracer_sink.settle(context, true);
    assert_null(strstr(said, "Layer 0, Expert"));

    struct expert_tracer_snapshot * snapshot = take(tracer);
    assert_int_equal(snapshot->warmup_tokens, 4);
    assert_int_equal(snapshot->total_tokens, 0);
    assert_int_equal(snapshot->total_activations, 0);
    expert_tracer_snapshot_free(snapshot);
    tracer_sink.context_close(context);
    assert_non_null(strstr(said, "nothing but 4 tokens of warm-up"));
    tracer_free(tracer);
}

static void what_was_no_warmup_after_all_counts(void ** state) {
    (void) state;
    struct expert_tracer * tracer  = start(true, true, false);
    void                 * context = tracer_sink.context_open(tracer, &model, "a context");
    decode(context, ROUTING_PENDING, layers, 2);
    assert_null(strstr(said, "Layer 0, Expert"));
    tracer_sink.settle(context, false);
    assert_non_null(strstr(said, "Layer 0, Expert 2: blk.0.ffn_down_exps.2.weight"));

    struct expert_tracer_snapshot * snapshot = take(tracer);
    assert_int_equal(snapshot->total_tokens, 2);
    assert_int_equal(snapshot->prompt_tokens, 1);
    assert_int_equal(snapshot->total_activations, 6);
    expert_tracer_snapshot_free(snapshot);
    tracer_free(tracer);
}

static void names_are_the_specifications(void ** state) {
    (void) state;
    struct expert_tracer * tracer  = start(false, true, false);
    void                 * context = tracer_sink.context_open(tracer, &model, "a context");
    decode(context, ROUTING_COUNT, layers, 1);
    tracer_sink.context_close(context);
    assert_string_equal(said,
        "[EXPERT-TRACE] Tensor name logging enabled\n"
        "[EXPERT-TRACE] Layer 0, Expert 0: blk.0.ffn_down_exps.0.weight\n"
        "[EXPERT-TRACE] Layer 0, Expert 0: blk.0.ffn_gate_up_exps.0.weight\n"
        "[EXPERT-TRACE] Layer 0, Expert 2: blk.0.ffn_down_exps.2.weight\n"
        "[EXPERT-TRACE] Layer 0, Expert 2: blk.0.ffn_gate_up_exps.2.weight\n"
        "[EXPERT-TRACE] Layer 0, Expert 2: blk.0.ffn_down_exps.2.weight\n"
        "[EXPERT-TRACE] Layer 0, Expert 2: blk.0.ffn_gate_up_exps.2.weight\n"
        "[EXPERT-TRACE] Layer 0, Expert 3: blk.0.ffn_down_exps.3.weight\n"
        "[EXPERT-TRACE] Layer 0, Expert 3: blk.0.ffn_gate_up_exps.3.weight\n");
    tracer_free(tracer);
}

static void a_prediction_head_has_a_section_of_its_own(void ** state) {
    (void) state;
    struct expert_tracer * tracer  = start(true, false, true);
    void                 * context = tracer_sink.context_open(tracer, &model, "a context");
    decode(context, ROUTING_COUNT, layers, 2);
    decode(context, ROUTING_COUNT, &mtp_layer, 1);

    struct expert_tracer_snapshot * snapshot = take(tracer);
    assert_int_equal(snapshot->total_tokens, 2);
    assert_int_equal(snapshot->prompt_tokens + snapshot->generation_tokens, 2);
    assert_int_equal(snapshot->mtp_tokens, 2);
    assert_int_equal(snapshot->total_activations, 6);
    assert_int_equal(snapshot->n_layers, 3);
    assert_true(snapshot->layers[2].mtp);
    expert_tracer_snapshot_free(snapshot);
    tracer_sink.context_close(context);
    assert_non_null(strstr(said, "\nMulti-token-prediction head, 2 tokens:\n  Layer 2:\n    Expert   0:        1\n"));
    tracer_free(tracer);
}

static void a_dense_model_is_told(void ** state) {
    (void) state;
    struct expert_tracer * tracer  = start(true, false, false);
    void                 * context = tracer_sink.context_open(tracer, &model, "a context");
    decode(context, ROUTING_COUNT, NULL, 0);
    tracer_sink.context_close(context);
    assert_non_null(strstr(said, "evaluated 2 tokens and no MoE layer was seen"));
    assert_null(strstr(said, "==="));
    tracer_free(tracer);
}

static void remarks_wait_for_the_first_batch(void ** state) {
    (void) state;
    struct expert_tracer * tracer = start(false, false, false);
    tracer_remark(tracer, "a remark\n");
    tracer_remark(tracer, "another\n");
    assert_string_equal(said, "");
    assert_null(tracer_sink.context_open(tracer, &model, "a context"));
    assert_string_equal(said, "a remark\nanother\n");
    assert_null(tracer_sink.context_open(tracer, &model, "another context"));
    assert_string_equal(said, "a remark\nanother\n");
    tracer_free(tracer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_and_prints),
        cmocka_unit_test(contexts_of_a_model_are_summed_and_printed_with_the_last),
        cmocka_unit_test(a_model_that_is_loaded_again_is_another),
        cmocka_unit_test(warmup_is_apart),
        cmocka_unit_test(what_was_no_warmup_after_all_counts),
        cmocka_unit_test(names_are_the_specifications),
        cmocka_unit_test(a_prediction_head_has_a_section_of_its_own),
        cmocka_unit_test(a_dense_model_is_told),
        cmocka_unit_test(remarks_wait_for_the_first_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
