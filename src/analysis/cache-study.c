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
    uint64_t * optimum; // [n_sizes] hits
};

// Caches of all sizes of the same keys: a layer's experts, or those of a group of layers.
struct caches {
    size_t             n_keys;
    size_t             n_sizes;
    size_t           * sizes; // that the optimum is looked for
    struct lru_curve * lru;
    struct lfu_curve * lfu;   // NULL: not looked at
    struct optimum   * optimum;
    struct tally       tallies[N_PHASES][CACHE_N_HALVES];
};

struct studied_layer {
    size_t        n_expert;
    size_t        group;
    uint32_t      first;  // key of its first expert in the group
    size_t        place;  // of its first expert among those of all layers
    struct caches caches;
    uint64_t    * oracle; // [n_expert] activations of the expert of that rank in each life
    uint64_t      oracle_requests;
};

struct group {
    struct caches caches;
    uint64_t    * counts[N_PHASES][CACHE_N_HALVES]; // [n_keys]
};

struct life {
    uint64_t   number;
    uint32_t * counts; // [n_places]
};

struct cache_study {
    int32_t         max_rows;
    enum cache_half half;
    size_t          n_layers;
    struct studied_layer  * layers;
    size_t          n_groups;
    struct group  * groups;
    size_t          n_places;      // experts of all layers
    size_t          n_expert;      // the most of any layer
    uint32_t      * keys;          // [n_expert] of a step
    uint32_t      * pooled;        // [n_expert] of a step, in its group
    int32_t       * found;         // [n_expert] distances or ranks
    size_t        * order;         // [n_places] of keys, for who asks
    struct life   * lives;         // [n_lives] by their numbers
    size_t          n_lives;
    size_t          lives_room;
    size_t          last_life;     // index of the one that was asked for last
};

//
// making and freeing
//

static bool tally_make(struct tally * tally, size_t n_keys, size_t n_sizes, bool with_lfu) {
    tally->lru     = calloc(n_keys + 1,  sizeof(*tally->lru));
    tally->lfu     = with_lfu ? calloc(n_keys + 1, sizeof(*tally->lfu)) : NULL;
    tally->optimum = calloc(n_sizes + 1, sizeof(*tally->optimum));
    return tally->lru != NULL && tally->optimum != NULL && (tally->lfu != NULL || !with_lfu);
}

// `n_layers` that share the slots; half_life 0: LFU is not looked at.
static bool caches_make(struct caches * caches, size_t n_keys, size_t n_layers, double half_life,
                        const struct cache_options * options) {
    caches->n_keys  = n_keys;
    caches->n_sizes = options->n_sizes;
    caches->sizes   = calloc(options->n_sizes + 1, sizeof(*caches->sizes));
    for (size_t i = 0; caches->sizes && i < options->n_sizes; i++) {
        caches->sizes[i] = options->sizes[i] * n_layers;
    }
    const bool with_lfu = half_life > 0.0;
    caches->lru         = lru_curve_new(n_keys);
    caches->lfu         = with_lfu ? lfu_curve_new(n_keys, half_life) : NULL;
    caches->optimum     = caches->sizes ? optimum_new(n_keys, caches->n_sizes, caches->sizes, N_PHASES) : NULL;

    bool made = caches->lru != NULL && caches->optimum != NULL && (caches->lfu != NULL || !with_lfu);
    for (size_t i = 0; made && i < N_PHASES * CACHE_N_HALVES; i++) {
        made = tally_make(&caches->tallies[i / CACHE_N_HALVES][i % CACHE_N_HALVES], n_keys, caches->n_sizes, with_lfu);
    }
    return made;
}

static void caches_free(struct caches * caches) {
    for (size_t i = 0; i < N_PHASES * CACHE_N_HALVES; i++) {
        struct tally * tally = &caches->tallies[i / CACHE_N_HALVES][i % CACHE_N_HALVES];
        free(tally->lru);
        free(tally->lfu);
        free(tally->optimum);
    }
    free(caches->sizes);
    lru_curve_free(caches->lru);
    lfu_curve_free(caches->lfu);
    optimum_free(caches->optimum);
}

static bool layer_make(struct studied_layer * layer, const struct cache_options * options) {
    layer->oracle = calloc(layer->n_expert + 1, sizeof(*layer->oracle));
    return layer->oracle && caches_make(&layer->caches, layer->n_expert, 1, options->half_life, options);
}

static bool group_make(struct group * group, size_t n_keys, size_t n_layers, const struct cache_options * options) {
    bool made = caches_make(&group->caches, n_keys, n_layers, 0.0, options);
    for (size_t i = 0; made && i < N_PHASES * CACHE_N_HALVES; i++) {
        uint64_t ** counts = &group->counts[i / CACHE_N_HALVES][i % CACHE_N_HALVES];
        *counts = calloc(n_keys + 1, sizeof(**counts));
        made    = *counts != NULL;
    }
    return made;
}

