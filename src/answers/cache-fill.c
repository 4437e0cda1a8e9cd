// Reads off what cache-gather.c saw of a trace: every rate that anybody prints, each once.

#include "answers/cache-fill.h"

#include "answers/cache-advise.h"
#include "answers/cache-gather.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

static_assert(PHASE_PROMPT     < CACHE_ANSWER_N_PHASES, "phases are the first classes");
static_assert(PHASE_GENERATION < CACHE_ANSWER_N_PHASES, "phases are the first classes");
static_assert(CACHE_BOTH == CACHE_ANSWER_N_PHASES, "both phases come after each of them");
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
}

//
// rates
//

static bool is_known_in(const struct cache_gathered * gathered, enum cache_span span, enum cache_column column,
                        size_t i_size) {
    switch (column) {
        case CACHE_LLAMA:
            return gathered->runs != NULL && gathered->runs[i_size].n_slots > 0;
        case CACHE_LAYERS:
            return gathered->shape->bytes_known;
        case CACHE_STATIC:
        case CACHE_OPTIMUM:
        case CACHE_SHARED_STATIC:
            return span == CACHE_JUDGED;
        default:
            return true;
    }
}

static void fill_rates(struct cache_answer_rates * rates, const struct cache_gathered * gathered,
                       const struct resample_draws * draws, enum cache_span span, size_t i_size) {
    const struct cache_value unknown = { NAN, NAN, NAN };
    for (enum cache_column column = 0; column < CACHE_N_COLUMNS; column++) {
        const bool is_known = is_known_in(gathered, span, column, i_size);
        rates->columns[column] = is_known ? cache_value_of(draws, cache_series_of(gathered->n_sizes, column, i_size))
                                          : unknown;
    }
    rates->oracle = unknown;
}

static bool draw(const struct cache_gathered * gathered, enum cache_span span, size_t class,
                 struct resample_draws * draws) {
    const size_t first = cache_series_first(gathered->n_sizes, span, class);
    return resample_draw(gathered->samples, first, first, cache_series_count_of(gathered->n_sizes), draws);
}

static bool fill_whole_run(struct cache_answer * answer, const struct cache_gathered * gathered) {
    bool ok = true;
    for (size_t class = 0; ok && class < CACHE_N_CLASSES; class++) {
        struct resample_draws draws;
        ok = draw(gathered, CACHE_WHOLE_RUN, class, &draws);
        for (size_t i = 0; ok && i < answer->n_sizes; i++) {
            fill_rates(&answer->sizes[i].whole[class], gathered, &draws, CACHE_WHOLE_RUN, i);
        }
        resample_draws_free(&draws);
    }
    return ok;
}

static bool fill_oracle(struct cache_answer * answer, const struct cache_gathered * gathered) {
    struct resample_draws draws;
    const bool ok = resample_draw(gathered->answers, 0, 0, 1 + gathered->rows.n, &draws);
    for (size_t i = 0; ok && i < answer->n_sizes; i++) {
        answer->sizes[i].judged[PHASE_GENERATION].oracle = cache_value_of(&draws, 1 + i);
    }
    resample_draws_free(&draws);
    return ok;
}

static void fill_phase(struct cache_answer * answer, const struct cache_gathered * gathered,
                       const struct resample_draws * draws, enum phase phase) {
    answer->requests[phase] = (uint64_t) draws->totals[0];
    answer->units   [phase] = (struct cache_answer_units) { draws->by_lives, draws->n_units };
    for (size_t i = 0; i < answer->n_sizes; i++) {
        fill_rates(&answer->sizes[i].judged[phase], gathered, draws, CACHE_JUDGED, i);
    }
}

// Generation where there is any that was judged, unless the trace is about prompts.
static enum phase main_phase(const struct cache_answer * answer, enum phase wanted) {
    return answer->requests[wanted] > 0 ? wanted : wanted == PHASE_PROMPT ? PHASE_GENERATION : PHASE_PROMPT;
}

