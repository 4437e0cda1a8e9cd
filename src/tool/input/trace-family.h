// The parts of a trace that lie beside each other in a folder: run-000000.moetrace, run-000001.moetrace …

#pragma once

#include "trace/read/trace-identity.h"

// A part of a trace, and where it is. Zeroed: none.
struct trace_member {
    char                * path; // to be freed
    struct trace_identity identity;
};

void trace_member_free(struct trace_member * member);

// Finds the part of the same trace with the lowest number above that of `member`, whatever its name's numbers are.
// False: there is none.
bool trace_family_next(const struct trace_member * member, struct trace_member * next);

// Of a path that is not there, but whose parts are: the first part that there is of the trace that was written last.
bool trace_family_first(const char * path, struct trace_member * first);
