// What `predict` answers of a trace: how well experts follow from those chosen before. Plain values, filled once, which
// text and JSON only read.

#pragma once

#include "analysis/predictor.h"
#include "analysis/resample.h"
#include "answers/answer-model.h"
#include "answers/predict-guesses.h"
#include "routing/phase.h"
#include "tool/error.h"
#include "tool/input/trace-filter.h"
#include "trace/read/trace-reader.h"

// Shares of the experts that were found among the guesses of each budget.
struct predict_shares {
    uint64_t judged;                                      // experts that were to be guessed
    double   shares[PREDICT_N_GUESSES][RECALL_N_BUDGETS]; // NAN: nothing was judged, or it is no guess at all
    struct interval intervals[PREDICT_N_GUESSES][RECALL_N_BUDGETS]; // of all layers alone
    bool     by_lives;                                    // what intervals are of: lives of sequences, or blocks
    size_t   n_units;                                     // of RESAMPLE_BLOCK tokens; too few have no interval
};

struct predict_target {
    struct predict_shares all;
    struct predict_shares phases[N_TOKEN_PHASES];
};

struct predict_layer {
    int32_t               layer;
    int32_t               before; // the layer before it, itself where there is none
    struct predict_target targets[PREDICT_N_STEPS];
};

// All ways to guess a layer's experts.
enum predict_method {
    PREDICT_BY_LAYER,      // from the experts of the layer before
    PREDICT_BY_TOKEN,      // from those of the token before
    PREDICT_BY_REPEAT,     // those of the token before, again
    PREDICT_BY_POPULARITY, // the most used of the first half
    PREDICT_N_METHODS
};

enum predict_difference {
    PREDICT_UNKNOWN, // too little was judged
    PREDICT_LESS,
    PREDICT_SAME,    // none worth having: under 3 %, or within its 95 % interval
    PREDICT_MORE,
};

struct predict_contender {
    double                  share;           // of the experts that were found, NAN: it does not take part
    struct interval         interval;
    enum predict_difference against_popular;
    enum predict_difference against_best;    // the same: as good
};

// With so many guesses, of the phase that matters most.
struct predict_contest {
    size_t                   i_budget;
    struct predict_contender methods[PREDICT_N_METHODS];
    enum predict_method      best; // which finds most
};

#define PREDICT_N_CONTESTS 2 // of as many guesses as experts, and of twice as many

struct predict_answer {
    struct answer_model    model;
    bool                   phases_known;                // otherwise all tokens count as a prompt
    uint64_t               learned[N_TOKEN_PHASES];     // tokens
    uint64_t               judged [N_TOKEN_PHASES];
    size_t                 n_guesses[RECALL_N_BUDGETS]; // of each budget, 0: not as many in each layer
    struct predict_target  targets[PREDICT_N_STEPS];    // of all layers
    size_t                 n_layers;                    // that the filter chooses
    struct predict_layer * layers;                      // ascending
    bool                   is_judged;                   // what follows is known
    enum phase             main_phase;                  // what matters most and was judged: generation before prompts
    uint64_t               more_tokens;                 // of it, to be recorded to tell guesses apart; 0: enough
    struct predict_contest contests[PREDICT_N_CONTESTS];
};

// Goes through the trace twice. NULL, and why, where the question has no answer. *lost: ubatches that do not check. The
// trace must stay open as long as the answer.
struct predict_answer * predict_answer_new (const struct trace * trace, const struct trace_filter * filter,
                                            uint64_t * lost, struct error * error);
void                    predict_answer_free(struct predict_answer * answer);

// Whether it is a guess at all: what is repeated is of the token before, and as many as there are.
bool predict_is_asked(enum predict_step step, enum predict_guess guess, size_t i_budget);
