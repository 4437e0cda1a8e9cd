// Which batches of a sampled trace are recorded.

#include "unit.h"

#include "trace/write/trace-sampling.h"

// As tests/trace/moetrace.py has it: of each three, by seed 12 in the contexts 0 and 1.
static void the_choice_of_a_seed(void ** state) {
    (void) state;
    static const uint64_t chosen[2][7] = { { 1, 3, 6, 11, 13, 15, 18 }, { 0, 4, 7, 9, 13, 15, 19 } };
    for (uint32_t context = 0; context < 2; context++) {
        for (uint64_t batch = 0; batch < 21; batch++) {
            assert_int_equal(trace_sampling_takes(12, 3, context, batch), batch == chosen[context][batch / 3]);
        }
    }
}

static void one_of_each(void ** state) {
    (void) state;
    for (uint64_t n = 1; n < 40; n++) {
        for (uint64_t row = 0; row < 100; row++) {
            int taken = 0;
            for (uint64_t i = 0; i < n; i++) {
                taken += trace_sampling_takes(7, n, 3, row * n + i);
            }
            assert_int_equal(taken, 1);
        }
    }
}

// A load that comes round as often as a batch is taken: each of its kinds is there as often as the others.
static void regular_loads(void ** state) {
    (void) state;
    for (uint64_t n = 2; n <= 8; n++) {
        for (uint64_t kind = 0; kind < n; kind++) {
            uint64_t taken = 0;
            for (uint64_t round = 0; round < 8000; round++) {
                taken += trace_sampling_takes(1, n, 0, round * n + kind);
            }
            assert_in_range(taken, 8000 / n * 9 / 10, 8000 / n * 11 / 10);
        }
    }
}

static void new_seeds(void ** state) {
    (void) state;
    const uint64_t one   = trace_sampling_new_seed();
    const uint64_t other = trace_sampling_new_seed();
    const uint64_t third = trace_sampling_new_seed();
    assert_in_range(one,   1, UINT32_MAX);
    assert_in_range(other, 1, UINT32_MAX);
    assert_true(one != other || other != third);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_choice_of_a_seed),
        cmocka_unit_test(one_of_each),
        cmocka_unit_test(regular_loads),
        cmocka_unit_test(new_seeds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
