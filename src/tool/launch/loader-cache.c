// The cache of glibc's loader, /etc/ld.so.cache, whatever bytes it has.

#include "tool/launch/loader-cache.h"

#include "tool/error.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC     "glibc-ld.so.cache1.1"
#define OLD_MAGIC "ld.so-1.7.0"
#define CACHE_MAX ((off_t) 64 << 20)

struct header {
    char     magic[sizeof(MAGIC) - 1];
    uint32_t n_entries;
    uint32_t n_strings;
    uint32_t more[5];
};

struct entry {
    uint32_t flags;
    uint32_t name; // counted from the header
    uint32_t path;
    uint32_t version;
    uint64_t hwcap;
};

struct old_header {
    char     magic[sizeof(OLD_MAGIC) - 1];
    uint32_t n_entries;
};

#define OLD_ENTRY_SIZE ((size_t) 12)

static bool read_whole(int fd, char * bytes, size_t size) {
    size_t n = 0;
    while (n < size) {
        const ssize_t got = read(fd, bytes + n, size - n);
        if (got <= 0) {
            return false;
        }
        n += (size_t) got;
    }
    return true;
}

void loader_cache_open(struct loader_cache * cache, const char * path) {
    struct stat status;
    const int   fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    *cache = (struct loader_cache) { NULL, 0 };
    if (fd >= 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0
            && status.st_size < CACHE_MAX) {
        cache->size  = (size_t) status.st_size;
        cache->bytes = memory_new(cache->size + 1, 1); // a NUL behind
        if (!read_whole(fd, cache->bytes, cache->size)) {
            loader_cache_close(cache);
        }
    }
    if (fd >= 0) {
        close(fd);
    }
}

void loader_cache_close(struct loader_cache * cache) {
    free(cache->bytes);
    *cache = (struct loader_cache) { NULL, 0 };
}

// ldconfig of before 2.32 puts the older format before this one, for programs that are older still.
static size_t begin_of(const struct loader_cache * cache) {
    struct old_header old;
    if (cache->size < sizeof(old) || memcmp(cache->bytes, OLD_MAGIC, sizeof(OLD_MAGIC) - 1) != 0) {
        return 0;
    }
    memcpy(&old, cache->bytes, sizeof(old));
    const size_t end = sizeof(old) + old.n_entries * OLD_ENTRY_SIZE;
    return (end + 7) / 8 * 8;
}

const char * loader_cache_next(const struct loader_cache * cache, const char * name, size_t * i) {
    struct header header;
    const size_t  begin = cache->bytes == NULL ? 0 : begin_of(cache);
    if (cache->bytes == NULL || begin > cache->size || cache->size - begin < sizeof(header)) {
        return NULL;
    }
    memcpy(&header, cache->bytes + begin, sizeof(header));
    const size_t size = cache->size - begin;
    const size_t room = (size - sizeof(header)) / sizeof(struct entry);
    const bool   ok   = memcmp(header.magic, MAGIC, sizeof(MAGIC) - 1) == 0;
    const size_t n    = !ok ? 0 : header.n_entries < room ? header.n_entries : room;
    while (*i < n) {
        struct entry entry;
        memcpy(&entry, cache->bytes + begin + sizeof(header) + *i * sizeof(entry), sizeof(entry));
        (*i)++;
        if (entry.name < size && entry.path < size && strcmp(cache->bytes + begin + entry.name, name) == 0) {
            return cache->bytes + begin + entry.path;
        }
    }
    return NULL;
}
