// The code that packs a trace best: how often each layer chose each expert, counted in one pass.

#pragma once

#include "trace/format/trace-code.h"
#include "trace/read/trace-index.h"
#include "trace/rewrite/rewriting.h"

// Zeroed, to begin with.
struct code_fitting {
    struct trace_code code;    // to be freed
    double            entropy; // bytes that the experts take at best
    uint64_t          lost;    // ubatches, see trace_cursor_lost()
};

// Returns false where memory runs out.
bool code_fitting_run(struct code_fitting * fitting, const struct trace * trace,
                      const struct rewriting_progress * progress);
