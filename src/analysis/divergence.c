// How far two sets of counts of the same experts are from each other.

#include "analysis/divergence.h"

#include "analysis/counts.h"

#include <math.h>
#include <stdlib.h>

// p * log2(p / m), which is 0 where p is.
static double bits_of(double p, double m) {
    return p > 0.0 ? p * log2(p / m) : 0.0;
}

double divergence_js(const uint64_t * a, const uint64_t * b, size_t n) {
    const uint64_t total_a = counts_sum(a, n);
    const uint64_t total_b = counts_sum(b, n);
    if (total_a == 0 || total_b == 0) {
        return NAN;
    }

    double bits = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double p = counts_share(a[i], total_a);
        const double q = counts_share(b[i], total_b);
        bits += bits_of(p, (p + q) / 2.0) + bits_of(q, (p + q) / 2.0);
    }
    return fmin(fmax(bits / 2.0, 0.0), 1.0);
}

static size_t * rank(const uint64_t * counts, size_t n) {
    size_t * order = malloc(n * sizeof(*order) + 1);
    if (order == NULL) {
        abort();
    }
    counts_rank(counts, n, order);
    return order;
}

double divergence_overlap(const uint64_t * a, const uint64_t * b, size_t n) {
    if (counts_sum(a, n) == 0 || counts_sum(b, n) == 0) {
        return NAN;
    }
    const size_t n_hot = counts_tenth(n);
    size_t     * hot_a = rank(a, n);
    size_t     * hot_b = rank(b, n);
    size_t       n_common = 0;
    for (size_t i = 0; i < n_hot; i++) {
        size_t k = 0;
        while (k < n_hot && hot_b[k] != hot_a[i]) {
            k++;
        }
        n_common += k < n_hot;
    }
    free(hot_a);
    free(hot_b);
    return (double) n_common / (double) n_hot;
}

double divergence_hot_set(const uint64_t * learned, const uint64_t * judged, size_t n, size_t n_hot) {
    size_t * order = rank(learned, n);
    uint64_t hits  = 0;
    for (size_t i = 0; i < n && i < n_hot; i++) {
        hits += judged[order[i]];
    }
    free(order);
    return counts_share(hits, counts_sum(judged, n));
}
