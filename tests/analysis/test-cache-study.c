// The cache study against plain simulations of every cache, the optimum as a bound, and routings known on paper.

#include "analysis.h"
#include "analysis/cache-study.h"

#include <math.h>

#define LAYERS     3
#define GROUPS     2
#define EXPERTS    9  // the most of any layer
#define PLACES     24 // experts of all layers
#define LIVES      4
#define STEPS_MAX  80
#define N_SIZES    4
#define MAX_ROWS   4

static const struct cache_layer layers[LAYERS] = { { 9, 1 }, { 6, 0 }, { 9, 1 } };
static const size_t             places[LAYERS] = { 0, 9, 15 };
static const size_t             sizes[N_SIZES] = { 1, 2, 4, 8 };

// A trace, and what it requests, told once more in the plainest way.
struct told {
    size_t            n;
    struct cache_step steps[STEPS_MAX];
    uint16_t          experts[STEPS_MAX][EXPERTS];
    size_t            tokens[LIVES][PLACES]; // activations of each life
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

static struct cache_hits answer(const struct cache_study * study, enum cache_policy policy,
                                struct of of, size_t n_slots, enum phase class, enum cache_half half) {
    return of.layer >= 0 ? cache_study_layer (study, policy, (size_t) of.layer, n_slots, class, half)
                         : cache_study_pooled(study, policy, of.group,          n_slots, class, half);
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

static struct cache_hits simulate_static(const struct told * told, struct of of, size_t n_slots,
                                         enum phase class) {
    uint64_t counts[CACHE_N_HALVES][PLACES] = { { 0 } };
    for (size_t i = 0; i < told->n; i++) {
        const struct cache_step * step = &told->steps[i];
        for (size_t j = 0; sees(of, step) && step->class == class && j < step->n_experts; j++) {
            counts[step->half][places[step->layer] + step->experts[j]]++;
        }
    }
    struct cache_hits hits   = { 0 };
    const uint64_t  * first  = counts[CACHE_FIRST_HALF];
    for (size_t i = 0; i < PLACES; i++) {
        size_t ahead = 0;
        for (size_t j = 0; j < PLACES; j++) {
            ahead += first[j] > first[i] || (first[j] == first[i] && j < i);
        }
        hits.requests += counts[CACHE_SECOND_HALF][i];
        hits.hits     += first[i] > 0 && ahead < n_slots ? counts[CACHE_SECOND_HALF][i] : 0;
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
            assert_same(answer(study, CACHE_LRU, of, n_slots, class, in),
                        simulate(told, of, n_slots, false, class, in));
            if (of.layer >= 0) {
                assert_same(answer(study, CACHE_LFU, of, n_slots, class, in),
                            simulate(told, of, n_slots, true, class, in));
            }
        }
        assert_same(answer(study, CACHE_STATIC, of, n_slots, class, CACHE_SECOND_HALF),
                    simulate_static(told, of, n_slots, class));
    }
}

static void compare_all(const struct told * told,
                        void (* each)(const struct told *, const struct cache_study *, struct of, enum phase)) {
    struct cache_study * study = study_of(told);
    for (int class = 0; class < N_PHASES; class++) {
        for (int32_t i = 0; i < LAYERS; i++) {
            each(told, study, (struct of) { i, -1 }, (enum phase) class);
        }
        for (int32_t i = 0; i < GROUPS; i++) {
            each(told, study, (struct of) { -1, i }, (enum phase) class);
        }
    }
    cache_study_free(study);
}

static void test_is_plain_simulation(void ** state) {
    (void) state;
    struct told told;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        tell(&told, seed);
        compare_all(&told, compare);
    }
}

// No policy has more hits than the optimum, in no class and half;
// and those who share slots can do what those who do not share do.
static void is_bound(const struct told * told, const struct cache_study * study, struct of of, enum phase class) {
    (void) told;
    const size_t n_layers = of.layer >= 0 ? 1 : of.group == 1 ? 2 : 1;
    for (size_t i = 0; i < N_SIZES; i++) {
        for (int half = 0; half < CACHE_N_HALVES; half++) {
            const enum cache_half   in      = (enum cache_half) half;
            const size_t            n_slots = sizes[i] * n_layers;
            const struct cache_hits most    = answer(study, CACHE_OPTIMUM, of, n_slots, class, in);
            assert_int_equal(most.requests, answer(study, CACHE_LRU, of, n_slots, class, in).requests);
            assert_true(most.hits >= answer(study, CACHE_LRU,    of, n_slots, class, in).hits);
            assert_true(most.hits >= answer(study, CACHE_LFU,    of, n_slots, class, in).hits);
            assert_true(most.hits >= answer(study, CACHE_STATIC, of, n_slots, class, in).hits);
        }
    }
}

