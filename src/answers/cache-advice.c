// Compares the uses of device memory by how many requests of a trace's second half each of them serves, tuned on the
// first.

#include "answers/cache-advice.h"

#include "analysis/cache-time.h"
#include "analysis/slot-allocation.h"
#include "answers/cache-gather.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MIB  0x1p20
#define NEAR 0.05 // shares of requests that people would call the same

// What all uses are judged by.
struct advising {
    const struct cache_gathered * gathered;
    const struct trace_shape    * shape;
    struct cache_advice         * advice;
    enum phase              class;
    double                        vram;
    struct cache_time             time;
};

void cache_advice_free(struct cache_advice * advice) {
    free(advice->tuned_slots);
    free(advice->kept_layers);
}

static double layer_bytes(const struct shape_layer * layer) {
    return (double) layer->n_expert * (double) layer->expert_bytes;
}

// Of one layer's own LRU cache.
static struct cache_hits hits_of(const struct advising * advising, size_t layer, size_t n_slots, enum cache_half half) {
    return cache_study_layer(advising->gathered->study, CACHE_LRU, layer, n_slots, advising->class, half);
}

static struct cache_way uploading(const struct advising * advising, double rate) {
    const bool known = advising->advice->time_is_known;
    return (struct cache_way) { rate, known ? cache_time_uploading(&advising->time, rate) : NAN };
}

static struct cache_way computing(const struct advising * advising, double rate) {
    const bool known = advising->advice->time_is_known;
    return (struct cache_way) { rate, known ? cache_time_computing(&advising->time, rate) : NAN };
}

//
// simple uses
//

static void advise_llama(const struct advising * advising) {
    const struct cache_gathered * gathered = advising->gathered;
    const struct cache_run      * run      = &gathered->runs[gathered->n_runs - 1]; // of this budget
    struct cache_advice         * advice   = advising->advice;
    advice->llama       = uploading(advising, cache_rate(run->hits[advising->class][CACHE_SECOND_HALF]));
    advice->llama_mib   = run->budget >> 20;
    advice->llama_slots = run->n_slots;
    if (run->n_slots == 0) {
        advice->llama.rate = NAN;
    }
}

static void advise_whole_layers(const struct advising * advising) {
    const struct trace_shape * shape    = advising->shape;
    struct cache_advice      * advice   = advising->advice;
    double                     left     = advising->vram;
    uint64_t                   requests = 0;
    size_t                     i        = shape->n_layers;
    while (i > 0 && left >= layer_bytes(&shape->layers[i - 1])) {
        i--;
        left     -= layer_bytes(&shape->layers[i]);
        requests += hits_of(advising, i, 0, CACHE_SECOND_HALF).requests;
    }
    const uint64_t all = cache_gathered_requests(advising->gathered, advising->class);
    advice->n_whole     = shape->n_layers - i;
    advice->first_whole = i < shape->n_layers ? shape->layers[i].layer : shape->layers[shape->n_layers - 1].layer + 1;
    advice->whole       = computing(advising, (double) requests / (double) all);
}

static void advise_equal_slots(const struct advising * advising) {
    struct cache_advice * advice     = advising->advice;
    double                slot_bytes = 0; // of one more slot in each layer
    for (size_t i = 0; i < advising->shape->n_layers; i++) {
        slot_bytes += (double) advising->shape->layers[i].expert_bytes;
    }
    const double slots = slot_bytes > 0 ? advising->vram / slot_bytes : 0;
    const double most  = (double) advising->shape->n_expert;
    advice->equal_slots = (size_t) (slots < most ? slots : most);
    advice->equal       = uploading(advising, cache_gathered_rate(advising->gathered, CACHE_LRU, advice->equal_slots,
                                                                  advising->class));
}

//
// slots by layer
//

