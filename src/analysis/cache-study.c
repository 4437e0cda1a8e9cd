// Feeds each step to the curves of its layer's own caches and of those that its group of layers shares.

#include "analysis/cache-study.h"

#include "analysis/counts.h"
#include "analysis/lfu-curve.h"
#include "analysis/lru-curve.h"
#include "analysis/optimum.h"

#include <stdlib.h>
#include <string.h>

// Requests of a class in a half.
struct tally {
    uint64_t   requests;
    uint64_t * lru;     // [n_keys + 1] by distance + 1: first uses are at 0
    uint64_t * lfu;     // [n_keys + 1] by rank + 1, likewise; NULL: not looked at
    uint64_t * pinned;  // [n_keys + 1] by rank + 1 among the hottest of the first half; of the second half alone
    uint64_t * optimum; // [n_sizes] hits
};

// Caches of all sizes of the same keys: a layer's experts, or those of a group of layers.
struct caches {
    bool               is_shared;
    size_t             n_keys;
    size_t             n_sizes;
    size_t           * sizes;                  // slots
    struct lru_curve * lru;
    struct lfu_curve * lfu;                    // NULL: not looked at
    struct optimum   * optimum;                // begins anew with the second half
    struct optimum   * whole;                  // does not, by class; NULL: not looked at
    struct optimum   * both;                   // likewise, of both classes together
    uint64_t         * learned[N_TOKEN_PHASES]; // [n_keys] requests of the first half
    int32_t          * ranks  [N_TOKEN_PHASES]; // [n_keys] by these, the hottest first
    struct tally       tallies[N_PHASES][CACHE_N_HALVES];
};

struct studied_layer {
    size_t        n_expert;
    size_t        group;
    uint32_t      first;  // key of its first expert in the group
    struct caches caches;
};

struct cache_study {
    int32_t                max_rows;
    enum cache_half        half;
    size_t                 n_sizes;
    size_t                 n_layers;
    struct studied_layer * layers;
    size_t                 n_groups;
    struct caches        * groups;
    size_t                 n_expert; // the most of any layer
    uint32_t             * keys;     // [n_expert] of a step
    uint32_t             * pooled;   // [n_expert] of a step, in its group
    int32_t              * found;    // [n_expert] distances or ranks
    bool                 * hits;     // [n_sizes][n_expert]
};

//
// making and freeing
//

static bool tally_make(struct tally * tally, const struct caches * caches) {
    tally->lru     = calloc(caches->n_keys + 1,  sizeof(*tally->lru));
    tally->lfu     = calloc(caches->n_keys + 1,  sizeof(*tally->lfu));
    tally->pinned  = calloc(caches->n_keys + 1,  sizeof(*tally->pinned));
    tally->optimum = calloc(caches->n_sizes + 1, sizeof(*tally->optimum));
    return tally->lru != NULL && tally->lfu != NULL && tally->pinned != NULL && tally->optimum != NULL;
}

static bool make_learning(struct caches * caches) {
    bool made = true;
    for (size_t i = 0; i < N_TOKEN_PHASES; i++) {
        caches->learned[i] = calloc(caches->n_keys + 1, sizeof(*caches->learned[i]));
        caches->ranks  [i] = calloc(caches->n_keys + 1, sizeof(*caches->ranks[i]));
        made = made && caches->learned[i] != NULL && caches->ranks[i] != NULL;
    }
    return made;
}

static bool make_optima(struct caches * caches) {
    caches->optimum = optimum_new(caches->n_keys, caches->n_sizes, caches->sizes, N_PHASES);
    if (!caches->is_shared) {
        return caches->optimum != NULL;
    }
    caches->whole = optimum_new(caches->n_keys, caches->n_sizes, caches->sizes, N_PHASES);
    caches->both  = optimum_new(caches->n_keys, caches->n_sizes, caches->sizes, 2); // the other kind is the warm-up
    return caches->optimum != NULL && caches->whole != NULL && caches->both != NULL;
}

