// The statistics file's JSON, read with every check that a stranger's file needs, and written.

#include "statistics/statistics-json.h"

#include "analysis/counts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT  "llama-expert-tracer-statistics"
#define VERSION 1

#define ORIGIN "give a file written by `llama-expert-tracer run -o FILE` (LLAMA_EXPERT_TRACE_OUTPUT)"

struct reading {
    const char        * path;
    struct statistics * statistics;
    struct error      * error;
};

static const char * type_name(const json_t * json) {
    switch (json_typeof(json)) {
        case JSON_OBJECT:  return "an object";
        case JSON_ARRAY:   return "an array";
        case JSON_STRING:  return "a string";
        case JSON_INTEGER: return "an integer";
        case JSON_REAL:    return "a number with a fraction";
        case JSON_TRUE:
        case JSON_FALSE:   return "a boolean";
        case JSON_NULL:    return "null";
    }
    return "something else";
}

static bool wrong_type(struct reading * reading, const char * where, const char * expected, const json_t * json) {
    return error_set(reading->error,
                     "%s: %s is %s where %s belongs: the file was changed or is no statistics file; " ORIGIN,
                     reading->path, where, type_name(json), expected);
}

//
// values
//

static bool read_count(struct reading * reading, const char * where, const json_t * json, int64_t * value) {
    if (!json_is_integer(json)) {
        return wrong_type(reading, where, "a count", json);
    }
    if (json_integer_value(json) < 0) {
        return error_set(reading->error,
                         "%s: %s is %lld, and nothing can be counted less than 0 times: the file is damaged",
                         reading->path, where, (long long) json_integer_value(json));
    }
    *value = json_integer_value(json);
    return true;
}

// Absent and null are the same: not known.
static bool read_number(struct reading * reading, const json_t * object, const char * key, int64_t * value) {
    const json_t * json = json_object_get(object, key);
    return json == NULL || json_is_null(json) || read_count(reading, key, json, value);
}

static bool read_text(struct reading * reading, const json_t * object, const char * key, char ** value) {
    const json_t * json = json_object_get(object, key);
    if (json == NULL || json_is_null(json)) {
        return true;
    }
    if (!json_is_string(json)) {
        return wrong_type(reading, key, "a string", json);
    }
    *value = memory_text("%s", json_string_value(json));
    return true;
}

static bool read_complete(struct reading * reading, const json_t * root) {
    const json_t * json = json_object_get(root, "complete");
    if (json == NULL || json_is_null(json)) {
        return true;
    }
    reading->statistics->complete = json_is_true(json);
    return json_is_boolean(json) || wrong_type(reading, "complete", "true or false", json);
}

// Where it is not told nothing is lost.
static bool read_missing(struct reading * reading, const json_t * root) {
    struct statistics * statistics = reading->statistics;
    const json_t      * lost       = json_object_get(root, "lost");
    if (lost != NULL && !json_is_object(lost)) {
        return wrong_type(reading, "lost", "an object", lost);
    }
    return read_text(reading, root, "stopped", &statistics->stopped)
        && (lost == NULL || (read_number(reading, lost, "ubatches", &statistics->lost_ubatches)
                          && read_number(reading, lost, "tokens",   &statistics->lost_tokens)
                          && read_text  (reading, lost, "reason",   &statistics->lost_reason)));
}

static void add_run(struct statistics * statistics, char * run) {
    statistics->runs = memory_resize(statistics->runs, statistics->n_runs + 1, sizeof(*statistics->runs));
    statistics->runs[statistics->n_runs++] = run;
}

// The processes of one run share its name: "run/pid" is one of them.
static char * process_of(const char * run, int64_t pid) {
    return pid < 0 ? memory_text("%s", run) : memory_text("%s/%lld", run, (long long) pid);
}