// Hits of each layer's cache by slots, in the first half.
static uint64_t ** hit_curves(const struct advising * advising) {
    const struct trace_shape * shape  = advising->shape;
    uint64_t                ** curves = memory_new(shape->n_layers, sizeof(*curves));
    for (size_t i = 0; i < shape->n_layers; i++) {
        curves[i] = memory_new((size_t) shape->layers[i].n_expert + 1, sizeof(**curves));
        for (int32_t slots = 0; slots <= shape->layers[i].n_expert; slots++) {
            curves[i][slots] = hits_of(advising, i, (size_t) slots, CACHE_FIRST_HALF).hits;
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

static bool advise_tuned_slots(const struct advising * advising) {
    const struct trace_shape * shape  = advising->shape;
    struct cache_advice      * advice = advising->advice;
    uint64_t                ** curves = hit_curves(advising);
    struct slot_layer        * layers = memory_new(shape->n_layers, sizeof(*layers));
    struct cache_hits          sum    = { 0 };
    advice->tuned_slots = memory_new(shape->n_layers, sizeof(*advice->tuned_slots));
    for (size_t i = 0; i < shape->n_layers; i++) {
        layers[i] = (struct slot_layer) { shape->layers[i].n_expert, shape->layers[i].expert_bytes, curves[i] };
    }
    const bool ok = slot_allocation(shape->n_layers, layers, advice->vram, advice->tuned_slots);
    for (size_t i = 0; i < shape->n_layers; i++) {
        const struct cache_hits hits = hits_of(advising, i, advice->tuned_slots[i], CACHE_SECOND_HALF);
        sum.requests += hits.requests;
        sum.hits     += hits.hits;
    }
    advice->tuned      = uploading(advising, cache_rate(sum));
    advice->tuned_gain = advice->tuned.rate - advice->equal.rate;
    free_curves(curves, shape->n_layers);
    free(layers);
    return ok;
}

//
// some layers as a whole, and a cache for the others
//

// Requests that are served if these layers are on the device and the others have as many slots each as fit beside them.
static struct cache_hits serve(const struct advising * advising, enum cache_half half, const bool * kept,
                               size_t * slots) {
    const struct trace_shape * shape = advising->shape;
    double                     left  = advising->vram;
    double                     slot  = 0; // bytes of one in each of the others
    for (size_t i = 0; i < shape->n_layers; i++) {
        left -= kept[i] ? layer_bytes(&shape->layers[i]) : 0;
        slot += kept[i] ? 0 : (double) shape->layers[i].expert_bytes;
    }
    const double most = slot > 0 ? left / slot : 0;
    *slots = (size_t) fmin(fmax(most, 0), (double) shape->n_expert);
    struct cache_hits sum = { 0 };
    for (size_t i = 0; i < shape->n_layers; i++) {
        const struct cache_hits hits = hits_of(advising, i, *slots, half);
        sum.requests += hits.requests;
        sum.hits     += kept[i] ? hits.requests : left < 0 ? 0 : hits.hits;
    }
    return sum;
}

// The layer that a cache serves worst, of those that are not kept and still fit; n_layers: none.
static size_t worst_layer(const struct advising * advising, const bool * kept, double left) {
    const size_t n     = advising->shape->n_layers;
    size_t       worst = n;
    double       least = INFINITY;
    for (size_t i = 0; i < n; i++) {
        const double rate = cache_rate(hits_of(advising, i, advising->advice->equal_slots, CACHE_FIRST_HALF));
        if (!kept[i] && layer_bytes(&advising->shape->layers[i]) <= left && rate < least) {
            worst = i;
            least = rate;
        }
    }
    return worst;
}

// Keeps the worst layer too as long as there is room, and takes the best of all these, by the first half. Returns how
// many are kept.
static size_t choose_kept(const struct advising * advising, bool * chosen) {
    const size_t n      = advising->shape->n_layers;
    bool       * kept   = memory_new(n, sizeof(*kept));
    double       left   = advising->vram;
    uint64_t     most   = 0;
    size_t       n_best = 0;
    size_t       slots;
    for (size_t n_kept = 0; n_kept <= n; n_kept++) {
        const struct cache_hits hits = serve(advising, CACHE_FIRST_HALF, kept, &slots);
        if (hits.hits > most) {
            most   = hits.hits;
            n_best = n_kept;
            memcpy(chosen, kept, n * sizeof(*kept));
        }
        const size_t worst = worst_layer(advising, kept, left);
        if (worst == n) {
            break;
        }
        kept[worst] = true;
        left       -= layer_bytes(&advising->shape->layers[worst]);
    }
    free(kept);
    return n_best;
}

static void advise_kept_layers(const struct advising * advising) {
    const struct trace_shape * shape  = advising->shape;
    struct cache_advice      * advice = advising->advice;
    bool                     * kept   = memory_new(shape->n_layers, sizeof(*kept));
    double                     left   = advising->vram;
    size_t                     n      = 0;
    advice->n_kept      = choose_kept(advising, kept);
    advice->kept_layers = memory_new(advice->n_kept, sizeof(*advice->kept_layers));
    for (size_t i = 0; i < shape->n_layers; i++) {
        if (kept[i]) {
            advice->kept_layers[n++] = shape->layers[i].layer;
            left -= layer_bytes(&shape->layers[i]);
        }
    }
    const double rate = cache_rate(serve(advising, CACHE_SECOND_HALF, kept, &advice->kept_slots));
    advice->kept     = advice->kept_slots > 0 ? uploading(advising, rate) : computing(advising, rate);
    advice->kept_mib = left > 0 ? (uint64_t) (left / MIB) : 0;
    free(kept);
}

//
// the whole
//

static struct advising advising_of(const struct cache_gathered * gathered, enum phase class,
                                   struct cache_advice * advice) {
    const struct cache_questions * questions = &gathered->questions;
    return (struct advising) {
        .gathered = gathered,
        .shape    = gathered->shape,
        .advice   = advice,
        .class    = class,
        .vram     = (double) questions->vram,
        .time     = {
            .token_bytes = (double) gathered->shape->token_bytes,
            .tg          = questions->tg,
            .ram         = questions->ram,
            .pcie        = questions->pcie,
            .vram        = questions->vram_rate,
        },
    };
}

static void advise_time(const struct advising * advising) {
    const struct cache_gathered * gathered = advising->gathered;
    struct cache_advice         * advice   = advising->advice;
    advice->tg            = gathered->questions.tg;
    advice->ram           = gathered->questions.ram;
    advice->time_is_known = gathered->questions.tg > 0 && gathered->shape->bytes_known;
    if (advice->time_is_known) {
        advice->time_is_possible = cache_time_is_possible(&advising->time);
        advice->break_even       = cache_time_break_even(&advising->time);
    }
}

// By tokens a second; where they are not known by what is served, as a cache copies what it misses.
static bool prefers_cache(const struct cache_advice * advice) {
    if (advice->time_is_known) {
        return (advice->llama_slots == 0 ? 0 : advice->llama.tokens_per_second) > advice->whole.tokens_per_second;
    }
    return (advice->llama_slots == 0 ? 0 : advice->llama.rate - NEAR) > advice->whole.rate;
}

bool cache_advise(const struct cache_gathered * gathered, enum phase class, struct cache_advice * advice) {
    const struct advising advising = advising_of(gathered, class, advice);
    *advice = (struct cache_advice) { .vram = gathered->questions.vram };
    if (advice->vram == 0 || gathered->n_runs == 0 || cache_gathered_requests(gathered, class) == 0) {
        return false;
    }
    advise_time        (&advising);
    advise_llama       (&advising);
    advise_whole_layers(&advising);
    advise_equal_slots (&advising);
    advise_kept_layers (&advising);
    advice->prefers_cache = prefers_cache(advice);
    return advise_tuned_slots(&advising);
}
