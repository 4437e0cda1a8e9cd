// A rate or a time, and its interval.

#pragma once

#include "analysis/resample.h"

// NAN: not known. The interval has 95 % confidence; what a trace is too short for, or what does not depend on chance,
// has none.
struct cache_value {
    double value;
    double low;
    double high;
};

// Of the share that a series has of the first one, of requests.
struct cache_value cache_value_of(const struct resample_draws * draws, size_t series);
