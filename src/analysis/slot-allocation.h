// How many cache slots each layer should get, so that all layers together hit most.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct slot_layer {
    int32_t          n_expert;
    int64_t          expert_bytes; // > 0
    const uint64_t * hits;         // [n_expert + 1] of this layer's cache, by slots; never falls
};

// Fills slots[n_layers] so that no more than `budget` bytes are used. Greedy along the upper concave hull of each
// layer's hits, the most hits for a byte first (Fox 1966), then slot by slot with what is left: the best there is where
// curves are concave and slots cost the same, otherwise but for the hits of one step along a hull. Never worse than the
// same number of slots in each layer. False: out of memory.
bool slot_allocation(size_t n_layers, const struct slot_layer * layers, uint64_t budget, size_t * slots);
