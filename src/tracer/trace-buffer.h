// What is on its way to the routing trace: chunks in a ring of memory, in the order in which they will be in the file.
// The last one is open until it is sealed, and grows; the oldest is taken out when it is on the disk.

#ifndef TRACER_TRACE_BUFFER_H
#define TRACER_TRACE_BUFFER_H

#include "trace/trace-format.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRACE_BUFFER_DEFAULT (32 << 20) // bytes

#define TRACE_GAP_REASONS (TRACE_GAP_LOST + 1)

struct trace_gap {
    uint64_t n_ubatches;
    uint64_t n_tokens;
};

// What is told of, in a chunk or in all of them.
struct trace_counts {
    uint64_t         n_ubatches; // recorded
    uint64_t         n_tokens;   // recorded
    struct trace_gap gaps[TRACE_GAP_REASONS];
};

struct trace_chunk {
    struct trace_chunk  * next;
    enum trace_chunk_kind kind;
    uint64_t              first; // see docs/trace-format.md
    int64_t               time;
    struct trace_counts   counts;
    size_t                size;    // of the payload
    uint8_t               bytes[]; // room for the header, and the payload
};

struct trace_buffer {
    uint8_t            * memory;
    size_t               size;
    size_t               end;     // of the last chunk
    struct trace_chunk * oldest;
    struct trace_chunk * last;
    bool                 is_open; // the last one
};

// More than the machine has is not given, though the system would promise it.
size_t trace_buffer_most(void);

// Returns false where memory runs out.
bool trace_buffer_init(struct trace_buffer * buffer, size_t size);
void trace_buffer_free(struct trace_buffer * buffer);

// The largest payload that there can be room for.
size_t trace_buffer_largest(const struct trace_buffer * buffer);

// Opens a chunk, zeroed but for its kind, with room for a payload of `size` bytes. None is open. Returns NULL where there is no room now.
struct trace_chunk * trace_buffer_open(struct trace_buffer * buffer, enum trace_chunk_kind kind, size_t size);

// Whether the open chunk has room for `size` bytes more, where they go, and where they ended.
bool      trace_buffer_has_room(const struct trace_buffer * buffer, size_t size);
uint8_t * trace_buffer_at      (const struct trace_buffer * buffer);
void      trace_buffer_grow    (struct trace_buffer * buffer, const uint8_t * end);
void      trace_buffer_seal    (struct trace_buffer * buffer);

// The oldest sealed chunk, NULL: none. It stays where it is until it is taken out.
struct trace_chunk * trace_buffer_oldest  (const struct trace_buffer * buffer);
void                 trace_buffer_take_out(struct trace_buffer * buffer);

#endif // TRACER_TRACE_BUFFER_H
