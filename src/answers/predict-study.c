// Learns and judges row by row, remembering of each sequence the experts of its last token.

#include "answers/predict-study.h"

#include "analysis/counts.h"
#include "tool/input/trace-input.h"
#include "tool/input/trace-lives.h"

#include <stdlib.h>
#include <string.h>

//
// what is remembered while going through the trace
//

// The experts that a sequence's last token used in a layer.
struct last_row {
    int32_t  life;
    int32_t  position; // -1: nothing to go on from
    int32_t  n_used;
    uint16_t experts[];
};

// What is remembered of a sequence.
struct followed {
    int32_t  life;    // that it is in
    uint64_t number;  // of the life, from 0 in the order in which lives begin
    char   * rows;    // the last row of each layer, NULL: none yet
};

struct predicting {
    struct predict_study      * study;
    const struct trace_filter * filter;
    struct trace_lives        * sequences; // their data: struct followed. That of a life ends with the next one
    size_t                      row_bytes;
    struct trace_halves         halves;
    bool                        settled;
    uint16_t                  * guess;
    struct followed          ** of_tokens; // of a ubatch, NULL: not chosen
    struct resample_token     * sampled;   // likewise
    uint64_t                 ** sums;      // likewise, NULL: learned from, or not chosen
    size_t                      room;
    uint64_t                    n_lives;
};

static struct last_row * last_row_of(const struct predicting * predicting, struct followed * sequence, size_t layer) {
    const size_t n_layers = predicting->study->shape->n_layers;
    if (sequence->rows == NULL) {
        sequence->rows = memory_new(n_layers, predicting->row_bytes);
        for (size_t i = 0; i < n_layers; i++) {
            last_row_of(predicting, sequence, i)->position = -1;
        }
    }
    return (struct last_row *) (void *) (sequence->rows + layer * predicting->row_bytes);
}

static struct followed * followed_of(struct predicting * predicting, int32_t context,
                                     const struct trace_token * token) {
    struct noted_life * noted = trace_lives_at(predicting->sequences, context, token->sequence, 0);
    struct followed   * its   = noted->data;
    if (its == NULL) {
        noted->data = its = memory_new(1, sizeof(*its));
        *its = (struct followed) { .life = token->life, .number = predicting->n_lives++ };
    } else if (its->life != token->life) {
        its->life   = token->life;
        its->number = predicting->n_lives++;
    }
    return its;
}

static void remember(struct last_row * row, const struct trace_token * token, const uint16_t * experts,
                     int32_t n_used) {
    row->life     = token->life;
    row->position = token->position;
    row->n_used   = n_used;
    memcpy(row->experts, experts, (size_t) n_used * sizeof(*experts));
}

static bool follows(const struct trace_token * token, const struct last_row * row) {
    return row->position >= 0 && row->life == token->life && row->position + 1 == token->position;
}

//
// one row
//

// Experts that are to be guessed, and those that they are guessed from.
struct row {
    struct predict_studied_layer * layer;
    enum predict_step      step;
    bool                   generation;
    const uint16_t       * from;
    size_t                 n_from;
    const uint16_t       * chosen;
    size_t                 n_chosen;
    uint64_t             * sums;     // of the token's unit
};

size_t predict_series_chosen(enum predict_step step, enum phase phase) {
    return ((size_t) step * N_TOKEN_PHASES + (size_t) phase) * (1 + PREDICT_N_GUESSES * RECALL_N_BUDGETS);
}

size_t predict_series_count(void) {
    return predict_series_chosen(PREDICT_N_STEPS, PHASE_PROMPT);
}

size_t predict_series_found(enum predict_step step, enum phase phase, enum predict_guess guess, size_t i_budget) {
    return predict_series_chosen(step, phase) + 1 + (size_t) guess * RECALL_N_BUDGETS + i_budget;
}

static void judge_guess(const struct row * row, enum predict_guess guess, const uint16_t * guessed, size_t n) {
    const enum phase phase = row->generation ? PHASE_GENERATION : PHASE_PROMPT;
    struct recall    one   = { 0 };
    recall_judge(&one, guessed, n, row->chosen, row->n_chosen);
    recall_add(&row->layer->recalls[row->step][phase].guesses[guess], &one);
    for (size_t i = 0; i < RECALL_N_BUDGETS; i++) {
        row->sums[predict_series_found(row->step, phase, guess, i)] += one.found[i];
    }
}

