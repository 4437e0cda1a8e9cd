// Maps the memory that a running tracer hands out, and waits for its sequence locks.

#include "live/live-map.h"

#include "tool/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#define LIVE_MAP_SIZE_MAX ((uint64_t) 1 << 30)
#define ENTRIES_MAX       4096 // far more than any release has

// Shrinking under the mapping would end this process.
static bool is_sealed(int fd) {
    const int seals = fcntl(fd, F_GET_SEALS);
    return seals >= 0 && (seals & F_SEAL_SHRINK) != 0;
}

static bool check_header(struct live_map * map, struct error * error) {
    const struct live_header * header = live_map_header(map);
    if (memcmp(header->magic, LIVE_MAGIC, sizeof(header->magic)) != 0) {
        return error_set(error, "what it hands out is no live memory of a tracer");
    }
    if (header->version != LIVE_VERSION) {
        return error_set(error, "its live memory has version %u, this command knows version %d: use the command of the "
                                "same release", (unsigned) header->version, LIVE_VERSION);
    }
    map->entries_at = header->entries_at;
    map->entry_size = header->entry_size;
    map->n_entries  = header->n_entries;
    if (map->entry_size < sizeof(struct live_entry) || map->entry_size % 8 != 0 || map->entries_at < sizeof(*header) ||
        map->n_entries > ENTRIES_MAX ||
        live_map_at(map, map->entries_at, map->n_entries * map->entry_size) == NULL) {
        return error_set(error, "its live memory is damaged: its entries are not where they should be");
    }
    return true;
}

bool live_map_open(struct live_map * map, int fd, struct error * error) {
    struct stat status;
    *map = (struct live_map) { 0 };
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || !is_sealed(fd)) {
        return error_set(error, "what it hands out is no sealed memory");
    }
    if (status.st_size < LIVE_HEADER_ROOM || (uint64_t) status.st_size > LIVE_MAP_SIZE_MAX) {
        return error_set(error, "its live memory has a size that no tracer makes");
    }
    void * base = mmap(NULL, (size_t) status.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        return error_set(error, "its live memory cannot be mapped: %s", strerror(errno));
    }
    map->base = base;
    map->size = (size_t) status.st_size;
    if (!check_header(map, error)) {
        live_map_close(map);
        return false;
    }
    return true;
}

void live_map_close(struct live_map * map) {
    if (map->base != NULL) {
        munmap((void *) (uintptr_t) map->base, map->size);
    }
    *map = (struct live_map) { 0 };
}

const void * live_map_at(const struct live_map * map, uint64_t offset, uint64_t size) {
    return offset % 8 != 0 || offset > map->size || size > map->size - offset ? NULL : map->base + offset;
}

struct live_segment live_map_segment(const struct live_map * map, size_t i) {
    const struct live_entry * entry = (const void *) (map->base + map->entries_at + i * map->entry_size);
    return (struct live_segment) {
        .kind    = atomic_load_explicit(&entry->kind,    memory_order_relaxed),
        .model   = atomic_load_explicit(&entry->model,   memory_order_relaxed),
        .context = atomic_load_explicit(&entry->context, memory_order_relaxed),
        .offset  = atomic_load_explicit(&entry->offset,  memory_order_relaxed),
        .size    = atomic_load_explicit(&entry->size,    memory_order_relaxed),
    };
}

int64_t live_map_deadline(int64_t after) {
#ifdef EXPERT_TRACER_FUZZING // less to wait for
    after = 1;
#endif
    return clock_milliseconds() + after;
}

bool live_map_is_late(int64_t deadline) {
    return clock_milliseconds() >= deadline;
}

bool live_map_begin(const _Atomic uint32_t * sequence, int64_t deadline, uint32_t * number) {
    const struct timespec pause = { 0, 50000 };
    for (;;) {
        *number = atomic_load_explicit(sequence, memory_order_acquire);
        if (*number % 2 == 0) {
            return true;
        }
        if (live_map_is_late(deadline)) {
            return false;
        }
        nanosleep(&pause, NULL);
    }
}

bool live_map_is_same(const _Atomic uint32_t * sequence, uint32_t number) {
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(sequence, memory_order_relaxed) == number;
}
