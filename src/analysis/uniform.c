// Routes tokens uniformly, and looks at the counts with what real ones are looked at.

#include "analysis/uniform.h"

#include "analysis/evenness.h"
#include "analysis/random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SEED        1
#define MANY        16.0 // activations of an expert, from which on counts are as good as normal
#define TAU         6.283185307179586
#define QUANTILE    1.96 // of the normal distribution, 95 % within
#define FEW_STEPS   2.0

static double random_share(uint64_t * random) { // in (0, 1]
    return ((double) (random_next(random) >> 11) + 1.0) / 9007199254740992.0;
}

// Box and Muller 1958
static double random_normal(uint64_t * random) {
    const double radius = sqrt(-2.0 * log(random_share(random)));
    return radius * cos(TAU * random_share(random));
}

static size_t random_below(uint64_t * random, size_t n) {
    return (size_t) ((random_next(random) >> 32) * n >> 32);
}

// One token after the other has the first n_used of an order that is shuffled on and on (Fisher and Yates).
static void draw_tokens(const struct uniform_layer * layer, uint64_t * random, uint64_t * counts, double * order) {
    const size_t n_used = layer->n_used < 1 ? 1 : layer->n_used < layer->n_expert ? layer->n_used : layer->n_expert;
    size_t       at     = 0;
    for (size_t i = 0; i < layer->n_expert; i++) {
        order[i] = (double) i;
    }
    for (uint64_t i = 0; i < layer->activations; i++) {
        const size_t other  = at + random_below(random, layer->n_expert - at);
        const double chosen = order[other];
        order[other] = order[at];
        order[at]    = chosen;
        counts[(size_t) chosen]++;
        at = at + 1 == n_used ? 0 : at + 1;
    }
}

// Counts of an expert are binomial, and those of a layer have a fixed sum: normal ones with their mean taken off have
// just the variances and covariances of that.
static void draw_normal(const struct uniform_layer * layer, uint64_t * random, uint64_t * counts, double * values) {
    const double n      = (double) layer->n_expert;
    const double mean   = (double) layer->activations / n;
    const double spread = sqrt(mean * fmax(0.0, 1.0 - (double) layer->n_used / n) * n / (n - 1.0));
    double       middle = 0.0;
    for (size_t i = 0; i < layer->n_expert; i++) {
        values[i] = random_normal(random);
        middle   += values[i] / n;
    }
    for (size_t i = 0; i < layer->n_expert; i++) {
        const double count = mean + spread * (values[i] - middle);
        counts[i] = count > 0.0 ? (uint64_t) (count + 0.5) : 0;
    }
}

bool uniform_draw(const struct uniform_layer * layer, uint64_t * random, uint64_t * counts) {
    double * scratch = calloc(layer->n_expert + 1, sizeof(*scratch));
    if (scratch == NULL) {
        return false;
    }
    memset(counts, 0, layer->n_expert * sizeof(*counts));
    if (layer->n_expert == 1) {
        counts[0] = layer->activations;
    } else if ((double) layer->activations > MANY * (double) layer->n_expert) {
        draw_normal(layer, random, counts, scratch);
    } else if (layer->n_expert > 0) {
        draw_tokens(layer, random, counts, scratch);
    }
    free(scratch);
    return true;
}

//
// all draws
//

static struct uniform_range range_of(const double * values) {
    double sum     = 0.0;
    double squares = 0.0;
    double least   = values[0];
    double most    = values[0];
    for (size_t i = 0; i < UNIFORM_N_DRAWS; i++) {
        sum   += values[i];
        least  = fmin(least, values[i]);
        most   = fmax(most,  values[i]);
    }
    const double mean = sum / UNIFORM_N_DRAWS;
    for (size_t i = 0; i < UNIFORM_N_DRAWS; i++) {
        squares += (values[i] - mean) * (values[i] - mean);
    }
    // values that take few steps are not normal: what was drawn is inside in any case
    const double reach = QUANTILE * sqrt(squares / (UNIFORM_N_DRAWS - 1));
    return (struct uniform_range) { mean, fmin(mean - reach, least), fmax(mean + reach, most) };
}

