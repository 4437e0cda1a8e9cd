// How many different experts a ubatch touches that has one generated token of each of several sequences.
//
// Up to 256 generated tokens are kept, each of all that came with the same chance (Vitter's reservoir, algorithm R),
// drawn by numbers that are the same for the same trace. What comes out is no simulation: it is the mean over all ways
// to choose so many of the sequences that were kept, and of each one token.
//
// One thread at a time.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONCURRENCY_TOKENS 256 // that are kept at most
#define CONCURRENCY_MOST    64 // tokens in a ubatch that can be asked for

struct concurrency_layer {
    int32_t n_expert;
    int32_t n_used;
};

struct concurrency;

// Returns NULL where memory is short.
struct concurrency * concurrency_new (size_t n_layers, const struct concurrency_layer * layers);
void                 concurrency_free(struct concurrency * concurrency);

// A generated token, of this life of a sequence. False: it is not kept, and its rows need not be told.
bool concurrency_token(struct concurrency * concurrency, uint64_t life);
// The experts of that token in a layer, at most n_used.
void concurrency_row  (struct concurrency * concurrency, size_t layer, const uint16_t * experts, size_t n_experts);

size_t concurrency_n_lives(const struct concurrency * concurrency); // that the tokens which were kept are of

// Mean number of different experts of each layer that n tokens touch, into experts[n_layers]: of n different lives
// where there are as many, of n different tokens otherwise. False where there are fewer tokens, or n is none of 1 to
// CONCURRENCY_MOST.
bool concurrency_experts(const struct concurrency * concurrency, size_t n, double * experts);
