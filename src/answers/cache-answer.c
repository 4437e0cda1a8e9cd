#include "answers/cache-gathered.h"

#include "commands/cache/cache-plan.h"
#include "tool/input/trace-input.h"

#include <math.h>
#include <stdlib.h>

#define MIB               ((uint64_t) 1 << 20)
#define ALIGNMENT         128 // of CUDA's buffers; other devices have less, which is a slot at most
#define HALF_LIFE_DEFAULT 256.0

struct cache_questions cache_questions_default(const struct trace_filter * filter) {
    return (struct cache_questions) { .filter = filter, .max_rows = LLAMA_MOE_CACHE_MAX_ROWS, .half_life = HALF_LIFE_DEFAULT };
}

double cache_rate(struct cache_hits hits) {
    return hits.requests == 0 ? NAN : (double) hits.hits / (double) hits.requests;
}

double cache_answer_rate(const struct cache_answer * answer, enum cache_policy policy, size_t n_slots, enum cache_class class) {
    return cache_rate(cache_study_all(answer->study, policy, n_slots, class, CACHE_SECOND_HALF));
}

static size_t layers_of_group(const struct trace_shape * shape, int32_t group) {
    size_t n = 0;
    for (size_t i = 0; i < shape->n_layers; i++) {
        n += shape->layers[i].group == group;
    }
    return n;
}

double cache_answer_pooled(const struct cache_answer * answer, enum cache_policy policy, size_t n_slots, enum cache_class class) {
    struct cache_hits sum = { 0 };
    for (int32_t group = 0; group < answer->shape->n_groups; group++) {
        const size_t            n_layers = layers_of_group(answer->shape, group);
        const struct cache_hits hits     = cache_study_pooled(answer->study, policy, group, n_slots * n_layers, class, CACHE_SECOND_HALF);
        sum.requests += hits.requests;
        sum.hits     += hits.hits;
    }
    return cache_rate(sum);
}

uint64_t cache_answer_requests(const struct cache_answer * answer, enum cache_class class) {
    return cache_study_all(answer->study, CACHE_LRU, 0, class, CACHE_SECOND_HALF).requests;
}

double cache_answer_share(const struct cache_answer * answer, size_t n_slots) {
    double slots   = 0;
    double experts = 0;
    for (size_t i = 0; i < answer->shape->n_layers; i++) {
        const size_t n_expert = (size_t) answer->shape->layers[i].n_expert;
        slots   += (double) (n_slots < n_expert ? n_slots : n_expert);
        experts += (double) n_expert;
    }
    return experts == 0 ? 0 : slots / experts;
}

//
// what is looked at
//

static void choose_sizes(struct cache_answer * answer) {
    static const double shares[] = { 1.0 / 16, 1.0 / 8, 3.0 / 16, 1.0 / 4, 3.0 / 8, 1.0 / 2, 5.0 / 8, 3.0 / 4, 7.0 / 8 };
    for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); i++) {
        const size_t slots = (size_t) lround(shares[i] * answer->shape->n_expert);
        if (slots > 0 && (answer->n_sizes == 0 || answer->sizes[answer->n_sizes - 1] < slots)) {
            answer->sizes[answer->n_sizes++] = slots;
        }
    }
}

static bool new_study(struct cache_answer * answer) {
    const struct trace_shape   * shape  = answer->shape;
    struct cache_layer         * layers = memory_new(shape->n_layers, sizeof(*layers));
    struct concurrency_layer   * used   = memory_new(shape->n_layers, sizeof(*used));
    const struct cache_options   options = {
        .max_rows  = answer->questions.max_rows,
        .half_life = answer->questions.half_life,
        .n_sizes   = answer->n_sizes,
        .sizes     = answer->sizes,
    };
    for (size_t i = 0; i < shape->n_layers; i++) {
        const struct shape_layer * layer = &shape->layers[i];
        layers[i] = (struct cache_layer) { layer->n_expert, layer->group };
        used  [i] = (struct concurrency_layer) { layer->n_expert, layer->n_used };
    }
    answer->study       = cache_study_new(shape->n_layers, layers, &options);
    answer->concurrency = concurrency_new(shape->n_layers, used);
    free(layers);
    free(used);
    return answer->study != NULL && answer->concurrency != NULL;
}

