// Reads off what cache-gather.c saw of a trace: every rate that anybody prints, each once.

#include "answers/cache-answer.h"

#include "answers/cache-gather.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#define NEAR 0.05 // shares of requests that people would call the same

static_assert(PHASE_PROMPT     < CACHE_ANSWER_N_PHASES, "phases are the first classes");
static_assert(PHASE_GENERATION < CACHE_ANSWER_N_PHASES, "phases are the first classes");
static_assert(CACHE_SIZES_MAX == CACHE_ANSWER_SIZES_MAX, "all sizes have a place");
static_assert(1 << (CACHE_ANSWER_CONCURRENCY_MAX - 1) == CONCURRENCY_MOST, "all numbers of sequences have a place");

//
// what it is about
//

static void fill_model(struct cache_answer * answer, const struct cache_gathered * gathered) {
    const struct trace_info  * info  = gathered->info;
    const struct trace_shape * shape = gathered->shape;
    answer->model = (struct answer_model) { info->model_name, info->architecture, info->model_file, info->engine };
    answer->n_layers     = shape->n_layers;
    answer->n_expert     = shape->n_expert;
    answer->n_used       = shape->n_used;
    answer->same_experts = shape->same_experts;
    answer->bytes_known  = shape->bytes_known;
    answer->all_bytes    = shape->all_bytes;
    for (size_t i = 0; i < shape->n_layers; i++) {
        answer->all_experts += (size_t) shape->layers[i].n_expert;
    }
    answer->tokens    = gathered->extent;
    answer->max_rows  = gathered->questions.max_rows;
    answer->half_life = gathered->questions.half_life;
    for (enum phase phase = 0; phase < CACHE_ANSWER_N_PHASES; phase++) {
        answer->requests[phase] = cache_gathered_requests(gathered, phase);
    }
    answer->phase = answer->requests[PHASE_GENERATION] > 0 ? PHASE_GENERATION : PHASE_PROMPT;
}

//
// rates
//

static struct cache_answer_rates rates_of(const struct cache_gathered * gathered, size_t i_size,
                                          enum phase phase) {
    const size_t              slots = gathered->sizes[i_size];
    struct cache_answer_rates rates = {
        .pooled_static  = cache_gathered_pooled(gathered, CACHE_STATIC,  slots, phase),
        .pooled_lru     = cache_gathered_pooled(gathered, CACHE_LRU,     slots, phase),
        .pooled_optimum = cache_gathered_pooled(gathered, CACHE_OPTIMUM, slots, phase),
        .llama_cpp      = NAN,
    };
    for (enum cache_policy policy = 0; policy < CACHE_N_POLICIES; policy++) {
        rates.policies[policy] = cache_gathered_rate(gathered, policy, slots, phase);
    }
    if (i_size < gathered->n_runs) {
        rates.llama_cpp = cache_rate(gathered->runs[i_size].hits[phase][CACHE_SECOND_HALF]);
    }
    return rates;
}

static void fill_sizes(struct cache_answer * answer, const struct cache_gathered * gathered) {
    answer->n_sizes = gathered->n_sizes;
    for (size_t i = 0; i < gathered->n_sizes; i++) {
        struct cache_answer_size * size = &answer->sizes[i];
        size->slots = gathered->sizes[i];
        size->share = cache_gathered_share(gathered, size->slots);
        size->bytes = answer->bytes_known ? size->share * (double) answer->all_bytes : NAN;
        for (enum phase phase = 0; phase < CACHE_ANSWER_N_PHASES; phase++) {
            size->rates[phase] = rates_of(gathered, i, phase);
        }
    }
}

static void fill_curves(struct cache_answer * answer, const struct cache_gathered * gathered) {
    for (enum phase phase = 0; phase < CACHE_ANSWER_N_PHASES; phase++) {
        answer->lru[phase] = memory_new((size_t) answer->n_expert + 1, sizeof(*answer->lru[phase]));
        for (int32_t slots = 0; slots <= answer->n_expert; slots++) {
            answer->lru[phase][slots] = cache_gathered_rate(gathered, CACHE_LRU, (size_t) slots, phase);
        }
    }
}

static double rate_of_layer(const struct cache_gathered * gathered, enum cache_policy policy, size_t layer,
                            size_t n_slots, enum phase phase) {
    return cache_rate(cache_study_layer(gathered->study, policy, layer, n_slots, phase, CACHE_SECOND_HALF));
}

static void fill_layer(struct cache_answer_layer * layer, const struct cache_gathered * gathered, size_t i) {
    layer->layer = gathered->shape->layers[i].layer;
    for (size_t j = 0; j < gathered->n_sizes; j++) {
        for (enum phase phase = 0; phase < CACHE_ANSWER_N_PHASES; phase++) {
            for (enum cache_policy policy = 0; policy < CACHE_N_POLICIES; policy++) {
                layer->rates[j][phase][policy] = rate_of_layer(gathered, policy, i, gathered->sizes[j], phase);
            }
        }
    }
}

static void fill_layers(struct cache_answer * answer, const struct cache_gathered * gathered) {
    answer->layers = memory_new(answer->n_layers, sizeof(*answer->layers));
    for (size_t i = 0; i < answer->n_layers; i++) {
        fill_layer(&answer->layers[i], gathered, i);
    }
}

//
// distances, llama.cpp, several sequences
//

