// Feeds the routing of a trace, in order, to the study of all sizes, to llama.cpp's cache at each budget, and to the
// reservoir of tokens that could be evaluated side by side.

#include "answers/cache-gather.h"

#include "tool/input/trace-input.h"

#include <math.h>
#include <stdlib.h>

#define MIB       ((uint64_t) 1 << 20)
#define ALIGNMENT 128 // of CUDA's buffers; other devices have less, which is a slot at most

double cache_rate(struct cache_hits hits) {
    return hits.requests == 0 ? NAN : (double) hits.hits / (double) hits.requests;
}

double cache_gathered_rate(const struct cache_gathered * gathered, enum cache_policy policy, size_t n_slots,
                           enum phase class) {
    return cache_rate(cache_study_all(gathered->study, policy, n_slots, class, CACHE_SECOND_HALF));
}

static size_t layers_of_group(const struct trace_shape * shape, int32_t group) {
    size_t n = 0;
    for (size_t i = 0; i < shape->n_layers; i++) {
        n += shape->layers[i].group == group;
    }
    return n;
}

double cache_gathered_pooled(const struct cache_gathered * gathered, enum cache_policy policy, size_t n_slots,
                             enum phase class) {
    struct cache_hits sum = { 0 };
    for (int32_t group = 0; group < gathered->shape->n_groups; group++) {
        const size_t            n    = n_slots * layers_of_group(gathered->shape, group);
        const struct cache_hits hits = cache_study_pooled(gathered->study, policy, group, n, class, CACHE_SECOND_HALF);
        sum.requests += hits.requests;
        sum.hits     += hits.hits;
    }
    return cache_rate(sum);
}

uint64_t cache_gathered_requests(const struct cache_gathered * gathered, enum phase class) {
    return cache_study_all(gathered->study, CACHE_LRU, 0, class, CACHE_SECOND_HALF).requests;
}

double cache_gathered_share(const struct cache_gathered * gathered, size_t n_slots) {
    double slots   = 0;
    double experts = 0;
    for (size_t i = 0; i < gathered->shape->n_layers; i++) {
        const size_t n_expert = (size_t) gathered->shape->layers[i].n_expert;
        slots   += (double) (n_slots < n_expert ? n_slots : n_expert);
        experts += (double) n_expert;
    }
    return experts == 0 ? 0 : slots / experts;
}

//
// what is looked at
//

static void choose_sizes(struct cache_gathered * gathered) {
    static const double shares[] = {
        1.0 / 16, 1.0 / 8, 3.0 / 16, 1.0 / 4, 3.0 / 8, 1.0 / 2, 5.0 / 8, 3.0 / 4, 7.0 / 8,
    };
    for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); i++) {
        const size_t slots = (size_t) lround(shares[i] * gathered->shape->n_expert);
        if (slots > 0 && (gathered->n_sizes == 0 || gathered->sizes[gathered->n_sizes - 1] < slots)) {
            gathered->sizes[gathered->n_sizes++] = slots;
        }
    }
}

static bool new_study(struct cache_gathered * gathered) {
    const struct trace_shape   * shape  = gathered->shape;
    struct cache_layer         * layers = memory_new(shape->n_layers, sizeof(*layers));
    struct concurrency_layer   * used   = memory_new(shape->n_layers, sizeof(*used));
    const struct cache_options   options = {
        .max_rows  = gathered->questions.max_rows,
        .half_life = gathered->questions.half_life,
        .n_sizes   = gathered->n_sizes,
        .sizes     = gathered->sizes,
    };
    for (size_t i = 0; i < shape->n_layers; i++) {
        const struct shape_layer * layer = &shape->layers[i];
        layers[i] = (struct cache_layer) { layer->n_expert, layer->group };
        used  [i] = (struct concurrency_layer) { layer->n_expert, layer->n_used };
    }
    gathered->study       = cache_study_new(shape->n_layers, layers, &options);
    gathered->concurrency = concurrency_new(shape->n_layers, used);
    free(layers);
    free(used);
    return gathered->study != NULL && gathered->concurrency != NULL;
}

static bool new_run(struct cache_gathered * gathered, uint64_t budget) {
    const struct trace_shape     * shape  = gathered->shape;
    struct llama_moe_cache_layer * layers = memory_new(shape->n_layers, sizeof(*layers));
    for (size_t i = 0; i < shape->n_layers; i++) {
        const struct shape_layer * layer = &shape->layers[i];
        layers[i] = (struct llama_moe_cache_layer) {
            layer->n_expert, layer->n_used, layer->group, layer->n_tensors, layer->tensor_bytes,
        };
    }
    struct cache_run * run = &gathered->runs[gathered->n_runs++];
    *run = (struct cache_run) {
        .budget = budget,
        .cache  = llama_moe_cache_new(shape->n_layers, layers, budget, ALIGNMENT),
    };
    free(layers);
    for (int32_t group = 0; run->cache != NULL && group < shape->n_groups; group++) {
        run->n_slots += llama_moe_cache_slots(run->cache, group);
    }
    return run->cache != NULL;
}

