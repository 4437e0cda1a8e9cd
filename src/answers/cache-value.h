// A rate or a time, and its interval.

#pragma once

// NAN: not known. The interval has 95 % confidence; what a trace is too short for, or what does not depend on chance,
// has none.
struct cache_value {
    double value;
    double low;
    double high;
};
