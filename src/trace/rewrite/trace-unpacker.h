// Makes of a packed trace what it was before, byte by byte.

#pragma once

#include "trace/read/trace-opening.h"
#include "trace/rewrite/rewriting.h"

#include <stdio.h>

// As trace_pack().
const char * trace_unpack(const struct trace * trace, FILE * out, rewriting_progress_fn report_progress, void * self,
                          struct trace_pack_report * report);
