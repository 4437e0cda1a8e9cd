// What `cache` answers of a trace, for the terminal, machines and the page.

#pragma once

#include "tool/error.h"
#include "tool/input/trace-filter.h"
#include "tool/input/trace-walk.h"
#include "tool/terminal.h"
#include "trace/read/trace-reader.h"

#include <jansson.h>

struct cache_questions {
    const struct trace_filter * filter;
    int32_t                     max_rows;  // see cache-study.h
    double                      half_life;
    uint64_t                    vram;      // bytes for the cache, 0: not asked
    double                      pcie;      // bytes a second from memory to the device, 0: not told
    double                      ram;       // bytes a second that the processor reads, 0: not told
    double                      vram_rate; // bytes a second that the device reads, 0: not told
    double                      tg;        // generated tokens a second with the experts in memory, 0: not told
    size_t                      n_budgets; // of llama.cpp's cache, to be looked at in addition
    const uint64_t            * budgets;   // bytes
    bool                        per_layer;
};

struct cache_questions cache_questions_default(const struct trace_filter * filter);

struct cache_answer;

// Goes through the trace once where its extent is known, twice where `extent` is NULL: *lost are ubatches that do not check
// then. NULL, and why, where it cannot be answered.
struct cache_answer * cache_answer_new (const struct trace * trace, const struct cache_questions * questions,
                                        const struct trace_extent * extent, uint64_t * lost, struct error * error);
void                  cache_answer_free(struct cache_answer * answer);

const char * cache_answer_verdict(const struct cache_answer * answer);
json_t     * cache_answer_json   (const struct cache_answer * answer); // a new reference
void         cache_answer_print  (const struct cache_answer * answer, const struct terminal * terminal);

// Which model it is, above that.
void         cache_answer_print_model(const struct cache_answer * answer, const struct terminal * terminal);