static void test_optimum_is_bound(void ** state) {
    (void) state;
    struct told told;
    for (uint64_t seed = 1; seed <= 3000; seed++) {
        tell(&told, seed);
        compare_all(&told, is_bound);
    }
}

static void test_shared_optimum_is_bound(void ** state) {
    (void) state;
    struct told told;
    for (uint64_t seed = 1; seed <= 1000; seed++) {
        tell(&told, seed);
        struct cache_study * study = study_of(&told);
        for (size_t i = 0; i < N_SIZES; i++) {
            uint64_t apart = 0;
            apart += cache_study_layer(study, CACHE_OPTIMUM, 0, sizes[i], PHASE_GENERATION, CACHE_SECOND_HALF).hits;
            apart += cache_study_layer(study, CACHE_OPTIMUM, 2, sizes[i], PHASE_GENERATION, CACHE_SECOND_HALF).hits;
            assert_true(cache_study_pooled(study, CACHE_OPTIMUM, 1, sizes[i] * 2, PHASE_GENERATION,
                                           CACHE_SECOND_HALF).hits >= apart);
        }
        cache_study_free(study);
    }
}

static void test_layers_together_distances_and_counts(void ** state) {
    (void) state;
    struct told told;
    tell(&told, 77);
    struct cache_study * study = study_of(&told);
    uint64_t distances[EXPERTS];
    uint64_t requests = 0;
    uint64_t hits     = 0;
    for (size_t i = 0; i < LAYERS; i++) {
        const size_t     n_expert = (size_t) layers[i].n_expert;
        const uint64_t * counts   = cache_study_counts(study, i, PHASE_GENERATION, CACHE_SECOND_HALF);
        requests += cache_study_distances(study, i, PHASE_GENERATION, CACHE_SECOND_HALF, distances);
        for (size_t j = 0; j < n_expert; j++) {
            requests += distances[j];
            hits     += j < 3 ? distances[j] : 0;
            uint64_t n = 0;
            for (size_t k = 0; k < told.n; k++) {
                const struct cache_step * step = &told.steps[k];
                for (size_t l = 0; l < step->n_experts; l++) {
                    n += step->layer == i && step->class == PHASE_GENERATION && step->half == CACHE_SECOND_HALF
                        && step->experts[l] == j;
                }
            }
            assert_int_equal(counts[j], n);
        }
    }
    assert_same(cache_study_all(study, CACHE_LRU, 3, PHASE_GENERATION, CACHE_SECOND_HALF),
                (struct cache_hits) { requests, hits });
    assert_true(hits > 0);
    cache_study_free(study);
}

static void test_oracle(void ** state) {
    (void) state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        uint64_t             random = seed;
        struct told          told   = { .n = 0 };
        struct cache_study * study  = study_of(&told);
        for (size_t i = 0; i < 100; i++) {
            const size_t   life      = random_below(&random, LIVES);
            const uint16_t experts[] = { (uint16_t) random_below(&random, 5),
                                         (uint16_t) (5 + random_below(&random, 4)) };
            assert_true(cache_study_token(study, 2, 1000 - life, experts, 2));
            told.tokens[life][experts[0]]++;
            told.tokens[life][experts[1]]++;
        }
        cache_study_end_life(study, 1); // there is none
        for (size_t life = 0; life < LIVES - 1; life++) { // the last one goes on
            cache_study_end_life(study, 1000 - life);
        }
        for (size_t n_slots = 0; n_slots <= EXPERTS + 1; n_slots++) {
            struct cache_hits hits = { 0 };
            for (size_t life = 0; life < LIVES - 1; life++) {
                for (size_t i = 0; i < EXPERTS; i++) {
                    size_t ahead = 0;
                    for (size_t j = 0; j < EXPERTS; j++) {
                        ahead += told.tokens[life][j] > told.tokens[life][i]
                            || (told.tokens[life][j] == told.tokens[life][i] && j < i);
                    }
                    hits.requests += told.tokens[life][i];
                    hits.hits     += ahead < n_slots ? told.tokens[life][i] : 0;
                }
            }
            const enum cache_policy policy = CACHE_PROMPT_ORACLE;
            const enum cache_half   half   = CACHE_SECOND_HALF;
            assert_same(cache_study_layer(study, policy, 2, n_slots, PHASE_GENERATION, half), hits);
            assert_same(cache_study_all  (study, policy,    n_slots, PHASE_GENERATION, half), hits);
            hits = (struct cache_hits) { 0 };
            assert_same(cache_study_layer(study, policy, 2, n_slots, PHASE_PROMPT,     half), hits);
        }
        cache_study_free(study);
    }
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
    assert_false(cache_study_token(study, LAYERS, 0, known, 1));
    assert_false(cache_study_token(study, 1, 0, other, 1));
    assert_int_equal(cache_study_all(study, CACHE_LRU, 0, PHASE_PROMPT, CACHE_FIRST_HALF).requests, 6);
    cache_study_free(study);
}

