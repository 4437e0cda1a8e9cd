// Keeps the difference of each second to the second before.

#include "watch/watch-counts.h"

#include "analysis/counts.h"
#include "analysis/divergence.h"
#include "analysis/evenness.h"
#include "tool/error.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LAYERS_MAX 1024 // more than any model has

struct kept_second {
    double     duration;
    uint64_t   tokens[WATCH_N_PHASES];
    uint64_t   n;      // activations
    uint32_t * counts; // [n_cells]
};

struct kept_layer {
    int32_t layer;
    int32_t n_expert;
    int32_t n_used;
};

// Cells are experts of the layers that are kept, one layer behind the other.
struct watch_counts {
    bool                has_begun;
    size_t              n_layers;
    struct kept_layer * layers;
    size_t              n_cells;
    uint64_t          * cells;    // [n_cells] counters of now
    uint64_t          * fresh;    // [n_cells] room
    uint64_t            tokens[WATCH_N_PHASES];
    uint64_t            n_lost;
    double              time;
    struct kept_second  seconds[WATCH_SECONDS_MAX]; // the newest at `next` - 1
    size_t              next;
    size_t              n_seconds;
};

struct watch_counts * watch_counts_new(void) {
    return memory_new(1, sizeof(struct watch_counts));
}

static void forget_cells(struct watch_counts * counts) {
    for (size_t i = 0; i < WATCH_SECONDS_MAX; i++) {
        free(counts->seconds[i].counts);
        counts->seconds[i].counts = NULL;
    }
    free(counts->layers);
    free(counts->cells);
    free(counts->fresh);
}

void watch_counts_free(struct watch_counts * counts) {
    if (counts != NULL) {
        forget_cells(counts);
        free(counts);
    }
}

//
// taking
//

static struct kept_layer layer_of(const struct live_view_model * model, int32_t layer) {
    const struct counters_layer * its = &model->counts.table.layers[layer];
    return (struct kept_layer) { layer, its->n_expert, its->n_used };
}

static bool has_same_layers(const struct watch_counts * counts, const struct live_view_model * model) {
    size_t n = 0;
    for (int32_t i = 0; i < model->counts.table.n_layers; i++) {
        if (live_view_has_layer(model, i)) {
            const struct kept_layer layer = layer_of(model, i);
            if (n >= counts->n_layers || memcmp(&counts->layers[n], &layer, sizeof(layer)) != 0) {
                return false;
            }
            n++;
        }
    }
    return n == counts->n_layers;
}

static void take_layers(struct watch_counts * counts, const struct live_view_model * model) {
    forget_cells(counts);
    *counts = (struct watch_counts) { .layers = memory_new(LAYERS_MAX, sizeof(*counts->layers)) };
    for (int32_t i = 0; i < model->counts.table.n_layers && counts->n_layers < LAYERS_MAX; i++) {
        if (live_view_has_layer(model, i)) {
            counts->layers[counts->n_layers] = layer_of(model, i);
            counts->n_cells += (size_t) counts->layers[counts->n_layers++].n_expert;
        }
    }
    counts->cells = memory_new(counts->n_cells, sizeof(*counts->cells));
    counts->fresh = memory_new(counts->n_cells, sizeof(*counts->fresh));
}

static void read_cells(const struct watch_counts * counts, const struct live_view_model * model) {
    uint64_t * to = counts->fresh;
    for (size_t i = 0; i < counts->n_layers; i++) {
        const _Atomic uint64_t * row = counters_row(&model->counts.table, counts->layers[i].layer);
        for (int32_t j = 0; j < counts->layers[i].n_expert; j++) {
            *to++ = counter_get(&row[j]);
        }
    }
}

static void read_tokens(uint64_t tokens[WATCH_N_PHASES], const struct live_view_model * model) {
    tokens[PHASE_PROMPT]     = counter_get(&model->counts.totals.n_prompt);
    tokens[PHASE_GENERATION] = counter_get(&model->counts.totals.n_generation);
    tokens[WATCH_ANY_PHASE]  = counter_get(&model->counts.totals.n_tokens);
}

static bool is_less(const struct watch_counts * counts, const uint64_t tokens[WATCH_N_PHASES]) {
    bool less = false;
    for (enum phase phase = 0; phase < N_TOKEN_PHASES && !less; phase++) {
        less = tokens[phase] < counts->tokens[phase];
    }
    for (size_t i = 0; i < counts->n_cells && !less; i++) {
        less = counts->fresh[i] < counts->cells[i];
    }
    return less;
}

