// Uniform routing of as many tokens: what it looks like on paper, that real uniform routing is never taken for anything
// else, and that skewed routing is.

#include "analysis/counts.h"
#include "analysis/evenness.h"
#include "analysis/uniform.h"

#include "analysis.h"

#include <math.h>

#define LAYERS_MAX 4

static void assert_near(double a, double b, double most) {
    if (!(fabs(a - b) <= most)) {
        fail_msg("%g is not within %g of %g", a, most, b);
    }
}

static struct uniform_range half_of(const struct uniform_layer * layers, size_t n_layers) {
    static const double  half = 0.5;
    struct uniform_range range;
    const struct uniform_study study = { .n_shares = 1, .shares = &half, .coverage = &range };
    assert_true(uniform_study(layers, n_layers, &study));
    return range;
}

static struct uniform_range effective_of(const struct uniform_layer * layer) {
    struct uniform_range       range;
    const struct uniform_study study = { .effective = &range };
    assert_true(uniform_study(layer, 1, &study));
    return range;
}

static void test_on_paper(void ** state) {
    (void) state;
    const struct uniform_layer token = { 6, 64, 6 }; // one token: six experts once each
    const struct uniform_layer none  = { 0, 64, 6 };
    const struct uniform_layer one   = { 1000000000000, 1, 1 };
    const struct uniform_layer all   = { 800, 8, 8 };
    const struct uniform_layer much  = { 12800000000, 128, 8 };
    const struct uniform_range range = half_of(&token, 1);
    assert_near(range.mean, 3.0, 0.0);
    assert_near(range.low,  3.0, 0.0);
    assert_near(range.high, 3.0, 0.0);
    assert_near(effective_of(&token).mean, 6.0, 1e-9);
    assert_true(isnan(effective_of(&none).mean));
    assert_near(half_of(&none, 1).mean, 0.0, 0.0);
    assert_near(effective_of(&one).mean, 1.0, 0.0);
    assert_near(effective_of(&all).low, 8.0, 1e-9); // each token has all of them
    assert_near(effective_of(&much).mean, 128.0, 1e-3);
    assert_near(half_of(&much, 1).mean, 64.0, 0.5);
}

static void test_curve(void ** state) {
    (void) state;
    double                     curve[3];
    const struct uniform_layer token = { 4, 8, 4 };
    const struct uniform_study study = { .n_curve = 3, .curve = curve };
    assert_true(uniform_study(&token, 1, &study));
    assert_near(curve[0], 0.0, 0.0);
    assert_near(curve[1], 1.0, 1e-9);
    assert_near(curve[2], 1.0, 1e-9);
}

// Tokens one by one, and normal counts from 16 for each expert on: both sides of that look alike.
static void test_normal_as_good(void ** state) {
    (void) state;
    static const size_t used[] = { 1, 4, 20 };
    for (size_t i = 0; i < sizeof(used) / sizeof(used[0]); i++) {
        const struct uniform_layer exact  = { 16 * 100,            100, used[i] };
        const struct uniform_layer normal = { 16 * 100 + used[i],  100, used[i] };
        const double               spread = 100.0 - effective_of(&exact).mean;
        assert_near(100.0 - effective_of(&normal).mean, spread, 0.12 * spread);
        assert_near(half_of(&normal, 1).mean, half_of(&exact, 1).mean, 1.0);
    }
}

//
// real routing
//

static uint64_t random_wide(uint64_t * random) {
    return (uint64_t) random_below(random, 1u << 30) << 30 | random_below(random, 1u << 30);
}

// n_used different experts for each token; every second one from the first tenth where it is skewed.
static void route(uint64_t * random, size_t n_tokens, const struct uniform_layer * layer, bool skewed,
                  uint64_t * counts) {
    const size_t n = layer->n_expert;
    for (size_t i = 0; i < n_tokens; i++) {
        uint8_t taken[512] = { 0 };
        for (size_t k = 0; k < layer->n_used;) {
            const bool   hot = skewed && random_below(random, 2) == 0 && k < counts_tenth(n);
            const size_t at  = random_wide(random) % (hot ? counts_tenth(n) : n);
            if (!taken[at]) {
                taken[at] = 1;
                counts[at]++;
                k++;
            }
        }
    }
}

