// Makes a trace smaller without losing anything.

#pragma once

#include "trace/read/trace-opening.h"
#include "trace/rewrite/rewriting.h"

#include <stdio.h>

// Writes to a file that is empty and can be written again from its beginning. Returns NULL, or what went wrong. What
// does not check in the trace is left out, and its absence stays to be seen.
const char * trace_pack(const struct trace * trace, FILE * out, rewriting_progress_fn report_progress, void * self,
                        struct trace_pack_report * report);
