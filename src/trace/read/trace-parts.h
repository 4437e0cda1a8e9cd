// What a chunk has of data: its own payload, or those that were packed in it.

#pragma once

#include "trace/format/trace-bytes.h"
#include "trace/read/trace-chunks.h"

// A payload of data, and what its header told.
struct trace_part {
    size_t   offset;    // in the buffer
    size_t   size;
    uint64_t first;
    int64_t  time;
    uint32_t number;
    uint32_t n_ubatches;
    uint32_t n_tokens;
};

// Zeroed: empty.
struct trace_parts {
    struct trace_part * parts;
    size_t              n;
    size_t              room;
    struct trace_buffer data;   // of all of them
    struct trace_buffer packed;
};

static inline const uint8_t * trace_part_data(const struct trace_parts * parts, size_t i) {
    return parts->data.data + parts->parts[i].offset;
}

bool trace_parts_add   (struct trace_parts * parts, const struct trace_part * part); // false: out of memory
bool trace_parts_single(struct trace_parts * parts, const struct trace_chunk * chunk);
void trace_parts_free  (struct trace_parts * parts);
