#include "commands/routing-json.h"

#include <math.h>

json_t * routing_json_text(const char * text) {
    json_t * json = text == NULL ? NULL : json_string(text);
    return json == NULL ? json_null() : json;
}

json_t * routing_json_number(int64_t number) {
    return number < 0 ? json_null() : json_integer(number);
}

json_t * routing_json_value(double value) {
    return isnan(value) ? json_null() : json_real(value);
}

json_t * routing_json_counts(const uint64_t * counts, size_t n) {
    if (counts == NULL) {
        return json_null();
    }
    json_t * array = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(array, json_integer((json_int_t) counts[i]));
    }
    return array;
}

json_t * routing_json_model(const struct routing_counts * counts) {
    return json_pack("{s:o, s:o, s:o, s:o}",
                     "name", routing_json_text(counts->model_name), "architecture", routing_json_text(counts->architecture),
                     "file", routing_json_text(counts->model_file), "engine", routing_json_text(counts->engine));
}

json_t * routing_json_tokens(const struct routing_counts * counts) {
    const struct routing_tokens * tokens = &counts->tokens;
    return json_pack("{s:o, s:o, s:o, s:o}", "all", routing_json_number(tokens->all), "prompt", routing_json_number(tokens->prompt),
                     "generation", routing_json_number(tokens->generation), "warmup", routing_json_number(tokens->warmup));
}