static void add_distances(struct cache_answer_distances * distances, const struct cache_gathered * gathered,
                          size_t layer, enum phase phase, uint64_t * room) {
    for (enum cache_half half = 0; half < CACHE_N_HALVES; half++) {
        distances->first += cache_study_distances(gathered->study, layer, phase, half, room);
        for (int32_t i = 0; i < gathered->shape->layers[layer].n_expert; i++) {
            distances->counts[i] += room[i];
        }
    }
}

static void fill_distances(struct cache_answer * answer, const struct cache_gathered * gathered) {
    const size_t n    = (size_t) answer->n_expert;
    uint64_t   * room = memory_new(n, sizeof(*room));
    for (enum phase phase = 0; phase < CACHE_ANSWER_N_PHASES; phase++) {
        answer->distances[phase].counts = memory_new(n, sizeof(*answer->distances[phase].counts));
        for (size_t i = 0; i < answer->n_layers; i++) {
            add_distances(&answer->distances[phase], gathered, i, phase, room);
        }
    }
    free(room);
}

static void fill_runs(struct cache_answer * answer, const struct cache_gathered * gathered) {
    answer->n_runs = gathered->n_runs;
    answer->runs   = memory_new(gathered->n_runs, sizeof(*answer->runs));
    for (size_t i = 0; i < gathered->n_runs; i++) {
        const struct cache_run  * from = &gathered->runs[i];
        struct cache_answer_run * to   = &answer->runs[i];
        to->mib     = from->budget >> 20;
        to->n_slots = from->n_slots;
        to->totals  = from->totals;
        for (enum phase phase = 0; phase < CACHE_ANSWER_N_PHASES; phase++) {
            to->rates[phase] = cache_rate(from->hits[phase][CACHE_SECOND_HALF]);
        }
    }
}

// False where the trace has fewer generated tokens. experts: [n_layers], room for its own use.
static bool concurrency_of(const struct cache_gathered * gathered, size_t n_sequences,
                           struct cache_answer_concurrency * row, double * experts) {
    const struct trace_shape * shape = gathered->shape;
    double                     sum   = 0;
    double                     all   = 0;
    double                     bytes = 0;
    if (!concurrency_experts(gathered->concurrency, n_sequences, experts)) {
        return false;
    }
    for (size_t i = 0; i < shape->n_layers; i++) {
        sum   += experts[i];
        all   += (double) shape->layers[i].n_expert;
        bytes += experts[i] * (double) shape->layers[i].expert_bytes;
    }
    *row = (struct cache_answer_concurrency) {
        n_sequences, sum / (double) shape->n_layers, sum / all, shape->bytes_known ? bytes : NAN,
    };
    return true;
}

static void fill_concurrency(struct cache_answer * answer, const struct cache_gathered * gathered) {
    double * experts = memory_new(answer->n_layers, sizeof(*experts));
    bool     known   = true;
    for (size_t i = 0; known && i < CACHE_ANSWER_CONCURRENCY_MAX; i++) {
        known = concurrency_of(gathered, (size_t) 1 << i, &answer->concurrency[i], experts);
        answer->n_concurrency += known;
    }
    free(experts);
}

//
// what it means
//

static void fill_quarters(struct cache_answer * answer) {
    const size_t slots = (size_t) lround(0.25 * (double) answer->n_expert);
    for (size_t i = 0; i < answer->n_sizes; i++) {
        const double distance = fabs(answer->sizes[i].share - 0.25);
        if (answer->sizes[i].slots == (slots == 0 ? 1 : slots)) {
            answer->quarter = i;
        }
        if (distance < fabs(answer->sizes[answer->quarter_share].share - 0.25)) {
            answer->quarter_share = i;
        }
    }
}

static enum cache_conclusion conclusion_of(const struct cache_answer_size * size, enum phase phase) {
    const double lru    = size->rates[phase].policies[CACHE_LRU];
    const double pinned = size->rates[phase].policies[CACHE_STATIC];
    return lru < size->share + NEAR && pinned < size->share + NEAR ? CACHE_IS_CHANCE
         : lru > pinned + NEAR ? CACHE_IS_BETTER
         : pinned > lru + NEAR ? CACHE_IS_WORSE : CACHE_IS_AS_GOOD;
}

struct cache_answer * cache_answer_new(const struct trace * trace, const struct cache_questions * questions,
                                       const struct trace_extent * extent, uint64_t * lost, struct error * error) {
    struct cache_gathered * gathered = cache_gather(trace, questions, extent, lost, error);
    if (gathered == NULL) {
        return NULL;
    }
    struct cache_answer * answer = memory_new(1, sizeof(*answer));
    fill_model      (answer, gathered);
    fill_sizes      (answer, gathered);
    fill_curves     (answer, gathered);
    fill_layers     (answer, gathered);
    fill_distances  (answer, gathered);
    fill_runs       (answer, gathered);
    fill_concurrency(answer, gathered);
    fill_quarters   (answer);
    answer->conclusion = conclusion_of(&answer->sizes[answer->quarter], answer->phase);
    answer->has_advice = cache_advise(gathered, answer->phase, &answer->advice);
    cache_gathered_free(gathered);
    return answer;
}

void cache_answer_free(struct cache_answer * answer) {
    if (answer == NULL) {
        return;
    }
    for (size_t i = 0; i < CACHE_ANSWER_N_PHASES; i++) {
        free(answer->lru[i]);
        free(answer->distances[i].counts);
    }
    free(answer->layers);
    free(answer->runs);
    cache_advice_free(&answer->advice);
    free(answer);
}
