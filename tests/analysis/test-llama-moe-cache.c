// llama.cpp's expert cache as we compute it, against a plain simulation of its slots.

#include "analysis.h"
#include "analysis/llama-moe-cache.h"

#define LAYERS    4
#define GROUPS    3
#define EXPERTS   16
#define SLOTS_MAX 64

static const int64_t three[]   = { 100, 100, 60 };
static const int64_t one[]     = { 333 };
static const int64_t largest[] = { 5000 };

// The last one is a group of its own, for which the smaller budgets of these tests are not enough.
static const struct llama_moe_cache_layer layers[LAYERS] = {
    { 12, 2, 0, false, 3, three }, { 16, 3, 1, false, 1, one }, { 12, 2, 0, false, 3, three },
    { 8, 4, 2, false, 1, largest },
};
static const double n_experts[GROUPS] = { 24, 16, 8 };

// Slots with the time of their last use, in any order.
struct plain {
    size_t   n_slots;
    size_t   key [SLOTS_MAX];
    uint64_t used[SLOTS_MAX]; // 0: empty
    uint64_t now;
};

static size_t plain_find(const struct plain * plain, size_t key) {
    size_t i = 0;
    while (i < plain->n_slots && (plain->used[i] == 0 || plain->key[i] != key)) {
        i++;
    }
    return i;
}

static void plain_load(struct plain * plain, size_t key) {
    size_t oldest = 0;
    for (size_t i = 0; i < plain->n_slots; i++) {
        oldest = plain->used[i] < plain->used[oldest] ? i : oldest;
    }
    plain->key [oldest] = key;
    plain->used[oldest] = ++plain->now;
}

// Returns how many were there.
static size_t plain_step(struct plain * plain, size_t layer, const uint16_t * experts, size_t n, bool changes) {
    bool   missing[EXPERTS] = { false };
    size_t n_found = 0;
    for (size_t i = 0; i < n; i++) {
        const size_t at = plain_find(plain, layer * EXPERTS + experts[i]);
        missing[experts[i]] = at == plain->n_slots;
        n_found            += at < plain->n_slots;
        if (at < plain->n_slots && changes) {
            plain->used[at] = ++plain->now;
        }
    }
    for (size_t i = 0; i < EXPERTS && changes; i++) {
        if (missing[i]) {
            plain_load(plain, layer * EXPERTS + i);
        }
    }
    return n_found;
}

static void add(struct cache_hits * sum, size_t n, size_t found) {
    sum->requests += n;
    sum->hits     += found;
}

static struct llama_moe_cache * cache_of(double budget) {
    const struct llama_moe_cache_options options = { budget, 128, LLAMA_MOE_CACHE_MAX_ROWS };
    return llama_moe_cache_new(LAYERS, layers, &options);
}

static uint64_t found_by(struct llama_moe_cache * cache, const struct cache_step * step) {
    bool     hits[EXPERTS];
    uint64_t n = 0;
    llama_moe_cache_step(cache, step, hits);
    for (size_t i = 0; i < step->n_experts; i++) {
        n += hits[i];
    }
    return n;
}

static void compare(uint64_t seed, double budget) {
    uint64_t                      random = seed;
    struct plain                  plain[GROUPS] = { { .n_slots = 0 } };
    struct llama_moe_cache_totals totals = { .taken = 0 };
    struct llama_moe_cache      * cache  = cache_of(budget);
    for (int32_t i = 0; i < GROUPS; i++) {
        plain[i].n_slots = llama_moe_cache_slots(cache, i);
    }
    for (size_t i = 0; i < 200; i++) {
        const size_t                         at      = random_below(&random, LAYERS);
        const struct llama_moe_cache_layer * layer   = &layers[at];
        const bool                           is_one  = random_below(&random, 2) == 0;
        const int32_t                        n_rows  = is_one ? 1 : 1 + (int32_t) random_below(&random, 40);
        const size_t                         n_asked = (size_t) (n_rows * layer->n_used);
        uint32_t keys[STEP_MAX];
        uint16_t experts[STEP_MAX];
        const size_t n = random_step(&random, (uint32_t) layer->n_expert,
                                     n_asked < STEP_MAX ? n_asked : STEP_MAX, keys);
        for (size_t j = 0; j < n; j++) {
            experts[j] = (uint16_t) keys[j];
        }
        const size_t most    = n_asked < (size_t) layer->n_expert ? n_asked : (size_t) layer->n_expert;
        const bool   changes = n_rows <= 32 && most <= plain[layer->group].n_slots;
        const size_t found   = plain_step(&plain[layer->group], at, experts, n, changes);

        const struct cache_step step = { at, n_rows, PHASE_GENERATION, CACHE_FIRST_HALF, n, experts, NULL };
        assert_int_equal(found_by(cache, &step), found);
        if (changes) {
            add(n_rows <= 8 ? &totals.small : &totals.large, n, found);
        } else if (plain[layer->group].n_slots > 0) {
            totals.asked += n;
            totals.taken += found;
        }
    }
    const struct llama_moe_cache_totals told = llama_moe_cache_totals(cache);
    assert_memory_equal(&told, &totals, sizeof(totals));
    llama_moe_cache_free(cache);
}

static void test_is_plain_simulation(void ** state) {
    (void) state;
    for (uint64_t seed = 1; seed <= 2000; seed++) {
        compare(seed, 3000 + (double) (seed % 40) * 2500);
    }
}

static double rounded_up(double bytes) {
    const uint64_t whole = (uint64_t) bytes;
    return (double) ((whole + 127) / 128 * 128);
}

