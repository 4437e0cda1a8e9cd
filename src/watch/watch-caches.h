// What caches of experts would have served of what is routed, as it comes: at the sizes of the table of `cache`, an LRU
// cache of each layer and llama.cpp's own (docs/analysis.md).

#pragma once

#include "live/live-view.h"
#include "routing/phase.h"
#include "routing/routing.h"
#include "watch/watch-frame.h"

#include <sys/types.h>

// By phase, since the beginning.
struct watch_cache_sums {
    uint64_t requests[N_TOKEN_PHASES];
    uint64_t lru     [N_TOKEN_PHASES][WATCH_N_SIZES]; // hits
    uint64_t llama   [N_TOKEN_PHASES][WATCH_N_SIZES];
};

// Whose process it is, which decides whether bytes of experts are read from the model's file, and what bytes of caches
// are asked for as in watch_new().
struct watch_caches_options {
    uid_t            user;
    const uint64_t * asked;
    size_t           n_asked;
};

struct watch_caches;

// Of `n` layers, whose rows do not matter. NULL where there is nothing to cache.
struct watch_caches * watch_caches_new (const struct live_view_model * model, const struct routing_layer * layers,
                                        size_t n, const struct watch_caches_options * options);
void                  watch_caches_free(struct watch_caches * caches); // NULL is ignored

// Whether the ubatch has no layer that the caches do not know.
bool watch_caches_know(const struct watch_caches * caches, const struct routing_ubatch * ubatch);

// In the order of evaluation. PHASE_WARMUP: caches change, and nothing is counted.
void watch_caches_layer(struct watch_caches * caches, const struct routing_layer * layer, enum phase phase);

const struct watch_cache_sums * watch_caches_sums(const struct watch_caches * caches);

// What the sizes are; and the shares of `now`, less `before` where that is not NULL.
void watch_caches_fill (const struct watch_caches * caches, struct watch_frame * frame);
void watch_caches_share(struct watch_share shares[WATCH_N_PHASES], const struct watch_cache_sums * now,
                        const struct watch_cache_sums * before, bool llama, size_t i_size);
