// Follows the ubatches of a ring, and keeps the sums of each second so that those of a window are known.

#include "watch/watch-order.h"

#include "analysis/neighbours.h"
#include "tool/error.h"
#include "watch/watch-sequences.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct sums {
    uint64_t                n_tokens;
    struct neighbours_reuse reuse[N_TOKEN_PHASES];
    struct watch_cache_sums caches;
};

// A layer that was routed, by its place.
struct placed_layer {
    int32_t layer;
    int32_t n_expert;
    size_t  first; // of its slots
};

struct watch_order {
    struct watch_caches_options options;
    bool                        is_in_vain; // what is routed cannot be followed

    // as soon as the model's layers are known
    size_t                      n_layers;
    struct placed_layer       * layers;
    struct neighbours         * neighbours;
    struct watch_sequences    * sequences;
    struct watch_caches       * caches;
    struct sums                 now;
    struct sums                 seconds[WATCH_SECONDS_MAX]; // at the end of each, the newest at `next` - 1
    size_t                      next;
    size_t                      n_seconds;

    // of a ubatch
    struct watched_sequence  ** of_token; // NULL: nothing is known of it
    uint16_t                  * experts;  // of a row
    size_t                      room;
};

struct watch_order * watch_order_new(const struct watch_caches_options * options) {
    struct watch_order * order = memory_new(1, sizeof(*order));
    order->options = *options;
    return order;
}

static void forget_layers(struct watch_order * order) {
    watch_sequences_free(order->sequences); // before the neighbours, of whom they hold some
    neighbours_free     (order->neighbours);
    watch_caches_free   (order->caches);
    free(order->layers);
    free(order->experts);
    free(order->of_token);
}

void watch_order_free(struct watch_order * order) {
    if (order != NULL) {
        forget_layers(order);
        free(order);
    }
}

//
// layers
//

static void release_neighbour(void * data) {
    neighbours_sequence_free(data);
}

// A layer's numbers, without rows.
static void add_layer(struct routing_layer * layers, size_t * n, const struct routing_layer * layer) {
    size_t at = 0;
    while (at < *n && layers[at].layer != layer->layer) {
        at++;
    }
    if (at == *n) {
        layers[(*n)++] = (struct routing_layer) { .layer = layer->layer };
    }
    layers[at].n_expert = layer->n_expert > layers[at].n_expert ? layer->n_expert : layers[at].n_expert;
    layers[at].n_used   = layer->n_used   > layers[at].n_used   ? layer->n_used   : layers[at].n_used;
}

// The layers of the model, as counted by now, and of the ubatch: that may lack the last one, which routes only tokens
// whose output is asked for. Memory of the caller.
static struct routing_layer * find_layers(const struct live_view_model * model, const struct routing_ubatch * ubatch,
                                          size_t * n) {
    const struct counters_table * table  = &model->counts.table;
    struct routing_layer        * layers = memory_new((size_t) (table->n_layers + ubatch->n_layers), sizeof(*layers));
    for (int32_t i = 0; i < table->n_layers; i++) {
        if (live_view_has_layer(model, i)) {
            add_layer(layers, n, &(struct routing_layer) {
                .layer = i, .n_expert = table->layers[i].n_expert, .n_used = table->layers[i].n_used,
            });
        }
    }
    for (int32_t i = 0; i < ubatch->n_layers; i++) {
        add_layer(layers, n, &ubatch->layers[i]);
    }
    return layers;
}

static size_t place_layers(struct watch_order * order, const struct routing_layer * layers, size_t n, size_t * n_used) {
    size_t n_slots = 0;
    order->n_layers = n;
    order->layers   = memory_new(n, sizeof(*order->layers));
    for (size_t i = 0; i < n; i++) {
        order->layers[i] = (struct placed_layer) { layers[i].layer, layers[i].n_expert, n_slots };
        n_slots += (size_t) layers[i].n_expert;
        *n_used  = (size_t) layers[i].n_used > *n_used ? (size_t) layers[i].n_used : *n_used;
    }
    return n_slots;
}

static struct neighbours * new_neighbours(const struct routing_layer * layers, size_t n) {
    struct neighbours_layer * its = memory_new(n, sizeof(*its));
    for (size_t i = 0; i < n; i++) {
        its[i] = (struct neighbours_layer) { layers[i].n_expert, layers[i].n_used };
    }
    struct neighbours * neighbours = neighbours_new(n, its);
    free(its);
    return neighbours;
}

