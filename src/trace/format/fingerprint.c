// Hashes the size and the beginning of a model's file.

#include "trace/format/fingerprint.h"

#include "base/descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define HASHED_SIZE (1 << 20)
#define FNV_BASIS   UINT64_C(0xcbf29ce484222325)
#define FNV_PRIME   UINT64_C(0x100000001b3)

// Returns false where less can be read than there should be.
static bool hash_beginning(int fd, uint64_t left, uint64_t * hash) {
    uint8_t block[1 << 14];
    *hash = FNV_BASIS;
    while (left > 0) {
        const ssize_t n = read(fd, block, left < sizeof(block) ? (size_t) left : sizeof(block));
        if (n == 0 || (n < 0 && errno != EINTR)) {
            return false;
        }
        for (ssize_t i = 0; i < n; i++) {
            *hash = (*hash ^ block[i]) * FNV_PRIME;
        }
        left -= n > 0 ? (uint64_t) n : 0;
    }
    return true;
}

bool fingerprint_read(const char * path, char fingerprint[FINGERPRINT_MAX]) {
    struct statx about;
    uint64_t     hash;
    const int    fd   = descriptor_open(AT_FDCWD, path, O_RDONLY | O_NONBLOCK, 0);
    const bool   done = fd >= 0 && statx(fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_SIZE, &about) == 0 &&
                        S_ISREG(about.stx_mode) &&
                        hash_beginning(fd, about.stx_size < HASHED_SIZE ? about.stx_size : HASHED_SIZE, &hash);
    if (done) {
        snprintf(fingerprint, FINGERPRINT_MAX, "%" PRIu64 "-%016" PRIx64, (uint64_t) about.stx_size, hash);
    }
    if (fd >= 0) {
        close(fd);
    }
    return done;
}
