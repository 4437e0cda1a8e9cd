// Goes through the ubatches of a trace that a filter chooses, with progress.

#pragma once

#include "tool/error.h"
#include "tool/input/trace-filter.h"
#include "tool/input/trace-shape.h"
#include "trace/read/trace-reader.h"

// False ends the walk, `error` tells why.
typedef bool trace_visitor(void * self, const struct trace_ubatch * ubatch, struct error * error);

struct trace_walk {
    const struct trace        * trace;
    const struct trace_filter * filter; // of ubatches; tokens and layers are for the visitor to choose
    const char                * what;   // "counting", for progress
    uint64_t                    lost;   // result: ubatches that do not check
};

// False too where the file turns out to have changed since it was gone through before.
bool trace_walk(struct trace_walk * walk, trace_visitor * visit, void * self, struct error * error);

// Answers of a single word are not what a trace of long prompts is about.
#define TRACE_PROMPT_TOKENS_A_GENERATED 100

// Tokens of all chosen ubatches; neither prompt nor generation has a warm-up in it.
struct trace_extent {
    uint64_t n_prompt;
    uint64_t n_generation;
    uint64_t n_warmup;
    uint64_t n_ubatches;
};

// There is hardly any generation in it: prompts are what it is about.
bool trace_extent_is_of_prompts(const struct trace_extent * extent);

void trace_extent_take(struct trace_extent * extent, const struct trace_filter * filter,
                       const struct trace_ubatch * ubatch);

// Goes through the trace.
bool trace_extent(struct trace_walk * walk, struct trace_extent * extent, struct error * error);

// Finds the second half while a trace of known extent is gone through again. It begins where half of the generation
// tokens are done; of the prompt tokens where there are more than TRACE_PROMPT_TOKENS_A_GENERATED for each generated
// one.
struct trace_halves {
    const struct trace_filter * filter;
    struct trace_extent         all;
    struct trace_extent         until; // the ubatch that is looked at
    bool                        is_second;
};

// To be called with each chosen ubatch, in order. True: it is of the second half.
bool trace_halves_take(struct trace_halves * halves, const struct trace_ubatch * ubatch);

// The distinct experts of a layer's rows whose tokens are chosen, in the order in which they appear first. A step is
// reused.
struct trace_step {
    int32_t    n_rows;     // of chosen tokens
    bool       generation; // all of them were generated
    size_t     n_experts;
    uint16_t * experts;    // [n_experts]
    int32_t  * tokens;     // [n_experts] index in the ubatch of the first token that asks for it
    uint32_t * seen;       // by expert
    uint32_t   round;
    size_t     room;
};

void trace_step_take(struct trace_step * step, const struct trace_filter * filter, const struct trace_ubatch * ubatch,
                     const struct trace_routing * routing);
void trace_step_free(struct trace_step * step);
