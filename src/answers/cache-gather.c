// Feeds the routing of a trace, in order, to the study of all sizes, to llama.cpp's cache at each of them, and to the
// reservoir of tokens that could be evaluated side by side.

#include "answers/cache-gather.h"

#include "answers/cache-llama.h"
#include "tool/input/trace-input.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

double cache_rate(struct cache_hits hits) {
    return hits.requests == 0 ? NAN : (double) hits.hits / (double) hits.requests;
}

size_t cache_gathered_row(const struct cache_gathered * gathered) {
    return gathered->rows.budget < gathered->rows.n ? gathered->rows.budget : gathered->rows.quarter;
}

//
// what is looked at
//

static struct cache_study * new_study(struct cache_gathered * gathered) {
    const struct trace_shape * shape   = gathered->shape;
    struct cache_layer       * layers  = memory_new(shape->n_layers, sizeof(*layers));
    struct cache_size        * sizes   = memory_new(gathered->n_sizes, sizeof(*sizes));
    size_t                   * nothing = memory_new(shape->n_layers, sizeof(*nothing)); // what is planned comes later
    for (size_t i = 0; i < shape->n_layers; i++) {
        layers[i] = (struct cache_layer) { shape->layers[i].n_expert, shape->layers[i].group };
    }
    for (size_t i = 0; i < gathered->rows.n; i++) {
        sizes[i] = (struct cache_size) { gathered->rows.rows[i].layers, gathered->rows.rows[i].groups };
    }
    sizes[gathered->rows.n] = (struct cache_size) { nothing, nothing };
    const struct cache_options options = {
        .max_rows  = gathered->questions.max_rows,
        .half_life = gathered->questions.half_life,
        .n_sizes   = gathered->n_sizes,
        .sizes     = sizes,
    };
    struct cache_study * study = cache_study_new(shape->n_layers, layers, &options);
    free(layers);
    free(sizes);
    free(nothing);
    return study;
}

static struct concurrency * new_concurrency(const struct trace_shape * shape) {
    struct concurrency_layer * layers = memory_new(shape->n_layers, sizeof(*layers));
    for (size_t i = 0; i < shape->n_layers; i++) {
        layers[i] = (struct concurrency_layer) { shape->layers[i].n_expert, shape->layers[i].n_used };
    }
    struct concurrency * concurrency = concurrency_new(shape->n_layers, layers);
    free(layers);
    return concurrency;
}

static struct cache_oracle * new_oracle(struct cache_gathered * gathered) {
    const size_t n         = gathered->shape->n_layers;
    int32_t    * n_experts = memory_new(n, sizeof(*n_experts));
    gathered->oracle_slots = memory_new(gathered->rows.n * n, sizeof(*gathered->oracle_slots));
    for (size_t i = 0; i < n; i++) {
        n_experts[i] = gathered->shape->layers[i].n_expert;
    }
    for (size_t i = 0; i < gathered->rows.n; i++) {
        memcpy(gathered->oracle_slots + i * n, gathered->rows.rows[i].layers, n * sizeof(*gathered->oracle_slots));
    }
    struct cache_oracle * oracle = cache_oracle_new(n, n_experts);
    free(n_experts);
    return oracle;
}

static bool new_observers(struct cache_gathered * gathered) {
    gathered->n_sizes     = gathered->rows.n + 1;
    gathered->study       = new_study(gathered);
    gathered->concurrency = new_concurrency(gathered->shape);
    gathered->oracle      = new_oracle(gathered);
    gathered->samples     = resample_new(cache_series_count(gathered->n_sizes));
    gathered->answers     = resample_new(1 + gathered->rows.n);
    return gathered->study != NULL && gathered->concurrency != NULL && gathered->oracle != NULL
        && gathered->samples != NULL && gathered->answers != NULL;
}

static bool new_runs(struct cache_gathered * gathered) {
    const struct trace_shape * shape = gathered->shape;
    bool                       ok    = true;
    if (!shape->bytes_known) {
        return true;
    }
    gathered->runs = memory_new(gathered->rows.n, sizeof(*gathered->runs));
    for (size_t i = 0; ok && i < gathered->rows.n; i++) {
        struct cache_run * run = &gathered->runs[i];
        run->cache = cache_llama_new(shape, NULL, gathered->rows.rows[i].bytes, gathered->questions.max_rows,
                                     &run->n_slots);
        ok         = run->cache != NULL;
    }
    return ok;
}

//
// lives of sequences
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
    bool                    is_planned;
    struct current_life   * lives;
    size_t                  n_lives;
    uint64_t                next_life;
    size_t                  room;
    struct resample_token * tokens; // [room] of a ubatch
    uint64_t             ** sums;   // [room] likewise, NULL: not chosen
    uint64_t             ** asking; // [n_expert] by the experts of a step
    bool                  * hits;   // [n_expert] likewise
};

