// Reads off what predict-study.c judged: every share that anybody prints, each once.

#include "answers/predict-answer.h"

#include "answers/predict-study.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NEXT_TO_NOTHING 0.02 // of all experts: a gain that is none

bool predict_is_asked(enum predict_step step, enum predict_guess guess, size_t i_budget) {
    return guess != PREDICT_REPEATED || (step == PREDICT_NEXT_TOKEN && i_budget == 0);
}

//
// shares
//

static struct predict_shares shares_of(const struct predict_study * study, enum predict_step step, int layer,
                                       int phase) {
    const struct predict_recall recall = predict_study_recall(study, step, layer, phase);
    struct predict_shares       shares = { .judged = recall.guesses[PREDICT_LEARNED].chosen };
    for (int guess = 0; guess < PREDICT_N_GUESSES; guess++) {
        for (size_t i = 0; i < RECALL_N_BUDGETS; i++) {
            const bool is_asked = predict_is_asked(step, (enum predict_guess) guess, i);
            shares.shares[guess][i] = is_asked ? recall_share(&recall.guesses[guess], i) : NAN;
        }
    }
    return shares;
}

static void fill_targets(struct predict_target * targets, const struct predict_study * study, int layer) {
    for (int step = 0; step < PREDICT_N_STEPS; step++) {
        targets[step].all = shares_of(study, (enum predict_step) step, layer, -1);
        for (int phase = 0; phase < N_TOKEN_PHASES; phase++) {
            targets[step].phases[phase] = shares_of(study, (enum predict_step) step, layer, phase);
        }
    }
}

static void fill_layers(struct predict_answer * answer, const struct predict_study * study) {
    const struct trace_shape * shape = study->shape;
    answer->layers = memory_new(shape->n_layers, sizeof(*answer->layers));
    for (size_t i = 0; i < shape->n_layers; i++) {
        if (study->layers[i].is_chosen) {
            struct predict_layer * layer = &answer->layers[answer->n_layers++];
            layer->layer  = shape->layers[i].layer;
            layer->before = shape->layers[i == 0 ? 0 : i - 1].layer;
            fill_targets(layer->targets, study, (int) i);
        }
    }
}

//
// what it means
//

static void find_main(struct predict_answer * answer) {
    for (int phase = N_TOKEN_PHASES - 1; phase >= 0; phase--) {
        for (int step = 0; step < PREDICT_N_STEPS; step++) {
            if (!answer->is_judged && answer->targets[step].phases[phase].judged > 0) {
                answer->is_judged  = true;
                answer->main_step  = (enum predict_step) step;
                answer->main_phase = (enum phase) phase;
            }
        }
    }
}

static void fill_gains(struct predict_answer * answer) {
    const struct predict_shares * shares = &answer->targets[answer->main_step].phases[answer->main_phase];
    for (size_t i = 0; i < RECALL_N_BUDGETS; i++) {
        answer->gains[i] = shares->shares[PREDICT_LEARNED][i] - shares->shares[PREDICT_POPULAR][i];
    }
    answer->is_gain = fabs(answer->gains[0]) >= NEXT_TO_NOTHING
                   || fabs(answer->gains[RECALL_N_BUDGETS - 1]) >= NEXT_TO_NOTHING;
}

struct predict_answer * predict_answer_new(const struct trace * trace, const struct trace_filter * filter,
                                           uint64_t * lost, struct error * error) {
    struct predict_study * study = predict_study_new(trace, filter, lost, error);
    if (study == NULL) {
        return NULL;
    }
    const struct trace_info * info   = study->info;
    struct predict_answer   * answer = memory_new(1, sizeof(*answer));
    answer->model = (struct answer_model) { info->model_name, info->architecture, info->model_file, info->engine };
    answer->phases_known = info->phases_known;
    memcpy(answer->learned, study->learned, sizeof(answer->learned));
    memcpy(answer->judged,  study->judged,  sizeof(answer->judged));
    for (size_t i = 0; i < RECALL_N_BUDGETS; i++) {
        answer->n_guesses[i] = predict_study_budget(study, i);
    }
    fill_targets(answer->targets, study, -1);
    fill_layers (answer, study);
    find_main   (answer);
    fill_gains  (answer);
    predict_study_free(study);
    return answer;
}

void predict_answer_free(struct predict_answer * answer) {
    free(answer->layers);
    free(answer);
}