static bool new_llama(struct cache_answer * answer, uint64_t budget) {
    const struct trace_shape     * shape  = answer->shape;
    struct llama_moe_cache_layer * layers = memory_new(shape->n_layers, sizeof(*layers));
    for (size_t i = 0; i < shape->n_layers; i++) {
        const struct shape_layer * layer = &shape->layers[i];
        layers[i] = (struct llama_moe_cache_layer) { layer->n_expert, layer->n_used, layer->group, layer->n_tensors, layer->tensor_bytes };
    }
    struct cache_llama * llama = &answer->llama[answer->n_llama++];
    *llama = (struct cache_llama) { .budget = budget, .cache = llama_moe_cache_new(shape->n_layers, layers, budget, ALIGNMENT) };
    free(layers);
    for (int32_t group = 0; llama->cache != NULL && group < shape->n_groups; group++) {
        llama->n_slots += llama_moe_cache_slots(llama->cache, group);
    }
    return llama->cache != NULL;
}

// Budgets in whole MiB, as the option takes them.
static bool new_llamas(struct cache_answer * answer) {
    const struct cache_questions * questions = &answer->questions;
    if (!answer->shape->bytes_known) {
        return true;
    }
    answer->llama = memory_new(answer->n_sizes + questions->n_budgets + 1, sizeof(*answer->llama));
    bool ok = true;
    for (size_t i = 0; i < answer->n_sizes && ok; i++) {
        const double bytes = cache_answer_share(answer, answer->sizes[i]) * (double) answer->shape->all_bytes;
        ok = new_llama(answer, (uint64_t) ceil(bytes / (double) MIB) * MIB);
    }
    for (size_t i = 0; i < questions->n_budgets && ok; i++) {
        ok = new_llama(answer, questions->budgets[i]);
    }
    if (questions->vram > 0 && ok) {
        ok = new_llama(answer, questions->vram / MIB * MIB);
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
    struct cache_answer * answer;
    struct trace_halves   halves;
    struct trace_step     step;
    struct current_life * lives;
    size_t                n_lives;
    uint64_t              next_life;
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
        cache_study_end_life(gathering->answer->study, life->number);
        life->life   = token->life;
        life->number = gathering->next_life++;
    }
    return life->number;
}

static bool take_tokens(struct gathering * gathering, const struct trace_ubatch * ubatch, bool judged) {
    const struct cache_answer * answer = gathering->answer;
    for (int32_t i = 0; i < ubatch->n_tokens; i++) {
        const struct trace_token * token = &ubatch->tokens[i];
        if (!token->generation || ubatch->warmup || !trace_filter_has_token(answer->questions.filter, ubatch, i)) {
            continue;
        }
        const uint64_t life    = life_of(gathering, ubatch->context, token);
        const bool     is_kept = concurrency_token(answer->concurrency, life);
        for (size_t j = 0; j < ubatch->n_layers && (judged || is_kept); j++) {
            const struct trace_routing * routing = &ubatch->layers[j];
            const int32_t                layer   = trace_shape_find(answer->shape, routing->layer);
            const int32_t                row     = trace_input_row(routing, i);
            if (layer < 0 || row < 0 || !trace_filter_has_layer(answer->questions.filter, routing->layer)) {
                continue;
            }
            const uint16_t * experts = routing->experts + (size_t) row * (size_t) routing->n_used;
            if (is_kept) {
                concurrency_row(answer->concurrency, (size_t) layer, experts, (size_t) routing->n_used);
            }
            if (judged && !cache_study_token(answer->study, (size_t) layer, life, experts, (size_t) routing->n_used)) {
                return false;
            }
        }
    }
    return true;
}

static bool take_step(struct gathering * gathering, const struct cache_step * step) {
    struct cache_answer * answer = gathering->answer;
    for (size_t i = 0; i < answer->n_llama; i++) {
        const struct cache_hits found = llama_moe_cache_step(answer->llama[i].cache, step);
        struct cache_hits     * sum   = &answer->llama[i].hits[step->class][step->half];
        sum->requests += found.requests;
        sum->hits     += found.hits;
    }
    return cache_study_step(answer->study, step);
}

