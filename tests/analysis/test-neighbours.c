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
    static const uint64_t even[] = { 3, 3, 3, 3 }; // six tokens
    static const uint64_t odd[]  = { 4, 2, 2, 0 }; // four
    static const uint64_t none[] = { 0, 0 };
    static const uint64_t one[]  = { 1, 1, 0 };
    assert_true(fabs(neighbours_chance(even, 4, 2) - 24.0 / 60.0) < 1e-12);
    assert_true(fabs(neighbours_chance(odd,  4, 2) - 16.0 / 24.0) < 1e-12);
    assert_true(fabs(neighbours_chance(one,  3, 1) - 0.0) < 1e-12);
    assert_true(isnan(neighbours_chance(none, 2, 1)));
    assert_true(isnan(neighbours_chance(one,  3, 2))); // one token has nobody to share with
}

//
// uniform routing
//

#define EXPERTS_MAX 512
#define USED_MAX    10

struct walk {
    size_t                   n_expert;
    size_t                   n_used;
    size_t                   n_kept; // experts of the token before, which each token keeps
    uint64_t                 counts[EXPERTS_MAX];
    uint16_t                 before[USED_MAX];
    struct neighbours_spread spread;
};

static void step(struct walk * walk, uint64_t * random, bool first) {
    uint16_t experts[USED_MAX];
    struct neighbours_reuse reuse = { .experts = first ? 0 : walk->n_used };
    for (size_t i = 0; i < walk->n_used;) {
        const bool kept = !first && i < walk->n_kept;
        experts[i] = kept ? walk->before[walk->n_used - 1 - i]
                          : (uint16_t) random_below(random, (uint32_t) walk->n_expert);
        size_t same = 0;
        while (same < i && experts[same] != experts[i]) {
            same++;
        }
        i += same == i;
    }
    for (size_t i = 0; i < walk->n_used; i++) {
        walk->counts[experts[i]]++;
        for (size_t k = 0; !first && k < walk->n_used; k++) {
            reuse.shared += walk->before[k] == experts[i];
        }
    }
    memcpy(walk->before, experts, sizeof(experts));
    neighbours_spread_add(&walk->spread, &reuse);
}

static enum neighbours_verdict walk(uint64_t * random, struct walk * its, size_t n_tokens, double * chance) {
    for (size_t i = 0; i < n_tokens; i++) {
        step(its, random, i == 0);
    }
    *chance = neighbours_chance(its->counts, its->n_expert, its->n_used);
    return neighbours_judge(&its->spread, *chance);
}

// Of sixteen tokens the squares of shares made 7.6 % of what is 1.6 %.
static void test_chance_is_without_bias(void ** state) {
    (void) state;
    uint64_t random = 3;
    double   sum    = 0.0;
    for (int i = 0; i < 2000; i++) {
        struct walk its = { .n_expert = 128, .n_used = 2 };
        double      chance;
        walk(&random, &its, 16, &chance);
        sum += chance / 2000;
    }
    assert_true(fabs(sum - 2.0 / 128.0) < 0.0005);
}

static void test_uniform_routing_is_chance(void ** state) {
    (void) state;
    static const size_t tokens [] = { 2, 5, 8, 9, 12, 20, 40, 100, 333, 1000, 4000 };
    static const size_t experts[] = { 10, 16, 60, 128, 512 };
    static const size_t used   [] = { 1, 2, 4, 8, 10 };
    uint64_t            random    = 5;
    size_t              n_hardly  = 0;
    for (size_t i = 0; i < 11 * 5 * 5; i++) {
        struct walk                   its = { .n_expert = experts[i / 11 % 5], .n_used = used[i / 55] };
        double                        chance;
        const enum neighbours_verdict verdict = walk(&random, &its, tokens[i % 11], &chance);
        assert_int_not_equal(verdict, NEIGHBOURS_MORE);
        assert_true((verdict == NEIGHBOURS_FEW) == (tokens[i % 11] <= NEIGHBOURS_LEAST));
        n_hardly += verdict == NEIGHBOURS_HARDLY;
    }
    assert_true(n_hardly <= 11 * 5 * 5 / 20);
}

static void test_what_stays_is_more(void ** state) {
    (void) state;
    static const struct { size_t n_tokens; struct walk walk; } cases[] = {
        { 40,  { .n_expert = 16,  .n_used = 4,  .n_kept = 2 } },
        { 60,  { .n_expert = 128, .n_used = 8,  .n_kept = 2 } },
        { 300, { .n_expert = 512, .n_used = 10, .n_kept = 1 } },
    };
    uint64_t random = 6;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct walk its = cases[i].walk;
        double      chance;
        assert_int_equal(walk(&random, &its, cases[i].n_tokens, &chance), NEIGHBOURS_MORE);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_is_a_neighbour),
        cmocka_unit_test(test_sequences_and_layers_are_apart),
        cmocka_unit_test(test_chance),
        cmocka_unit_test(test_chance_on_paper),
        cmocka_unit_test(test_chance_is_without_bias),
        cmocka_unit_test(test_uniform_routing_is_chance),
        cmocka_unit_test(test_what_stays_is_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
