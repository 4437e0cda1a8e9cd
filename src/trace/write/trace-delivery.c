// Writes chunks of the ring to the file, begins its parts, and follows what others do to it.

#include "trace/write/trace-delivery.h"

#include "base/place.h"
#include "trace/write/trace-record.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define END_SIZE 512 // of a chunk of that kind: there is room left for it in a file of limited size

void trace_counts_add(struct trace_counts * counts, const struct trace_counts * more) {
    counts->n_ubatches += more->n_ubatches;
    counts->n_tokens   += more->n_tokens;
    for (int i = 0; i < TRACE_GAP_REASONS; i++) {
        counts->gaps[i].n_ubatches += more->gaps[i].n_ubatches;
        counts->gaps[i].n_tokens   += more->gaps[i].n_tokens;
    }
}

uint64_t trace_counts_told(const struct trace_counts * counts) {
    uint64_t told = counts->n_ubatches;
    for (int i = 0; i < TRACE_GAP_REASONS; i++) {
        told += counts->gaps[i].n_ubatches;
    }
    return told;
}

int64_t trace_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static bool is_rotated(const struct trace_delivery * delivery) {
    return delivery->rotate_size > 0 || delivery->rotate_time > 0;
}

//
// making files
//

// Of a chunk that is made here, not by the thread that evaluates.
static struct chunk_header header_of(const struct trace_delivery * delivery, enum trace_chunk_kind kind, size_t size) {
    return (struct chunk_header) {
        .kind = (uint8_t) kind, .size = (uint32_t) size, .first = trace_counts_told(&delivery->counts),
        .time = trace_now(),
    };
}

// Room for the header of a chunk: what is added then is its payload.
static void begin_chunk(struct text * text) {
    if (text_room(text, TRACE_HEADER_SIZE) != NULL) {
        text_take(text, TRACE_HEADER_SIZE);
    }
}

// What a part begins with: its header, and the tables that were written before.
static void add_beginning(struct text * text, struct trace_delivery * delivery) {
    begin_chunk(text);
    trace_json_write_header(text, &delivery->about);
    char * tables = text_room(text, delivery->tables.length);
    if (text->failed || tables == NULL) {
        text->failed = true;
        return;
    }
    uint8_t                 * chunk  = (uint8_t *) text->data;
    const struct chunk_header header = header_of(delivery, TRACE_CHUNK_HEADER, text->length - TRACE_HEADER_SIZE);
    chunk_header_encode(chunk, &header, chunk + TRACE_HEADER_SIZE);
    if (delivery->tables.length > 0) {
        memcpy(tables, delivery->tables.data, delivery->tables.length);
    }
    text_take(text, delivery->tables.length);
}

// Returns 0, or -errno. `after`: the part before, NULL: there is none.
static int create(struct trace_delivery * delivery, struct trace_file * file, const struct trace_file * after) {
    struct text beginning = { 0 };
    add_beginning(&beginning, delivery);
    const struct trace_file_wish wish = {
        .path     = delivery->base,
        .run      = delivery->about.run,
        .rotated  = is_rotated(delivery),
        .after    = after,
        .limit    = delivery->limit,
        .data     = beginning.data,
        .size     = beginning.length,
        .n_chunks = delivery->n_tables + 1,
    };
    const int error = beginning.failed             ? -ENOMEM
                    : delivery->descriptor != NULL ? trace_file_create_in(file, *delivery->descriptor, &wish)
                                                   : trace_file_create(file, &wish);
    text_free(&beginning);
    return error;
}

int trace_delivery_open(struct trace_delivery * delivery, const char * path) {
    struct timespec now;
    struct place    place = PLACE_NONE;
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(delivery->trace, sizeof(delivery->trace), "%ld-%lld%09ld-%" PRIxPTR, (long) getpid(),
        (long long) now.tv_sec, now.tv_nsec, (uintptr_t) delivery);
    delivery->about.trace = delivery->trace;
    delivery->file        = (struct trace_file) TRACE_FILE_NONE;
    int error = delivery->descriptor != NULL ? 0 : place_find(&place, path);
    if (!error) {
        // the program may change its directory
        delivery->base = strdup(delivery->descriptor != NULL ? path : place.path);
        error = delivery->base != NULL ? create(delivery, &delivery->file, NULL) : -ENOMEM;
    }
    place_leave(&place);
    return error;
}

//
// rotating
//

