// Arithmetic on counts: sums, shares of the hottest experts, entropy and ranks.

#include "analysis/counts.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void assert_near(double a, double b) {
    assert_true(fabs(a - b) < 1e-12);
}

static void test_nothing(void ** state) {
    (void) state;
    assert_int_equal(counts_sum   (NULL, 0), 0);
    assert_int_equal(counts_widest(NULL, 0), 0);
    assert_int_equal(counts_unused(NULL, 0), 0);
    assert_near(counts_share(0, 0), 0.0);
    assert_near(counts_share_of_hottest(NULL, 0, 0), 0.0);
    assert_true(isnan(counts_entropy(NULL, 0)));
    counts_rank(NULL, 0, NULL);
}

static void test_sums(void ** state) {
    (void) state;
    const uint64_t counts[] = { 4, 0, 7, 0, 1 };
    assert_int_equal(counts_sum   (counts, 5), 12);
    assert_int_equal(counts_widest(counts, 5), 7);
    assert_int_equal(counts_unused(counts, 5), 2);
    assert_near(counts_share(counts[0], 12), 1.0 / 3.0);
}

static void test_tenth_is_rounded_up(void ** state) {
    (void) state;
    assert_int_equal(counts_tenth(0),   0);
    assert_int_equal(counts_tenth(1),   1);
    assert_int_equal(counts_tenth(8),   1);
    assert_int_equal(counts_tenth(10),  1);
    assert_int_equal(counts_tenth(11),  2);
    assert_int_equal(counts_tenth(128), 13);
}

static void test_share_of_hottest(void ** state) {
    (void) state;
    const uint64_t counts[] = { 1, 5, 2, 2 };
    const uint64_t zeros [] = { 0, 0, 0, 0 };
    assert_near(counts_share_of_hottest(counts, 4, 0), 0.0);
    assert_near(counts_share_of_hottest(counts, 4, 1), 0.5);
    assert_near(counts_share_of_hottest(counts, 4, 2), 0.7);
    assert_near(counts_share_of_hottest(counts, 4, 9), 1.0);
    assert_near(counts_share_of_hottest(zeros,  4, 1), 0.0);
}

static void test_entropy(void ** state) {
    (void) state;
    const uint64_t alike[] = { 3, 3, 3, 3, 3, 3, 3 };
    const uint64_t one  [] = { 0, 9, 0, 0 };
    const uint64_t half [] = { 5, 5, 0, 0 };
    const uint64_t zeros[] = { 0, 0 };
    assert_near(counts_entropy(alike, 7), 1.0);
    assert_near(counts_entropy(one,   4), 0.0);
    assert_near(counts_entropy(half,  4), 0.5);
    assert_true(isnan(counts_entropy(zeros, 2)));
    assert_true(isnan(counts_entropy(alike, 1)));
}

static void test_rank(void ** state) {
    (void) state;
    const uint64_t counts[] = { 2, 9, 0, 9, 5 };
    const size_t expected[] = { 1, 3, 4, 0, 2 };
    size_t order[5];
    counts_rank(counts, 5, order);
    assert_memory_equal(order, expected, sizeof(expected));
}

static void test_add_stops_before_it_overflows(void ** state) {
    (void) state;
    uint64_t sum = 1;
    assert_true (counts_add(&sum, 2));
    assert_int_equal(sum, 3);
    assert_true (counts_add(&sum, COUNTS_MAX - 3));
    assert_false(counts_add(&sum, 1));
    assert_true (sum == COUNTS_MAX);
    sum = 0;
    assert_false(counts_add(&sum, COUNTS_MAX + 1));
    assert_false(counts_add(&sum, UINT64_MAX));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_tenth_is_rounded_up),
        cmocka_unit_test(test_share_of_hottest),
        cmocka_unit_test(test_entropy),
        cmocka_unit_test(test_rank),
        cmocka_unit_test(test_add_stops_before_it_overflows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
