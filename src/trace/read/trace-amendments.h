// What became known of ubatches after they were recorded.

#pragma once

#include "trace/format/trace-bytes.h"
#include "trace/read/trace-values.h"

// A warm-up: ubatches from `ubatch` on. Rejected tokens: those from `first` on.
struct trace_amendment {
    uint64_t ubatch;
    uint64_t first;
    uint64_t n;
};

struct trace_amendment_list {
    struct trace_amendment * items;
    size_t                   n;
    size_t                   n_sorted; // of them, the first ones
    size_t                   room;
};

// Zeroed: empty.
struct trace_amendments {
    struct trace_amendment_list warmups;
    struct trace_amendment_list rejections;
};

// false: out of memory
bool trace_amendments_add (struct trace_amendments * amendments, const struct trace_buffer * payload);
void trace_amendments_sort(struct trace_amendments * amendments); // when there are all of them, for now
void trace_amendments_free(struct trace_amendments * amendments);

bool trace_amendments_warmup(const struct trace_amendments * amendments, uint64_t ubatch);
void trace_amendments_reject(const struct trace_amendments * amendments, uint64_t ubatch, struct trace_token * tokens,
                             int32_t n_tokens);
