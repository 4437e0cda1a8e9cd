// Counts the activations of a trace, gone through once or twice, or takes those of a statistics file.

#include "answers/routing-counts.h"

#include "analysis/counts.h"
#include "statistics/statistics-file.h"
#include "tool/input/input-kind.h"
#include "tool/input/trace-input.h"
#include "tool/input/trace-lives.h"
#include "tool/input/trace-shape.h"
#include "tool/input/trace-walk.h"
#include "tool/output-file.h"

#include <stdlib.h>
#include <string.h>

//
// a trace
//

struct gathering {
    struct routing_counts       * counts;
    const struct trace_filter   * filter;
    const struct trace_shape    * shape;
    int32_t                     * places;     // of the shape's layers among those that are chosen, -1: it is not
    bool                          with_halves;
    struct trace_halves           halves;
    struct neighbours           * neighbours; // NULL: sequences are not known
    struct trace_lives          * lives;      // sequences, their life being 0
    int8_t                      * parts;      // of the ubatch's tokens: prompt or generation, 0: not chosen
    struct neighbours_sequence ** sequences;  // likewise, NULL: no neighbour of any
    struct neighbours_reuse     * reuses;     // likewise, in all layers
    size_t                        room;
};

static struct neighbours_sequence * sequence_of(struct gathering * gathering, int32_t context,
                                                const struct trace_token * token, struct error * error) {
    struct noted_life * noted = trace_lives_at(gathering->lives, context, token->sequence, 0);
    if (noted->data == NULL) {
        noted->data = neighbours_sequence_new(gathering->neighbours);
        if (noted->data == NULL) {
            error_set(error, "out of memory");
        }
    }
    return noted->data;
}

static void make_room(struct gathering * gathering, size_t n_tokens) {
    if (n_tokens > gathering->room) {
        gathering->parts     = memory_resize(gathering->parts,     n_tokens, sizeof(*gathering->parts));
        gathering->sequences = memory_resize(gathering->sequences, n_tokens, sizeof(struct neighbours_sequence *));
        gathering->reuses    = memory_resize(gathering->reuses,    n_tokens, sizeof(*gathering->reuses));
        gathering->room      = n_tokens;
    }
}

// Drafted tokens that were rejected are what nothing came after.
static bool is_neighbour(const struct gathering * gathering, const struct trace_token * token) {
    return gathering->neighbours != NULL && token->sequence >= 0 && !token->rejected;
}

static bool take_tokens(struct gathering * gathering, const struct trace_ubatch * ubatch, struct error * error) {
    struct routing_tokens * tokens = &gathering->counts->tokens;
    make_room(gathering, (size_t) ubatch->n_tokens);
    for (int32_t i = 0; i < ubatch->n_tokens; i++) {
        const struct trace_token * token = &ubatch->tokens[i];
        gathering->parts    [i] = 0;
        gathering->sequences[i] = NULL;
        gathering->reuses   [i] = (struct neighbours_reuse) { 0, 0 };
        if (!trace_filter_has_token(gathering->filter, ubatch, i)) {
            continue;
        }
        if (ubatch->warmup) {
            tokens->warmup++;
            continue;
        }
        *(token->generation ? &tokens->generation : &tokens->prompt) += 1;
        gathering->parts[i] = token->generation ? COUNTED_GENERATION : COUNTED_PROMPT;
        if (is_neighbour(gathering, token)) {
            gathering->sequences[i] = sequence_of(gathering, ubatch->context, token, error);
            if (gathering->sequences[i] == NULL) {
                return false;
            }
        }
    }
    return true;
}

static void add_row(uint64_t * counts, const uint16_t * experts, int32_t n_used) {
    for (int32_t i = 0; i < n_used; i++) {
        counts[experts[i]]++;
    }
}

static void take_neighbour(struct gathering * gathering, const struct trace_ubatch * ubatch, int32_t place,
                           int32_t i_token, const uint16_t * experts, int32_t n_used) {
    const struct trace_token  * token = &ubatch->tokens[i_token];
    const struct neighbours_row row   = {
        .layer      = (size_t) place,
        .life       = token->life,
        .position   = token->position,
        .generation = token->generation,
        .n_experts  = (size_t) n_used,
        .experts    = experts,
    };
    const struct neighbours_reuse reuse = neighbours_row(gathering->neighbours, gathering->sequences[i_token], &row);
    gathering->reuses[i_token].shared  += reuse.shared;
    gathering->reuses[i_token].experts += reuse.experts;
}

