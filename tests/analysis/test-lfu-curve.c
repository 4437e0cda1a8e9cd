// Hits of least-frequently-used caches of all sizes, against scores that are computed as they are defined.

#include "analysis.h"
#include "analysis/lfu-curve.h"

#include <math.h>

#define KEYS_MAX  24
#define STEPS_MAX 1400

// Scores as they are defined, from all uses so far.
struct plain {
    double half_life;
    size_t n_steps;
    bool   used[STEPS_MAX][KEYS_MAX];
    size_t recent[KEYS_MAX]; // which use of all was its last, from 1
    size_t n_uses;
};

static long double score(const struct plain * plain, uint32_t key) {
    long double sum = 0.0L;
    for (size_t step = 0; step < plain->n_steps; step++) {
        sum += plain->used[step][key]
            ? exp2l(-(long double) (plain->n_steps - 1 - step) / (long double) plain->half_life) : 0.0L;
    }
    return sum;
}

static int32_t rank(const struct plain * plain, const long double * scores, uint32_t n_keys, uint32_t key) {
    if (plain->recent[key] == 0) {
        return -1;
    }
    int32_t n = 0;
    for (uint32_t other = 0; other < n_keys; other++) {
        n += scores[other] > scores[key] || (scores[other] == scores[key] && plain->recent[other] > plain->recent[key]);
    }
    return n;
}

static void compare(uint64_t seed, uint32_t n_keys, size_t n_steps, double half_life) {
    uint64_t           state = seed;
    struct lfu_curve * curve = lfu_curve_new(n_keys, half_life);
    struct plain     * plain = calloc(1, sizeof(*plain));
    plain->half_life = half_life;
    for (size_t step = 0; step < n_steps; step++) {
        uint32_t     keys[STEP_MAX];
        int32_t      ranks[STEP_MAX];
        long double  scores[KEYS_MAX];
        const size_t n     = random_step(&state, n_keys, STEP_MAX, keys);
        const bool   looks = random_below(&state, 8) == 0;
        for (uint32_t key = 0; key < n_keys; key++) {
            scores[key] = score(plain, key);
        }
        lfu_curve_look(curve, keys, n, ranks);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(ranks[i], rank(plain, scores, n_keys, keys[i]));
        }
        if (looks) {
            continue;
        }
        lfu_curve_touch(curve, keys, n);
        for (size_t i = 0; i < n; i++) {
            plain->used[plain->n_steps][keys[i]] = true;
            plain->recent[keys[i]]               = ++plain->n_uses;
        }
        plain->n_steps++;
    }
    free(plain);
    lfu_curve_free(curve);
}

static void test_ranks(void ** state) {
    (void) state;
    const double half_lives[] = { 1.0, 2.0, 3.0, 8.0, INFINITY };
    for (uint64_t seed = 1; seed <= 2000; seed++) {
        compare(seed, 1 + (uint32_t) seed % KEYS_MAX, 30, half_lives[seed % 5]);
    }
}

// Weights grow past all bounds.
static void test_long_traces(void ** state) {
    (void) state;
    compare(1, 5, 1400, 1.0);
    compare(2, 9, 900, 2.0);
    compare(3, 9, 900, INFINITY);
}

// What is too old to be added to a score keeps its place all the same.
static void test_short_half_life_is_least_recently_used(void ** state) {
    (void) state;
    struct lfu_curve * curve = lfu_curve_new(6, 1e-6);
    int32_t            ranks[6];
    for (uint32_t i = 0; i < 5000; i++) {
        const uint32_t key = i % 5;
        lfu_curve_look(curve, &key, 1, ranks);
        assert_int_equal(ranks[0], i < 5 ? -1 : 4);
        lfu_curve_touch(curve, &key, 1);
    }
    const uint32_t keys[]     = { 0, 1, 2, 3, 4, 5 };
    const int32_t  expected[] = { 4, 3, 2, 1, 0, -1 };
    lfu_curve_look(curve, keys, 6, ranks);
    assert_memory_equal(ranks, expected, sizeof(expected));
    lfu_curve_free(curve);
}

static void test_no_keys(void ** state) {
    (void) state;
    struct lfu_curve * curve = lfu_curve_new(0, 1.0);
    lfu_curve_look (curve, NULL, 0, NULL);
    lfu_curve_touch(curve, NULL, 0);
    lfu_curve_free (curve);
    lfu_curve_free (NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranks),
        cmocka_unit_test(test_long_traces),
        cmocka_unit_test(test_short_half_life_is_least_recently_used),
        cmocka_unit_test(test_no_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
