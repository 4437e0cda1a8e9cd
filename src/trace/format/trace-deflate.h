// Bytes that are kept small by zlib: varint size, varint size as stored, and the bytes, in raw deflate format or,
// where that is not smaller, as they are.

#pragma once

#include "trace/format/trace-bytes.h"

void trace_deflate(const struct trace_buffer * from, struct trace_buffer * to);

// In place of what the buffer holds. Returns false where it is more than `max` bytes, or none.
bool trace_inflate(struct trace_bytes * from, struct trace_buffer * to, size_t max);
