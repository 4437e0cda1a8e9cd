// What `cache` answers of a trace: plain values, filled once, which text, JSON and page only read.

#pragma once

#include "analysis/cache-study.h"
#include "analysis/llama-moe-cache.h"
#include "answers/answer-model.h"
#include "answers/cache-advice.h"
#include "answers/cache-questions.h"
#include "tool/error.h"
#include "tool/input/trace-walk.h"
#include "trace/read/trace-reader.h"

#define CACHE_ANSWER_SIZES_MAX       16
#define CACHE_ANSWER_CONCURRENCY_MAX 7 // 1, 2, 4 … 64 sequences
#define CACHE_ANSWER_N_PHASES        2 // PHASE_PROMPT and PHASE_GENERATION: nobody asks what a warm-up would hit

// Shares of the second half's requests that caches of one size serve, NAN: nothing was requested, or nobody knows.
struct cache_answer_rates {
    double policies[CACHE_N_POLICIES]; // of all layers' own caches
    double pooled_static;              // of caches that the layers of a group share
    double pooled_lru;
    double pooled_optimum;
    double llama_cpp;                  // of llama.cpp's own cache
};

struct cache_answer_size {
    size_t                    slots; // in each layer
    double                    share; // of all experts
    double                    bytes; // NAN: not known
    struct cache_answer_rates rates[CACHE_ANSWER_N_PHASES];
};

struct cache_answer_layer {
    int32_t layer;
    double  rates[CACHE_ANSWER_SIZES_MAX][CACHE_ANSWER_N_PHASES][CACHE_N_POLICIES]; // of its own cache
};

// How often so many other experts of its layer had been requested since a request for the same one, in the whole trace.
struct cache_answer_distances {
    uint64_t   first;  // requests for an expert that was not requested before
    uint64_t * counts; // [n_expert]
};

// llama.cpp's own cache at one budget.
struct cache_answer_run {
    uint64_t                      mib;
    size_t                        n_slots; // of all layers
    struct llama_moe_cache_totals totals;  // of the whole run, warm-up included
    double                        rates[CACHE_ANSWER_N_PHASES]; // of the second half
};

// What a ubatch touches that has one generated token of each of so many sequences.
struct cache_answer_concurrency {
    size_t n_sequences;
    double experts_per_layer; // mean of the layers
    double share;             // of all experts
    double bytes;             // NAN: not known
};

enum cache_conclusion { CACHE_IS_CHANCE, CACHE_IS_BETTER, CACHE_IS_WORSE, CACHE_IS_AS_GOOD }; // than pinned experts

struct cache_answer {
    struct answer_model             model;
    size_t                          n_layers;
    int32_t                         n_expert;      // the most of any layer
    int32_t                         n_used;        // likewise
    bool                            same_experts;  // all layers have as many
    size_t                          all_experts;   // of all layers
    bool                            bytes_known;
    int64_t                         all_bytes;     // of them, -1: not known
    struct trace_extent             tokens;
    int32_t                         max_rows;      // the questions'
    double                          half_life;     // likewise
    uint64_t                        requests[CACHE_ANSWER_N_PHASES]; // of the second half
    enum phase                phase;         // that most people wait for: generation, where there is any
    size_t                          n_sizes;
    struct cache_answer_size        sizes[CACHE_ANSWER_SIZES_MAX];   // ascending
    size_t                          quarter;       // the size that has a quarter of the experts of the largest layer
    size_t                          quarter_share; // the one whose share of all experts is the nearest to that
    enum cache_conclusion           conclusion;    // at `quarter`, in `phase`
    double                        * lru[CACHE_ANSWER_N_PHASES];      // [n_expert + 1] rates by slots
    struct cache_answer_layer     * layers;        // [n_layers] ascending
    struct cache_answer_distances   distances[CACHE_ANSWER_N_PHASES];
    size_t                          n_runs;        // those of the sizes, then of the budgets; 0: bytes are not known
    struct cache_answer_run       * runs;
    size_t                          n_concurrency;
    struct cache_answer_concurrency concurrency[CACHE_ANSWER_CONCURRENCY_MAX];
    bool                            has_advice;
    struct cache_advice             advice;
};

// Goes through the trace once where its extent is known, twice where `extent` is NULL: *lost are ubatches that do not
// check then. NULL, and why, where the question has no answer. The trace must stay open as long as the answer.
struct cache_answer * cache_answer_new (const struct trace * trace, const struct cache_questions * questions,
                                        const struct trace_extent * extent, uint64_t * lost, struct error * error);
void                  cache_answer_free(struct cache_answer * answer); // NULL is fine
