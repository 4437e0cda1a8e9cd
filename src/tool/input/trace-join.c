#include "tool/input/trace-join.h"

#include "tool/input/trace-input.h"
#include "tool/output-file.h"
#include "tool/progress.h"
#include "trace/read/trace-index.h"
#include "trace/read/trace-records.h"
#include "trace/rewrite/chunk-output.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

struct input {
    const char   * path;
    struct trace * trace;
    json_t       * end;       // NULL: the program still runs, or was killed
    uint64_t       first;     // number of its first ubatch
    bool           continues; // the trace of the input before
};

struct trace_join {
    struct input      * inputs;
    size_t              n_inputs;
    bool                is_one;       // trace, which keeps its numbers
    struct chunk_output out;
    struct trace_buffer payload;
    struct trace_parts  parts;
    struct trace_buffer changed;
    json_t            * tables;       // in the result
    json_t            * places;       // of the input's tables in `tables`, by number
    uint64_t            first;        // of the trace's ubatches
    uint64_t            shifted;      // what its number becomes
    uint64_t            next;         // number of a ubatch, in the result
    uint64_t            context;      // what the trace's context 0 becomes
    uint64_t            next_context;
    uint64_t            ubatches;     // of the trace, copied
    uint64_t            tokens;
    struct trace_gaps   gaps;         // likewise
    json_t            * totals;       // of the traces before
    bool                lost;
};

//
// opening
//

static const char * text_of(const json_t * object, const char * key) {
    const char * text = json_string_value(json_object_get(object, key));
    return text == NULL ? "" : text;
}

static int64_t number_of(const json_t * object, const char * key) {
    return json_integer_value(json_object_get(object, key));
}

// The last chunk of a kind as JSON, NULL: there is none.
static json_t * find_json(const struct trace * trace, enum trace_chunk_kind kind) {
    struct chunk_walk   walk    = { .source = &trace->source };
    struct trace_buffer payload = { 0 };
    struct trace_chunk  chunk;
    json_t            * json    = NULL;
    bool                all     = true; // of what was gone through when it was opened
    while (chunk_walk_next(&walk, &chunk)) {
        all = all && (chunk.header.kind != TRACE_CHUNK_HEADER || chunk.header.number == 0);
        if (chunk.header.kind == kind && trace_read(trace, &chunk, &payload)) {
            json_decref(json);
            json = json_loadb((const char *) payload.data, payload.size, 0, NULL);
        }
    }
    if (all) {
        trace_compare_walk(trace, &walk);
    }
    trace_buffer_free(&payload);
    return json;
}

static bool open_input(struct input * input, const char * path, struct error * error) {
    char why[TRACE_ERROR_MAX];
    output_file_protect(path);
    input->path  = path;
    input->trace = trace_open(path, why);
    if (input->trace == NULL) {
        return error_set(error, "%s", why);
    }
    const bool begins_later = input->trace->info.part > 0 && input->trace->n_chunks > 0;
    input->first = begins_later ? input->trace->chunks[0].header.first : 0;
    input->end   = find_json(input->trace, TRACE_CHUNK_END);
    return true;
}

//
// what fits together
//

struct differences {
    char * text;
    bool   any;
};

static void add_difference(struct differences * differences, char * line) {
    differences->text = memory_append(differences->text, memory_text("%s", differences->any ? "; " : ""));
    differences->text = memory_append(differences->text, line);
    differences->any  = true;
}

static void compare_texts(struct differences * differences, const char * key, const char * a, const char * b) {
    if (a != NULL && b != NULL && strcmp(a, b) != 0) {
        add_difference(differences, memory_text("%s: %.200s and %.200s", key, a, b));
    }
}

static const struct trace_layer * find_layer(const struct trace_info * info, int32_t number) {
    const struct trace_layer * layer = NULL;
    for (size_t i = 0; layer == NULL && i < info->n_tables; i++) {
        layer = trace_input_layer(&info->tables[i], number);
    }
    return layer;
}

