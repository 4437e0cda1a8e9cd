// The expert cache of llama.cpp 0.7.0 (--moe-cache-mib), as it behaves: one list of least recently used experts for all
// layers whose expert tensors have the same layout. Found out from what the program prints of its runs, see
// tests/engine/test_real_cache.py.
//
// One thread at a time.

#pragma once

#include "analysis/cache-study.h"

#define LLAMA_MOE_CACHE_MAX_ROWS 32 // a layer with more rows passes by

struct llama_moe_cache_layer {
    int32_t         n_expert;
    int32_t         n_used;
    int32_t         group;
    bool            is_kept;      // all its experts are on the device anyway: they are always there, and take no slots
    size_t          n_tensors;
    const int64_t * tensor_bytes; // [n_tensors] of one expert
};

struct llama_moe_cache_totals {
    struct cache_hits small; // steps of at most 8 rows
    struct cache_hits large; // of more
    uint64_t          taken; // experts that steps which passed by found there
    uint64_t          asked; // experts that those steps used
};

struct llama_moe_cache_options {
    double  budget;    // bytes, what --moe-cache-mib names times 2^20
    size_t  alignment; // of the device's buffers
    int32_t max_rows;  // LLAMA_MOE_CACHE_MAX_ROWS is what the program has; 0: no limit
};

struct llama_moe_cache;

// NULL: out of memory.
struct llama_moe_cache * llama_moe_cache_new (size_t n_layers, const struct llama_moe_cache_layer * layers,
                                              const struct llama_moe_cache_options * options);
void                     llama_moe_cache_free(struct llama_moe_cache * cache);

// Slots that the layers of a group share; 0: they are not cached.
size_t llama_moe_cache_slots(const struct llama_moe_cache * cache, int32_t group);

// An expert becomes the most recent one, as if it had just been used: for a cache that begins with what another has.
void llama_moe_cache_use(struct llama_moe_cache * cache, const struct cache_expert * expert);

// Which of the step's experts were there: hits[n_experts]. Counted in the totals, unless its group is not cached.
void                          llama_moe_cache_step  (struct llama_moe_cache * cache, const struct cache_step * step,
                                                     bool * hits);
struct llama_moe_cache_totals llama_moe_cache_totals(const struct llama_moe_cache * cache);
