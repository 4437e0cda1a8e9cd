// What so many bytes of device memory are best used for, found in what cache-gather.c saw of a trace.

#pragma once

#include "analysis/cache-study.h"

struct cache_gathered;

// One use of the memory.
struct cache_way {
    double rate;              // of the second half's requests, as many are served; NAN: it cannot be used so
    double tokens_per_second; // where the time is known
};

struct cache_advice {
    uint64_t         vram;          // bytes that are to be used
    bool             time_is_known; // the questions and the trace have all that it depends on
    bool             time_is_possible;
    double           tg;            // the questions': tokens a second with the experts in memory,
    double           ram;           // and bytes a second that the processor reads there
    double           break_even;    // hit rate from which on uploading is no slower than no cache at all
    bool             prefers_cache; // llama.cpp's cache is worth more than whole layers

    struct cache_way llama;         // llama.cpp's own cache
    uint64_t         llama_mib;
    size_t           llama_slots;   // 0: the memory is too little for it

    struct cache_way whole;         // the last layers as a whole, as --n-cpu-moe leaves them on the device
    size_t           n_whole;
    int32_t          first_whole;   // what --n-cpu-moe takes

    struct cache_way equal;         // an LRU cache for each layer
    size_t           equal_slots;

    struct cache_way tuned;         // the same, with as many slots in each layer as help there
    size_t         * tuned_slots;   // [n_layers]
    double           tuned_gain;    // of the rate over equal slots

    struct cache_way kept;          // the layers that a cache serves worst as a whole, and a cache for the others
    size_t           n_kept;        // 0: no layer is worth that
    int32_t        * kept_layers;   // [n_kept] as in blk.<layer>.
    size_t           kept_slots;    // in each of the others
    uint64_t         kept_mib;      // what is left for llama.cpp's cache
};

// False where no memory was asked about, or what it serves is not known: `advice` is empty then. Either way it must be
// freed.
bool cache_advise     (const struct cache_gathered * gathered, enum phase class, struct cache_advice * advice);
void cache_advice_free(struct cache_advice * advice);
