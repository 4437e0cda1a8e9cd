// Reuse distances, from which the hits of least recently used caches of all sizes follow at once (Mattson et al. 1970).
//
// The distance of a key is the number of different keys that were used after its last use. A cache of n slots that
// keeps the most recently used keys has it iff 0 <= distance < n. Keys of a step are touched in their order: the last
// one is the most recent.

#pragma once

#include <stddef.h>
#include <stdint.h>

struct lru_curve;

// Of keys 0 to n_keys - 1. NULL: out of memory.
struct lru_curve * lru_curve_new (size_t n_keys);
void               lru_curve_free(struct lru_curve * curve);

// distances[i] of keys[i], -1 for one that was never used. Nothing changes.
void lru_curve_look (const struct lru_curve * curve, const uint32_t * keys, size_t n, int32_t * distances);
void lru_curve_touch(struct lru_curve * curve, const uint32_t * keys, size_t n); // each key once
