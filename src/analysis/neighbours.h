// How many of a token's experts in a layer are those of the token before it.
//
// Two tokens are neighbours in a layer where they are of the same life of a sequence, their positions follow each
// other, and nothing of that sequence was routed there between them.
//
// One thread at a time.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct neighbours_layer {
    int32_t n_expert;
    int32_t n_used;
};

struct neighbours_row {
    size_t           layer;
    int32_t          life;       // of the sequence
    int32_t          position;   // -1: not known, a neighbour of none
    bool             generation; // otherwise prompt
    size_t           n_experts;  // at most n_used
    const uint16_t * experts;
};

struct neighbours_reuse {
    uint64_t experts; // of tokens that have a neighbour before them
    uint64_t shared;  // that this one has too
};

struct neighbours;

// What is remembered of one sequence.
struct neighbours_sequence;

// Each returns NULL where memory is short. A sequence must be freed before its neighbours.
struct neighbours          * neighbours_new          (size_t n_layers, const struct neighbours_layer * layers);
void                         neighbours_free         (struct neighbours * neighbours);
struct neighbours_sequence * neighbours_sequence_new (const struct neighbours * neighbours);
void                         neighbours_sequence_free(struct neighbours_sequence * sequence);

// The next row of a sequence in a layer. Counted as what this token is, whatever the one before it was.
void                    neighbours_row  (struct neighbours * neighbours, struct neighbours_sequence * sequence,
                                         const struct neighbours_row * row);
struct neighbours_reuse neighbours_reuse(const struct neighbours * neighbours, size_t layer, bool generation);

// The share that independent draws would have in common, each of n_used experts, expert i with the chance
// n_used * p_i, p_i = counts[i] / sum of counts: n_used * sum of p_i^2. It is n_used / n where all are used alike.
// NAN where nothing was counted.
double neighbours_chance(const uint64_t * counts, size_t n, size_t n_used);
