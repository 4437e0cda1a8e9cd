// What the best choice for each answer would hit: the experts that are hottest in a life of a sequence, as if they were
// known beforehand and pinned for it.
//
// One thread at a time. Counts are of activations: no expert's first use is charged.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cache_oracle;

// n_experts[n_layers]. NULL: out of memory.
struct cache_oracle * cache_oracle_new (size_t n_layers, const int32_t * n_experts);
void                  cache_oracle_free(struct cache_oracle * oracle);

// One token's experts in a layer. `life`: from 0 for each life of a sequence. False: out of memory, or not of a layer
// that was told.
bool cache_oracle_token(struct cache_oracle * oracle, size_t layer, uint64_t life, const uint16_t * experts,
                        size_t n_experts);

// No more of this life: its memory is given back. A life without tokens may end, too. hits[n_sizes] of caches that have
// slots[n_sizes * n_layers], by size and layer, in this life alone; returns of how many activations.
uint64_t cache_oracle_end_life(struct cache_oracle * oracle, uint64_t life, size_t n_sizes, const size_t * slots,
                               uint64_t * hits);
