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

// The next row of a sequence in a layer. Counted as what this token is, whatever the one before it was. Returns what it
// adds, nothing where it has no neighbour.
struct neighbours_reuse neighbours_row  (struct neighbours * neighbours, struct neighbours_sequence * sequence,
                                         const struct neighbours_row * row);
struct neighbours_reuse neighbours_reuse(const struct neighbours * neighbours, size_t layer, bool generation);

//
// chance
//

// The share of its experts that a token has in common with another one of those that were counted, whichever: each of n
// experts was used counts[i] times, n_used by each token. Of T tokens, the pairs that both use an expert over all pairs
// of tokens: sum of counts[i] * (counts[i] - 1) / (T * (T - 1) * n_used). That is without bias: a token is not paired
// with itself, as in the sum of squares of the shares it is. NAN where there are fewer than two tokens.
double neighbours_chance(const uint64_t * counts, size_t n, size_t n_used);

// What tokens and their neighbours have in common in all layers, and how much it spreads from token to token: layers of
// one token are alike, so that tokens are what is independent if anything is.
struct neighbours_spread {
    uint64_t n; // tokens that have a neighbour
    double   shared;
    double   experts;
    double   shared_squares;
    double   experts_squares;
    double   products;
};

void neighbours_spread_add(struct neighbours_spread * spread, const struct neighbours_reuse * of_token);

enum neighbours_verdict {
    NEIGHBOURS_FEW,    // too few tokens to tell
    NEIGHBOURS_CHANCE, // what they share is within 95 % of chance, or below
    NEIGHBOURS_HARDLY, // above that, but by less than as much again
    NEIGHBOURS_MORE,
};

#define NEIGHBOURS_LEAST 8 // tokens

enum neighbours_verdict neighbours_judge(const struct neighbours_spread * spread, double chance);
