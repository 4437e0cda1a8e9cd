// Writes the model that an answer is about, and how many tokens it is of.

#include "commands/routing-json.h"

#include "tool/json-values.h"

json_t * routing_json_model(const struct answer_model * model) {
    return json_pack("{s:o, s:o, s:o, s:o}",
                     "name", json_value_text(model->name), "architecture", json_value_text(model->architecture),
                     "file", json_value_text(model->file), "engine",       json_value_text(model->engine));
}

json_t * routing_json_tokens(const struct routing_tokens * tokens) {
    return json_pack("{s:o, s:o, s:o, s:o}",
                     "all",        json_value_number(tokens->all),        "prompt", json_value_number(tokens->prompt),
                     "generation", json_value_number(tokens->generation), "warmup", json_value_number(tokens->warmup));
}
