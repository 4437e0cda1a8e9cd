// Where a trace's bytes come from: a file, whose size is the one it had when it was looked at last, memory, or several
// files one behind the other.
//
// The file is read, not mapped: one that is made smaller meanwhile ends early, and the program does not with it.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct trace_source {
    int                   fd;     // -1: memory
    const uint8_t       * memory;
    uint64_t              size;   // with all that is before it
    uint64_t              begin;  // offset of the file's first byte
    struct trace_source * before; // the files in front of it, NULL: none
};

#define TRACE_SOURCE_CLOSED { -1, NULL, 0, 0, NULL }

// "-" is the standard input. What cannot be read twice, as a pipe, is copied to a temporary file without a name.
// Returns NULL, or what is wrong.
const char * trace_source_open (struct trace_source * source, const char * path);
void         trace_source_close(struct trace_source * source);

// Takes the size that the file has now. False where it has become smaller, and the size is what it was.
bool trace_source_grow(struct trace_source * source);

// Whether the program that writes the file lives, which holds a lock on it; true too where that cannot be known.
bool trace_source_is_written(const struct trace_source * source);

// Puts another file behind it, which is the one that grows then. Takes `next` over. False: out of memory.
bool trace_source_append(struct trace_source * source, struct trace_source next);

// Returns how many bytes there were.
size_t trace_source_read(const struct trace_source * source, uint64_t offset, void * data, size_t size);
