// Deflates and inflates with zlib, and stores what would not become smaller.

#include "trace/format/trace-deflate.h"

#include <limits.h>

#define ZLIB_CONST
#include <zlib.h>

#define RAW_WINDOW (-15)
#define MEMORY     9

// Returns how many bytes it takes, 0: as many as before, or more.
static size_t deflate_whole(const struct trace_buffer * from, uint8_t * to) {
    z_stream stream = {
        .next_in = from->data, .avail_in = (uInt) from->size, .next_out = to, .avail_out = (uInt) from->size - 1,
    };
    if (deflateInit2(&stream, Z_BEST_COMPRESSION, Z_DEFLATED, RAW_WINDOW, MEMORY, Z_DEFAULT_STRATEGY) != Z_OK) {
        return 0;
    }
    const int    result = deflate(&stream, Z_FINISH);
    const size_t size   = stream.total_out;
    deflateEnd(&stream);
    return result == Z_STREAM_END ? size : 0;
}

void trace_deflate(const struct trace_buffer * from, struct trace_buffer * to) {
    struct trace_buffer small = { 0 };
    const bool   may  = from->size > 1 && from->size <= UINT_MAX && trace_buffer_more(&small, from->size) != NULL;
    const size_t size = may ? deflate_whole(from, small.data) : 0;
    trace_buffer_varint(to, from->size);
    trace_buffer_varint(to, size > 0 ? size : from->size);
    trace_buffer_add(to, size > 0 ? small.data : from->data, size > 0 ? size : from->size);
    to->failed = to->failed || from->failed;
    trace_buffer_free(&small);
}

static bool inflate_whole(const uint8_t * from, size_t stored, uint8_t * to, size_t size) {
    z_stream stream = { .next_in = from, .avail_in = (uInt) stored, .next_out = to, .avail_out = (uInt) size };
    if (inflateInit2(&stream, RAW_WINDOW) != Z_OK) {
        return false;
    }
    const bool ok = inflate(&stream, Z_FINISH) == Z_STREAM_END && stream.total_out == size && stream.avail_in == 0;
    inflateEnd(&stream);
    return ok;
}

bool trace_inflate(struct trace_bytes * from, struct trace_buffer * to, size_t max) {
    const uint64_t  size   = trace_bytes_varint_max(from, max);
    const uint64_t  stored = trace_bytes_varint_max(from, size);
    const uint8_t * here   = trace_bytes_skip(from, stored);
    trace_buffer_clear(to);
    if (here == NULL || trace_buffer_more(to, (size_t) size) == NULL) {
        return false;
    }
    if (stored == size) {
        trace_buffer_add(to, here, (size_t) size);
        return true;
    }
    to->size = (size_t) size;
    return inflate_whole(here, (size_t) stored, to->data, (size_t) size);
}
