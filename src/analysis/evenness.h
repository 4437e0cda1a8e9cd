// How even the use of experts is: of one layer, and of the slots of all layers, a slot being one expert of one layer.
// Pure functions over counts, see counts.h.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Effective number of experts: 2^H, H being the entropy in bits. So many, used alike, would be as uneven (Hill's number
// of order 1). NAN where nothing was counted.
double evenness_effective(const uint64_t * counts, size_t n);

// The id of the most used, the lowest of equals.
size_t evenness_hottest(const uint64_t * counts, size_t n);

struct evenness_slots {
    size_t     n;
    uint64_t * sums; // [n + 1]: activations of the i most used slots
};

// counts[n] of all slots, in any order; false where memory is short.
bool evenness_slots_of  (struct evenness_slots * slots, const uint64_t * counts, size_t n);
void evenness_slots_free(struct evenness_slots * slots);

// The fewest slots with at least this share of all activations, 0 where nothing was counted.
size_t evenness_coverage(const struct evenness_slots * slots, double share);

// The share of all activations that this share of the slots has at most; parts of a slot count in proportion.
double evenness_covered(const struct evenness_slots * slots, double share);
