// The cache study against plain simulations of every cache, the optimum as a bound of all columns, and routings known
// on paper.

#include "analysis.h"
#include "analysis/cache-study.h"
#include "analysis/llama-moe-cache.h"

#include <math.h>

#define LAYERS     3
#define GROUPS     2
#define EXPERTS    9  // the most of any layer
#define PLACES     24 // experts of all layers
#define STEPS_MAX  80
#define N_SIZES    4
#define MAX_ROWS   4

static const struct cache_layer layers[LAYERS] = { { 9, 1 }, { 6, 0 }, { 9, 1 } };
static const size_t             places[LAYERS] = { 0, 9, 15 };
static const size_t             slots[N_SIZES] = { 1, 2, 4, 8 };

// An expert of group 0 has 50 bytes, one of group 1 has 100; what s slots in each layer take is shared out to the
// groups by the bytes of all of their experts, 300 and 1800 of 2100.
static const int64_t small_bytes = 50;
static const int64_t large_bytes = 100;
static const struct llama_moe_cache_layer llama_layers[LAYERS] = {
    { 9, 1, 1, false, 1, &large_bytes }, { 6, 1, 0, false, 1, &small_bytes }, { 9, 1, 1, false, 1, &large_bytes },
};

#define BYTES_OF_SLOT 250 // one in each layer

static const size_t layer_slots[N_SIZES][LAYERS] = { { 1, 1, 1 }, { 2, 2, 2 }, { 4, 4, 4 }, { 8, 6, 8 } };
static const size_t group_slots[N_SIZES][GROUPS] = { { 0, 2 }, { 1, 4 }, { 2, 8 }, { 5, 17 } };
static const struct cache_size sizes[N_SIZES] = {
    { layer_slots[0], group_slots[0] }, { layer_slots[1], group_slots[1] }, { layer_slots[2], group_slots[2] },
    { layer_slots[3], group_slots[3] },
};

// A trace, and what it requests, told once more in the plainest way.
struct told {
    size_t            n;
    struct cache_step steps[STEPS_MAX];
    uint16_t          experts[STEPS_MAX][EXPERTS];
    uint64_t        * sums[STEPS_MAX][EXPERTS];
};

static void tell(struct told * told, uint64_t seed) {
    uint64_t random = seed;
    *told = (struct told) { .n = 1 + random_below(&random, STEPS_MAX) };
    for (size_t i = 0; i < told->n; i++) {
        struct cache_step * step = &told->steps[i];
        uint32_t            keys[STEP_MAX];
        step->layer     = random_below(&random, LAYERS);
        step->n_rows    = 1 + (int32_t) random_below(&random, MAX_ROWS + 2);
        step->class     = (enum phase) random_below(&random, N_PHASES);
        step->half      = i * 2 >= told->n ? CACHE_SECOND_HALF : CACHE_FIRST_HALF;
        step->n_experts = random_step(&random, (uint32_t) layers[step->layer].n_expert, 4, keys);
        step->experts   = told->experts[i];
        for (size_t j = 0; j < step->n_experts; j++) {
            told->experts[i][j] = (uint16_t) keys[j];
        }
    }
}

static struct cache_study * study_of(const struct told * told) {
    const struct cache_options options = { MAX_ROWS, INFINITY, N_SIZES, sizes };
    struct cache_study       * study   = cache_study_new(LAYERS, layers, &options);
    for (size_t i = 0; i < told->n; i++) {
        assert_true(cache_study_step(study, &told->steps[i]));
    }
    return study;
}

// Steps that a cache sees: of one layer, or of all layers of a group.
struct of {
    int32_t layer; // -1: the group
    int32_t group;
};

static bool sees(struct of of, const struct cache_step * step) {
    return of.layer >= 0 ? step->layer == (size_t) of.layer : layers[step->layer].group == of.group;
}

static struct cache_hits answer(const struct cache_study * study, enum cache_column own, enum cache_column shared,
                                struct of of, size_t n_slots, enum phase class, enum cache_half half) {
    return of.layer >= 0 ? cache_study_layer (study, own, (size_t) of.layer, n_slots, class, half)
                         : cache_study_shared(study, shared, of.group,       n_slots, class, half);
}

