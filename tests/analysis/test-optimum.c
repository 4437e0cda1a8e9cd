// The optimum of all caches, against an exhaustive search of small ones.

#include "analysis.h"
#include "analysis/optimum.h"

#define KEYS_MAX  6
#define STATES    (1u << KEYS_MAX)
#define SIZES_MAX 8
#define KINDS     2
#define NO        (-1) // cannot be

// Every cache that there could be: most hits so far by what is in it, one bit for each key.
// What goes in was used just now.
struct search {
    int32_t most[STATES];
    size_t  size;
};

static size_t count(uint32_t keys) {
    size_t n = 0;
    for (; keys != 0; keys &= keys - 1) {
        n++;
    }
    return n;
}

// Empty, or with anything in it.
static void search_begin(struct search * search, bool anything) {
    for (uint32_t state = 0; state < STATES; state++) {
        search->most[state] = state == 0 || (anything && count(state) <= search->size) ? 0 : NO;
    }
}

static void add_hits(uint64_t * hits, size_t n_sizes, size_t n, const bool * kept) {
    for (size_t i = 0; i < n_sizes * n; i++) {
        hits[i / n] += kept[i];
    }
}

static void search_step(struct search * search, uint32_t keys, bool counts) {
    int32_t next[STATES];
    memset(next, NO, sizeof(next));
    for (uint32_t state = 0; state < STATES; state++) {
        const int32_t so_far = search->most[state];
        const int32_t most   = so_far == NO ? NO : so_far + (counts ? (int32_t) count(state & keys) : 0);
        const uint32_t may = state | keys;
        for (uint32_t kept = may; most != NO; kept = (kept - 1) & may) {
            next[kept] = count(kept) <= search->size && most > next[kept] ? most : next[kept];
            if (kept == 0) {
                break;
            }
        }
    }
    memcpy(search->most, next, sizeof(next));
}

static uint64_t search_most(const struct search * search) {
    int32_t most = 0;
    for (uint32_t state = 0; state < STATES; state++) {
        most = search->most[state] > most ? search->most[state] : most;
    }
    return (uint64_t) most;
}

static void compare(uint64_t seed, uint32_t n_keys, size_t n_steps) {
    uint64_t          random = seed;
    const size_t      sizes[] = { 0, 1, 2, 3, 5, 7 };
    const size_t      n_sizes = sizeof(sizes) / sizeof(sizes[0]);
    const size_t      restart = random_below(&random, (uint32_t) n_steps * 2);
    uint64_t          hits[KINDS][SIZES_MAX] = { { 0 } };
    struct search     searches[KINDS][SIZES_MAX] = { { { .size = 0 } } };
    struct optimum  * optimum = optimum_new(n_keys, n_sizes, sizes, KINDS);
    for (size_t i = 0; i < KINDS * n_sizes; i++) {
        struct search * search = &searches[i / n_sizes][i % n_sizes];
        search->size = sizes[i % n_sizes];
        search_begin(search, false);
    }
    for (size_t step = 0; step < n_steps; step++) {
        uint32_t     keys[STEP_MAX];
        bool         kept[SIZES_MAX * STEP_MAX];
        const size_t n    = random_step(&random, n_keys, 3, keys);
        const size_t kind = random_below(&random, 3) == 0;
        uint32_t     bits = 0;
        for (size_t i = 0; i < n; i++) {
            bits |= 1u << keys[i];
        }
        if (step == restart) {
            optimum_restart(optimum);
            memset(hits, 0, sizeof(hits));
        }
        optimum_step(optimum, keys, n, kind, kept);
        add_hits(hits[kind], n_sizes, n, kept);
        for (size_t i = 0; i < KINDS * n_sizes; i++) {
            struct search * search = &searches[i / n_sizes][i % n_sizes];
            if (step == restart) {
                search_begin(search, true);
            }
            search_step(search, bits, i / n_sizes == kind);
            // after each step: the hits are told as they happen
            assert_int_equal(hits[i / n_sizes][i % n_sizes], search_most(search));
        }
    }
    optimum_free(optimum);
}

static void test_is_exhaustive_search(void ** state) {
    (void) state;
    for (uint64_t seed = 1; seed <= 3000; seed++) {
        compare(seed, 1 + (uint32_t) seed % KEYS_MAX, 12);
    }
}

// Long enough for times to be numbered anew, many times.
static void test_long_traces(void ** state) {
    (void) state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        compare(seed, 3 + (uint32_t) seed % 4, 300);
    }
}

// What is known of it: one more slot, one more key of each cycle that stays.
static void test_cycle(void ** state) {
    (void) state;
    enum { KEYS = 8, CYCLES = 100 };
    const size_t     sizes[] = { 1, 2, 3, 4, 5, 6, 7, 8 };
    uint64_t         hits[KEYS] = { 0 };
    struct optimum * optimum = optimum_new(KEYS, KEYS, sizes, 1);
    for (uint32_t i = 0; i < KEYS * CYCLES; i++) {
        const uint32_t key = i % KEYS;
        bool           kept[KEYS];
        optimum_step(optimum, &key, 1, 0, kept);
        add_hits(hits, KEYS, 1, kept);
    }
    for (size_t i = 0; i < KEYS; i++) {
        const size_t n_intervals = KEYS * (CYCLES - 1);
        const size_t n_gaps      = KEYS * CYCLES - 1;
        const size_t most        = sizes[i] * n_gaps / KEYS; // each interval takes as many gaps as there are keys
        assert_true(hits[i] <= n_intervals && hits[i] <= most
                    && hits[i] + KEYS >= (most < n_intervals ? most : n_intervals));
    }
    optimum_free(optimum);
}

static void test_nothing(void ** state) {
    (void) state;
    struct optimum * optimum = optimum_new(0, 0, NULL, 1);
    optimum_step   (optimum, NULL, 0, 0, NULL);
    optimum_restart(optimum);
    optimum_free   (optimum);
    optimum_free   (NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_is_exhaustive_search),
        cmocka_unit_test(test_long_traces),
        cmocka_unit_test(test_cycle),
        cmocka_unit_test(test_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
