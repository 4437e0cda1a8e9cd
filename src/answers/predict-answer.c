#include "answers/predict-answer.h"

#include "analysis/counts.h"
#include "tool/input/trace-input.h"
#include "tool/input/trace-lives.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NEXT_TO_NOTHING 0.02 // of all experts: a gain that is none

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

struct study {
    struct predict_answer     * answer;
    const struct trace_filter * filter;
    struct trace_lives        * sequences; // their data: the rows of all layers. That of a life ends with the next one
    size_t                      row_bytes;
    struct trace_halves         halves;
    bool                        settled;
    uint16_t                  * guess;
    struct noted_life        ** of_tokens; // of a ubatch, NULL: not chosen
    size_t                      room;
};

static struct last_row * last_row_of(const struct study * study, struct noted_life * sequence, size_t layer) {
    const size_t n_layers = study->answer->shape->n_layers;
    if (sequence->data == NULL) {
        sequence->data = memory_new(n_layers, study->row_bytes);
        for (size_t i = 0; i < n_layers; i++) {
            last_row_of(study, sequence, i)->position = -1;
        }
    }
    return (struct last_row *) (void *) ((char *) sequence->data + layer * study->row_bytes);
}

static void remember(struct last_row * row, const struct trace_token * token, const uint16_t * experts, int32_t n_used) {
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
    struct predict_layer * layer;
    enum predict_step      step;
    bool                   generation;
    const uint16_t       * from;
    size_t                 n_from;
    const uint16_t       * chosen;
    size_t                 n_chosen;
};

static void judge(const struct study * study, const struct row * row) {
    struct recall * recalls = row->layer->recalls[row->step][row->generation ? PREDICT_GENERATION : PREDICT_PROMPT].guesses;
    const size_t    most    = recall_budget(RECALL_N_BUDGETS - 1, row->n_chosen);
    const size_t    n       = predictor_guess(row->layer->predictors[row->step], row->from, row->n_from, study->guess, most);
    recall_judge(&recalls[PREDICT_LEARNED], study->guess, n, row->chosen, row->n_chosen);
    recall_judge(&recalls[PREDICT_POPULAR], row->layer->popular, n, row->chosen, row->n_chosen);
    recall_judge(&recalls[PREDICT_CONTROL], row->chosen, row->n_chosen, row->chosen, row->n_chosen);
    if (row->step == PREDICT_NEXT_TOKEN) {
        recall_judge(&recalls[PREDICT_REPEATED], row->from, row->n_from, row->chosen, row->n_chosen);
    }
}

static void take_row(const struct study * study, const struct row * row) {
    if (study->settled) {
        judge(study, row);
    } else {
        predictor_learn(row->layer->predictors[row->step], row->from, row->n_from, row->chosen, row->n_chosen);
    }
}

