// What different threads write lies in different cache lines: in a shared one they would slow each other down.

#pragma once

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define CACHE_LINE 128 // of the processors with the longest ones; others fetch two of 64 at a time

// Zeroed memory that shares no cache line with any other, to be freed with free(). Returns NULL where there is none.
static inline void * cache_line_alloc(size_t size) {
    const size_t whole  = (size / CACHE_LINE + 1) * CACHE_LINE;
    void       * memory = NULL;
    return posix_memalign(&memory, CACHE_LINE, whole) == 0 ? memset(memory, 0, whole) : NULL;
}
