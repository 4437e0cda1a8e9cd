// Opens a trace: goes through the headers of its chunks, reads tables, amendments and the end, and looks into data
// where numbers tell that something was left out.

#include "trace/read/trace-opening.h"

#include "base/other-file.h"
#include "trace/read/trace-index.h"
#include "trace/read/trace-records.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

//
// the chunks
//

static void lose(struct trace_info * info, const struct trace_chunk * chunk) {
    info->lost_chunks++;
    info->lost_ubatches += chunk->header.n_ubatches;
    info->lost_bytes    += TRACE_HEADER_SIZE + (uint64_t) chunk->header.size;
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

struct opening {
    struct trace        * trace;
    struct trace_memory * memory;
    struct trace_buffer   payload;
    struct trace_end      end;
    bool                  has_end;
    struct chunk_walk     walk;      // when it is at its end
    uint64_t              n_missing; // chunks, since the last one of data
};

static bool add_end(struct opening * opening) {
    opening->has_end = trace_json_read_end(&opening->payload, &opening->end);
    return opening->has_end;
}

static bool add_chunk(struct opening * opening, struct trace_chunk * chunk) {
    struct trace * trace = opening->trace;
    const uint8_t  kind  = chunk->header.kind;
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
    struct trace_buffer * payload = &opening->payload;
    const bool            good    = trace_chunk_load(&trace->source, chunk, payload);
    if (!trace_memory_add(opening->memory, chunk->offset, good) || !good) {
        return false;
    }
    switch (kind) {
        case TRACE_CHUNK_LAYERS:     return trace_json_read_layers(payload, &trace->tables);
        case TRACE_CHUNK_AMENDMENTS: return trace_amendments_add(&trace->amendments, payload);
        case TRACE_CHUNK_CODE:       return trace_code_parse(&trace->code, payload->data, payload->size);
        case TRACE_CHUNK_END:        return add_end(opening);
        default:                     return true;
    }
}

static void add_chunks(struct opening * opening) {
    struct trace_info * info = &opening->trace->info;
    struct chunk_walk   walk = { .source = &opening->trace->source };
    struct trace_chunk  chunk;
    while (chunk_walk_next(&walk, &chunk)) {
        if (!add_chunk(opening, &chunk)) {
            lose(info, &chunk);
        }
        info->last_time = chunk.header.time;
    }
    info->lost_chunks   += walk.lost_chunks;
    info->lost_ubatches += walk.lost_ubatches;
    info->lost_bytes    += walk.lost_bytes;
    opening->walk        = walk;
}

//
// what is not there
//

// Whether the numbers tell that nothing was left out or lost between a chunk and the next one.
static bool is_gapless(const struct trace_chunk * chunk, const struct trace_chunk * next) {
    return next != NULL && next->n_missing == 0 &&
           next->header.first - chunk->header.first == chunk->header.n_ubatches;
}

static void add_gaps(struct trace_info * info, const struct trace_parts * parts, const struct trace_chunk * chunk,
                     const struct trace_chunk * next) {
    struct trace_gaps gaps = { 0 };
    for (size_t i = 0; i < parts->n; i++) {
        trace_records_gaps(trace_part_data(parts, i), parts->parts[i].header.size, &gaps);
    }
    info->dropped_ubatches  += gaps.dropped_ubatches;
    info->dropped_tokens    += gaps.dropped_tokens;
    info->left_out_ubatches += gaps.left_out_ubatches;
    info->left_out_tokens   += gaps.left_out_tokens;
    const uint64_t end  = chunk->header.first + chunk->header.n_ubatches;
    const uint64_t hole = next != NULL && next->n_missing > 0 ? next->header.first - end : 0;
    info->lost_ubatches += hole > gaps.ubatches ? hole - gaps.ubatches : 0;
}

// Looks into the chunks in which, or behind which, numbers are left out. One that does not check is out of the way
// then.
static void count_gaps(struct trace * trace) {
    struct trace_info * info  = &trace->info;
    struct trace_parts  parts = { 0 };
    size_t              kept  = 0;
    for (size_t i = 0; i < trace->n_chunks; i++) {
        const struct trace_chunk   chunk = trace->chunks[i];
        const struct trace_chunk * next  = i + 1 < trace->n_chunks ? &trace->chunks[i + 1] : NULL;
        if (!is_gapless(&chunk, next)) {
            if (!trace_load(trace, &chunk, &parts)) {
                if (i + 1 < trace->n_chunks) {
                    trace->chunks[i + 1].n_missing += chunk.n_missing;
                }
                lose(info, &chunk);
                info->n_ubatches -= chunk.header.n_ubatches;
                info->n_tokens   -= chunk.header.n_tokens;
                continue;
            }
            add_gaps(info, &parts, &chunk, next);
        }
        trace->chunks[kept++] = chunk;
    }
    trace->n_chunks = kept;
    trace_parts_free(&parts);
}

static enum trace_ending ending_of(const struct opening * opening) {
    const struct trace_end * end = &opening->end;
    if (!opening->has_end) {
        return TRACE_INTERRUPTED;
    }
    return !end->last_part ? TRACE_ROTATED : end->complete ? TRACE_COMPLETE : TRACE_INCOMPLETE;
}

// Of the first part it is told how many ubatches there were: better than numbers, of which gaps take some.
static void compare_with_end(struct trace_info * info, const struct opening * opening) {
    if (opening->has_end && info->part == 0 && opening->end.ubatches >= 0 &&
        (uint64_t) opening->end.ubatches >= info->n_ubatches) {
        info->lost_ubatches = (uint64_t) opening->end.ubatches - info->n_ubatches;
    }
}

//
// opening and closing
//

#define IS_DAMAGED "its beginning is damaged, without which the rest tells nothing: copy it again, or trace again"

static const char * what_else(const struct trace_source * source) {
    char         head[OTHER_FILE_HEAD];
    const size_t n      = trace_source_read(source, 0, head, sizeof(head));
    const char * advice = other_file(head, n, OTHER_THAN_TRACES);
    return advice != NULL ? advice : "not a routing trace: `llama-expert-tracer run --routing FILE` writes one";
}

static const char * read_header(struct opening * opening) {
    struct trace        * trace   = opening->trace;
    struct trace_buffer * payload = &opening->payload;
    struct trace_chunk    chunk;
    if (trace->source.size == 0) {
        return "the file is empty: the traced program has not evaluated anything yet, or had no room for it";
    }
    switch (trace_chunk_at(&trace->source, 0, &chunk)) {
        case CHUNK_HEADER_FOREIGN: return what_else(&trace->source);
        case CHUNK_HEADER_CUT_OFF: return "ends where it begins: copy it again, or trace again";
        case CHUNK_HEADER_NEWER:   return "written by a newer version of llama-expert-tracer: update this one";
        case CHUNK_HEADER_DAMAGED: return IS_DAMAGED;
        case CHUNK_HEADER_GOOD:    break;
    }
    if (chunk.header.kind != TRACE_CHUNK_HEADER || chunk.header.number != 0) {
        return "the beginning of this routing trace is missing: copy it again, or trace again";
    }
    if (trace_chunk_end(&chunk) > trace->source.size) {
        return "ends where it begins: copy it again, or trace again";
    }
    if (!trace_chunk_load(&trace->source, &chunk, payload)) {
        return IS_DAMAGED;
    }
    if (!trace_memory_add(opening->memory, chunk.offset, true)) {
        return "out of memory";
    }
    trace->info.first_time = chunk.header.time;
    return trace_json_read_header(payload, &trace->info, &trace->header);
}

// From now on it is known what was read. Takes the memory over.
static const char * begin_memory(struct opening * opening) {
    struct trace * trace = opening->trace;
    trace->memory = opening->memory;
    return trace_memory_end(trace->memory, trace->n_chunks, opening->walk.lost_chunks, opening->walk.lost_bytes)
        ? NULL : "out of memory";
}

static const char * read_all(struct trace * trace) {
    struct opening opening = { .trace = trace, .memory = trace_memory_new() };
    const char   * wrong   = opening.memory != NULL ? read_header(&opening) : "out of memory";
    if (wrong == NULL) {
        struct trace_info * info = &trace->info;
        info->file_size = trace->source.size;
        add_chunks(&opening);
        trace_amendments_sort(&trace->amendments);
        count_gaps(trace);
        compare_with_end(info, &opening);
        info->ending   = ending_of(&opening);
        trace->stopped = opening.end.stopped;
        info->stopped  = trace->stopped;
        info->tables   = trace->tables.tables;
        info->n_tables = trace->tables.n;
        wrong          = begin_memory(&opening);
    } else {
        trace_memory_free(opening.memory);
    }
    trace_buffer_free(&opening.payload);
    return wrong;
}

// Takes the source over.
static struct trace * open_source(struct trace_source source, const char * name, char error[TRACE_ERROR_MAX]) {
    struct trace * trace = calloc(1, sizeof(*trace));
    if (trace == NULL) {
        trace_source_close(&source);
        snprintf(error, TRACE_ERROR_MAX, "%s: out of memory", name);
        return NULL;
    }
    trace->source = source;
    trace->name   = strdup(name);
    const char * wrong = trace->name != NULL ? read_all(trace) : "out of memory";
    if (wrong != NULL) {
        snprintf(error, TRACE_ERROR_MAX, "%s: %s", name, wrong);
        trace_close(trace);
        return NULL;
    }
    return trace;
}

struct trace * trace_open(const char * path, char error[TRACE_ERROR_MAX]) {
    struct trace_source source;
    const char        * name  = strcmp(path, "-") == 0 ? "standard input" : path;
    const char        * wrong = trace_source_open(&source, path);
    if (wrong != NULL) {
        snprintf(error, TRACE_ERROR_MAX, "%s: %s", name, wrong);
        return NULL;
    }
    return open_source(source, name, error);
}

struct trace * trace_open_memory(const void * data, size_t size, char error[TRACE_ERROR_MAX]) {
    return open_source((struct trace_source) { -1, data, size }, "memory", error);
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
    free(trace->chunks);
    free(trace->stopped);
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
