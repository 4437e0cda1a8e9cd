// What counts look like where every expert is as likely as any other: what the evenness of real counts is held against.
//
// Few tokens do not use all experts alike, however even the router is: of 16 tokens with 8 of 128 experts each, a
// fifth of the experts takes half of the work by chance alone. So as many tokens as were counted are routed
// uniformly, each to n_used different experts of n, UNIFORM_N_DRAWS times, always with the same random numbers.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UNIFORM_N_DRAWS 48

struct uniform_layer {
    uint64_t activations;
    size_t   n_expert;
    size_t   n_used; // different experts of a token; 1 where it is not known, which spreads a little wider
};

// Over the draws. 95 % of them are in between.
struct uniform_range {
    double mean;
    double low;
    double high;
};

// Counts that are drawn by random numbers that begin at *random. Into counts[n_expert]. False: out of memory.
bool uniform_draw(const struct uniform_layer * layer, uint64_t * random, uint64_t * counts);

// What is asked of the draws, and where it goes.
struct uniform_study {
    size_t                 n_shares;
    const double         * shares;
    struct uniform_range * coverage;  // [n_shares] the fewest slots of all layers that take each: evenness_coverage()
    size_t                 n_curve;
    double               * curve;     // [n_curve] means of what 0 … all of the slots take at most: evenness_covered()
    struct uniform_range * effective; // [n_layers] effective experts, NULL: not asked
};

// False: out of memory.
bool uniform_study(const struct uniform_layer * layers, size_t n_layers, const struct uniform_study * study);

// How a value that is lower the less even counts are compares with its range.
enum uniform_place {
    UNIFORM_INSIDE,  // or above: as chance would have it
    UNIFORM_HARDLY,  // below, by less than the range is wide on that side: one trace in 40 is
    UNIFORM_BELOW,   // clearly
};

// `step` is the least by which such a value can change.
enum uniform_place uniform_place(const struct uniform_range * range, double value, double step);