// A second of which 2^32 activations of one expert are counted does not come. All tokens may become less by some: those
// of a ubatch are counted before those of its batch are known.
static void add_second(struct watch_counts * counts, const uint64_t tokens[WATCH_N_PHASES], double time) {
    struct kept_second * second = &counts->seconds[counts->next];
    if (second->counts == NULL) {
        second->counts = memory_new(counts->n_cells, sizeof(*second->counts));
    }
    second->n = 0;
    for (size_t i = 0; i < counts->n_cells; i++) {
        const uint64_t more = counts->fresh[i] - counts->cells[i];
        second->counts[i] = more < UINT32_MAX ? (uint32_t) more : UINT32_MAX;
        second->n        += second->counts[i];
    }
    for (size_t i = 0; i < WATCH_N_PHASES; i++) {
        second->tokens[i] = tokens[i] > counts->tokens[i] ? tokens[i] - counts->tokens[i] : 0;
    }
    second->duration  = time - counts->time;
    counts->next      = (counts->next + 1) % WATCH_SECONDS_MAX;
    counts->n_seconds += counts->n_seconds < WATCH_SECONDS_MAX;
}

void watch_counts_take(struct watch_counts * counts, const struct live_view_model * model, double time) {
    uint64_t tokens[WATCH_N_PHASES];
    if (!counts->has_begun || !has_same_layers(counts, model)) {
        take_layers(counts, model);
    }
    read_cells(counts, model);
    read_tokens(tokens, model);
    if (is_less(counts, tokens)) {
        counts->n_seconds = 0;
    } else if (counts->has_begun) {
        add_second(counts, tokens, time);
    }
    memcpy(counts->cells, counts->fresh, counts->n_cells * sizeof(*counts->cells));
    memcpy(counts->tokens, tokens, sizeof(tokens));
    counts->n_lost    = counter_get(&model->counts.totals.n_lost);
    counts->time      = time;
    counts->has_begun = true;
}

//
// a window
//

// The i-th second back, 0 is the last one.
static const struct kept_second * second_back(const struct watch_counts * counts, size_t i) {
    return &counts->seconds[(counts->next + WATCH_SECONDS_MAX - 1 - i) % WATCH_SECONDS_MAX];
}

static void add_cells(const struct watch_counts * counts, const struct kept_second * second, uint64_t * sum) {
    for (size_t i = 0; i < counts->n_cells; i++) {
        sum[i] += second->counts[i];
    }
}

static size_t seconds_of(const struct watch_counts * counts, int window) {
    return (size_t) window < counts->n_seconds ? (size_t) window : counts->n_seconds;
}

static double duration_of(const struct watch_counts * counts, size_t n_seconds) {
    double duration = 0;
    for (size_t i = 0; i < n_seconds; i++) {
        duration += second_back(counts, i)->duration;
    }
    return duration;
}

static double rate_of(const struct watch_counts * counts, size_t n_seconds, size_t phase) {
    const double duration = duration_of(counts, n_seconds);
    double       tokens   = 0;
    for (size_t i = 0; i < n_seconds; i++) {
        tokens += (double) second_back(counts, i)->tokens[phase];
    }
    return duration > 0 ? tokens / duration : NAN;
}

// Allocated, [n_cells].
static uint64_t * cells_in(const struct watch_counts * counts, int window) {
    uint64_t * sum = memory_new(counts->n_cells, sizeof(*sum));
    if (window == WATCH_ALL) {
        memcpy(sum, counts->cells, counts->n_cells * sizeof(*sum));
        return sum;
    }
    for (size_t i = 0; i < seconds_of(counts, window); i++) {
        add_cells(counts, second_back(counts, i), sum);
    }
    return sum;
}

//
// layers
//

static void fill_layer(struct watch_layer * layer, const struct kept_layer * its, const uint64_t * counts) {
    const size_t n = (size_t) its->n_expert;
    *layer = (struct watch_layer) {
        .layer       = its->layer,
        .n_expert    = its->n_expert,
        .n_used      = its->n_used,
        .activations = counts_sum(counts, n),
        .counts      = counts,
        .entropy     = counts_entropy(counts, n),
        .hottest     = evenness_hottest(counts, n),
        .unused      = counts_unused(counts, n),
    };
    layer->share = layer->activations == 0 ? NAN : counts_share(counts[layer->hottest], layer->activations);
}

// By share, as layers are not always used alike; then by place.
static void add_hot(struct watch_frame * frame, const struct watch_slot * slot) {
    size_t at = frame->n_hot;
    while (at > 0 && frame->hot[at - 1].share < slot->share) {
        at--;
    }
    if (at == WATCH_N_HOT) {
        return;
    }
    frame->n_hot += frame->n_hot < WATCH_N_HOT;
    memmove(&frame->hot[at + 1], &frame->hot[at], (frame->n_hot - at - 1) * sizeof(*slot));
    frame->hot[at] = *slot;
}

