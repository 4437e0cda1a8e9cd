#include "unit.h"

#include "tracer/counts.h"

static const int32_t two_tokens[] = { 3, 0, 3, 1 };

static const struct routing_layer layer_5 = {
    .layer = 5, .n_expert = 4, .n_used = 2, .n_tokens = 2, .experts = two_tokens,
};

static void adds_each_activation_once(void ** state) {
    (void) state;
    struct counts counts = { 0 };
    assert_true(counts_add_layer(&counts, &layer_5));
    assert_true(counts_add_layer(&counts, &layer_5));
    assert_int_equal(counts.layers[5].n_tokens, 4);
    assert_int_equal(counts.layers[5].n_used, 2);
    assert_int_equal(counts.layers[5].activations[0], 2);
    assert_int_equal(counts.layers[5].activations[1], 2);
    assert_int_equal(counts.layers[5].activations[2], 0);
    assert_int_equal(counts.layers[5].activations[3], 4);
    assert_int_equal(counts.layers[4].n_expert, 0);
    counts_free(&counts);
}

static void a_layer_without_rows_is_seen_but_counts_nothing(void ** state) {
    (void) state;
    struct counts        counts = { 0 };
    struct routing_layer none   = layer_5;
    none.n_tokens = 0;
    assert_true(counts_add_layer(&counts, &none));
    assert_int_equal(counts.layers[5].n_expert, 4);
    assert_int_equal(counts.layers[5].n_tokens, 0);
    counts_free(&counts);
}

static void sums_layers_of_different_sizes(void ** state) {
    (void) state;
    struct counts        sum   = { 0 };
    struct counts        one   = { .n_tokens = 2, .n_prompt = 2, .n_warmup = 1 };
    struct routing_layer wider = layer_5;
    wider.n_expert = 8;
    assert_true(counts_add_layer(&sum, &layer_5));
    assert_true(counts_add_layer(&one, &wider));
    assert_true(counts_add(&sum, &one));
    assert_int_equal(sum.layers[5].n_expert, 8);
    assert_int_equal(sum.layers[5].activations[3], 4);
    assert_int_equal(sum.layers[5].activations[7], 0);
    assert_int_equal(sum.n_tokens, 2);
    assert_int_equal(sum.n_prompt, 2);
    assert_int_equal(sum.n_warmup, 1);
    counts_free(&sum);
    counts_free(&one);
}

static void reset_keeps_what_is_known_of_layers(void ** state) {
    (void) state;
    struct counts counts = { .n_tokens = 7, .n_mtp = 3 };
    assert_true(counts_add_layer(&counts, &layer_5));
    counts_reset(&counts);
    assert_int_equal(counts.n_tokens, 0);
    assert_int_equal(counts.n_mtp, 0);
    assert_int_equal(counts.layers[5].n_expert, 4);
    assert_int_equal(counts.layers[5].n_tokens, 0);
    assert_int_equal(counts.layers[5].activations[3], 0);
    counts_free(&counts);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adds_each_activation_once),
        cmocka_unit_test(a_layer_without_rows_is_seen_but_counts_nothing),
        cmocka_unit_test(sums_layers_of_different_sizes),
        cmocka_unit_test(reset_keeps_what_is_known_of_layers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