static void take_reuses(const struct gathering * gathering, const struct trace_ubatch * ubatch) {
    for (int32_t i = 0; i < ubatch->n_tokens; i++) {
        const enum phase phase = ubatch->tokens[i].generation ? PHASE_GENERATION : PHASE_PROMPT;
        neighbours_spread_add(&gathering->counts->spreads[phase], &gathering->reuses[i]);
    }
}

static void take_layer(struct gathering * gathering, const struct trace_ubatch * ubatch,
                       const struct trace_routing * routing, int32_t place) {
    const struct counted_layer * layer = &gathering->counts->layers[place];
    const enum counted_part      part  = gathering->halves.is_second ? COUNTED_SECOND_HALF : COUNTED_FIRST_HALF;
    uint64_t                   * half  = layer->activations[part];
    for (int32_t i = 0; i < routing->n_rows; i++) {
        const int32_t    token   = routing->tokens == NULL ? i : routing->tokens[i];
        const uint16_t * experts = routing->experts + (size_t) i * (size_t) routing->n_used;
        if (gathering->parts[token] == 0) {
            continue;
        }
        add_row(layer->activations[gathering->parts[token]], experts, routing->n_used);
        if (half != NULL) {
            add_row(half, experts, routing->n_used);
        }
        if (gathering->sequences[token] != NULL) {
            take_neighbour(gathering, ubatch, place, token, experts, routing->n_used);
        }
    }
}

static bool take_ubatch(void * self, const struct trace_ubatch * ubatch, struct error * error) {
    struct gathering * gathering = self;
    trace_extent_take(&gathering->counts->extent, gathering->filter, ubatch);
    if (gathering->with_halves) {
        trace_halves_take(&gathering->halves, ubatch);
    }
    if (!take_tokens(gathering, ubatch, error)) {
        return false;
    }
    for (size_t i = 0; i < ubatch->n_layers && !ubatch->warmup; i++) {
        const int32_t layer = trace_shape_find(gathering->shape, ubatch->layers[i].layer);
        if (layer >= 0 && gathering->places[layer] >= 0) {
            take_layer(gathering, ubatch, &ubatch->layers[i], gathering->places[layer]);
        }
    }
    take_reuses(gathering, ubatch);
    return true;
}

static void choose_layers(struct gathering * gathering) {
    const struct trace_shape * shape  = gathering->shape;
    struct routing_counts    * counts = gathering->counts;
    gathering->places = memory_new(shape->n_layers, sizeof(*gathering->places));
    counts->layers    = memory_new(shape->n_layers, sizeof(*counts->layers));
    for (size_t i = 0; i < shape->n_layers; i++) {
        const struct shape_layer * from = &shape->layers[i];
        if (!trace_filter_has_layer(gathering->filter, from->layer)) {
            gathering->places[i] = -1;
            continue;
        }
        gathering->places[i] = (int32_t) counts->n_layers;
        struct counted_layer * to = &counts->layers[counts->n_layers++];
        *to = (struct counted_layer) { .layer = from->layer, .n_used = from->n_used, .expert_bytes = from->expert_bytes,
                                       .n_expert = (size_t) from->n_expert };
        for (int part = 0; part < (gathering->with_halves ? COUNTED_N_PARTS : COUNTED_FIRST_HALF); part++) {
            to->activations[part] = memory_new(to->n_expert, sizeof(uint64_t));
        }
    }
}

static bool remember_neighbours(struct gathering * gathering) {
    const struct routing_counts * counts = gathering->counts;
    struct neighbours_layer     * layers = memory_new(counts->n_layers, sizeof(*layers));
    for (size_t i = 0; i < counts->n_layers; i++) {
        layers[i] = (struct neighbours_layer) { (int32_t) counts->layers[i].n_expert, counts->layers[i].n_used };
    }
    gathering->lives      = trace_lives_new();
    gathering->neighbours = neighbours_new(counts->n_layers, layers);
    free(layers);
    return gathering->neighbours != NULL;
}