// "run" and "pid" of one process, "runs" of those that were merged.
static bool read_runs(struct reading * reading, const json_t * root) {
    const json_t * run  = json_object_get(root, "run");
    const json_t * runs = json_object_get(root, "runs");
    int64_t        pid  = STATISTICS_UNKNOWN;
    if (!read_number(reading, root, "pid", &pid)) {
        return false;
    }
    if (json_is_string(run)) {
        add_run(reading->statistics, process_of(json_string_value(run), pid));
    } else if (run != NULL && !json_is_null(run)) {
        return wrong_type(reading, "run", "a string", run);
    }
    if (runs != NULL && !json_is_null(runs) && !json_is_array(runs)) {
        return wrong_type(reading, "runs", "an array", runs);
    }
    for (size_t i = 0; i < json_array_size(runs); i++) {
        const json_t * item = json_array_get(runs, i);
        if (!json_is_string(item)) {
            return wrong_type(reading, "an element of runs", "a string", item);
        }
        add_run(reading->statistics, memory_text("%s", json_string_value(item)));
    }
    return true;
}

//
// maps of ids
//

// Ids are written as they are counted: "7", not "07" or "+7".
static bool read_id(struct reading * reading, const char * where, const char * text, uint32_t limit, uint32_t * id) {
    size_t   length = 0;
    uint64_t value  = 0;
    while (text[length] >= '0' && text[length] <= '9' && length < 10) {
        value = value * 10 + (uint64_t) (text[length++] - '0');
    }
    const bool is_number = length > 0 && text[length] == '\0' && (length == 1 || text[0] != '0');
    if (!is_number) {
        return error_set(reading->error, "%s: \"%s\" in %s is no number of an expert or layer: the file was changed "
                                         "or is no statistics file; " ORIGIN,
                         reading->path, text, where);
    }
    if (value >= limit) {
        return error_set(reading->error,
                         "%s: \"%s\" in %s is beyond what this version can read (%u): the file is damaged",
                         reading->path, text, where, (unsigned) limit);
    }
    *id = (uint32_t) value;
    return true;
}

// The object under the key into `map`, NULL where there is none.
static bool find_map(struct reading * reading, const json_t * object, const char * key, const json_t ** map) {
    *map = json_object_get(object, key);
    if (json_is_null(*map)) {
        *map = NULL;
    }
    return *map == NULL || json_is_object(*map) || wrong_type(reading, key, "an object", *map);
}

static bool read_values(struct reading * reading, const json_t * object, const char * key,
                        struct statistics_values * values) {
    const json_t * map;
    if (!find_map(reading, object, key, &map)) {
        return false;
    }
    values->known = map != NULL;

    const char * text;
    json_t     * item;
    json_object_foreach((json_t *) map, text, item) {
        char     where[160];
        uint32_t layer;
        int64_t  value = STATISTICS_UNKNOWN;
        snprintf(where, sizeof(where), "%s of layer %s", key, text);
        if (!read_id(reading, key, text, STATISTICS_MAX_LAYERS, &layer)) {
            return false;
        }
        if (!json_is_null(item) && !read_count(reading, where, item, &value)) {
            return false;
        }
        *statistics_values_at(values, layer) = value;
    }
    return true;
}

// Experts of a map are one more than the highest id.
static bool count_experts(struct reading * reading, const char * where, const json_t * map, size_t * n_expert) {
    const char * text;
    json_t     * item;
    json_object_foreach((json_t *) map, text, item) {
        uint32_t id;
        if (!read_id(reading, where, text, STATISTICS_MAX_EXPERTS, &id)) {
            return false;
        }
        *n_expert = id >= *n_expert ? (size_t) id + 1 : *n_expert;
    }
    return true;
}

static bool read_experts(struct reading * reading, const char * where, const json_t * map, size_t n_expert,
                         uint64_t * activations) {
    uint64_t     total = 0;
    const char * text;
    json_t     * item;
    json_object_foreach((json_t *) map, text, item) {
        char     what[160];
        uint32_t id;
        int64_t  count = 0;
        snprintf(what, sizeof(what), "expert %s of %s", text, where);
        if (!read_id(reading, where, text, (uint32_t) n_expert, &id) || !read_count(reading, what, item, &count)) {
            return false;
        }
        activations[id] = (uint64_t) count;
        if (!counts_add(&total, activations[id])) {
            return error_set(reading->error, "%s: %s adds up to more than 2^63 - 1: the file is damaged", reading->path,
                             where);
        }
    }
    return true;
}

