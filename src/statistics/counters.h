// Counters by layer and expert: dense arrays in one block of memory. They are atomic, so that one thread can read
// what another is counting (meter.h), but one thread alone may change them: no counter costs more than a plain one.

#pragma once

#include "routing/routing.h"

#include <stdatomic.h>
#include <stddef.h>

struct counters_layer {
    _Atomic int32_t  n_expert; // 0: no MoE layer was seen here
    _Atomic int32_t  n_used;
    _Atomic uint64_t n_tokens; // rows
};

// Zeroed: empty.
struct counters {
    int32_t               n_layers;    // room for as many
    int32_t               n_expert;    // room for as many in each layer
    struct counters_layer * layers;      // [n_layers] by index of the layer
    _Atomic uint64_t    * activations; // [n_layers][n_expert], in the block of the layers

    _Atomic uint64_t      n_tokens;    // evaluated
    _Atomic uint64_t      n_prompt;
    _Atomic uint64_t      n_generation;
    _Atomic uint64_t      n_warmup;    // not in n_tokens
    _Atomic uint64_t      n_mtp;       // evaluated by a multi-token-prediction head, not in n_tokens
    _Atomic uint64_t      n_lost;      // of n_tokens, those whose routing is not known
    _Atomic uint64_t      n_lost_ubatches;
};

static inline uint64_t counter_get(const _Atomic uint64_t * counter) {
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static inline void counter_set(_Atomic uint64_t * counter, uint64_t value) {
    atomic_store_explicit(counter, value, memory_order_relaxed);
}

static inline void counter_add(_Atomic uint64_t * counter, uint64_t n) {
    counter_set(counter, counter_get(counter) + n);
}

// A layer's counters, [n_expert].
static inline _Atomic uint64_t * counters_row(const struct counters * counts, int32_t layer) {
    return counts->activations + (size_t) layer * (size_t) counts->n_expert;
}

static inline bool counters_have_room(const struct counters * counts, int32_t n_layers, int32_t n_expert) {
    return n_layers <= counts->n_layers && n_expert <= counts->n_expert;
}

// Returns false where memory runs out: everything is as it was then.
bool counters_make_room(struct counters * counts, int32_t n_layers, int32_t n_expert);

// Adds a layer's routing. Returns false where there is no room for it: nothing was added then.
bool counters_add_layer(struct counters * counts, const struct routing_layer * layer);

// Adds all that `from` has counted, and makes room for it. Returns false where memory runs out: nothing was added then.
bool counters_add(struct counters * counts, const struct counters * from);

// Sets every counter to zero; what is known of layers stays.
void counters_reset(struct counters * counts);
void counters_free (struct counters * counts);
