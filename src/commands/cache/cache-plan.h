// What `cache` advises: what so many bytes of device memory are best used for, and what that means for the time.

#pragma once

#include "answers/cache-gathered.h"

// What a ubatch touches that has one generated token of each of so many sequences.
struct cache_concurrency {
    double experts_per_layer; // mean of the layers
    double share;             // of all experts
    double bytes;             // of a ubatch, NAN: not known
};

// False where the trace has fewer generated tokens.
bool cache_plan_concurrency(const struct cache_answer * answer, size_t n_sequences, struct cache_concurrency * row);

char   * cache_plan_verdict(const struct cache_answer * answer); // one sentence or two, allocated
json_t * cache_plan_json   (const struct cache_answer * answer); // null where no budget was asked for
void     cache_plan_print  (const struct cache_answer * answer, const struct terminal * terminal);
