// Copies the chunks of several traces into one, with other numbers of ubatches, contexts and tables where the traces
// are different ones.

#include "trace/rewrite/trace-join.h"

#include "trace/read/trace-index.h"
#include "trace/read/trace-records.h"
#include "trace/rewrite/chunk-output.h"
#include "trace/rewrite/join-json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct trace_join {
    struct join_inputs  inputs;
    join_warn_fn        warn;
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
// writing chunks
//

// Returns false where it has failed, for lack of memory.
static bool is_filled(struct trace_join * join, const struct trace_buffer * buffer) {
    if (buffer->failed) {
        chunk_output_fail(&join->out, CHUNK_OUTPUT_NO_MEMORY);
    }
    return !buffer->failed;
}

static void write_json(struct trace_join * join, enum trace_chunk_kind kind, int64_t time, const json_t * json) {
    const struct chunk_header header = { .kind = (uint8_t) kind, .time = time, .first = join->next };
    chunk_output_json(&join->out, header, json, JSON_COMPACT);
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
    const int64_t number = join_json_number(json, "table");
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
static void put_record(struct trace_buffer * out, uint8_t kind, const struct trace_buffer * head,
                       const struct trace_bytes * body) {
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
    if (!is_filled(join, &join->changed)) {
        return false;
    }
    trace_records_gaps(data, part->header.size, &join->gaps);
    join->ubatches += part->header.n_ubatches;
    join->tokens   += part->header.n_tokens;
    struct chunk_header header = part->header;
    header.kind  = TRACE_CHUNK_DATA;
    header.first = first;
    chunk_output_put(&join->out, header, join->changed.data, join->changed.size);
    return true;
}

static bool copy_data(struct trace_join * join, const struct join_input * input, const struct trace_chunk * chunk) {
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
    header.first = header.first - join->first + join->shifted;
    if (is_filled(join, &join->changed) && join->changed.size > 0) {
        chunk_output_put(&join->out, header, join->changed.data, join->changed.size);
    }
}

//
// a file
//

static bool copy_chunk(struct trace_join * join, const struct join_input * input, const struct trace_chunk * chunk) {
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

static void begin_input(struct trace_join * join, const struct join_input * input) {
    json_decref(join->places);
    join->places = json_array();
    if (input->continues) {
        return;
    }
    join->first   = input->first;
    join->shifted = join->inputs.is_one ? input->first : join->next;
    join->context = join->next_context;
    raise_next(join, join->shifted);
}

static void warn_of_damage(const struct trace_join * join, const struct join_input * input, uint64_t lost) {
    struct text line = { 0 };
    text_add(&line, "%s: damaged: %" PRIu64 " chunks or more cannot be read, and are missing in the result too",
        trace_name(input->trace), lost);
    join->warn(line.data != NULL ? line.data : "chunks that cannot be read are missing in the result too");
    text_free(&line);
}

// A chunk that is lost leaves a hole in the numbers, which tells of it.
static void copy_input(struct trace_join * join, const struct join_input * input, uint64_t done,
                       const struct rewriting_progress * progress) {
    struct chunk_walk  walk = { .source = &input->trace->source };
    struct trace_chunk chunk;
    uint64_t           lost = 0;
    bool               all  = true; // of what was gone through when it was opened
    begin_input(join, input);
    while (join->out.wrong == NULL && chunk_walk_next(&walk, &chunk)) {
        all = all && (chunk.header.kind != TRACE_CHUNK_HEADER || chunk.header.number == 0);
        join->out.number += chunk.n_missing;
        const bool ok = copy_chunk(join, input, &chunk);
        join->out.number += !ok;
        lost             += !ok;
        rewriting_progress_report(progress, done + walk.offset);
    }
    lost += walk.lost_chunks + (walk.lost_bytes > 0 && input->end != NULL);
    if (all && join->out.wrong == NULL) {
        trace_compare_walk(input->trace, &walk);
    }
    if (lost > 0 && !trace_changed(input->trace)) {
        join->lost = true;
        warn_of_damage(join, input, lost);
    }
}

//
// the end
//

static void add_total(struct trace_join * join, const json_t * end, const char * key, uint64_t counted) {
    const int64_t sum = join_json_number(join->totals, key);
    json_object_set_new(join->totals, key,
        json_integer(sum + (end == NULL ? (int64_t) counted : join_json_number(end, key))));
}

// What the trace itself tells of all that it had, where that is what was given.
static void end_trace(struct trace_join * join, size_t i) {
    const json_t * end = join_inputs_is_whole(&join->inputs, i) ? join->inputs.items[i].end : NULL;
    add_total(join, end, "ubatches",          join->ubatches);
    add_total(join, end, "tokens",            join->tokens);
    add_total(join, end, "dropped_ubatches",  join->gaps.dropped_ubatches);
    add_total(join, end, "dropped_tokens",    join->gaps.dropped_tokens);
    add_total(join, end, "left_out_ubatches", join->gaps.left_out_ubatches);
    add_total(join, end, "left_out_tokens",   join->gaps.left_out_tokens);
    add_total(join, join->inputs.items[i].end, "waited_ms", 0);
    join->ubatches = 0;
    join->tokens   = 0;
    join->gaps     = (struct trace_gaps) { 0 };
}

static void write_end(struct trace_join * join) {
    json_t * end = join_json_end(&join->inputs, join->totals);
    if (end == NULL) {
        join->warn("not all of them have ended (the program still runs, or was killed): nor has the result");
        return;
    }
    write_json(join, TRACE_CHUNK_END, 0, end);
    json_decref(end);
}

//
// the whole
//

struct trace_join * trace_join_open(char ** paths, size_t n, join_warn_fn warn, struct text * why) {
    struct trace_join * join = calloc(1, sizeof(*join));
    if (join == NULL) {
        text_add(why, CHUNK_OUTPUT_NO_MEMORY);
        return NULL;
    }
    join->warn   = warn;
    join->tables = json_array();
    join->totals = json_object();
    if (!join_inputs_open(&join->inputs, paths, n, warn, why)) {
        trace_join_close(join);
        return NULL;
    }
    return join;
}

void trace_join_close(struct trace_join * join) {
    join_inputs_close(&join->inputs);
    trace_parts_free (&join->parts);
    trace_buffer_free(&join->payload);
    trace_buffer_free(&join->changed);
    json_decref(join->tables);
    json_decref(join->places);
    json_decref(join->totals);
    free(join);
}

size_t trace_join_n(const struct trace_join * join) {
    return join->inputs.n;
}

const struct trace * trace_join_trace(const struct trace_join * join, size_t i) {
    return join->inputs.items[i].trace;
}

static uint64_t size_of(const struct trace_join * join) {
    uint64_t size = 0;
    for (size_t i = 0; i < join->inputs.n; i++) {
        size += join->inputs.items[i].trace->source.size;
    }
    return size;
}

static void write_header(struct trace_join * join) {
    json_t * header = join_json_header(&join->inputs);
    write_json(join, TRACE_CHUNK_HEADER, 0, header);
    json_decref(header);
}

const char * trace_join_write(struct trace_join * join, FILE * out, rewriting_progress_fn progress, void * self,
                              bool * is_whole) {
    const struct rewriting_progress told = { progress, self, (double) size_of(join) };
    uint64_t                        done = 0;
    join->out  = (struct chunk_output) { .file = out };
    join->next = join->inputs.is_one ? join->inputs.items[0].first : 0;
    write_header(join);
    for (size_t i = 0; i < join->inputs.n; i++) {
        copy_input(join, &join->inputs.items[i], done, &told);
        if (join_inputs_is_last(&join->inputs, i)) {
            end_trace(join, i);
        }
        done += join->inputs.items[i].trace->source.size;
    }
    write_end(join);
    *is_whole = !join->lost;
    return ferror(out) == 0 ? join->out.wrong : NULL;
}