static bool gather_ubatch(void * self, const struct trace_ubatch * ubatch, struct error * error) {
    struct gathering          * gathering = self;
    const struct cache_answer * answer    = gathering->answer;
    const bool                  judged    = trace_halves_take(&gathering->halves, ubatch);
    bool                        ok        = true;
    for (size_t i = 0; i < ubatch->n_layers && ok; i++) {
        const struct trace_routing * routing = &ubatch->layers[i];
        const int32_t                layer   = trace_shape_find(answer->shape, routing->layer);
        if (layer < 0 || !trace_filter_has_layer(answer->questions.filter, routing->layer)) {
            continue;
        }
        trace_step_take(&gathering->step, answer->questions.filter, ubatch, routing);
        const struct cache_step step = {
            .layer     = (size_t) layer,
            .n_rows    = gathering->step.n_rows,
            .class     = ubatch->warmup ? CACHE_WARMUP : gathering->step.generation ? CACHE_GENERATION : CACHE_PROMPT,
            .half      = judged ? CACHE_SECOND_HALF : CACHE_FIRST_HALF,
            .n_experts = gathering->step.n_experts,
            .experts   = gathering->step.experts,
        };
        ok = step.n_experts == 0 || take_step(gathering, &step);
    }
    return (ok && take_tokens(gathering, ubatch, judged)) || error_set(error, "out of memory, or a layer has experts that its table does not know");
}

static bool gather(struct cache_answer * answer, struct trace_walk * walk, struct error * error) {
    struct gathering gathering = { .answer = answer, .halves = { .filter = walk->filter, .all = answer->extent } };
    const bool       ok        = trace_walk(walk, gather_ubatch, &gathering, error);
    for (size_t i = 0; i < gathering.n_lives; i++) {
        cache_study_end_life(answer->study, gathering.lives[i].number);
    }
    for (size_t i = 0; i < answer->n_llama; i++) {
        answer->llama[i].totals = llama_moe_cache_totals(answer->llama[i].cache);
    }
    trace_step_free(&gathering.step);
    free(gathering.lives);
    return ok;
}

static bool find_extent(struct cache_answer * answer, const struct trace * trace, uint64_t * lost, struct error * error) {
    struct trace_walk count = { .trace = trace, .filter = answer->questions.filter, .what = "counting" };
    const bool        ok    = trace_extent(&count, &answer->extent, error);
    *lost = count.lost;
    return ok;
}

static bool answer_trace(struct cache_answer * answer, const struct trace * trace, const struct trace_extent * extent,
                         uint64_t * lost, struct error * error) {
    struct trace_walk walk = { .trace = trace, .filter = answer->questions.filter, .what = "looking at caches" };
    if (!trace_input_has_order(answer->info, "what a cache would hit", error)) {
        return false;
    }
    answer->shape = trace_shape_new(answer->info, answer->questions.filter->mtp);
    if (answer->shape->n_layers == 0) {
        return error_set(error, "no layer with experts was recorded");
    }
    if (extent != NULL) {
        answer->extent = *extent;
    } else if (!find_extent(answer, trace, lost, error)) {
        return false;
    }
    if (answer->extent.n_prompt + answer->extent.n_generation == 0) {
        return error_set(error, "no tokens to look at");
    }
    choose_sizes(answer);
    if (!new_study(answer) || !new_llamas(answer)) {
        return error_set(error, "out of memory");
    }
    return gather(answer, &walk, error);
}

struct cache_answer * cache_answer_new(const struct trace * trace, const struct cache_questions * questions,
                                       const struct trace_extent * extent, uint64_t * lost, struct error * error) {
    struct cache_answer * answer = memory_new(1, sizeof(*answer));
    answer->questions = *questions;
    answer->info      = trace_about(trace);
    if (!answer_trace(answer, trace, extent, lost, error)) {
        cache_answer_free(answer);
        return NULL;
    }
    answer->verdict = cache_plan_verdict(answer);
    return answer;
}

void cache_answer_free(struct cache_answer * answer) {
    if (answer == NULL) {
        return;
    }
    for (size_t i = 0; i < answer->n_llama; i++) {
        llama_moe_cache_free(answer->llama[i].cache);
    }
    free(answer->llama);
    concurrency_free(answer->concurrency);
    cache_study_free(answer->study);
    trace_shape_free(answer->shape);
    free(answer->verdict);
    free(answer);
}

const char * cache_answer_verdict(const struct cache_answer * answer) {
    return answer->verdict;
}
