// Opens a trace: goes through the headers of its chunks, reads tables, amendments and the end, and looks into data
// where numbers tell that something was left out. What is added to its last file later is read from there on.

#include "trace/read/trace-opening.h"

#include "base/other-file.h"
#include "trace/read/trace-index.h"
#include "trace/read/trace-records.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// How far a trace was read. What a file ends in may be the beginning of a chunk: it is looked at again.
struct trace_opening {
    struct trace_buffer     payload;
    struct trace_end        end;
    bool                    has_end;
    struct chunk_walk       walk;         // behind the last chunk that is whole
    struct chunk_walk       all;          // likewise, at the end of the file
    uint64_t                n_missing;    // chunks, since the last one of data
    uint64_t                lost_chunks;  // besides those of the walk
    uint64_t                lost_ubatches;
    uint64_t                lost_bytes;
    size_t                  n_looked_at;  // chunks of data, for gaps
    uint64_t                last_gaps;    // ubatches, in the last one of them
    bool                    keeps_news;
    struct trace_amendments news;         // since it was opened, or has grown the last time
    const char            * wrong;        // with one of several files
};

static void opening_free(struct trace_opening * opening) {
    if (opening != NULL) {
        trace_buffer_free(&opening->payload);
        trace_amendments_free(&opening->news);
        free(opening->end.stopped);
        free(opening);
    }
}

//
// the chunks
//

static void lose(struct trace_opening * opening, const struct trace_chunk * chunk) {
    opening->lost_chunks++;
    opening->lost_ubatches += chunk->header.n_ubatches;
    opening->lost_bytes    += TRACE_HEADER_SIZE + (uint64_t) chunk->header.size;
}

// Returns false where it cannot be in its place, or memory runs out.
static bool add_data(struct trace * trace, const struct trace_chunk * chunk) {
    const struct chunk_header * header = &chunk->header;
    const struct chunk_header * before = trace->n_chunks > 0 ? &trace->chunks[trace->n_chunks - 1].header : NULL;
    if (header->first > UINT64_MAX - header->n_ubatches ||
        (before != NULL && header->first < before->first + before->n_ubatches) ||
        !trace_array_grow(&trace->chunks, &trace->chunks_room, trace->n_chunks + 1, sizeof(trace->chunks[0]))) {
        return false;
    }
    trace->chunks[trace->n_chunks++] = *chunk;
    trace->info.is_packed  |= header->kind == TRACE_CHUNK_PACKED;
    trace->info.n_ubatches += header->n_ubatches;
    trace->info.n_tokens   += header->n_tokens;
    return true;
}

static bool add_end(struct trace_opening * opening) {
    opening->has_end = trace_json_read_end(&opening->payload, &opening->end);
    return opening->has_end;
}

static bool add_amendments(struct trace * trace) {
    struct trace_opening * opening = trace->opening;
    return trace_amendments_add(&trace->amendments, &opening->payload) &&
           (!opening->keeps_news || trace_amendments_add(&opening->news, &opening->payload));
}

// Packed chunks need the code of their own file.
static bool add_code(struct trace * trace) {
    struct trace_opening * opening = trace->opening;
    if (trace->source.before != NULL) {
        opening->wrong = "packed, and cannot be read together with the parts before it: join them with `cat`";
        return false;
    }
    return trace_code_parse(&trace->code, opening->payload.data, opening->payload.size);
}

static bool add_chunk(struct trace * trace, struct trace_chunk * chunk) {
    struct trace_opening * opening = trace->opening;
    const uint8_t          kind    = chunk->header.kind;
    opening->n_missing += chunk->n_missing;
    if (kind == TRACE_CHUNK_DATA || kind == TRACE_CHUNK_PACKED) {
        chunk->n_missing = opening->n_missing;
        if (!add_data(trace, chunk)) {
            return false;
        }
        opening->n_missing = 0;
        return true;
    }
    if (kind == TRACE_CHUNK_HEADER || kind > TRACE_CHUNK_PACKED) {
        return true;
    }
    const bool good = trace_chunk_load(&trace->source, chunk, &opening->payload);
    if (!trace_memory_add(trace->memory, chunk->offset, good) || !good) {
        return false;
    }
    switch (kind) {
        case TRACE_CHUNK_LAYERS:     return trace_json_read_layers(&opening->payload, &trace->tables);
        case TRACE_CHUNK_AMENDMENTS: return add_amendments(trace);
        case TRACE_CHUNK_CODE:       return add_code(trace);
        case TRACE_CHUNK_END:        return add_end(opening);
        default:                     return true;
    }
}

