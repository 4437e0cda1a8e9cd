// Makes a trace that can be shared: of windows of many tokens it has how often each layer chose each expert, and
// nothing of what a token chose, in which order, where or when.

#pragma once

#include "trace/read/trace-opening.h"
#include "trace/rewrite/rewriting.h"

#include <stdio.h>

struct trace_share_report {
    uint64_t size;            // of what was written
    uint64_t lost;            // ubatches that were not there when the trace was gone through, see trace_cursor_lost()
    uint64_t n_windows;
    uint64_t n_tokens;        // in them
    uint64_t left_out_tokens; // of a phase, or a table of layers, that has fewer than a window
    uint64_t left_out_rows;   // in layers that routed fewer tokens than the window has
};

// Tokens that a window has at least: TRACE_SHARE_TOKENS_EACH for each expert of each layer of the largest table. With
// fewer, sums of what tokens chose can be taken apart again (SECURITY.md).
#define TRACE_SHARE_TOKENS_EACH 4
uint64_t trace_share_window(const struct trace_info * info);

// Writes windows of at least so many tokens. Returns NULL, or what went wrong.
const char * trace_share(const struct trace * trace, uint64_t window, FILE * out, rewriting_progress_fn progress,
                         void * self, struct trace_share_report * report);