//
// sections
//

static bool read_layers(struct reading * reading, const json_t * map, struct statistics_section * section) {
    const char * text;
    json_t     * experts;
    json_object_foreach((json_t *) map, text, experts) {
        char     where[160];
        uint32_t layer;
        snprintf(where, sizeof(where), "layer %s of per_layer", text);
        if (!read_id(reading, "per_layer", text, STATISTICS_MAX_LAYERS, &layer)) {
            return false;
        }
        if (!read_experts(reading, where, experts, section->n_expert,
                          statistics_layers_at(&section->per_layer, layer, section->n_expert))) {
            return false;
        }
    }
    return true;
}

// Experts of the whole section, in whatever part of it.
static bool survey(struct reading * reading, const json_t * experts, const json_t * layers, size_t * n_expert) {
    if (!count_experts(reading, "expert_activations", experts, n_expert)) {
        return false;
    }
    const char * text;
    json_t     * map;
    json_object_foreach((json_t *) layers, text, map) {
        char where[160];
        snprintf(where, sizeof(where), "layer %s of per_layer", text);
        if (!json_is_object(map)) {
            return wrong_type(reading, where, "an object", map);
        }
        if (!count_experts(reading, where, map, n_expert)) {
            return false;
        }
    }
    return true;
}

static void warn_of_other_total(struct reading * reading, const json_t * object, uint64_t total) {
    const json_t * stated = json_object_get(object, "total_activations");
    if (json_is_integer(stated) && (uint64_t) json_integer_value(stated) != total) {
        error_warning("%s: total_activations is %lld, but expert_activations add up to %llu, which is used: was the "
                      "file changed?",
                      reading->path, (long long) json_integer_value(stated), (unsigned long long) total);
    }
}

static void warn_of_other_layers(struct reading * reading, const struct statistics_section * section) {
    for (size_t expert = 0; section->per_layer.known && expert < section->n_expert; expert++) {
        uint64_t sum = 0;
        for (size_t i = 0; i < section->per_layer.n; i++) {
            sum += section->per_layer.activations[i][expert];
        }
        if (sum != section->activations[expert]) {
            error_warning("%s: expert %zu has %llu activations, but %llu in all layers of per_layer: was the file "
                          "changed?", reading->path,
                          expert, (unsigned long long) section->activations[expert], (unsigned long long) sum);
            return;
        }
    }
}

// What can be read, but does not add up, is worth a word.
static void warn_of_differences(struct reading * reading, const json_t * root) {
    const struct statistics * statistics = reading->statistics;
    warn_of_other_total (reading, root, statistics->model.total_activations);
    warn_of_other_layers(reading, &statistics->model);
    if (statistics->has_mtp) {
        warn_of_other_total (reading, json_object_get(root, "mtp"), statistics->mtp.total_activations);
        warn_of_other_layers(reading, &statistics->mtp);
    }
}

static bool read_section(struct reading * reading, const json_t * object, struct statistics_section * section,
                         size_t n_expert) {
    const json_t * experts;
    const json_t * layers;
    if (!find_map(reading, object, "expert_activations", &experts)
        || !find_map(reading, object, "per_layer", &layers)) {
        return false;
    }
    if (!survey(reading, experts, layers, &n_expert)) {
        return false;
    }
    section->n_expert        = n_expert;
    section->activations     = memory_new(n_expert, sizeof(*section->activations));
    section->per_layer.known = layers != NULL;
    if (!read_experts(reading, "expert_activations", experts, n_expert, section->activations)
            || !read_layers(reading, layers, section)
            || !read_values(reading, object, "layer_tokens", &section->layer_tokens)
            || !read_number(reading, object, "total_tokens", &section->total_tokens)) {
        return false;
    }
    section->total_activations = counts_sum(section->activations, n_expert);
    return true;
}