// Least recently used: the number of different keys after the last use. `counts`: the keys that were used most,
// the latest first among equal ones. Both of what was used before this step, by what did not pass by.
static bool has(const struct told * told, struct of of, size_t before, size_t place, size_t n_slots, bool counts) {
    size_t uses[PLACES] = { 0 };
    size_t last[PLACES] = { 0 };
    size_t now          = 0;
    for (size_t i = 0; i < before; i++) {
        const struct cache_step * step = &told->steps[i];
        for (size_t j = 0; sees(of, step) && step->n_rows <= MAX_ROWS && j < step->n_experts; j++) {
            const size_t used = places[step->layer] + step->experts[j];
            uses[used] += counts;
            last[used]  = ++now;
        }
    }
    size_t ahead = 0;
    for (size_t i = 0; i < PLACES; i++) {
        ahead += uses[i] > uses[place] || (uses[i] == uses[place] && last[i] > last[place]);
    }
    return last[place] > 0 && ahead < n_slots;
}

static struct cache_hits simulate(const struct told * told, struct of of, size_t n_slots, bool counts,
                                  enum phase class, enum cache_half half) {
    struct cache_hits hits = { 0 };
    for (size_t i = 0; i < told->n; i++) {
        const struct cache_step * step = &told->steps[i];
        for (size_t j = 0; sees(of, step) && step->class == class && step->half == half && j < step->n_experts; j++) {
            hits.requests++;
            hits.hits += has(told, of, i, places[step->layer] + step->experts[j], n_slots, counts);
        }
    }
    return hits;
}

// The hottest of the first half by this class, of equals by the other one, and then the lowest.
static struct cache_hits simulate_static(const struct told * told, struct of of, size_t n_slots,
                                         enum phase class) {
    const enum phase other = class == PHASE_PROMPT ? PHASE_GENERATION : PHASE_PROMPT;
    uint64_t counts[CACHE_N_HALVES][PLACES] = { { 0 } };
    int64_t  heat[PLACES]                   = { 0 };
    for (size_t i = 0; i < PLACES; i++) {
        const bool is_seen = of.layer >= 0 ? i >= places[of.layer] && i < places[of.layer]
                                             + (size_t) layers[of.layer].n_expert
                                           : (of.group == 0) == (i >= places[1] && i < places[2]);
        heat[i] = is_seen ? 0 : -1;
    }
    for (size_t i = 0; i < told->n; i++) {
        const struct cache_step * step = &told->steps[i];
        for (size_t j = 0; sees(of, step) && j < step->n_experts; j++) {
            const size_t at = places[step->layer] + step->experts[j];
            counts[step->half][at] += step->class == class;
            if (step->half == CACHE_FIRST_HALF) {
                heat[at] += step->class == class ? 1000 : step->class == other ? 1 : 0;
            }
        }
    }
    struct cache_hits hits = { 0 };
    for (size_t i = 0; i < PLACES; i++) {
        size_t ahead = 0;
        for (size_t j = 0; j < PLACES; j++) {
            ahead += heat[j] > heat[i] || (heat[j] == heat[i] && j < i);
        }
        hits.requests += counts[CACHE_SECOND_HALF][i];
        hits.hits     += ahead < n_slots ? counts[CACHE_SECOND_HALF][i] : 0;
    }
    return hits;
}

static void assert_same(struct cache_hits a, struct cache_hits b) {
    assert_int_equal(a.requests, b.requests);
    assert_int_equal(a.hits,     b.hits);
}

static void compare(const struct told * told, const struct cache_study * study, struct of of, enum phase class) {
    for (size_t n_slots = 0; n_slots <= PLACES + 1; n_slots++) {
        for (int half = 0; half < CACHE_N_HALVES; half++) {
            const enum cache_half in = (enum cache_half) half;
            assert_same(answer(study, CACHE_LRU, CACHE_SHARED_LRU, of, n_slots, class, in),
                        simulate(told, of, n_slots, false, class, in));
            if (of.layer >= 0) {
                assert_same(answer(study, CACHE_LFU, CACHE_SHARED_LRU, of, n_slots, class, in),
                            simulate(told, of, n_slots, true, class, in));
            }
        }
        if (class != PHASE_WARMUP) {
            assert_same(answer(study, CACHE_STATIC, CACHE_SHARED_STATIC, of, n_slots, class, CACHE_SECOND_HALF),
                        simulate_static(told, of, n_slots, class));
        }
    }
}

