// Which layer gets how many slots, against an exhaustive search where layers are few.

#include "analysis.h"
#include "analysis/slot-allocation.h"

#define LAYERS  3
#define EXPERTS 6

struct told {
    struct slot_layer layers[LAYERS];
    uint64_t          hits[LAYERS][EXPERTS + 1];
    uint64_t          steepest; // the most hits that one step along a hull could have: all of a layer
};

static void tell(struct told * told, uint64_t seed, bool concave, bool same_bytes) {
    uint64_t random = seed;
    *told = (struct told) { .steepest = 0 };
    for (size_t i = 0; i < LAYERS; i++) {
        const uint32_t n_expert = 1 + random_below(&random, EXPERTS);
        uint32_t       more     = 200;
        for (uint32_t j = 1; j <= n_expert; j++) {
            more = random_below(&random, (concave ? more : 200) + 1);
            told->hits[i][j] = told->hits[i][j - 1] + more;
        }
        const int64_t bytes = same_bytes ? 7 : 1 + (int64_t) random_below(&random, 20);
        told->layers[i] = (struct slot_layer) { (int32_t) n_expert, bytes, told->hits[i] };
        told->steepest  = told->hits[i][n_expert] > told->steepest ? told->hits[i][n_expert] : told->steepest;
    }
}

static uint64_t bytes_of(const struct told * told, const size_t * slots) {
    uint64_t sum = 0;
    for (size_t i = 0; i < LAYERS; i++) {
        assert_true(slots[i] <= (size_t) told->layers[i].n_expert);
        sum += slots[i] * (uint64_t) told->layers[i].expert_bytes;
    }
    return sum;
}

static uint64_t hits_of(const struct told * told, const size_t * slots) {
    uint64_t sum = 0;
    for (size_t i = 0; i < LAYERS; i++) {
        sum += told->hits[i][slots[i]];
    }
    return sum;
}

static uint64_t most_hits(const struct told * told, uint64_t budget) {
    uint64_t most = 0;
    size_t   slots[LAYERS];
    for (slots[0] = 0; slots[0] <= (size_t) told->layers[0].n_expert; slots[0]++) {
        for (slots[1] = 0; slots[1] <= (size_t) told->layers[1].n_expert; slots[1]++) {
            for (slots[2] = 0; slots[2] <= (size_t) told->layers[2].n_expert; slots[2]++) {
                const uint64_t hits = bytes_of(told, slots) <= budget ? hits_of(told, slots) : 0;
                most = hits > most ? hits : most;
            }
        }
    }
    return most;
}

static uint64_t hits_alike(const struct told * told, uint64_t budget) {
    uint64_t most = 0;
    for (size_t n = 0; n <= EXPERTS; n++) {
        size_t slots[LAYERS];
        for (size_t i = 0; i < LAYERS; i++) {
            slots[i] = n < (size_t) told->layers[i].n_expert ? n : (size_t) told->layers[i].n_expert;
        }
        most = bytes_of(told, slots) <= budget ? hits_of(told, slots) : most;
    }
    return most;
}

static uint64_t allocate(const struct told * told, uint64_t budget) {
    size_t slots[LAYERS];
    assert_true(slot_allocation(LAYERS, told->layers, budget, slots));
    assert_true(bytes_of(told, slots) <= budget);
    return hits_of(told, slots);
}

static void test_concave_is_exhaustive_search(void ** state) {
    (void) state;
    struct told told;
    for (uint64_t seed = 1; seed <= 1000; seed++) {
        tell(&told, seed, true, true);
        assert_int_equal(allocate(&told, seed % 130), most_hits(&told, seed % 130));
    }
}

static void test_others(void ** state) {
    (void) state;
    struct told told;
    for (uint64_t seed = 1; seed <= 3000; seed++) {
        tell(&told, seed, seed % 2 == 0, false);
        const uint64_t budget = seed % 200;
        const uint64_t hits   = allocate(&told, budget);
        assert_true(hits >= hits_alike(&told, budget));
        assert_true(hits + told.steepest >= most_hits(&told, budget));
    }
}

// A curve without hits at first is worth climbing as a whole.
static void test_late_curve(void ** state) {
    (void) state;
    const uint64_t          late[]  = { 0, 0, 0, 0, 900 };
    const uint64_t          early[] = { 0, 100, 200, 300, 400 };
    const struct slot_layer layers[] = { { 4, 10, early }, { 4, 10, late } };
    size_t slots[2];
    assert_true(slot_allocation(2, layers, 50, slots));
    assert_int_equal(slots[0], 1);
    assert_int_equal(slots[1], 4);
}

// What is not enough for the whole climb goes to single slots.
static void test_rest(void ** state) {
    (void) state;
    const uint64_t          early[]  = { 0, 100, 200 };
    const uint64_t          late[]   = { 0, 10, 30, 90 };
    const struct slot_layer layers[] = { { 2, 10, early }, { 3, 10, late } };
    size_t slots[2];
    assert_true(slot_allocation(2, layers, 30, slots));
    assert_int_equal(slots[0], 2);
    assert_int_equal(slots[1], 1);
}

// A larger expert has to hit more.
static void test_bytes(void ** state) {
    (void) state;
    const uint64_t          hits[]   = { 0, 100, 200 };
    const uint64_t          more[]   = { 0, 150, 300 };
    const struct slot_layer layers[] = { { 2, 10, hits }, { 2, 20, more } };
    size_t slots[2];
    assert_true(slot_allocation(2, layers, 20, slots));
    assert_int_equal(slots[0], 2);
    assert_int_equal(slots[1], 0);
}

static void test_nothing(void ** state) {
    (void) state;
    const uint64_t          hits[] = { 0, 5 };
    const struct slot_layer layer  = { 1, 10, hits };
    size_t slots[1] = { 9 };
    assert_true(slot_allocation(0, NULL, 100, NULL));
    assert_true(slot_allocation(1, &layer, 9, slots));
    assert_int_equal(slots[0], 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_concave_is_exhaustive_search),
        cmocka_unit_test(test_others),
        cmocka_unit_test(test_late_curve),
        cmocka_unit_test(test_rest),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
