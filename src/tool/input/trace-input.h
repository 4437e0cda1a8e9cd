// Routing traces as the commands open them: what is wrong with one is told where a command finds it.

#pragma once

#include "tool/error.h"
#include "trace/read/trace-reader.h"

// NULL where it cannot be read or is no trace, which was said then. "-" is the standard input.
struct trace * trace_input_open(const char * path);

#define TRACE_INPUT_CHANGED "it changed while it was read: copy it, and use the copy"

// Whether its file changed while it was read; the error names it then.
bool trace_input_changed(const struct trace * trace, struct error * error);

const char * trace_input_name(const char * path); // to be told to people

// Chunks are missing or do not check. The unfinished chunk at the end of a program that was killed is no damage.
// `lost`: ubatches that were not there when the trace was gone through, see trace_cursor_lost().
bool trace_input_is_damaged(const struct trace_info * info, uint64_t lost);

// Warns where it is damaged. Returns the exit status: a command does what it can with such a file, and fails all the
// same.
int trace_input_check(const char * path, const struct trace_info * info, uint64_t lost);

// Whether rows and their order mean something. A trace made by `pack --share` has counts in windows and no more: false,
// and in `error` that `what` cannot be done with it.
bool trace_input_has_order(const struct trace_info * info, const char * what, struct error * error);

// The row of a layer in which one token was routed, -1: none.
int32_t trace_input_row(const struct trace_routing * routing, int32_t token);

// Bytes of one expert in all of the layer's tensors, -1: not known.
int64_t trace_input_expert_bytes(const struct trace_layer * layer);

// What a table says of one layer, NULL: nothing.
const struct trace_layer * trace_input_layer(const struct trace_table * table, int32_t layer);
