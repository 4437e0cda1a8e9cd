// Remembers the last row of each sequence in each layer, and compares the next one with it.

#include "analysis/neighbours.h"

#include "analysis/counts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct neighbours {
    size_t                    n_layers;
    size_t                  * offsets; // [n_layers + 1] of a layer's experts in what is remembered of a sequence
    struct neighbours_reuse (* reuse)[2];
    uint32_t                * seen;    // by expert: the round in which it was of the token before
    uint32_t                  round;
};

struct remembered_row {
    int32_t  life;
    int32_t  position; // -1: nothing to go on from
    uint16_t n_experts;
};

struct neighbours_sequence {
    struct remembered_row * rows;    // [n_layers]
    uint16_t              * experts;
};

struct neighbours * neighbours_new(size_t n_layers, const struct neighbours_layer * layers) {
    struct neighbours * neighbours = calloc(1, sizeof(*neighbours));
    size_t              n_expert   = 0;
    for (size_t i = 0; i < n_layers; i++) {
        n_expert = (size_t) layers[i].n_expert > n_expert ? (size_t) layers[i].n_expert : n_expert;
    }
    if (neighbours == NULL) {
        return NULL;
    }
    neighbours->n_layers = n_layers;
    neighbours->offsets  = calloc(n_layers + 1, sizeof(*neighbours->offsets));
    neighbours->reuse    = calloc(n_layers + 1, sizeof(*neighbours->reuse));
    neighbours->seen     = calloc(n_expert + 1, sizeof(*neighbours->seen));
    if (neighbours->offsets == NULL || neighbours->reuse == NULL || neighbours->seen == NULL) {
        neighbours_free(neighbours);
        return NULL;
    }
    for (size_t i = 0; i < n_layers; i++) {
        neighbours->offsets[i + 1] = neighbours->offsets[i] + (size_t) layers[i].n_used;
    }
    return neighbours;
}

void neighbours_free(struct neighbours * neighbours) {
    if (neighbours != NULL) {
        free(neighbours->offsets);
        free(neighbours->reuse);
        free(neighbours->seen);
        free(neighbours);
    }
}

struct neighbours_sequence * neighbours_sequence_new(const struct neighbours * neighbours) {
    struct neighbours_sequence * sequence = calloc(1, sizeof(*sequence));
    if (sequence == NULL) {
        return NULL;
    }
    sequence->rows    = calloc(neighbours->n_layers + 1, sizeof(*sequence->rows));
    sequence->experts = calloc(neighbours->offsets[neighbours->n_layers] + 1, sizeof(*sequence->experts));
    if (sequence->rows == NULL || sequence->experts == NULL) {
        neighbours_sequence_free(sequence);
        return NULL;
    }
    for (size_t i = 0; i < neighbours->n_layers; i++) {
        sequence->rows[i].position = -1;
    }
    return sequence;
}

void neighbours_sequence_free(struct neighbours_sequence * sequence) {
    if (sequence != NULL) {
        free(sequence->rows);
        free(sequence->experts);
        free(sequence);
    }
}

static uint64_t n_shared(struct neighbours * neighbours, const uint16_t * before, size_t n_before,
                         const struct neighbours_row * row) {
    neighbours->round++;
    for (size_t i = 0; i < n_before; i++) {
        neighbours->seen[before[i]] = neighbours->round;
    }
    uint64_t n = 0;
    for (size_t i = 0; i < row->n_experts; i++) {
        n += neighbours->seen[row->experts[i]] == neighbours->round;
    }
    return n;
}

struct neighbours_reuse neighbours_row(struct neighbours * neighbours, struct neighbours_sequence * sequence,
                                       const struct neighbours_row * row) {
    struct remembered_row * before  = &sequence->rows[row->layer];
    uint16_t              * experts = sequence->experts + neighbours->offsets[row->layer];
    struct neighbours_reuse reuse   = { 0, 0 };
    if (before->position >= 0 && before->life == row->life && row->position == before->position + 1) {
        struct neighbours_reuse * sum = &neighbours->reuse[row->layer][row->generation];
        reuse.shared  = n_shared(neighbours, experts, before->n_experts, row);
        reuse.experts = row->n_experts;
        sum->shared  += reuse.shared;
        sum->experts += reuse.experts;
    }
    *before = (struct remembered_row) { row->life, row->position, (uint16_t) row->n_experts };
    memcpy(experts, row->experts, row->n_experts * sizeof(*experts));
    return reuse;
}

struct neighbours_reuse neighbours_reuse(const struct neighbours * neighbours, size_t layer, bool generation) {
    return neighbours->reuse[layer][generation];
}

//
// chance
//

double neighbours_chance(const uint64_t * counts, size_t n, size_t n_used) {
    const double n_tokens = (double) counts_sum(counts, n) / (double) n_used;
    double       pairs    = 0.0;
    for (size_t i = 0; i < n; i++) {
        pairs += (double) counts[i] * ((double) counts[i] - 1.0);
    }
    return n_tokens < 2.0 ? (double) NAN : fmax(pairs, 0.0) / (n_tokens * (n_tokens - 1.0) * (double) n_used);
}

void neighbours_spread_add(struct neighbours_spread * spread, const struct neighbours_reuse * of_token) {
    const double shared  = (double) of_token->shared;
    const double experts = (double) of_token->experts;
    if (of_token->experts > 0) {
        spread->n++;
        spread->shared          += shared;
        spread->experts         += experts;
        spread->shared_squares  += shared  * shared;
        spread->experts_squares += experts * experts;
        spread->products        += shared  * experts;
    }
}

// The standard deviation of a ratio of sums; at least what it is where layers are independent of each other.
static double deviation_of(const struct neighbours_spread * spread, double chance) {
    const double share   = spread->shared / spread->experts;
    const double squares = spread->shared_squares - 2.0 * share * spread->products
                         + share * share * spread->experts_squares;
    const double least   = spread->experts * chance * (1.0 - chance);
    return sqrt(fmax(fmax(squares, least), 0.0)) / spread->experts;
}

#define QUANTILE 1.96 // of the normal distribution, 95 % within
#define NOTHING  1e-9

enum neighbours_verdict neighbours_judge(const struct neighbours_spread * spread, double chance) {
    if (spread->n < NEIGHBOURS_LEAST || isnan(chance)) {
        return NEIGHBOURS_FEW;
    }
    const double above     = spread->shared / spread->experts - chance;
    const double deviation = deviation_of(spread, chance);
    return above <= NOTHING || above <= QUANTILE * deviation ? NEIGHBOURS_CHANCE
         : above <= 2.0 * QUANTILE * deviation           ? NEIGHBOURS_HARDLY : NEIGHBOURS_MORE;
}
