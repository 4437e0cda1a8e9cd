// What `info` answers of a trace: plain values, filled once, which text and JSON only read.

#pragma once

#include "tool/error.h"
#include "trace/read/trace-reader.h"

// Over the layers of all tables.
struct info_range {
    int64_t least;
    int64_t most; // -1: not known
};

struct info_layer {
    int32_t layer;
    int32_t n_expert;
    int32_t n_used;
    int64_t expert_bytes; // of one expert, -1: not known
};

struct info_answer {
    const struct trace_info * info;     // of the trace, which must stay open as long as the answer
    size_t                    n_layers; // of all tables, each once
    struct info_layer       * layers;   // in the order of evaluation
    struct info_range         n_expert;
    struct info_range         n_used;
    struct info_range         expert_bytes;
    int64_t                   bytes;    // of one expert in all layers together, -1: not known
    bool                      is_damaged;
    double                    seconds;  // from the first ubatch to the last
    double                    bytes_per_activation; // of the file, NAN: nothing was activated

    uint64_t                  ubatches;
    uint64_t                  tokens;
    uint64_t                  prompt;
    uint64_t                  generation;
    uint64_t                  warmup;        // in neither
    uint64_t                  rejected;      // in generation or prompt
    uint64_t                  warmup_ubatches;
    uint64_t                  mtp_ubatches;
    uint64_t                  batches;
    uint64_t                  cuts;
    uint64_t                  activations;   // without warm-up
    uint64_t                  warmup_activations;
    size_t                    contexts;
    size_t                    sequences;
    bool                      knows_sequences; // what was imported may have phases and no sequences
    size_t                    lives;
    int64_t                   begin;         // microseconds since 1970, of the first ubatch
    int64_t                   end;           // of the last one
    uint64_t                  lost;          // ubatches that do not check
};

// Goes through the trace once. NULL, and why, where it changed meanwhile.
struct info_answer * info_answer_new (const struct trace * trace, struct error * error);
void                 info_answer_free(struct info_answer * answer);
