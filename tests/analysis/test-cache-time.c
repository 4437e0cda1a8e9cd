// What a token takes with a cache and without, against sums done by hand.

#include "analysis.h"
#include "analysis/cache-time.h"

#include <math.h>

// 2 GB of experts a token, 20 tokens a second: 50 ms, of which 40 ms are reading.
static const struct cache_time example = { .token_bytes = 2e9, .tg = 20.0, .ram = 50e9, .pcie = 25e9, .vram = 500e9 };

static void assert_near(double a, double b) {
    assert_true(fabs(a - b) < 1e-9 * fmax(1.0, fabs(b)));
}

static void test_uploading(void ** state) {
    (void) state;
    assert_near(cache_time_uploading(&example, 1.0), 1.0 / (0.010 + 0.004));
    assert_near(cache_time_uploading(&example, 0.5), 1.0 / (0.010 + 0.040 + 0.004));
    assert_near(cache_time_uploading(&example, 0.0), 1.0 / (0.010 + 0.080 + 0.004));
}

static void test_computing(void ** state) {
    (void) state;
    assert_near(cache_time_computing(&example, 1.0), 1.0 / (0.010 + 0.004));
    assert_near(cache_time_computing(&example, 0.5), 1.0 / (0.010 + 0.020 + 0.002));
    assert_near(cache_time_computing(&example, 0.0), 20.0); // as without a cache
}

static void test_break_even(void ** state) {
    (void) state;
    assert_near(cache_time_break_even(&example), 0.55);
    for (double ram = 10e9; ram < 200e9; ram += 10e9) {
        struct cache_time time = example;
        time.ram = ram;
        time.tg  = 1.0;
        assert_near(cache_time_uploading(&time, cache_time_break_even(&time)), time.tg);
    }
    struct cache_time slow = example; // a device that reads no faster than the processor
    slow.vram = 40e9;
    assert_true(cache_time_break_even(&slow) > 1.0);
    struct cache_time fast = example; // uploading is faster than reading
    fast.pcie = 64e9;
    assert_true(cache_time_break_even(&fast) < 0.0);
}

static void test_device_that_takes_no_time(void ** state) {
    (void) state;
    struct cache_time time = example;
    time.vram = 0.0;
    assert_near(cache_time_uploading(&time, 1.0), 1.0 / 0.010);
    assert_near(cache_time_computing(&time, 0.5), 1.0 / 0.030);
    assert_near(cache_time_break_even(&time), 0.5);
}

static void test_figures_that_cannot_be(void ** state) {
    (void) state;
    assert_true(cache_time_is_possible(&example));
    struct cache_time time = example;
    time.ram = 30e9;
    assert_false(cache_time_is_possible(&time));
    time.vram = 0.0;
    assert_true(isinf(cache_time_uploading(&time, 1.0)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_uploading),
        cmocka_unit_test(test_computing),
        cmocka_unit_test(test_break_even),
        cmocka_unit_test(test_device_that_takes_no_time),
        cmocka_unit_test(test_figures_that_cannot_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
