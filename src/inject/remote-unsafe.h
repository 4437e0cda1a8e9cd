// Code of a process that must not be interrupted by a call of ours: the dynamic linker's, and that of malloc.

#pragma once

#include "inject/remote-object.h"

struct remote_range {
    uint64_t start;
    uint64_t end;
};

struct remote_unsafe {
    struct remote_range * code;   // that no thread which is used may have been called from
    size_t                n_code;
    struct remote_range * locks;  // where no thread which is used may wait for a word
    size_t                n_locks;
};

void remote_unsafe_find(const struct remote_process * process, const struct remote_objects * objects,
                        struct remote_unsafe * unsafe);
void remote_unsafe_free(struct remote_unsafe * unsafe);

bool remote_is_unsafe_code(const struct remote_unsafe * unsafe, uint64_t address);
bool remote_is_unsafe_lock(const struct remote_unsafe * unsafe, uint64_t address);
