// Hits of least-recently-used caches of all sizes, against a simulation of each size.

#include "analysis.h"
#include "analysis/lru-curve.h"

#define KEYS_MAX 1100

// A cache of one size that is simulated as it is told: the most recent key first.
struct plain {
    size_t   n_slots;
    size_t   n;
    uint32_t keys[KEYS_MAX + 1];
};

static bool plain_has(const struct plain * plain, uint32_t key) {
    return index_of(plain->keys, plain->n, key) < plain->n;
}

static void plain_touch(struct plain * plain, uint32_t key) {
    const size_t at = index_of(plain->keys, plain->n, key);
    memmove(plain->keys + 1, plain->keys, at * sizeof(plain->keys[0]));
    plain->keys[0] = key;
    plain->n      += at == plain->n;
    plain->n       = plain->n > plain->n_slots ? plain->n_slots : plain->n;
}

// Keys are i * spread of `n_different`, in a curve of as many as that takes.
struct shape {
    uint32_t n_different;
    uint32_t spread;
    size_t   n_steps;
    size_t   n_most;
    size_t   n_slots; // the most that are simulated
};

static void compare(uint64_t seed, struct shape shape) {
    uint64_t           state   = seed;
    struct lru_curve * curve   = lru_curve_new(shape.n_different * shape.spread);
    struct plain     * plain   = calloc(shape.n_slots + 1, sizeof(*plain));
    for (size_t i = 0; i <= shape.n_slots; i++) {
        plain[i].n_slots = i;
    }
    for (size_t step = 0; step < shape.n_steps; step++) {
        uint32_t     keys[STEP_MAX];
        int32_t      distances[STEP_MAX];
        const size_t n     = random_step(&state, shape.n_different, shape.n_most, keys);
        const bool   looks = random_below(&state, 8) == 0;
        for (size_t i = 0; i < n; i++) {
            keys[i] *= shape.spread;
        }
        lru_curve_look(curve, keys, n, distances);
        for (size_t i = 0; i < n; i++) {
            for (size_t j = 0; j <= shape.n_slots; j++) {
                assert_int_equal(distances[i] >= 0 && (size_t) distances[i] < j, plain_has(&plain[j], keys[i]));
            }
        }
        if (looks) {
            continue;
        }
        lru_curve_touch(curve, keys, n);
        for (size_t i = 0; i < n; i++) {
            for (size_t j = 0; j <= shape.n_slots; j++) {
                plain_touch(&plain[j], keys[i]);
            }
        }
    }
    free(plain);
    lru_curve_free(curve);
}

static void test_few_keys(void ** state) {
    (void) state;
    for (uint64_t seed = 1; seed <= 2000; seed++) {
        const uint32_t n_keys = 1 + (uint32_t) seed % 24;
        compare(seed, (struct shape) { n_keys, 1, 40, STEP_MAX, n_keys + 1 });
    }
}

static void test_many_keys(void ** state) {
    (void) state;
    for (uint64_t seed = 1; seed <= 1000; seed++) {
        const uint32_t n_keys = 12 + (uint32_t) seed % 13;
        compare(seed, (struct shape) { n_keys, 45, 40, STEP_MAX, n_keys + 1 });
    }
}

// Long enough for times to be numbered anew, more than once.
static void test_long_traces(void ** state) {
    (void) state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        compare(seed, (struct shape) { 12, 45, 2000, STEP_MAX, 13 });
    }
}

// The distances themselves, where too many sizes would have to be simulated: places in one list of all keys.
static void compare_distances(uint64_t seed, uint32_t n_keys, size_t n_steps) {
    uint64_t           state = seed;
    struct lru_curve * curve = lru_curve_new(n_keys);
    struct plain       list  = { .n_slots = n_keys };
    for (size_t step = 0; step < n_steps; step++) {
        uint32_t     keys[STEP_MAX];
        int32_t      distances[STEP_MAX];
        const size_t n = random_step(&state, n_keys, STEP_MAX, keys);
        lru_curve_look(curve, keys, n, distances);
        for (size_t i = 0; i < n; i++) {
            const size_t at = index_of(list.keys, list.n, keys[i]);
            assert_int_equal(distances[i], at == list.n ? -1 : (int32_t) at);
        }
        lru_curve_touch(curve, keys, n);
        for (size_t i = 0; i < n; i++) {
            plain_touch(&list, keys[i]);
        }
    }
    lru_curve_free(curve);
}

static void test_wide_layers_and_pools(void ** state) {
    (void) state;
    const uint32_t n_keys[] = { 128, 511, 512, 513, 640, 1024, KEYS_MAX };
    for (size_t i = 0; i < sizeof(n_keys) / sizeof(n_keys[0]); i++) {
        compare_distances(i + 1, n_keys[i], 3000);
    }
}

static void test_no_keys(void ** state) {
    (void) state;
    struct lru_curve * curve = lru_curve_new(0);
    lru_curve_look (curve, NULL, 0, NULL);
    lru_curve_touch(curve, NULL, 0);
    lru_curve_free (curve);
    lru_curve_free (NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_few_keys),
        cmocka_unit_test(test_many_keys),
        cmocka_unit_test(test_long_traces),
        cmocka_unit_test(test_wide_layers_and_pools),
        cmocka_unit_test(test_no_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
