// Hits of caches of all sizes at once that keep the keys that are used most often, where a use counts less the older it
// is.
//
// The score of a key is the sum over its uses of 2^(-age / half_life), age in steps that touched. A cache of n slots
// has a key iff 0 <= rank < n. Among equal scores the more recent use ranks first. A key gains ranks by its own use
// alone: no cache takes one in that was not just used.

#pragma once

#include <stddef.h>
#include <stdint.h>

struct lfu_curve;

// Of keys 0 to n_keys - 1; half_life > 0, INFINITY: all uses count the same. NULL: out of memory.
struct lfu_curve * lfu_curve_new (size_t n_keys, double half_life);
void               lfu_curve_free(struct lfu_curve * curve);

// ranks[i] of keys[i], from 0, -1 for one that was never used. Nothing changes.
void lfu_curve_look (const struct lfu_curve * curve, const uint32_t * keys, size_t n, int32_t * ranks);
void lfu_curve_touch(struct lfu_curve * curve, const uint32_t * keys, size_t n); // one step, each key once
