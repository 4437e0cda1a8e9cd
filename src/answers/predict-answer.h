// What `predict` answers of a trace: how well experts follow from those chosen before.

#pragma once

#include "analysis/predictor.h"
#include "tool/error.h"
#include "tool/input/trace-filter.h"
#include "tool/input/trace-shape.h"
#include "tool/input/trace-walk.h"
#include "tool/terminal.h"
#include "trace/read/trace-reader.h"

#include <jansson.h>

enum predict_step {
    PREDICT_NEXT_LAYER, // of the same token
    PREDICT_NEXT_TOKEN, // of its sequence, in the same layer
    PREDICT_N_STEPS
};

enum predict_guess {
    PREDICT_LEARNED,    // what followed in the first half
    PREDICT_POPULAR,    // the most activated of the first half
    PREDICT_REPEATED,   // those of the token before, again
    PREDICT_CONTROL,    // the truth, which must be found
    PREDICT_N_GUESSES
};

enum predict_phase { PREDICT_PROMPT, PREDICT_GENERATION, PREDICT_N_PHASES };

struct predict_recall {
    struct recall guesses[PREDICT_N_GUESSES];
};

struct predict_layer {
    bool                  is_chosen;
    uint64_t            * activations; // of the first half
    uint16_t            * popular;     // experts by them, once it is over
    struct predictor    * predictors[PREDICT_N_STEPS];
    struct predict_recall recalls[PREDICT_N_STEPS][PREDICT_N_PHASES];
};

struct predict_answer {
    const struct trace_info * info;
    struct trace_shape      * shape;
    struct trace_extent       extent;
    struct predict_layer    * layers; // as in the shape
    uint64_t                  learned[PREDICT_N_PHASES]; // tokens
    uint64_t                  judged [PREDICT_N_PHASES];
    char                    * verdict;
};

// Goes through the trace. NULL, and why, where it cannot be answered. *lost: ubatches that do not check.
struct predict_answer * predict_answer_new (const struct trace * trace, const struct trace_filter * filter, uint64_t * lost,
                                            struct error * error);
void                    predict_answer_free(struct predict_answer * answer);

// Of a layer, or of all where `layer` is -1; of a phase, or of both where it is -1.
struct predict_recall predict_answer_recall(const struct predict_answer * answer, enum predict_step step, int layer, int phase);

// Guesses of a budget, 0: not as many in each layer.
size_t predict_answer_budget(const struct predict_answer * answer, size_t i_budget);

// Whether it is a guess at all: what is repeated is of the token before, and as many as there are.
bool predict_is_asked (enum predict_step step, enum predict_guess guess, size_t i_budget);
bool predict_is_judged(const struct predict_recall * recall);

// `path`: the file's name, as it is told. A new reference.
json_t * predict_answer_json (const struct predict_answer * answer, const char * path);
void     predict_answer_print(const struct predict_answer * answer, const struct terminal * terminal, bool per_layer);