// Returns 0, or -errno.
static int append_end(struct trace_delivery * delivery, const struct trace_closing * ending) {
    struct text text = { 0 };
    begin_chunk(&text);
    trace_json_write_end(&text, &delivery->counts, ending);
    const struct chunk_header header = header_of(delivery, TRACE_CHUNK_END, text.length - TRACE_HEADER_SIZE);
    const int error = text.failed ? -ENOMEM : trace_file_append(&delivery->file, (uint8_t *) text.data, &header);
    text_free(&text);
    return error;
}

static void append_end_of_part(struct trace_delivery * delivery, uint64_t waited_ms) {
    const struct trace_closing ending = { .waited_ms = waited_ms };
    append_end(delivery, &ending); // without it, it is a file of a program that was killed
}

static bool is_full(const struct trace_delivery * delivery, const struct ring_chunk * chunk) {
    const uint64_t size = delivery->file.size + TRACE_HEADER_SIZE + chunk->size + END_SIZE;
    return (delivery->rotate_size > 0 && size > delivery->rotate_size) ||
           (delivery->rotate_time > 0 && (double) (chunk->time - delivery->first_time) >= delivery->rotate_time * 1e6);
}

// Begins the next part. Returns 0, or -errno: there is none then.
static int begin_part(struct trace_delivery * delivery, struct trace_file * next) {
    *next = (struct trace_file) TRACE_FILE_NONE;
    delivery->about.part++;
    const int error = delivery->tables.failed ? -ENOMEM : create(delivery, next, &delivery->file);
    if (error) {
        delivery->about.part--;
    }
    return error;
}

// Goes on in the next part.
static void enter_part(struct trace_delivery * delivery, const struct trace_file * next) {
    struct trace_file before = delivery->file;
    delivery->file           = *next;
    delivery->size_before   += before.size;
    delivery->has_data       = false;
    delivery->cannot_rotate  = false;
    delivery->cannot_follow  = false;
    delivery->is_at_limit    = false;
    if (delivery->first_path == NULL) {
        delivery->first_path = before.at.path;
        before.at.path       = NULL;
    }
    trace_file_close(&before);
}

// Where the next part cannot be made, this one goes on.
static void rotate(struct trace_delivery * delivery, uint64_t waited_ms) {
    struct trace_file next;
    const int         error = begin_part(delivery, &next);
    if (error) {
        if (!delivery->cannot_rotate) {
            log_line(delivery->say, LOG_ERROR,
                "cannot begin the next file of the routing trace: %s. %s goes on, and it is tried again",
                claim_explain(error, FILE_KIND_TRACE), delivery->file.at.path);
        }
        delivery->cannot_rotate = true;
        return;
    }
    append_end_of_part(delivery, waited_ms);
    enter_part(delivery, &next);
}

//
// a file that somebody else has changed
//

static const char * tell_fate(enum trace_file_fate fate) {
    switch (fate) {
        case TRACE_FILE_DELETED:   return "deleted or replaced: what was recorded until now is gone";
        case TRACE_FILE_TRUNCATED: return "truncated: what was recorded until now is incomplete";
        default:                   return "moved or replaced";
    }
}

// Sees to it that what comes is not lost. Returns 0, or -errno.
static int follow_fate(struct trace_delivery * delivery, enum trace_file_fate fate, uint64_t waited_ms) {
    struct trace_file next;
    const int         error = begin_part(delivery, &next);
    if (error && fate != TRACE_FILE_MOVED) {
        return error;
    }
    if (error) {
        if (!delivery->cannot_follow) {
            log_line(delivery->say, LOG_WARNING,
                "%s was moved or replaced while it was written. The routing trace goes on in the file that had this "
                "name, as a new one cannot be made: %s", delivery->file.at.path,
                claim_explain(error, FILE_KIND_TRACE));
        }
        delivery->cannot_follow = true;
        return 0;
    }
    if (fate == TRACE_FILE_MOVED) {
        append_end_of_part(delivery, waited_ms);
    }
    log_line(delivery->say, LOG_WARNING, "%s was %s. The routing trace goes on in %s", delivery->file.at.path,
        tell_fate(fate), next.at.path);
    enter_part(delivery, &next);
    return 0;
}

static int check_file(struct trace_delivery * delivery, uint64_t waited_ms) {
    const enum trace_file_fate fate = trace_file_look(&delivery->file);
    return fate == TRACE_FILE_STANDS ? 0 : follow_fate(delivery, fate, waited_ms);
}

//
// writing
//