static void compare_layer(struct differences * differences, const struct trace_layer * a, const struct trace_layer * b) {
    if (b != NULL && !differences->any && (a->n_expert != b->n_expert || a->n_used != b->n_used)) {
        add_difference(differences, memory_text("layer %d has %d experts, %d used, and %d, %d used", (int) a->layer,
                                                (int) a->n_expert, (int) a->n_used, (int) b->n_expert, (int) b->n_used));
    }
}

static void compare_layers(struct differences * differences, const struct trace_info * a, const struct trace_info * b) {
    for (size_t i = 0; i < a->n_tables; i++) {
        for (size_t k = 0; k < a->tables[i].n_layers; k++) {
            compare_layer(differences, &a->tables[i].layers[k], find_layer(b, a->tables[i].layers[k].layer));
        }
    }
}

static bool check_same_model(const struct input * a, const struct input * b, struct error * error) {
    const struct trace_info * x           = &a->trace->info;
    const struct trace_info * y           = &b->trace->info;
    struct differences        differences = { memory_text("%s", ""), false };
    compare_texts(&differences, "fingerprint",  x->fingerprint,  y->fingerprint);
    compare_texts(&differences, "architecture", x->architecture, y->architecture);
    if (x->n_layer != y->n_layer) {
        add_difference(&differences, memory_text("layers: %d and %d", (int) x->n_layer, (int) y->n_layer));
    }
    compare_layers(&differences, x, y);
    if (differences.any) {
        error_set(error, "%s and %s are not of the same model: %s", trace_input_name(a->path), trace_input_name(b->path),
            differences.text);
    }
    free(differences.text);
    return !differences.any;
}

static bool is_same_trace(const struct input * a, const struct input * b) {
    const char * x = a->trace->info.trace_id;
    const char * y = b->trace->info.trace_id;
    return x != NULL && y != NULL && strcmp(x, y) == 0;
}

static bool wrong_place(const struct input * a, const struct input * b, struct error * error) {
    const int64_t x = a->trace->info.part;
    const int64_t y = b->trace->info.part;
    if (x == y) {
        return error_set(error, "%s is the same part of the same trace as %s: leave one out", b->path, a->path);
    }
    return error_set(error, "%s is part %" PRId64 " of the same trace as %s, which is part %" PRId64 ": give the parts in order, one after the other",
                     b->path, y, a->path, x);
}

// What is joined has one header, which says of all of it whether it was made to be shared.
static bool check_sharing(const struct input * a, const struct input * b, struct error * error) {
    const bool x = a->trace->info.shared_window > 0;
    const bool y = b->trace->info.shared_window > 0;
    return x == y || error_set(error, "%s was made by `pack --share` and %s was not: join what they were made of, and "
                                      "share the result", x ? a->path : b->path, x ? b->path : a->path);
}

// Where an input is in the order of what was given before it.
static bool check_place(struct trace_join * join, size_t i, struct error * error) {
    struct input * input = &join->inputs[i];
    for (size_t k = 0; k < i; k++) {
        const struct input * before  = &join->inputs[k];
        const bool           behind  = input->trace->info.part > before->trace->info.part;
        const bool           is_next = is_same_trace(before, &join->inputs[i - 1]);
        if (is_same_trace(before, input) && (!behind || !is_next)) {
            return wrong_place(before, input, error);
        }
    }
    input->continues = i > 0 && is_same_trace(&join->inputs[i - 1], input);
    if (input->continues && input->trace->info.part > join->inputs[i - 1].trace->info.part + 1) {
        error_warning("parts of the trace between %s and %s are missing", join->inputs[i - 1].path, input->path);
    }
    join->is_one = join->is_one && (i == 0 || input->continues);
    const struct input * first = &join->inputs[0];
    return i == 0 || (check_sharing(first, input, error) && check_same_model(first, input, error));
}

struct trace_join * trace_join_open(char ** paths, size_t n, struct error * error) {
    struct trace_join * join = memory_new(1, sizeof(*join));
    join->inputs = memory_new(n, sizeof(*join->inputs));
    join->tables = json_array();
    join->totals = json_object();
    join->is_one = true;
    for (size_t i = 0; i < n; i++) {
        join->n_inputs = i + 1;
        if (!open_input(&join->inputs[i], paths[i], error) || !check_place(join, i, error)) {
            trace_join_close(join);
            return NULL;
        }
    }
    return join;
}