static void add_chunks(struct trace * trace) {
    struct trace_opening * opening = trace->opening;
    struct trace_chunk     chunk;
    opening->all = opening->walk;
    while (chunk_walk_next(&opening->all, &chunk)) {
        if (!add_chunk(trace, &chunk)) {
            lose(opening, &chunk);
        }
        trace->info.last_time = chunk.header.time;
        opening->walk         = opening->all;
    }
}

//
// what is not there
//

// Whether the numbers tell that nothing was left out or lost between a chunk and the next one.
static bool is_gapless(const struct trace_chunk * chunk, const struct trace_chunk * next) {
    return next != NULL && next->n_missing == 0 &&
           next->header.first - chunk->header.first == chunk->header.n_ubatches;
}

// `gaps`: ubatches that the first of them tells of.
static void add_hole(struct trace_opening * opening, const struct trace_chunk * chunk, const struct trace_chunk * next,
                     uint64_t gaps) {
    const uint64_t end  = chunk->header.first + chunk->header.n_ubatches;
    const uint64_t hole = next != NULL && next->n_missing > 0 ? next->header.first - end : 0;
    opening->lost_ubatches += hole > gaps ? hole - gaps : 0;
}

static uint64_t add_gaps(struct trace_info * info, const struct trace_parts * parts) {
    struct trace_gaps gaps = { 0 };
    for (size_t i = 0; i < parts->n; i++) {
        trace_records_gaps(trace_part_data(parts, i), parts->parts[i].header.size, &gaps);
    }
    info->dropped_ubatches  += gaps.dropped_ubatches;
    info->dropped_tokens    += gaps.dropped_tokens;
    info->left_out_ubatches += gaps.left_out_ubatches;
    info->left_out_tokens   += gaps.left_out_tokens;
    return gaps.ubatches;
}

// A chunk that does not check is no chunk of data any more.
static void drop_chunk(struct trace * trace, const struct trace_chunk * chunk, struct trace_chunk * next) {
    uint64_t * n_missing = next != NULL ? &next->n_missing : &trace->opening->n_missing;
    *n_missing += chunk->n_missing;
    lose(trace->opening, chunk);
    trace->info.n_ubatches -= chunk->header.n_ubatches;
    trace->info.n_tokens   -= chunk->header.n_tokens;
}

// Looks into the chunks in which, or behind which, numbers are left out. One that does not check is out of the way
// then.
static void count_gaps(struct trace * trace) {
    struct trace_opening * opening = trace->opening;
    struct trace_parts     parts   = { 0 };
    size_t                 kept    = opening->n_looked_at;
    if (kept > 0 && kept < trace->n_chunks) {
        add_hole(opening, &trace->chunks[kept - 1], &trace->chunks[kept], opening->last_gaps);
    }
    for (size_t i = kept; i < trace->n_chunks; i++) {
        const struct trace_chunk chunk = trace->chunks[i];
        struct trace_chunk     * next  = i + 1 < trace->n_chunks ? &trace->chunks[i + 1] : NULL;
        opening->last_gaps = 0;
        if (!is_gapless(&chunk, next)) {
            if (!trace_load(trace, &chunk, &parts)) {
                drop_chunk(trace, &chunk, next);
                continue;
            }
            opening->last_gaps = add_gaps(&trace->info, &parts);
            add_hole(opening, &chunk, next, opening->last_gaps);
        }
        trace->chunks[kept++] = chunk;
    }
    trace->n_chunks      = kept;
    opening->n_looked_at = kept;
    trace_parts_free(&parts);
}

static enum trace_ending ending_of(const struct trace_opening * opening) {
    const struct trace_end * end = &opening->end;
    if (!opening->has_end) {
        return TRACE_INTERRUPTED;
    }
    return !end->last_part ? TRACE_ROTATED : end->complete ? TRACE_COMPLETE : TRACE_INCOMPLETE;
}

