// Experts that a token has in common with the token before it, on traces written by hand.

#include "analysis/neighbours.h"

#include "analysis.h"

#include <math.h>

static const struct neighbours_layer layers[] = { { 8, 2 }, { 8, 4 } };

static struct neighbours_row row(int32_t life, int32_t position, bool generation, const uint16_t * experts) {
    return (struct neighbours_row) { .layer = 0, .life = life, .position = position, .generation = generation,
                                     .n_experts = 2, .experts = experts };
}

static void assert_reuse(const struct neighbours * neighbours, size_t layer, bool generation,
                         uint64_t shared, uint64_t experts) {
    const struct neighbours_reuse reuse = neighbours_reuse(neighbours, layer, generation);
    assert_int_equal(reuse.shared,  shared);
    assert_int_equal(reuse.experts, experts);
}

static void test_who_is_a_neighbour(void ** state) {
    (void) state;
    static const uint16_t a[] = { 1, 2 };
    static const uint16_t b[] = { 2, 3 };
    struct neighbours          * neighbours = neighbours_new(2, layers);
    struct neighbours_sequence * sequence   = neighbours_sequence_new(neighbours);
    const struct neighbours_row rows[] = {
        row(0, 0,  false, a), // the first one
        row(0, 1,  false, b), // one of two shared
        row(0, 2,  true,  b), // both: counted as generation, which it is
        row(0, 4,  true,  b), // a position is missing
        row(1, 5,  true,  b), // another life
        row(1, -1, true,  b), // not known where
        row(1, 0,  true,  b), // nor what is before this one
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        neighbours_row(neighbours, sequence, &rows[i]);
    }
    assert_reuse(neighbours, 0, false, 1, 2);
    assert_reuse(neighbours, 0, true,  2, 2);
    assert_reuse(neighbours, 1, true,  0, 0);
    neighbours_sequence_free(sequence);
    neighbours_free(neighbours);
}

static void test_sequences_and_layers_are_apart(void ** state) {
    (void) state;
    static const uint16_t a[] = { 1, 2, 3, 4 };
    struct neighbours          * neighbours = neighbours_new(2, layers);
    struct neighbours_sequence * one        = neighbours_sequence_new(neighbours);
    struct neighbours_sequence * other      = neighbours_sequence_new(neighbours);
    struct neighbours_row        wide       = row(0, 1, false, a);
    wide.layer     = 1;
    wide.n_experts = 4;
    neighbours_row(neighbours, one,   &(struct neighbours_row) { .layer = 0, .n_experts = 2, .experts = a });
    neighbours_row(neighbours, other,
                   &(struct neighbours_row) { .layer = 0, .position = 1, .n_experts = 2, .experts = a });
    neighbours_row(neighbours, one,   &wide);
    assert_reuse(neighbours, 0, false, 0, 0);
    wide.position = 2;
    neighbours_row(neighbours, one, &wide);
    assert_reuse(neighbours, 1, false, 4, 4);
    neighbours_sequence_free(one);
    neighbours_sequence_free(other);
    neighbours_free(neighbours);
    neighbours_sequence_free(NULL);
    neighbours_free(NULL);
}

// Independent draws share what is expected of them.
static void test_chance(void ** state) {
    (void) state;
    uint64_t                     random     = 7;
    uint64_t                     counts[8]  = { 0 };
    struct neighbours          * neighbours = neighbours_new(2, layers);
    struct neighbours_sequence * sequence   = neighbours_sequence_new(neighbours);
    for (int32_t i = 0; i < 200000; i++) {
        uint16_t experts[2];
        experts[0] = (uint16_t) random_below(&random, 1 + random_below(&random, 8));
        do {
            experts[1] = (uint16_t) random_below(&random, 1 + random_below(&random, 8));
        } while (experts[1] == experts[0]);
        counts[experts[0]]++;
        counts[experts[1]]++;
        const struct neighbours_row drawn = row(0, i, true, experts);
        neighbours_row(neighbours, sequence, &drawn);
    }
    const struct neighbours_reuse reuse = neighbours_reuse(neighbours, 0, true);
    assert_true(fabs((double) reuse.shared / (double) reuse.experts - neighbours_chance(counts, 8, 2)) < 0.005);
    neighbours_sequence_free(sequence);
    neighbours_free(neighbours);
}

static void test_chance_on_paper(void ** state) {
    (void) state;
    static const uint64_t even[] = { 3, 3, 3, 3 };
    static const uint64_t odd[]  = { 4, 2, 2, 0 };
    static const uint64_t none[] = { 0, 0 };
    assert_true(fabs(neighbours_chance(even, 4, 2) - 0.5) < 1e-12);
    assert_true(fabs(neighbours_chance(odd,  4, 2) - 0.75) < 1e-12);
    assert_true(isnan(neighbours_chance(none, 2, 1)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_is_a_neighbour),
        cmocka_unit_test(test_sequences_and_layers_are_apart),
        cmocka_unit_test(test_chance),
        cmocka_unit_test(test_chance_on_paper),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