void trace_join_close(struct trace_join * join) {
    for (size_t i = 0; i < join->n_inputs; i++) {
        if (join->inputs[i].trace != NULL) {
            trace_close(join->inputs[i].trace);
        }
        json_decref(join->inputs[i].end);
    }
    trace_parts_free (&join->parts);
    trace_buffer_free(&join->payload);
    trace_buffer_free(&join->changed);
    json_decref(join->tables);
    json_decref(join->places);
    json_decref(join->totals);
    free(join->inputs);
    free(join);
}

//
// writing chunks
//

static void * enough(void * memory) {
    if (memory == NULL) {
        error_say("out of memory");
        exit(STATUS_FAILED);
    }
    return memory;
}

static void write_json(struct trace_join * join, enum trace_chunk_kind kind, int64_t time, const json_t * json) {
    const struct chunk_header header = { .kind = (uint8_t) kind, .time = time, .first = join->next };
    chunk_output_json(&join->out, header, json, JSON_COMPACT);
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
    char * both = memory_text("%s; %s", a, b);
    json_object_set_new(sum, key, json_string(both));
    free(both);
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
    if (number_of(next, "window") < number_of(sum, "window")) {
        json_object_set(sum, "window", json_object_get(next, "window"));
    }
    const int64_t left_out = number_of(sum, "left_out_tokens") + number_of(next, "left_out_tokens");
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
    if (number_of(next, "sample") > number_of(sum, "sample")) {
        json_object_set(sum, "sample", json_object_get(next, "sample"));
    }
}

// The same of the same traces, and different from each of them.
static char * joined_id(const struct trace_join * join) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325); // FNV-1a
    for (size_t i = 0; i < join->n_inputs; i++) {
        for (const char * c = text_of(join->inputs[i].trace->header, "trace"); ; c++) {
            hash = (hash ^ (unsigned char) *c) * UINT64_C(0x100000001b3);
            if (*c == '\0') {
                break;
            }
        }
    }
    return memory_text("joined-%016" PRIx64, hash);
}

static void add_run(json_t * runs, const json_t * header) {
    char   * name = memory_text("%s/%" PRId64, text_of(header, "run"), number_of(header, "pid"));
    json_t * run  = json_string(name);
    json_array_append_new(runs, run);
    free(name);
}

static void write_header(struct trace_join * join) {
    json_t * header = json_deep_copy(join->inputs[0].trace->header);
    json_t * runs   = json_array();
    char   * id     = joined_id(join);
    add_run(runs, header);
    for (size_t i = 1; i < join->n_inputs; i++) {
        merge_header(header, join->inputs[i].trace->header);
        if (!join->inputs[i].continues) {
            add_run(runs, join->inputs[i].trace->header);
        }
    }
    if (!join->is_one) {
        json_object_set_new(header, "trace", json_string(id));
        json_object_set_new(header, "part",  json_integer(0));
        json_object_set    (header, "runs",  runs);
        json_object_del    (header, "seed"); // contexts have other numbers now
    }
    write_json(join, TRACE_CHUNK_HEADER, 0, header);
    json_decref(runs);
    json_decref(header);
    free(id);
}

//
// tables of layers
//

static int64_t find_table(const json_t * tables, const json_t * layers) {
    size_t   i;
    json_t * table;
    json_array_foreach(tables, i, table) {
        if (json_equal(table, layers)) {
            return (int64_t) i;
        }
    }
    return -1;
}

static void set_place(struct trace_join * join, int64_t table, int64_t place) {
    while ((int64_t) json_array_size(join->places) <= table) {
        json_array_append_new(join->places, json_integer(-1));
    }
    json_array_set_new(join->places, (size_t) table, json_integer(place));
}

#define TABLES_MAX 65536

static void copy_layers(struct trace_join * join, const struct trace_chunk * chunk) {
    json_t      * json   = json_loadb((const char *) join->payload.data, join->payload.size, 0, NULL);
    json_t      * layers = json_object_get(json, "layers");
    const int64_t number = number_of(json, "table");
    if (json_is_array(layers) && number >= 0 && number < TABLES_MAX) {
        int64_t place = find_table(join->tables, layers);
        if (place < 0) {
            place = (int64_t) json_array_size(join->tables);
            json_array_append(join->tables, layers);
            json_object_set_new(json, "table", json_integer(place));
            write_json(join, TRACE_CHUNK_LAYERS, chunk->header.time, json);
        }
        set_place(join, number, place);
    }
    json_decref(json);
}