// The oracle has seen all of a life.
static bool end_life(const struct cache_gathered * into, uint64_t life) {
    uint64_t     * hits     = memory_new(into->rows.n, sizeof(*hits));
    const uint64_t requests = cache_oracle_end_life(into->oracle, life, into->rows.n, into->oracle_slots, hits);
    const struct resample_token token = { life, 0 };
    uint64_t                  * sums;
    const bool                  ok = requests == 0 || resample_find(into->answers, 1, &token, &sums);
    if (ok && requests > 0) {
        sums[0] += requests;
        for (size_t i = 0; i < into->rows.n; i++) {
            sums[1 + i] += hits[i];
        }
    }
    free(hits);
    return ok;
}

// False: out of memory.
static bool life_of(struct gathering * gathering, int32_t context, const struct trace_token * token,
                    uint64_t * number) {
    struct current_life * life = NULL;
    bool                  ok   = true;
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
        ok = end_life(gathering->into, life->number);
        life->life   = token->life;
        life->number = gathering->next_life++;
    }
    *number = life->number;
    return ok;
}

static void make_room(struct gathering * gathering, size_t n_tokens) {
    if (n_tokens > gathering->room) {
        gathering->tokens = memory_resize(gathering->tokens, n_tokens, sizeof(*gathering->tokens));
        gathering->sums   = memory_resize(gathering->sums,   n_tokens, sizeof(uint64_t *));
        gathering->room   = n_tokens;
    }
}

// Whose the ubatch's tokens are.
static bool find_units(struct gathering * gathering, const struct trace_ubatch * ubatch) {
    const struct cache_gathered * into = gathering->into;
    make_room(gathering, (size_t) ubatch->n_tokens);
    for (int32_t i = 0; i < ubatch->n_tokens; i++) {
        struct resample_token * token = &gathering->tokens[i];
        *token = (struct resample_token) { RESAMPLE_NOBODY, ubatch->tokens[i].position };
        if (trace_filter_has_token(into->questions.filter, ubatch, i)
                && !life_of(gathering, ubatch->context, &ubatch->tokens[i], &token->life)) {
            return false;
        }
    }
    return resample_find(into->samples, (size_t) ubatch->n_tokens, gathering->tokens, gathering->sums);
}

//
// tokens: what several sequences touch, and the oracle
//

// A generated token's row in a layer: kept for what several sequences touch, or judged by its own prompt's oracle.
static bool take_row(const struct cache_gathered * into, const struct trace_routing * routing, int32_t token,
                     uint64_t life, bool is_kept, bool judged) {
    const int32_t layer = trace_shape_find(into->shape, routing->layer);
    const int32_t row   = trace_input_row(routing, token);
    if (layer < 0 || row < 0) {
        return true;
    }
    const size_t     n_used  = (size_t) routing->n_used;
    const uint16_t * experts = routing->experts + (size_t) row * n_used;
    if (is_kept) {
        concurrency_row(into->concurrency, (size_t) layer, experts, n_used);
    }
    return !judged || cache_oracle_token(into->oracle, (size_t) layer, life, experts, n_used);
}

static bool take_tokens(const struct gathering * gathering, const struct trace_ubatch * ubatch, bool judged) {
    const struct cache_gathered * into = gathering->into;
    for (int32_t i = 0; i < ubatch->n_tokens; i++) {
        const uint64_t life = gathering->tokens[i].life;
        if (life == RESAMPLE_NOBODY || !ubatch->tokens[i].generation) {
            continue;
        }
        const bool is_kept = concurrency_token(into->concurrency, life);
        for (size_t j = 0; j < ubatch->n_layers && (judged || is_kept); j++) {
            if (!take_row(into, &ubatch->layers[j], i, life, is_kept, judged)) {
                return false;
            }
        }
    }
    return true;
}

//
// steps
//

static void take_whole_layers(const struct gathering * gathering, const struct cache_step * step) {
    const struct cache_gathered * into = gathering->into;
    for (size_t i = 0; i < into->rows.n; i++) {
        if (step->layer >= into->rows.rows[i].whole) {
            memset(gathering->hits, true, step->n_experts * sizeof(*gathering->hits));
            cache_series_hits(step, into->n_sizes, CACHE_LAYERS, i, gathering->hits);
        }
    }
}

static void take_llama(const struct gathering * gathering, const struct cache_step * step) {
    const struct cache_gathered * into = gathering->into;
    for (size_t i = 0; into->runs != NULL && i < into->rows.n; i++) {
        llama_moe_cache_step(into->runs[i].cache, step, gathering->hits);
        cache_series_hits(step, into->n_sizes, CACHE_LLAMA, i, gathering->hits);
    }
    if (into->plan.cache != NULL) {
        llama_moe_cache_step(into->plan.cache, step, gathering->hits);
        cache_series_hits(step, into->n_sizes, CACHE_LLAMA, into->rows.n, gathering->hits);
    }
}

