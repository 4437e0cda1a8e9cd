// How evenly experts are used, against values known on paper.

#include "analysis/evenness.h"

#include "analysis.h"

#include <math.h>

static void assert_near(double a, double b) {
    assert_true(fabs(a - b) < 1e-12);
}

static void test_effective(void ** state) {
    (void) state;
    static const uint64_t even[] = { 5, 5, 5, 5 };
    static const uint64_t one[]  = { 0, 7, 0 };
    static const uint64_t some[] = { 2, 1, 1, 0 };
    static const uint64_t none[] = { 0, 0 };
    assert_near(evenness_effective(even, 4), 4.0);
    assert_near(evenness_effective(one,  3), 1.0);
    assert_near(evenness_effective(some, 4), exp2(1.5));
    assert_true(isnan(evenness_effective(none, 2)));
}

static void test_hottest(void ** state) {
    (void) state;
    static const uint64_t counts[] = { 1, 4, 0, 4 };
    assert_int_equal(evenness_hottest(counts, 4), 1);
    assert_int_equal(evenness_hottest(counts, 1), 0);
}

static void test_coverage(void ** state) {
    (void) state;
    static const uint64_t counts[] = { 10, 50, 0, 40 };
    struct evenness_slots slots;
    assert_true(evenness_slots_of(&slots, counts, 4));
    assert_int_equal(evenness_coverage(&slots, 0.0),   0);
    assert_int_equal(evenness_coverage(&slots, 0.5),   1);
    assert_int_equal(evenness_coverage(&slots, 0.51),  2);
    assert_int_equal(evenness_coverage(&slots, 0.9),   2);
    assert_int_equal(evenness_coverage(&slots, 1.0),   3);
    assert_near(evenness_covered(&slots, 0.0),   0.0);
    assert_near(evenness_covered(&slots, 0.125), 0.25);
    assert_near(evenness_covered(&slots, 0.25),  0.5);
    assert_near(evenness_covered(&slots, 0.5),   0.9);
    assert_near(evenness_covered(&slots, 1.0),   1.0);
    evenness_slots_free(&slots);
}

static void test_nothing(void ** state) {
    (void) state;
    static const uint64_t counts[] = { 0, 0 };
    struct evenness_slots slots;
    assert_true(evenness_slots_of(&slots, counts, 2));
    assert_int_equal(evenness_coverage(&slots, 0.5), 0);
    assert_near(evenness_covered(&slots, 0.5), 0.0);
    evenness_slots_free(&slots);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_effective),
        cmocka_unit_test(test_hottest),
        cmocka_unit_test(test_coverage),
        cmocka_unit_test(test_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
