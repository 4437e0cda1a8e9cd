// What whoever rewrites a trace tells its caller: how far it is, and what it did.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// `done` of 1 is all.
typedef void (* rewriting_progress_fn)(void * self, double done);

struct rewriting_progress {
    rewriting_progress_fn report; // NULL: nobody asks
    void                * self;
    double                total;  // bytes to go through
};

static inline void rewriting_progress_report(const struct rewriting_progress * progress, uint64_t done) {
    if (progress->report != NULL) {
        progress->report(progress->self, progress->total > 0 ? (double) done / progress->total : 1);
    }
}

// Of packing and unpacking.
struct trace_pack_report {
    uint64_t size;    // of what was written
    uint64_t lost;    // ubatches that were not there when the trace was gone through, see trace_cursor_lost()
    // bytes that the experts take at best, each layer's coded by how often it chose them; packing alone
    double   entropy;
    bool     copied;  // as it was: packed already, or packed it would not be smaller
};
