// Descriptors of ours: above 2, and closed when another program takes the process's place. A program that was started
// without a standard output or error would otherwise write its own lines into our files.

#pragma once

#include <sys/types.h>

// As openat(), with O_CLOEXEC. `mode` where `flags` have O_CREAT. Returns the descriptor, or -errno.
int descriptor_open(int directory, const char * path, int flags, mode_t mode);

// For one that comes from another call, with errno where that failed (negative). Returns the descriptor, another one
// perhaps, or -errno.
int descriptor_take(int fd);