// Budgets in whole MiB, as the option takes them.
static bool new_runs(struct cache_gathered * gathered) {
    const struct cache_questions * questions = &gathered->questions;
    if (!gathered->shape->bytes_known) {
        return true;
    }
    gathered->runs = memory_new(gathered->n_sizes + questions->n_budgets + 1, sizeof(*gathered->runs));
    bool ok = true;
    for (size_t i = 0; i < gathered->n_sizes && ok; i++) {
        const double bytes = cache_gathered_share(gathered, gathered->sizes[i]) * (double) gathered->shape->all_bytes;
        ok = new_run(gathered, (uint64_t) ceil(bytes / (double) MIB) * MIB);
    }
    for (size_t i = 0; i < questions->n_budgets && ok; i++) {
        ok = new_run(gathered, questions->budgets[i]);
    }
    if (questions->vram > 0 && ok) {
        ok = new_run(gathered, questions->vram / MIB * MIB);
    }
    return ok;
}

//
// going through the trace
//

// The life that a sequence is in.
struct current_life {
    int32_t  context;
    int32_t  sequence;
    int32_t  life;
    uint64_t number; // from 0
};

struct gathering {
    struct cache_gathered * into;
    struct trace_halves     halves;
    struct trace_step       step;
    struct current_life   * lives;
    size_t                  n_lives;
    uint64_t                next_life;
};

static uint64_t life_of(struct gathering * gathering, int32_t context, const struct trace_token * token) {
    struct current_life * life = NULL;
    for (size_t i = 0; i < gathering->n_lives && life == NULL; i++) {
        if (gathering->lives[i].context == context && gathering->lives[i].sequence == token->sequence) {
            life = &gathering->lives[i];
        }
    }
    if (life == NULL) {
        gathering->lives = memory_resize(gathering->lives, gathering->n_lives + 1, sizeof(*gathering->lives));
        life  = &gathering->lives[gathering->n_lives++];
        *life = (struct current_life) { context, token->sequence, token->life, gathering->next_life++ };
    } else if (life->life != token->life) {
        cache_study_end_life(gathering->into->study, life->number);
        life->life   = token->life;
        life->number = gathering->next_life++;
    }
    return life->number;
}

// A generated token's row in a layer: kept for what several sequences touch, or judged by its own prompt's oracle.
static bool take_row(const struct cache_gathered * into, const struct trace_routing * routing, int32_t token,
                     uint64_t life, bool is_kept, bool judged) {
    const int32_t layer = trace_shape_find(into->shape, routing->layer);
    const int32_t row   = trace_input_row(routing, token);
    if (layer < 0 || row < 0 || !trace_filter_has_layer(into->questions.filter, routing->layer)) {
        return true;
    }
    const size_t     n_used  = (size_t) routing->n_used;
    const uint16_t * experts = routing->experts + (size_t) row * n_used;
    if (is_kept) {
        concurrency_row(into->concurrency, (size_t) layer, experts, n_used);
    }
    return !judged || cache_study_token(into->study, (size_t) layer, life, experts, n_used);
}

static bool take_tokens(struct gathering * gathering, const struct trace_ubatch * ubatch, bool judged) {
    const struct cache_gathered * into = gathering->into;
    for (int32_t i = 0; i < ubatch->n_tokens; i++) {
        const struct trace_token * token = &ubatch->tokens[i];
        if (!token->generation || ubatch->warmup || !trace_filter_has_token(into->questions.filter, ubatch, i)) {
            continue;
        }
        const uint64_t life    = life_of(gathering, ubatch->context, token);
        const bool     is_kept = concurrency_token(into->concurrency, life);
        for (size_t j = 0; j < ubatch->n_layers && (judged || is_kept); j++) {
            if (!take_row(into, &ubatch->layers[j], i, life, is_kept, judged)) {
                return false;
            }
        }
    }
    return true;
}

static bool take_step(struct gathering * gathering, const struct cache_step * step) {
    const struct cache_gathered * into = gathering->into;
    for (size_t i = 0; i < into->n_runs; i++) {
        const struct cache_hits found = llama_moe_cache_step(into->runs[i].cache, step);
        struct cache_hits     * sum   = &into->runs[i].hits[step->class][step->half];
        sum->requests += found.requests;
        sum->hits     += found.hits;
    }
    return cache_study_step(into->study, step);
}

