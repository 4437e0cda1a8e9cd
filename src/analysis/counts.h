// What can be said about how often each of n experts was used: counts[i] is the number of activations of expert i.
// Pure functions. Whoever loads counts makes sure that their sum fits; counts_add refuses what would not.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COUNTS_MAX ((uint64_t) INT64_MAX) // the largest integer that every reader of JSON takes

uint64_t counts_sum   (const uint64_t * counts, size_t n);
uint64_t counts_widest(const uint64_t * counts, size_t n); // the largest of them, 0 for none
size_t   counts_unused(const uint64_t * counts, size_t n); // how many are 0

// count / total, 0 where total is 0
double counts_share(uint64_t count, uint64_t total);

// How many experts the hottest tenth is: n / 10, rounded up.
size_t counts_tenth(size_t n);

// Share of all activations that the `n_hottest` most used experts have. n_hottest / n where all are used alike; 0
// where nothing was counted.
double counts_share_of_hottest(const uint64_t * counts, size_t n, size_t n_hottest);

// Normalised Shannon entropy, H / log2(n) with H = - sum of p_i log2(p_i), p_i = counts[i] / sum of counts.
// 1 where all experts are used alike, 0 where one has everything; NAN for fewer than 2 experts or nothing counted.
double counts_entropy(const uint64_t * counts, size_t n);

// Ids of the experts, widest use first, the lower id first among equals. Into order[n].
void counts_rank(const uint64_t * counts, size_t n, size_t * order);

// *sum += count. False, and *sum untouched, where that would pass COUNTS_MAX.
bool counts_add(uint64_t * sum, uint64_t count);
