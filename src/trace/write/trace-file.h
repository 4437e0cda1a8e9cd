// The file, or the files, of a routing trace: chunk by chunk, and never half of one where that can be helped.

#pragma once

#include "base/claim.h"
#include "trace/format/chunk-header.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct trace_file {
    struct claimed at;         // its descriptor holds the lock, -1: none
    uint32_t       n_chunks;
    uint64_t       size;
    bool           is_callers; // it was not claimed: its name is the caller's business
};

#define TRACE_FILE_NONE { { .fd = -1 }, 0, 0, false }

// What there is to know to make a file.
struct trace_file_wish {
    const char              * path;     // absolute
    const char              * run;
    bool                      rotated;  // it is a part, and its name has a number
    const struct trace_file * after;    // the part before, NULL: it is the first
    uint64_t                  limit;    // see struct claim
    const void              * data;     // whole chunks, with the header first
    size_t                    size;
    uint32_t                  n_chunks;
};

// Makes the file, or one beside it of a similar name where something is there. Returns 0, or -errno: see claim_new().
int trace_file_create(struct trace_file * file, const struct trace_file_wish * wish);

// Begins the file in an empty one that the caller has open; its descriptor is duplicated. Returns 0, or -errno.
int trace_file_create_in(struct trace_file * file, int descriptor, const struct trace_file_wish * wish);

// What happened to a file that is being written.
enum trace_file_fate {
    TRACE_FILE_STANDS,
    TRACE_FILE_MOVED,     // its path is nobody's or another file's now: what is written to it is not lost
    TRACE_FILE_DELETED,
    TRACE_FILE_TRUNCATED,
};

enum trace_file_fate trace_file_look(const struct trace_file * file);

// Appends a chunk: room for its header, and the payload. The header gets its number and checksums here. Returns 0, or
// -errno: the file is as it was then.
int trace_file_append(struct trace_file * file, uint8_t * chunk, const struct chunk_header * header);

void trace_file_close(struct trace_file * file);