static bool read_mtp(struct reading * reading, const json_t * root) {
    const json_t * mtp;
    if (!find_map(reading, root, "mtp", &mtp)) {
        return false;
    }
    reading->statistics->has_mtp = mtp != NULL;
    return mtp == NULL || read_section(reading, mtp, &reading->statistics->mtp, 0);
}

//
// the whole
//

static bool check_format(struct reading * reading, const json_t * root) {
    if (!json_is_object(root)) {
        return error_set(reading->error, "%s: JSON, but %s and not the object that statistics are; " ORIGIN,
                         reading->path, type_name(root));
    }
    const json_t * format  = json_object_get(root, "format");
    const json_t * version = json_object_get(root, "version");
    if (format != NULL && (!json_is_string(format) || strcmp(json_string_value(format), FORMAT) != 0)) {
        return error_set(reading->error, "%s: JSON of something else (\"format\" is %s); " ORIGIN, reading->path,
                         json_is_string(format) ? json_string_value(format) : type_name(format));
    }
    if (format != NULL && json_is_integer(version) && json_integer_value(version) > VERSION) {
        return error_set(reading->error,
                         "%s: version %lld of the format, and this program reads up to %d: update llama-expert-tracer",
                         reading->path, (long long) json_integer_value(version), VERSION);
    }
    static const char * const needed[] = { "total_tokens", "expert_activations" };
    for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
        if (json_object_get(root, needed[i]) == NULL) {
            return error_set(reading->error, "%s: JSON without \"%s\": of something else, or cut down; " ORIGIN,
                             reading->path, needed[i]);
        }
    }
    if (!json_is_object(json_object_get(root, "expert_activations"))) {
        return wrong_type(reading, "expert_activations", "an object", json_object_get(root, "expert_activations"));
    }
    return true;
}

static bool read_model(struct reading * reading, const json_t * root) {
    const json_t * model;
    return find_map (reading, root,  "model",        &model)
        && read_text(reading, model, "name",         &reading->statistics->name)
        && read_text(reading, model, "architecture", &reading->statistics->architecture)
        && read_text(reading, model, "file",         &reading->statistics->file);
}

static bool check_n_expert(struct reading * reading) {
    const struct statistics * statistics = reading->statistics;
    if (statistics->n_expert > STATISTICS_MAX_EXPERTS) {
        return error_set(reading->error,
                         "%s: n_expert is %lld, more than this version can read (%d): the file is damaged",
                         reading->path, (long long) statistics->n_expert, STATISTICS_MAX_EXPERTS);
    }
    return true;
}

static bool check_ids(struct reading * reading) {
    const struct statistics * statistics = reading->statistics;
    if (statistics->n_expert >= 0 && statistics->model.n_expert > (size_t) statistics->n_expert) {
        return error_set(reading->error, "%s: expert %zu is counted, but n_expert is %lld: the file is damaged",
                         reading->path, statistics->model.n_expert - 1, (long long) statistics->n_expert);
    }
    return true;
}

static bool read_root(struct reading * reading, const json_t * root) {
    struct statistics * statistics = reading->statistics;
    return check_format (reading, root)
        && read_complete(reading, root)
        && read_missing (reading, root)
        && read_runs    (reading, root)
        && read_model   (reading, root)
        && read_text    (reading, root, "engine",            &statistics->engine)
        && read_text    (reading, root, "capture",           &statistics->capture)
        && read_number  (reading, root, "n_layer",           &statistics->n_layer)
        && read_number  (reading, root, "n_expert",          &statistics->n_expert)
        && read_number  (reading, root, "n_expert_used",     &statistics->n_expert_used)
        && read_number  (reading, root, "prompt_tokens",     &statistics->prompt_tokens)
        && read_number  (reading, root, "generation_tokens", &statistics->generation_tokens)
        && read_number  (reading, root, "warmup_tokens",     &statistics->warmup_tokens)
        && read_values  (reading, root, "n_expert_per_layer",      &statistics->n_expert_per_layer)
        && read_values  (reading, root, "n_expert_used_per_layer", &statistics->n_expert_used_per_layer)
        && check_n_expert(reading)
        && read_section (reading, root, &statistics->model,
                         statistics->n_expert < 0 ? 0 : (size_t) statistics->n_expert)
        && check_ids    (reading)
        && read_mtp     (reading, root);
}

