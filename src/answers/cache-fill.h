// Answers what people ask of `cache`: goes through a trace, and reads off every value that anybody prints.

#pragma once

#include "answers/cache-answer.h"
#include "answers/cache-questions.h"
#include "tool/error.h"
#include "trace/read/trace-reader.h"

// Goes through the trace once where its extent is known, twice where `extent` is NULL: *lost are ubatches that do not
// check then. NULL, and why, where the question has no answer. The trace must stay open as long as the answer, which is
// freed with cache_answer_free().
struct cache_answer * cache_fill(const struct trace * trace, const struct cache_questions * questions,
                                 const struct trace_extent * extent, uint64_t * lost, struct error * error);
