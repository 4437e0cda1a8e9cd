// Guesses of the next experts, on routings written by hand and against their definition.

#include "analysis/predictor.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define N_MAX 24

static const uint64_t nobody[N_MAX];

static struct predictor * new_predictor(size_t n_from, size_t n_to) {
    struct predictor * predictor = predictor_new(n_from, n_to);
    assert_non_null(predictor);
    return predictor;
}

static void assert_guess(struct predictor * predictor, const uint16_t * from, size_t n_from,
                         const uint16_t * expected, size_t n) {
    uint16_t guess[N_MAX];
    assert_int_equal(predictor_guess(predictor, from, n_from, guess, n), n);
    assert_memory_equal(guess, expected, n * sizeof(*guess));
}

static void test_what_followed_is_guessed(void ** state) {
    (void) state;
    struct predictor * predictor = new_predictor(3, 4);
    predictor_learn(predictor, (uint16_t[]) { 0, 1 }, 2, (uint16_t[]) { 3, 2 }, 2);
    predictor_learn(predictor, (uint16_t[]) { 0, 2 }, 2, (uint16_t[]) { 3, 0 }, 2);
    assert_true(predictor_settle(predictor, nobody));
    assert_guess(predictor, (uint16_t[]) { 0 },    1, (uint16_t[]) { 3, 0, 2, 1 }, 4); // shares 1, 1/2, 1/2, 0
    assert_guess(predictor, (uint16_t[]) { 1 },    1, (uint16_t[]) { 2, 3 },       2);
    assert_guess(predictor, (uint16_t[]) { 2, 0 }, 2, (uint16_t[]) { 3, 0, 2 },    3); // 2, 3/2, 1/2
    predictor_free(predictor);
}

// 1 was used once and followed by 0; 0 three times, and by 1 two times: shares count, not numbers.
static void test_shares_of_uses_are_added(void ** state) {
    (void) state;
    struct predictor * predictor = new_predictor(2, 3);
    predictor_learn(predictor, (uint16_t[]) { 0 }, 1, (uint16_t[]) { 1 }, 1);
    predictor_learn(predictor, (uint16_t[]) { 0 }, 1, (uint16_t[]) { 1 }, 1);
    predictor_learn(predictor, (uint16_t[]) { 0 }, 1, (uint16_t[]) { 2 }, 1);
    predictor_learn(predictor, (uint16_t[]) { 1 }, 1, (uint16_t[]) { 0 }, 1);
    assert_true(predictor_settle(predictor, nobody));
    assert_guess(predictor, (uint16_t[]) { 0, 1 }, 2, (uint16_t[]) { 0, 1, 2 }, 3);
    predictor_free(predictor);
}

static void test_equal_scores_go_by_popularity_and_id(void ** state) {
    (void) state;
    struct predictor * predictor = new_predictor(2, 5);
    predictor_learn(predictor, (uint16_t[]) { 0 }, 1, (uint16_t[]) { 4 }, 1);
    assert_true(predictor_settle(predictor, (uint64_t[]) { 1, 7, 0, 7, 2 }));
    assert_guess(predictor, (uint16_t[]) { 1 }, 1, (uint16_t[]) { 1, 3, 4, 0, 2 }, 5); // nothing is known
    assert_guess(predictor, (uint16_t[]) { 0 }, 1, (uint16_t[]) { 4, 1, 3, 0, 2 }, 5);
    predictor_free(predictor);
}

static void test_no_more_than_there_are(void ** state) {
    (void) state;
    struct predictor * predictor = new_predictor(1, 2);
    uint16_t           guess[2];
    assert_true(predictor_settle(predictor, nobody));
    assert_int_equal(predictor_guess(predictor, (uint16_t[]) { 0 }, 1, guess, 9), 2);
    assert_int_equal(predictor_guess(predictor, (uint16_t[]) { 0 }, 1, guess, 0), 0);
    predictor_free(predictor);
}

//
// against the definition, on small random histories
//

struct history {
    size_t   n_from;
    size_t   n_to;
    size_t   n_used;
    size_t   n;
    uint16_t from[64][N_MAX];
    uint16_t to  [64][N_MAX];
};

static size_t below(size_t n) {
    return (size_t) rand() % n;
}

static void choose(uint16_t * experts, size_t n_used, size_t n) {
    for (size_t i = 0; i < n_used; i++) {
        size_t j = 0;
        experts[i] = (uint16_t) below(n);
        while (j < i && experts[j] != experts[i]) {
            j++;
        }
        i -= j < i;
    }
}