// Their sizes are known. half_life 0: LFU is not looked at.
static bool caches_make(struct caches * caches, double half_life) {
    const bool with_lfu = half_life > 0.0;
    caches->lru = lru_curve_new(caches->n_keys);
    caches->lfu = with_lfu ? lfu_curve_new(caches->n_keys, half_life) : NULL;

    bool made = caches->lru != NULL && (caches->lfu != NULL || !with_lfu) && make_optima(caches)
             && make_learning(caches);
    for (size_t i = 0; made && i < N_PHASES * CACHE_N_HALVES; i++) {
        made = tally_make(&caches->tallies[i / CACHE_N_HALVES][i % CACHE_N_HALVES], caches);
    }
    return made;
}

static void caches_free(struct caches * caches) {
    for (size_t i = 0; i < N_PHASES * CACHE_N_HALVES; i++) {
        struct tally * tally = &caches->tallies[i / CACHE_N_HALVES][i % CACHE_N_HALVES];
        free(tally->lru);
        free(tally->lfu);
        free(tally->pinned);
        free(tally->optimum);
    }
    for (size_t i = 0; i < N_TOKEN_PHASES; i++) {
        free(caches->learned[i]);
        free(caches->ranks[i]);
    }
    free(caches->sizes);
    lru_curve_free(caches->lru);
    lfu_curve_free(caches->lfu);
    optimum_free(caches->optimum);
    optimum_free(caches->whole);
    optimum_free(caches->both);
}

static bool layer_make(struct studied_layer * layer, size_t i_layer, const struct cache_options * options) {
    struct caches * caches = &layer->caches;
    caches->n_keys  = layer->n_expert;
    caches->n_sizes = options->n_sizes;
    caches->sizes   = calloc(options->n_sizes + 1, sizeof(*caches->sizes));
    for (size_t i = 0; caches->sizes != NULL && i < options->n_sizes; i++) {
        caches->sizes[i] = options->sizes[i].layers[i_layer];
    }
    return caches->sizes != NULL && caches_make(caches, options->half_life);
}

static bool group_make(struct caches * caches, size_t i_group, const struct cache_options * options) {
    caches->is_shared = true;
    caches->n_sizes   = options->n_sizes;
    caches->sizes     = calloc(options->n_sizes + 1, sizeof(*caches->sizes));
    for (size_t i = 0; caches->sizes != NULL && i < options->n_sizes; i++) {
        caches->sizes[i] = options->sizes[i].groups[i_group];
    }
    return caches->sizes != NULL && caches_make(caches, 0.0);
}

// Where the experts of each layer are among those of its group.
static void place(struct cache_study * study, const struct cache_layer * layers) {
    for (size_t i = 0; i < study->n_layers; i++) {
        struct studied_layer * layer = &study->layers[i];
        struct caches        * group = &study->groups[layers[i].group];
        layer->n_expert = (size_t) layers[i].n_expert;
        layer->group    = (size_t) layers[i].group;
        layer->first    = (uint32_t) group->n_keys;
        group->n_keys  += layer->n_expert;
        study->n_expert = layer->n_expert > study->n_expert ? layer->n_expert : study->n_expert;
    }
}

static bool make_rooms(struct cache_study * study) {
    study->keys   = calloc(study->n_expert + 1, sizeof(*study->keys));
    study->pooled = calloc(study->n_expert + 1, sizeof(*study->pooled));
    study->found  = calloc(study->n_expert + 1, sizeof(*study->found));
    study->hits   = calloc(study->n_expert * study->n_sizes + 1, sizeof(*study->hits));
    return study->keys != NULL && study->pooled != NULL && study->found != NULL && study->hits != NULL;
}

