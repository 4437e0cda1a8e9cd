// What is counted of caches at each size of a table, by the units that resample.h draws: requests, and hits by column.
// Also the step of a trace that all caches are shown.

#pragma once

#include "routing/phase.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum cache_half { CACHE_FIRST_HALF, CACHE_SECOND_HALF, CACHE_N_HALVES };

// What rates are of: the second half, caches having seen the first, or the whole run from an empty cache on.
enum cache_span { CACHE_JUDGED, CACHE_WHOLE_RUN, CACHE_N_SPANS };

#define CACHE_BOTH      2 // after PHASE_PROMPT and PHASE_GENERATION: both of them, of the whole run alone
#define CACHE_N_CLASSES 3

enum cache_column {
    // of each layer's own cache
    CACHE_STATIC,         // the most requested of each layer in the first half, by requests of the class that is
                          // judged, then of the other one, then the lowest id; of the judged half alone
    CACHE_LRU,
    CACHE_LFU,            // the highest decayed counts
    CACHE_OPTIMUM,        // Belady's, which may also leave an expert out: for each class by itself the most hits of any
                          // cache, which may hold anything when the judged half begins, and later what was used since;
                          // of the judged half alone

    // of caches that the layers of a group share
    CACHE_SHARED_STATIC,
    CACHE_SHARED_LRU,
    CACHE_SHARED_OPTIMUM, // of the whole run: beginning with nothing

    CACHE_LLAMA,          // llama.cpp's own, which the layers of a group share too
    CACHE_LAYERS,         // the last layers as a whole
    CACHE_N_COLUMNS
};

struct cache_step {
    size_t              layer;     // index into the layers of the study
    int32_t             n_rows;
    enum phase          class;
    enum cache_half     half;
    size_t              n_experts; // distinct
    const uint16_t    * experts;   // each once, in the order in which they appear first: the last is the most recent
    uint64_t   * const * sums;     // [n_experts] of the unit that asks for the expert, NULL: nothing is kept
};

// Of all spans and classes.
static inline size_t cache_series_count(size_t n_sizes) {
    return CACHE_N_SPANS * CACHE_N_CLASSES * (1 + CACHE_N_COLUMNS * n_sizes);
}

// Of one span and class: the first is requests.
static inline size_t cache_series_count_of(size_t n_sizes) {
    return 1 + CACHE_N_COLUMNS * n_sizes;
}

static inline size_t cache_series_first(size_t n_sizes, enum cache_span span, size_t class) {
    return ((size_t) span * CACHE_N_CLASSES + class) * cache_series_count_of(n_sizes);
}

// Among those of its span and class.
static inline size_t cache_series_of(size_t n_sizes, enum cache_column column, size_t i_size) {
    return 1 + (size_t) column * n_sizes + i_size;
}

// What is asked for by the step, once for each step.
void cache_series_requests(const struct cache_step * step, size_t n_sizes);

// hits[n_experts] of a column at a size, in the spans and classes that the step is of.
void cache_series_hits(const struct cache_step * step, size_t n_sizes, enum cache_column column, size_t i_size,
                       const bool * hits);

// The same in one of these spans and classes alone.
void cache_series_hits_in(const struct cache_step * step, size_t n_sizes, enum cache_span span, size_t class,
                          enum cache_column column, size_t i_size, const bool * hits);
