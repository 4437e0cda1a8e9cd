// Lines with the names of the experts that were routed to.

#include "unit.h"

#include "tracer/names.h"

#include <stdio.h>
#include <string.h>

static void the_number_is_before_the_last_part_of_the_name(void ** state) {
    (void) state;
    const struct routing_layer layer = {
        .layer = 47, .n_expert = 512, .n_used = 2, .n_tokens = 2,
        .experts = (int32_t[]) { 511, 0, 10, 99 }, .n_tensors = 2,
        .tensor_names = { "blk.47.ffn_gate_up_exps.weight", "blk.47.ffn_down_exps.weight" },
    };
    struct text text = { 0 };
    names_add(&text, &layer);
    assert_string_equal(text.data,
        "[EXPERT-TRACE] Layer 47, Expert 511: blk.47.ffn_gate_up_exps.511.weight\n"
        "[EXPERT-TRACE] Layer 47, Expert 511: blk.47.ffn_down_exps.511.weight\n"
        "[EXPERT-TRACE] Layer 47, Expert 0: blk.47.ffn_gate_up_exps.0.weight\n"
        "[EXPERT-TRACE] Layer 47, Expert 0: blk.47.ffn_down_exps.0.weight\n"
        "[EXPERT-TRACE] Layer 47, Expert 10: blk.47.ffn_gate_up_exps.10.weight\n"
        "[EXPERT-TRACE] Layer 47, Expert 10: blk.47.ffn_down_exps.10.weight\n"
        "[EXPERT-TRACE] Layer 47, Expert 99: blk.47.ffn_gate_up_exps.99.weight\n"
        "[EXPERT-TRACE] Layer 47, Expert 99: blk.47.ffn_down_exps.99.weight\n");
    assert_int_equal(text.length, strlen(text.data));
    text_free(&text);
}

static void numbers_of_every_length(void ** state) {
    (void) state;
    static const int32_t numbers[] = { 0, 9, 10, 12345, 999999999, 1000000000, INT32_MAX };
    struct text text = { 0 };
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        const struct routing_layer layer = {
            .layer = numbers[i], .n_used = 1, .n_tokens = 1, .experts = &numbers[i], .n_tensors = 1,
            .tensor_names = { "a.b.c" },
        };
        char expected[128];
        snprintf(expected, sizeof(expected), "[EXPERT-TRACE] Layer %d, Expert %d: a.b.%d.c\n",
                 numbers[i], numbers[i], numbers[i]);
        names_add(&text, &layer);
        assert_string_equal(text.data, expected);
        text_clear(&text);
    }
    text_free(&text);
}

static void layers_are_added_one_behind_the_other(void ** state) {
    (void) state;
    struct routing_layer layer = { .n_used = 1, .n_tokens = 1, .experts = (int32_t[]) { 3 }, .n_tensors = 1,
                                   .tensor_names = { "a.b" } };
    struct text          text  = { 0 };
    names_add(&text, &layer);
    layer.n_tokens = 0; // none of its rows were asked for
    names_add(&text, &layer);
    layer.n_tokens  = 1;
    layer.n_tensors = 0; // its tensors are not known
    names_add(&text, &layer);
    layer.n_tensors = 1;
    layer.layer     = 2;
    names_add(&text, &layer);
    assert_string_equal(text.data,
                        "[EXPERT-TRACE] Layer 0, Expert 3: a.3.b\n[EXPERT-TRACE] Layer 2, Expert 3: a.3.b\n");
    text_free(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_number_is_before_the_last_part_of_the_name),
        cmocka_unit_test(numbers_of_every_length),
        cmocka_unit_test(layers_are_added_one_behind_the_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
