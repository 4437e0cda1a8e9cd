// Keeps all keys in the order of their decayed counts, so that a use finds its rank.

#include "analysis/lfu-curve.h"

#include <math.h>
#include <stdlib.h>

#define WEIGHT_MAX 0x1p+256 // of a use, before all scores are made smaller
#define GROWTH_MAX 0x1p+128 // from step to step: beyond it, what is older does not show in a score either
#define NEVER      (-1)

struct scored {
    double   score;
    uint32_t key;
};

// Instead of all scores that decay, the weight of a use grows. So scores change with a use alone, and the order with
// them.
struct lfu_curve {
    double          weight; // of a use in the next step
    double          growth; // of the weight from step to step
    size_t          n_used;
    struct scored * order;  // [n_used] highest score first
    int32_t       * rank;   // [n_keys] index into order, NEVER
};

struct lfu_curve * lfu_curve_new(size_t n_keys, double half_life) {
    struct lfu_curve * curve = calloc(1, sizeof(*curve));
    if (curve == NULL) {
        return NULL;
    }
    curve->weight = 1.0;
    curve->growth = fmin(exp2(1.0 / half_life), GROWTH_MAX);
    curve->order  = calloc(n_keys + 1, sizeof(*curve->order));
    curve->rank   = malloc(n_keys * sizeof(*curve->rank) + 1);
    if (curve->order == NULL || curve->rank == NULL) {
        lfu_curve_free(curve);
        return NULL;
    }
    for (size_t i = 0; i < n_keys; i++) {
        curve->rank[i] = NEVER;
    }
    return curve;
}

void lfu_curve_free(struct lfu_curve * curve) {
    if (curve) {
        free(curve->order);
        free(curve->rank);
        free(curve);
    }
}

void lfu_curve_look(const struct lfu_curve * curve, const uint32_t * keys, size_t n, int32_t * ranks) {
    for (size_t i = 0; i < n; i++) {
        ranks[i] = curve->rank[keys[i]];
    }
}

static void use(struct lfu_curve * curve, uint32_t key) {
    struct scored * order = curve->order;
    size_t          rank  = (size_t) curve->rank[key];
    if (curve->rank[key] == NEVER) {
        rank        = curve->n_used++;
        order[rank] = (struct scored) { 0.0, key };
    }
    const double score = order[rank].score + curve->weight;
    for (; rank > 0 && order[rank - 1].score <= score; rank--) {
        order[rank] = order[rank - 1];
        curve->rank[order[rank].key] = (int32_t) rank;
    }
    order[rank]      = (struct scored) { score, key };
    curve->rank[key] = (int32_t) rank;
}

// By a power of two, which leaves their order as it is.
static void make_smaller(struct lfu_curve * curve) {
    for (size_t i = 0; i < curve->n_used; i++) {
        curve->order[i].score /= WEIGHT_MAX;
    }
    curve->weight /= WEIGHT_MAX;
}

void lfu_curve_touch(struct lfu_curve * curve, const uint32_t * keys, size_t n) {
    for (size_t i = 0; i < n; i++) {
        use(curve, keys[i]);
    }
    curve->weight *= curve->growth;
    if (curve->weight > WEIGHT_MAX) {
        make_smaller(curve);
    }
}
