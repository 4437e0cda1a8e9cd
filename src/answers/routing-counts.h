// How often each expert of each layer was used: of a trace, gone through once or, where its halves are asked for,
// twice, or of statistics, as far as they tell. A warm-up is not counted.

#pragma once

#include "analysis/neighbours.h"
#include "answers/answer-model.h"
#include "routing/phase.h"
#include "statistics/statistics.h"
#include "tool/error.h"
#include "tool/input/trace-filter.h"
#include "tool/input/trace-walk.h"
#include "trace/read/trace-reader.h"

// What is counted apart, the phases among them.
enum counted_part {
    COUNTED_ALL,
    COUNTED_PROMPT     = 1 + PHASE_PROMPT,
    COUNTED_GENERATION = 1 + PHASE_GENERATION,
    COUNTED_FIRST_HALF,
    COUNTED_SECOND_HALF,
    COUNTED_N_PARTS,
};

struct counted_layer {
    int32_t                 layer;        // as in blk.<layer>.
    int32_t                 n_used;       // -1: not known
    int64_t                 expert_bytes; // -1: not known
    size_t                  n_expert;
    uint64_t              * activations[COUNTED_N_PARTS]; // [n_expert] each, NULL: not known, or not asked for
    struct neighbours_reuse prompt;       // of its tokens: nothing where sequences are not known
    struct neighbours_reuse generation;
};

struct routing_tokens {
    int64_t all;        // -1, here and below: not known
    int64_t prompt;
    int64_t generation;
    int64_t warmup;     // not in `all`
};

struct routing_counts {
    const char             * path;       // as the user gave it
    const struct trace     * trace;      // NULL: statistics
    struct trace           * own_trace;  // which is closed with it, NULL: none
    struct statistics      * statistics; // NULL: a trace
    struct answer_model      model;
    struct routing_tokens    tokens;
    struct trace_extent      extent;     // of a trace
    size_t                   n_layers;   // that the filter chooses
    struct counted_layer   * layers;     // ascending
    struct neighbours_spread spreads[N_TOKEN_PHASES]; // of tokens, over these layers
    uint64_t                 lost;       // ubatches that do not check
};

// Returns NULL where it cannot be read, or does not know what the filter asks for.
struct routing_counts * routing_counts_load(const char * path, const struct trace_filter * filter, bool halves,
                                            struct error * error);

// The same of a trace that is open, and stays so as long as these counts. `name`: to be told to people.
struct routing_counts * routing_counts_of  (const char * name, const struct trace * trace,
                                            const struct trace_filter * filter, bool halves, struct error * error);
void                    routing_counts_free(struct routing_counts * counts);

// Warns where it is a damaged trace. Returns the exit status.
int routing_counts_check(const struct routing_counts * counts);

// "standard input" for "-".
const char * routing_counts_name(const struct routing_counts * counts);