static void compare_all(const struct told * told) {
    struct cache_study * study = study_of(told);
    for (int class = 0; class < N_PHASES; class++) {
        for (int32_t i = 0; i < LAYERS; i++) {
            compare(told, study, (struct of) { i, -1 }, (enum phase) class);
        }
        for (int32_t i = 0; i < GROUPS; i++) {
            compare(told, study, (struct of) { -1, i }, (enum phase) class);
        }
    }
    cache_study_free(study);
}

static void test_is_plain_simulation(void ** state) {
    (void) state;
    struct told told;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        tell(&told, seed);
        compare_all(&told);
    }
}

//
// sums, and the optimum
//

#define N_SERIES cache_series_count(N_SIZES)

// Requests of different tokens go to different units: here to two.
static uint64_t * sums_of(struct told * told) {
    uint64_t * sums = calloc(2 * N_SERIES, sizeof(*sums));
    for (size_t i = 0; i < told->n; i++) {
        for (size_t j = 0; j < told->steps[i].n_experts; j++) {
            told->sums[i][j] = sums + (i + j) % 2 * N_SERIES;
        }
        told->steps[i].sums = told->sums[i];
    }
    return sums;
}

static void play_llama(const struct told * told, size_t i_size) {
    const double budget = BYTES_OF_SLOT * (double) slots[i_size];
    const struct llama_moe_cache_options options = { budget, 1, MAX_ROWS };
    struct llama_moe_cache             * cache   = llama_moe_cache_new(LAYERS, llama_layers, &options);
    for (size_t i = 0; i < told->n; i++) {
        bool hits[EXPERTS];
        llama_moe_cache_step(cache, &told->steps[i], hits);
        cache_series_hits(&told->steps[i], N_SIZES, CACHE_LLAMA, i_size, hits);
    }
    llama_moe_cache_free(cache);
}

static uint64_t sum_of(const uint64_t * sums, enum cache_span span, size_t class, size_t series) {
    const size_t at = cache_series_first(N_SIZES, span, class) + series;
    return sums[at] + sums[N_SERIES + at];
}

static uint64_t hits_of(const uint64_t * sums, enum cache_span span, size_t class, enum cache_column column,
                        size_t i_size) {
    return sum_of(sums, span, class, cache_series_of(N_SIZES, column, i_size));
}

// What the curves say at these sizes is what the units have.
static void sums_are_of_curves(const struct cache_study * study, const uint64_t * sums, enum phase class, size_t i) {
    static const enum cache_column own[]    = { CACHE_STATIC, CACHE_LRU, CACHE_LFU, CACHE_OPTIMUM };
    static const enum cache_column shared[] = { CACHE_SHARED_STATIC, CACHE_SHARED_LRU };
    for (size_t k = 0; k < sizeof(own) / sizeof(own[0]); k++) {
        struct cache_hits sum = { 0 };
        for (size_t layer = 0; layer < LAYERS; layer++) {
            const struct cache_hits hits = cache_study_layer_at(study, own[k], layer, i, class, CACHE_SECOND_HALF);
            sum.requests += hits.requests;
            sum.hits     += hits.hits;
        }
        assert_int_equal(sum_of(sums, CACHE_JUDGED, class, 0), sum.requests);
        assert_int_equal(hits_of(sums, CACHE_JUDGED, class, own[k], i), sum.hits);
    }
    for (size_t k = 0; k < sizeof(shared) / sizeof(shared[0]); k++) {
        uint64_t hits = 0;
        for (int32_t group = 0; group < GROUPS; group++) {
            hits += cache_study_shared(study, shared[k], group, group_slots[i][group], class, CACHE_SECOND_HALF).hits;
        }
        assert_int_equal(hits_of(sums, CACHE_JUDGED, class, shared[k], i), hits);
    }
}

