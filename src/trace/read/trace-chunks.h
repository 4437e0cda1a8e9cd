// The chunks of a trace: where they are, and whether they check.

#pragma once

#include "trace/format/trace-bytes.h"
#include "trace/format/trace-format.h"
#include "trace/read/trace-source.h"

struct trace_chunk {
    uint64_t offset;    // of its header
    uint64_t first;     // ubatch
    int64_t  time;
    uint64_t n_missing; // chunks between the one before and this one
    uint32_t number;
    uint32_t size;      // of the payload
    uint32_t n_ubatches;
    uint32_t n_tokens;
    uint32_t crc;       // of the payload
    uint8_t  kind;
};

enum trace_header_state {
    TRACE_HEADER_GOOD,
    TRACE_HEADER_CUT_OFF, // the file ends in it
    TRACE_HEADER_NEWER,   // than this reader
    TRACE_HEADER_DAMAGED,
    TRACE_HEADER_FOREIGN, // no chunk begins there
};

enum trace_header_state trace_chunk_at(const struct trace_source * source, uint64_t offset, struct trace_chunk * chunk);

// Goes through the chunks, over what is damaged. `source` and zeros to begin with.
struct chunk_walk {
    const struct trace_source * source;
    uint64_t                    offset;        // of the next chunk
    uint64_t                    number;        // likewise
    uint64_t                    lost_chunks;
    uint64_t                    lost_ubatches; // of a chunk in which the file ends
    uint64_t                    lost_bytes;
};

bool chunk_walk_next(struct chunk_walk * walk, struct trace_chunk * chunk);

static inline uint64_t trace_chunk_end(const struct trace_chunk * chunk) {
    return chunk->offset + TRACE_HEADER_SIZE + chunk->size;
}

// Reads the payload in place of what the buffer holds. Returns false where it does not check or memory runs out.
bool trace_chunk_load(const struct trace_source * source, const struct trace_chunk * chunk, struct trace_buffer * payload);

// Appends the header and the payload, with its size and checksums; `offset` and `n_missing` are of no interest.
void trace_chunk_write(struct trace_buffer * buffer, const struct trace_chunk * chunk, const void * payload, size_t size);
