// Adds to the sums of units.

#include "analysis/cache-series.h"

void cache_series_requests(const struct cache_step * step, size_t n_sizes) {
    if (step->sums == NULL || step->class == PHASE_WARMUP) {
        return;
    }
    for (size_t i = 0; i < step->n_experts; i++) {
        step->sums[i][cache_series_first(n_sizes, CACHE_WHOLE_RUN, step->class)]++;
        step->sums[i][cache_series_first(n_sizes, CACHE_WHOLE_RUN, CACHE_BOTH)]++;
        step->sums[i][cache_series_first(n_sizes, CACHE_JUDGED, step->class)] += step->half == CACHE_SECOND_HALF;
    }
}

void cache_series_hits_in(const struct cache_step * step, size_t n_sizes, enum cache_span span, size_t class,
                          enum cache_column column, size_t i_size, const bool * hits) {
    if (step->sums == NULL || step->class == PHASE_WARMUP) {
        return;
    }
    const size_t series = cache_series_first(n_sizes, span, class) + cache_series_of(n_sizes, column, i_size);
    for (size_t i = 0; i < step->n_experts; i++) {
        step->sums[i][series] += hits[i];
    }
}

void cache_series_hits(const struct cache_step * step, size_t n_sizes, enum cache_column column, size_t i_size,
                       const bool * hits) {
    cache_series_hits_in(step, n_sizes, CACHE_WHOLE_RUN, step->class, column, i_size, hits);
    cache_series_hits_in(step, n_sizes, CACHE_WHOLE_RUN, CACHE_BOTH,  column, i_size, hits);
    if (step->half == CACHE_SECOND_HALF) {
        cache_series_hits_in(step, n_sizes, CACHE_JUDGED, step->class, column, i_size, hits);
    }
}
