// What is computed, held against all ways to choose, counted one by one.

#include "analysis/concurrency.h"

#include "analysis.h"

#include <math.h>

#define N_EXPERT 9
#define N_USED   3
#define TOKENS   10

struct token {
    uint64_t life;
    uint16_t experts[N_USED];
    size_t   n_experts;
};

static const struct concurrency_layer layers[] = { { N_EXPERT, N_USED }, { N_EXPERT, N_USED } };

static void assert_near(double a, double b) {
    assert_true(fabs(a - b) < 1e-9);
}

// A token of one of these lives, with up to N_USED different experts.
static void fill(struct token * token, uint64_t * random, uint64_t n_lives) {
    token->life      = random_below(random, (uint32_t) n_lives);
    token->n_experts = random_below(random, N_USED + 1);
    for (size_t i = 0; i < token->n_experts; i++) {
        bool known = true;
        while (known) {
            token->experts[i] = (uint16_t) random_below(random, N_EXPERT);
            known = false;
            for (size_t k = 0; k < i; k++) {
                known = known || token->experts[k] == token->experts[i];
            }
        }
    }
}

static void tell(struct concurrency * concurrency, const struct token * tokens, size_t n) {
    for (size_t i = 0; i < n; i++) {
        assert_true(concurrency_token(concurrency, tokens[i].life));
        concurrency_row(concurrency, 0, tokens[i].experts, tokens[i].n_experts);
        concurrency_row(concurrency, 1, tokens[i].experts, tokens[i].n_experts > 0 ? 1 : 0);
    }
}

static size_t n_different(const struct token * tokens, unsigned chosen, bool one_expert) {
    unsigned seen = 0;
    for (size_t i = 0; i < TOKENS; i++) {
        for (size_t k = 0; (chosen >> i & 1) && k < tokens[i].n_experts && (k == 0 || !one_expert); k++) {
            seen |= 1u << tokens[i].experts[k];
        }
    }
    return (size_t) __builtin_popcount(seen);
}

static size_t tokens_of(const struct token * tokens, uint64_t life) {
    size_t n = 0;
    for (size_t i = 0; i < TOKENS; i++) {
        n += tokens[i].life == life;
    }
    return n;
}

// Each choice of lives counts the same, and so do the tokens of a life.
static double weight_of(const struct token * tokens, unsigned chosen) {
    double   weight = 1.0;
    uint64_t seen   = 0;
    for (size_t i = 0; i < TOKENS; i++) {
        if (chosen >> i & 1) {
            weight = seen >> tokens[i].life & 1 ? 0.0 : weight / (double) tokens_of(tokens, tokens[i].life);
            seen  |= (uint64_t) 1 << tokens[i].life;
        }
    }
    return weight;
}

static double mean_of_all_choices(const struct token * tokens, size_t n, bool lives, bool one_expert) {
    double sum     = 0.0;
    double weights = 0.0;
    for (unsigned chosen = 0; chosen < 1u << TOKENS; chosen++) {
        if ((size_t) __builtin_popcount(chosen) == n) {
            const double weight = lives ? weight_of(tokens, chosen) : 1.0;
            sum     += weight * (double) n_different(tokens, chosen, one_expert);
            weights += weight;
        }
    }
    return sum / weights;
}

static void test_against_all_choices(void ** state) {
    (void) state;
    uint64_t random = 1;
    for (int round = 0; round < 50; round++) {
        struct concurrency * concurrency = concurrency_new(2, layers);
        struct token         tokens[TOKENS];
        for (size_t i = 0; i < TOKENS; i++) {
            fill(&tokens[i], &random, 1 + (uint64_t) round % 12);
        }
        tell(concurrency, tokens, TOKENS);
        for (size_t n = 1; n <= TOKENS; n++) {
            const bool lives = n <= concurrency_n_lives(concurrency);
            double     experts[2];
            assert_true(concurrency_experts(concurrency, n, experts));
            assert_near(experts[0], mean_of_all_choices(tokens, n, lives, false));
            assert_near(experts[1], mean_of_all_choices(tokens, n, lives, true));
        }
        concurrency_free(concurrency);
    }
}

static void test_what_cannot_be_told(void ** state) {
    (void) state;
    struct concurrency * concurrency = concurrency_new(2, layers);
    const struct token   tokens[2]   = { { 0, { 1, 2, 3 }, 3 }, { 1, { 4, 5, 6 }, 3 } };
    double               experts[2];
    assert_false(concurrency_experts(concurrency, 1, experts));
    tell(concurrency, tokens, 2);
    assert_false(concurrency_experts(concurrency, 0, experts));
    assert_true (concurrency_experts(concurrency, 2, experts));
    assert_false(concurrency_experts(concurrency, 3, experts));
    assert_false(concurrency_experts(concurrency, CONCURRENCY_MOST + 1, experts));
    assert_near(experts[0], 6.0);
    assert_int_equal(concurrency_n_lives(concurrency), 2);
    concurrency_free(concurrency);
    concurrency_free(NULL);
}

// Every token of a long trace is kept with the same chance: of ten tenths none is missing or has twice its part.
static void test_all_of_a_long_trace_is_looked_at(void ** state) {
    (void) state;
    struct concurrency * concurrency = concurrency_new(2, layers);
    double               experts[2];
    size_t               n_kept = 0;
    for (uint64_t i = 0; i < 100000; i++) {
        if (concurrency_token(concurrency, i / 10000)) {
            const uint16_t expert = (uint16_t) (i / 12500);
            concurrency_row(concurrency, 0, &expert, 1);
            n_kept++;
        }
    }
    assert_true(n_kept > CONCURRENCY_TOKENS && n_kept < 10 * CONCURRENCY_TOKENS);
    assert_int_equal(concurrency_n_lives(concurrency), 10);
    assert_true(concurrency_experts(concurrency, CONCURRENCY_MOST, experts));
    assert_true(experts[0] > 7.9);
    assert_near(experts[1], 0.0);
    assert_true(concurrency_experts(concurrency, 1, experts));
    assert_near(experts[0], 1.0);
    concurrency_free(concurrency);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_all_choices),
        cmocka_unit_test(test_what_cannot_be_told),
        cmocka_unit_test(test_all_of_a_long_trace_is_looked_at),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
