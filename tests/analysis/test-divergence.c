// How far two distributions of uses are apart, against values known on paper.

#include "analysis/divergence.h"

#include "analysis.h"

#include <math.h>

static const uint64_t left[]  = { 1, 1, 0, 0 };
static const uint64_t right[] = { 0, 0, 5, 9 };
static const uint64_t even[]  = { 3, 3, 3, 3 };
static const uint64_t none[]  = { 0, 0, 0, 0 };

static void assert_near(double a, double b) {
    assert_true(fabs(a - b) < 1e-12);
}

static void test_js(void ** state) {
    (void) state;
    static const uint64_t twice[] = { 2, 2, 0, 0 };
    assert_near(divergence_js(left, left,  4), 0.0);
    assert_near(divergence_js(left, twice, 4), 0.0);
    assert_near(divergence_js(left, right, 4), 1.0);
    // H of (3, 3, 1, 1) / 8, less half of 1 and half of 2
    assert_near(divergence_js(left, even,  4), 2 * 0.375 * log2(1 / 0.375) + 2 * 0.125 * 3.0 - 1.5);
    assert_near(divergence_js(left, even,  4), divergence_js(even, left, 4));
    assert_true(isnan(divergence_js(left, none, 4)));
    assert_true(isnan(divergence_js(none, left, 4)));
}

static void test_js_stays_in_bounds(void ** state) {
    (void) state;
    uint64_t random = 3;
    for (int round = 0; round < 1000; round++) {
        uint64_t a[16];
        uint64_t b[16];
        for (size_t i = 0; i < 16; i++) {
            a[i] = 1 + random_below(&random, 1000);
            b[i] = random_below(&random, 2) * random_below(&random, 1000) + (i == 0);
        }
        const double js = divergence_js(a, b, 16);
        assert_true(js >= 0.0 && js <= 1.0);
        assert_near(js, divergence_js(b, a, 16));
        assert_near(divergence_js(b, b, 16), 0.0);
    }
}

static void test_overlap(void ** state) {
    (void) state;
    uint64_t a[20] = { [3] = 9, [7] = 8, [9] = 1 };
    uint64_t b[20] = { [3] = 1, [7] = 2, [9] = 3 };
    assert_near(divergence_overlap(a, a, 20), 1.0);
    assert_near(divergence_overlap(a, b, 20), 0.5);
    assert_near(divergence_overlap(left, right, 4), 0.0);
    assert_true(isnan(divergence_overlap(left, none, 4)));
}

static void test_hot_set(void ** state) {
    (void) state;
    static const uint64_t learned[] = { 1, 9, 5, 0 };
    static const uint64_t judged[]  = { 10, 20, 30, 40 };
    assert_near(divergence_hot_set(learned, judged, 4, 0), 0.0);
    assert_near(divergence_hot_set(learned, judged, 4, 1), 0.2);
    assert_near(divergence_hot_set(learned, judged, 4, 2), 0.5);
    assert_near(divergence_hot_set(learned, judged, 4, 9), 1.0);
    assert_near(divergence_hot_set(learned, none,   4, 2), 0.0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_js),
        cmocka_unit_test(test_js_stays_in_bounds),
        cmocka_unit_test(test_overlap),
        cmocka_unit_test(test_hot_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