struct shape {
    size_t n_tokens;
    size_t n_expert;
    size_t n_used;
    size_t n_layers;
};

static enum uniform_place place_of(uint64_t * random, const struct shape * shape, bool skewed) {
    struct uniform_layer  layers[LAYERS_MAX];
    uint64_t            * counts = calloc(shape->n_layers * shape->n_expert, sizeof(*counts));
    struct evenness_slots slots;
    for (size_t i = 0; i < shape->n_layers; i++) {
        layers[i] = (struct uniform_layer) { shape->n_tokens * shape->n_used, shape->n_expert, shape->n_used };
        route(random, shape->n_tokens, &layers[i], skewed, counts + i * shape->n_expert);
    }
    assert_true(evenness_slots_of(&slots, counts, shape->n_layers * shape->n_expert));
    const struct uniform_range range = half_of(layers, shape->n_layers);
    const enum uniform_place   place = uniform_place(&range, (double) evenness_coverage(&slots, 0.5), 1.0);
    evenness_slots_free(&slots);
    free(counts);
    return place;
}

static void test_uniform_routing_is_no_structure(void ** state) {
    (void) state;
    static const size_t tokens [] = { 2, 3, 5, 9, 16, 40, 100, 333, 1000, 4000 };
    static const size_t experts[] = { 8, 16, 60, 128, 512 };
    static const size_t used   [] = { 1, 2, 4, 8, 10 };
    uint64_t            random    = 11;
    size_t              n         = 0;
    size_t              n_hardly  = 0;
    for (size_t i = 0; i < 10 * 5 * 5; i++) {
        const struct shape shape = { tokens[i % 10], experts[i / 10 % 5], used[i / 50], 1 + i % LAYERS_MAX };
        if (shape.n_used > shape.n_expert) {
            continue;
        }
        const enum uniform_place place = place_of(&random, &shape, false);
        if (place == UNIFORM_BELOW) {
            fail_msg("%zu tokens, %zu of %zu experts in %zu layers", shape.n_tokens, shape.n_used, shape.n_expert,
                     shape.n_layers);
        }
        n_hardly += place == UNIFORM_HARDLY;
        n++;
    }
    assert_true(n > 230 && n_hardly * 20 <= n);
}

static void test_skewed_routing_is(void ** state) {
    (void) state;
    static const struct shape shapes[] = {
        { 100, 16, 2, 4 }, { 200, 60, 4, 2 }, { 300, 128, 8, 1 }, { 60, 128, 8, 4 }, { 500, 512, 10, 2 },
        { 4000, 8, 1, 4 },
    };
    uint64_t random = 12;
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        if (place_of(&random, &shapes[i], true) != UNIFORM_BELOW) {
            fail_msg("%zu tokens, %zu of %zu experts", shapes[i].n_tokens, shapes[i].n_used, shapes[i].n_expert);
        }
    }
}

static void test_place(void ** state) {
    (void) state;
    static const struct uniform_range range = { 100.0, 90.0, 110.0 };
    static const struct uniform_range sharp = { 4.0, 4.0, 4.0 };
    assert_int_equal(uniform_place(&range, 120.0, 1.0), UNIFORM_INSIDE);
    assert_int_equal(uniform_place(&range, 90.0,  1.0), UNIFORM_INSIDE);
    assert_int_equal(uniform_place(&range, 89.0,  1.0), UNIFORM_HARDLY);
    assert_int_equal(uniform_place(&range, 80.0,  1.0), UNIFORM_BELOW);
    assert_int_equal(uniform_place(&sharp, 3.0,   1.0), UNIFORM_HARDLY); // one step is next to nothing
    assert_int_equal(uniform_place(&sharp, 2.0,   1.0), UNIFORM_BELOW);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_on_paper),
        cmocka_unit_test(test_curve),
        cmocka_unit_test(test_normal_as_good),
        cmocka_unit_test(test_uniform_routing_is_no_structure),
        cmocka_unit_test(test_skewed_routing_is),
        cmocka_unit_test(test_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
