#include "answers/predict-answer.h"

#include "tool/json-values.h"

static json_t * json_count(uint64_t number) {
    return json_integer((json_int_t) number);
}

static json_t * json_budget(enum predict_step step, size_t i_budget, size_t n_guesses, const struct predict_recall * recall) {
    static const char * const keys[] = { "recall", "popularity", "repeat", "control" };
    json_t * budget = json_object();
    json_object_set_new(budget, "factor",  json_real(recall_factors[i_budget]));
    json_object_set_new(budget, "experts", n_guesses == 0 ? json_null() : json_count(n_guesses));
    for (int guess = 0; guess < PREDICT_N_GUESSES; guess++) {
        if (predict_is_asked(step, (enum predict_guess) guess, 0)) {
            const bool known = predict_is_asked(step, (enum predict_guess) guess, i_budget);
            json_object_set_new(budget, keys[guess], known ? json_real(recall_share(&recall->guesses[guess], i_budget)) : json_null());
        }
    }
    return budget;
}

// Null where nothing was judged.
static json_t * json_recall(const struct predict_answer * answer, enum predict_step step, const struct predict_recall * recall) {
    if (!predict_is_judged(recall)) {
        return json_null();
    }
    json_t * budgets = json_array();
    for (size_t i = 0; i < RECALL_N_BUDGETS; i++) {
        json_array_append_new(budgets, json_budget(step, i, predict_answer_budget(answer, i), recall));
    }
    return json_pack("{s:o, s:o}", "judged", json_count(recall->guesses[PREDICT_LEARNED].chosen), "budgets", budgets);
}

static json_t * json_step(const struct predict_answer * answer, enum predict_step step, int layer) {
    const struct predict_recall all        = predict_answer_recall(answer, step, layer, -1);
    const struct predict_recall prompt     = predict_answer_recall(answer, step, layer, PREDICT_PROMPT);
    const struct predict_recall generation = predict_answer_recall(answer, step, layer, PREDICT_GENERATION);
    const bool                  known      = answer->info->phases_known;
    json_t                    * json       = json_recall(answer, step, &all);
    if (json_is_object(json)) {
        json_object_set_new(json, "prompt",     known ? json_recall(answer, step, &prompt)     : json_null());
        json_object_set_new(json, "generation", known ? json_recall(answer, step, &generation) : json_null());
    }
    return json;
}

static json_t * json_layers(const struct predict_answer * answer) {
    json_t * array = json_array();
    for (size_t i = 0; i < answer->shape->n_layers; i++) {
        if (answer->layers[i].is_chosen) {
            json_array_append_new(array, json_pack("{s:i, s:o, s:o}", "layer", (int) answer->shape->layers[i].layer,
                                                   "next_layer", json_step(answer, PREDICT_NEXT_LAYER, (int) i),
                                                   "next_token", json_step(answer, PREDICT_NEXT_TOKEN, (int) i)));
        }
    }
    return array;
}

static json_t * json_tokens(bool phases_known, const uint64_t * tokens) {
    return json_pack("{s:o, s:o, s:o}", "all", json_count(tokens[PREDICT_PROMPT] + tokens[PREDICT_GENERATION]),
                     "prompt",     phases_known ? json_count(tokens[PREDICT_PROMPT])     : json_null(),
                     "generation", phases_known ? json_count(tokens[PREDICT_GENERATION]) : json_null());
}

static json_t * json_model(const struct trace_info * info) {
    return json_pack("{s:o, s:o, s:o, s:o}",
                     "name", json_value_text(info->model_name), "architecture", json_value_text(info->architecture),
                     "file", json_value_text(info->model_file), "engine",       json_value_text(info->engine));
}

json_t * predict_answer_json(const struct predict_answer * answer, const char * path) {
    const struct trace_info * info = answer->info;
    json_t                  * root = json_object();
    json_object_set_new(root, "llama_expert_tracer_predict", json_integer(1));
    json_object_set_new(root, "file",  json_value_text(path));
    json_object_set_new(root, "model", json_model(info));
    json_object_set_new(root, "tokens", json_pack("{s:o, s:o}", "learned", json_tokens(info->phases_known, answer->learned),
                                                  "judged", json_tokens(info->phases_known, answer->judged)));
    json_object_set_new(root, "next_layer", json_step(answer, PREDICT_NEXT_LAYER, -1));
    json_object_set_new(root, "next_token", json_step(answer, PREDICT_NEXT_TOKEN, -1));
    json_object_set_new(root, "layers",     json_layers(answer));
    json_object_set_new(root, "verdict",    json_value_text(answer->verdict));
    return root;
}
