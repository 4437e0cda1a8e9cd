// The questions of `cache` where no option says otherwise.

#include "answers/cache-questions.h"

#include "analysis/llama-moe-cache.h"

#define HALF_LIFE_DEFAULT 256.0

struct cache_questions cache_questions_default(const struct trace_filter * filter) {
    return (struct cache_questions) {
        .filter    = filter,
        .max_rows  = LLAMA_MOE_CACHE_MAX_ROWS,
        .half_life = HALF_LIFE_DEFAULT,
    };
}
