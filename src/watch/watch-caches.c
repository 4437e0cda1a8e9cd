// Shows each layer of each ubatch to the caches at all sizes at once.

#include "watch/watch-caches.h"

#include "analysis/lru-curve.h"
#include "answers/cache-llama.h"
#include "answers/cache-questions.h"
#include "answers/cache-rows.h"
#include "tool/error.h"
#include "tool/input/gguf-model.h"
#include "tool/input/trace-shape.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct watch_caches {
    struct trace_shape      * shape;
    struct cache_rows         rows;
    size_t                    n_sizes;
    int32_t                   max_rows;
    struct lru_curve       ** lru;       // [n_layers]
    struct llama_moe_cache  * llama      [WATCH_N_SIZES]; // NULL: bytes are not known
    size_t                    llama_slots[WATCH_N_SIZES];
    struct watch_cache_sums   sums;

    // of a step: distinct experts in the order in which they appear first
    uint32_t                * seen;      // [n_expert] by expert: the round that saw it last
    uint32_t                  round;
    uint16_t                * experts;
    uint32_t                * keys;
    int32_t                 * distances;
    bool                    * hits;
    size_t                    n_experts;
};

//
// the model's shape
//

static const struct gguf_model_layer * find_bytes(const struct gguf_model * file, int32_t layer) {
    for (size_t i = 0; file != NULL && i < file->n_layers; i++) {
        if (file->layers[i].layer == layer) {
            return &file->layers[i];
        }
    }
    return NULL;
}

// As the table of a trace that is recorded would be.
static struct trace_shape * new_shape(const struct live_view_model * model, const struct routing_layer * layers,
                                      size_t n, const struct gguf_model * file) {
    struct trace_layer  * table_layers = memory_new(n, sizeof(*table_layers));
    struct trace_tensor * tensors      = memory_new(n * ROUTING_TENSORS_MAX, sizeof(*tensors));
    for (size_t i = 0; i < n; i++) {
        const struct gguf_model_layer * bytes = find_bytes(file, layers[i].layer);
        struct trace_tensor           * its   = tensors + i * ROUTING_TENSORS_MAX;
        table_layers[i] = (struct trace_layer) { layers[i].layer, layers[i].n_expert, layers[i].n_used, 0, its };
        for (size_t j = 0; bytes != NULL && j < bytes->n_tensors && j < ROUTING_TENSORS_MAX; j++) {
            its[j] = (struct trace_tensor) { "", (int64_t) bytes->tensor_bytes[j] };
            table_layers[i].n_tensors++;
        }
    }
    const struct trace_table table = { n, table_layers };
    const struct trace_info  info  = { .n_layer = model->n_layer, .n_tables = 1, .tables = &table };
    struct trace_shape     * shape = trace_shape_new(&info, false, NULL);
    free(table_layers);
    free(tensors);
    return shape;
}

static struct trace_shape * read_shape(const struct live_view_model * model, const struct routing_layer * layers,
                                       size_t n, uid_t user) {
    struct gguf_model  * file  = gguf_model_open_named(model->file, user);
    struct trace_shape * shape = new_shape(model, layers, n, file);
    gguf_model_free(file);
    return shape;
}

//
// making
//

// Sizes that are asked for need bytes.
static bool make_rows(struct watch_caches * caches, const struct watch_caches_options * options) {
    struct error           error;
    struct cache_questions questions = cache_questions_default(NULL);
    questions.budgets   = options->asked;
    questions.n_budgets = caches->shape->bytes_known ? options->n_asked : 0;
    caches->max_rows    = questions.max_rows;
    if (!cache_rows_make(&caches->rows, caches->shape, &questions, &error)) {
        return false;
    }
    caches->n_sizes = caches->rows.n < WATCH_N_SIZES ? caches->rows.n : WATCH_N_SIZES;
    return true;
}

static void make_llama(struct watch_caches * caches) {
    for (size_t i = 0; caches->shape->bytes_known && i < caches->n_sizes; i++) {
        caches->llama[i] = cache_llama_new(caches->shape, NULL, caches->rows.rows[i].bytes, caches->max_rows,
                                           &caches->llama_slots[i]);
    }
}

static bool make_lru(struct watch_caches * caches) {
    bool ok = true;
    caches->lru = memory_new(caches->shape->n_layers, sizeof(struct lru_curve *));
    for (size_t i = 0; ok && i < caches->shape->n_layers; i++) {
        caches->lru[i] = lru_curve_new((size_t) caches->shape->layers[i].n_expert);
        ok = caches->lru[i] != NULL;
    }
    return ok;
}

struct watch_caches * watch_caches_new(const struct live_view_model * model, const struct routing_layer * layers,
                                       size_t n, const struct watch_caches_options * options) {
    struct watch_caches * caches = memory_new(1, sizeof(*caches));
    caches->shape = read_shape(model, layers, n, options->user);
    const size_t n_expert = (size_t) caches->shape->n_expert;
    if (n_expert == 0 || !make_rows(caches, options) || !make_lru(caches)) {
        watch_caches_free(caches);
        return NULL;
    }
    make_llama(caches);
    caches->seen      = memory_new(n_expert, sizeof(*caches->seen));
    caches->experts   = memory_new(n_expert, sizeof(*caches->experts));
    caches->keys      = memory_new(n_expert, sizeof(*caches->keys));
    caches->distances = memory_new(n_expert, sizeof(*caches->distances));
    caches->hits      = memory_new(n_expert, sizeof(*caches->hits));
    return caches;
}

