// What `cache` knows once it has gone through a trace, from which it answers.

#pragma once

#include "answers/cache-answer.h"

#include "analysis/cache-study.h"
#include "analysis/concurrency.h"
#include "analysis/llama-moe-cache.h"
#include "tool/input/trace-shape.h"
#include "tool/input/trace-walk.h"

#define CACHE_SIZES_MAX 16

// llama.cpp's own cache at one budget.
struct cache_llama {
    uint64_t                      budget;  // bytes
    size_t                        n_slots; // of all groups
    struct llama_moe_cache_totals totals;  // of the whole run, warm-up included
    struct cache_hits             hits[CACHE_N_CLASSES][CACHE_N_HALVES];
    struct llama_moe_cache      * cache;
};

struct cache_answer {
    struct cache_questions    questions;
    const struct trace_info * info;
    struct trace_shape      * shape;
    struct trace_extent       extent;
    size_t                    n_sizes;
    size_t                    sizes[CACHE_SIZES_MAX]; // slots per layer, ascending
    struct cache_study      * study;
    struct concurrency      * concurrency;
    size_t                    n_llama;  // budgets: first those of the sizes, then those that were asked for; 0: bytes not known
    struct cache_llama      * llama;
    char                    * verdict;
};

// Hits of each request, NAN where there was none.
double cache_rate(struct cache_hits hits);

// Of all layers' own caches, in the second half.
double cache_answer_rate(const struct cache_answer * answer, enum cache_policy policy, size_t n_slots, enum cache_class class);

// Of caches whose slots the layers of a group share, as many as `n_slots` in each layer would be.
double cache_answer_pooled(const struct cache_answer * answer, enum cache_policy policy, size_t n_slots, enum cache_class class);

// What is asked of the second half.
uint64_t cache_answer_requests(const struct cache_answer * answer, enum cache_class class);

// Share of all experts that so many slots in each layer are.
double cache_answer_share(const struct cache_answer * answer, size_t n_slots);