//
// known answers
//

#define WIDE 64
#define USED 8

static const size_t wide_sizes[] = { 8, 16, 32, 48, 56, 63, 64 };

// Generation alone; the n-th step of the layer chooses its experts.
static struct cache_study * wide_study(size_t n_steps, void (* choose)(uint64_t *, size_t, uint16_t *)) {
    const struct cache_layer   layer   = { WIDE, 0 };
    const struct cache_options options = { 0, 64.0, sizeof(wide_sizes) / sizeof(wide_sizes[0]), wide_sizes };
    struct cache_study       * study   = cache_study_new(1, &layer, &options);
    uint64_t                   random  = 1;
    for (size_t i = 0; i < n_steps; i++) {
        uint16_t experts[USED];
        choose(&random, i, experts);
        const enum cache_half   half = i * 2 >= n_steps ? CACHE_SECOND_HALF : CACHE_FIRST_HALF;
        const struct cache_step step = { 0, 1, PHASE_GENERATION, half, USED, experts };
        assert_true(cache_study_step(study, &step));
    }
    return study;
}

static double rate(const struct cache_study * study, enum cache_policy policy, size_t n_slots) {
    const struct cache_hits hits = cache_study_all(study, policy, n_slots, PHASE_GENERATION, CACHE_SECOND_HALF);
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
    for (size_t i = 0; i < sizeof(wide_sizes) / sizeof(wide_sizes[0]); i++) {
        const double chance = (double) wide_sizes[i] / WIDE;
        assert_true(fabs(rate(study, CACHE_LRU,    wide_sizes[i]) - chance) < 0.01);
        assert_true(fabs(rate(study, CACHE_LFU,    wide_sizes[i]) - chance) < 0.01);
        assert_true(fabs(rate(study, CACHE_STATIC, wide_sizes[i]) - chance) < 0.01);
        assert_true(rate(study, CACHE_OPTIMUM, wide_sizes[i]) > chance + 0.1 || wide_sizes[i] >= 48);
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
    for (size_t i = 0; i < sizeof(wide_sizes) / sizeof(wide_sizes[0]); i++) {
        const double share = (double) wide_sizes[i] / WIDE;
        // experts of a step are requested at once, and the later ones are the more recent:
        // they are there first as sizes grow
        const size_t there = wide_sizes[i] > WIDE - USED ? wide_sizes[i] - (WIDE - USED) : 0;
        assert_true(fabs(rate(study, CACHE_LRU,     wide_sizes[i]) - (double) there / USED) < 1e-9);
        assert_true(fabs(rate(study, CACHE_OPTIMUM, wide_sizes[i]) - share) < 0.01);
        assert_true(fabs(rate(study, CACHE_STATIC,  wide_sizes[i]) - share) < 1e-9);
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
    const enum cache_policy policies[] = { CACHE_LRU, CACHE_LFU, CACHE_OPTIMUM };
    for (size_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++) {
        assert_same(cache_study_all(study, policies[i], USED, PHASE_GENERATION, CACHE_FIRST_HALF),
                    (struct cache_hits) { 400, 392 });
        assert_same(cache_study_all(study, policies[i], USED, PHASE_GENERATION, CACHE_SECOND_HALF),
                    (struct cache_hits) { 400, 400 });
    }
    assert_same(cache_study_all(study, CACHE_STATIC, USED, PHASE_GENERATION, CACHE_SECOND_HALF),
                (struct cache_hits) { 400, 400 });
    cache_study_free(study);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_is_plain_simulation),
        cmocka_unit_test(test_optimum_is_bound),
        cmocka_unit_test(test_shared_optimum_is_bound),
        cmocka_unit_test(test_layers_together_distances_and_counts),
        cmocka_unit_test(test_oracle),
        cmocka_unit_test(test_what_is_not_of_the_layers),
        cmocka_unit_test(test_uniform_routing),
        cmocka_unit_test(test_cyclic_routing),
        cmocka_unit_test(test_the_same_always),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
