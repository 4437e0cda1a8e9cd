// Reads off what predict-study.c judged: every share that anybody prints, each once.

#include "answers/predict-answer.h"

#include "answers/predict-study.h"
#include "answers/worth.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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
            shares.shares   [guess][i] = is_asked ? recall_share(&recall.guesses[guess], i) : NAN;
            shares.intervals[guess][i] = (struct interval) { NAN, NAN };
        }
    }
    return shares;
}

// False: out of memory.
static bool fill_intervals(struct predict_shares * shares, const struct predict_study * study, enum predict_step step,
                           enum phase phase) {
    struct resample_draws draws;
    const size_t          chosen = predict_series_chosen(step, phase);
    const bool            ok     = resample_draw(study->samples, chosen, 0, predict_series_count(), &draws);
    shares->by_lives = draws.by_lives;
    shares->n_units  = draws.n_units;
    for (int guess = 0; ok && guess < PREDICT_N_GUESSES; guess++) {
        for (size_t i = 0; i < RECALL_N_BUDGETS; i++) {
            const size_t found = predict_series_found(step, phase, (enum predict_guess) guess, i);
            if (!isnan(shares->shares[guess][i])) {
                shares->intervals[guess][i] = resample_share(&draws, found, chosen);
            }
        }
    }
    resample_draws_free(&draws);
    return ok;
}

static void fill_targets(struct predict_target * targets, const struct predict_study * study, int layer) {
    for (int step = 0; step < PREDICT_N_STEPS; step++) {
        targets[step].all = shares_of(study, (enum predict_step) step, layer, -1);
        for (int phase = 0; phase < N_TOKEN_PHASES; phase++) {
            targets[step].phases[phase] = shares_of(study, (enum predict_step) step, layer, phase);
        }
    }
}

