// The tokens of a ubatch, in the order of its rows: which token of which sequence each row is, and which of them have a
// row in layers that compute only what is asked for.
//
// The batch says what there is, the graph's inputs what is in this ubatch.

#pragma once

#include "engine/context/context.h"
#include "engine/upstream/real.h"
#include "routing/routing.h"

#define GRAPH_INPUTS_MAX 32

// The inputs of the graph that a scheduler was given last, in the order of their making.
struct graph_inputs {
    const struct ggml_tensor * at[GRAPH_INPUTS_MAX];
    int                        n;
};

// Zeroed: nothing is known.
struct ubatch_tokens {
    uint64_t               number;     // as in struct routing_ubatch
    uint64_t               batch;      // likewise
    int64_t                time;       // likewise
    int32_t                n;          // 0: nobody wants to know, or memory ran out
    bool                   lost;       // it did
    bool                   rows_known;
    bool                   rows_ambiguous; // they are not known: as in struct split
    struct expert_tracer_token * tokens;     // [n]
    int32_t              * outputs;    // [n_outputs] index of the tokens whose output is computed, ascending
    int32_t                n_outputs;
    int32_t              * values;     // of the inputs, while they are looked at
    size_t                 room;
};

// The graph of a ubatch is about to be computed, its inputs are set. They are looked at where anybody wants to know.
void tokens_read(struct ubatch_tokens * tokens, const struct real * real, const struct graph_inputs * inputs,
                 struct context * context, struct ggml_cgraph * graph);

// Tells a ubatch what it is, but for its routing.
void tokens_describe(const struct ubatch_tokens * tokens, struct routing_ubatch * ubatch);

// Tells a layer which tokens its rows are. Returns false where that is not known.
bool tokens_describe_rows(const struct ubatch_tokens * tokens, struct routing_layer * layer);

void tokens_free(struct ubatch_tokens * tokens);
