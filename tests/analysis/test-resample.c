// Intervals held against the truth of made-up processes, and sums against what was added.

#include "analysis/resample.h"

#include "analysis.h"

#include <math.h>

enum { REQUESTS, HITS, N_SERIES };

static void add(struct resample * resample, uint64_t life, int32_t position, uint64_t requests, uint64_t hits) {
    const struct resample_token token = { life, position };
    uint64_t                  * sums;
    assert_true(resample_find(resample, 1, &token, &sums));
    sums[REQUESTS] += requests;
    sums[HITS]     += hits;
}

static struct resample_draws draws_of(const struct resample * resample) {
    struct resample_draws draws;
    assert_true(resample_draw(resample, REQUESTS, 0, N_SERIES, &draws));
    return draws;
}

static void test_few_units_have_no_interval(void ** state) {
    (void) state;
    struct resample * resample = resample_new(N_SERIES);
    for (int32_t i = 0; i < (RESAMPLE_LEAST - 1) * RESAMPLE_BLOCK; i++) {
        add(resample, 0, i, 4, 2);
    }
    add(resample, 1, 0, 0, 0); // nothing was asked in it
    struct resample_draws draws = draws_of(resample);
    assert_false(draws.by_lives);
    assert_int_equal(draws.n_units, RESAMPLE_LEAST - 1);
    assert_true(isnan(resample_share(&draws, HITS, REQUESTS).low));
    resample_draws_free(&draws);

    add(resample, 0, (RESAMPLE_LEAST - 1) * RESAMPLE_BLOCK, 4, 2);
    draws = draws_of(resample);
    assert_int_equal(draws.n_units, RESAMPLE_LEAST);
    assert_true(fabs(resample_share(&draws, HITS, REQUESTS).low  - 0.5) < 1e-12);
    assert_true(fabs(resample_share(&draws, HITS, REQUESTS).high - 0.5) < 1e-12);
    resample_draws_free(&draws);
    resample_free(resample);
}

static void test_lives_are_units_where_there_are_enough(void ** state) {
    (void) state;
    struct resample * resample = resample_new(N_SERIES);
    for (uint64_t life = 0; life < RESAMPLE_LEAST; life++) {
        for (int32_t i = 0; i < 3 * RESAMPLE_BLOCK; i++) {
            add(resample, life, i, 1, life % 2);
        }
    }
    struct resample_draws draws = draws_of(resample);
    assert_true(draws.by_lives);
    assert_int_equal(draws.n_units, RESAMPLE_LEAST);
    const struct interval interval = resample_share(&draws, HITS, REQUESTS);
    assert_true(interval.low < 0.2 && interval.high > 0.8); // eight conversations, however long they are
    resample_draws_free(&draws);
    resample_free(resample);
}

// Of very many lives and blocks nothing is lost.
static void test_sums_stay(void ** state) {
    (void) state;
    for (uint64_t n_lives = 1; n_lives <= 3000; n_lives = n_lives * 3 + 1) {
        struct resample * resample = resample_new(N_SERIES);
        uint64_t          random   = n_lives;
        double            sums[N_SERIES] = { 0 };
        for (int i = 0; i < 20000; i++) {
            const uint64_t hits = random_below(&random, 5);
            add(resample, random_below(&random, (uint32_t) n_lives), (int32_t) random_below(&random, 100000), 4, hits);
            sums[REQUESTS] += 4;
            sums[HITS]     += (double) hits;
        }
        struct resample_draws draws = draws_of(resample);
        assert_true(draws.n_units >= (n_lives < RESAMPLE_LEAST ? RESAMPLE_LEAST : n_lives < 100 ? n_lives : 64));
        assert_true(draws.n_units <= RESAMPLE_MOST);
        assert_int_equal(draws.by_lives, n_lives >= RESAMPLE_LEAST);
        assert_true(memcmp(sums, draws.totals, sizeof(sums)) == 0);
        resample_draws_free(&draws);
        resample_free(resample);
    }
}

static void test_tokens_of_a_ubatch_are_found_together(void ** state) {
    (void) state;
    struct resample     * resample = resample_new(N_SERIES);
    struct resample_token tokens[2 * RESAMPLE_MOST];
    uint64_t            * sums  [2 * RESAMPLE_MOST];
    for (size_t i = 0; i < 2 * RESAMPLE_MOST; i++) {
        tokens[i] = (struct resample_token) { i, -1 };
    }
    assert_true(resample_find(resample, 2 * RESAMPLE_MOST, tokens, sums));
    for (size_t i = 0; i < 2 * RESAMPLE_MOST; i++) {
        assert_ptr_equal(sums[i], sums[i - i % 2]);
        sums[i][REQUESTS]++;
    }
    struct resample_draws draws = draws_of(resample);
    assert_int_equal(draws.n_units, RESAMPLE_MOST);
    resample_draws_free(&draws);

    tokens[1].life = RESAMPLE_NOBODY;
    assert_true(resample_find(resample, 3, tokens, sums));
    assert_non_null(sums[0]);
    assert_null(sums[1]);
    assert_non_null(sums[2]);
    resample_free(resample);
}

// Conversations differ, and a token is much like the one before it: the interval has the truth in it about as often as
// it claims.
static void test_intervals_cover_the_truth(void ** state) {
    (void) state;
    static const uint64_t n_lives[] = { 8, 12, 40, 300 };
    for (size_t i = 0; i < sizeof(n_lives) / sizeof(n_lives[0]); i++) {
        uint64_t random  = 7 + i;
        int      covered = 0;
        for (int trial = 0; trial < 400; trial++) {
            struct resample * resample = resample_new(N_SERIES);
            for (uint64_t life = 0; life < n_lives[i]; life++) {
                const uint32_t often = 20 + random_below(&random, 61); // hits of 100 requests, on the mean half
                for (int32_t token = 0; token < 20; token++) {
                    add(resample, life, token, 1, random_below(&random, 100) < often);
                }
            }
            struct resample_draws draws    = draws_of(resample);
            const struct interval interval = resample_share(&draws, HITS, REQUESTS);
            covered += interval.low <= 0.5 && interval.high >= 0.5;
            resample_draws_free(&draws);
            resample_free(resample);
        }
        assert_in_range(covered, 360, 396); // 380 of 400 are expected, give or take 9
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_few_units_have_no_interval),
        cmocka_unit_test(test_lives_are_units_where_there_are_enough),
        cmocka_unit_test(test_sums_stay),
        cmocka_unit_test(test_tokens_of_a_ubatch_are_found_together),
        cmocka_unit_test(test_intervals_cover_the_truth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
