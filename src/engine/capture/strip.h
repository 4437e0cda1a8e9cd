// Memory of ours on one backend of a scheduler, into which selections land: taken once, at the size that the largest
// graph needs, and kept as long as the scheduler lives.

#pragma once

#include "engine/upstream/real.h"

struct strip {
    void                * backend;
    bool                  is_cpu;    // what landed can be read as soon as the graph has run
    size_t                alignment;
    void                * buffer;    // NULL: none so far
    char                * base;      // an address of the device
    size_t                size;
    struct ggml_context * context;   // of `whole`
    struct ggml_tensor  * whole;     // the strip as one tensor
};

// Returns whether the backend is one device, as it has to be.
bool strip_init(struct strip * strip, const struct real * real, void * backend);

// Takes memory of this size at least, in place of what there is. Nothing may be landing in that. Returns false where
// the device has none left.
bool strip_make(struct strip * strip, const struct real * real, size_t size);

// Gives the memory back.
void strip_free(struct strip * strip, const struct real * real);
