// Writes the values of a predict answer as JSON.

#include "commands/predict/predict-json.h"

#include "commands/predict/predict-verdict.h"
#include "commands/routing-json.h"
#include "tool/json-values.h"

#include <stdlib.h>

static json_t * json_budget(const struct predict_answer * answer, enum predict_step step, size_t i_budget,
                            const struct predict_shares * shares) {
    static const char * const keys[] = { "recall", "popularity", "repeat", "control" };
    const size_t n_guesses = answer->n_guesses[i_budget];
    json_t     * budget    = json_object();
    json_object_set_new(budget, "factor",  json_real(recall_factors[i_budget]));
    json_object_set_new(budget, "experts", n_guesses == 0 ? json_null() : json_value_count(n_guesses));
    for (int guess = 0; guess < PREDICT_N_GUESSES; guess++) {
        if (predict_is_asked(step, (enum predict_guess) guess, 0)) {
            json_object_set_new(budget, keys[guess], json_value_real(shares->shares[guess][i_budget]));
        }
    }
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
    json_object_set_new(root, "verdict",    json_value_text(verdict));
    free(verdict);
    return root;
}