// Where the experts of each layer are among those of its group, and of all.
static void place(struct cache_study * study, const struct cache_layer * layers, size_t * n_keys, size_t * n_layers) {
    for (size_t i = 0; i < study->n_layers; i++) {
        struct studied_layer * layer = &study->layers[i];
        layer->n_expert = (size_t) layers[i].n_expert;
        layer->group    = (size_t) layers[i].group;
        layer->first    = (uint32_t) n_keys[layer->group];
        layer->place    = study->n_places;
        n_keys  [layer->group] += layer->n_expert;
        n_layers[layer->group] += 1;
        study->n_places        += layer->n_expert;
        study->n_expert         = layer->n_expert > study->n_expert ? layer->n_expert : study->n_expert;
    }
}

static bool study_make_with(struct cache_study * study, const struct cache_layer * layers,
                            const struct cache_options * options, size_t * n_keys, size_t * n_layers) {
    place(study, layers, n_keys, n_layers);
    study->keys   = calloc(study->n_expert + 1, sizeof(*study->keys));
    study->pooled = calloc(study->n_expert + 1, sizeof(*study->pooled));
    study->found  = calloc(study->n_expert + 1, sizeof(*study->found));
    study->order  = calloc(study->n_places + 1, sizeof(*study->order));

    bool made = study->keys != NULL && study->pooled != NULL && study->found != NULL && study->order != NULL;
    for (size_t i = 0; made && i < study->n_layers; i++) {
        made = layer_make(&study->layers[i], options);
    }
    for (size_t i = 0; made && i < study->n_groups; i++) {
        made = group_make(&study->groups[i], n_keys[i], n_layers[i], options);
    }
    return made;
}

static bool study_make(struct cache_study * study, const struct cache_layer * layers,
                       const struct cache_options * options) {
    for (size_t i = 0; i < study->n_layers; i++) {
        const size_t group = (size_t) layers[i].group;
        study->n_groups = group >= study->n_groups ? group + 1 : study->n_groups;
    }
    study->layers = calloc(study->n_layers + 1, sizeof(*study->layers));
    study->groups = calloc(study->n_groups + 1, sizeof(*study->groups));

    size_t   * n_keys   = calloc(study->n_groups + 1, sizeof(*n_keys));
    size_t   * n_layers = calloc(study->n_groups + 1, sizeof(*n_layers));
    const bool memory   = study->layers != NULL && study->groups != NULL && n_keys != NULL && n_layers != NULL;
    const bool made     = memory && study_make_with(study, layers, options, n_keys, n_layers);
    free(n_keys);
    free(n_layers);
    return made;
}

struct cache_study * cache_study_new(size_t n_layers, const struct cache_layer * layers,
                                     const struct cache_options * options) {
    struct cache_study * study = calloc(1, sizeof(*study));
    if (study == NULL) {
        return NULL;
    }
    study->max_rows = options->max_rows;
    study->n_layers = n_layers;
    if (!study_make(study, layers, options)) {
        cache_study_free(study);
        return NULL;
    }
    return study;
}

static void group_free(struct group * group) {
    for (size_t i = 0; i < N_PHASES * CACHE_N_HALVES; i++) {
        free(group->counts[i / CACHE_N_HALVES][i % CACHE_N_HALVES]);
    }
    caches_free(&group->caches);
}

void cache_study_free(struct cache_study * study) {
    if (study == NULL) {
        return;
    }
    for (size_t i = 0; study->layers && i < study->n_layers; i++) {
        free(study->layers[i].oracle);
        caches_free(&study->layers[i].caches);
    }
    for (size_t i = 0; study->groups && i < study->n_groups; i++) {
        group_free(&study->groups[i]);
    }
    for (size_t i = 0; i < study->n_lives; i++) {
        free(study->lives[i].counts);
    }
    free(study->lives);
    free(study->layers);
    free(study->groups);
    free(study->keys);
    free(study->pooled);
    free(study->found);
    free(study->order);
    free(study);
}

//
// steps
//

static void count_found(uint64_t * counts, const int32_t * found, size_t n) {
    for (size_t i = 0; i < n; i++) {
        counts[found[i] + 1]++;
    }
}

