// Counters of activations: rows of hand-made layers are added once each.

#include "unit.h"

#include "statistics/counters.h"

static const int32_t two_tokens[] = { 3, 0, 3, 1 };

static const struct routing_layer layer_5 = {
    .layer = 5, .n_expert = 4, .n_used = 2, .n_tokens = 2, .experts = two_tokens,
};

static void assert_row(const struct counters * counts, int32_t layer, const uint64_t * expected, int32_t n) {
    assert_int_equal(counts->table.layers[layer].n_expert, n);
    for (int32_t i = 0; i < n; i++) {
        assert_int_equal(counter_get(&counters_row(&counts->table, layer)[i]), expected[i]);
    }
}

static void adds_each_activation_once(void ** state) {
    (void) state;
    struct counters counts = { 0 };
    assert_true(counters_make_room(&counts.table, 6, 4));
    assert_true(counters_add_layer(&counts.table, &layer_5));
    assert_true(counters_add_layer(&counts.table, &layer_5));
    assert_int_equal(counts.table.layers[5].n_tokens, 4);
    assert_int_equal(counts.table.layers[5].n_used, 2);
    assert_int_equal(counts.table.layers[4].n_expert, 0);
    assert_row(&counts, 5, (uint64_t[]) { 2, 2, 0, 4 }, 4);
    counters_free(&counts);
}

static void a_layer_without_rows_is_seen_but_counts_nothing(void ** state) {
    (void) state;
    struct counters        counts = { 0 };
    struct routing_layer none   = layer_5;
    none.n_tokens = 0;
    assert_true(counters_make_room(&counts.table, 6, 4));
    assert_true(counters_add_layer(&counts.table, &none));
    assert_int_equal(counts.table.layers[5].n_tokens, 0);
    assert_row(&counts, 5, (uint64_t[]) { 0, 0, 0, 0 }, 4);
    counters_free(&counts);
}

static void what_has_no_room_is_not_added(void ** state) {
    (void) state;
    struct counters counts = { 0 };
    assert_false(counters_add_layer(&counts.table, &layer_5));
    assert_true (counters_make_room(&counts.table, 5, 4));
    assert_false(counters_add_layer(&counts.table, &layer_5));
    assert_true (counters_make_room(&counts.table, 6, 3));
    assert_true (counters_add_layer(&counts.table, &layer_5)); // the room for four experts was kept
    counters_free(&counts);

    assert_true (counters_make_room(&counts.table, 6, 3));
    assert_false(counters_add_layer(&counts.table, &layer_5));
    counters_free(&counts);
}

static void room_is_made_around_what_is_there(void ** state) {
    (void) state;
    struct routing_layer first  = layer_5;
    struct counters        counts = { .totals.n_tokens = 2 };
    first.layer = 0;
    assert_true(counters_make_room(&counts.table, 6, 4));
    assert_true(counters_add_layer(&counts.table, &first));
    assert_true(counters_add_layer(&counts.table, &layer_5));
    assert_true(counters_make_room(&counts.table, 9, 6));
    assert_row(&counts, 0, (uint64_t[]) { 1, 1, 0, 2 }, 4);
    assert_row(&counts, 5, (uint64_t[]) { 1, 1, 0, 2 }, 4);
    assert_int_equal(counts.table.layers[8].n_expert, 0);
    assert_int_equal(counts.table.layers[5].n_tokens, 2);
    assert_int_equal(counts.table.layers[5].n_used, 2);
    assert_int_equal(counts.totals.n_tokens, 2);
    counters_free(&counts);
}

static void room_that_is_known_in_part(void ** state) {
    (void) state;
    struct counters counts = { 0 };
    assert_true(counters_make_room(&counts.table, 0, 4));
    assert_true(counters_make_room(&counts.table, 6, 0));
    assert_true(counters_add_layer(&counts.table, &layer_5));
    assert_row(&counts, 5, (uint64_t[]) { 1, 1, 0, 2 }, 4);
    counters_free(&counts);
}

static void sums_layers_of_different_sizes(void ** state) {
    (void) state;
    struct counters        sum   = { 0 };
    struct counters        one   = { .totals = { .n_tokens = 2, .n_prompt = 2, .n_warmup = 1 } };
    struct routing_layer wider = layer_5;
    wider.n_expert = 8;
    assert_true(counters_make_room(&sum.table, 6, 4));
    assert_true(counters_make_room(&one.table, 7, 8));
    assert_true(counters_add_layer(&sum.table, &layer_5));
    assert_true(counters_add_layer(&one.table, &wider));
    assert_true(counters_add(&sum, &one));
    assert_row(&sum, 5, (uint64_t[]) { 2, 2, 0, 4, 0, 0, 0, 0 }, 8);
    assert_int_equal(sum.totals.n_tokens, 2);
    assert_int_equal(sum.totals.n_prompt, 2);
    assert_int_equal(sum.totals.n_warmup, 1);
    counters_free(&sum);
    counters_free(&one);
}

static void reset_keeps_what_is_known_of_layers(void ** state) {
    (void) state;
    struct counters counts = { .totals = { .n_tokens = 7, .n_mtp = 3 } };
    assert_true(counters_make_room(&counts.table, 6, 4));
    assert_true(counters_add_layer(&counts.table, &layer_5));
    counters_reset(&counts);
    assert_int_equal(counts.totals.n_tokens, 0);
    assert_int_equal(counts.totals.n_mtp, 0);
    assert_int_equal(counts.table.layers[5].n_tokens, 0);
    assert_int_equal(counts.table.layers[5].n_used, 2);
    assert_row(&counts, 5, (uint64_t[]) { 0, 0, 0, 0 }, 4);
    counters_free(&counts);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adds_each_activation_once),
        cmocka_unit_test(a_layer_without_rows_is_seen_but_counts_nothing),
        cmocka_unit_test(what_has_no_room_is_not_added),
        cmocka_unit_test(room_is_made_around_what_is_there),
        cmocka_unit_test(room_that_is_known_in_part),
        cmocka_unit_test(sums_layers_of_different_sizes),
        cmocka_unit_test(reset_keeps_what_is_known_of_layers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