static bool study_make(struct cache_study * study, const struct cache_layer * layers,
                       const struct cache_options * options) {
    for (size_t i = 0; i < study->n_layers; i++) {
        const size_t group = (size_t) layers[i].group;
        study->n_groups = group >= study->n_groups ? group + 1 : study->n_groups;
    }
    study->layers = calloc(study->n_layers + 1, sizeof(*study->layers));
    study->groups = calloc(study->n_groups + 1, sizeof(*study->groups));
    if (study->layers == NULL || study->groups == NULL) {
        return false;
    }
    place(study, layers);

    bool made = make_rooms(study);
    for (size_t i = 0; made && i < study->n_layers; i++) {
        made = layer_make(&study->layers[i], i, options);
    }
    for (size_t i = 0; made && i < study->n_groups; i++) {
        made = group_make(&study->groups[i], i, options);
    }
    return made;
}

struct cache_study * cache_study_new(size_t n_layers, const struct cache_layer * layers,
                                     const struct cache_options * options) {
    struct cache_study * study = calloc(1, sizeof(*study));
    if (study == NULL) {
        return NULL;
    }
    study->max_rows = options->max_rows;
    study->n_sizes  = options->n_sizes;
    study->n_layers = n_layers;
    if (!study_make(study, layers, options)) {
        cache_study_free(study);
        return NULL;
    }
    return study;
}

void cache_study_free(struct cache_study * study) {
    if (study == NULL) {
        return;
    }
    for (size_t i = 0; study->layers && i < study->n_layers; i++) {
        caches_free(&study->layers[i].caches);
    }
    for (size_t i = 0; study->groups && i < study->n_groups; i++) {
        caches_free(&study->groups[i]);
    }
    free(study->layers);
    free(study->groups);
    free(study->keys);
    free(study->pooled);
    free(study->found);
    free(study->hits);
    free(study);
}

void cache_study_resize(struct cache_study * study, size_t i_size, size_t layer, size_t n_slots) {
    study->layers[layer].caches.sizes[i_size] = n_slots;
}

//
// steps
//

// What was found at distances or ranks: a cache has it where it has more slots.
static void count_found(struct cache_study * study, const struct caches * caches, const struct cache_step * step,
                        enum cache_column column, uint64_t * counts) {
    const int32_t * found = study->found;
    for (size_t i = 0; i < step->n_experts; i++) {
        counts[found[i] + 1]++;
    }
    for (size_t i = 0; step->sums != NULL && i < caches->n_sizes; i++) {
        const int32_t n_slots = (int32_t) caches->sizes[i];
        for (size_t j = 0; j < step->n_experts; j++) {
            study->hits[j] = found[j] >= 0 && found[j] < n_slots;
        }
        if (column == CACHE_STATIC || column == CACHE_SHARED_STATIC) {
            cache_series_hits_in(step, caches->n_sizes, CACHE_JUDGED, step->class, column, i, study->hits);
        } else {
            cache_series_hits(step, caches->n_sizes, column, i, study->hits);
        }
    }
}

static void look_at_recent(struct cache_study * study, struct caches * caches, const struct cache_step * step,
                           const uint32_t * keys, struct tally * tally) {
    lru_curve_look(caches->lru, keys, step->n_experts, study->found);
    count_found(study, caches, step, caches->is_shared ? CACHE_SHARED_LRU : CACHE_LRU, tally->lru);
    if (caches->lfu != NULL) {
        lfu_curve_look(caches->lfu, keys, step->n_experts, study->found);
        count_found(study, caches, step, CACHE_LFU, tally->lfu);
    }
}

static void look_at_pinned(struct cache_study * study, struct caches * caches, const struct cache_step * step,
                           const uint32_t * keys, struct tally * tally) {
    if (step->class == PHASE_WARMUP) {
        return;
    }
    for (size_t i = 0; i < step->n_experts && step->half == CACHE_FIRST_HALF; i++) {
        caches->learned[step->class][keys[i]]++;
    }
    if (step->half == CACHE_SECOND_HALF) {
        for (size_t i = 0; i < step->n_experts; i++) {
            study->found[i] = caches->ranks[step->class][keys[i]];
        }
        count_found(study, caches, step, caches->is_shared ? CACHE_SHARED_STATIC : CACHE_STATIC, tally->pinned);
    }
}

