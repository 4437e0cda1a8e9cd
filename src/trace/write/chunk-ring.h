// What is on its way to the routing trace: chunks in a ring of memory, in the order in which they will be in the file.
// The last one is open until it is sealed, and grows; the oldest is taken out when it is on the disk.

#pragma once

#include "trace/format/trace-format.h"

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

struct ring_chunk {
    struct ring_chunk  * next;
    enum trace_chunk_kind kind;
    uint64_t              first; // see docs/trace-format.md
    int64_t               time;
    struct trace_counts   counts;
    size_t                size;    // of the payload
    uint8_t               bytes[]; // room for the header, and the payload
};

struct chunk_ring {
    uint8_t            * memory;
    size_t               size;
    size_t               end;     // of the last chunk
    struct ring_chunk * oldest;
    struct ring_chunk * last;
    bool                 is_open; // the last one
};

// More than the machine has is not given, though the system would promise it.
size_t chunk_ring_most(void);

// Returns false where memory runs out.
bool chunk_ring_init(struct chunk_ring * buffer, size_t size);
void chunk_ring_free(struct chunk_ring * buffer);

// The largest payload that there can be room for.
size_t chunk_ring_largest(const struct chunk_ring * buffer);

// Opens a chunk, zeroed but for its kind, with room for a payload of `size` bytes. None is open. Returns NULL where
// there is no room now.
struct ring_chunk * chunk_ring_open(struct chunk_ring * buffer, enum trace_chunk_kind kind, size_t size);

// Whether the open chunk has room for `size` bytes more, where they go, and where they ended.
bool      chunk_ring_has_room(const struct chunk_ring * buffer, size_t size);
uint8_t * chunk_ring_at      (const struct chunk_ring * buffer);
void      chunk_ring_grow    (struct chunk_ring * buffer, const uint8_t * end);
void      chunk_ring_seal    (struct chunk_ring * buffer);

// The oldest sealed chunk, NULL: none. It stays where it is until it is taken out.
struct ring_chunk * chunk_ring_oldest  (const struct chunk_ring * buffer);
void                 chunk_ring_take_out(struct chunk_ring * buffer);
