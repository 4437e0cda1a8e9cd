// Which trace a file is a part of, by its first chunk alone.

#pragma once

#include <stdbool.h>
#include <stdint.h>

#define TRACE_ID_MAX 256

struct trace_identity {
    char     id[TRACE_ID_MAX]; // the header's `trace`; "": it has none
    int64_t  part;
    uint64_t device;           // of the file
    uint64_t inode;
};

enum trace_found {
    TRACE_FOUND,
    TRACE_FOUND_NOTHING, // there is no such file
    TRACE_FOUND_BEGUN,   // it is empty, or ends in its first chunk: what may become a trace
    TRACE_FOUND_OTHER,   // something else, or it cannot be read
};

// Looks at a file. What is not a regular one is not opened.
enum trace_found trace_identify(const char * path, struct trace_identity * identity);

bool trace_identity_is_same_file(const struct trace_identity * a, const struct trace_identity * b);

// Whether both are parts of one trace.
bool trace_identity_is_same_trace(const struct trace_identity * a, const struct trace_identity * b);