// Of the whole run.
static void look_at_whole(struct cache_study * study, struct optimum * optimum, const struct cache_step * step,
                          const uint32_t * keys, size_t class, size_t kind) {
    optimum_step(optimum, keys, step->n_experts, kind, study->hits);
    for (size_t i = 0; i < study->n_sizes; i++) {
        cache_series_hits_in(step, study->n_sizes, CACHE_WHOLE_RUN, class, CACHE_SHARED_OPTIMUM, i,
                             study->hits + i * step->n_experts);
    }
}

static void look_at_optima(struct cache_study * study, struct caches * caches, const struct cache_step * step,
                           const uint32_t * keys, struct tally * tally) {
    if (caches->is_shared) {
        look_at_whole(study, caches->both,  step, keys, CACHE_BOTH,  step->class == PHASE_WARMUP ? 1 : 0);
        look_at_whole(study, caches->whole, step, keys, step->class, step->class);
    }
    optimum_step(caches->optimum, keys, step->n_experts, step->class, study->hits);
    for (size_t i = 0; i < study->n_sizes; i++) {
        const bool * hits = study->hits + i * step->n_experts;
        for (size_t j = 0; j < step->n_experts; j++) {
            tally->optimum[i] += hits[j];
        }
        if (step->half == CACHE_SECOND_HALF) {
            cache_series_hits_in(step, study->n_sizes, CACHE_JUDGED, step->class,
                                 caches->is_shared ? CACHE_SHARED_OPTIMUM : CACHE_OPTIMUM, i, hits);
        }
    }
}

static void caches_step(struct cache_study * study, struct caches * caches, const struct cache_step * step,
                        const uint32_t * keys) {
    struct tally * tally     = &caches->tallies[step->class][step->half];
    const bool     passes_by = study->max_rows > 0 && step->n_rows > study->max_rows;
    tally->requests += step->n_experts;
    look_at_recent(study, caches, step, keys, tally);
    look_at_pinned(study, caches, step, keys, tally);
    look_at_optima(study, caches, step, keys, tally);
    if (!passes_by) {
        lru_curve_touch(caches->lru, keys, step->n_experts);
        if (caches->lfu != NULL) {
            lfu_curve_touch(caches->lfu, keys, step->n_experts);
        }
    }
}

struct hotness {
    uint64_t own;
    uint64_t other;
    size_t   key;
};

static int hottest_first(const void * a, const void * b) {
    const struct hotness * x = a;
    const struct hotness * y = b;
    if (x->own != y->own) {
        return x->own > y->own ? -1 : 1;
    }
    if (x->other != y->other) {
        return x->other > y->other ? -1 : 1;
    }
    return (x->key > y->key) - (x->key < y->key);
}

// The hottest for a class: what it has not asked for is filled up with what the other one has.
static bool rank(struct caches * caches, enum phase class) {
    const uint64_t * own   = caches->learned[class];
    const uint64_t * other = caches->learned[class == PHASE_PROMPT ? PHASE_GENERATION : PHASE_PROMPT];
    struct hotness * order = calloc(caches->n_keys + 1, sizeof(*order));
    if (order == NULL) {
        return false;
    }
    for (size_t i = 0; i < caches->n_keys; i++) {
        order[i] = (struct hotness) { own[i], other[i], i };
    }
    qsort(order, caches->n_keys, sizeof(*order), hottest_first);
    for (size_t i = 0; i < caches->n_keys; i++) {
        caches->ranks[class][order[i].key] = (int32_t) i;
    }
    free(order);
    return true;
}

static bool caches_begin_second_half(struct caches * caches) {
    optimum_restart(caches->optimum);
    return rank(caches, PHASE_PROMPT) && rank(caches, PHASE_GENERATION);
}

static bool begin_second_half(struct cache_study * study) {
    bool ok = true;
    study->half = CACHE_SECOND_HALF;
    for (size_t i = 0; ok && i < study->n_layers; i++) {
        ok = caches_begin_second_half(&study->layers[i].caches);
    }
    for (size_t i = 0; ok && i < study->n_groups; i++) {
        ok = caches_begin_second_half(&study->groups[i]);
    }
    return ok;
}