void watch_caches_free(struct watch_caches * caches) {
    if (caches == NULL) {
        return;
    }
    for (size_t i = 0; caches->lru != NULL && i < caches->shape->n_layers; i++) {
        lru_curve_free(caches->lru[i]);
    }
    for (size_t i = 0; i < WATCH_N_SIZES; i++) {
        llama_moe_cache_free(caches->llama[i]);
    }
    cache_rows_free (&caches->rows);
    trace_shape_free(caches->shape);
    free(caches->lru);
    free(caches->seen);
    free(caches->experts);
    free(caches->keys);
    free(caches->distances);
    free(caches->hits);
    free(caches);
}

bool watch_caches_know(const struct watch_caches * caches, const struct routing_ubatch * ubatch) {
    for (int32_t i = 0; i < ubatch->n_layers; i++) {
        const struct routing_layer * layer = &ubatch->layers[i];
        const int32_t                at    = trace_shape_find(caches->shape, layer->layer);
        if (at < 0 || layer->n_expert > caches->shape->layers[at].n_expert ||
            layer->n_used > caches->shape->layers[at].n_used) {
            return false;
        }
    }
    return true;
}

//
// steps
//

static void take_step(struct watch_caches * caches, const struct routing_layer * layer) {
    const size_t n = (size_t) layer->n_tokens * (size_t) layer->n_used;
    caches->n_experts = 0;
    if (++caches->round == 0) {
        memset(caches->seen, 0, (size_t) caches->shape->n_expert * sizeof(*caches->seen));
        caches->round = 1;
    }
    for (size_t i = 0; i < n; i++) {
        const uint16_t expert = (uint16_t) layer->experts[i];
        if (caches->seen[expert] != caches->round) {
            caches->seen   [expert]            = caches->round;
            caches->experts[caches->n_experts] = expert;
            caches->keys   [caches->n_experts] = expert;
            caches->n_experts++;
        }
    }
}

static void show_lru(struct watch_caches * caches, const struct cache_step * step) {
    struct lru_curve * lru = caches->lru[step->layer];
    lru_curve_look(lru, caches->keys, step->n_experts, caches->distances);
    for (size_t i = 0; step->class < N_TOKEN_PHASES && i < caches->n_sizes; i++) {
        const int32_t n_slots = (int32_t) caches->rows.rows[i].layers[step->layer];
        uint64_t      n       = 0;
        for (size_t j = 0; j < step->n_experts; j++) {
            n += caches->distances[j] >= 0 && caches->distances[j] < n_slots;
        }
        caches->sums.lru[step->class][i] += n;
    }
    if (step->n_rows <= caches->max_rows) {
        lru_curve_touch(lru, caches->keys, step->n_experts);
    }
}

static void show_llama(struct watch_caches * caches, const struct cache_step * step) {
    for (size_t i = 0; i < caches->n_sizes && caches->llama[i] != NULL; i++) {
        llama_moe_cache_step(caches->llama[i], step, caches->hits);
        uint64_t n = 0;
        for (size_t j = 0; j < step->n_experts; j++) {
            n += caches->hits[j];
        }
        if (step->class < N_TOKEN_PHASES) {
            caches->sums.llama[step->class][i] += n;
        }
    }
}

void watch_caches_layer(struct watch_caches * caches, const struct routing_layer * layer, enum phase phase) {
    take_step(caches, layer);
    const struct cache_step step = {
        .layer     = (size_t) trace_shape_find(caches->shape, layer->layer),
        .n_rows    = layer->n_tokens,
        .class     = phase,
        .n_experts = caches->n_experts,
        .experts   = caches->experts,
    };
    if (step.n_experts == 0) {
        return;
    }
    show_lru  (caches, &step);
    show_llama(caches, &step);
    if (phase < N_TOKEN_PHASES) {
        caches->sums.requests[phase] += step.n_experts;
    }
}

//
// what is seen
//

const struct watch_cache_sums * watch_caches_sums(const struct watch_caches * caches) {
    return &caches->sums;
}

void watch_caches_fill(const struct watch_caches * caches, struct watch_frame * frame) {
    frame->n_sizes     = caches->n_sizes;
    frame->bytes_known = caches->shape->bytes_known;
    frame->all_bytes   = caches->shape->bytes_known ? (double) caches->shape->all_bytes : NAN;
    for (size_t i = 0; i < caches->n_sizes; i++) {
        const struct cache_row * row = &caches->rows.rows[i];
        frame->sizes[i] = (struct watch_size) {
            .slots = row->slots, .share = row->share, .bytes = row->bytes, .is_asked = row->is_asked,
            .llama_slots = caches->llama_slots[i],
        };
    }
}

void watch_caches_share(struct watch_share shares[WATCH_N_PHASES], const struct watch_cache_sums * now,
                        const struct watch_cache_sums * before, bool llama, size_t i_size) {
    uint64_t hits[N_TOKEN_PHASES], of[N_TOKEN_PHASES];
    for (enum phase phase = 0; phase < N_TOKEN_PHASES; phase++) {
        hits[phase] = llama ? now->llama[phase][i_size] : now->lru[phase][i_size];
        of  [phase] = now->requests[phase];
        if (before != NULL) {
            hits[phase] -= llama ? before->llama[phase][i_size] : before->lru[phase][i_size];
            of  [phase] -= before->requests[phase];
        }
    }
    watch_shares_set(shares, hits, of);
}
