// Goes through a trace for `cache`: what its caches held and missed, from which cache-answer.c reads off values.
// It stays between the files of answers/; commands see the values alone.

#pragma once

#include "analysis/cache-study.h"
#include "analysis/concurrency.h"
#include "analysis/llama-moe-cache.h"
#include "answers/cache-questions.h"
#include "tool/error.h"
#include "tool/input/trace-shape.h"
#include "tool/input/trace-walk.h"

#define CACHE_SIZES_MAX 16

// llama.cpp's own cache at one budget.
struct cache_run {
    uint64_t                      budget;  // bytes
    size_t                        n_slots; // of all groups
    struct llama_moe_cache_totals totals;  // of the whole run, warm-up included
    struct cache_hits             hits[N_PHASES][CACHE_N_HALVES];
    struct llama_moe_cache      * cache;
};

struct cache_gathered {
    struct cache_questions    questions;
    const struct trace_info * info;
    struct trace_shape      * shape;
    struct trace_extent       extent;
    size_t                    n_sizes;
    size_t                    sizes[CACHE_SIZES_MAX]; // slots per layer, ascending
    struct cache_study      * study;
    struct concurrency      * concurrency;
    size_t                    n_runs;  // those of the sizes, then of the budgets asked for; 0: bytes not known
    struct cache_run        * runs;
};

// Goes through the trace once where its extent is known, twice where `extent` is NULL: *lost are ubatches that do not
// check then. NULL, and why, where the question has no answer.
struct cache_gathered * cache_gather       (const struct trace * trace, const struct cache_questions * questions,
                                            const struct trace_extent * extent, uint64_t * lost, struct error * error);
void                    cache_gathered_free(struct cache_gathered * gathered);

// Hits of each request, NAN where there was none.
double cache_rate(struct cache_hits hits);

// Of all layers' own caches, in the second half.
double cache_gathered_rate(const struct cache_gathered * gathered, enum cache_policy policy, size_t n_slots,
                           enum phase class);

// Of caches whose slots the layers of a group share, as many as `n_slots` in each layer would be.
double cache_gathered_pooled(const struct cache_gathered * gathered, enum cache_policy policy, size_t n_slots,
                             enum phase class);

// Of the second half.
uint64_t cache_gathered_requests(const struct cache_gathered * gathered, enum phase class);

// Share of all experts that so many slots in each layer are.
double cache_gathered_share(const struct cache_gathered * gathered, size_t n_slots);
