// The best choice for each answer, against plain counting.

#include "analysis.h"
#include "analysis/cache-oracle.h"

#define LAYERS  2
#define EXPERTS 9
#define LIVES   4
#define SIZES   4

static const int32_t n_experts[LAYERS]         = { 6, EXPERTS };
static const size_t  slots    [SIZES * LAYERS] = { 0, 0, 3, 1, 6, 4, 7, EXPERTS + 1 };

// Hits of a life with its hottest experts, of equals any.
static uint64_t hottest(const uint64_t * counts, size_t n_slots) {
    uint64_t hits = 0;
    for (size_t i = 0; i < EXPERTS; i++) {
        size_t ahead = 0;
        for (size_t j = 0; j < EXPERTS; j++) {
            ahead += counts[j] > counts[i] || (counts[j] == counts[i] && j < i);
        }
        hits += ahead < n_slots ? counts[i] : 0;
    }
    return hits;
}

static void test_is_plain_counting(void ** state) {
    (void) state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        uint64_t              random = seed;
        uint64_t              counts[LIVES][LAYERS][EXPERTS] = { { { 0 } } };
        struct cache_oracle * oracle = cache_oracle_new(LAYERS, n_experts);
        for (size_t i = 0; i < 100; i++) {
            const size_t   life      = random_below(&random, LIVES);
            const size_t   layer     = random_below(&random, LAYERS);
            const uint16_t experts[] = { (uint16_t) random_below(&random, 3),
                                         (uint16_t) (3 + random_below(&random, layer == 0 ? 3 : 6)) };
            assert_true(cache_oracle_token(oracle, layer, 1000 - life, experts, 2));
            counts[life][layer][experts[0]]++;
            counts[life][layer][experts[1]]++;
        }
        uint64_t hits[SIZES];
        assert_int_equal(cache_oracle_end_life(oracle, 1, SIZES, slots, hits), 0); // there is none
        for (size_t life = 0; life < LIVES - 1; life++) {                          // the last one goes on
            const uint64_t requests = cache_oracle_end_life(oracle, 1000 - life, SIZES, slots, hits);
            assert_int_equal(requests, hottest(counts[life][0], EXPERTS) + hottest(counts[life][1], EXPERTS));
            for (size_t i = 0; i < SIZES; i++) {
                assert_int_equal(hits[i], hottest(counts[life][0], slots[i * LAYERS])
                                          + hottest(counts[life][1], slots[i * LAYERS + 1]));
            }
        }
        cache_oracle_free(oracle);
    }
}

static void test_what_is_not_of_the_layers(void ** state) {
    (void) state;
    struct cache_oracle * oracle  = cache_oracle_new(LAYERS, n_experts);
    const uint16_t        known[] = { 5 };
    const uint16_t        other[] = { 6 };
    assert_false(cache_oracle_token(oracle, LAYERS, 0, known, 1));
    assert_false(cache_oracle_token(oracle, 0, 0, other, 1));
    assert_true (cache_oracle_token(oracle, 1, 0, other, 1));
    cache_oracle_free(oracle);
    cache_oracle_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_is_plain_counting),
        cmocka_unit_test(test_what_is_not_of_the_layers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
