// The chunks of a trace: where they are, and whether they check.

#pragma once

#include "trace/format/chunk-header.h"
#include "trace/format/trace-bytes.h"
#include "trace/read/trace-source.h"

struct trace_chunk {
    struct chunk_header header;
    uint64_t            offset;    // of the header in the file
    uint64_t            n_missing; // chunks between the one before and this one
};

// The chunk whose header is there.
enum chunk_header_state trace_chunk_at(const struct trace_source * source, uint64_t offset,
                                       struct trace_chunk * chunk);

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
    return chunk->offset + TRACE_HEADER_SIZE + chunk->header.size;
}

// Reads the payload in place of what the buffer holds. Returns false where it does not check or memory runs out.
bool trace_chunk_load(const struct trace_source * source, const struct trace_chunk * chunk,
                      struct trace_buffer * payload);
