// Plays llama.cpp's own cache step by step, at one budget.

#include "analysis/llama-moe-cache.h"

#include <stdlib.h>

#define SMALL_ROWS_MAX 8 // of a step: larger ones are counted apart
#define NO_SLOT        UINT32_MAX

struct moe_layer {
    bool     is_kept;
    size_t   n_expert;
    size_t   n_used;
    size_t   group;
    uint32_t first;   // key of its first expert in the group
};

// A ring through all slots, the most recently used one after the head [n_slots], the least recently used one before it.
struct slot {
    uint32_t newer;
    uint32_t older;
    uint32_t key;   // NO_SLOT: empty
};

struct group {
    size_t        n_keys;
    size_t        n_slots;
    struct slot * slots;   // [n_slots + 1]
    uint32_t    * slot_of; // [n_keys] NO_SLOT: not there
};

struct llama_moe_cache {
    size_t                        max_rows;
    size_t                        n_layers;
    struct moe_layer            * layers;
    size_t                        n_groups;
    struct group                * groups;
    uint16_t                    * missing; // [n_expert] of a step, the most of any layer
    struct llama_moe_cache_totals totals;
};

//
// how many slots there are
//

static uint64_t expert_bytes(const struct llama_moe_cache_layer * layer) {
    uint64_t sum = 0;
    for (size_t i = 0; i < layer->n_tensors; i++) {
        sum += (uint64_t) layer->tensor_bytes[i];
    }
    return sum;
}

// Each tensor has a buffer of its own, with room for one expert more.
static double slots_bytes(const struct llama_moe_cache_layer * layer, size_t n_slots, size_t alignment) {
    double sum = 0.0;
    for (size_t i = 0; i < layer->n_tensors; i++) {
        const uint64_t bytes = (uint64_t) layer->tensor_bytes[i] * (n_slots + 1);
        sum += (double) ((bytes + alignment - 1) / alignment * alignment);
    }
    return sum;
}

static size_t most_slots(const struct llama_moe_cache_layer * layer, double budget, size_t alignment, size_t n_keys) {
    size_t fits = 0;
    size_t end  = n_keys + 1;
    while (end - fits > 1) {
        const size_t middle = fits + (end - fits) / 2;
        if (slots_bytes(layer, middle, alignment) <= budget) {
            fits = middle;
        } else {
            end = middle;
        }
    }
    return fits;
}

// The budget is shared out by the bytes of all experts of a group.
static size_t slots_of_group(size_t n_layers, const struct llama_moe_cache_layer * layers, size_t group,
                             const struct llama_moe_cache_options * options) {
    const struct llama_moe_cache_layer * one = NULL;
    double  all_bytes   = 0.0;
    double  group_bytes = 0.0;
    size_t  n_keys      = 0;
    int32_t n_used      = 0;
    for (size_t i = 0; i < n_layers; i++) {
        const double bytes = layers[i].is_kept ? 0 : (double) expert_bytes(&layers[i]) * layers[i].n_expert;
        all_bytes += bytes;
        if ((size_t) layers[i].group == group && !layers[i].is_kept) {
            one          = &layers[i];
            group_bytes += bytes;
            n_keys      += (size_t) layers[i].n_expert;
            n_used       = layers[i].n_used > n_used ? layers[i].n_used : n_used;
        }
    }
    if (one == NULL || group_bytes <= 0.0) {
        return 0;
    }
    const double budget  = options->budget * (group_bytes / all_bytes);
    const size_t n_slots = most_slots(one, budget, options->alignment, n_keys);
    return n_slots < (size_t) n_used ? 0 : n_slots;
}

//
// making and freeing
//

static bool group_make(struct group * group) {
    group->slots   = calloc(group->n_slots + 1, sizeof(*group->slots));
    group->slot_of = malloc(group->n_keys * sizeof(*group->slot_of) + 1);
    if (group->slots == NULL || group->slot_of == NULL) {
        return false;
    }
    const uint32_t n = (uint32_t) group->n_slots + 1;
    for (uint32_t i = 0; i < n; i++) {
        group->slots[i] = (struct slot) { .newer = (i + n - 1) % n, .older = (i + 1) % n, .key = NO_SLOT };
    }
    for (size_t i = 0; i < group->n_keys; i++) {
        group->slot_of[i] = NO_SLOT;
    }
    return true;
}

static void place(struct llama_moe_cache * cache, const struct llama_moe_cache_layer * layers) {
    for (size_t i = 0; i < cache->n_layers; i++) {
        struct group * group = &cache->groups[layers[i].group];
        struct moe_layer * layer = &cache->layers[i];
        layer->is_kept   = layers[i].is_kept;
        layer->n_expert  = (size_t) layers[i].n_expert;
        layer->n_used    = (size_t) layers[i].n_used;
        layer->group     = (size_t) layers[i].group;
        layer->first     = (uint32_t) group->n_keys;
        group->n_keys   += layer->n_expert;
    }
}

static bool cache_make(struct llama_moe_cache * cache, const struct llama_moe_cache_layer * layers,
                       const struct llama_moe_cache_options * options) {
    size_t n_expert = 0;
    for (size_t i = 0; i < cache->n_layers; i++) {
        const size_t group = (size_t) layers[i].group;
        cache->n_groups = group >= cache->n_groups ? group + 1 : cache->n_groups;
        n_expert        = (size_t) layers[i].n_expert > n_expert ? (size_t) layers[i].n_expert : n_expert;
    }
    cache->layers  = calloc(cache->n_layers + 1, sizeof(*cache->layers));
    cache->groups  = calloc(cache->n_groups + 1, sizeof(*cache->groups));
    cache->missing = calloc(n_expert + 1,        sizeof(*cache->missing));
    if (cache->layers == NULL || cache->groups == NULL || cache->missing == NULL) {
        return false;
    }
    place(cache, layers);
    for (size_t i = 0; i < cache->n_groups; i++) {
        cache->groups[i].n_slots = slots_of_group(cache->n_layers, layers, i, options);
        if (!group_make(&cache->groups[i])) {
            return false;
        }
    }
    return true;
}

