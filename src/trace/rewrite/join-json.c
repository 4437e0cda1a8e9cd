// Merges the JSON of traces that are joined.

#include "trace/rewrite/join-json.h"

#include <inttypes.h>
#include <string.h>

static const char * text_of(const json_t * object, const char * key) {
    const char * text = json_string_value(json_object_get(object, key));
    return text == NULL ? "" : text;
}

int64_t join_json_number(const json_t * object, const char * key) {
    return json_integer_value(json_object_get(object, key));
}

//
// the header
//

static void merge_texts(json_t * sum, const json_t * next, const char * key) {
    const char * a = text_of(sum, key);
    const char * b = text_of(next, key);
    if (*a == '\0' || *b == '\0' || strstr(a, b) != NULL) {
        return;
    }
    json_object_set_new(sum, key, json_sprintf("%s; %s", a, b));
}

static void keep_if_same(json_t * sum, const json_t * next, const char * key) {
    if (!json_equal(json_object_get(sum, key), json_object_get(next, key))) {
        json_object_set_new(sum, key, json_null());
    }
}

static void keep_what_is_known(json_t * sum, const json_t * next, const char * key) {
    if (!json_is_string(json_object_get(sum, key))) {
        json_object_set(sum, key, json_object_get(next, key));
    }
}

static void merge_flag(json_t * sum, const json_t * next, const char * key, bool both) {
    const bool a = json_is_true(json_object_get(sum,  key));
    const bool b = json_is_true(json_object_get(next, key));
    json_object_set_new(sum, key, json_boolean(both ? a && b : a || b));
}

// Windows have at least as many tokens as the smallest has.
static void merge_sharing(json_t * sum, const json_t * next) {
    if (sum == NULL || next == NULL) {
        return;
    }
    if (join_json_number(next, "window") < join_json_number(sum, "window")) {
        json_object_set(sum, "window", json_object_get(next, "window"));
    }
    const int64_t left_out = join_json_number(sum, "left_out_tokens") + join_json_number(next, "left_out_tokens");
    json_object_set_new(sum, "left_out_tokens", json_integer(left_out));
}

static void merge_header(json_t * sum, const json_t * next) {
    json_t       * model = json_object_get(sum,  "model");
    const json_t * other = json_object_get(next, "model");
    keep_if_same(model, other, "name");
    keep_if_same(model, other, "file");
    keep_what_is_known(model, other, "architecture");
    keep_what_is_known(model, other, "fingerprint");
    merge_texts(sum, next, "engine");
    merge_texts(sum, next, "capture");
    merge_sharing(json_object_get(sum, "shared"), json_object_get(next, "shared"));
    merge_flag(sum, next, "phases_known", true);
    merge_flag(sum, next, "weights",      false);
    merge_flag(sum, next, "tokens",       false);
    if (join_json_number(next, "sample") > join_json_number(sum, "sample")) {
        json_object_set(sum, "sample", json_object_get(next, "sample"));
    }
}

// The same of the same traces, and different from each of them.
static json_t * joined_id(const struct join_inputs * inputs) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325); // FNV-1a
    for (size_t i = 0; i < inputs->n; i++) {
        for (const char * c = text_of(inputs->items[i].trace->header, "trace"); ; c++) {
            hash = (hash ^ (unsigned char) *c) * UINT64_C(0x100000001b3);
            if (*c == '\0') {
                break;
            }
        }
    }
    return json_sprintf("joined-%016" PRIx64, hash);
}

static void add_run(json_t * runs, const json_t * header) {
    json_array_append_new(runs, json_sprintf("%s/%" PRId64, text_of(header, "run"), join_json_number(header, "pid")));
}

json_t * join_json_header(const struct join_inputs * inputs) {
    json_t * header = json_deep_copy(inputs->items[0].trace->header);
    json_t * runs   = json_array();
    add_run(runs, header);
    for (size_t i = 1; i < inputs->n; i++) {
        merge_header(header, inputs->items[i].trace->header);
        if (!inputs->items[i].continues) {
            add_run(runs, inputs->items[i].trace->header);
        }
    }
    if (!inputs->is_one) {
        json_object_set_new(header, "trace", joined_id(inputs));
        json_object_set_new(header, "part",  json_integer(0));
        json_object_set    (header, "runs",  runs);
        json_object_del    (header, "seed"); // contexts have other numbers now
    }
    json_decref(runs);
    return header;
}

//
// the end
//

// With nothing but why it stopped, if it did. NULL where it did not.
static json_t * stopped_of(const json_t * end) {
    json_t * reason = json_object_get(end, "stopped");
    return json_is_string(reason) ? json_pack("{s:O}", "stopped", reason) : NULL;
}

json_t * join_json_end(const struct join_inputs * inputs, const json_t * totals) {
    const json_t * last     = inputs->items[inputs->n - 1].end;
    bool           complete = true;
    for (size_t i = 0; i < inputs->n; i++) {
        const json_t * end = inputs->items[i].end;
        if (join_inputs_is_last(inputs, i) && end == NULL) {
            return NULL;
        }
        complete = complete && (!join_inputs_is_last(inputs, i) ||
                   json_is_true(json_object_get(end, "complete")));
    }
    if (inputs->is_one) {
        return json_deep_copy(last);
    }
    json_t * end = json_deep_copy(totals);
    json_object_set_new(end, "complete",  json_boolean(complete));
    json_object_set_new(end, "last_part", json_boolean(!json_is_false(json_object_get(last, "last_part"))));
    for (size_t i = 0; i < inputs->n && !complete; i++) {
        json_t * stopped = stopped_of(inputs->items[i].end);
        json_object_update_missing(end, stopped);
        json_decref(stopped);
    }
    return end;
}