static void judge(const struct predicting * predicting, const struct row * row) {
    struct predictor * predictor = row->layer->predictors[row->step];
    const size_t       most      = recall_budget(RECALL_N_BUDGETS - 1, row->n_chosen);
    const size_t       n         = predictor_guess(predictor, row->from, row->n_from, predicting->guess, most);
    judge_guess(row, PREDICT_LEARNED, predicting->guess, n);
    judge_guess(row, PREDICT_POPULAR, row->layer->popular, n);
    judge_guess(row, PREDICT_CONTROL, row->chosen, row->n_chosen);
    if (row->step == PREDICT_NEXT_TOKEN) {
        judge_guess(row, PREDICT_REPEATED, row->from, row->n_from);
    }
    row->sums[predict_series_chosen(row->step, row->generation ? PHASE_GENERATION : PHASE_PROMPT)] += row->n_chosen;
}

static void take_row(const struct predicting * predicting, const struct row * row) {
    if (predicting->settled) {
        judge(predicting, row);
    } else {
        predictor_learn(row->layer->predictors[row->step], row->from, row->n_from, row->chosen, row->n_chosen);
    }
}

static void count_activations(const struct predicting * predicting, const struct row * row) {
    for (size_t i = 0; !predicting->settled && i < row->n_chosen; i++) {
        row->layer->activations[row->chosen[i]]++;
    }
}

// A layer of a ubatch.
struct predicted_place {
    const struct trace_ubatch  * ubatch;
    const struct trace_routing * routing;
    const struct trace_routing * before;  // of the layer before, NULL: none
    size_t                       layer;   // in the shape
};

static void take_token(const struct predicting * predicting, const struct predicted_place * place, int32_t i_row) {
    const struct trace_routing * routing  = place->routing;
    const int32_t                i_token  = routing->tokens == NULL ? i_row : routing->tokens[i_row];
    const struct trace_token   * token    = &place->ubatch->tokens[i_token];
    struct followed            * sequence = predicting->of_tokens[i_token];
    if (sequence == NULL) {
        return;
    }
    struct row row = {
        .layer      = &predicting->study->layers[place->layer],
        .generation = token->generation,
        .chosen     = routing->experts + (size_t) i_row * (size_t) routing->n_used,
        .n_chosen   = (size_t) routing->n_used,
        .sums       = predicting->sums[i_token],
    };
    count_activations(predicting, &row);
    const int32_t row_before = place->before == NULL ? -1 : trace_input_row(place->before, i_token);
    if (row_before >= 0) {
        row.step   = PREDICT_NEXT_LAYER;
        row.n_from = (size_t) place->before->n_used;
        row.from   = place->before->experts + (size_t) row_before * row.n_from;
        take_row(predicting, &row);
    }
    struct last_row * last = last_row_of(predicting, sequence, place->layer);
    if (follows(token, last)) {
        row.step   = PREDICT_NEXT_TOKEN;
        row.n_from = (size_t) last->n_used;
        row.from   = last->experts;
        take_row(predicting, &row);
    }
    remember(last, token, row.chosen, routing->n_used);
}

//
// the trace
//

static void make_room(struct predicting * predicting, size_t n_tokens) {
    if (n_tokens > predicting->room) {
        predicting->of_tokens = memory_resize(predicting->of_tokens, n_tokens, sizeof(struct followed *));
        predicting->sampled   = memory_resize(predicting->sampled,   n_tokens, sizeof(*predicting->sampled));
        predicting->sums      = memory_resize(predicting->sums,      n_tokens, sizeof(uint64_t *));
        predicting->room      = n_tokens;
    }
}

