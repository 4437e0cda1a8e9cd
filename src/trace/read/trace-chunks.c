// Goes through the chunks of a source, and finds the next header behind what is damaged.

#include "trace/read/trace-chunks.h"

#include <string.h>

#define SEARCH_SIZE 65536

enum chunk_header_state trace_chunk_at(const struct trace_source * source, uint64_t offset,
                                       struct trace_chunk * chunk) {
    uint8_t      header[TRACE_HEADER_SIZE];
    const size_t n = trace_source_read(source, offset, header, sizeof(header));
    chunk->offset    = offset;
    chunk->n_missing = 0;
    return chunk_header_decode(&chunk->header, header, n);
}

// Where a header that checks is, from an offset on; the file's end where there is none.
static uint64_t find_header(const struct trace_source * source, uint64_t offset) {
    uint8_t             block[SEARCH_SIZE];
    struct chunk_header header;
    for (size_t n; (n = trace_source_read(source, offset, block, sizeof(block))) >= TRACE_HEADER_SIZE;) {
        const uint8_t * at  = block;
        const uint8_t * end = block + n - TRACE_HEADER_SIZE + 1; // of where one may begin
        while ((at = memchr(at, TRACE_MAGIC[0] & 0xff, (size_t) (end - at))) != NULL) {
            if (chunk_header_decode(&header, at, TRACE_HEADER_SIZE) == CHUNK_HEADER_GOOD) {
                return offset + (uint64_t) (at - block);
            }
            at++;
        }
        offset += (uint64_t) (end - block);
    }
    return source->size;
}

static void lose_chunk(struct chunk_walk * walk, uint64_t until) {
    walk->lost_bytes += until - walk->offset;
    walk->offset      = until;
}

bool chunk_walk_next(struct chunk_walk * walk, struct trace_chunk * chunk) {
    const uint64_t size = walk->source->size;
    while (walk->offset < size) {
        const enum chunk_header_state state = trace_chunk_at(walk->source, walk->offset, chunk);
        if (state != CHUNK_HEADER_GOOD) {
            lose_chunk(walk, state == CHUNK_HEADER_CUT_OFF ? size : find_header(walk->source, walk->offset + 1));
            // otherwise the next one's number tells
            walk->lost_chunks += state != CHUNK_HEADER_CUT_OFF && walk->offset == size;
        } else if (chunk->header.size > size - walk->offset - TRACE_HEADER_SIZE) {
            walk->lost_ubatches += chunk->header.n_ubatches;
            lose_chunk(walk, size);
        } else if (chunk->header.kind == TRACE_CHUNK_HEADER && walk->number > 0) {
            // another trace, whose file was put behind this one
            walk->lost_chunks++;
            lose_chunk(walk, size);
        } else if (chunk->header.number < walk->number) { // of another file
            walk->lost_chunks++;
            lose_chunk(walk, trace_chunk_end(chunk));
        } else {
            chunk->n_missing   = chunk->header.number - walk->number;
            walk->lost_chunks += chunk->n_missing;
            walk->number       = (uint64_t) chunk->header.number + 1;
            walk->offset       = trace_chunk_end(chunk);
            return true;
        }
    }
    return false;
}

bool trace_chunk_load(const struct trace_source * source, const struct trace_chunk * chunk,
                      struct trace_buffer * payload) {
    trace_buffer_clear(payload);
    uint8_t * data = trace_buffer_more(payload, chunk->header.size);
    if (data == NULL ||
        trace_source_read(source, chunk->offset + TRACE_HEADER_SIZE, data, chunk->header.size) != chunk->header.size ||
        !chunk_header_has_payload(&chunk->header, data)) {
        return false;
    }
    payload->size = chunk->header.size;
    return true;
}
