// What `cache` answers of a trace: plain values, filled once, which text, JSON and page only read.

#pragma once

#include "analysis/cache-series.h"
#include "analysis/llama-moe-cache.h"
#include "answers/answer-model.h"
#include "answers/cache-advice.h"
#include "answers/cache-value.h"
#include "tool/input/trace-walk.h"

#define CACHE_ANSWER_CONCURRENCY_MAX 7 // 1, 2, 4 … 64 sequences
#define CACHE_ANSWER_N_PHASES        2 // PHASE_PROMPT and PHASE_GENERATION: nobody asks what a warm-up would hit

// Shares of requests that caches of as many bytes serve.
struct cache_answer_rates {
    struct cache_value columns[CACHE_N_COLUMNS];
    struct cache_value oracle; // the hottest of each answer, known beforehand: of generation that is judged
};

struct cache_answer_size {
    bool                      is_asked;    // by an option
    double                    slots;       // in each layer, on the mean
    double                    share;       // of all experts
    double                    bytes;       // NAN: not known
    size_t                    llama_slots; // of all layers, 0: it is off
    int32_t                   first_whole; // of the last layers that fit as a whole, what --n-cpu-moe takes
    size_t                    n_whole;
    struct llama_moe_cache_totals totals;  // of llama.cpp's cache in the whole run, warm-up included
    struct cache_answer_rates judged[CACHE_ANSWER_N_PHASES]; // the second half, caches having seen the first
    struct cache_answer_rates whole [CACHE_N_CLASSES];       // the whole run, from an empty cache on
    struct cache_way          llama;       // in the phase that advice is about
    struct cache_way          layers;      // likewise
};

struct cache_answer_layer {
    int32_t layer;
    double (* rates)[CACHE_ANSWER_N_PHASES][CACHE_OPTIMUM + 1]; // [n_sizes] of its own cache, in the second half
};

// How often so many other experts of its layer had been requested since a request for the same one, in the whole trace.
struct cache_answer_distances {
    uint64_t   first;  // requests for an expert that was not requested before
    uint64_t * counts; // [n_expert]
};

// What a ubatch touches that has one generated token of each of so many sequences.
struct cache_answer_concurrency {
    size_t n_sequences;
    double experts_per_layer; // mean of the layers
    double share;             // of all experts
    double bytes;             // NAN: not known
};

// How sure the rates of a phase are.
struct cache_answer_units {
    bool   by_lives; // what is drawn again for intervals: lives of sequences, otherwise blocks of RESAMPLE_BLOCK tokens
    size_t n;        // too few have no interval
};

struct cache_answer {
    struct answer_model             model;
    size_t                          n_layers;
    int32_t                         n_expert;      // the most of any layer
    int32_t                         n_used;        // likewise
    bool                            same_experts;  // all layers have as many
    size_t                          all_experts;   // of all layers
    bool                            bytes_known;
    int64_t                         all_bytes;     // of them, -1: not known
    double                          floor;         // bytes below which a shared list serves nothing, NAN: not known
    struct trace_extent             tokens;
    int32_t                         max_rows;      // the questions'
    double                          half_life;     // likewise
    uint64_t                        requests[CACHE_ANSWER_N_PHASES]; // of the second half
    struct cache_answer_units       units   [CACHE_ANSWER_N_PHASES]; // likewise
    enum phase                      phase;         // that most people wait for: generation, where there is any
    size_t                          n_sizes;
    struct cache_answer_size      * sizes;         // [n_sizes] ascending
    size_t                          row;           // the size that advice is about
    double                        * lru[CACHE_ANSWER_N_PHASES];      // [n_expert + 1] rates by slots
    struct cache_answer_layer     * layers;        // [n_layers] ascending
    struct cache_answer_distances   distances[CACHE_ANSWER_N_PHASES];
    size_t                          n_concurrency;
    struct cache_answer_concurrency concurrency[CACHE_ANSWER_CONCURRENCY_MAX];
    struct cache_advice             advice;
};

void cache_answer_free(struct cache_answer * answer); // NULL is fine
