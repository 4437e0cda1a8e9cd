// Writes the values of a predict answer as JSON.

#include "commands/predict/predict-json.h"

#include "commands/predict/predict-verdict.h"
#include "commands/routing-json.h"
#include "tool/json-values.h"

#include <math.h>
#include <stdlib.h>

// null where too little was judged.
static json_t * json_interval(const struct interval * interval) {
    return isnan(interval->low) ? json_null()
                                : json_pack("{s:f, s:f}", "low", interval->low, "high", interval->high);
}

static json_t * json_budget(const struct predict_answer * answer, enum predict_step step, size_t i_budget,
                            const struct predict_shares * shares) {
    static const char * const keys[] = { "recall", "popularity", "repeat", "control" };
    const size_t n_guesses = answer->n_guesses[i_budget];
    json_t     * budget    = json_object();
    json_t     * intervals = json_object();
    json_object_set_new(budget, "factor",  json_real(recall_factors[i_budget]));
    json_object_set_new(budget, "experts", n_guesses == 0 ? json_null() : json_value_count(n_guesses));
    for (int guess = 0; guess < PREDICT_N_GUESSES; guess++) {
        if (predict_is_asked(step, (enum predict_guess) guess, 0)) {
            json_object_set_new(budget,    keys[guess], json_value_real(shares->shares[guess][i_budget]));
            json_object_set_new(intervals, keys[guess], json_interval(&shares->intervals[guess][i_budget]));
        }
    }
    json_object_set_new(budget, "intervals", intervals);
    return budget;
}

// null where nothing was judged.
static json_t * json_shares(const struct predict_answer * answer, enum predict_step step,
                            const struct predict_shares * shares) {
    if (shares->judged == 0) {
        return json_null();
    }
    json_t * budgets = json_array();
    for (size_t i = 0; i < RECALL_N_BUDGETS; i++) {
        json_array_append_new(budgets, json_budget(answer, step, i, shares));
    }
    return json_pack("{s:o, s:o}", "judged", json_value_count(shares->judged), "budgets", budgets);
}

static json_t * json_target(const struct predict_answer * answer, enum predict_step step,
                            const struct predict_target * targets) {
    const struct predict_shares * phases = targets[step].phases;
    json_t                      * json   = json_shares(answer, step, &targets[step].all);
    if (json_is_object(json) && answer->phases_known) {
        json_object_set_new(json, "prompt",     json_shares(answer, step, &phases[PHASE_PROMPT]));
        json_object_set_new(json, "generation", json_shares(answer, step, &phases[PHASE_GENERATION]));
    } else if (json_is_object(json)) {
        json_object_set_new(json, "prompt",     json_null());
        json_object_set_new(json, "generation", json_null());
    }
    return json;
}

static json_t * json_layers(const struct predict_answer * answer) {
    json_t * array = json_array();
    for (size_t i = 0; i < answer->n_layers; i++) {
        const struct predict_layer * layer = &answer->layers[i];
        json_array_append_new(array, json_pack("{s:i, s:o, s:o}", "layer", (int) layer->layer,
                                               "next_layer", json_target(answer, PREDICT_NEXT_LAYER, layer->targets),
                                               "next_token", json_target(answer, PREDICT_NEXT_TOKEN, layer->targets)));
    }
    return array;
}

static json_t * json_tokens(bool phases_known, const uint64_t * tokens) {
    return json_pack("{s:o, s:o, s:o}", "all", json_value_count(tokens[PHASE_PROMPT] + tokens[PHASE_GENERATION]),
                     "prompt",     phases_known ? json_value_count(tokens[PHASE_PROMPT])     : json_null(),
                     "generation", phases_known ? json_value_count(tokens[PHASE_GENERATION]) : json_null());
}

static const char * const methods[PREDICT_N_METHODS] = {
    [PREDICT_BY_LAYER]      = "learned_from_layer",
    [PREDICT_BY_TOKEN]      = "learned_from_token",
    [PREDICT_BY_REPEAT]     = "repeated",
    [PREDICT_BY_POPULARITY] = "popular",
};

static json_t * json_contender(enum predict_method method, const struct predict_contender * its) {
    static const char * const differences[] = { NULL, "less", "same", "more" };
    return json_pack("{s:s, s:f, s:o, s:s?, s:s?}", "method", methods[method], "share", its->share,
                     "interval", json_interval(&its->interval),
                     "against_popular", differences[its->against_popular],
                     "against_best",    differences[its->against_best]);
}

static json_t * json_contest(const struct predict_answer * answer, const struct predict_contest * contest) {
    static const char * const phases[] = { "prompt", "generation" };
    json_t * its = json_array();
    for (int i = 0; i < PREDICT_N_METHODS; i++) {
        if (!isnan(contest->methods[i].share)) {
            json_array_append_new(its, json_contender((enum predict_method) i, &contest->methods[i]));
        }
    }
    return json_pack("{s:f, s:s?, s:s, s:o}", "factor", recall_factors[contest->i_budget],
                     "phase", answer->phases_known ? phases[answer->main_phase] : NULL, "best", methods[contest->best],
                     "methods", its);
}

static json_t * json_contests(const struct predict_answer * answer) {
    json_t * array = json_array();
    for (size_t i = 0; answer->is_judged && i < PREDICT_N_CONTESTS; i++) {
        json_array_append_new(array, json_contest(answer, &answer->contests[i]));
    }
    return array;
}

json_t * predict_json(const struct predict_answer * answer, const char * path) {
    char   * verdict = predict_verdict(answer);
    json_t * root    = json_object();
    json_object_set_new(root, "llama_expert_tracer_predict", json_integer(1));
    json_object_set_new(root, "file",  json_value_text(path));
    json_object_set_new(root, "model", routing_json_model(&answer->model));
    json_object_set_new(root, "tokens", json_pack("{s:o, s:o}",
                                                  "learned", json_tokens(answer->phases_known, answer->learned),
                                                  "judged",  json_tokens(answer->phases_known, answer->judged)));
    json_object_set_new(root, "next_layer", json_target(answer, PREDICT_NEXT_LAYER, answer->targets));
    json_object_set_new(root, "next_token", json_target(answer, PREDICT_NEXT_TOKEN, answer->targets));
    json_object_set_new(root, "layers",     json_layers(answer));
    json_object_set_new(root, "contests",    json_contests(answer));
    json_object_set_new(root, "more_tokens", json_value_count(answer->more_tokens));
    json_object_set_new(root, "verdict",    json_value_text(verdict));
    free(verdict);
    return root;
}