static bool fill_all_intervals(struct predict_answer * answer, const struct predict_study * study) {
    bool ok = true;
    for (int step = 0; step < PREDICT_N_STEPS; step++) {
        for (int phase = 0; ok && phase < N_TOKEN_PHASES; phase++) {
            struct predict_shares * shares = &answer->targets[step].phases[phase];
            ok = fill_intervals(shares, study, (enum predict_step) step, (enum phase) phase);
        }
    }
    return ok;
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

static const struct {
    enum predict_step  step; // of popularity the other one where nothing was judged of this
    enum predict_guess guess;
} methods[PREDICT_N_METHODS] = {
    [PREDICT_BY_LAYER]      = { PREDICT_NEXT_LAYER, PREDICT_LEARNED  },
    [PREDICT_BY_TOKEN]      = { PREDICT_NEXT_TOKEN, PREDICT_LEARNED  },
    [PREDICT_BY_REPEAT]     = { PREDICT_NEXT_TOKEN, PREDICT_REPEATED },
    [PREDICT_BY_POPULARITY] = { PREDICT_NEXT_LAYER, PREDICT_POPULAR  },
};

static void find_main(struct predict_answer * answer) {
    for (int phase = N_TOKEN_PHASES - 1; phase >= 0 && !answer->is_judged; phase--) {
        for (int step = 0; step < PREDICT_N_STEPS; step++) {
            answer->is_judged = answer->is_judged || answer->targets[step].phases[phase].judged > 0;
        }
        answer->main_phase = (enum phase) phase;
    }
}

static enum predict_step step_of(const struct predict_answer * answer, enum predict_method method) {
    const bool has_layers = answer->targets[PREDICT_NEXT_LAYER].phases[answer->main_phase].judged > 0;
    return method == PREDICT_BY_POPULARITY && !has_layers ? PREDICT_NEXT_TOKEN : methods[method].step;
}

// Two shares of what was drawn together.
struct pair {
    size_t found[2];
    size_t chosen[2];
};

static double difference_of(const double * sums, const void * self) {
    const struct pair * pair = self;
    return sums[pair->chosen[0]] > 0 && sums[pair->chosen[1]] > 0
         ? sums[pair->found[0]] / sums[pair->chosen[0]] - sums[pair->found[1]] / sums[pair->chosen[1]] : (double) NAN;
}

static enum predict_difference compare(const struct predict_answer * answer, const struct predict_contest * contest,
                                       const struct resample_draws * draws, enum predict_method a,
                                       enum predict_method b) {
    const enum predict_method both[2] = { a, b };
    const double              other   = contest->methods[b].share;
    const double              more    = contest->methods[a].share - other;
    struct pair               pair;
    for (int i = 0; i < 2; i++) {
        const enum predict_step step = step_of(answer, both[i]);
        pair.chosen[i] = predict_series_chosen(step, answer->main_phase);
        pair.found[i]  = predict_series_found(step, answer->main_phase, methods[both[i]].guess, contest->i_budget);
    }
    const struct interval interval = resample_interval(draws, difference_of, &pair);
    if (isnan(more) || isnan(interval.low)) {
        return PREDICT_UNKNOWN;
    }
    const bool is_worth = fabs(more) >= WORTH_HAVING * other;
    return is_worth && interval.low  > 0.0 ? PREDICT_MORE
         : is_worth && interval.high < 0.0 ? PREDICT_LESS : PREDICT_SAME;
}

static void fill_contest(const struct predict_answer * answer, struct predict_contest * contest,
                         const struct resample_draws * draws) {
    contest->best = PREDICT_BY_POPULARITY;
    for (int i = PREDICT_N_METHODS - 1; i >= 0; i--) {
        const enum predict_step       step   = step_of(answer, (enum predict_method) i);
        const struct predict_shares * shares = &answer->targets[step].phases[answer->main_phase];
        contest->methods[i].share    = shares->shares   [methods[i].guess][contest->i_budget];
        contest->methods[i].interval = shares->intervals[methods[i].guess][contest->i_budget];
        if (contest->methods[i].share > contest->methods[contest->best].share) {
            contest->best = (enum predict_method) i;
        }
    }
    for (int i = 0; i < PREDICT_N_METHODS; i++) {
        struct predict_contender * its = &contest->methods[i];
        its->against_popular = compare(answer, contest, draws, (enum predict_method) i, PREDICT_BY_POPULARITY);
        its->against_best    = compare(answer, contest, draws, (enum predict_method) i, contest->best);
    }
}

// Half of what is recorded is learned from.
static uint64_t more_tokens(size_t n_units) {
    return n_units >= RESAMPLE_LEAST ? 0 : 2 * (RESAMPLE_LEAST - n_units) * RESAMPLE_BLOCK;
}

// False: out of memory.
static bool fill_contests(struct predict_answer * answer, const struct predict_study * study) {
    struct resample_draws   draws;
    const enum predict_step step = step_of(answer, PREDICT_BY_POPULARITY);
    if (!answer->is_judged) {
        return true;
    }
    const size_t base = predict_series_chosen(step, answer->main_phase);
    const bool   ok   = resample_draw(study->samples, base, 0, predict_series_count(), &draws);
    for (size_t i = 0; ok && i < PREDICT_N_CONTESTS; i++) {
        answer->contests[i].i_budget = i == 0 ? 0 : RECALL_N_BUDGETS - 1;
        fill_contest(answer, &answer->contests[i], &draws);
    }
    answer->more_tokens = more_tokens(draws.n_units);
    resample_draws_free(&draws);
    return ok;
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
    const bool ok = fill_all_intervals(answer, study);
    find_main(answer);
    if (!ok || !fill_contests(answer, study)) {
        predict_answer_free(answer);
        answer = NULL;
        error_set(error, "out of memory");
    }
    predict_study_free(study);
    return answer;
}

void predict_answer_free(struct predict_answer * answer) {
    free(answer->layers);
    free(answer);
}