static void add_hot_of_layer(struct watch_frame * frame, size_t i) {
    const struct watch_layer * layer = &frame->layers[i];
    for (int32_t j = 0; j < layer->n_expert; j++) {
        if (layer->counts[j] > 0) {
            const struct watch_slot slot = {
                i, (uint16_t) j, layer->counts[j], counts_share(layer->counts[j], layer->activations),
            };
            add_hot(frame, &slot);
        }
    }
}

static void fill_layers(const struct watch_counts * counts, int window, struct watch_frame * frame) {
    uint64_t * at        = cells_in(counts, window);
    double     entropy   = 0;
    size_t     n_entropy = 0;
    frame->cells    = at;
    frame->n_slots  = counts->n_cells;
    frame->n_layers = counts->n_layers;
    frame->layers   = memory_new(counts->n_layers, sizeof(*frame->layers));
    for (size_t i = 0; i < counts->n_layers; i++) {
        struct watch_layer * layer = &frame->layers[i];
        fill_layer(layer, &counts->layers[i], at);
        add_hot_of_layer(frame, i);
        frame->activations += layer->activations;
        frame->n_expert     = layer->n_expert > frame->n_expert ? layer->n_expert : frame->n_expert;
        if (!isnan(layer->entropy)) {
            entropy += layer->entropy;
            n_entropy++;
        }
        at += layer->n_expert;
    }
    frame->entropy = n_entropy > 0 ? entropy / (double) n_entropy : NAN;
}

//
// drift
//

// Mean of the layers that counted something in both.
static double divergence_of(const struct watch_counts * counts, const uint64_t * a, const uint64_t * b) {
    double sum = 0;
    size_t n   = 0;
    for (size_t i = 0, at = 0; i < counts->n_layers; at += (size_t) counts->layers[i++].n_expert) {
        const double divergence = divergence_js(a + at, b + at, (size_t) counts->layers[i].n_expert);
        if (!isnan(divergence)) {
            sum += divergence;
            n++;
        }
    }
    return n > 0 ? sum / (double) n : NAN;
}

static uint64_t activations_of(const struct watch_counts * counts, size_t n_seconds) {
    uint64_t n = 0;
    for (size_t i = 0; i < n_seconds; i++) {
        n += second_back(counts, i)->n;
    }
    return n;
}

// The minute is halved where half of its activations are counted.
static void fill_drift(const struct watch_counts * counts, struct watch_frame * frame) {
    const size_t   n      = seconds_of(counts, WATCH_SECONDS_MAX);
    const uint64_t all    = activations_of(counts, n);
    uint64_t     * newer  = memory_new(counts->n_cells, sizeof(*newer));
    uint64_t     * older  = memory_new(counts->n_cells, sizeof(*older));
    uint64_t     * before = cells_in(counts, WATCH_ALL);
    uint64_t       sum    = 0;
    for (size_t i = 0; i < n; i++) {
        add_cells(counts, second_back(counts, i), 2 * sum < all ? newer : older);
        sum += second_back(counts, i)->n;
    }
    frame->drift.noise = divergence_of(counts, newer, older);
    for (size_t i = 0; i < counts->n_cells; i++) {
        newer[i]  += older[i];
        before[i] -= newer[i];
    }
    frame->drift.divergence = divergence_of(counts, newer, before);
    frame->drift.times      = frame->drift.noise > 0 ? frame->drift.divergence / frame->drift.noise : NAN;
    free(newer);
    free(older);
    free(before);
}

//
// the whole
//

void watch_counts_fill(const struct watch_counts * counts, int window, struct watch_frame * frame) {
    frame->n_tokens     = counts->tokens[WATCH_ANY_PHASE];
    frame->n_prompt     = counts->tokens[PHASE_PROMPT];
    frame->n_generation = counts->tokens[PHASE_GENERATION];
    frame->n_lost       = counts->n_lost;
    frame->window       = window == WATCH_ALL ? NAN : duration_of(counts, seconds_of(counts, window));
    for (size_t phase = 0; phase < WATCH_N_PHASES; phase++) {
        frame->rate       [phase] = rate_of(counts, seconds_of(counts, 1), phase);
        frame->window_rate[phase] = window == WATCH_ALL ? NAN : rate_of(counts, seconds_of(counts, window), phase);
    }
    fill_layers(counts, window, frame);
    fill_drift (counts, frame);
}
