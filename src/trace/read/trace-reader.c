// A cursor: goes through the chunks of data of an open trace, decodes their ubatches, and applies amendments.

#include "trace/read/trace-reader.h"

#include "trace/read/trace-index.h"
#include "trace/read/trace-records.h"

#include <stdlib.h>
#include <string.h>

// The call of llama_decode that a context is in.
struct batch_count {
    int32_t  context;
    uint64_t number;
};

struct trace_cursor {
    const struct trace * trace;
    size_t               next_chunk;
    uint64_t             offset;    // where the chunk begins
    struct trace_parts   parts;     // of the chunk
    size_t               next_part;
    bool                 in_part;
    uint64_t             n_left;    // ubatches of the part, as it was told
    uint64_t             number;    // that may come next
    uint64_t             wanted;    // at least
    uint64_t             lost;
    struct trace_decoder decoder;
    uint64_t             n_batches;
    struct batch_count       * batches;   // their contexts rising
    size_t               n_contexts;
    size_t               batches_room;
};

struct trace_cursor * trace_cursor_new(const struct trace * trace) {
    struct trace_cursor * cursor = calloc(1, sizeof(*cursor));
    if (cursor != NULL) {
        cursor->trace          = trace;
        cursor->decoder.tables = &trace->tables;
    }
    return cursor;
}

void trace_cursor_free(struct trace_cursor * cursor) {
    if (cursor != NULL) {
        trace_parts_free(&cursor->parts);
        trace_decoder_free(&cursor->decoder);
        free(cursor->batches);
        free(cursor);
    }
}

uint64_t trace_cursor_lost(const struct trace_cursor * cursor) {
    return cursor->lost;
}

uint64_t trace_cursor_offset(const struct trace_cursor * cursor) {
    if (!cursor->in_part) {
        return cursor->next_chunk < cursor->trace->n_chunks ? cursor->offset : cursor->trace->info.file_size;
    }
    const struct trace_chunk * chunk = &cursor->trace->chunks[cursor->next_chunk - 1];
    const struct trace_part  * part  = &cursor->parts.parts[cursor->next_part - 1];
    const double               at    = (double) (part->offset + cursor->decoder.records.at);
    const double               done  = at / ((double) cursor->parts.data.size + 1);
    return cursor->offset + (uint64_t) (done * (double) (trace_chunk_end(chunk) - chunk->offset));
}

// The last chunk that begins with this ubatch or before it, the first one where there is none.
static size_t chunk_of(const struct trace * trace, uint64_t number) {
    size_t low  = 0;
    size_t high = trace->n_chunks;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (trace->chunks[middle].header.first <= number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low > 0 ? low - 1 : 0;
}

void trace_cursor_seek(struct trace_cursor * cursor, uint64_t number) {
    cursor->next_chunk     = chunk_of(cursor->trace, number);
    cursor->parts.n        = 0;
    cursor->next_part      = 0;
    cursor->in_part        = false;
    cursor->number         = 0;
    cursor->wanted         = number;
    cursor->decoder.n_cuts = 0;
}

static bool next_chunk(struct trace_cursor * cursor) {
    const struct trace * trace = cursor->trace;
    while (cursor->next_chunk < trace->n_chunks) {
        const struct trace_chunk * chunk = &trace->chunks[cursor->next_chunk++];
        cursor->offset    = chunk->offset;
        cursor->next_part = 0;
        if (trace_load(trace, chunk, &cursor->parts)) {
            return true;
        }
        cursor->lost += chunk->header.n_ubatches;
    }
    return false;
}

static bool next_part(struct trace_cursor * cursor) {
    while (cursor->next_part < cursor->parts.n || next_chunk(cursor)) {
        if (cursor->next_part == cursor->parts.n) {
            continue;
        }
        const struct trace_part * part = &cursor->parts.parts[cursor->next_part++];
        if (part->header.first >= cursor->number) {
            trace_decoder_begin(&cursor->decoder, trace_part_data(&cursor->parts, cursor->next_part - 1),
                part->header.size, part->header.first, part->header.time);
            cursor->n_left  = part->header.n_ubatches;
            cursor->in_part = true;
            return true;
        }
        cursor->lost += part->header.n_ubatches;
    }
    return false;
}

static void end_part(struct trace_cursor * cursor) {
    cursor->lost   += cursor->n_left;
    cursor->in_part = false;
}

// The first one of this context or a higher one.
static size_t batch_index(const struct trace_cursor * cursor, int32_t context) {
    size_t low  = 0;
    size_t high = cursor->n_contexts;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (cursor->batches[middle].context < context) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct batch_count * batch_of(struct trace_cursor * cursor, int32_t context) {
    const size_t i = batch_index(cursor, context);
    if (i < cursor->n_contexts && cursor->batches[i].context == context) {
        return &cursor->batches[i];
    }
    if (!trace_array_grow(&cursor->batches, &cursor->batches_room, cursor->n_contexts + 1,
                          sizeof(cursor->batches[0]))) {
        return NULL;
    }
    memmove(&cursor->batches[i + 1], &cursor->batches[i], (cursor->n_contexts - i) * sizeof(cursor->batches[0]));
    cursor->n_contexts++;
    cursor->batches[i] = (struct batch_count) { context, UINT64_MAX };
    return &cursor->batches[i];
}

static uint64_t count_batch(struct trace_cursor * cursor, const struct trace_ubatch * ubatch) {
    struct batch_count * batch = batch_of(cursor, ubatch->context);
    if (batch == NULL) {
        return cursor->n_batches++;
    }
    if (ubatch->first || batch->number == UINT64_MAX) {
        batch->number = cursor->n_batches++;
    }
    return batch->number;
}

static void amend(struct trace_cursor * cursor, struct trace_ubatch * ubatch) {
    const struct trace_amendments * amendments = &cursor->trace->amendments;
    ubatch->warmup = ubatch->warmup || trace_amendments_warmup(amendments, ubatch->number);
    trace_amendments_reject(amendments, ubatch->number, cursor->decoder.tokens, ubatch->n_tokens);
}

// Returns false where there is no ubatch in what is left of the part, or none that is wanted before the next call.
static bool step(struct trace_cursor * cursor, struct trace_ubatch * ubatch) {
    const enum decoder_step step = trace_decoder_next(&cursor->decoder, ubatch);
    if (step == DECODER_STEP_END) {
        end_part(cursor);
        cursor->number = cursor->decoder.number;
        return false;
    }
    cursor->number  = cursor->decoder.number;
    cursor->n_left -= cursor->n_left > 0;
    cursor->lost   += step == DECODER_STEP_LOST;
    return step == DECODER_STEP_UBATCH && ubatch->number >= cursor->wanted;
}

bool trace_next(struct trace_cursor * cursor, struct trace_ubatch * ubatch) {
    while (cursor->in_part || next_part(cursor)) {
        if (step(cursor, ubatch)) {
            amend(cursor, ubatch);
            ubatch->batch = count_batch(cursor, ubatch);
            return true;
        }
    }
    return false;
}
