// How different two uses of the same experts are. Pure functions over counts, see counts.h.

#pragma once

#include <stddef.h>
#include <stdint.h>

// Jensen-Shannon divergence in bits (Lin, 1991): H((p + q) / 2) - (H(p) + H(q)) / 2, p and q being the shares. 0 where
// they are the same, 1 where no expert is used in both. NAN where one of them counted nothing.
double divergence_js(const uint64_t * a, const uint64_t * b, size_t n);

// Share of the hottest tenth of a's experts (counts_tenth) that is among b's. NAN where one of them counted nothing.
double divergence_overlap(const uint64_t * a, const uint64_t * b, size_t n);

// Share of the activations `judged` that the n_hot hottest experts of `learned` have.
double divergence_hot_set(const uint64_t * learned, const uint64_t * judged, size_t n, size_t n_hot);