static void sum_up_losses(struct trace_info * info, const struct trace_opening * opening) {
    info->lost_chunks   = opening->lost_chunks   + opening->all.lost_chunks;
    info->lost_ubatches = opening->lost_ubatches + opening->all.lost_ubatches;
    info->lost_bytes    = opening->lost_bytes    + opening->all.lost_bytes;
    // The first part is told how many ubatches there were: better than numbers, of which gaps take some.
    if (opening->has_end && info->part == 0 && opening->end.ubatches >= 0 &&
        (uint64_t) opening->end.ubatches >= info->n_ubatches) {
        info->lost_ubatches = (uint64_t) opening->end.ubatches - info->n_ubatches;
    }
}

//
// a file
//

#define IS_DAMAGED "its beginning is damaged, without which the rest tells nothing: copy it again, or trace again"

static const char * what_else(const struct trace_source * source) {
    char         head[OTHER_FILE_HEAD];
    const size_t n      = trace_source_read(source, source->begin, head, sizeof(head));
    const char * advice = other_file(head, n, OTHER_THAN_TRACES);
    return advice != NULL ? advice : "not a routing trace: `llama-expert-tracer run --routing FILE` writes one";
}

static const char * find_header(const struct trace_source * source, struct trace_chunk * chunk) {
    if (source->size == source->begin) {
        return "the file is empty: the traced program has not evaluated anything yet, or had no room for it";
    }
    switch (trace_chunk_at(source, source->begin, chunk)) {
        case CHUNK_HEADER_FOREIGN: return what_else(source);
        case CHUNK_HEADER_CUT_OFF: return "ends where it begins: copy it again, or trace again";
        case CHUNK_HEADER_NEWER:   return "written by a newer version of llama-expert-tracer: update this one";
        case CHUNK_HEADER_DAMAGED: return IS_DAMAGED;
        case CHUNK_HEADER_GOOD:    break;
    }
    if (chunk->header.kind != TRACE_CHUNK_HEADER || chunk->header.number != 0) {
        return "the beginning of this routing trace is missing: copy it again, or trace again";
    }
    return trace_chunk_end(chunk) > source->size ? "ends where it begins: copy it again, or trace again" : NULL;
}

// Of the last file.
static const char * read_header(struct trace * trace, struct trace_info * info, json_t ** json) {
    struct trace_buffer * payload = &trace->opening->payload;
    struct trace_chunk    chunk;
    const char          * wrong   = find_header(&trace->source, &chunk);
    if (wrong != NULL) {
        return wrong;
    }
    if (!trace_chunk_load(&trace->source, &chunk, payload)) {
        return IS_DAMAGED;
    }
    if (!trace_memory_add(trace->memory, chunk.offset, true)) {
        return "out of memory";
    }
    info->first_time = chunk.header.time;
    return trace_json_read_header(payload, info, json);
}

// What the last file has beyond what was read of it.
static const char * read_on(struct trace * trace) {
    struct trace_opening * opening = trace->opening;
    struct trace_info    * info    = &trace->info;
    trace_amendments_free(&opening->news);
    opening->news   = (struct trace_amendments) { 0 };
    info->file_size = trace->source.size;
    trace->is_open  = false;
    add_chunks(trace);
    trace_amendments_sort(&trace->amendments);
    count_gaps(trace);
    sum_up_losses(info, opening);
    info->ending   = ending_of(opening);
    info->stopped  = opening->end.stopped;
    info->tables   = trace->tables.tables;
    info->n_tables = trace->tables.n;
    trace->is_open = true; // from now on it is known what was read
    if (opening->wrong != NULL) {
        return opening->wrong;
    }
    return trace_memory_end(trace->memory, trace->n_chunks, opening->all.lost_chunks, opening->all.lost_bytes)
        ? NULL : "out of memory";
}

static const char * read_first(struct trace * trace) {
    if (trace->name == NULL || trace->opening == NULL || trace->memory == NULL) {
        return "out of memory";
    }
    const char * wrong = read_header(trace, &trace->info, &trace->header);
    trace->opening->walk.source = &trace->source;
    return wrong != NULL ? wrong : read_on(trace);
}