struct llama_moe_cache * llama_moe_cache_new(size_t n_layers, const struct llama_moe_cache_layer * layers,
                                             const struct llama_moe_cache_options * options) {
    struct llama_moe_cache * cache = calloc(1, sizeof(*cache));
    if (cache == NULL) {
        return NULL;
    }
    cache->max_rows = options->max_rows > 0 ? (size_t) options->max_rows : SIZE_MAX;
    cache->n_layers = n_layers;
    if (!cache_make(cache, layers, options)) {
        llama_moe_cache_free(cache);
        return NULL;
    }
    return cache;
}

void llama_moe_cache_free(struct llama_moe_cache * cache) {
    if (cache == NULL) {
        return;
    }
    for (size_t i = 0; cache->groups && i < cache->n_groups; i++) {
        free(cache->groups[i].slots);
        free(cache->groups[i].slot_of);
    }
    free(cache->layers);
    free(cache->groups);
    free(cache->missing);
    free(cache);
}

size_t llama_moe_cache_slots(const struct llama_moe_cache * cache, int32_t group) {
    return cache->groups[group].n_slots;
}

//
// steps
//

static void make_newest(struct group * group, uint32_t slot) {
    struct slot * slots = group->slots;
    slots[slots[slot].newer].older = slots[slot].older;
    slots[slots[slot].older].newer = slots[slot].newer;

    const uint32_t head = (uint32_t) group->n_slots;
    slots[slot].newer = head;
    slots[slot].older = slots[head].older;
    slots[slots[head].older].newer = slot;
    slots[head].older = slot;
}

static void take_oldest(struct group * group, uint32_t key) {
    const uint32_t slot = group->slots[group->n_slots].newer;
    const uint32_t gone = group->slots[slot].key;
    if (gone != NO_SLOT) {
        group->slot_of[gone] = NO_SLOT;
    }
    group->slots[slot].key = key;
    group->slot_of[key]    = slot;
    make_newest(group, slot);
}

// Those that are there become the newest in their order, then those that are missing, the lowest id first.
static void use(struct llama_moe_cache * cache, struct group * group, uint32_t first, const struct cache_step * step) {
    uint16_t * missing   = cache->missing;
    size_t     n_missing = 0;
    for (size_t i = 0; i < step->n_experts; i++) {
        const uint16_t expert = step->experts[i];
        const uint32_t slot   = group->slot_of[first + expert];
        if (slot != NO_SLOT) {
            make_newest(group, slot);
            continue;
        }
        size_t at = n_missing++;
        for (; at > 0 && missing[at - 1] > expert; at--) {
            missing[at] = missing[at - 1];
        }
        missing[at] = expert;
    }
    for (size_t i = 0; i < n_missing; i++) {
        take_oldest(group, first + missing[i]);
    }
}

void llama_moe_cache_use(struct llama_moe_cache * cache, const struct cache_expert * expert) {
    const struct moe_layer * layer = &cache->layers[expert->layer];
    struct group           * group = &cache->groups[layer->group];
    const uint32_t           key   = layer->first + expert->expert;
    if (group->n_slots == 0 || layer->is_kept) {
        return;
    }
    if (group->slot_of[key] != NO_SLOT) {
        make_newest(group, group->slot_of[key]);
    } else {
        take_oldest(group, key);
    }
}

// Returns how many were there.
static uint64_t look(const struct group * group, const struct moe_layer * layer, const struct cache_step * step,
                     bool * hits) {
    uint64_t n = 0;
    for (size_t i = 0; i < step->n_experts; i++) {
        hits[i] = layer->is_kept || (group->n_slots > 0 && group->slot_of[layer->first + step->experts[i]] != NO_SLOT);
        n      += hits[i];
    }
    return n;
}

// What the rows could use at most decides, not what they do use.
static bool passes_by(const struct llama_moe_cache * cache, const struct moe_layer * layer, const struct group * group,
                      size_t n_rows) {
    const size_t n_asked = n_rows * layer->n_used;
    const size_t n_most  = n_asked < layer->n_expert ? n_asked : layer->n_expert;
    return n_rows > cache->max_rows || n_most > group->n_slots;
}

void llama_moe_cache_step(struct llama_moe_cache * cache, const struct cache_step * step, bool * hits) {
    const struct moe_layer * layer = &cache->layers[step->layer];
    struct group           * group = &cache->groups[layer->group];
    const uint64_t           n     = look(group, layer, step, hits);
    if (group->n_slots == 0 || layer->is_kept) {
        return;
    }
    if (passes_by(cache, layer, group, (size_t) step->n_rows)) {
        cache->totals.asked += step->n_experts;
        cache->totals.taken += n;
        return;
    }
    struct cache_hits * sum = step->n_rows <= SMALL_ROWS_MAX ? &cache->totals.small : &cache->totals.large;
    sum->requests += step->n_experts;
    sum->hits     += n;
    use(cache, group, layer->first, step);
}

struct llama_moe_cache_totals llama_moe_cache_totals(const struct llama_moe_cache * cache) {
    return cache->totals;
}