// -1: the file has no such table.
static int64_t place_of(const struct trace_join * join, uint64_t table) {
    const json_t * place = table < json_array_size(join->places) ? json_array_get(join->places, (size_t) table) : NULL;
    return place == NULL ? -1 : json_integer_value(place);
}

//
// data
//

// A record whose body begins with so many bytes of `head`, and goes on with what is left of `body`.
static void put_record(struct trace_buffer * out, uint8_t kind, const struct trace_buffer * head, const struct trace_bytes * body) {
    trace_buffer_varint(out, 1 + head->size + trace_bytes_left(body));
    trace_buffer_u8    (out, kind);
    trace_buffer_add   (out, head->data, head->size);
    trace_buffer_add   (out, body->data + body->at, trace_bytes_left(body));
}

static bool copy_life(struct trace_join * join, struct trace_bytes * body, struct trace_buffer * head) {
    const uint64_t context = trace_bytes_varint(body) + join->context;
    join->next_context = context >= join->next_context ? context + 1 : join->next_context;
    trace_buffer_varint(head, context);
    return !body->failed;
}

static bool copy_ubatch(struct trace_join * join, struct trace_bytes * body, struct trace_buffer * head) {
    trace_buffer_zigzag(head, trace_bytes_zigzag(body));
    trace_buffer_u8    (head, trace_bytes_u8(body));
    const int64_t table = place_of(join, trace_bytes_varint(body));
    trace_buffer_varint(head, (uint64_t) table);
    return !body->failed && table >= 0;
}

// Returns false where the payload cannot be told with other numbers.
static bool copy_record(struct trace_join * join, uint8_t kind, struct trace_bytes * body, uint64_t * n_ubatches) {
    struct trace_buffer head = { 0 };
    struct trace_bytes  gap  = *body;
    bool                ok   = true;
    if (kind == TRACE_RECORD_LIFE) {
        ok = copy_life(join, body, &head);
    } else if (kind == TRACE_RECORD_UBATCH) {
        ok = copy_ubatch(join, body, &head);
        (*n_ubatches)++;
    } else if (kind == TRACE_RECORD_GAP) {
        *n_ubatches += trace_bytes_varint(&gap);
    }
    put_record(&join->changed, kind, &head, body);
    trace_buffer_free(&head);
    return ok;
}

static void raise_next(struct trace_join * join, uint64_t next) {
    join->next = next > join->next ? next : join->next;
}

static bool copy_part(struct trace_join * join, const uint8_t * data, const struct trace_part * part) {
    struct trace_bytes records    = trace_bytes_of(data, part->header.size);
    struct trace_bytes body;
    uint64_t           n_ubatches = 0;
    bool               ok         = true;
    trace_buffer_clear(&join->changed);
    for (uint8_t kind; ok && (kind = trace_record_next(&records, &body)) != 0;) {
        ok = copy_record(join, kind, &body, &n_ubatches);
    }
    const uint64_t first = part->header.first - join->first + join->shifted;
    raise_next(join, first + (n_ubatches > part->header.n_ubatches ? n_ubatches : part->header.n_ubatches));
    if (!ok || trace_bytes_left(&records) > 0) {
        return false;
    }
    enough(join->changed.failed ? NULL : join);
    trace_records_gaps(data, part->header.size, &join->gaps);
    join->ubatches += part->header.n_ubatches;
    join->tokens   += part->header.n_tokens;
    struct chunk_header header = part->header;
    header.kind  = TRACE_CHUNK_DATA;
    header.first = first;
    chunk_output_put(&join->out, header, join->changed.data, join->changed.size);
    return true;
}

static bool copy_data(struct trace_join * join, const struct input * input, const struct trace_chunk * chunk) {
    if (!trace_load(input->trace, chunk, &join->parts)) {
        raise_next(join, chunk->header.first + chunk->header.n_ubatches - join->first + join->shifted);
        return false;
    }
    bool ok = true;
    for (size_t i = 0; i < join->parts.n; i++) {
        ok = copy_part(join, trace_part_data(&join->parts, i), &join->parts.parts[i]) && ok;
    }
    return ok;
}