// A model has the same layers in all ubatches; where it has not after all, all begins anew.
static void learn_layers(struct watch_order * order, const struct live_view_model * model,
                         const struct routing_ubatch * ubatch) {
    const struct watch_caches_options options = order->options;
    size_t                           n       = 0;
    size_t                           n_used  = 0;
    struct routing_layer           * layers  = find_layers(model, ubatch, &n);
    forget_layers(order);
    *order = (struct watch_order) { .options = options };
    const size_t n_slots = place_layers(order, layers, n, &n_used);
    order->neighbours = new_neighbours(layers, n);
    order->sequences  = watch_sequences_new(n_slots, release_neighbour);
    order->caches     = watch_caches_new(model, layers, n, &options);
    order->experts    = memory_new(n_used, sizeof(*order->experts));
    free(layers);
}

// Layers are in the order of evaluation, and the same ones each time: most are where they were.
static const struct placed_layer * find_layer(const struct watch_order * order, const struct routing_layer * layer,
                                              size_t hint) {
    if (hint < order->n_layers && order->layers[hint].layer == layer->layer) {
        return &order->layers[hint];
    }
    for (size_t i = 0; i < order->n_layers; i++) {
        if (order->layers[i].layer == layer->layer) {
            return &order->layers[i];
        }
    }
    return NULL;
}

static bool is_followed(const struct watch_order * order, const struct routing_ubatch * ubatch) {
    return ubatch->lost == NULL && ubatch->n_layers > 0 && !order->is_in_vain;
}

static bool knows(const struct watch_order * order, const struct routing_ubatch * ubatch) {
    return order->caches != NULL && order->neighbours != NULL && watch_caches_know(order->caches, ubatch);
}

bool watch_order_is_new(const struct watch_order * order, const struct routing_ubatch * ubatch) {
    return is_followed(order, ubatch) && !knows(order, ubatch);
}

//
// ubatches
//

static void find_sequences(struct watch_order * order, uint32_t context, const struct routing_ubatch * ubatch) {
    if (ubatch->n_tokens > order->room) {
        order->room     = (size_t) ubatch->n_tokens;
        order->of_token = memory_resize(order->of_token, order->room, sizeof(struct watched_sequence *));
    }
    for (size_t i = 0; i < ubatch->n_tokens; i++) {
        const struct expert_tracer_token * token = ubatch->tokens == NULL ? NULL : &ubatch->tokens[i];
        order->of_token[i] = token == NULL || token->sequence < 0 ? NULL
                           : watch_sequences_token(order->sequences, context, token, ubatch->time);
    }
}

static void take_reuse(struct watch_order * order, size_t at, const struct expert_tracer_token * token,
                       struct watched_sequence * sequence, size_t n_used) {
    void ** neighbour = watch_sequences_data(sequence);
    if (*neighbour == NULL) {
        *neighbour = neighbours_sequence_new(order->neighbours);
    }
    if (*neighbour == NULL) {
        return;
    }
    const struct neighbours_row   row   = {
        .layer = at, .life = token->life, .position = token->position, .generation = token->generation,
        .n_experts = n_used, .experts = order->experts,
    };
    const struct neighbours_reuse reuse = neighbours_row(order->neighbours, *neighbour, &row);
    struct neighbours_reuse     * sum   = &order->now.reuse[token->generation ? PHASE_GENERATION : PHASE_PROMPT];
    sum->experts += reuse.experts;
    sum->shared  += reuse.shared;
}

static void take_row(struct watch_order * order, const struct placed_layer * place, const struct routing_layer * layer,
                     const struct routing_ubatch * ubatch, int32_t i_row) {
    const int32_t             i_token  = layer->rows == NULL ? i_row : layer->rows[i_row];
    struct watched_sequence * sequence = order->of_token[i_token];
    const int32_t           * experts  = layer->experts + (size_t) i_row * (size_t) layer->n_used;
    if (sequence == NULL) {
        return;
    }
    for (int32_t i = 0; i < layer->n_used; i++) {
        order->experts[i] = (uint16_t) experts[i];
        watch_sequences_use(sequence, place->first + (size_t) experts[i]);
    }
    take_reuse(order, (size_t) (place - order->layers), &ubatch->tokens[i_token], sequence, (size_t) layer->n_used);
}

