// Adds up what a token waits for: what it does anyway, what is read, and what is copied.

#include "analysis/cache-time.h"

#include <math.h>

static double seconds(double bytes, double rate) {
    return rate > 0.0 ? bytes / rate : 0.0;
}

static double tokens_a_second(double seconds_of_one) {
    return seconds_of_one > 0.0 ? 1.0 / seconds_of_one : INFINITY;
}

// Of a token, but for the reading of its experts.
static double rest(const struct cache_time * time) {
    return 1.0 / time->tg - time->token_bytes / time->ram;
}

bool cache_time_is_possible(const struct cache_time * time) {
    return rest(time) >= 0.0;
}

double cache_time_uploading(const struct cache_time * time, double hit_rate) {
    const double missed = time->token_bytes * (1.0 - hit_rate);
    return tokens_a_second(rest(time) + missed / time->pcie + seconds(time->token_bytes, time->vram));
}

double cache_time_computing(const struct cache_time * time, double hit_rate) {
    const double found  = time->token_bytes * hit_rate;
    const double missed = time->token_bytes - found;
    return tokens_a_second(rest(time) + missed / time->ram + seconds(found, time->vram));
}

double cache_time_break_even(const struct cache_time * time) {
    return 1.0 - time->pcie * (1.0 / time->ram - seconds(1.0, time->vram));
}