static void caches_step(struct caches * caches, const struct cache_step * step, const uint32_t * keys, int32_t * found,
                        bool passes_by) {
    struct tally * tally = &caches->tallies[step->class][step->half];
    tally->requests += step->n_experts;

    lru_curve_look(caches->lru, keys, step->n_experts, found);
    count_found(tally->lru, found, step->n_experts);
    if (caches->lfu) {
        lfu_curve_look(caches->lfu, keys, step->n_experts, found);
        count_found(tally->lfu, found, step->n_experts);
    }
    optimum_step(caches->optimum, keys, step->n_experts, step->class, tally->optimum);
    if (!passes_by) {
        lru_curve_touch(caches->lru, keys, step->n_experts);
        if (caches->lfu) {
            lfu_curve_touch(caches->lfu, keys, step->n_experts);
        }
    }
}

static void begin_second_half(struct cache_study * study) {
    study->half = CACHE_SECOND_HALF;
    for (size_t i = 0; i < study->n_layers; i++) {
        optimum_restart(study->layers[i].caches.optimum);
    }
    for (size_t i = 0; i < study->n_groups; i++) {
        optimum_restart(study->groups[i].caches.optimum);
    }
}

static bool is_of(const struct cache_study * study, size_t layer, const uint16_t * experts, size_t n_experts) {
    if (layer >= study->n_layers || n_experts > study->layers[layer].n_expert) {
        return false;
    }
    for (size_t i = 0; i < n_experts; i++) {
        if (experts[i] >= study->layers[layer].n_expert) {
            return false;
        }
    }
    return true;
}

bool cache_study_step(struct cache_study * study, const struct cache_step * step) {
    if (!is_of(study, step->layer, step->experts, step->n_experts)) {
        return false;
    }
    if (step->half > study->half) {
        begin_second_half(study);
    }
    struct studied_layer * layer     = &study->layers[step->layer];
    struct group * group     = &study->groups[layer->group];
    uint64_t     * counts    = group->counts[step->class][step->half];
    const bool     passes_by = study->max_rows > 0 && step->n_rows > study->max_rows;
    for (size_t i = 0; i < step->n_experts; i++) {
        study->keys[i]   = step->experts[i];
        study->pooled[i] = layer->first + step->experts[i];
        counts[study->pooled[i]]++;
    }
    caches_step(&layer->caches, step, study->keys,   study->found, passes_by);
    caches_step(&group->caches, step, study->pooled, study->found, passes_by);
    return true;
}

//
// lives of sequences
//

// The index of the first life whose number is not lower.
static size_t life_index(const struct cache_study * study, uint64_t number) {
    size_t begin = 0;
    size_t end   = study->n_lives;
    while (begin < end) {
        const size_t middle = begin + (end - begin) / 2;
        if (study->lives[middle].number < number) {
            begin = middle + 1;
        } else {
            end = middle;
        }
    }
    return begin;
}

static bool life_is_at(const struct cache_study * study, size_t index, uint64_t number) {
    return index < study->n_lives && study->lives[index].number == number;
}

static bool life_begin(struct cache_study * study, size_t index, uint64_t number) {
    if (study->n_lives == study->lives_room) {
        const size_t  room  = study->lives_room * 2 + 8;
        struct life * grown = realloc(study->lives, room * sizeof(*grown));
        if (grown == NULL) {
            return false;
        }
        study->lives      = grown;
        study->lives_room = room;
    }
    uint32_t * counts = calloc(study->n_places + 1, sizeof(*counts));
    if (counts == NULL) {
        return false;
    }
    memmove(study->lives + index + 1, study->lives + index, (study->n_lives - index) * sizeof(*study->lives));
    study->lives[index] = (struct life) { number, counts };
    study->n_lives++;
    return true;
}

bool cache_study_token(struct cache_study * study, size_t layer, uint64_t life, const uint16_t * experts,
                       size_t n_experts) {
    if (!is_of(study, layer, experts, n_experts)) {
        return false;
    }
    if (!life_is_at(study, study->last_life, life)) {
        study->last_life = life_index(study, life);
        if (!life_is_at(study, study->last_life, life) && !life_begin(study, study->last_life, life)) {
            return false;
        }
    }
    uint32_t * counts = study->lives[study->last_life].counts + study->layers[layer].place;
    for (size_t i = 0; i < n_experts; i++) {
        counts[experts[i]]++;
    }
    return true;
}

static int descending(const void * a, const void * b) {
    const uint32_t x = *(const uint32_t *) a;
    const uint32_t y = *(const uint32_t *) b;
    return (x < y) - (x > y);
}

void cache_study_end_life(struct cache_study * study, uint64_t life) {
    const size_t index = life_index(study, life);
    if (!life_is_at(study, index, life)) {
        return;
    }
    for (size_t i = 0; i < study->n_layers; i++) {
        struct studied_layer * layer  = &study->layers[i];
        uint32_t     * counts = study->lives[index].counts + layer->place;
        qsort(counts, layer->n_expert, sizeof(*counts), descending);
        for (size_t rank = 0; rank < layer->n_expert; rank++) {
            layer->oracle[rank]    += counts[rank];
            layer->oracle_requests += counts[rank];
        }
    }
    free(study->lives[index].counts);
    study->n_lives--;
    memmove(study->lives + index, study->lives + index + 1, (study->n_lives - index) * sizeof(*study->lives));
}