// Generation where every row is of a generated token. What is not known is not counted.
static enum phase phase_of(const struct routing_ubatch * ubatch, const struct routing_layer * layer) {
    enum phase phase = PHASE_GENERATION;
    if (ubatch->tokens == NULL || ubatch->fate != ROUTING_COUNT) {
        return PHASE_WARMUP;
    }
    for (int32_t i = 0; i < layer->n_tokens && phase == PHASE_GENERATION; i++) {
        const int32_t token = layer->rows == NULL ? i : layer->rows[i];
        phase = ubatch->tokens[token].generation ? PHASE_GENERATION : PHASE_PROMPT;
    }
    return phase;
}

static void take_layer(struct watch_order * order, const struct routing_ubatch * ubatch, size_t i_layer) {
    const struct routing_layer * layer  = &ubatch->layers[i_layer];
    const struct placed_layer  * place  = find_layer(order, layer, i_layer);
    const bool                   counts = ubatch->rows_known && ubatch->fate == ROUTING_COUNT;
    watch_caches_layer(order->caches, layer, phase_of(ubatch, layer));
    for (int32_t i = 0; i < layer->n_tokens && counts && place != NULL; i++) {
        take_row(order, place, layer, ubatch, i);
    }
}

void watch_order_ubatch(struct watch_order * order, const struct live_view_model * model, uint32_t context,
                        const struct routing_ubatch * ubatch) {
    if (watch_order_is_new(order, ubatch)) {
        learn_layers(order, model, ubatch);
        order->is_in_vain = !knows(order, ubatch);
    }
    if (!is_followed(order, ubatch)) {
        return;
    }
    if (ubatch->fate == ROUTING_COUNT) {
        order->now.n_tokens += ubatch->n_tokens;
        find_sequences(order, context, ubatch);
    }
    for (size_t i = 0; i < (size_t) ubatch->n_layers; i++) {
        take_layer(order, ubatch, i);
    }
}

void watch_order_second(struct watch_order * order) {
    if (order->caches == NULL) {
        return;
    }
    order->now.caches           = *watch_caches_sums(order->caches);
    order->seconds[order->next] = order->now;
    order->next      = (order->next + 1) % WATCH_SECONDS_MAX;
    order->n_seconds += order->n_seconds < WATCH_SECONDS_MAX;
    watch_sequences_second(order->sequences);
}

//
// what is seen
//

// The sums before a window: nothing where that began with the watch.
static const struct sums * sums_before(const struct watch_order * order, int window) {
    static const struct sums nothing;
    if (window == WATCH_ALL || (size_t) window >= order->n_seconds) {
        return &nothing;
    }
    return &order->seconds[(order->next + WATCH_SECONDS_MAX - 1 - (size_t) window) % WATCH_SECONDS_MAX];
}

static void fill_reuse(struct watch_frame * frame, const struct sums * now, const struct sums * before) {
    uint64_t shared[N_TOKEN_PHASES], of[N_TOKEN_PHASES];
    for (enum phase phase = 0; phase < N_TOKEN_PHASES; phase++) {
        shared[phase] = now->reuse[phase].shared  - before->reuse[phase].shared;
        of    [phase] = now->reuse[phase].experts - before->reuse[phase].experts;
    }
    watch_shares_set(frame->reuse, shared, of);
}

static void fill_caches(const struct watch_order * order, struct watch_frame * frame, const struct sums * now,
                        const struct sums * before) {
    watch_caches_fill(order->caches, frame);
    for (size_t i = 0; i < frame->n_sizes; i++) {
        struct watch_size * size = &frame->sizes[i];
        watch_caches_share(size->lru,       &now->caches, &before->caches, false, i);
        watch_caches_share(size->llama,     &now->caches, &before->caches, true,  i);
        watch_caches_share(size->lru_all,   &now->caches, NULL,            false, i);
        watch_caches_share(size->llama_all, &now->caches, NULL,            true,  i);
    }
}

void watch_order_fill(const struct watch_order * order, int window, int64_t time, struct watch_frame * frame) {
    const struct sums * before = sums_before(order, window);
    const size_t        n      = window == WATCH_ALL ? WATCH_SECONDS_MAX : (size_t) window;
    frame->all_bytes = NAN;
    if (order->caches == NULL || order->n_seconds == 0) {
        fill_reuse(frame, before, before);
        return;
    }
    const struct sums * now = &order->seconds[(order->next + WATCH_SECONDS_MAX - 1) % WATCH_SECONDS_MAX];
    frame->n_watched = now->n_tokens;
    fill_reuse (frame, now, before);
    fill_caches(order, frame, now, before);
    watch_sequences_fill(order->sequences, n, time, frame);
}
