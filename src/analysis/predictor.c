// Counts which expert was chosen after which, and guesses by the sum of their shares.

#include "analysis/predictor.h"

#include "analysis/counts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WHOLE     ((uint64_t) 1 << 31) // all uses: a share is held as an integer, so that sums are exact
#define RANK_BITS 16
#define RANK_MASK (((uint64_t) 1 << RANK_BITS) - 1)

struct predictor {
    size_t     n_from;
    size_t     n_to;
    uint32_t * followed; // [n_from][n_to] how often; once it has settled, shares
    uint64_t * used;     // [n_from]
    uint64_t * scores;   // [n_to] of a guess
    uint16_t * ranks;    // [n_to] by popularity, the most popular having n_to - 1
    uint16_t * ranked;   // [n_to] the expert of each rank
    uint64_t * best;     // [n_to] scores with ranks
};

//
// learning
//

struct predictor * predictor_new(size_t n_from, size_t n_to) {
    struct predictor * predictor = calloc(1, sizeof(*predictor));
    if (predictor == NULL) {
        return NULL;
    }
    predictor->n_from   = n_from;
    predictor->n_to     = n_to;
    predictor->followed = calloc(n_from, n_to * sizeof(*predictor->followed));
    predictor->used     = calloc(n_from, sizeof(*predictor->used));
    predictor->scores   = calloc(n_to,   sizeof(*predictor->scores));
    predictor->ranks    = calloc(n_to,   sizeof(*predictor->ranks));
    predictor->ranked   = calloc(n_to,   sizeof(*predictor->ranked));
    predictor->best     = calloc(n_to,   sizeof(*predictor->best));
    if (predictor->followed == NULL || predictor->used == NULL || predictor->scores == NULL || predictor->ranks == NULL
        || predictor->ranked == NULL || predictor->best == NULL) {
        predictor_free(predictor);
        return NULL;
    }
    return predictor;
}

void predictor_free(struct predictor * predictor) {
    if (predictor != NULL) {
        free(predictor->followed);
        free(predictor->used);
        free(predictor->scores);
        free(predictor->ranks);
        free(predictor->ranked);
        free(predictor->best);
        free(predictor);
    }
}

void predictor_learn(struct predictor * predictor, const uint16_t * from, size_t n_from, const uint16_t * to,
                     size_t n_to) {
    for (size_t i = 0; i < n_from; i++) {
        uint32_t * followed = predictor->followed + from[i] * predictor->n_to;
        predictor->used[from[i]]++;
        for (size_t j = 0; j < n_to; j++) {
            followed[to[j]] += followed[to[j]] < UINT32_MAX;
        }
    }
}

static void to_shares(struct predictor * predictor) {
    for (size_t i = 0; i < predictor->n_from; i++) {
        uint32_t     * followed = predictor->followed + i * predictor->n_to;
        const uint64_t used     = predictor->used[i];
        for (size_t j = 0; used > 0 && j < predictor->n_to; j++) {
            const uint64_t share = followed[j] * WHOLE / used;
            followed[j] = (uint32_t) (share < WHOLE ? share : WHOLE);
        }
    }
}

bool predictor_settle(struct predictor * predictor, const uint64_t * popularity) {
    size_t * order = malloc(predictor->n_to * sizeof(*order) + 1);
    if (order == NULL) {
        return false;
    }
    counts_rank(popularity, predictor->n_to, order);
    for (size_t i = 0; i < predictor->n_to; i++) {
        const size_t rank = predictor->n_to - 1 - i;
        predictor->ranks[order[i]] = (uint16_t) rank;
        predictor->ranked[rank]    = (uint16_t) order[i];
    }
    free(order);
    to_shares(predictor);
    return true;
}

//
// guessing
//

static void add_scores(struct predictor * predictor, const uint16_t * from, size_t n_from) {
    memset(predictor->scores, 0, predictor->n_to * sizeof(*predictor->scores));
    for (size_t i = 0; i < n_from; i++) {
        const uint32_t * shares = predictor->followed + from[i] * predictor->n_to;
        for (size_t j = 0; j < predictor->n_to; j++) {
            predictor->scores[j] += shares[j];
        }
    }
}

// Into best[*n], which is sorted and holds `most`.
static void take_if_better(uint64_t * best, size_t * n, size_t most, uint64_t score) {
    size_t at = *n;
    if (at == most) {
        if (score < best[at - 1]) {
            return;
        }
        at--;
    } else {
        (*n)++;
    }
    for (; at > 0 && best[at - 1] < score; at--) {
        best[at] = best[at - 1];
    }
    best[at] = score;
}

size_t predictor_guess(struct predictor * predictor, const uint16_t * from, size_t n_from, uint16_t * guess, size_t n) {
    const size_t most = n < predictor->n_to ? n : predictor->n_to;
    size_t       done = 0;
    add_scores(predictor, from, n_from);
    for (size_t j = 0; most > 0 && j < predictor->n_to; j++) {
        take_if_better(predictor->best, &done, most, predictor->scores[j] << RANK_BITS | predictor->ranks[j]);
    }
    for (size_t i = 0; i < done; i++) {
        guess[i] = predictor->ranked[predictor->best[i] & RANK_MASK];
    }
    return done;
}

//
// how good guesses are
//

const double recall_factors[RECALL_N_BUDGETS] = { 1.0, 1.5, 2.0 };

size_t recall_budget(size_t i_budget, size_t n_used) {
    return (size_t) ceil(recall_factors[i_budget] * (double) n_used);
}

static bool is_among(uint16_t expert, const uint16_t * experts, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (experts[i] == expert) {
            return true;
        }
    }
    return false;
}

void recall_judge(struct recall * recall, const uint16_t * guess, size_t n_guess, const uint16_t * chosen,
                  size_t n_chosen) {
    uint64_t found = 0;
    size_t   at    = 0;
    for (size_t i = 0; i < RECALL_N_BUDGETS; i++) {
        const size_t budget = recall_budget(i, n_chosen);
        for (; at < n_guess && at < budget; at++) {
            found += is_among(guess[at], chosen, n_chosen);
        }
        recall->found[i] += found;
    }
    recall->chosen += n_chosen;
}

void recall_add(struct recall * sum, const struct recall * recall) {
    sum->chosen += recall->chosen;
    for (size_t i = 0; i < RECALL_N_BUDGETS; i++) {
        sum->found[i] += recall->found[i];
    }
}

double recall_share(const struct recall * recall, size_t i_budget) {
    return recall->chosen == 0 ? (double) NAN : (double) recall->found[i_budget] / (double) recall->chosen;
}
