// Counters by layer and expert: dense arrays in one block of memory, and totals beside them. They are atomic, so that
// one thread can read what another is counting (meter.h), but one thread alone may change them: no counter costs more
// than a plain one.

#pragma once

#include "base/memory-source.h"
#include "routing/routing.h"

#include <stdatomic.h>
#include <stddef.h>

struct counters_layer {
    _Atomic int32_t  n_expert; // 0: no MoE layer was seen here
    _Atomic int32_t  n_used;
    _Atomic uint64_t n_tokens; // rows
};

// Zeroed: empty.
struct counters_table {
    int32_t                      n_layers;    // room for as many
    int32_t                      n_expert;    // room for as many in each layer
    struct counters_layer      * layers;      // [n_layers] by index of the layer
    _Atomic uint64_t           * activations; // [n_layers][n_expert], in the block of the layers
    const struct memory_source * memory;      // NULL: the heap
};

struct counters_totals {
    _Atomic uint64_t n_tokens;        // evaluated
    _Atomic uint64_t n_prompt;
    _Atomic uint64_t n_generation;
    _Atomic uint64_t n_warmup;        // not in n_tokens
    _Atomic uint64_t n_mtp;           // evaluated by a multi-token-prediction head, not in n_tokens
    _Atomic uint64_t n_lost;          // of n_tokens, those whose routing is not known
    _Atomic uint64_t n_lost_ubatches;
};

// Zeroed: empty.
struct counters {
    struct counters_table  table;
    struct counters_totals totals;
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
static inline _Atomic uint64_t * counters_row(const struct counters_table * table, int32_t layer) {
    return table->activations + (size_t) layer * (size_t) table->n_expert;
}

static inline bool counters_have_room(const struct counters_table * table, int32_t n_layers, int32_t n_expert) {
    return n_layers <= table->n_layers && n_expert <= table->n_expert;
}

// Bytes of the block of a table.
size_t counters_block_size(int32_t n_layers, int32_t n_expert);

// Returns false where memory runs out: everything is as it was then.
bool counters_make_room(struct counters_table * table, int32_t n_layers, int32_t n_expert);

// Adds a layer's routing. Returns false where there is no room for it: nothing was added then.
bool counters_add_layer(struct counters_table * table, const struct routing_layer * layer);

// Adds all that `from` has counted, and makes room for it. Returns false where memory runs out: nothing was added then.
bool counters_add(struct counters * counts, const struct counters * from);

// The same in parts; there has to be room for the table's.
void counters_add_table (struct counters_table  * table,  const struct counters_table  * from);
void counters_add_totals(struct counters_totals * totals, const struct counters_totals * from);

// Sets every counter to zero; what is known of layers stays.
void counters_reset       (struct counters * counts);
void counters_reset_table (struct counters_table  * table);
void counters_reset_totals(struct counters_totals * totals);

void counters_free      (struct counters * counts);
void counters_free_table(struct counters_table * table); // it can make room anew, from where it did before
