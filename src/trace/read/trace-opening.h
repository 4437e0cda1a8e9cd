// Opens a routing trace: what a file has of ubatches, tokens, parts that are missing and how it ended is known when it
// is open; which ubatches were a warm-up and which tokens rejected as well. A broken file is no error as long as it
// begins as a trace does: what can be read is read, and what is missing is counted. Nor is a file that a program still
// writes to: what it has when it is opened is read, and what was added since when that is asked for.

#pragma once

#include "trace/read/trace-amendments.h"
#include "trace/read/trace-values.h"

#define TRACE_ERROR_MAX 256

struct trace;

// Opens a file, "-" being standard input (which is copied to a temporary file without a name). Returns NULL, and in
// `error` what is wrong and what to do, where it cannot be read or is no trace.
struct trace            * trace_open       (const char * path, char error[TRACE_ERROR_MAX]);
// which stays as it is
struct trace            * trace_open_memory(const void * data, size_t size, char error[TRACE_ERROR_MAX]);
void                      trace_close      (struct trace * trace);
const struct trace_info * trace_about      (const struct trace * trace);
const char              * trace_name       (const struct trace * trace); // for people: the path, or where it is from

// Whether something of the file was read a second time and was not the same: it changed meanwhile, and what was gone
// through is not all of one trace. What was not there the first time is not there later either.
bool                      trace_changed    (const struct trace * trace);

// Goes on with another part of the same trace, behind those that are open: what is told is told of all of them, in
// `trace_about` too. Returns false where it is none, and the trace can only be closed then.
bool trace_append(struct trace * trace, const char * path, char error[TRACE_ERROR_MAX]);

//
// a file that grows
//

enum trace_growth {
    TRACE_AS_BEFORE,
    TRACE_GREW,
    TRACE_SHRANK,    // it was truncated: what was read before is not there
    TRACE_NO_MEMORY, // it can only be closed
};

// Opens a trace whose trace_news() are asked for.
struct trace * trace_open_growing(const char * path, char error[TRACE_ERROR_MAX]);

// Reads what was added to the last file. A cursor that was at the end goes on with it; none may be in use by another
// thread meanwhile. What trace_about() has changes in its place.
enum trace_growth trace_grow(struct trace * trace);

// Whether the program that writes the last file lives; true too where that cannot be known.
bool trace_is_written(const struct trace * trace);

// The amendments that were read when it was opened or has grown the last time, in their order. They may tell of
// ubatches that were read before, also of another part.
const struct trace_amendments * trace_news(const struct trace * trace);
