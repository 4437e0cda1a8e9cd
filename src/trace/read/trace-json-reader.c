// Parses the header, the tables of layers and the end of a trace with jansson.

#include "trace/read/trace-json-reader.h"

#include "trace/format/trace-format.h"

#include <stdlib.h>
#include <string.h>

static json_t * load(const struct trace_buffer * payload) {
    json_error_t error;
    json_t     * json = json_loadb((const char *) payload->data, payload->size, 0, &error);
    if (json != NULL && !json_is_object(json)) {
        json_decref(json);
        return NULL;
    }
    return json;
}

static int64_t number_of(const json_t * object, const char * key, int64_t fallback) {
    const json_t * value = json_object_get(object, key);
    return json_is_integer(value) ? json_integer_value(value) : fallback;
}

static int32_t bounded_number_of(const json_t * object, const char * key, int64_t max) {
    const int64_t value = number_of(object, key, -1);
    return value >= 0 && value <= max ? (int32_t) value : -1;
}

static const char * string_of(const json_t * object, const char * key) {
    return json_string_value(json_object_get(object, key));
}

// A trace that says it was shared is no ordinary one, whatever the size of its windows is said to be.
static int64_t shared_window_of(const json_t * shared) {
    const int64_t window = number_of(shared, "window", 1);
    return shared == NULL || json_is_null(shared) ? 0 : window > 0 ? window : 1;
}

const char * trace_json_read_header(const struct trace_buffer * payload, struct trace_info * info, json_t ** kept) {
    json_t       * header = load(payload);
    const char   * format = string_of(header, "format");
    const json_t * model  = json_object_get(header, "model");
    const json_t * shared = json_object_get(header, "shared");
    const char   * wrong  = NULL;
    if (format == NULL || strcmp(format, TRACE_FORMAT_NAME) != 0) {
        wrong = "the file begins as a routing trace does, but its header is none";
    } else if (number_of(header, "version", TRACE_VERSION) > TRACE_VERSION) {
        wrong = "written by a newer version of llama-expert-tracer: update this one";
    }
    if (wrong != NULL) {
        json_decref(header);
        return wrong;
    }
    info->tracer       = string_of(header, "tracer");
    info->run          = string_of(header, "run");
    info->trace_id     = string_of(header, "trace");
    info->engine       = string_of(header, "engine");
    info->capture      = string_of(header, "capture");
    info->model_name   = string_of(model,  "name");
    info->architecture = string_of(model,  "architecture");
    info->model_file   = string_of(model,  "file");
    info->fingerprint  = string_of(model,  "fingerprint");
    info->pid          = number_of(header, "pid",    -1);
    info->part         = number_of(header, "part",    0);
    info->sample       = number_of(header, "sample",  1);
    info->seed         = number_of(header, "seed",   -1);
    info->shared_window   = shared_window_of(shared);
    info->shared_left_out = number_of(shared, "left_out_tokens", 0);
    info->n_layer      = bounded_number_of(header, "n_layer", INT32_MAX);
    info->phases_known = json_is_true(json_object_get(header, "phases_known"));
    info->has_weights  = json_is_true(json_object_get(header, "weights"));
    info->has_tokens   = json_is_true(json_object_get(header, "tokens"));
    *kept = header;
    return NULL;
}

//
// tables of layers
//

static bool parse_tensors(const json_t * json, struct trace_layer * layer) {
    const size_t          n       = json_array_size(json);
    struct trace_tensor * tensors = calloc(n + 1, sizeof(tensors[0]));
    if (tensors == NULL) {
        return false;
    }
    layer->tensors   = tensors;
    layer->n_tensors = n;
    for (size_t i = 0; i < n; i++) {
        const json_t * tensor = json_array_get(json, i);
        const int64_t  size   = number_of(tensor, "expert_bytes", -1);
        tensors[i] = (struct trace_tensor) { string_of(tensor, "name"), size < 0 ? -1 : size };
        if (tensors[i].name == NULL) {
            return false;
        }
    }
    return true;
}