struct draws {
    const struct uniform_study * study;
    const struct uniform_layer * layers;
    size_t                       n_layers;
    size_t                       n_slots;
    uint64_t                   * counts;    // [n_slots]
    double                     * coverage;  // [n_shares][UNIFORM_N_DRAWS]
    double                     * effective; // [n_layers][UNIFORM_N_DRAWS]
};

static bool draw_layers(const struct draws * draws, size_t i_draw, uint64_t * random) {
    uint64_t * counts = draws->counts;
    bool       ok     = true;
    for (size_t i = 0; ok && i < draws->n_layers; i++) {
        const size_t n = draws->layers[i].n_expert;
        ok = uniform_draw(&draws->layers[i], random, counts);
        if (ok && draws->study->effective != NULL) {
            draws->effective[i * UNIFORM_N_DRAWS + i_draw] = evenness_effective(counts, n);
        }
        counts += n;
    }
    return ok;
}

static void look_at(const struct draws * draws, size_t i_draw, const struct evenness_slots * slots) {
    const struct uniform_study * study = draws->study;
    for (size_t i = 0; i < study->n_shares; i++) {
        draws->coverage[i * UNIFORM_N_DRAWS + i_draw] = (double) evenness_coverage(slots, study->shares[i]);
    }
    for (size_t i = 0; i < study->n_curve; i++) {
        study->curve[i] += evenness_covered(slots, (double) i / (double) (study->n_curve - 1)) / UNIFORM_N_DRAWS;
    }
}

static bool draw_all(const struct draws * draws) {
    uint64_t random = SEED;
    for (size_t i = 0; i < UNIFORM_N_DRAWS; i++) {
        struct evenness_slots slots;
        if (!draw_layers(draws, i, &random) || !evenness_slots_of(&slots, draws->counts, draws->n_slots)) {
            return false;
        }
        look_at(draws, i, &slots);
        evenness_slots_free(&slots);
    }
    return true;
}

bool uniform_study(const struct uniform_layer * layers, size_t n_layers, const struct uniform_study * study) {
    struct draws draws = { .study = study, .layers = layers, .n_layers = n_layers };
    for (size_t i = 0; i < n_layers; i++) {
        draws.n_slots += layers[i].n_expert;
    }
    for (size_t i = 0; i < study->n_curve; i++) {
        study->curve[i] = 0.0;
    }
    draws.counts    = calloc(draws.n_slots + 1, sizeof(*draws.counts));
    draws.coverage  = calloc(study->n_shares + 1, UNIFORM_N_DRAWS * sizeof(*draws.coverage));
    draws.effective = calloc(n_layers + 1, UNIFORM_N_DRAWS * sizeof(*draws.effective));
    const bool ok = draws.counts != NULL && draws.coverage != NULL && draws.effective != NULL && draw_all(&draws);
    for (size_t i = 0; ok && i < study->n_shares; i++) {
        study->coverage[i] = range_of(draws.coverage + i * UNIFORM_N_DRAWS);
    }
    for (size_t i = 0; ok && study->effective != NULL && i < n_layers; i++) {
        study->effective[i] = range_of(draws.effective + i * UNIFORM_N_DRAWS);
    }
    free(draws.counts);
    free(draws.coverage);
    free(draws.effective);
    return ok;
}

enum uniform_place uniform_place(const struct uniform_range * range, double value, double step) {
    if (!(value < range->low)) {
        return UNIFORM_INSIDE;
    }
    const double below = range->mean - value;
    return below >= 2.0 * (range->mean - range->low) && below >= FEW_STEPS * step ? UNIFORM_BELOW : UNIFORM_HARDLY;
}