static bool is_of(const struct cache_study * study, const struct cache_step * step) {
    if (step->layer >= study->n_layers || step->n_experts > study->layers[step->layer].n_expert) {
        return false;
    }
    for (size_t i = 0; i < step->n_experts; i++) {
        if (step->experts[i] >= study->layers[step->layer].n_expert) {
            return false;
        }
    }
    return true;
}

bool cache_study_step(struct cache_study * study, const struct cache_step * step) {
    if (!is_of(study, step) || (step->half > study->half && !begin_second_half(study))) {
        return false;
    }
    struct studied_layer * layer = &study->layers[step->layer];
    for (size_t i = 0; i < step->n_experts; i++) {
        study->keys[i]   = step->experts[i];
        study->pooled[i] = layer->first + step->experts[i];
    }
    cache_series_requests(step, study->n_sizes);
    caches_step(study, &layer->caches,               step, study->keys);
    caches_step(study, &study->groups[layer->group], step, study->pooled);
    return true;
}

//
// answers
//

static struct cache_hits hits_of_caches(const struct caches * caches, enum cache_column column, size_t n_slots,
                                        enum phase class, enum cache_half half) {
    const struct tally * tally = &caches->tallies[class][half];
    const size_t         n     = n_slots < caches->n_keys ? n_slots : caches->n_keys;
    const uint64_t     * found = column == CACHE_LFU ? tally->lfu
                               : column == CACHE_STATIC || column == CACHE_SHARED_STATIC ? tally->pinned : tally->lru;
    return (struct cache_hits) { tally->requests, counts_sum(found + 1, n) };
}

struct cache_hits cache_study_layer(const struct cache_study * study, enum cache_column column, size_t layer,
                                    size_t n_slots, enum phase class, enum cache_half half) {
    return hits_of_caches(&study->layers[layer].caches, column, n_slots, class, half);
}

struct cache_hits cache_study_layer_at(const struct cache_study * study, enum cache_column column, size_t layer,
                                       size_t i_size, enum phase class, enum cache_half half) {
    const struct caches * caches = &study->layers[layer].caches;
    if (column != CACHE_OPTIMUM) {
        return hits_of_caches(caches, column, caches->sizes[i_size], class, half);
    }
    const struct tally * tally = &caches->tallies[class][half];
    return (struct cache_hits) { tally->requests, tally->optimum[i_size] };
}

struct cache_hits cache_study_shared(const struct cache_study * study, enum cache_column column, int32_t group,
                                     size_t n_slots, enum phase class, enum cache_half half) {
    return hits_of_caches(&study->groups[group], column, n_slots, class, half);
}

uint64_t cache_study_distances(const struct cache_study * study, size_t layer, enum phase class,
                               enum cache_half half, uint64_t * counts) {
    const struct caches * caches = &study->layers[layer].caches;
    const uint64_t      * lru    = caches->tallies[class][half].lru;
    memcpy(counts, lru + 1, caches->n_keys * sizeof(*counts));
    return lru[0];
}

size_t cache_study_recent(const struct cache_study * study, int32_t group, struct cache_expert * experts) {
    const struct lru_curve * lru = study->groups[group].lru;
    size_t                   n   = 0;
    for (int pass = 0; pass < 2; pass++) { // first how many there are: the nearest is the last
        for (size_t i = 0; i < study->n_layers; i++) {
            const struct studied_layer * layer = &study->layers[i];
            for (uint32_t k = 0; layer->group == (size_t) group && k < layer->n_expert; k++) {
                const uint32_t key = layer->first + k;
                int32_t        distance;
                lru_curve_look(lru, &key, 1, &distance);
                if (distance >= 0 && pass == 0) {
                    n++;
                } else if (distance >= 0) {
                    experts[n - 1 - (size_t) distance] = (struct cache_expert) { i, (uint16_t) k };
                }
            }
        }
    }
    return n;
}
