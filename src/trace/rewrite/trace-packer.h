// Makes a trace smaller without losing anything, and makes of the result what it was before, byte by byte.

#pragma once

#include "trace/read/trace-reader.h"

#include <stdio.h>

struct trace_pack_report {
    uint64_t size;    // of what was written
    uint64_t lost;    // ubatches that were not there when the trace was gone through, see trace_cursor_lost()
    double   entropy; // bytes that the experts take at best, each layer's coded by how often it chose them; packing alone
    bool     copied;  // as it was: packed already, or packed it would not be smaller
};

// `done` of 1 is all.
typedef void (* trace_pack_progress)(void * self, double done);

// Writes to a file that is empty and can be written again from its beginning. Returns NULL, or what went wrong. What does
// not check in the trace is left out, and its absence stays to be seen.
const char * trace_pack  (const struct trace * trace, FILE * out, trace_pack_progress progress, void * self, struct trace_pack_report * report);
const char * trace_unpack(const struct trace * trace, FILE * out, trace_pack_progress progress, void * self, struct trace_pack_report * report);
