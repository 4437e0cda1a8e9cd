// Reads routing traces (docs/trace-format.md), packed or not, from the first ubatch to the last.
//
// Each ubatch is told whole, with what became known of it later.
//
// Thread-safety: a trace may be read by several cursors in several threads; a cursor belongs to one thread.

#pragma once

#include "trace/read/trace-opening.h"
#include "trace/read/trace-values.h"

// Goes through the ubatches from the first one on.
struct trace_cursor;
struct trace_cursor * trace_cursor_new (const struct trace * trace);   // NULL: out of memory
void                  trace_cursor_free(struct trace_cursor * cursor);

// Goes on with the first ubatch that has at least this number: chunks before it are not looked at, and their batches
// not counted.
void trace_cursor_seek(struct trace_cursor * cursor, uint64_t number);

// The next ubatch; what it points to is valid until the next call. Returns false at the end. Numbers rise. Of a chunk
// that does not check nothing is returned; all of its ubatches are counted in trace_cursor_lost(), and so is every one
// that cannot be told: they come in addition to the lost_ubatches of trace_about().
bool     trace_next       (struct trace_cursor * cursor, struct trace_ubatch * ubatch);
uint64_t trace_cursor_lost(const struct trace_cursor * cursor);

// Bytes of the file that have been gone through, for progress.
uint64_t trace_cursor_offset(const struct trace_cursor * cursor);
