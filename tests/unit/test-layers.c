// What is known of a model's layers from the tensors that are seen and from those in its file.

#include "unit.h"

#include "engine/upstream/layers.h"

#include <string.h>

enum { N_EXPERT = 8 };

static const struct file_tensor in_file[] = {
    { 3, "blk.3.ffn_gate_exps.weight", 8 * 1000,       0 },
    { 3, "blk.3.ffn_down_exps.weight", 8 * 3000,       0 },
    { 3, "blk.3.ffn_up_exps.weight",   8 * 1000 + 24, 31 },
};

// What a graph showed of layer 3, and what is known after it was held against the file. Returns the sum, 0: not known.
static size_t checked(struct layers * layers, const struct file_tensor * seen, int n_seen,
                      const struct file_tensor * tensors, int n) {
    struct layer * layer = NULL;
    for (int i = 0; i < n_seen; i++) {
        layer = layers_add_tensor(layers, seen[i].name, seen[i].bytes);
        assert_non_null(layer);
        assert_false(layer->is_checked);
    }
    layer_check_bytes(layer, tensors, n, N_EXPERT);
    assert_true(layer->is_checked);
    struct routing_layer routed;
    layer_describe(layer, N_EXPERT, &routed);
    size_t sum = 0;
    for (int i = 0; i < routed.n_tensors; i++) {
        if (routed.expert_bytes[i] == 0) {
            return 0;
        }
        sum += routed.expert_bytes[i];
    }
    return sum;
}

static void what_both_say(void ** state) {
    (void) state;
    struct layers            layers = { 0 };
    const struct file_tensor seen[] = {
        { 3, "blk.3.ffn_up_exps.weight", 1000, 0 }, { 3, "blk.3.ffn_down_exps.weight", 3000, 0 },
        { 3, "blk.3.ffn_gate_exps.weight", 1000, 0 },
    };
    assert_int_equal(checked(&layers, seen, 3, in_file, 3), 5000);
    assert_int_equal(layers.at[3]->n_tensors, 3);
    layers_free(&layers);
}

// Gate and up of a fused operation are not seen (ik_llama.cpp's ggml_moe_up_gate).
static void what_only_the_file_says(void ** state) {
    (void) state;
    struct layers            layers = { 0 };
    const struct file_tensor seen[] = { { 3, "blk.3.ffn_down_exps.weight", 3000, 0 } };
    assert_int_equal(checked(&layers, seen, 1, in_file, 3), 3000 + 1000 + 1003);
    assert_int_equal(layers.at[3]->n_tensors, 3);
    layers_free(&layers);
}

static void merged_as_they_were_loaded(void ** state) {
    (void) state;
    struct layers            layers = { 0 };
    const struct file_tensor seen[] = { { 3, "blk.3.ffn_gate_up_exps.weight", 2000, 0 },
                                        { 3, "blk.3.ffn_down_exps.weight", 3000, 0 } };
    assert_int_equal(checked(&layers, seen, 2, in_file, 3), 5000);
    assert_int_equal(layers.at[3]->n_tensors, 2);
    layers_free(&layers);
}

static void where_they_disagree_nothing_is_known(void ** state) {
    (void) state;
    struct layers            layers  = { 0 };
    const struct file_tensor other[] = { { 3, "blk.3.ffn_down_exps.weight", 2999, 0 } };
    assert_int_equal(checked(&layers, other, 1, in_file, 3), 0);
    layers_free(&layers);

    const struct file_tensor unknown[] = { { 3, "blk.3.ffn_gate_up_exps.weight", 1999, 0 },
                                           { 3, "blk.3.ffn_down_exps.weight", 3000, 0 } };
    assert_int_equal(checked(&layers, unknown, 2, in_file, 3), 0);
    layers_free(&layers);
}

// Without a file a size is believed where all that an expert needs was seen.
static void without_a_file(void ** state) {
    (void) state;
    struct layers            layers = { 0 };
    const struct file_tensor half[] = { { 3, "blk.3.ffn_down_exps.weight", 3000, 0 } };
    assert_int_equal(checked(&layers, half, 1, NULL, 0), 0);
    layers_free(&layers);

    const struct file_tensor whole[] = { { 3, "blk.3.ffn_up_exps.weight", 1000, 0 },
                                         { 3, "blk.3.ffn_down_exps.weight", 3000, 0 } };
    assert_int_equal(checked(&layers, whole, 2, NULL, 0), 4000);
    layers_free(&layers);
}

static void a_further_tensor_is_checked_again(void ** state) {
    (void) state;
    struct layers            layers  = { 0 };
    const struct file_tensor first[] = { { 3, "blk.3.ffn_down_exps.weight", 3000, 0 } };
    checked(&layers, first, 1, in_file, 3);
    layers_add_tensor(&layers, "blk.3.ffn_down_exps.weight", 3000);
    assert_true(layers.at[3]->is_checked);
    layers_add_tensor(&layers, "blk.3.ffn_other_exps.weight", 10);
    assert_false(layers.at[3]->is_checked);
    layers_free(&layers);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_both_say),
        cmocka_unit_test(what_only_the_file_says),
        cmocka_unit_test(merged_as_they_were_loaded),
        cmocka_unit_test(where_they_disagree_nothing_is_known),
        cmocka_unit_test(without_a_file),
        cmocka_unit_test(a_further_tensor_is_checked_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