// Which tokens are chosen, and whose they are. False: out of memory.
static bool take_tokens(struct predicting * predicting, const struct trace_ubatch * ubatch) {
    make_room(predicting, (size_t) ubatch->n_tokens);
    for (int32_t i = 0; i < ubatch->n_tokens; i++) {
        const struct trace_token * token = &ubatch->tokens[i];
        predicting->of_tokens[i] = NULL;
        predicting->sampled  [i] = (struct resample_token) { RESAMPLE_NOBODY, token->position };
        if (trace_filter_has_token(predicting->filter, ubatch, i)) {
            uint64_t        * counts = predicting->settled ? predicting->study->judged : predicting->study->learned;
            struct followed * its    = followed_of(predicting, ubatch->context, token);
            counts[token->generation ? PHASE_GENERATION : PHASE_PROMPT]++;
            predicting->of_tokens[i] = its;
            predicting->sampled[i].life = predicting->settled ? its->number : RESAMPLE_NOBODY;
        }
    }
    return resample_find(predicting->study->samples, (size_t) ubatch->n_tokens, predicting->sampled, predicting->sums);
}

static bool settle_layer(struct predict_studied_layer * layer, size_t n_expert) {
    size_t * order = memory_new(n_expert, sizeof(*order));
    bool     ok    = true;
    counts_rank(layer->activations, n_expert, order);
    layer->popular = memory_new(n_expert, sizeof(*layer->popular));
    for (size_t i = 0; i < n_expert; i++) {
        layer->popular[i] = (uint16_t) order[i];
    }
    for (size_t i = 0; ok && i < PREDICT_N_STEPS; i++) {
        ok = layer->predictors[i] == NULL || predictor_settle(layer->predictors[i], layer->activations);
    }
    free(order);
    return ok;
}

// The first half is over.
static bool settle(struct predicting * predicting) {
    const struct predict_study * study = predicting->study;
    bool                          ok     = true;
    for (size_t i = 0; ok && i < study->shape->n_layers; i++) {
        ok = !study->layers[i].is_chosen || settle_layer(&study->layers[i], (size_t) study->shape->layers[i].n_expert);
    }
    predicting->settled = true;
    return ok;
}

static const struct trace_routing * routing_before(const struct predict_study * study,
                                                   const struct trace_ubatch * ubatch, size_t i, size_t layer) {
    const struct trace_routing * before = i == 0 ? NULL : &ubatch->layers[i - 1];
    return before != NULL && layer > 0 && before->layer == study->shape->layers[layer - 1].layer ? before : NULL;
}

static bool take_ubatch(void * self, const struct trace_ubatch * ubatch, struct error * error) {
    struct predicting                * predicting  = self;
    const struct predict_study * study = predicting->study;
    const bool is_half = trace_halves_take(&predicting->halves, ubatch) && !predicting->settled;
    if ((is_half && !settle(predicting)) || !take_tokens(predicting, ubatch)) {
        return error_set(error, "out of memory");
    }
    for (size_t i = 0; i < ubatch->n_layers; i++) {
        const struct trace_routing * routing = &ubatch->layers[i];
        const int32_t                layer   = trace_shape_find(study->shape, routing->layer);
        if (layer < 0 || !study->layers[layer].is_chosen) {
            continue;
        }
        const struct trace_routing * before = routing_before(study, ubatch, i, (size_t) layer);
        const struct predicted_place place  = { ubatch, routing, before, (size_t) layer };
        for (int32_t row = 0; row < routing->n_rows; row++) {
            take_token(predicting, &place, row);
        }
    }
    return true;
}

static bool new_layer(struct predict_study * study, size_t i) {
    struct predict_studied_layer * layer    = &study->layers[i];
    const size_t           n_expert = (size_t) study->shape->layers[i].n_expert;
    layer->is_chosen   = true;
    layer->activations = memory_new(n_expert, sizeof(*layer->activations));
    layer->predictors[PREDICT_NEXT_TOKEN] = predictor_new(n_expert, n_expert);
    if (i > 0) {
        layer->predictors[PREDICT_NEXT_LAYER] = predictor_new((size_t) study->shape->layers[i - 1].n_expert, n_expert);
    }
    return layer->predictors[PREDICT_NEXT_TOKEN] != NULL && (i == 0 || layer->predictors[PREDICT_NEXT_LAYER] != NULL);
}

static bool new_layers(struct predict_study * study, const struct trace_filter * filter) {
    bool ok = true;
    study->layers = memory_new(study->shape->n_layers, sizeof(*study->layers));
    for (size_t i = 0; ok && i < study->shape->n_layers; i++) {
        ok = !trace_filter_has_layer(filter, study->shape->layers[i].layer) || new_layer(study, i);
    }
    return ok;
}

