// What a budget is used for that has to be chosen from routing: it is chosen from the first half of a trace, so that
// the second can judge it.

#pragma once

#include "analysis/cache-study.h"
#include "analysis/llama-moe-cache.h"
#include "tool/input/trace-shape.h"

struct cache_plan {
    double                   bytes;
    size_t                 * slots;    // [n_layers] LRU caches of their own, as many slots as help in each
    bool                   * is_kept;  // [n_layers] on the device as a whole, beside llama.cpp's cache for the others
    size_t                   n_kept;   // 0: no layer is worth that, there is no such cache
    uint64_t                 left_mib; // for that cache
    size_t                   n_slots;  // that it has; 0: too little is left for it
    struct llama_moe_cache * cache;    // with what it would have at the end of the first half
};

// What makes a plan; max_rows as in llama_moe_cache_options.
struct cache_planning {
    const struct cache_study * study; // of the first half
    const struct trace_shape * shape;
    enum phase                 class;
    int32_t                    max_rows;
};

// False: out of memory. A plan must be freed all the same.
bool cache_plan_make(struct cache_plan * plan, const struct cache_planning * planning, double bytes);
void cache_plan_free(struct cache_plan * plan);