static bool looks_binary(const char * text, size_t size) {
    return memchr(text, '\0', size) != NULL;
}

static bool say_syntax(struct reading * reading, const char * text, size_t size, const json_error_t * syntax) {
    if (looks_binary(text, size)) {
        return error_set(reading->error, "%s: a binary file, neither JSON nor GGUF (an imatrix in the old .dat "
                                         "format has no counts of experts); " ORIGIN,
                         reading->path);
    }
    const bool cut = json_error_code(syntax) == json_error_premature_end_of_input;
    return error_set(reading->error, "%s:%d:%d: not valid JSON: %s%s", reading->path, syntax->line, syntax->column,
                     syntax->text,
                     cut ? ": the file is truncated, its end is missing; take the whole file, or run again"
                     : "; " ORIGIN);
}

struct statistics * statistics_json_parse(const char * path, const char * text, size_t size, struct error * error) {
    struct reading reading = { path, statistics_new(path), error };
    json_error_t   syntax;
    json_t       * root = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &syntax);

    if (root == NULL ? !say_syntax(&reading, text, size, &syntax) : !read_root(&reading, root)) {
        statistics_free(reading.statistics);
        reading.statistics = NULL;
    } else {
        warn_of_differences(&reading, root);
    }
    json_decref(root);
    return reading.statistics;
}

//
// writing
//

static json_t * text_or_null(const char * text) {
    return text == NULL || *text == '\0' ? json_null() : json_string(text);
}

static json_t * number_or_null(int64_t value) {
    return value < 0 ? json_null() : json_integer(value);
}

static void set_at(json_t * map, size_t id, json_t * value) {
    char key[32];
    snprintf(key, sizeof(key), "%zu", id);
    json_object_set_new(map, key, value);
}

static json_t * values_of(const struct statistics_values * values) {
    json_t * map = json_object();
    for (size_t i = 0; i < values->n; i++) {
        set_at(map, values->layers[i], number_or_null(values->values[i]));
    }
    return map;
}

static json_t * experts_of(const uint64_t * activations, size_t n) {
    json_t * map = json_object();
    for (size_t i = 0; i < n; i++) {
        set_at(map, i, json_integer((json_int_t) activations[i]));
    }
    return map;
}

static json_t * per_layer_of(const struct statistics * statistics, const struct statistics_section * section) {
    json_t * map = json_object();
    for (size_t i = 0; i < section->per_layer.n; i++) {
        const uint32_t layer = section->per_layer.layers[i];
        set_at(map, layer, experts_of(section->per_layer.activations[i],
                                      statistics_n_expert(statistics, section, layer)));
    }
    return map;
}

static void set_section(json_t * object, const struct statistics * statistics,
                        const struct statistics_section * section) {
    json_object_set_new(object, "total_activations", json_integer((json_int_t) section->total_activations));
    if (section->layer_tokens.known) {
        json_object_set_new(object, "layer_tokens", values_of(&section->layer_tokens));
    }
    json_object_set_new(object, "expert_activations", experts_of(section->activations, section->n_expert));
    if (section->per_layer.known) {
        json_object_set_new(object, "per_layer", per_layer_of(statistics, section));
    }
}

// "run/pid" as it was read: "run", and "pid" where there is one.
static void set_run(json_t * root, const char * process) {
    const char * slash   = strrchr(process, '/');
    const bool   has_pid = slash != NULL && slash[1] != '\0' && strlen(slash) < 12
        && strspn(slash + 1, "0123456789") == strlen(slash + 1);
    json_object_set_new(root, "run", json_stringn(process, has_pid ? (size_t) (slash - process) : strlen(process)));
    if (has_pid) {
        json_object_set_new(root, "pid", json_integer(strtoll(slash + 1, NULL, 10)));
    }
}