// No cache has more hits than the optimum of as many slots that are shared likewise, in prompts either.
static void optimum_is_bound(const uint64_t * sums, enum cache_span span, size_t class, size_t i) {
    const uint64_t own    = hits_of(sums, span, class, CACHE_OPTIMUM,        i);
    const uint64_t shared = hits_of(sums, span, class, CACHE_SHARED_OPTIMUM, i);
    if (span == CACHE_JUDGED) {
        assert_true(own >= hits_of(sums, span, class, CACHE_STATIC, i));
        assert_true(own >= hits_of(sums, span, class, CACHE_LRU,    i));
        assert_true(own >= hits_of(sums, span, class, CACHE_LFU,    i));
    }
    assert_true(shared >= hits_of(sums, span, class, CACHE_SHARED_STATIC, i));
    assert_true(shared >= hits_of(sums, span, class, CACHE_SHARED_LRU,    i));
    assert_true(shared >= hits_of(sums, span, class, CACHE_LLAMA,         i));
    assert_true(shared <= sum_of(sums, span, class, 0) && own <= sum_of(sums, span, class, 0));
}

static void test_optimum_is_bound(void ** state) {
    (void) state;
    struct told told;
    for (uint64_t seed = 1; seed <= 5000; seed++) {
        tell(&told, seed);
        uint64_t           * sums  = sums_of(&told);
        struct cache_study * study = study_of(&told);
        for (size_t i = 0; i < N_SIZES; i++) {
            play_llama(&told, i);
            for (int class = 0; class < N_TOKEN_PHASES; class++) {
                sums_are_of_curves(study, sums, (enum phase) class, i);
                optimum_is_bound(sums, CACHE_JUDGED,    (size_t) class, i);
                optimum_is_bound(sums, CACHE_WHOLE_RUN, (size_t) class, i);
            }
            optimum_is_bound(sums, CACHE_WHOLE_RUN, CACHE_BOTH, i);
            const uint64_t apart = hits_of(sums, CACHE_WHOLE_RUN, PHASE_PROMPT,     CACHE_SHARED_OPTIMUM, i)
                                 + hits_of(sums, CACHE_WHOLE_RUN, PHASE_GENERATION, CACHE_SHARED_OPTIMUM, i);
            assert_true(hits_of(sums, CACHE_WHOLE_RUN, CACHE_BOTH, CACHE_SHARED_OPTIMUM, i) <= apart);
            assert_int_equal(hits_of(sums, CACHE_WHOLE_RUN, CACHE_BOTH, CACHE_SHARED_LRU, i),
                             hits_of(sums, CACHE_WHOLE_RUN, PHASE_PROMPT,     CACHE_SHARED_LRU, i)
                             + hits_of(sums, CACHE_WHOLE_RUN, PHASE_GENERATION, CACHE_SHARED_LRU, i));
        }
        cache_study_free(study);
        free(sums);
    }
}

// Those that were used, in the order in which they were used last.
static void test_recent(void ** state) {
    (void) state;
    struct told told;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        tell(&told, seed);
        struct cache_study * study = study_of(&told);
        for (int32_t group = 0; group < GROUPS; group++) {
            struct cache_expert experts[PLACES];
            const size_t        n    = cache_study_recent(study, group, experts);
            size_t              seen = 0;
            for (size_t i = told.n; i-- > 0;) {
                const struct cache_step * step = &told.steps[i];
                const bool sees_it = layers[step->layer].group == group && step->n_rows <= MAX_ROWS;
                for (size_t j = sees_it ? step->n_experts : 0; j-- > 0;) {
                    bool known = false;
                    for (size_t k = 0; k < seen; k++) {
                        const struct cache_expert * later = &experts[n - 1 - k];
                        known |= later->layer == step->layer && later->expert == step->experts[j];
                    }
                    if (!known) {
                        assert_true(seen < n);
                        assert_int_equal(experts[n - 1 - seen].layer,  step->layer);
                        assert_int_equal(experts[n - 1 - seen].expert, step->experts[j]);
                        seen++;
                    }
                }
            }
            assert_int_equal(seen, n);
        }
        cache_study_free(study);
    }
}

