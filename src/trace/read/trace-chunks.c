#include "trace/read/trace-chunks.h"

#include "base/crc32.h"
#include "trace/format/encoding.h"

#include <string.h>

#define SEARCH_SIZE 65536

// Who looks for what damaged files do to the reader would find nothing but checksums.
static bool checks(const void * data, size_t size, uint32_t crc) {
#ifdef EXPERT_TRACER_FUZZING
    (void) data;
    (void) size;
    (void) crc;
    return true;
#else
    return trace_crc32(data, size) == crc;
#endif
}

static enum trace_header_state parse_header(const uint8_t * header, struct trace_chunk * chunk) {
    if (!checks(header, TRACE_AT_CRC_HEADER, trace_get_u32(header + TRACE_AT_CRC_HEADER))) {
        return TRACE_HEADER_DAMAGED;
    }
    const unsigned version = (unsigned) (header[TRACE_AT_VERSION] | header[TRACE_AT_VERSION + 1] << 8);
    chunk->kind       = header[TRACE_AT_KIND];
    chunk->number     = trace_get_u32(header + TRACE_AT_NUMBER);
    chunk->size       = trace_get_u32(header + TRACE_AT_SIZE);
    chunk->n_ubatches = trace_get_u32(header + TRACE_AT_N_UBATCHES);
    chunk->first      = trace_get_u64(header + TRACE_AT_FIRST);
    chunk->time       = (int64_t) trace_get_u64(header + TRACE_AT_TIME);
    chunk->n_tokens   = trace_get_u32(header + TRACE_AT_N_TOKENS);
    chunk->crc        = trace_get_u32(header + TRACE_AT_CRC_PAYLOAD);
    chunk->n_missing  = 0;
    return version > TRACE_VERSION ? TRACE_HEADER_NEWER : TRACE_HEADER_GOOD;
}

enum trace_header_state trace_chunk_at(const struct trace_source * source, uint64_t offset, struct trace_chunk * chunk) {
    uint8_t      header[TRACE_HEADER_SIZE];
    const size_t n = trace_source_read(source, offset, header, sizeof(header));
    chunk->offset = offset;
    if (memcmp(header, TRACE_MAGIC, n < TRACE_MAGIC_SIZE ? n : TRACE_MAGIC_SIZE) != 0) {
        return TRACE_HEADER_FOREIGN;
    }
    return n < sizeof(header) ? TRACE_HEADER_CUT_OFF : parse_header(header, chunk);
}

// Where a header that checks is, from an offset on; the file's end where there is none.
static uint64_t find_header(const struct trace_source * source, uint64_t offset) {
    uint8_t            block[SEARCH_SIZE];
    struct trace_chunk chunk;
    for (size_t n; (n = trace_source_read(source, offset, block, sizeof(block))) >= TRACE_HEADER_SIZE;) {
        const uint8_t * at  = block;
        const uint8_t * end = block + n - TRACE_HEADER_SIZE + 1; // of where one may begin
        while ((at = memchr(at, TRACE_MAGIC[0] & 0xff, (size_t) (end - at))) != NULL) {
            if (memcmp(at, TRACE_MAGIC, TRACE_MAGIC_SIZE) == 0 && parse_header(at, &chunk) == TRACE_HEADER_GOOD) {
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
        const enum trace_header_state state = trace_chunk_at(walk->source, walk->offset, chunk);
        if (state != TRACE_HEADER_GOOD) {
            lose_chunk(walk, state == TRACE_HEADER_CUT_OFF ? size : find_header(walk->source, walk->offset + 1));
            walk->lost_chunks += state != TRACE_HEADER_CUT_OFF && walk->offset == size; // otherwise the next one's number tells
        } else if (chunk->size > size - walk->offset - TRACE_HEADER_SIZE) {
            walk->lost_ubatches += chunk->n_ubatches;
            lose_chunk(walk, size);
        } else if (chunk->kind == TRACE_CHUNK_HEADER && walk->number > 0) { // another trace, whose file was put behind this one
            walk->lost_chunks++;
            lose_chunk(walk, size);
        } else if (chunk->number < walk->number) { // of another file
            walk->lost_chunks++;
            lose_chunk(walk, trace_chunk_end(chunk));
        } else {
            chunk->n_missing   = chunk->number - walk->number;
            walk->lost_chunks += chunk->n_missing;
            walk->number       = (uint64_t) chunk->number + 1;
            walk->offset       = trace_chunk_end(chunk);
            return true;
        }
    }
    return false;
}

bool trace_chunk_load(const struct trace_source * source, const struct trace_chunk * chunk, struct trace_buffer * payload) {
    trace_buffer_clear(payload);
    uint8_t * data = trace_buffer_more(payload, chunk->size);
    if (!data || trace_source_read(source, chunk->offset + TRACE_HEADER_SIZE, data, chunk->size) != chunk->size ||
        !checks(data, chunk->size, chunk->crc)) {
        return false;
    }
    payload->size = chunk->size;
    return true;
}

void trace_chunk_write(struct trace_buffer * buffer, const struct trace_chunk * chunk, const void * payload, size_t size) {
    uint8_t header[TRACE_HEADER_SIZE] = { 0 };
    memcpy(header, TRACE_MAGIC, TRACE_MAGIC_SIZE);
    header[TRACE_AT_KIND] = chunk->kind;
    trace_put_u16(header + TRACE_AT_VERSION,     TRACE_VERSION);
    trace_put_u32(header + TRACE_AT_NUMBER,      chunk->number);
    trace_put_u32(header + TRACE_AT_SIZE,        (uint32_t) size);
    trace_put_u32(header + TRACE_AT_N_UBATCHES,  chunk->n_ubatches);
    trace_put_u64(header + TRACE_AT_FIRST,       chunk->first);
    trace_put_u64(header + TRACE_AT_TIME,        (uint64_t) chunk->time);
    trace_put_u32(header + TRACE_AT_N_TOKENS,    chunk->n_tokens);
    trace_put_u32(header + TRACE_AT_CRC_PAYLOAD, trace_crc32(payload, size));
    trace_put_u32(header + TRACE_AT_CRC_HEADER,  trace_crc32(header, TRACE_AT_CRC_HEADER));
    trace_buffer_add(buffer, header, sizeof(header));
    trace_buffer_add(buffer, payload, size);
}