// A file that a program was killed over ends in what is no chunk, and that counts with the rest of it.
static const char * read_next(struct trace * trace) {
    struct trace_opening  * opening = trace->opening;
    struct trace_info       next    = { 0 };
    json_t                * header  = NULL;
    const char            * wrong   = read_header(trace, &next, &header);
    const struct trace_info * info  = &trace->info;
    if (wrong == NULL && (next.trace_id == NULL || info->trace_id == NULL ||
                          strcmp(next.trace_id, info->trace_id) != 0)) {
        wrong = "not a part of the same trace";
    }
    json_decref(header);
    if (wrong != NULL) {
        return wrong;
    }
    opening->walk        = opening->all;
    opening->walk.offset = trace->source.begin;
    opening->walk.number = 0;
    opening->has_end     = false;
    return read_on(trace);
}

//
// opening and closing
//

static bool fail(char error[TRACE_ERROR_MAX], const char * name, const char * why) {
    snprintf(error, TRACE_ERROR_MAX, "%s: %s", name, why);
    return false;
}

// Takes the source over.
static struct trace * open_source(struct trace_source source, const char * name, bool keeps_news,
                                  char error[TRACE_ERROR_MAX]) {
    struct trace * trace = calloc(1, sizeof(*trace));
    if (trace == NULL) {
        trace_source_close(&source);
        fail(error, name, "out of memory");
        return NULL;
    }
    trace->source  = source;
    trace->name    = strdup(name);
    trace->memory  = trace_memory_new();
    trace->opening = calloc(1, sizeof(*trace->opening));
    if (trace->opening != NULL) {
        trace->opening->keeps_news = keeps_news;
    }
    const char * wrong = read_first(trace);
    if (wrong != NULL) {
        fail(error, name, wrong);
        trace_close(trace);
        return NULL;
    }
    return trace;
}

static struct trace * open_path(const char * path, bool keeps_news, char error[TRACE_ERROR_MAX]) {
    struct trace_source source;
    const char        * name  = strcmp(path, "-") == 0 ? "standard input" : path;
    const char        * wrong = trace_source_open(&source, path);
    if (wrong != NULL) {
        fail(error, name, wrong);
        return NULL;
    }
    return open_source(source, name, keeps_news, error);
}

struct trace * trace_open(const char * path, char error[TRACE_ERROR_MAX]) {
    return open_path(path, false, error);
}

struct trace * trace_open_growing(const char * path, char error[TRACE_ERROR_MAX]) {
    return open_path(path, true, error);
}

struct trace * trace_open_memory(const void * data, size_t size, char error[TRACE_ERROR_MAX]) {
    const struct trace_source source = { .fd = -1, .memory = data, .size = size };
    return open_source(source, "memory", false, error);
}

bool trace_append(struct trace * trace, const char * path, char error[TRACE_ERROR_MAX]) {
    struct trace_source source;
    const char        * wrong = trace_source_open(&source, path);
    if (wrong == NULL) {
        wrong = trace_source_append(&trace->source, source) ? read_next(trace) : "out of memory";
    }
    return wrong == NULL || fail(error, path, wrong);
}

enum trace_growth trace_grow(struct trace * trace) {
    const uint64_t before = trace->source.size;
    if (!trace_source_grow(&trace->source)) {
        return TRACE_SHRANK;
    }
    if (trace->source.size == before) {
        return TRACE_AS_BEFORE;
    }
    return read_on(trace) == NULL ? TRACE_GREW : TRACE_NO_MEMORY;
}

bool trace_is_written(const struct trace * trace) {
    return trace_source_is_written(&trace->source);
}

const struct trace_amendments * trace_news(const struct trace * trace) {
    return &trace->opening->news;
}

void trace_close(struct trace * trace) {
    if (trace == NULL) {
        return;
    }
    trace_source_close(&trace->source);
    trace_tables_free(&trace->tables);
    trace_code_free(&trace->code);
    trace_amendments_free(&trace->amendments);
    json_decref(trace->header);
    trace_memory_free(trace->memory);
    opening_free(trace->opening);
    free(trace->chunks);
    free(trace->name);
    free(trace);
}

const char * trace_name(const struct trace * trace) {
    return trace->name;
}

const struct trace_info * trace_about(const struct trace * trace) {
    return &trace->info;
}

bool trace_changed(const struct trace * trace) {
    return trace_memory_changed(trace->memory);
}
