// Goes through a trace for `cache`: what its caches held and missed, from which cache-answer.c reads off values.
// It stays between the files of answers/; commands see the values alone.

#pragma once

#include "analysis/cache-oracle.h"
#include "analysis/cache-study.h"
#include "analysis/concurrency.h"
#include "analysis/llama-moe-cache.h"
#include "analysis/resample.h"
#include "answers/cache-plan.h"
#include "answers/cache-questions.h"
#include "answers/cache-rows.h"
#include "tool/error.h"
#include "tool/input/trace-shape.h"
#include "tool/input/trace-walk.h"

// llama.cpp's own cache at one size.
struct cache_run {
    size_t                        n_slots; // of all groups
    struct llama_moe_cache_totals totals;  // of the whole run, warm-up included
    struct llama_moe_cache      * cache;
};

struct cache_gathered {
    struct cache_questions    questions;
    const struct trace_info * info;
    struct trace_shape      * shape;
    struct trace_extent       extent;
    enum phase                phase;       // that most people wait for: generation, where there is more than hardly any
    struct cache_rows         rows;
    size_t                    n_sizes;     // of the study: those of the rows, and what is planned
    struct cache_study      * study;
    struct resample         * samples;     // by the study's series, see cache-series.h
    struct cache_oracle     * oracle;
    size_t                  * oracle_slots; // [rows.n * n_layers]
    struct resample         * answers;      // of the oracle, by lives: requests, hits by row
    struct concurrency      * concurrency;
    struct cache_run        * runs;         // [rows.n], NULL: bytes are not known
    struct cache_plan         plan;         // for the budget, or a quarter of the experts; nothing where bytes are not
                                            // known
};

// Goes through the trace once where its extent is known, twice where `extent` is NULL: *lost are ubatches that do not
// check then. NULL, and why, where the question has no answer.
struct cache_gathered * cache_gather       (const struct trace * trace, const struct cache_questions * questions,
                                            const struct trace_extent * extent, uint64_t * lost, struct error * error);
void                    cache_gathered_free(struct cache_gathered * gathered);

// Hits of each request, NAN where there was none.
double cache_rate(struct cache_hits hits);

// The row that advice is about: the budget's, otherwise a quarter of the experts.
size_t cache_gathered_row(const struct cache_gathered * gathered);