static bool take_step(const struct gathering * gathering, struct cache_step * step) {
    for (size_t i = 0; step->class != PHASE_WARMUP && i < step->n_experts; i++) {
        gathering->asking[i] = gathering->sums[gathering->step.tokens[i]];
    }
    step->sums = step->class == PHASE_WARMUP ? NULL : gathering->asking;
    take_whole_layers(gathering, step);
    take_llama(gathering, step);
    return cache_study_step(gathering->into->study, step);
}

static bool make_plan(struct gathering * gathering) {
    struct cache_gathered * into = gathering->into;
    gathering->is_planned = true;
    if (!into->shape->bytes_known) {
        return true;
    }
    const struct cache_planning planning = { into->study, into->shape, into->phase, into->questions.max_rows };
    const bool ok = cache_plan_make(&into->plan, &planning, into->rows.rows[cache_gathered_row(into)].bytes);
    for (size_t i = 0; ok && i < into->shape->n_layers; i++) {
        cache_study_resize(into->study, into->rows.n, i, into->plan.slots[i]);
    }
    return ok;
}

static bool take_layers(struct gathering * gathering, const struct trace_ubatch * ubatch, bool judged) {
    const struct cache_gathered * into = gathering->into;
    bool                          ok   = true;
    for (size_t i = 0; i < ubatch->n_layers && ok; i++) {
        const struct trace_routing * routing = &ubatch->layers[i];
        const int32_t                layer   = trace_shape_find(into->shape, routing->layer);
        if (layer < 0) {
            continue;
        }
        trace_step_take(&gathering->step, into->questions.filter, ubatch, routing);
        struct cache_step step = {
            .layer     = (size_t) layer,
            .n_rows    = gathering->step.n_rows,
            .class     = ubatch->warmup ? PHASE_WARMUP : gathering->step.generation ? PHASE_GENERATION : PHASE_PROMPT,
            .half      = judged ? CACHE_SECOND_HALF : CACHE_FIRST_HALF,
            .n_experts = gathering->step.n_experts,
            .experts   = gathering->step.experts,
        };
        ok = step.n_experts == 0 || (step.n_experts <= (size_t) into->shape->n_expert && take_step(gathering, &step));
    }
    return ok;
}

static bool gather_ubatch(void * self, const struct trace_ubatch * ubatch, struct error * error) {
    struct gathering * gathering = self;
    const bool         judged    = trace_halves_take(&gathering->halves, ubatch);
    const bool         ok        = (!judged || gathering->is_planned || make_plan(gathering))
                                && (ubatch->warmup || find_units(gathering, ubatch))
                                && take_layers(gathering, ubatch, judged)
                                && (ubatch->warmup || take_tokens(gathering, ubatch, judged));
    return ok || error_set(error, "out of memory, or a layer has experts that its table does not know");
}

static bool go_through(struct cache_gathered * gathered, struct trace_walk * walk, struct error * error) {
    const size_t     n_expert  = (size_t) gathered->shape->n_expert;
    struct gathering gathering = {
        .into   = gathered,
        .halves = { .filter = walk->filter, .all = gathered->extent },
        .asking = memory_new(n_expert, sizeof(uint64_t *)),
        .hits   = memory_new(n_expert, sizeof(bool)),
    };
    bool ok = trace_walk(walk, gather_ubatch, &gathering, error);
    for (size_t i = 0; ok && i < gathering.n_lives; i++) {
        ok = end_life(gathered, gathering.lives[i].number) || error_set(error, "out of memory");
    }
    for (size_t i = 0; gathered->runs != NULL && i < gathered->rows.n; i++) {
        gathered->runs[i].totals = llama_moe_cache_totals(gathered->runs[i].cache);
    }
    trace_step_free(&gathering.step);
    free(gathering.lives);
    free(gathering.tokens);
    free(gathering.sums);
    free(gathering.asking);
    free(gathering.hits);
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
    const struct trace_filter * filter = gathered->questions.filter;
    struct trace_walk           walk   = { .trace = trace, .filter = filter, .what = "looking at caches" };
    if (!trace_input_has_order(gathered->info, "what a cache would hit", error)) {
        return false;
    }
    gathered->shape = trace_shape_new(gathered->info, filter->mtp, filter);
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
    gathered->phase = trace_extent_is_of_prompts(&gathered->extent) ? PHASE_PROMPT : PHASE_GENERATION;
    if (!cache_rows_make(&gathered->rows, gathered->shape, &gathered->questions, error)) {
        return false;
    }
    if (!new_observers(gathered) || !new_runs(gathered)) {
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
    for (size_t i = 0; gathered->runs != NULL && i < gathered->rows.n; i++) {
        llama_moe_cache_free(gathered->runs[i].cache);
    }
    free(gathered->runs);
    cache_plan_free(&gathered->plan);
    resample_free(gathered->samples);
    resample_free(gathered->answers);
    cache_oracle_free(gathered->oracle);
    free(gathered->oracle_slots);
    concurrency_free(gathered->concurrency);
    cache_study_free(gathered->study);
    cache_rows_free(&gathered->rows);
    trace_shape_free(gathered->shape);
    free(gathered);
}
