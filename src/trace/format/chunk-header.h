// The header of a chunk of the routing trace (docs/trace-format.md, "Chunks"): the one place where its bytes are put
// together and taken apart, for who writes, reads and rewrites traces.

#pragma once

#include "trace/format/trace-format.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct chunk_header {
    uint64_t first;      // ubatch
    int64_t  time;       // microseconds since 1970
    uint32_t number;     // of the chunk, from 0
    uint32_t size;       // of the payload
    uint32_t n_ubatches;
    uint32_t n_tokens;
    uint32_t crc;        // of the payload
    uint8_t  kind;       // enum trace_chunk_kind, or what a newer version has
};

enum chunk_header_state {
    CHUNK_HEADER_GOOD,
    CHUNK_HEADER_CUT_OFF, // there are not as many bytes
    CHUNK_HEADER_NEWER,   // than this version
    CHUNK_HEADER_DAMAGED,
    CHUNK_HEADER_FOREIGN, // no chunk begins there
};

// Writes TRACE_HEADER_SIZE bytes. The payload has `header->size` bytes; its checksum is computed, whatever `crc` is.
void chunk_header_encode(uint8_t * to, const struct chunk_header * header, const void * payload);

// Of as many bytes as there are from the chunk's beginning on. Fills in the header where it is good or newer.
enum chunk_header_state chunk_header_decode(struct chunk_header * header, const uint8_t * from, size_t n);

// Whether a payload of `header->size` bytes is the one that the header was made for.
bool chunk_header_has_payload(const struct chunk_header * header, const void * payload);
