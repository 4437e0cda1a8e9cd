// Goes through a trace for `predict`: learns what follows what on its first half, and judges guesses on the second.
// It stays between the files of answers/; commands see the values of predict-answer.h alone.

#pragma once

#include "analysis/predictor.h"
#include "analysis/resample.h"
#include "answers/predict-guesses.h"
#include "routing/phase.h"
#include "tool/error.h"
#include "tool/input/trace-shape.h"
#include "tool/input/trace-walk.h"

struct predict_recall {
    struct recall guesses[PREDICT_N_GUESSES];
};

struct predict_studied_layer {
    bool                  is_chosen;
    uint64_t            * activations; // of the first half
    uint16_t            * popular;     // experts by them, once it is over
    struct predictor    * predictors[PREDICT_N_STEPS];
    struct predict_recall recalls[PREDICT_N_STEPS][N_TOKEN_PHASES];
};

struct predict_study {
    const struct trace_info      * info;
    struct trace_shape           * shape;
    struct trace_extent            extent;
    struct predict_studied_layer * layers; // as in the shape
    uint64_t                       learned[N_TOKEN_PHASES]; // tokens
    uint64_t                       judged [N_TOKEN_PHASES];
    struct resample              * samples; // sums of what was judged in all layers, by units of tokens
};

// How many sums there are, and where: of the experts that were to be guessed, and of those that a guess found.
size_t predict_series_count (void);
size_t predict_series_chosen(enum predict_step step, enum phase phase);
size_t predict_series_found (enum predict_step step, enum phase phase, enum predict_guess guess, size_t i_budget);

// Goes through the trace twice. NULL, and why, where the question has no answer. *lost: ubatches that do not check.
struct predict_study * predict_study_new (const struct trace * trace, const struct trace_filter * filter,
                                          uint64_t * lost, struct error * error);
void                   predict_study_free(struct predict_study * study);

// Of a layer, or of all where `layer` is -1; of a phase, or of both where it is -1.
struct predict_recall predict_study_recall(const struct predict_study * study, enum predict_step step, int layer,
                                           int phase);

// Guesses of a budget, 0: not as many in each layer.
size_t predict_study_budget(const struct predict_study * study, size_t i_budget);
