// Sizes, times and numbers as people type them in options and variables, whatever the program's locale.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct quantity_unit {
    const char * name; // NULL behind the last. The empty one is for a number alone
    double       factor;
};

extern const struct quantity_unit quantity_plain[]; // no unit at all
extern const struct quantity_unit quantity_sizes[]; // bytes: "64MiB" and "64M", "500MB"
extern const struct quantity_unit quantity_times[]; // seconds: "90m", "1h"

// Digits, with a point among them perhaps, and one of the units. Negative where it is something else.
double quantity_parse(const char * text, const struct quantity_unit * units);

// How much a unit is, in capitals or not; 0 where it is none of these.
double quantity_factor(const char * name, size_t length, const struct quantity_unit * units);

// "N" or "N:SEED", whole numbers from 1 to their maximum; the seed is 0 where there is none. False: something else.
bool quantity_seeded(const char * text, double max, double seed_max, uint64_t * n, uint64_t * seed);
