// The file, or the files, of a routing trace: chunk by chunk, and never half of one where that can be helped.

#ifndef TRACER_TRACE_FILE_H
#define TRACER_TRACE_FILE_H

#include "trace/trace-format.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// What a chunk's header says besides the number, the size and the sums.
struct trace_chunk_head {
    enum trace_chunk_kind kind;
    uint64_t              n_ubatches;
    uint64_t              first;
    int64_t               time;
    uint64_t              n_tokens;
};

struct trace_file {
    char   * path;      // absolute
    int      fd;        // holds the lock, -1: none
    int      n_sibling; // 1: the path that was wanted
    uint32_t n_chunks;
    uint64_t size;
};

#define TRACE_FILE_NONE { NULL, -1, 1, 0, 0 }

// Writes the header of a chunk, which is followed by `size` bytes of payload.
void trace_chunk_seal(uint8_t * chunk, const struct trace_chunk_head * head, uint32_t number, size_t size);

// What there is to know to make a file.
struct trace_file_wish {
    const char * path;      // absolute
    const char * run;
    int64_t      part;      // of a trace that is rotated, which the name tells; -1: it is not
    int          n_sibling; // the first to be tried
    const void * data;      // whole chunks, with the header first
    size_t       size;
    uint32_t     n_chunks;
};

// Makes the file, or one beside it of a similar name where that is another's. Returns 0, or -errno: see claim_path().
int trace_file_create(struct trace_file * file, const struct trace_file_wish * wish);

// Appends a chunk: room for its header, and the payload. Returns 0, or -errno: the file is as it was then.
int trace_file_append(struct trace_file * file, uint8_t * chunk, const struct trace_chunk_head * head, size_t size);

void trace_file_close(struct trace_file * file);

#endif // TRACER_TRACE_FILE_H
