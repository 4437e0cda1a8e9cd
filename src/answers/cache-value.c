// Reads shares off what was drawn.

#include "answers/cache-value.h"

#include <math.h>

struct cache_value cache_value_of(const struct resample_draws * draws, size_t series) {
    const struct interval interval = resample_share(draws, series, 0);
    const double          requests = draws->totals[0];
    return (struct cache_value) { requests > 0 ? draws->totals[series] / requests : (double) NAN, interval.low,
                                  interval.high };
}
