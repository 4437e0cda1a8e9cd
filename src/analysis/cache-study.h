// What caches of experts would have hit, of every size at once, from the routing in order.
//
// A step is one layer of one ubatch. It requests each of its distinct experts once; an expert is all of its
// projections. What a step finds is judged by what a cache holds before it. docs/analysis.md has the definitions and
// their sources.
//
// One thread at a time, also of those who ask. Counts are of requests.

#pragma once

#include "analysis/cache-series.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cache_layer {
    int32_t n_expert;
    int32_t group;    // layers of one group share the slots of a pooled cache; from 0 without holes
};

// The slots that as many bytes are.
struct cache_size {
    const size_t * layers; // [n_layers] of each layer's own cache
    const size_t * groups; // [n_groups] that the layers of a group share
};

struct cache_options {
    int32_t                   max_rows;  // a step of more rows takes what is there and changes nothing; 0: there is no
                                         // such step
    double                    half_life; // of a use, for LFU, in steps of the layer
    size_t                    n_sizes;   // that are kept by units, and the optimum is looked for
    const struct cache_size * sizes;
};

struct cache_hits {
    uint64_t requests;
    uint64_t hits;
};

struct cache_expert {
    size_t   layer;
    uint16_t expert;
};

struct cache_study;

// Returns NULL where memory is short.
struct cache_study * cache_study_new (size_t n_layers, const struct cache_layer * layers,
                                      const struct cache_options * options);
void                 cache_study_free(struct cache_study * study);

// In the order of evaluation, the first half before the second. Its hits at the sizes are added to its sums, in the
// columns of layers' own and of shared caches. False: it is not of a layer that was told, nothing is counted.
bool cache_study_step(struct cache_study * study, const struct cache_step * step);

// From here on a layer's own cache has so many slots in the size `i_size`, as LRU and LFU are counted.
void cache_study_resize(struct cache_study * study, size_t i_size, size_t layer, size_t n_slots);

// Of one layer's own cache of `n_slots`, from CACHE_STATIC (of the second half alone), CACHE_LRU, CACHE_LFU.
struct cache_hits cache_study_layer(const struct cache_study * study, enum cache_column column, size_t layer,
                                    size_t n_slots, enum phase class, enum cache_half half);

// The same at one of the sizes, CACHE_OPTIMUM too.
struct cache_hits cache_study_layer_at(const struct cache_study * study, enum cache_column column, size_t layer,
                                       size_t i_size, enum phase class, enum cache_half half);

// Of a cache that a group shares: CACHE_SHARED_STATIC, of the second half alone, and CACHE_SHARED_LRU.
struct cache_hits cache_study_shared(const struct cache_study * study, enum cache_column column, int32_t group,
                                     size_t n_slots, enum phase class, enum cache_half half);

// How often a request's distance in its layer was d, 0 <= d < n_expert, into counts[n_expert]; returns how often there
// was none (first use).
uint64_t cache_study_distances(const struct cache_study * study, size_t layer, enum phase class,
                               enum cache_half half, uint64_t * counts);

// The experts of a group that were used so far, the one that was not used for longest first, into experts[of all of the
// group's layers]. Returns how many.
size_t cache_study_recent(const struct cache_study * study, int32_t group, struct cache_expert * experts);
