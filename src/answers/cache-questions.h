// What people ask of `cache`: how its options reach the study of a trace, and what becomes of a budget.

#pragma once

#include "tool/input/trace-filter.h"

struct cache_questions {
    const struct trace_filter * filter;
    int32_t                     max_rows;  // see cache-study.h
    double                      half_life;
    uint64_t                    vram;      // bytes for the cache, 0: not asked
    double                      pcie;      // bytes a second from memory to the device, 0: not known
    double                      ram;       // bytes a second that the processor reads, 0: not known
    double                      vram_rate; // bytes a second that the device reads, 0: not known
    double                      tg;        // generated tokens a second with the experts in memory, 0: not known
    size_t                      n_budgets; // of llama.cpp's cache, to be looked at in addition
    const uint64_t            * budgets;   // bytes
    bool                        per_layer; // of the text alone
};

struct cache_questions cache_questions_default(const struct trace_filter * filter);