//
// amendments
//

// What tells of ubatches before the first part that was given is left out.
static void copy_amendment(struct trace_join * join, uint8_t kind, struct trace_bytes * body) {
    struct trace_bytes  whole  = *body;
    struct trace_buffer head   = { 0 };
    uint64_t            ubatch = trace_bytes_varint(body);
    if (kind == TRACE_AMENDMENT_WARMUP) {
        uint64_t       n      = trace_bytes_varint(body);
        const uint64_t before = ubatch < join->first ? join->first - ubatch : 0;
        n       = n > before ? n - before : 0;
        ubatch += before;
        if (n > 0) {
            trace_buffer_varint(&head, ubatch - join->first + join->shifted);
            trace_buffer_varint(&head, n);
            put_record(&join->changed, kind, &head, body);
        }
    } else if (kind != TRACE_AMENDMENT_REJECTED) {
        put_record(&join->changed, kind, &head, &whole);
    } else if (ubatch >= join->first) {
        trace_buffer_varint(&head, ubatch - join->first + join->shifted);
        put_record(&join->changed, kind, &head, body);
    }
    trace_buffer_free(&head);
}

static void copy_amendments(struct trace_join * join, struct chunk_header header) {
    struct trace_bytes records = trace_bytes_of(join->payload.data, join->payload.size);
    struct trace_bytes body;
    trace_buffer_clear(&join->changed);
    for (uint8_t kind; (kind = trace_record_next(&records, &body)) != 0;) {
        copy_amendment(join, kind, &body);
    }
    enough(join->changed.failed ? NULL : join);
    header.first = header.first - join->first + join->shifted;
    if (join->changed.size > 0) {
        chunk_output_put(&join->out, header, join->changed.data, join->changed.size);
    }
}

//
// a file
//

static bool copy_chunk(struct trace_join * join, const struct input * input, const struct trace_chunk * chunk) {
    if (chunk->header.kind == TRACE_CHUNK_DATA || chunk->header.kind == TRACE_CHUNK_PACKED) {
        return copy_data(join, input, chunk);
    }
    if (!trace_read(input->trace, chunk, &join->payload)) {
        return false;
    }
    if (chunk->header.kind == TRACE_CHUNK_LAYERS) {
        copy_layers(join, chunk);
    } else if (chunk->header.kind == TRACE_CHUNK_AMENDMENTS) {
        copy_amendments(join, chunk->header);
    }
    return true;
}

static void begin_input(struct trace_join * join, const struct input * input) {
    json_decref(join->places);
    join->places = json_array();
    if (input->continues) {
        return;
    }
    join->first   = input->first;
    join->shifted = join->is_one ? input->first : join->next;
    join->context = join->next_context;
    raise_next(join, join->shifted);
}

// A chunk that is lost leaves a hole in the numbers, which tells of it.
static void copy_input(struct trace_join * join, const struct input * input, struct progress * progress, uint64_t done) {
    struct chunk_walk  walk = { .source = &input->trace->source };
    struct trace_chunk chunk;
    uint64_t           lost = 0;
    bool               all  = true; // of what was gone through when it was opened
    begin_input(join, input);
    while (ferror(join->out.file) == 0 && chunk_walk_next(&walk, &chunk)) {
        all = all && (chunk.header.kind != TRACE_CHUNK_HEADER || chunk.header.number == 0);
        join->out.number += chunk.n_missing;
        const bool ok = copy_chunk(join, input, &chunk);
        join->out.number += !ok;
        lost         += !ok;
        progress_tell(progress, done + walk.offset);
    }
    lost += walk.lost_chunks + (walk.lost_bytes > 0 && input->end != NULL);
    if (all && ferror(join->out.file) == 0) {
        trace_compare_walk(input->trace, &walk);
    }
    if (lost > 0 && !trace_changed(input->trace)) {
        join->lost = true;
        error_warning("%s: damaged: %" PRIu64 " chunks or more cannot be read, and are missing in the result too", trace_input_name(input->path), lost);
    }
}

