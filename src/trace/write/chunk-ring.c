// Finds places for chunks in a ring of mapped memory.

#include "trace/write/chunk-ring.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define OVERHEAD   (sizeof(struct ring_chunk) + TRACE_HEADER_SIZE) // of a chunk, before its payload
#define SIZE_LIMIT (UINT32_MAX / 2) // of a ubatch: what is told of a payload's size has 32 bits
#define ALIGNED    _Alignof(struct ring_chunk)

size_t chunk_ring_most(void) {
    const long pages = sysconf(_SC_PHYS_PAGES);
    const long page  = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? (size_t) pages * (size_t) page : SIZE_MAX;
}

// Mapped, so that freed memory is the system's again whatever the program's malloc() would do with it, and so that the
// size from which that maps memory itself stays as it is.
bool chunk_ring_init(struct chunk_ring * buffer, size_t size) {
    *buffer = (struct chunk_ring) { 0 };
    if (size > chunk_ring_most()) {
        return false;
    }
    void * memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return false;
    }
    *buffer = (struct chunk_ring) { .memory = memory, .size = size };
    return true;
}

void chunk_ring_free(struct chunk_ring * buffer) {
    if (buffer->memory != NULL) {
        munmap(buffer->memory, buffer->size);
    }
    *buffer = (struct chunk_ring) { 0 };
}

size_t chunk_ring_largest(const struct chunk_ring * buffer) {
    const size_t largest = buffer->size > OVERHEAD ? buffer->size - OVERHEAD : 0;
    return largest < SIZE_LIMIT ? largest : SIZE_LIMIT;
}

static size_t place_of(const struct chunk_ring * buffer, const struct ring_chunk * chunk) {
    return (size_t) ((const uint8_t *) chunk - buffer->memory);
}

// The last chunk lies before the oldest one.
static bool has_wrapped(const struct chunk_ring * buffer) {
    return buffer->oldest != NULL && buffer->end <= place_of(buffer, buffer->oldest);
}

// Bytes behind the last chunk.
static size_t room_behind(const struct chunk_ring * buffer) {
    return (has_wrapped(buffer) ? place_of(buffer, buffer->oldest) : buffer->size) - buffer->end;
}

// Returns the buffer's size where there is none.
static size_t find_place(const struct chunk_ring * buffer, size_t size) {
    const size_t needed = OVERHEAD + size;
    if (buffer->oldest == NULL) {
        return buffer->size >= needed ? 0 : buffer->size;
    }
    const size_t padding = (ALIGNED - buffer->end % ALIGNED) % ALIGNED;
    if (room_behind(buffer) >= padding + needed) {
        return buffer->end + padding;
    }
    return !has_wrapped(buffer) && place_of(buffer, buffer->oldest) >= needed ? 0 : buffer->size;
}

struct ring_chunk * chunk_ring_open(struct chunk_ring * buffer, enum trace_chunk_kind kind, size_t size) {
    const size_t place = find_place(buffer, size);
    if (place == buffer->size) {
        return NULL;
    }
    struct ring_chunk * chunk = (void *) (buffer->memory + place);
    memset(chunk, 0, sizeof(*chunk));
    chunk->kind = kind;
    if (buffer->oldest != NULL) {
        buffer->last->next = chunk;
    } else {
        buffer->oldest = chunk;
    }
    buffer->last    = chunk;
    buffer->end     = place + OVERHEAD;
    buffer->is_open = true;
    return chunk;
}

bool chunk_ring_has_room(const struct chunk_ring * buffer, size_t size) {
    return room_behind(buffer) >= size;
}

uint8_t * chunk_ring_at(const struct chunk_ring * buffer) {
    return buffer->memory + buffer->end;
}

void chunk_ring_grow(struct chunk_ring * buffer, const uint8_t * end) {
    buffer->last->size += (size_t) (end - chunk_ring_at(buffer));
    buffer->end         = (size_t) (end - buffer->memory);
}

void chunk_ring_seal(struct chunk_ring * buffer) {
    buffer->is_open = false;
}

struct ring_chunk * chunk_ring_oldest(const struct chunk_ring * buffer) {
    return buffer->oldest == buffer->last && buffer->is_open ? NULL : buffer->oldest;
}

void chunk_ring_take_out(struct chunk_ring * buffer) {
    buffer->oldest = buffer->oldest->next;
    if (buffer->oldest == NULL) {
        buffer->last = NULL;
        buffer->end  = 0;
    }
}
