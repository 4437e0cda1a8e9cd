// What `predict` answers of a trace: how well experts follow from those chosen before. Plain values, filled once, which
// text and JSON only read.

#pragma once

#include "analysis/predictor.h"
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

struct predict_answer {
    struct answer_model    model;
    bool                   phases_known;                // otherwise all tokens count as a prompt
    uint64_t               learned[N_TOKEN_PHASES];   // tokens
    uint64_t               judged [N_TOKEN_PHASES];
    size_t                 n_guesses[RECALL_N_BUDGETS]; // of each budget, 0: not as many in each layer
    struct predict_target  targets[PREDICT_N_STEPS];    // of all layers
    size_t                 n_layers;                    // that the filter chooses
    struct predict_layer * layers;                      // ascending
    bool                   is_judged;                   // what follows is known
    enum predict_step      main_step;                   // what matters most and was judged: generation before prompts,
    enum phase     main_phase;                  // the next layer before the next token
    double                 gains[RECALL_N_BUDGETS];     // there, of what was learned over popular experts
    bool                   is_gain;                     // one of them is worth something
};

// Goes through the trace twice. NULL, and why, where the question has no answer. *lost: ubatches that do not check. The
// trace must stay open as long as the answer.
struct predict_answer * predict_answer_new (const struct trace * trace, const struct trace_filter * filter,
                                            uint64_t * lost, struct error * error);
void                    predict_answer_free(struct predict_answer * answer);

// Whether it is a guess at all: what is repeated is of the token before, and as many as there are.
bool predict_is_asked(enum predict_step step, enum predict_guess guess, size_t i_budget);
