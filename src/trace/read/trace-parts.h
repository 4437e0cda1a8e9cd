// What a chunk has of data: its own payload, or those that were packed in it.

#pragma once

#include "trace/format/chunk-header.h"
#include "trace/format/trace-bytes.h"

// A payload of data, and the header that it had of its own. Of one that was packed `kind` and `crc` are not told.
struct trace_part {
    struct chunk_header header;
    size_t              offset; // of the payload in the buffer
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
bool trace_parts_single(struct trace_parts * parts, const struct chunk_header * header);
void trace_parts_free  (struct trace_parts * parts);