static bool gather_ubatch(void * self, const struct trace_ubatch * ubatch, struct error * error) {
    struct gathering            * gathering = self;
    const struct cache_gathered * into      = gathering->into;
    const struct trace_filter   * filter    = into->questions.filter;
    const bool                    judged    = trace_halves_take(&gathering->halves, ubatch);
    bool                          ok        = true;
    for (size_t i = 0; i < ubatch->n_layers && ok; i++) {
        const struct trace_routing * routing = &ubatch->layers[i];
        const int32_t                layer   = trace_shape_find(into->shape, routing->layer);
        if (layer < 0 || !trace_filter_has_layer(filter, routing->layer)) {
            continue;
        }
        trace_step_take(&gathering->step, filter, ubatch, routing);
        const struct cache_step step = {
            .layer     = (size_t) layer,
            .n_rows    = gathering->step.n_rows,
            .class     = ubatch->warmup ? PHASE_WARMUP : gathering->step.generation ? PHASE_GENERATION : PHASE_PROMPT,
            .half      = judged ? CACHE_SECOND_HALF : CACHE_FIRST_HALF,
            .n_experts = gathering->step.n_experts,
            .experts   = gathering->step.experts,
        };
        ok = step.n_experts == 0 || take_step(gathering, &step);
    }
    return (ok && take_tokens(gathering, ubatch, judged)) ||
           error_set(error, "out of memory, or a layer has experts that its table does not know");
}

static bool go_through(struct cache_gathered * gathered, struct trace_walk * walk, struct error * error) {
    struct gathering gathering = { .into = gathered, .halves = { .filter = walk->filter, .all = gathered->extent } };
    const bool       ok        = trace_walk(walk, gather_ubatch, &gathering, error);
    for (size_t i = 0; i < gathering.n_lives; i++) {
        cache_study_end_life(gathered->study, gathering.lives[i].number);
    }
    for (size_t i = 0; i < gathered->n_runs; i++) {
        gathered->runs[i].totals = llama_moe_cache_totals(gathered->runs[i].cache);
    }
    trace_step_free(&gathering.step);
    free(gathering.lives);
    return ok;
}

static bool find_extent(struct cache_gathered * gathered, const struct trace * trace, uint64_t * lost,
                        struct error * error) {
    struct trace_walk count = { .trace = trace, .filter = gathered->questions.filter, .what = "counting" };
    const bool        ok    = trace_extent(&count, &gathered->extent, error);
    *lost = count.lost;
    return ok;
}

static bool gather_trace(struct cache_gathered * gathered, const struct trace * trace,
                         const struct trace_extent * extent, uint64_t * lost, struct error * error) {
    struct trace_walk walk = { .trace = trace, .filter = gathered->questions.filter, .what = "looking at caches" };
    if (!trace_input_has_order(gathered->info, "what a cache would hit", error)) {
        return false;
    }
    gathered->shape = trace_shape_new(gathered->info, gathered->questions.filter->mtp);
    if (gathered->shape->n_layers == 0) {
        return error_set(error, "no layer with experts was recorded");
    }
    if (extent != NULL) {
        gathered->extent = *extent;
    } else if (!find_extent(gathered, trace, lost, error)) {
        return false;
    }
    if (gathered->extent.n_prompt + gathered->extent.n_generation == 0) {
        return error_set(error, "no tokens to look at");
    }
    choose_sizes(gathered);
    if (!new_study(gathered) || !new_runs(gathered)) {
        return error_set(error, "out of memory");
    }
    return go_through(gathered, &walk, error);
}

struct cache_gathered * cache_gather(const struct trace * trace, const struct cache_questions * questions,
                                     const struct trace_extent * extent, uint64_t * lost, struct error * error) {
    struct cache_gathered * gathered = memory_new(1, sizeof(*gathered));
    gathered->questions = *questions;
    gathered->info      = trace_about(trace);
    if (!gather_trace(gathered, trace, extent, lost, error)) {
        cache_gathered_free(gathered);
        return NULL;
    }
    return gathered;
}

void cache_gathered_free(struct cache_gathered * gathered) {
    if (gathered == NULL) {
        return;
    }
    for (size_t i = 0; i < gathered->n_runs; i++) {
        llama_moe_cache_free(gathered->runs[i].cache);
    }
    free(gathered->runs);
    concurrency_free(gathered->concurrency);
    cache_study_free(gathered->study);
    trace_shape_free(gathered->shape);
    free(gathered);
}