//
// the end
//

static bool is_last_of_trace(const struct trace_join * join, size_t i) {
    return i + 1 == join->n_inputs || !join->inputs[i + 1].continues;
}

static bool is_whole(const struct trace_join * join, size_t i) {
    while (join->inputs[i].continues) {
        i--;
    }
    return join->inputs[i].trace->info.part == 0;
}

static void add_total(struct trace_join * join, const json_t * end, const char * key, uint64_t counted) {
    const int64_t sum = number_of(join->totals, key);
    json_object_set_new(join->totals, key, json_integer(sum + (end == NULL ? (int64_t) counted : number_of(end, key))));
}

// What the trace itself tells of all that it had, where that is what was given.
static void end_trace(struct trace_join * join, size_t i) {
    const json_t * end = is_whole(join, i) ? join->inputs[i].end : NULL;
    add_total(join, end, "ubatches",          join->ubatches);
    add_total(join, end, "tokens",            join->tokens);
    add_total(join, end, "dropped_ubatches",  join->gaps.dropped_ubatches);
    add_total(join, end, "dropped_tokens",    join->gaps.dropped_tokens);
    add_total(join, end, "left_out_ubatches", join->gaps.left_out_ubatches);
    add_total(join, end, "left_out_tokens",   join->gaps.left_out_tokens);
    add_total(join, join->inputs[i].end, "waited_ms", 0);
    join->ubatches = 0;
    join->tokens   = 0;
    join->gaps     = (struct trace_gaps) { 0 };
}

// With nothing but why it stopped, if it did. NULL where it did not.
static json_t * stopped_of(const json_t * end) {
    json_t * reason = json_object_get(end, "stopped");
    return json_is_string(reason) ? json_pack("{s:O}", "stopped", reason) : NULL;
}

// NULL: one of the traces has none.
static json_t * make_end(const struct trace_join * join) {
    const json_t * last     = join->inputs[join->n_inputs - 1].end;
    bool           complete = true;
    for (size_t i = 0; i < join->n_inputs; i++) {
        const json_t * end = join->inputs[i].end;
        if (is_last_of_trace(join, i) && end == NULL) {
            return NULL;
        }
        complete = complete && (!is_last_of_trace(join, i) || json_is_true(json_object_get(end, "complete")));
    }
    if (join->is_one) {
        return json_deep_copy(last);
    }
    json_t * end = json_deep_copy(join->totals);
    json_object_set_new(end, "complete",  json_boolean(complete));
    json_object_set_new(end, "last_part", json_boolean(!json_is_false(json_object_get(last, "last_part"))));
    for (size_t i = 0; i < join->n_inputs && !complete; i++) {
        json_t * stopped = stopped_of(join->inputs[i].end);
        json_object_update_missing(end, stopped);
        json_decref(stopped);
    }
    return end;
}

static void write_end(struct trace_join * join) {
    json_t * end = make_end(join);
    if (end == NULL) {
        error_warning("not all of them have ended (the program still runs, or was killed): nor has the result");
        return;
    }
    write_json(join, TRACE_CHUNK_END, 0, end);
    json_decref(end);
}

bool trace_join_changed(const struct trace_join * join, struct error * error) {
    bool changed = false;
    for (size_t i = 0; i < join->n_inputs && !changed; i++) {
        changed = trace_input_changed(join->inputs[i].trace, error);
    }
    return changed;
}

bool trace_join_write(struct trace_join * join, FILE * out) {
    uint64_t total = 0;
    for (size_t i = 0; i < join->n_inputs; i++) {
        total += join->inputs[i].trace->source.size;
    }
    struct progress progress = progress_begin("joining", total);
    join->out  = (struct chunk_output) { .file = out };
    join->next = join->is_one ? join->inputs[0].first : 0;
    write_header(join);
    uint64_t done = 0;
    for (size_t i = 0; i < join->n_inputs; i++) {
        copy_input(join, &join->inputs[i], &progress, done);
        if (is_last_of_trace(join, i)) {
            end_trace(join, i);
        }
        done += join->inputs[i].trace->source.size;
    }
    progress_end(&progress);
    write_end(join);
    return !join->lost;
}
