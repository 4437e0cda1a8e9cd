// What caches of experts would have hit, of every size at once, from the routing in order.
//
// A step is one layer of one ubatch. It requests each of its distinct experts once; an expert is all of its
// projections. What a step finds is judged by what a cache holds before it. docs/analysis.md has the definitions and
// their sources.
//
// One thread at a time, also of those who ask. Counts are of requests.

#pragma once

#include "routing/phase.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum cache_half { CACHE_FIRST_HALF, CACHE_SECOND_HALF, CACHE_N_HALVES };

enum cache_policy {
    CACHE_STATIC,        // the most activated of each layer in the first half, by requests of the class that is judged
    CACHE_PROMPT_ORACLE, // the most activated of each layer in the very life of a sequence that is judged: of
                         // generation alone
    CACHE_LRU,
    CACHE_LFU,           // the highest decayed counts
    CACHE_OPTIMUM,       // Belady's, which may also leave an expert out: for each class and half by itself, the most
                         // hits of any cache that takes experts in when they are used and at no other time, be it by a
                         // step that passes by
    CACHE_N_POLICIES
};

struct cache_layer {
    int32_t n_expert;
    int32_t group;    // layers of one group share the slots of a pooled cache; from 0 without holes
};

struct cache_options {
    int32_t        max_rows;  // a step of more rows takes what is there and changes nothing; 0: there is no such step
    double         half_life; // of a use, for LFU, in steps of the layer
    size_t         n_sizes;   // of sizes for which the optimum is looked for: slots per layer, ascending
    const size_t * sizes;
};

struct cache_step {
    size_t           layer;     // index into the layers of the study
    int32_t          n_rows;
    enum phase       class;
    enum cache_half  half;
    size_t           n_experts; // distinct
    const uint16_t * experts;   // each once, in the order in which they appear first: the last one is the most recent
};

struct cache_hits {
    uint64_t requests;
    uint64_t hits;
};

struct cache_study;

// Returns NULL where memory is short.
struct cache_study * cache_study_new (size_t n_layers, const struct cache_layer * layers,
                                      const struct cache_options * options);
void                 cache_study_free(struct cache_study * study);

// In the order of evaluation, the first half before the second. False: it is not of a layer that was told, nothing is
// counted.
bool cache_study_step(struct cache_study * study, const struct cache_step * step);

// One token's experts [n_used] in a layer, for the oracle: of generated tokens, in the second half. `life`: from 0 for
// each life of a sequence. False: out of memory, or not of a layer that was told. cache_study_end_life(): no more of
// this one, its memory is given back. A life without tokens may end, too.
bool cache_study_token   (struct cache_study * study, size_t layer, uint64_t life, const uint16_t * experts,
                          size_t n_experts);
void cache_study_end_life(struct cache_study * study, uint64_t life);

// Of one layer's own cache of `n_slots`. CACHE_OPTIMUM: of the sizes that were asked for alone, otherwise no requests.
// CACHE_STATIC and CACHE_PROMPT_ORACLE are of the second half alone; the oracle counts activations, of all lives that
// ended (cache_study_end_life).
struct cache_hits cache_study_layer(const struct cache_study * study, enum cache_policy policy, size_t layer,
                                    size_t n_slots, enum phase class, enum cache_half half);

// The same of all layers together, `n_slots` in each.
struct cache_hits cache_study_all(const struct cache_study * study, enum cache_policy policy, size_t n_slots,
                                  enum phase class, enum cache_half half);

// Of a pooled cache of a group: CACHE_LRU at any size, CACHE_STATIC, CACHE_OPTIMUM for options' sizes times the group's
// number of layers.
struct cache_hits cache_study_pooled(const struct cache_study * study, enum cache_policy policy, int32_t group,
                                     size_t n_slots, enum phase class, enum cache_half half);

// How often a request's distance in its layer was d, 0 <= d < n_expert, into counts[n_expert]; returns how often there
// was none (first use).
uint64_t cache_study_distances(const struct cache_study * study, size_t layer, enum phase class,
                               enum cache_half half, uint64_t * counts);

// Activation counts of a layer in a class and half: counts[n_expert], owned by the study. Requests are counted: an
// expert that a step uses for several tokens counts once.
const uint64_t * cache_study_counts(const struct cache_study * study, size_t layer, enum phase class,
                                    enum cache_half half);