static void test_slots(void ** state) {
    (void) state;
    const double expert[GROUPS]  = { 260, 333, 5000 };
    const double all             = 24 * 260 + 16 * 333 + 8 * 5000;
    const int32_t n_used[GROUPS] = { 2, 3, 4 };
    for (uint64_t budget = 0; budget < 200000; budget += 77) {
        struct llama_moe_cache * cache = cache_of((double) budget);
        for (int32_t i = 0; i < GROUPS; i++) {
            const double share = (double) budget * expert[i] * n_experts[i] / all;
            size_t       most  = 0;
            for (size_t n = 1; n <= (size_t) n_experts[i]; n++) {
                const double bytes = i == 0
                                     ? rounded_up(100.0 * (double) (n + 1)) * 2 + rounded_up(60.0 * (double) (n + 1))
                                            : rounded_up(expert[i] * (double) (n + 1));
                most = bytes <= share ? n : most;
            }
            assert_int_equal(llama_moe_cache_slots(cache, i), most < (size_t) n_used[i] ? 0 : most);
        }
        llama_moe_cache_free(cache);
    }
}

// Orders that decide who goes: what is there is touched in order, what is missing comes by its id.
static void test_order(void ** state) {
    (void) state;
    const int64_t                        bytes   = 128;
    const struct llama_moe_cache_layer   layer   = { 8, 2, 0, false, 1, &bytes };
    const struct llama_moe_cache_options options = { 5 * 128, 128, LLAMA_MOE_CACHE_MAX_ROWS };
    struct llama_moe_cache             * cache   = llama_moe_cache_new(1, &layer, &options);
    assert_int_equal(llama_moe_cache_slots(cache, 0), 4);

    const uint16_t experts[][2] = { { 5, 1 }, { 3, 2 }, { 2, 5 }, { 7, 6 }, { 2, 5 }, { 3, 1 } };
    const uint64_t found  []    = { 0,        0,        2,        0,        2,        0 };
    for (size_t i = 0; i < 6; i++) { // 1 5 | 2 3 | 1 3 2 5 | 2 5 6 7 | 6 7 2 5
        const struct cache_step step = { .n_rows = 1, .n_experts = 2, .experts = experts[i] };
        assert_int_equal(found_by(cache, &step), found[i]);
    }
    const uint16_t eight[] = { 0, 1, 2, 3, 4, 5, 6, 7 }; // there: 2 5 1 3
    const struct cache_step all = { .n_rows = 8, .n_experts = 8, .experts = eight };
    assert_int_equal(found_by(cache, &all), 4);
    assert_int_equal(llama_moe_cache_totals(cache).asked, 8);
    assert_int_equal(llama_moe_cache_totals(cache).taken, 4);
    assert_int_equal(llama_moe_cache_totals(cache).small.requests, 12);
    llama_moe_cache_free(cache);
}

// Without a limit of rows what could want more than there are slots passes by all the same.
static void test_rows_without_limit(void ** state) {
    (void) state;
    const int64_t                      bytes = 128;
    const struct llama_moe_cache_layer layer = { 40, 1, 0, false, 1, &bytes };
    const uint16_t                     expert  = 3;
    for (int32_t n_rows = 1; n_rows <= 60; n_rows++) {
        const struct llama_moe_cache_options options = { 36 * 128, 128, 0 };
        struct llama_moe_cache             * cache   = llama_moe_cache_new(1, &layer, &options);
        const struct cache_step              step    = { .n_rows = n_rows, .n_experts = 1, .experts = &expert };
        assert_int_equal(llama_moe_cache_slots(cache, 0), 35);
        assert_int_equal(found_by(cache, &step), 0);
        assert_int_equal(found_by(cache, &step), n_rows <= 35);
        llama_moe_cache_free(cache);
    }
}

// A layer that is on the device as a whole is always found, and leaves its share to the others.
static void test_kept_layers(void ** state) {
    (void) state;
    const int64_t                        bytes    = 128;
    const struct llama_moe_cache_layer   two[]    = { { 8, 2, 0, true, 1, &bytes }, { 8, 2, 0, false, 1, &bytes } };
    const struct llama_moe_cache_options options  = { 4 * 128, 128, LLAMA_MOE_CACHE_MAX_ROWS };
    struct llama_moe_cache             * cache    = llama_moe_cache_new(2, two, &options);
    const uint16_t                       experts[] = { 1, 2 };
    struct cache_step                    step      = { .layer = 0, .n_rows = 1, .n_experts = 2, .experts = experts };
    assert_int_equal(llama_moe_cache_slots(cache, 0), 3);
    assert_int_equal(found_by(cache, &step), 2);
    assert_int_equal(llama_moe_cache_totals(cache).small.requests, 0);

    step.layer = 1;
    llama_moe_cache_use(cache, &(struct cache_expert) { 1, 2 });
    llama_moe_cache_use(cache, &(struct cache_expert) { 0, 1 }); // takes nobody's place
    assert_int_equal(found_by(cache, &step), 1);
    for (uint16_t expert = 5; expert < 7; expert++) {
        llama_moe_cache_use(cache, &(struct cache_expert) { 1, expert });
    }
    assert_int_equal(found_by(cache, &step), 1); // the missing one came last
    llama_moe_cache_free(cache);
}

static void test_no_layers(void ** state) {
    (void) state;
    const struct llama_moe_cache_options options = { 1000, 128, LLAMA_MOE_CACHE_MAX_ROWS };
    struct llama_moe_cache             * cache   = llama_moe_cache_new(0, NULL, &options);
    assert_non_null(cache);
    llama_moe_cache_free(cache);
    llama_moe_cache_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_is_plain_simulation),
        cmocka_unit_test(test_slots),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_rows_without_limit),
        cmocka_unit_test(test_kept_layers),
        cmocka_unit_test(test_no_layers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