static void forget_sequences(struct trace_lives * sequences) {
    for (size_t i = 0; i < trace_lives_n(sequences); i++) {
        struct followed * its = trace_lives_get(sequences, i)->data;
        free(its == NULL ? NULL : its->rows);
        free(its);
    }
    trace_lives_free(sequences);
}

static bool go_through(struct predict_study * study, struct trace_walk * walk, struct error * error) {
    if (!new_layers(study, walk->filter)) {
        return error_set(error, "out of memory: what follows from each of %d experts in %zu layers is too much, "
                                "choose with --layer",
                         (int) study->shape->n_expert, study->shape->n_layers);
    }
    const size_t row_bytes = sizeof(struct last_row) + (size_t) study->shape->n_used * sizeof(uint16_t);
    struct predicting predicting = {
        .study    = study,
        .filter    = walk->filter,
        .sequences = trace_lives_new(),
        .halves    = { .filter = walk->filter, .all = study->extent },
        .row_bytes = (row_bytes + sizeof(int32_t) - 1) / sizeof(int32_t) * sizeof(int32_t),
        .guess     = memory_new((size_t) study->shape->n_expert, sizeof(*predicting.guess)),
    };
    walk->what = "predicting";
    const bool ok = trace_walk(walk, take_ubatch, &predicting, error);
    forget_sequences(predicting.sequences);
    free(predicting.guess);
    free(predicting.of_tokens);
    free(predicting.sampled);
    free(predicting.sums);
    return ok;
}

//
// what came of it
//

struct predict_recall predict_study_recall(const struct predict_study * study, enum predict_step step, int layer,
                                           int phase) {
    struct predict_recall sum = { 0 };
    for (size_t i = 0; i < study->shape->n_layers; i++) {
        for (int j = 0; j < N_TOKEN_PHASES; j++) {
            const bool is_asked = (layer < 0 || i == (size_t) layer) && (phase < 0 || j == phase);
            for (size_t k = 0; is_asked && k < PREDICT_N_GUESSES; k++) {
                recall_add(&sum.guesses[k], &study->layers[i].recalls[step][j].guesses[k]);
            }
        }
    }
    return sum;
}

// There are no more guesses than experts.
static size_t budget_of(const struct shape_layer * layer, size_t i_budget) {
    const size_t budget = recall_budget(i_budget, (size_t) layer->n_used);
    return budget < (size_t) layer->n_expert ? budget : (size_t) layer->n_expert;
}

size_t predict_study_budget(const struct predict_study * study, size_t i_budget) {
    size_t common = 0;
    bool   first  = true;
    for (size_t i = 0; i < study->shape->n_layers; i++) {
        if (study->layers[i].is_chosen) {
            const size_t budget = budget_of(&study->shape->layers[i], i_budget);
            common = first || common == budget ? budget : 0;
            first  = false;
        }
    }
    return common;
}

struct predict_study * predict_study_new(const struct trace * trace, const struct trace_filter * filter,
                                         uint64_t * lost, struct error * error) {
    struct predict_study * study = memory_new(1, sizeof(*study));
    struct trace_walk      walk  = { .trace = trace, .filter = filter, .what = "counting" };
    study->info  = trace_about(trace);
    study->shape = trace_shape_new(study->info, filter->mtp, NULL);
    study->samples = resample_new(predict_series_count());
    const bool ok = (study->samples != NULL || error_set(error, "out of memory"))
                 && trace_extent(&walk, &study->extent, error) && go_through(study, &walk, error);
    *lost = walk.lost;
    if (!ok) {
        predict_study_free(study);
        return NULL;
    }
    return study;
}

void predict_study_free(struct predict_study * study) {
    for (size_t i = 0; study->layers != NULL && i < study->shape->n_layers; i++) {
        for (size_t j = 0; j < PREDICT_N_STEPS; j++) {
            predictor_free(study->layers[i].predictors[j]);
        }
        free(study->layers[i].activations);
        free(study->layers[i].popular);
    }
    free(study->layers);
    resample_free(study->samples);
    trace_shape_free(study->shape);
    free(study);
}