//
// answers
//

static uint64_t sum_below(const uint64_t * counts, size_t n_counts, size_t n) {
    return counts_sum(counts, n < n_counts ? n : n_counts);
}

static struct cache_hits hits_of_curve(const struct tally * tally, const uint64_t * found, size_t n_keys,
                                       size_t n_slots) {
    return (struct cache_hits) { tally->requests, sum_below(found + 1, n_keys, n_slots) };
}

static struct cache_hits hits_of_optimum(const struct caches * caches, const struct tally * tally, size_t n_slots) {
    for (size_t i = 0; i < caches->n_sizes; i++) {
        if (caches->sizes[i] == n_slots) {
            return (struct cache_hits) { tally->requests, tally->optimum[i] };
        }
    }
    return (struct cache_hits) { 0 };
}

// `counts` of both halves. What was not used in the first is not pinned.
static struct cache_hits hits_of_static(uint64_t * const counts[CACHE_N_HALVES], size_t first, size_t n,
                                        size_t n_slots, size_t * order) {
    const uint64_t * learned = counts[CACHE_FIRST_HALF]  + first;
    const uint64_t * judged  = counts[CACHE_SECOND_HALF] + first;
    struct cache_hits hits = { .requests = counts_sum(judged, n) };
    counts_rank(learned, n, order);
    for (size_t i = 0; i < n && i < n_slots && learned[order[i]] > 0; i++) {
        hits.hits += judged[order[i]];
    }
    return hits;
}

static struct cache_hits hits_of_caches(const struct caches * caches, enum cache_policy policy, size_t n_slots,
                                        enum phase class, enum cache_half half) {
    const struct tally * tally = &caches->tallies[class][half];
    if (policy == CACHE_LRU) {
        return hits_of_curve(tally, tally->lru, caches->n_keys, n_slots);
    }
    if (policy == CACHE_LFU && caches->lfu) {
        return hits_of_curve(tally, tally->lfu, caches->n_keys, n_slots);
    }
    return policy == CACHE_OPTIMUM ? hits_of_optimum(caches, tally, n_slots) : (struct cache_hits) { 0 };
}

struct cache_hits cache_study_layer(const struct cache_study * study, enum cache_policy policy, size_t layer,
                                    size_t n_slots, enum phase class, enum cache_half half) {
    const struct studied_layer * of = &study->layers[layer];
    if (policy == CACHE_STATIC && half == CACHE_SECOND_HALF) {
        return hits_of_static(study->groups[of->group].counts[class], of->first, of->n_expert, n_slots, study->order);
    }
    if (policy == CACHE_PROMPT_ORACLE && half == CACHE_SECOND_HALF && class == PHASE_GENERATION) {
        return (struct cache_hits) { of->oracle_requests, sum_below(of->oracle, of->n_expert, n_slots) };
    }
    return hits_of_caches(&of->caches, policy, n_slots, class, half);
}

struct cache_hits cache_study_all(const struct cache_study * study, enum cache_policy policy, size_t n_slots,
                                  enum phase class, enum cache_half half) {
    struct cache_hits sum = { 0 };
    for (size_t i = 0; i < study->n_layers; i++) {
        const struct cache_hits hits = cache_study_layer(study, policy, i, n_slots, class, half);
        sum.requests += hits.requests;
        sum.hits     += hits.hits;
    }
    return sum;
}

struct cache_hits cache_study_pooled(const struct cache_study * study, enum cache_policy policy, int32_t group,
                                     size_t n_slots, enum phase class, enum cache_half half) {
    const struct group * of = &study->groups[group];
    if (policy == CACHE_STATIC && half == CACHE_SECOND_HALF) {
        return hits_of_static(of->counts[class], 0, of->caches.n_keys, n_slots, study->order);
    }
    return hits_of_caches(&of->caches, policy, n_slots, class, half);
}

uint64_t cache_study_distances(const struct cache_study * study, size_t layer, enum phase class,
                               enum cache_half half, uint64_t * counts) {
    const struct caches * caches = &study->layers[layer].caches;
    const uint64_t      * lru    = caches->tallies[class][half].lru;
    memcpy(counts, lru + 1, caches->n_keys * sizeof(*counts));
    return lru[0];
}

const uint64_t * cache_study_counts(const struct cache_study * study, size_t layer, enum phase class,
                                    enum cache_half half) {
    const struct studied_layer * of = &study->layers[layer];
    return study->groups[of->group].counts[class][half] + of->first;
}