static void set_runs(json_t * root, const struct statistics * statistics) {
    if (statistics->n_runs == 1) {
        set_run(root, statistics->runs[0]);
        return;
    }
    json_t * runs = json_array();
    for (size_t i = 0; i < statistics->n_runs; i++) {
        json_array_append_new(runs, json_string(statistics->runs[i]));
    }
    json_object_set_new(root, "runs", runs);
}

json_t * statistics_json_of(const struct statistics * statistics) {
    json_t * model = json_object();
    json_object_set_new(model, "name",         text_or_null(statistics->name));
    json_object_set_new(model, "architecture", text_or_null(statistics->architecture));
    json_object_set_new(model, "file",         text_or_null(statistics->file));

    json_t * root = json_object();
    json_object_set_new(root, "format",            json_string(FORMAT));
    json_object_set_new(root, "version",           json_integer(VERSION));
    json_object_set_new(root, "complete",
                        statistics->complete < 0 ? json_null() : json_boolean(statistics->complete));
    if (statistics->stopped != NULL) {
        json_object_set_new(root, "stopped", json_string(statistics->stopped));
    }
    if (statistics->lost_ubatches > 0) {
        json_object_set_new(root, "lost", json_pack("{s:I, s:I, s:o}", "ubatches",
                                                    (json_int_t) statistics->lost_ubatches, "tokens",
                                                    (json_int_t) statistics->lost_tokens, "reason",
                                                    text_or_null(statistics->lost_reason)));
    }
    set_runs(root, statistics);
    json_object_set_new(root, "engine",            text_or_null(statistics->engine));
    json_object_set_new(root, "capture",           text_or_null(statistics->capture));
    json_object_set_new(root, "model",             model);
    json_object_set_new(root, "n_layer",           number_or_null(statistics->n_layer));
    json_object_set_new(root, "n_expert",          number_or_null(statistics->n_expert));
    json_object_set_new(root, "n_expert_used",     number_or_null(statistics->n_expert_used));
    json_object_set_new(root, "total_tokens",      number_or_null(statistics->model.total_tokens));
    json_object_set_new(root, "prompt_tokens",     number_or_null(statistics->prompt_tokens));
    json_object_set_new(root, "generation_tokens", number_or_null(statistics->generation_tokens));
    json_object_set_new(root, "warmup_tokens",     number_or_null(statistics->warmup_tokens));
    set_section(root, statistics, &statistics->model);
    if (statistics->n_expert_per_layer.known) {
        json_object_set_new(root, "n_expert_per_layer", values_of(&statistics->n_expert_per_layer));
    }
    if (statistics->n_expert_used_per_layer.known) {
        json_object_set_new(root, "n_expert_used_per_layer", values_of(&statistics->n_expert_used_per_layer));
    }
    if (statistics->has_mtp) {
        json_t * mtp = json_object();
        json_object_set_new(mtp, "total_tokens", number_or_null(statistics->mtp.total_tokens));
        set_section(mtp, statistics, &statistics->mtp);
        json_object_set_new(root, "mtp", mtp);
    }
    return root;
}

json_t * statistics_json_summary(const struct statistics_section * section) {
    const size_t n_tenth = counts_tenth(section->n_expert);
    const double entropy = counts_entropy(section->activations, section->n_expert);

    json_t * summary = json_object();
    json_object_set_new(summary, "experts_unused",
                        json_integer((json_int_t) counts_unused(section->activations, section->n_expert)));
    json_object_set_new(summary, "hottest_tenth",        json_integer((json_int_t) n_tenth));
    json_object_set_new(summary, "hottest_tenth_share",
                        json_real(counts_share_of_hottest(section->activations, section->n_expert, n_tenth)));
    json_object_set_new(summary, "entropy",              isnan(entropy) ? json_null() : json_real(entropy));
    return summary;
}
