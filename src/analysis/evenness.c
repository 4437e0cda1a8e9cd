// How even counts are, from their entropy and from their sums in descending order.

#include "analysis/evenness.h"

#include "analysis/counts.h"

#include <math.h>
#include <stdlib.h>

double evenness_effective(const uint64_t * counts, size_t n) {
    const uint64_t total = counts_sum(counts, n);
    double         bits  = total == 0 ? (double) NAN : 0.0;
    for (size_t i = 0; i < n; i++) {
        const double p = counts_share(counts[i], total);
        bits -= p > 0.0 ? p * log2(p) : 0.0;
    }
    return exp2(bits);
}

size_t evenness_hottest(const uint64_t * counts, size_t n) {
    size_t hottest = 0;
    for (size_t i = 1; i < n; i++) {
        hottest = counts[i] > counts[hottest] ? i : hottest;
    }
    return hottest;
}

static int compare_descending(const void * a, const void * b) {
    const uint64_t x = *(const uint64_t *) a;
    const uint64_t y = *(const uint64_t *) b;
    return (x < y) - (x > y);
}

bool evenness_slots_of(struct evenness_slots * slots, const uint64_t * counts, size_t n) {
    *slots = (struct evenness_slots) { n, calloc(n + 1, sizeof(*slots->sums)) };
    if (slots->sums == NULL) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        slots->sums[i + 1] = counts[i];
    }
    qsort(slots->sums + 1, n, sizeof(*slots->sums), compare_descending);
    for (size_t i = 0; i < n; i++) {
        slots->sums[i + 1] += slots->sums[i];
    }
    return true;
}

void evenness_slots_free(struct evenness_slots * slots) {
    free(slots->sums);
}

size_t evenness_coverage(const struct evenness_slots * slots, double share) {
    const double wanted = share * (double) slots->sums[slots->n];
    size_t       i      = 0;
    while (i < slots->n && (double) slots->sums[i] < wanted) {
        i++;
    }
    return i;
}

double evenness_covered(const struct evenness_slots * slots, double share) {
    const double place = share * (double) slots->n;
    const size_t whole = place >= (double) slots->n ? slots->n : (size_t) place;
    const double sum   = (double) slots->sums[whole];
    const double next  = whole < slots->n ? (double) (slots->sums[whole + 1] - slots->sums[whole]) : 0.0;
    const double total = (double) slots->sums[slots->n];
    return total > 0.0 ? (sum + (place - (double) whole) * next) / total : 0.0;
}
