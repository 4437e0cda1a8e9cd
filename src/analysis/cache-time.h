// What a cache of experts means for the time that a token takes, where nothing of it overlaps. docs/analysis.md has the
// formulas.

#pragma once

#include <stdbool.h>

struct cache_time {
    double token_bytes; // experts that one token uses in all layers
    double tg;          // tokens a second with the experts in host memory
    double ram;         // bytes a second that the processor reads from there
    double pcie;        // bytes a second from there to the device
    double vram;        // bytes a second that the device reads; 0: as if no time
};

// False: the processor cannot read the experts of a token in the time that a token takes, so that one of the figures is
// wrong.
bool cache_time_is_possible(const struct cache_time * time);

// Tokens a second at a hit rate from 0 to 1.
double cache_time_uploading(const struct cache_time * time, double hit_rate); // of a cache that uploads what it misses
double cache_time_computing(const struct cache_time * time, double hit_rate); // what is missing is computed where it is

// The hit rate from which on a cache that uploads is no slower than none: below 0 always, above 1 never.
double cache_time_break_even(const struct cache_time * time);