static void forget_neighbours(struct gathering * gathering) {
    if (gathering->lives != NULL) {
        for (size_t i = 0; i < trace_lives_n(gathering->lives); i++) {
            neighbours_sequence_free(trace_lives_get(gathering->lives, i)->data);
        }
        trace_lives_free(gathering->lives);
    }
    neighbours_free(gathering->neighbours);
}

// Tokens whose phase is not known were counted as a prompt.
static void finish_layer(const struct gathering * gathering, size_t i, bool phases_known) {
    struct counted_layer * layer = &gathering->counts->layers[i];
    const uint64_t       * prompt     = layer->activations[COUNTED_PROMPT];
    const uint64_t       * generation = layer->activations[COUNTED_GENERATION];
    for (size_t k = 0; k < layer->n_expert; k++) {
        layer->activations[COUNTED_ALL][k] = prompt[k] + generation[k];
    }
    for (int part = COUNTED_PROMPT; part <= COUNTED_GENERATION && !phases_known; part++) {
        free(layer->activations[part]);
        layer->activations[part] = NULL;
    }
    if (gathering->neighbours != NULL) {
        layer->prompt     = neighbours_reuse(gathering->neighbours, i, false);
        layer->generation = neighbours_reuse(gathering->neighbours, i, true);
    }
}

static void finish(const struct gathering * gathering, bool phases_known) {
    struct routing_counts * counts = gathering->counts;
    for (size_t i = 0; i < counts->n_layers; i++) {
        finish_layer(gathering, i, phases_known);
    }
    counts->tokens.all = counts->tokens.prompt + counts->tokens.generation;
    if (!phases_known) {
        counts->tokens.prompt     = -1;
        counts->tokens.generation = -1;
    }
}

static bool find_halves(struct gathering * gathering, struct error * error) {
    struct trace_walk walk = {
        .trace  = gathering->counts->trace,
        .filter = gathering->filter,
        .what   = "looking for the half",
    };
    gathering->halves.filter = gathering->filter;
    return trace_extent(&walk, &gathering->halves.all, error);
}

static bool gather(struct routing_counts * counts, const struct trace_filter * filter, bool halves,
                   struct error * error) {
    const bool           phases_known = trace_about(counts->trace)->phases_known;
    struct trace_shape * shape        = trace_shape_new(trace_about(counts->trace), filter->mtp, NULL);
    struct gathering     gathering    = { .counts = counts, .filter = filter, .shape = shape, .with_halves = halves };
    struct trace_walk    walk         = { .trace = counts->trace, .filter = filter, .what = "counting" };
    choose_layers(&gathering);
    const bool ok = (!halves || find_halves(&gathering, error))
                 && (!phases_known || remember_neighbours(&gathering) || error_set(error, "out of memory"))
                 && trace_walk(&walk, take_ubatch, &gathering, error);
    counts->lost = walk.lost;
    if (ok) {
        finish(&gathering, phases_known);
    }
    forget_neighbours(&gathering);
    free(gathering.parts);
    free(gathering.sequences);
    free(gathering.reuses);
    free(gathering.places);
    trace_shape_free(shape);
    return ok;
}

static bool take_trace(struct routing_counts * counts, const struct trace * trace, const struct trace_filter * filter,
                       bool halves, struct error * error) {
    const struct trace_info * info = trace_about(trace);
    struct error              cause;
    counts->trace = trace;
    counts->model = (struct answer_model) { info->model_name, info->architecture, info->model_file, info->engine };
    if (!trace_filter_fits(filter, info, &cause) || !gather(counts, filter, halves, &cause)) {
        return error_set(error, "%s: %s", routing_counts_name(counts), cause.text);
    }
    return true;
}

static bool load_trace(struct routing_counts * counts, const struct trace_filter * filter, bool halves,
                       struct error * error) {
    char why[TRACE_ERROR_MAX];
    counts->own_trace = trace_open(counts->path, why);
    return counts->own_trace != NULL ? take_trace(counts, counts->own_trace, filter, halves, error)
                                     : error_set(error, "%s", why);
}

//
// statistics
//

