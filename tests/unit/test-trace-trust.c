// Which routing is trusted to be real, on hand-made ubatches that are wrong in one thing each.

#include "unit.h"

#include "trace/write/trace-trust.h"

#include <string.h>

static const struct expert_tracer_token tokens[] = { { .position = 0 }, { .position = 1, .output = true },
                                                     { .position = 2, .output = true } };
static const int32_t                    experts[] = { 0, 2, 2, 3, 1, 0 };

static struct routing_layer  layers[2];
static struct routing_ubatch ubatch;
static char                  doubt[256];

static int begin(void ** state) {
    (void) state;
    for (int i = 0; i < 2; i++) {
        layers[i] = (struct routing_layer) { .layer = 4 + i, .n_expert = 4, .n_used = 2,
                                             .n_tokens = 3, .experts = experts };
    }
    ubatch = (struct routing_ubatch) { .n_tokens = 3, .tokens = tokens, .rows_known = true,
                                       .n_layers = 2, .layers = layers };
    return 0;
}

static bool has_form(void) {
    return trace_trust_form(&ubatch, doubt, sizeof(doubt));
}

static bool has_experts(void) {
    return trace_trust_experts(&ubatch, doubt, sizeof(doubt));
}

static void what_was_routed_is_trusted(void ** state) {
    (void) state;
    static const int32_t each[] = { 0, 1, 2 };
    static const int32_t rows[] = { 1, 2 };
    assert_true(has_form() && has_experts());
    layers[0].rows     = each;
    layers[1].n_tokens = 2;
    layers[1].rows     = rows;
    assert_true(has_form() && has_experts());
    layers[1].n_tokens = 0;
    assert_true(has_form() && has_experts());
}

static void rows_must_be_known(void ** state) {
    (void) state;
    ubatch.rows_known = false;
    assert_false(has_form());
    ubatch.rows_known = true;
    ubatch.tokens     = NULL;
    assert_false(has_form());
}

static void rows_are_all_tokens_or_those_with_an_output(void ** state) {
    (void) state;
    static const int32_t other[] = { 0, 2, 1 };
    layers[1].n_tokens = 1;
    assert_false(has_form());
    assert_string_equal(doubt, "layer 5: its 1 rows are neither all 3 tokens nor the 2 with an output");
    layers[1].n_tokens = 2; // the first two
    assert_false(has_form());
    layers[1].rows = other;
    assert_false(has_form());
    layers[1].n_tokens = 3;
    assert_false(has_form());
    layers[1].n_tokens = -1;
    assert_false(has_form());
}

static void experts_used_are_some_of_all(void ** state) {
    (void) state;
    layers[0].n_used = 5;
    assert_false(has_form());
    assert_string_equal(doubt, "layer 4: 5 of 4 experts are used");
    layers[0].n_used = 0;
    assert_false(has_form());
    layers[0].n_used   = 2;
    layers[0].n_expert = 65537; // more than the format knows
    assert_false(has_form());
}

static void no_expert_is_there_twice(void ** state) {
    (void) state;
    static const int32_t twice[] = { 0, 2, 2, 3, 1, 1 };
    static const int32_t rows[]  = { 1, 2 };
    layers[1].experts = twice;
    assert_false(has_experts());
    assert_string_equal(doubt, "layer 5, token 2: expert 1 twice");
    layers[1].rows     = rows;
    layers[1].n_tokens = 2;
    layers[1].experts  = twice + 2;
    assert_false(has_experts());
    assert_string_equal(doubt, "layer 5, token 2: expert 1 twice");
}

static void experts_with_the_same_last_bits_are_two(void ** state) {
    (void) state;
    static const int32_t many[] = { 1, 65, 129, 65 };
    layers[0] = layers[1] = (struct routing_layer) { .layer = 9, .n_expert = 256, .n_used = 3,
                                                     .n_tokens = 1, .experts = many };
    assert_true(has_experts());
    layers[1].n_used = 4;
    assert_false(has_experts());
    assert_string_equal(doubt, "layer 9, token 0: expert 65 twice");
}

static void experts_are_in_range(void ** state) {
    (void) state;
    static const int32_t high[] = { 0, 2, 2, 4, 1, 0 };
    static const int32_t low[]  = { 0, 2, 2, 3, 1, -1 };
    layers[0].experts = high;
    assert_false(has_experts());
    assert_string_equal(doubt, "layer 4, token 1: expert 4 of 4");
    layers[0].experts = low;
    assert_false(has_experts());
    assert_string_equal(doubt, "layer 4, token 2: expert -1 of 4");
}

static void not_everything_is_zero(void ** state) {
    (void) state;
    static int32_t zeros[2000];
    for (int i = 0; i < 2; i++) {
        layers[i] = (struct routing_layer) { .layer = i, .n_expert = 16, .n_used = 1,
                                             .n_tokens = 1000, .experts = zeros };
    }
    assert_false(has_experts());
    assert_string_equal(doubt, "2000 rows, and all of them take expert 0");
    layers[1].n_tokens = 3;
    assert_true(has_experts()); // few may
    layers[1].n_tokens = 1000;
    zeros[999] = 1;
    assert_true(has_experts());
    zeros[999] = 0;
    layers[0].n_expert = layers[1].n_expert = 1; // there is no other
    assert_true(has_experts());
}

#define TEST(function) cmocka_unit_test_setup(function, begin)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(what_was_routed_is_trusted),
        TEST(rows_must_be_known),
        TEST(rows_are_all_tokens_or_those_with_an_output),
        TEST(experts_used_are_some_of_all),
        TEST(no_expert_is_there_twice),
        TEST(experts_with_the_same_last_bits_are_two),
        TEST(experts_are_in_range),
        TEST(not_everything_is_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
