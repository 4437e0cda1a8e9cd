// What so many bytes of device memory are best used for, and how sure that is.

#pragma once

#include "answers/cache-value.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// One use of the memory.
struct cache_way {
    struct cache_value rate;              // of the second half's requests, as many are served; NAN: cannot be used so
    struct cache_value tokens_per_second; // where the time is known
};

// What can be typed into llama.cpp's command line, the plainest first.
enum cache_use {
    CACHE_USE_NOTHING, // experts stay in memory
    CACHE_USE_LAYERS,  // the last layers as a whole, as --n-cpu-moe leaves them on the device: nothing is copied
    CACHE_USE_LLAMA,   // llama.cpp's own cache
    CACHE_USE_KEPT,    // some layers as a whole, and that cache for the others
    CACHE_N_USES,
    CACHE_USE_ALL = CACHE_N_USES, // all experts fit
};

enum cache_reason {
    CACHE_BECAUSE_FITS,        // everything does
    CACHE_BECAUSE_TOO_LITTLE,  // no cache and no layer fits
    CACHE_BECAUSE_UNKNOWN,     // the bytes of experts are not known: there are shares, and no options
    CACHE_BECAUSE_RECORD_MORE, // too little was recorded for a verdict
    CACHE_BECAUSE_PROMPTS,     // hardly any generation was recorded
    CACHE_BECAUSE_IMPOSSIBLE,  // one of --ram and --tg is wrong
    CACHE_BECAUSE_LITTLE_TIME, // experts are too small a part of a token's time
    CACHE_BECAUSE_SLOW_LINK,   // the best of all caches could not make up for what it copies
    CACHE_BECAUSE_SLOWER,      // the cache is slower than no cache
    CACHE_BECAUSE_NO_GAIN,     // nothing is worth having
    CACHE_BECAUSE_FLOOR,       // less than one token's experts: a shared list serves nothing
    CACHE_BECAUSE_CHANCE,      // the cache serves no more than its share of the experts
    CACHE_BECAUSE_FASTER,      // by tokens a second
    CACHE_BECAUSE_LINK,        // by what is served, which takes a link of some speed
};

// What a list that layers share serves where CACHE_BECAUSE_UNKNOWN is all that can be said, against pinned experts.
enum cache_shares { CACHE_SHARES_ARE_CHANCE, CACHE_SHARES_ARE_BETTER, CACHE_SHARES_ARE_WORSE, CACHE_SHARES_ARE_ALIKE };

struct cache_advice {
    bool               is_asked;     // for a budget; otherwise it is about a quarter of the experts
    enum cache_use     use;
    enum cache_reason  reason;
    enum cache_shares  shares;       // where bytes are not known
    enum cache_use     best;         // by its value alone: other than `use` where the difference is none worth having
    uint64_t           more_tokens;  // to be recorded for a verdict, or to tell `best` from `use`; 0: not needed

    bool               time_is_known; // the questions and the trace have all that it depends on
    double             tg;            // the questions': tokens a second with the experts in memory,
    double             ram;           // and bytes a second that the processor reads there,
    double             pcie;          // and that the link has
    double             time_share;    // of a token's time, what the reading of its experts takes
    double             break_even;    // hit rate from which on uploading is no slower than no cache at all
    struct cache_value link_share;    // of the memory's speed that the link needs for the cache to beat whole layers

    struct cache_way   ways[CACHE_N_USES];
    struct cache_way   equal;         // an LRU cache for each layer, slots alike
    struct cache_way   tuned;         // the same, with as many slots in each layer as help there
    size_t           * tuned_slots;   // [n_layers] NULL: bytes are not known
    double             tuned_gain;    // of the rate over equal slots
    size_t             n_kept;        // 0: no layer is worth that
    int32_t          * kept_layers;   // [n_kept] as in blk.<layer>.
    size_t             kept_slots;    // of the cache beside them, of all layers
    uint64_t           kept_mib;      // what is left for it, 0: no cache
};