static bool parse_layer(const json_t * json, struct trace_layer * layer) {
    layer->layer    = bounded_number_of(json, "layer",         INT32_MAX);
    layer->n_expert = bounded_number_of(json, "n_expert",      TRACE_EXPERTS_MAX);
    layer->n_used   = bounded_number_of(json, "n_expert_used", TRACE_USED_MAX);
    return layer->layer >= 0 && layer->n_used >= 1 && layer->n_used <= layer->n_expert &&
           parse_tensors(json_object_get(json, "tensors"), layer);
}

static void free_layers(struct trace_table * table, struct trace_layer * layers) {
    for (size_t i = 0; layers != NULL && i < table->n_layers; i++) {
        free((void *) layers[i].tensors);
    }
    free(layers);
    *table = (struct trace_table) { 0 };
}

static bool parse_table(const json_t * json, struct trace_table * table) {
    const size_t n = json_array_size(json);
    const bool           is_one = json_is_array(json) && n <= TRACE_LAYERS_MAX;
    struct trace_layer * layers = is_one ? calloc(n + 1, sizeof(layers[0])) : NULL;
    bool ok = layers != NULL;
    table->n_layers = n;
    for (size_t i = 0; i < n && ok; i++) {
        ok = parse_layer(json_array_get(json, i), &layers[i]);
    }
    if (!ok) {
        free_layers(table, layers);
        return false;
    }
    table->layers = layers;
    return true;
}

static struct trace_table * table_at(struct trace_tables * tables, size_t number) {
    if (number >= tables->n) {
        if (!trace_array_grow(&tables->tables, &tables->room, number + 1, sizeof(tables->tables[0]))) {
            return NULL;
        }
        memset(tables->tables + tables->n, 0, (number + 1 - tables->n) * sizeof(tables->tables[0]));
        tables->n = number + 1;
    }
    return &tables->tables[number];
}

static bool is_same_table(const struct trace_tables * tables, const json_t * json, int32_t number) {
    size_t   i;
    json_t * kept;
    json_array_foreach(tables->kept, i, kept) {
        if (number_of(kept, "table", -1) == number) {
            return json_equal(kept, json);
        }
    }
    return false;
}

// The first of a number counts. Each part of a trace has them again.
bool trace_json_read_layers(const struct trace_buffer * payload, struct trace_tables * tables) {
    json_t             * json   = load(payload);
    const int32_t        number = bounded_number_of(json, "table", TRACE_TABLES_MAX - 1);
    struct trace_table   parsed = { 0 };
    const bool           is_one = number >= 0 && parse_table(json_object_get(json, "layers"), &parsed);
    struct trace_table * table  = is_one ? table_at(tables, (size_t) number) : NULL;
    if (tables->kept == NULL) {
        tables->kept = json_array();
    }
    const bool is_new = table != NULL && table->layers == NULL && json_array_append(tables->kept, json) == 0;
    if (is_new) {
        *table = parsed;
    } else {
        free_layers(&parsed, (struct trace_layer *) parsed.layers);
    }
    const bool ok = is_new || (table != NULL && is_same_table(tables, json, number));
    json_decref(json);
    return ok;
}

const struct trace_table * trace_tables_find(const struct trace_tables * tables, uint64_t number) {
    return number < tables->n && tables->tables[number].layers != NULL ? &tables->tables[number] : NULL;
}

void trace_tables_free(struct trace_tables * tables) {
    for (size_t i = 0; i < tables->n; i++) {
        free_layers(&tables->tables[i], (struct trace_layer *) tables->tables[i].layers);
    }
    free(tables->tables);
    json_decref(tables->kept);
}

bool trace_json_read_end(const struct trace_buffer * payload, struct trace_end * end) {
    json_t * json = load(payload);
    if (json == NULL) {
        return false;
    }
    end->complete  = json_is_true(json_object_get(json, "complete"));
    end->last_part = !json_is_false(json_object_get(json, "last_part"));
    end->ubatches  = number_of(json, "ubatches", -1);
    const char * stopped = json_string_value(json_object_get(json, "stopped"));
    free(end->stopped);
    end->stopped = stopped != NULL ? strdup(stopped) : NULL;
    json_decref(json);
    return true;
}
