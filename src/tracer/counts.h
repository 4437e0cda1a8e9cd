// Counters of one context: dense arrays, written by the thread that evaluates it.

#ifndef TRACER_COUNTS_H
#define TRACER_COUNTS_H

#include "routing.h"

#include <stddef.h>

struct counts_layer {
    int32_t    n_expert;    // elements of activations[], 0: no MoE layer was seen here
    int32_t    n_used;
    uint64_t   n_tokens;    // rows
    uint64_t * activations; // [n_expert]
};

// Zeroed: empty.
struct counts {
    struct counts_layer * layers;   // [n_layers] by index of the layer
    int32_t               n_layers;
    uint64_t              n_tokens; // evaluated
    uint64_t              n_prompt;
    uint64_t              n_generation;
    uint64_t              n_warmup; // not in n_tokens
    uint64_t              n_mtp;    // evaluated by a multi-token-prediction head, not in n_tokens
};

// Adds a layer's routing. Returns false where memory runs out: nothing was added then.
bool counts_add_layer(struct counts * counts, const struct routing_layer * layer);

// Adds all that `from` has counted. Returns false where memory runs out: what did not fit is missing then.
bool counts_add(struct counts * counts, const struct counts * from);

// Sets every counter to zero; what is known of layers stays.
void counts_reset(struct counts * counts);
void counts_free (struct counts * counts);

#endif // TRACER_COUNTS_H
