// Belady's optimum: the most hits that caches of given sizes could have, if they knew what comes and may also leave a
// key out.
//
// From one use of a key to its next is an interval. It is a hit iff the key is kept meanwhile, and a cache of n slots
// keeps at most n keys between any two steps. Taking intervals in the order of their ends, each one that still fits,
// yields the most hits (OPTgen of Jain & Lin 2016). That they fit is seen from the slots: each is free from the end of
// its last interval on, and an interval takes the slot that became free last before it begins (Carlisle & Lloyd 1995).
// The hits are known as soon as they happen.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct optimum;

// Of keys 0 to n_keys - 1, in caches of n_sizes sizes. Requests are of one of `n_kinds` kinds, and the most hits are
// looked for of each kind by itself: the intervals that end in it have all slots. NULL: out of memory.
struct optimum * optimum_new (size_t n_keys, size_t n_sizes, const size_t * sizes, size_t n_kinds);
void             optimum_free(struct optimum * optimum);

// The keys of one step, each once: kept[n_sizes][n] of those that are hits.
void optimum_step(struct optimum * optimum, const uint32_t * keys, size_t n, size_t kind, bool * kept);

// From here on hits are looked for as if any keys could be there, used or not.
void optimum_restart(struct optimum * optimum);
