// A tracer's memory as others see it: mapped read-only, and every place in it checked before it is looked at, as the
// process behind it may be anybody's.

#pragma once

#include "live/live-layout.h"
#include "tool/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct live_map {
    const char * base; // NULL: closed
    size_t       size;
    size_t       entries_at;
    size_t       entry_size;
    size_t       n_entries;
};

// Plain values of an entry.
struct live_segment {
    uint32_t kind;
    uint32_t model;
    uint32_t context;
    uint64_t offset;
    uint64_t size;
};

// The descriptor stays the caller's. False, and why, where it is no such memory.
bool live_map_open (struct live_map * map, int fd, struct error * error);
void live_map_close(struct live_map * map);

static inline const struct live_header * live_map_header(const struct live_map * map) {
    return (const struct live_header *) (const void *) map->base;
}

struct live_segment live_map_segment(const struct live_map * map, size_t i);

// Bytes of the file, which begin at a multiple of 8. NULL where they are not all there.
const void * live_map_at(const struct live_map * map, uint64_t offset, uint64_t size);

// Attempts that the other side can spoil end some time: a time of the monotonic clock, milliseconds.
int64_t live_map_deadline(int64_t milliseconds);
bool    live_map_is_late (int64_t deadline);

// A sequence lock: waits for an even number. False where there was none in time. What was read in between counts if
// it is the same behind.
bool live_map_begin  (const _Atomic uint32_t * sequence, int64_t deadline, uint32_t * number);
bool live_map_is_same(const _Atomic uint32_t * sequence, uint32_t number);