static void count_activations(const struct study * study, const struct row * row) {
    for (size_t i = 0; !study->settled && i < row->n_chosen; i++) {
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

static void take_token(const struct study * study, const struct predicted_place * place, int32_t i_row) {
    const struct trace_routing * routing  = place->routing;
    const int32_t                i_token  = routing->tokens == NULL ? i_row : routing->tokens[i_row];
    const struct trace_token   * token    = &place->ubatch->tokens[i_token];
    struct noted_life          * sequence = study->of_tokens[i_token];
    if (sequence == NULL) {
        return;
    }
    struct row row = {
        .layer      = &study->answer->layers[place->layer],
        .generation = token->generation,
        .chosen     = routing->experts + (size_t) i_row * (size_t) routing->n_used,
        .n_chosen   = (size_t) routing->n_used,
    };
    count_activations(study, &row);
    const int32_t row_before = place->before == NULL ? -1 : trace_input_row(place->before, i_token);
    if (row_before >= 0) {
        row.step   = PREDICT_NEXT_LAYER;
        row.n_from = (size_t) place->before->n_used;
        row.from   = place->before->experts + (size_t) row_before * row.n_from;
        take_row(study, &row);
    }
    struct last_row * last = last_row_of(study, sequence, place->layer);
    if (follows(token, last)) {
        row.step   = PREDICT_NEXT_TOKEN;
        row.n_from = (size_t) last->n_used;
        row.from   = last->experts;
        take_row(study, &row);
    }
    remember(last, token, row.chosen, routing->n_used);
}

//
// the trace
//

// Which tokens are chosen, and whose they are.
static void take_tokens(struct study * study, const struct trace_ubatch * ubatch) {
    if ((size_t) ubatch->n_tokens > study->room) {
        study->room      = (size_t) ubatch->n_tokens;
        study->of_tokens = memory_resize(study->of_tokens, study->room, sizeof(*study->of_tokens));
    }
    for (int32_t i = 0; i < ubatch->n_tokens; i++) {
        const struct trace_token * token = &ubatch->tokens[i];
        study->of_tokens[i] = NULL;
        if (trace_filter_has_token(study->filter, ubatch, i)) {
            uint64_t * counts = study->settled ? study->answer->judged : study->answer->learned;
            counts[token->generation ? PREDICT_GENERATION : PREDICT_PROMPT]++;
            study->of_tokens[i] = trace_lives_at(study->sequences, ubatch->context, token->sequence, 0);
        }
    }
}

static bool settle_layer(struct predict_layer * layer, size_t n_expert) {
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
static bool settle(struct study * study) {
    const struct predict_answer * answer = study->answer;
    bool                          ok     = true;
    for (size_t i = 0; ok && i < answer->shape->n_layers; i++) {
        ok = !answer->layers[i].is_chosen || settle_layer(&answer->layers[i], (size_t) answer->shape->layers[i].n_expert);
    }
    study->settled = true;
    return ok;
}

static const struct trace_routing * routing_before(const struct predict_answer * answer, const struct trace_ubatch * ubatch, size_t i,
                                                   size_t layer) {
    const struct trace_routing * before = i == 0 ? NULL : &ubatch->layers[i - 1];
    return before != NULL && layer > 0 && before->layer == answer->shape->layers[layer - 1].layer ? before : NULL;
}

static bool take_ubatch(void * self, const struct trace_ubatch * ubatch, struct error * error) {
    struct study                * study  = self;
    const struct predict_answer * answer = study->answer;
    if (trace_halves_take(&study->halves, ubatch) && !study->settled && !settle(study)) {
        return error_set(error, "out of memory");
    }
    take_tokens(study, ubatch);
    for (size_t i = 0; i < ubatch->n_layers; i++) {
        const struct trace_routing * routing = &ubatch->layers[i];
        const int32_t                layer   = trace_shape_find(answer->shape, routing->layer);
        if (layer < 0 || !answer->layers[layer].is_chosen) {
            continue;
        }
        const struct predicted_place place = { ubatch, routing, routing_before(answer, ubatch, i, (size_t) layer), (size_t) layer };
        for (int32_t row = 0; row < routing->n_rows; row++) {
            take_token(study, &place, row);
        }
    }
    return true;
}

static bool new_layer(struct predict_answer * answer, size_t i) {
    struct predict_layer * layer    = &answer->layers[i];
    const size_t           n_expert = (size_t) answer->shape->layers[i].n_expert;
    layer->is_chosen   = true;
    layer->activations = memory_new(n_expert, sizeof(*layer->activations));
    layer->predictors[PREDICT_NEXT_TOKEN] = predictor_new(n_expert, n_expert);
    if (i > 0) {
        layer->predictors[PREDICT_NEXT_LAYER] = predictor_new((size_t) answer->shape->layers[i - 1].n_expert, n_expert);
    }
    return layer->predictors[PREDICT_NEXT_TOKEN] != NULL && (i == 0 || layer->predictors[PREDICT_NEXT_LAYER] != NULL);
}

static bool new_layers(struct predict_answer * answer, const struct trace_filter * filter) {
    bool ok = true;
    answer->layers = memory_new(answer->shape->n_layers, sizeof(*answer->layers));
    for (size_t i = 0; ok && i < answer->shape->n_layers; i++) {
        ok = !trace_filter_has_layer(filter, answer->shape->layers[i].layer) || new_layer(answer, i);
    }
    return ok;
}

static bool go_through(struct predict_answer * answer, struct trace_walk * walk, struct error * error) {
    if (!new_layers(answer, walk->filter)) {
        return error_set(error, "out of memory: what follows from each of %d experts in %zu layers is too much, choose with --layer",
                         (int) answer->shape->n_expert, answer->shape->n_layers);
    }
    const size_t row_bytes = sizeof(struct last_row) + (size_t) answer->shape->n_used * sizeof(uint16_t);
    struct study study = {
        .answer    = answer,
        .filter    = walk->filter,
        .sequences = trace_lives_new(),
        .halves    = { .filter = walk->filter, .all = answer->extent },
        .row_bytes = (row_bytes + sizeof(int32_t) - 1) / sizeof(int32_t) * sizeof(int32_t),
        .guess     = memory_new((size_t) answer->shape->n_expert, sizeof(*study.guess)),
    };
    walk->what = "predicting";
    const bool ok = trace_walk(walk, take_ubatch, &study, error);
    for (size_t i = 0; i < trace_lives_n(study.sequences); i++) {
        free(trace_lives_get(study.sequences, i)->data);
    }
    trace_lives_free(study.sequences);
    free(study.guess);
    free(study.of_tokens);
    return ok;
}

//
// the answer
//

struct predict_recall predict_answer_recall(const struct predict_answer * answer, enum predict_step step, int layer, int phase) {
    struct predict_recall sum = { 0 };
    for (size_t i = 0; i < answer->shape->n_layers; i++) {
        for (int j = 0; j < PREDICT_N_PHASES; j++) {
            for (size_t k = 0; (layer < 0 || i == (size_t) layer) && (phase < 0 || j == phase) && k < PREDICT_N_GUESSES; k++) {
                recall_add(&sum.guesses[k], &answer->layers[i].recalls[step][j].guesses[k]);
            }
        }
    }
    return sum;
}

bool predict_is_asked(enum predict_step step, enum predict_guess guess, size_t i_budget) {
    return guess != PREDICT_REPEATED || (step == PREDICT_NEXT_TOKEN && i_budget == 0);
}

bool predict_is_judged(const struct predict_recall * recall) {
    return recall->guesses[PREDICT_LEARNED].chosen > 0;
}

// There are no more guesses than experts.
static size_t budget_of(const struct shape_layer * layer, size_t i_budget) {
    const size_t budget = recall_budget(i_budget, (size_t) layer->n_used);
    return budget < (size_t) layer->n_expert ? budget : (size_t) layer->n_expert;
}

size_t predict_answer_budget(const struct predict_answer * answer, size_t i_budget) {
    size_t common = 0;
    bool   first  = true;
    for (size_t i = 0; i < answer->shape->n_layers; i++) {
        if (answer->layers[i].is_chosen) {
            const size_t budget = budget_of(&answer->shape->layers[i], i_budget);
            common = first || common == budget ? budget : 0;
            first  = false;
        }
    }
    return common;
}

static char * budget_text(const struct predict_answer * answer, size_t i_budget) {
    const size_t n = predict_answer_budget(answer, i_budget);
    if (n > 0) {
        return memory_text("%zu %s", n, n == 1 ? "guess" : "guesses");
    }
    return i_budget == 0 ? memory_text("as many guesses") : memory_text("%g times as many", recall_factors[i_budget]);
}

static char * gain_text(double gain, double gain_of_more) {
    const bool much = fabs(gain) >= NEXT_TO_NOTHING || fabs(gain_of_more) >= NEXT_TO_NOTHING;
    if (!much) {
        return memory_text("a prefetcher would gain next to nothing over pinning the popular ones");
    }
    if (gain < 0 && gain_of_more < 0) {
        return memory_text("pinning the popular ones is better than such a prefetcher");
    }
    return memory_text("a prefetcher would gain %.0f and %.0f points over pinning the popular ones", 100.0 * gain, 100.0 * gain_of_more);
}

static char * verdict_of(const struct predict_answer * answer, enum predict_step step, int phase, const struct predict_recall * recall) {
    static const char * const steps [] = { "the next layer from this one", "the next token's experts from this one's" };
    static const char * const phases[] = { "In prompts, guessing", "In generation, guessing", "Guessing" };
    const size_t          last    = RECALL_N_BUDGETS - 1;
    const struct recall * learned = &recall->guesses[PREDICT_LEARNED];
    const struct recall * popular = &recall->guesses[PREDICT_POPULAR];
    char * few     = budget_text(answer, 0);
    char * many    = budget_text(answer, last);
    char * gain    = gain_text(recall_share(learned, 0)    - recall_share(popular, 0),
                               recall_share(learned, last) - recall_share(popular, last));
    char * verdict = memory_text("%s %s finds %.0f %% of %s with %s, %.0f %% with %s; popularity alone %.0f %% and %.0f %%: %s.",
                                 phases[answer->info->phases_known ? phase : PREDICT_N_PHASES], steps[step],
                                 100.0 * recall_share(learned, 0), step == PREDICT_NEXT_LAYER ? "its experts" : "them", few,
                                 100.0 * recall_share(learned, last), many,
                                 100.0 * recall_share(popular, 0), 100.0 * recall_share(popular, last), gain);
    free(few);
    free(many);
    free(gain);
    return verdict;
}

// Of what matters most and was judged: generation before prompts, the next layer before the next token.
static char * find_verdict(const struct predict_answer * answer) {
    for (int phase = PREDICT_N_PHASES - 1; phase >= 0; phase--) {
        for (int step = 0; step < PREDICT_N_STEPS; step++) {
            const struct predict_recall recall = predict_answer_recall(answer, (enum predict_step) step, -1, phase);
            if (predict_is_judged(&recall)) {
                return verdict_of(answer, (enum predict_step) step, phase, &recall);
            }
        }
    }
    return memory_text("Too little was recorded to judge guesses by: what is learned on one half of it is judged on the other.");
}

struct predict_answer * predict_answer_new(const struct trace * trace, const struct trace_filter * filter, uint64_t * lost,
                                           struct error * error) {
    struct predict_answer * answer = memory_new(1, sizeof(*answer));
    struct trace_walk       walk   = { .trace = trace, .filter = filter, .what = "counting" };
    answer->info  = trace_about(trace);
    answer->shape = trace_shape_new(answer->info, filter->mtp);
    const bool ok = trace_extent(&walk, &answer->extent, error) && go_through(answer, &walk, error);
    *lost = walk.lost;
    if (!ok) {
        predict_answer_free(answer);
        return NULL;
    }
    answer->verdict = find_verdict(answer);
    return answer;
}

void predict_answer_free(struct predict_answer * answer) {
    for (size_t i = 0; answer->layers != NULL && i < answer->shape->n_layers; i++) {
        for (size_t j = 0; j < PREDICT_N_STEPS; j++) {
            predictor_free(answer->layers[i].predictors[j]);
        }
        free(answer->layers[i].activations);
        free(answer->layers[i].popular);
    }
    free(answer->layers);
    free(answer->verdict);
    trace_shape_free(answer->shape);
    free(answer);
}
