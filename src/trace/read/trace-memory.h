// What was read of a trace, and whether it checked: a file may change while it is open, and who goes through it a
// second time must not find another one.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct trace_memory;

struct trace_memory * trace_memory_new (void); // NULL: out of memory
void                  trace_memory_free(struct trace_memory * memory);

// Of a chunk that is read while the trace is opened, offsets rising. Returns false where memory runs out.
bool trace_memory_add (struct trace_memory * memory, uint64_t offset, bool good);

// The trace is open, or has grown, with so many chunks of data now; the walk through the file has lost so many chunks
// and bytes. Returns false where memory runs out.
bool trace_memory_end (struct trace_memory * memory, size_t n_data, uint64_t lost_chunks, uint64_t lost_bytes);

// Of a trace that is open: whether a chunk is as it was the last time. One of data by its index, which may be read for
// the first time; any other by its offset.
bool trace_memory_data (struct trace_memory * memory, size_t i, bool good);
bool trace_memory_other(const struct trace_memory * memory, uint64_t offset, bool good);
bool trace_memory_walk (const struct trace_memory * memory, uint64_t lost_chunks, uint64_t lost_bytes);

// Something was not as it was.
void trace_memory_set_changed(struct trace_memory * memory);
bool trace_memory_changed    (const struct trace_memory * memory);
