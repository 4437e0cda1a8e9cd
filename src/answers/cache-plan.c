// Chooses slots by layer along the curves of their own caches, and keeps the layers that a cache serves worst.

#include "answers/cache-plan.h"

#include "analysis/slot-allocation.h"
#include "answers/cache-llama.h"
#include "tool/error.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MIB 0x1p20

static double layer_bytes(const struct shape_layer * layer) {
    return (double) layer->n_expert * (double) layer->expert_bytes;
}

// Of one layer's own LRU cache.
static struct cache_hits hits_of(const struct cache_planning * planning, size_t layer, size_t n_slots) {
    return cache_study_layer(planning->study, CACHE_LRU, layer, n_slots, planning->class, CACHE_FIRST_HALF);
}

//
// slots by layer
//

// Hits of each layer's cache by slots.
static uint64_t ** hit_curves(const struct cache_planning * planning) {
    const struct trace_shape * shape  = planning->shape;
    uint64_t                ** curves = memory_new(shape->n_layers, sizeof(*curves));
    for (size_t i = 0; i < shape->n_layers; i++) {
        curves[i] = memory_new((size_t) shape->layers[i].n_expert + 1, sizeof(**curves));
        for (int32_t slots = 0; slots <= shape->layers[i].n_expert; slots++) {
            curves[i][slots] = hits_of(planning, i, (size_t) slots).hits;
        }
    }
    return curves;
}

static void free_curves(uint64_t ** curves, size_t n) {
    for (size_t i = 0; i < n; i++) {
        free(curves[i]);
    }
    free(curves);
}

static bool choose_slots(struct cache_plan * plan, const struct cache_planning * planning) {
    const struct trace_shape * shape  = planning->shape;
    uint64_t                ** curves = hit_curves(planning);
    struct slot_layer        * layers = memory_new(shape->n_layers, sizeof(*layers));
    for (size_t i = 0; i < shape->n_layers; i++) {
        layers[i] = (struct slot_layer) { shape->layers[i].n_expert, shape->layers[i].expert_bytes, curves[i] };
    }
    plan->slots = memory_new(shape->n_layers, sizeof(*plan->slots));
    const bool ok = slot_allocation(shape->n_layers, layers, (uint64_t) plan->bytes, plan->slots);
    free_curves(curves, shape->n_layers);
    free(layers);
    return ok;
}

//
// some layers as a whole, and a cache for the others
//

// Slots of each of the others that fit beside the layers that are kept.
static size_t slots_beside(const struct cache_plan * plan, const struct trace_shape * shape, const bool * kept) {
    double left = plan->bytes;
    double slot = 0; // bytes of one in each of the others
    for (size_t i = 0; i < shape->n_layers; i++) {
        left -= kept[i] ? layer_bytes(&shape->layers[i]) : 0;
        slot += kept[i] ? 0 : (double) shape->layers[i].expert_bytes;
    }
    const double most = slot > 0 ? left / slot : 0;
    return (size_t) fmin(fmax(most, 0), (double) shape->n_expert);
}

static uint64_t served(const struct cache_plan * plan, const struct cache_planning * planning, const bool * kept) {
    const size_t slots = slots_beside(plan, planning->shape, kept);
    uint64_t     sum   = 0;
    for (size_t i = 0; i < planning->shape->n_layers; i++) {
        const struct cache_hits hits = hits_of(planning, i, slots);
        sum += kept[i] ? hits.requests : hits.hits;
    }
    return sum;
}

// The layer that a cache serves worst, of those that are not kept and still fit; n_layers: none.
static size_t worst_layer(const struct cache_planning * planning, const bool * kept, size_t slots, double left) {
    const size_t n     = planning->shape->n_layers;
    size_t       worst = n;
    double       least = INFINITY;
    for (size_t i = 0; i < n; i++) {
        const struct cache_hits hits = hits_of(planning, i, slots);
        const double            rate = hits.requests == 0 ? INFINITY : (double) hits.hits / (double) hits.requests;
        if (!kept[i] && layer_bytes(&planning->shape->layers[i]) <= left && rate < least) {
            worst = i;
            least = rate;
        }
    }
    return worst;
}

// Keeps the worst layer too as long as there is room, and takes the best of all these.
static void choose_kept(struct cache_plan * plan, const struct cache_planning * planning) {
    const size_t n     = planning->shape->n_layers;
    bool       * kept  = memory_new(n, sizeof(*kept));
    const size_t alike = slots_beside(plan, planning->shape, kept);
    double       left  = plan->bytes;
    uint64_t     most  = 0;
    plan->is_kept = memory_new(n, sizeof(*plan->is_kept));
    for (size_t n_kept = 0; n_kept <= n; n_kept++) {
        const uint64_t hits = served(plan, planning, kept);
        if (hits > most) {
            most         = hits;
            plan->n_kept = n_kept;
            memcpy(plan->is_kept, kept, n * sizeof(*kept));
        }
        const size_t worst = worst_layer(planning, kept, alike, left);
        if (worst == n) {
            break;
        }
        kept[worst] = true;
        left       -= layer_bytes(&planning->shape->layers[worst]);
    }
    free(kept);
}

static void warm_up(struct cache_plan * plan, const struct cache_planning * planning, int32_t group, size_t n_experts) {
    struct cache_expert * experts = memory_new(n_experts, sizeof(*experts));
    const size_t          n       = cache_study_recent(planning->study, group, experts);
    for (size_t i = 0; i < n; i++) {
        llama_moe_cache_use(plan->cache, &experts[i]);
    }
    free(experts);
}

static bool make_cache(struct cache_plan * plan, const struct cache_planning * planning) {
    const struct trace_shape * shape     = planning->shape;
    double                     left      = plan->bytes;
    size_t                     n_experts = 0;
    for (size_t i = 0; i < shape->n_layers; i++) {
        left      -= plan->is_kept[i] ? layer_bytes(&shape->layers[i]) : 0;
        n_experts += (size_t) shape->layers[i].n_expert;
    }
    plan->left_mib = left > 0 ? (uint64_t) (left / MIB) : 0;
    plan->cache    = cache_llama_new(shape, plan->is_kept, (double) plan->left_mib * MIB, planning->max_rows,
                                     &plan->n_slots);
    for (int32_t group = 0; plan->cache != NULL && group < shape->n_groups; group++) {
        warm_up(plan, planning, group, n_experts);
    }
    return plan->cache != NULL;
}

bool cache_plan_make(struct cache_plan * plan, const struct cache_planning * planning, double bytes) {
    *plan = (struct cache_plan) { .bytes = bytes };
    if (!choose_slots(plan, planning)) {
        return false;
    }
    choose_kept(plan, planning);
    return plan->n_kept == 0 || make_cache(plan, planning);
}

void cache_plan_free(struct cache_plan * plan) {
    free(plan->slots);
    free(plan->is_kept);
    llama_moe_cache_free(plan->cache);
}