static void test_distances(void ** state) {
    (void) state;
    struct told told;
    tell(&told, 77);
    struct cache_study * study = study_of(&told);
    for (size_t i = 0; i < LAYERS; i++) {
        uint64_t          distances[EXPERTS];
        const size_t      n_expert = (size_t) layers[i].n_expert;
        struct cache_hits sum      = { 0 };
        sum.requests += cache_study_distances(study, i, PHASE_GENERATION, CACHE_SECOND_HALF, distances);
        for (size_t j = 0; j < n_expert; j++) {
            sum.requests += distances[j];
            sum.hits     += j < 3 ? distances[j] : 0;
        }
        assert_same(cache_study_layer(study, CACHE_LRU, i, 3, PHASE_GENERATION, CACHE_SECOND_HALF), sum);
        assert_true(sum.requests > 0);
    }
    cache_study_free(study);
}

static void test_what_is_not_of_the_layers(void ** state) {
    (void) state;
    struct told          told    = { .n = 0 };
    struct cache_study * study   = study_of(&told);
    const uint16_t       known[] = { 5, 0, 1, 2, 3, 4, 5 };
    const uint16_t       other[] = { 6 };
    assert_false(cache_study_step(study, &(struct cache_step) { .layer = LAYERS, .n_experts = 1, .experts = known }));
    assert_false(cache_study_step(study, &(struct cache_step) { .layer = 1, .n_experts = 1, .experts = other }));
    assert_false(cache_study_step(study, &(struct cache_step) { .layer = 1, .n_experts = 7, .experts = known }));
    assert_true (cache_study_step(study, &(struct cache_step) { .layer = 1, .n_experts = 6, .experts = known }));
    assert_int_equal(cache_study_layer(study, CACHE_LRU, 0, 0, PHASE_PROMPT, CACHE_FIRST_HALF).requests, 0);
    assert_int_equal(cache_study_layer(study, CACHE_LRU, 1, 0, PHASE_PROMPT, CACHE_FIRST_HALF).requests, 6);
    cache_study_free(study);
}

//
// known answers
//

#define WIDE 64
#define USED 8

static const size_t wide_slots[] = { 8, 16, 32, 48, 56, 63, 64 };

#define N_WIDE (sizeof(wide_slots) / sizeof(wide_slots[0]))

// Generation alone; the n-th step of the layer chooses its experts.
static struct cache_study * wide_study(size_t n_steps, void (* choose)(uint64_t *, size_t, uint16_t *)) {
    const struct cache_layer   layer   = { WIDE, 0 };
    struct cache_size          wide_sizes[N_WIDE];
    const struct cache_options options = { 0, 64.0, N_WIDE, wide_sizes };
    for (size_t i = 0; i < N_WIDE; i++) {
        wide_sizes[i] = (struct cache_size) { &wide_slots[i], &wide_slots[i] };
    }
    struct cache_study       * study   = cache_study_new(1, &layer, &options);
    uint64_t                   random  = 1;
    for (size_t i = 0; i < n_steps; i++) {
        uint16_t experts[USED];
        choose(&random, i, experts);
        const enum cache_half   half = i * 2 >= n_steps ? CACHE_SECOND_HALF : CACHE_FIRST_HALF;
        const struct cache_step step = { 0, 1, PHASE_GENERATION, half, USED, experts, NULL };
        assert_true(cache_study_step(study, &step));
    }
    return study;
}

static double rate(const struct cache_study * study, enum cache_column column, size_t i) {
    const struct cache_hits hits = cache_study_layer_at(study, column, 0, i, PHASE_GENERATION, CACHE_SECOND_HALF);
    assert_true(hits.requests > 0);
    return (double) hits.hits / (double) hits.requests;
}

