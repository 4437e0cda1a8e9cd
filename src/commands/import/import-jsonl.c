// jsonl: our own, an object for each token with its layers. What is missing or null is not known.

#include "commands/import/import-format.h"

#include "trace/format/trace-format.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct jsonl {
    struct import      * import;
    struct import_ubatch ubatch;
    int32_t              experts[TRACE_USED_MAX];
    float                gates  [TRACE_USED_MAX];
};

static bool recognises(const char * head, size_t size) {
    return import_begins_as(head, size, "{\"ubatch\":");
}

static bool fail(const struct jsonl * jsonl, const char * where, const char * what, struct error * error) {
    return import_input_fail(jsonl->import->input, 0, error, "%s %s", where, what);
}

// `unknown` where there is none; below 0 that is not allowed where it is required.
static bool read_number(const struct jsonl * jsonl, const json_t * object, const char * key, int64_t most,
                        int64_t unknown, int64_t * number, struct error * error) {
    const json_t * json = json_object_get(object, key);
    *number = json_is_integer(json) ? json_integer_value(json) : unknown;
    return ((json == NULL || json_is_null(json)) && *number == unknown)
        || (json_is_integer(json) && *number >= 0 && *number <= most)
        || fail(jsonl, key, "is no whole number, or too large", error);
}

static bool read_small(const struct jsonl * jsonl, const json_t * object, const char * key, int32_t unknown,
                       int32_t * number, struct error * error) {
    int64_t    value;
    const bool ok = read_number(jsonl, object, key, INT32_MAX - 1, unknown, &value, error);
    *number = (int32_t) value;
    return ok;
}

static bool read_flag(const struct jsonl * jsonl, const json_t * object, const char * key, bool * flag,
                      struct error * error) {
    const json_t * json = json_object_get(object, key);
    *flag = json_is_true(json);
    return json == NULL || json_is_null(json) || json_is_boolean(json)
        || fail(jsonl, key, "is not true or false", error);
}

// Of all tokens, or of none.
static bool read_phase(const struct jsonl * jsonl, const json_t * object, bool * generation, struct error * error) {
    const char * text  = json_string_value(json_object_get(object, "phase"));
    const bool   known = import_trace_about(jsonl->import->trace)->phases_known;
    *generation = text != NULL && strcmp(text, "generation") == 0;
    return (known ? *generation || (text != NULL && strcmp(text, "prompt") == 0) : text == NULL)
        || fail(jsonl, "phase", known ? "is not prompt or generation" : "is told, and was not in the first line",
                error);
}

static bool read_token(const struct jsonl * jsonl, const json_t * object, struct expert_tracer_token * token,
                       struct error * error) {
    return read_small(jsonl, object, "sequence", -1, &token->sequence, error)
        && read_small(jsonl, object, "life", 0, &token->life, error)
        && read_small(jsonl, object, "position", -1, &token->position, error)
        && read_small(jsonl, object, "token_id", -1, &token->id, error)
        && read_flag(jsonl, object, "output", &token->output, error)
        && read_phase(jsonl, object, &token->generation, error);
}

//
// layers
//

// Where in the line something is wrong: "layers[3].experts[1]".
static bool fail_at(const struct jsonl * jsonl, size_t layer, const char * key, size_t i, const char * what,
                    struct error * error) {
    return import_input_fail(jsonl->import->input, 0, error, "layers[%zu].%s[%zu]: %.1500s", layer, key, i, what);
}

static bool read_experts(struct jsonl * jsonl, size_t layer, const json_t * array, struct import_row * row,
                         struct error * error) {
    const size_t n = json_array_size(array);
    if (!json_is_array(array) || n > TRACE_USED_MAX) {
        return fail_at(jsonl, layer, "experts", n, "is no array of experts", error);
    }
    for (size_t i = 0; i < n; i++) {
        const json_t * id = json_array_get(array, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= TRACE_EXPERTS_MAX) {
            return fail_at(jsonl, layer, "experts", i, "is no expert", error);
        }
        jsonl->experts[i] = (int32_t) json_integer_value(id);
    }
    row->n_used  = (int32_t) n;
    row->experts = jsonl->experts;
    return true;
}

static bool read_weights(struct jsonl * jsonl, size_t layer, const json_t * array, struct import_row * row,
                         struct error * error) {
    if (array == NULL || json_is_null(array)) {
        return true;
    }
    if (json_array_size(array) != (size_t) row->n_used) {
        return fail_at(jsonl, layer, "weights", json_array_size(array), "is not as long as experts", error);
    }
    for (size_t i = 0; i < (size_t) row->n_used; i++) {
        const json_t * weight = json_array_get(array, i);
        if (!json_is_number(weight) && !json_is_null(weight)) {
            return fail_at(jsonl, layer, "weights", i, "is no number", error);
        }
        jsonl->gates[i] = json_is_null(weight) ? NAN : (float) json_number_value(weight);
    }
    row->gates = jsonl->gates;
    return true;
}