// Numbered as it will be in the parts to come.
static void keep_table(struct trace_delivery * delivery, const struct ring_chunk * chunk, struct chunk_header header) {
    const size_t size = TRACE_HEADER_SIZE + chunk->size;
    uint8_t    * copy = (uint8_t *) text_room(&delivery->tables, size);
    if (copy != NULL) {
        memcpy(copy, chunk->bytes, size);
        header.number = ++delivery->n_tables;
        chunk_header_encode(copy, &header, copy + TRACE_HEADER_SIZE);
        text_take(&delivery->tables, size);
    }
}

static int append(struct trace_delivery * delivery, struct ring_chunk * chunk) {
    const struct chunk_header header = {
        .kind       = (uint8_t) chunk->kind,
        .first      = chunk->first,
        .time       = chunk->time,
        .n_ubatches = (uint32_t) chunk->counts.n_ubatches,
        .n_tokens   = (uint32_t) chunk->counts.n_tokens,
        .size       = (uint32_t) chunk->size,
    };
    const int error = trace_file_append(&delivery->file, chunk->bytes, &header);
    if (!error && chunk->kind == TRACE_CHUNK_LAYERS) {
        keep_table(delivery, chunk, header);
    }
    return error;
}

// Deletes what is too much, in memory of how much the other files take.
static void keep_limit(struct trace_delivery * delivery) {
    struct trace_file * file = &delivery->file;
    if (delivery->limit == 0 || delivery->is_at_limit || file->size + file->at.others <= delivery->limit) {
        return;
    }
    const struct claim claim = { .path = delivery->base, .kind = FILE_KIND_TRACE, .limit = delivery->limit };
    file->at.others       = claim_limit(&claim, is_rotated(delivery), file->size);
    delivery->is_at_limit = file->size + file->at.others > delivery->limit;
}

int trace_delivery_bring(struct trace_delivery * delivery, struct ring_chunk * chunk, uint64_t waited_ms) {
    if (chunk->size == 0) {
        return 0;
    }
    int error = check_file(delivery, waited_ms);
    if (error) {
        return error;
    }
    const bool is_data = chunk->kind == TRACE_CHUNK_DATA;
    if (is_data && delivery->has_data && is_full(delivery, chunk)) {
        rotate(delivery, waited_ms);
    }
    error = append(delivery, chunk);
    keep_limit(delivery);
    if (!error && is_data) {
        delivery->first_time = delivery->has_data ? delivery->first_time : chunk->time;
        delivery->has_data   = true;
        trace_counts_add(&delivery->counts, &chunk->counts);
    }
    return error;
}

static int append_gaps(struct trace_delivery * delivery, const struct trace_gap * gaps) {
    struct trace_counts counts = { 0 };
    uint8_t   chunk[TRACE_HEADER_SIZE + TRACE_GAP_REASONS * TRACE_RECORD_MAX];
    uint8_t * at = chunk + TRACE_HEADER_SIZE;
    for (int i = 0; i < TRACE_GAP_REASONS; i++) {
        if (gaps[i].n_ubatches > 0) {
            at = trace_record_gap(at, gaps[i].n_ubatches, gaps[i].n_tokens, (enum trace_gap_reason) i);
            counts.gaps[i] = gaps[i];
        }
    }
    const size_t              size   = (size_t) (at - chunk) - TRACE_HEADER_SIZE;
    const struct chunk_header header = header_of(delivery, TRACE_CHUNK_DATA, size);
    const int                 error  = size > 0 ? trace_file_append(&delivery->file, chunk, &header) : 0;
    trace_counts_add(&delivery->counts, &counts);
    return error;
}

int trace_delivery_end(struct trace_delivery * delivery, const struct trace_gap * gaps,
                       const struct trace_closing * ending) {
    const enum trace_file_fate fate = trace_file_look(&delivery->file);
    if (fate != TRACE_FILE_STANDS) {
        log_line(delivery->say, LOG_WARNING, "%s was %s", delivery->file.at.path, tell_fate(fate));
    }
    const int error = append_gaps(delivery, gaps);
    return error ? error : append_end(delivery, ending);
}

uint64_t trace_delivery_size(const struct trace_delivery * delivery) {
    return delivery->size_before + delivery->file.size;
}

void trace_delivery_free(struct trace_delivery * delivery) {
    trace_file_close(&delivery->file);
    text_free(&delivery->tables);
    free(delivery->first_path);
    free(delivery->base);
}