static void choose_uniformly(uint64_t * random, size_t step, uint16_t * experts) {
    (void) step;
    uint16_t all[WIDE];
    for (uint16_t i = 0; i < WIDE; i++) {
        all[i] = i;
    }
    for (uint32_t i = 0; i < USED; i++) {
        const uint32_t at = i + random_below(random, WIDE - i);
        experts[i] = all[at];
        all[at]    = all[i];
    }
}

// Whoever is told nothing by the past has as many hits as it has slots.
static void test_uniform_routing(void ** state) {
    (void) state;
    struct cache_study * study = wide_study(20000, choose_uniformly);
    for (size_t i = 0; i < N_WIDE; i++) {
        const double chance = (double) wide_slots[i] / WIDE;
        assert_true(fabs(rate(study, CACHE_LRU,    i) - chance) < 0.01);
        assert_true(fabs(rate(study, CACHE_LFU,    i) - chance) < 0.01);
        assert_true(fabs(rate(study, CACHE_STATIC, i) - chance) < 0.01);
        assert_true(rate(study, CACHE_OPTIMUM, i) > chance + 0.1 || wide_slots[i] >= 48);
    }
    cache_study_free(study);
}

static void choose_in_turn(uint64_t * random, size_t step, uint16_t * experts) {
    (void) random;
    for (size_t i = 0; i < USED; i++) {
        experts[i] = (uint16_t) ((step * USED + i) % WIDE);
    }
}

static void test_cyclic_routing(void ** state) {
    (void) state;
    struct cache_study * study = wide_study(8000, choose_in_turn);
    for (size_t i = 0; i < N_WIDE; i++) {
        const double share = (double) wide_slots[i] / WIDE;
        // experts of a step are requested at once, and the later ones are the more recent:
        // they are there first as sizes grow
        const size_t there = wide_slots[i] > WIDE - USED ? wide_slots[i] - (WIDE - USED) : 0;
        assert_true(fabs(rate(study, CACHE_LRU,     i) - (double) there / USED) < 1e-9);
        assert_true(fabs(rate(study, CACHE_OPTIMUM, i) - share) < 0.01);
        assert_true(fabs(rate(study, CACHE_STATIC,  i) - share) < 1e-9);
    }
    cache_study_free(study);
}

static void choose_the_same(uint64_t * random, size_t step, uint16_t * experts) {
    (void) random;
    (void) step;
    for (size_t i = 0; i < USED; i++) {
        experts[i] = (uint16_t) (i * 3);
    }
}

static void test_the_same_always(void ** state) {
    (void) state;
    struct cache_study * study = wide_study(100, choose_the_same);
    const enum cache_column columns[] = { CACHE_LRU, CACHE_LFU, CACHE_OPTIMUM };
    for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]); i++) {
        assert_same(cache_study_layer_at(study, columns[i], 0, 0, PHASE_GENERATION, CACHE_FIRST_HALF),
                    (struct cache_hits) { 400, 392 });
        assert_same(cache_study_layer_at(study, columns[i], 0, 0, PHASE_GENERATION, CACHE_SECOND_HALF),
                    (struct cache_hits) { 400, 400 });
    }
    assert_same(cache_study_layer_at(study, CACHE_STATIC, 0, 0, PHASE_GENERATION, CACHE_SECOND_HALF),
                (struct cache_hits) { 400, 400 });
    cache_study_free(study);
}

// A size can be given other slots: what was counted before stays.
static void test_resize(void ** state) {
    (void) state;
    struct cache_study * study = wide_study(100, choose_the_same);
    cache_study_resize(study, 0, 0, 4);
    assert_same(cache_study_layer_at(study, CACHE_LRU, 0, 0, PHASE_GENERATION, CACHE_SECOND_HALF),
                (struct cache_hits) { 400, 200 });
    cache_study_free(study);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_is_plain_simulation),
        cmocka_unit_test(test_optimum_is_bound),
        cmocka_unit_test(test_recent),
        cmocka_unit_test(test_distances),
        cmocka_unit_test(test_what_is_not_of_the_layers),
        cmocka_unit_test(test_uniform_routing),
        cmocka_unit_test(test_cyclic_routing),
        cmocka_unit_test(test_the_same_always),
        cmocka_unit_test(test_resize),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