static bool read_layer(struct jsonl * jsonl, int32_t token, size_t i, const json_t * layer, struct error * error) {
    struct import_row row = { .token = token };
    struct error      why;
    int32_t           at;
    int64_t           number;
    if (!read_number(jsonl, layer, "layer", TRACE_LAYERS_MAX - 1, -1, &number, error)
            || (number < 0 && !fail_at(jsonl, i, "layer", 0, "is missing", error))
            || !read_experts(jsonl, i, json_object_get(layer, "experts"), &row, error)
            || !read_weights(jsonl, i, json_object_get(layer, "weights"), &row, error)) {
        return false;
    }
    row.layer = (int32_t) number;
    return import_trace_row(jsonl->import->trace, &row, &at, &why)
        || fail_at(jsonl, i, "experts", (size_t) at, why.text, error);
}

//
// tokens
//

static bool begin(const struct jsonl * jsonl, const json_t * object, struct error * error) {
    struct import_about * about = import_trace_about(jsonl->import->trace);
    about->capture      = "import of jsonl";
    about->phases_known = json_is_string(json_object_get(object, "phase"));
    return import_take_hints(jsonl->import, error);
}

// Goes on in another ubatch where the object is of one.
static bool enter_ubatch(struct jsonl * jsonl, const json_t * object, struct error * error) {
    struct import_ubatch its = { .first_line = jsonl->import->input->number };
    return read_number(jsonl, object, "ubatch", INT64_MAX, -1, &its.number, error)
        && (its.number >= 0 || fail(jsonl, "ubatch", "is missing", error))
        && read_small(jsonl, object, "context", 0, &its.context, error)
        && read_flag(jsonl, object, "warmup", &its.warmup, error)
        && (jsonl->ubatch.first_line > 0 || begin(jsonl, object, error))
        && import_enter_ubatch(jsonl->import, &jsonl->ubatch, &its, error);
}

static bool read_object(struct jsonl * jsonl, const json_t * object, struct error * error) {
    struct import_trace      * trace  = jsonl->import->trace;
    const json_t             * layers = json_object_get(object, "layers");
    struct expert_tracer_token token;
    bool                       rejected;
    if (!enter_ubatch(jsonl, object, error) || !read_token(jsonl, object, &token, error)
            || !read_flag(jsonl, object, "rejected", &rejected, error)) {
        return false;
    }
    if (!json_is_array(layers)) {
        return fail(jsonl, "layers", "is no array", error);
    }
    const int32_t index = import_trace_token(trace, import_trace_tokens(trace), &token);
    if (rejected) {
        import_trace_reject(trace, index);
    }
    bool ok = true;
    for (size_t i = 0; ok && i < json_array_size(layers); i++) {
        ok = read_layer(jsonl, index, i, json_array_get(layers, i), error);
    }
    return ok;
}

static bool read_line(struct jsonl * jsonl, struct error * error) {
    struct import_input * input = jsonl->import->input;
    json_error_t          why;
    json_t              * object = json_loads(input->line, JSON_REJECT_DUPLICATES, &why);
    if (object == NULL) {
        return import_input_fail(input, (size_t) why.column, error, "%s", why.text);
    }
    const bool ok = json_is_object(object) ? read_object(jsonl, object, error)
                                           : import_input_fail(input, 0, error, "is no JSON object");
    json_decref(object);
    return ok;
}

static bool read_lines(struct jsonl * jsonl, struct error * error) {
    struct import_input * input = jsonl->import->input;
    enum import_line      line;
    bool                  ok    = true;
    while (ok && (line = import_input_line(input, error)) != IMPORT_END) {
        ok = line == IMPORT_LINE && (input->line[0] == '\0' || read_line(jsonl, error));
    }
    return ok && import_leave_ubatch(jsonl->import, &jsonl->ubatch, error);
}

// The writer wants to know at the beginning whether there will be token ids and weights.
static bool read(struct import * import, struct error * error) {
    struct jsonl        * jsonl = memory_new(1, sizeof(*jsonl));
    struct import_about * about = import_trace_about(import->trace);
    jsonl->import  = import;
    about->tokens  = import_input_has(import->input, "\"token_id\"");
    about->weights = import_input_has(import->input, "\"weights\"");
    const bool ok = read_lines(jsonl, error) && import_end_trace(import, error);
    free(jsonl);
    return ok;
}

const struct import_format import_jsonl = {
    .name       = "jsonl",
    .recognises = recognises,
    .read       = read,
};
