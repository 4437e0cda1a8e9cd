// The memory that a running tracer shows (docs/live-format.md): a sealed memfd, with segments for what the tracer
// counts in. Others map the same memory, so that nothing is copied for them.

#pragma once

#include "base/memory-source.h"
#include "live/live-layout.h"

#include <stdbool.h>

struct live_memory;

// What the header has to say.
struct live_about {
    const char * name;
    const char * program;
    const char * tracer;
};

// Returns NULL, and -errno in *error, where there is no such memory to be had.
struct live_memory * live_memory_new (const struct live_about * about, int * error);
void                 live_memory_free(struct live_memory * memory); // NULL is ignored

int64_t live_memory_started(const struct live_memory * memory); // microseconds since 1970

// Open for reading alone. It is the memory's.
int live_memory_descriptor(const struct live_memory * memory);

// Segments. Where the file has no room left they come from the heap: nobody sees them then.
const struct memory_source * live_memory_source(struct live_memory * memory);

// Where in the file that is, 0: it is not there.
uint64_t live_memory_offset(const struct live_memory * memory, const void * at);

// Entries, and the tables of counters that they lead to, change between these two, by one thread at a time. NULL is
// ignored.
void live_memory_change    (struct live_memory * memory);
void live_memory_change_end(struct live_memory * memory);

// Between them. Returns the entry's number; -1: there is no room, or `at` is not in the file. -1 and NULL are ignored
// when it is removed.
int  live_memory_add   (struct live_memory * memory, const struct live_entry * entry, const void * at);
void live_memory_remove(struct live_memory * memory, int number);

void live_memory_note_hidden  (struct live_memory * memory); // a context is counted where nobody sees it
void live_memory_note_switches(struct live_memory * memory, uint32_t switches);
