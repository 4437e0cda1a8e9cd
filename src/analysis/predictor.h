// Which experts of a layer follow from those that were chosen before: in the layer before, or for the token before.
//
// What is learned is how often j was chosen after i, and guessed are the experts with the highest score: of j the sum,
// over all experts i that were chosen, of the share of i's uses after which j was chosen (rounded down to a multiple of
// 2^-31).
//
// One thread at a time.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct predictor;

// From experts of a layer that has `n_from` to those of one that has `n_to`. Takes n_from * n_to * 4 bytes. NULL: out
// of memory.
struct predictor * predictor_new (size_t n_from, size_t n_to);
void               predictor_free(struct predictor * predictor);

// These were followed by those. No expert is twice among either.
void predictor_learn(struct predictor * predictor, const uint16_t * from, size_t n_from, const uint16_t * to,
                     size_t n_to);

// Ends the learning. Of experts with the same score the one with the higher popularity[n_to] is guessed first, then the
// lower id. False: out of memory.
bool predictor_settle(struct predictor * predictor, const uint64_t * popularity);

// The `n` experts that most likely follow, the likeliest first, into guess[n]. Returns n, or how many there are. Once
// it has settled.
size_t predictor_guess(struct predictor * predictor, const uint16_t * from, size_t n_from, uint16_t * guess, size_t n);

//
// how good guesses are
//

#define RECALL_N_BUDGETS 3

// Guesses for each expert that will be chosen: 1, 1.5 and 2.
extern const double recall_factors[RECALL_N_BUDGETS];

// What a budget is where `n_used` experts are chosen: rounded up.
size_t recall_budget(size_t i_budget, size_t n_used);

struct recall {
    uint64_t chosen;
    uint64_t found[RECALL_N_BUDGETS]; // of them, among as many of the first guesses as the budget allows
};

void   recall_judge(struct recall * recall, const uint16_t * guess, size_t n_guess, const uint16_t * chosen,
                    size_t n_chosen);
void   recall_add  (struct recall * sum, const struct recall * recall);
double recall_share(const struct recall * recall, size_t i_budget); // NAN: nothing was judged
