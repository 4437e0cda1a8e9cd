// Makes one trace of several of one model, chunk by chunk: what each of them tells is in the result, with its numbers.

#pragma once

#include "base/text.h"
#include "trace/read/trace-opening.h"
#include "trace/rewrite/join-inputs.h"
#include "trace/rewrite/rewriting.h"

#include <stdio.h>

struct trace_join;

// Opens the traces and checks that they fit together: of one model, the parts of a rotated trace in their order.
// Ubatches and contexts of different traces are numbered on. Returns NULL, and in `why` (to be freed) what to do,
// where they do not.
struct trace_join * trace_join_open (char ** paths, size_t n, join_warn_fn warn, struct text * why);
void                trace_join_close(struct trace_join * join);

size_t               trace_join_n    (const struct trace_join * join);
const struct trace * trace_join_trace(const struct trace_join * join, size_t i);

// Writes the result, not packed. What cannot be read is reported, and its absence stays to be seen in the result:
// *is_whole is false then. Returns NULL, or what went wrong; errors of `out` are its own to tell.
const char * trace_join_write(struct trace_join * join, FILE * out, rewriting_progress_fn progress, void * self,
                              bool * is_whole);