static void make_history(struct history * history) {
    history->n_used = 1 + below(4);
    history->n_from = history->n_used + below(N_MAX - history->n_used);
    history->n_to   = history->n_used + below(N_MAX - history->n_used);
    history->n      = below(64);
    for (size_t i = 0; i < history->n; i++) {
        choose(history->from[i], history->n_used, history->n_from);
        choose(history->to[i],   history->n_used, history->n_to);
    }
}

static bool has(const uint16_t * experts, size_t n, uint16_t expert) {
    size_t i = 0;
    while (i < n && experts[i] != expert) {
        i++;
    }
    return i < n;
}

static double score_of(const struct history * history, const uint16_t * from, uint16_t to) {
    double score = 0.0;
    for (size_t i = 0; i < history->n_used; i++) {
        int n_from = 0;
        int n_both = 0;
        for (size_t k = 0; k < history->n; k++) {
            const bool used = has(history->from[k], history->n_used, from[i]);
            n_from += used;
            n_both += used && has(history->to[k], history->n_used, to);
        }
        score += n_from == 0 ? 0.0 : (double) n_both / n_from;
    }
    return score;
}

// In the order of their scores, each once; of those left out none has a higher one.
static void check_guess(const struct history * history, struct predictor * predictor) {
    uint16_t     from [N_MAX];
    uint16_t     guess[N_MAX];
    const size_t n = below(history->n_to + 1);
    choose(from, history->n_used, history->n_from);
    assert_int_equal(predictor_guess(predictor, from, history->n_used, guess, n), n);
    for (size_t i = 0; i < n; i++) {
        const double score = score_of(history, from, guess[i]);
        assert_false(has(guess, i, guess[i]));
        for (uint16_t other = 0; other < history->n_to; other++) {
            assert_true(has(guess, i, other) || score_of(history, from, other) < score + 1e-6);
        }
    }
}

static void test_the_definition(void ** state) {
    (void) state;
    struct history history;
    srand(1);
    for (int round = 0; round < 2000; round++) {
        make_history(&history);
        struct predictor * predictor = new_predictor(history.n_from, history.n_to);
        for (size_t i = 0; i < history.n; i++) {
            predictor_learn(predictor, history.from[i], history.n_used, history.to[i], history.n_used);
        }
        assert_true(predictor_settle(predictor, nobody));
        check_guess(&history, predictor);
        predictor_free(predictor);
    }
}

//
// recall
//

static void test_budgets_are_rounded_up(void ** state) {
    (void) state;
    const size_t expected[][RECALL_N_BUDGETS] = { { 1, 2, 2 }, { 2, 3, 4 }, { 3, 5, 6 }, { 8, 12, 16 } };
    const size_t n_used[] = { 1, 2, 3, 8 };
    for (size_t i = 0; i < 4; i++) {
        for (size_t k = 0; k < RECALL_N_BUDGETS; k++) {
            assert_int_equal(recall_budget(k, n_used[i]), expected[i][k]);
        }
    }
}

static void test_recall(void ** state) {
    (void) state;
    const uint16_t chosen[] = { 5, 9 };
    struct recall  recall   = { 0 };
    assert_true(isnan(recall_share(&recall, 0)));
    recall_judge(&recall, (uint16_t[]) { 9, 1, 2, 5 }, 4, chosen, 2); // 1 of 2, 3 and 2 of 4 guesses
    recall_judge(&recall, (uint16_t[]) { 0, 1, 5, 9 }, 4, chosen, 2); // 0, 1, 2
    recall_judge(&recall, (uint16_t[]) { 9 },          1, chosen, 2); // 1, 1, 1
    recall_judge(&recall, chosen,                      2, chosen, 2); // 2, 2, 2
    assert_int_equal(recall.chosen, 8);
    assert_int_equal(recall.found[0], 4);
    assert_int_equal(recall.found[1], 5);
    assert_int_equal(recall.found[2], 7);

    struct recall sum = { 2, { 1, 1, 1 } };
    recall_add(&sum, &recall);
    assert_true(recall_share(&sum, 2) == 0.8);
    assert_true(recall_share(&sum, 0) == 0.5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_followed_is_guessed),
        cmocka_unit_test(test_shares_of_uses_are_added),
        cmocka_unit_test(test_equal_scores_go_by_popularity_and_id),
        cmocka_unit_test(test_no_more_than_there_are),
        cmocka_unit_test(test_the_definition),
        cmocka_unit_test(test_budgets_are_rounded_up),
        cmocka_unit_test(test_recall),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