// The second half, and what it means.
static bool fill_judged(struct cache_answer * answer, const struct cache_gathered * gathered) {
    struct resample_draws draws[CACHE_ANSWER_N_PHASES] = { { 0 } };
    bool                  ok = true;
    for (enum phase phase = 0; ok && phase < CACHE_ANSWER_N_PHASES; phase++) {
        ok = draw(gathered, CACHE_JUDGED, phase, &draws[phase]);
        if (ok) {
            fill_phase(answer, gathered, &draws[phase], phase);
        }
    }
    ok = ok && fill_oracle(answer, gathered);
    if (ok) {
        answer->phase = main_phase(answer, gathered->phase);
        cache_advise(answer, gathered, &draws[answer->phase]);
    }
    for (enum phase phase = 0; phase < CACHE_ANSWER_N_PHASES; phase++) {
        resample_draws_free(&draws[phase]);
    }
    return ok;
}

static void fill_sizes(struct cache_answer * answer, const struct cache_gathered * gathered) {
    const struct trace_shape * shape = gathered->shape;
    answer->n_sizes = gathered->rows.n;
    answer->sizes   = memory_new(gathered->rows.n, sizeof(*answer->sizes));
    answer->row     = cache_gathered_row(gathered);
    answer->floor   = cache_rows_floor(shape);
    for (size_t i = 0; i < gathered->rows.n; i++) {
        const struct cache_row   * row  = &gathered->rows.rows[i];
        struct cache_answer_size * size = &answer->sizes[i];
        size->is_asked    = row->is_asked;
        size->slots       = row->slots;
        size->share       = row->share;
        size->bytes       = row->bytes;
        size->n_whole     = shape->n_layers - row->whole;
        size->first_whole = row->whole < shape->n_layers ? shape->layers[row->whole].layer
                                                         : shape->layers[shape->n_layers - 1].layer + 1;
        if (gathered->runs != NULL) {
            size->llama_slots = gathered->runs[i].n_slots;
            size->totals      = gathered->runs[i].totals;
        }
    }
}

static void fill_curves(struct cache_answer * answer, const struct cache_gathered * gathered) {
    for (enum phase phase = 0; phase < CACHE_ANSWER_N_PHASES; phase++) {
        answer->lru[phase] = memory_new((size_t) answer->n_expert + 1, sizeof(*answer->lru[phase]));
        for (int32_t slots = 0; slots <= answer->n_expert; slots++) {
            struct cache_hits sum = { 0 };
            for (size_t i = 0; i < answer->n_layers; i++) {
                const struct cache_hits hits = cache_study_layer(gathered->study, CACHE_LRU, i, (size_t) slots, phase,
                                                                 CACHE_SECOND_HALF);
                sum.requests += hits.requests;
                sum.hits     += hits.hits;
            }
            answer->lru[phase][slots] = cache_rate(sum);
        }
    }
}

static void fill_layer(struct cache_answer_layer * layer, const struct cache_gathered * gathered, size_t i) {
    layer->layer = gathered->shape->layers[i].layer;
    layer->rates = memory_new(gathered->rows.n, sizeof(*layer->rates));
    for (size_t j = 0; j < gathered->rows.n; j++) {
        for (enum phase phase = 0; phase < CACHE_ANSWER_N_PHASES; phase++) {
            for (enum cache_column column = 0; column <= CACHE_OPTIMUM; column++) {
                layer->rates[j][phase][column] = cache_rate(cache_study_layer_at(gathered->study, column, i, j, phase,
                                                                                 CACHE_SECOND_HALF));
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
// distances, several sequences
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
// the whole
//

static bool fill(struct cache_answer * answer, const struct cache_gathered * gathered) {
    fill_model      (answer, gathered);
    fill_sizes      (answer, gathered);
    fill_curves     (answer, gathered);
    fill_layers     (answer, gathered);
    fill_distances  (answer, gathered);
    fill_concurrency(answer, gathered);
    return fill_whole_run(answer, gathered) && fill_judged(answer, gathered);
}

struct cache_answer * cache_fill(const struct trace * trace, const struct cache_questions * questions,
                                       const struct trace_extent * extent, uint64_t * lost, struct error * error) {
    struct cache_gathered * gathered = cache_gather(trace, questions, extent, lost, error);
    if (gathered == NULL) {
        return NULL;
    }
    struct cache_answer * answer = memory_new(1, sizeof(*answer));
    const bool            ok     = fill(answer, gathered) || error_set(error, "out of memory");
    cache_gathered_free(gathered);
    if (!ok) {
        cache_answer_free(answer);
        return NULL;
    }
    return answer;
}
