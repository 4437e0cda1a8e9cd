// What the fuzzers share: bytes as a file.

#pragma once

#include "../expect.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size);

struct fuzz_file {
    int  fd;
    char path[64];
};

static inline struct fuzz_file fuzz_file_make(const uint8_t * data, size_t size) {
    struct fuzz_file file = { .fd = memfd_create("input", MFD_CLOEXEC) };
    EXPECT(file.fd >= 0 && write(file.fd, data, size) == (ssize_t) size);
    snprintf(file.path, sizeof(file.path), "/proc/self/fd/%d", file.fd);
    return file;
}
