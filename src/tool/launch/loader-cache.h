// /etc/ld.so.cache: where the libraries of the system's folders are, as ldconfig found them.

#pragma once

#include <stddef.h>

struct loader_cache {
    char * bytes; // NULL: there is none
    size_t size;
};

void loader_cache_open (struct loader_cache * cache, const char * path);
void loader_cache_close(struct loader_cache * cache);

// The next path after entry `*i` that the cache has for the name, and the entry behind it in `*i`. NULL: no more.
// The path is the cache's.
const char * loader_cache_next(const struct loader_cache * cache, const char * name, size_t * i);
