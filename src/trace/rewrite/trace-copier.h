// What packing and unpacking have in common: a trace that is read chunk by chunk, and written with other numbers.

#pragma once

#include "trace/read/trace-index.h"
#include "trace/rewrite/chunk-output.h"

struct trace_copier {
    const struct trace * trace;
    struct chunk_output  out;
    struct trace_buffer  payload; // that was read last
};

// A chunk as it is. One that does not check any more is missing in what is written.
void trace_copier_chunk(struct trace_copier * copier, const struct trace_chunk * chunk);

// The whole file as it is, in place of what was written.
void trace_copier_file (struct trace_copier * copier);

// `walk`: at its end. It fails where what was read is not what the trace had when it was opened.
void trace_copier_end  (struct trace_copier * copier, const struct chunk_walk * walk);

// A trace whose file was put behind the one that is read: what it has is none of it.
static inline bool trace_copier_is_foreign(const struct trace_chunk * chunk) {
    return chunk->header.kind == TRACE_CHUNK_HEADER && chunk->header.number > 0;
}