static const char * known_text(const char * text) {
    return text == NULL || *text == '\0' ? NULL : text;
}

static int64_t known_number(int64_t number) {
    return number < 0 ? -1 : number;
}

static void take_statistics_layer(struct routing_counts * counts, size_t i) {
    const struct statistics         * statistics = counts->statistics;
    const struct statistics_section * section    = &statistics->model;
    const uint32_t                    number     = section->per_layer.layers[i];
    const int64_t                     own        = statistics_value(&statistics->n_expert_used_per_layer, number);
    struct counted_layer            * layer      = &counts->layers[counts->n_layers++];
    layer->layer        = (int32_t) number;
    layer->n_used       = (int32_t) known_number(own >= 0 ? own : statistics->n_expert_used);
    layer->expert_bytes = -1;
    layer->n_expert     = statistics_n_expert(statistics, section, number);
    layer->activations[COUNTED_ALL] = memory_new(layer->n_expert, sizeof(uint64_t));
    memcpy(layer->activations[COUNTED_ALL], section->per_layer.activations[i], layer->n_expert * sizeof(uint64_t));
}

static bool chooses_rows(const struct trace_filter * filter) {
    return filter->sequences.n > 0 || filter->positions.n > 0 || filter->ubatches.n > 0 || filter->phases != 0;
}

static bool load_statistics(struct routing_counts * counts, const struct trace_filter * filter, struct error * error) {
    const struct statistics * statistics = counts->statistics = statistics_file_load(counts->path, error);
    if (statistics == NULL) {
        return false;
    }
    if (chooses_rows(filter)) {
        return error_set(error,
                         "%s: statistics are sums: --phase, --sequence, --tokens and --ubatch choose from a trace",
                         routing_counts_name(counts));
    }
    counts->model  = (struct answer_model) {
        .name         = known_text(statistics->name),
        .architecture = known_text(statistics->architecture),
        .file         = known_text(statistics->file),
        .engine       = known_text(statistics->engine),
    };
    counts->tokens = (struct routing_tokens) {
        .all        = known_number(statistics->model.total_tokens),
        .prompt     = known_number(statistics->prompt_tokens),
        .generation = known_number(statistics->generation_tokens),
        .warmup     = known_number(statistics->warmup_tokens),
    };
    counts->layers = memory_new(statistics->model.per_layer.n, sizeof(*counts->layers));
    for (size_t i = 0; i < statistics->model.per_layer.n; i++) {
        if (trace_filter_has_layer(filter, (int32_t) statistics->model.per_layer.layers[i])) {
            take_statistics_layer(counts, i);
        }
    }
    return true;
}

struct routing_counts * routing_counts_load(const char * path, const struct trace_filter * filter, bool halves,
                                            struct error * error) {
    enum input_kind kind;
    if (!input_kind_of(path, &kind, error)) {
        return NULL;
    }
    output_file_protect(path);
    struct routing_counts * counts = memory_new(1, sizeof(*counts));
    counts->path = path;
    if (kind == INPUT_TRACE ? load_trace(counts, filter, halves, error) : load_statistics(counts, filter, error)) {
        return counts;
    }
    routing_counts_free(counts);
    return NULL;
}

struct routing_counts * routing_counts_of(const char * name, const struct trace * trace,
                                          const struct trace_filter * filter, bool halves, struct error * error) {
    struct routing_counts * counts = memory_new(1, sizeof(*counts));
    counts->path = name;
    if (take_trace(counts, trace, filter, halves, error)) {
        return counts;
    }
    routing_counts_free(counts);
    return NULL;
}

void routing_counts_free(struct routing_counts * counts) {
    for (size_t i = 0; i < counts->n_layers; i++) {
        for (int part = 0; part < COUNTED_N_PARTS; part++) {
            free(counts->layers[i].activations[part]);
        }
    }
    trace_close(counts->own_trace);
    statistics_free(counts->statistics);
    free(counts->layers);
    free(counts);
}

int routing_counts_check(const struct routing_counts * counts) {
    return counts->trace == NULL ? STATUS_OK
                                 : trace_input_check(counts->path, trace_about(counts->trace), counts->lost);
}

const char * routing_counts_name(const struct routing_counts * counts) {
    return trace_input_name(counts->path);
}
