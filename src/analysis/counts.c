// Sums, shares and ranks of counts, wherever they were counted.

#include "analysis/counts.h"

#include <math.h>
#include <stdlib.h>

uint64_t counts_sum(const uint64_t * counts, size_t n) {
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += counts[i];
    }
    return sum;
}

uint64_t counts_widest(const uint64_t * counts, size_t n) {
    uint64_t widest = 0;
    for (size_t i = 0; i < n; i++) {
        widest = counts[i] > widest ? counts[i] : widest;
    }
    return widest;
}

size_t counts_unused(const uint64_t * counts, size_t n) {
    size_t unused = 0;
    for (size_t i = 0; i < n; i++) {
        unused += counts[i] == 0;
    }
    return unused;
}

double counts_share(uint64_t count, uint64_t total) {
    return total == 0 ? 0.0 : (double) count / (double) total;
}

size_t counts_tenth(size_t n) {
    return n / 10 + (n % 10 != 0);
}

double counts_share_of_hottest(const uint64_t * counts, size_t n, size_t n_hottest) {
    size_t * order = malloc(n * sizeof(*order) + 1);
    if (order == NULL) {
        abort();
    }
    counts_rank(counts, n, order);

    uint64_t hottest = 0;
    for (size_t i = 0; i < n && i < n_hottest; i++) {
        hottest += counts[order[i]];
    }
    free(order);
    return counts_share(hottest, counts_sum(counts, n));
}

double counts_entropy(const uint64_t * counts, size_t n) {
    const uint64_t total = counts_sum(counts, n);
    if (n < 2 || total == 0) {
        return NAN;
    }

    double bits = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double p = counts_share(counts[i], total);
        bits -= p > 0.0 ? p * log2(p) : 0.0;
    }
    return fmin(fmax(bits / log2((double) n), 0.0), 1.0);
}

struct ranked {
    uint64_t count;
    size_t   id;
};

static int ranked_compare(const void * a, const void * b) {
    const struct ranked * x = a;
    const struct ranked * y = b;
    if (x->count != y->count) {
        return x->count > y->count ? -1 : 1;
    }
    return (x->id > y->id) - (x->id < y->id);
}

void counts_rank(const uint64_t * counts, size_t n, size_t * order) {
    struct ranked * ranked = malloc(n * sizeof(*ranked) + 1);
    if (ranked == NULL) {
        abort();
    }
    for (size_t i = 0; i < n; i++) {
        ranked[i] = (struct ranked) { counts[i], i };
    }
    qsort(ranked, n, sizeof(*ranked), ranked_compare);
    for (size_t i = 0; i < n; i++) {
        order[i] = ranked[i].id;
    }
    free(ranked);
}

bool counts_add(uint64_t * sum, uint64_t count) {
    if (count > COUNTS_MAX || *sum > COUNTS_MAX - count) {
        return false;
    }
    *sum += count;
    return true;
}
