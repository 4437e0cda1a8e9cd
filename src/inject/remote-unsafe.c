// Takes the ranges from the objects' segments, and malloc's from the functions of it that are exported.

#include "inject/remote-unsafe.h"

#include <stdlib.h>
#include <string.h>

#define AROUND_MALLOC    ((uint64_t) 32 << 10) // what it has that is not exported
#define ARENA_MULTIPLE   ((uint64_t) 64 << 20) // where heaps of threads begin
#define ARENA_LOCK_BELOW ((uint64_t) 4 << 10)

static const char * const MALLOC[] = {
    "__default_morecore", "malloc", "free", "cfree", "realloc", "calloc", "memalign", "aligned_alloc", "valloc",
    "pvalloc", "malloc_trim", "malloc_usable_size", "mallinfo2", "mallinfo", "malloc_stats", "mallopt",
    "posix_memalign", "malloc_info", "reallocarray",
};

static void add(struct remote_range ** ranges, size_t * n, uint64_t start, uint64_t end) {
    *ranges = memory_resize(*ranges, *n + 1, sizeof(**ranges));
    (*ranges)[(*n)++] = (struct remote_range) { start, end };
}

static bool is_within(const struct remote_range * ranges, size_t n, uint64_t address) {
    for (size_t i = 0; i < n; i++) {
        if (address >= ranges[i].start && address < ranges[i].end) {
            return true;
        }
    }
    return false;
}

static void add_segments(const struct remote_object * object, struct remote_unsafe * unsafe, bool code, bool data) {
    for (size_t i = 0; i < object->n_segments; i++) {
        const struct remote_segment * segment = &object->segments[i];
        if (code && segment->can_execute) {
            add(&unsafe->code, &unsafe->n_code, segment->start, segment->end);
        }
        if (data && segment->can_write) {
            add(&unsafe->locks, &unsafe->n_locks, segment->start, segment->end);
        }
    }
}

// From the lowest to the highest of malloc's functions. False: there are none.
static bool find_malloc(const struct remote_process * process, const struct remote_object * object,
                        struct remote_range * range) {
    *range = (struct remote_range) { UINT64_MAX, 0 };
    for (size_t i = 0; i < sizeof(MALLOC) / sizeof(MALLOC[0]); i++) {
        const uint64_t address = remote_function(process, object, MALLOC[i]);
        if (address != 0) {
            range->start = address < range->start ? address : range->start;
            range->end   = address > range->end   ? address : range->end;
        }
    }
    return range->end != 0 && remote_function(process, object, "malloc") != 0;
}

// What is below it and is not exported is malloc's, up to the next function that is.
static void add_malloc(const struct remote_process * process, const struct remote_object * object,
                       const struct remote_range * malloc_range, struct remote_unsafe * unsafe) {
    const uint64_t before = remote_function_before(process, object, malloc_range->start);
    const uint64_t most   = malloc_range->start > AROUND_MALLOC ? malloc_range->start - AROUND_MALLOC : 0;
    add(&unsafe->code, &unsafe->n_code, before > most ? before : most, malloc_range->end + AROUND_MALLOC);
}

static void add_object(const struct remote_process * process, const struct remote_object * object,
                       struct remote_unsafe * unsafe) {
    const bool          is_libc    = strcmp(object->name, "libc.so.6") == 0;
    const bool          is_threads = strcmp(object->name, "libpthread.so.0") == 0;
    const bool          is_linker  = strncmp(object->name, "ld-linux", strlen("ld-linux")) == 0;
    struct remote_range range;
    add_segments(object, unsafe, is_linker, is_linker || is_libc || is_threads);
    if (is_linker || !find_malloc(process, object, &range)) {
        return;
    }
    if (is_libc || object->is_program) {
        add_malloc(process, object, &range, unsafe);
    } else {
        add_segments(object, unsafe, true, false);
    }
}

void remote_unsafe_find(const struct remote_process * process, const struct remote_objects * objects,
                        struct remote_unsafe * unsafe) {
    *unsafe = (struct remote_unsafe) { 0 };
    for (size_t i = 0; i < objects->n; i++) {
        add_object(process, &objects->all[i], unsafe);
    }
}

void remote_unsafe_free(struct remote_unsafe * unsafe) {
    free(unsafe->code);
    free(unsafe->locks);
    *unsafe = (struct remote_unsafe) { 0 };
}

bool remote_is_unsafe_code(const struct remote_unsafe * unsafe, uint64_t address) {
    return is_within(unsafe->code, unsafe->n_code, address);
}

bool remote_is_unsafe_lock(const struct remote_unsafe * unsafe, uint64_t address) {
    return address % ARENA_MULTIPLE < ARENA_LOCK_BELOW || is_within(unsafe->locks, unsafe->n_locks, address);
}
