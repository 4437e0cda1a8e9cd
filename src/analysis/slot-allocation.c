// Hands out bytes along the hull of each layer's hits, the best piece first.

#include "analysis/slot-allocation.h"

#include <stdlib.h>
#include <string.h>

// Of a curve's hull.
struct piece {
    size_t layer;
    size_t begin;
    size_t end;
    double gain;  // hits for a byte
};

static size_t n_expert(const struct slot_layer * layer) {
    return (size_t) layer->n_expert;
}

static uint64_t bytes_of(const struct slot_layer * layer, size_t n_slots) {
    return (uint64_t) layer->expert_bytes * n_slots;
}

static double gain_of(const struct slot_layer * layer, size_t begin, size_t end) {
    return (double) (layer->hits[end] - layer->hits[begin]) / (double) bytes_of(layer, end - begin);
}

// Of the steepest piece from `begin` on, the shortest of equal ones.
static size_t hull_end(const struct slot_layer * layer, size_t begin) {
    size_t best = begin + 1;
    for (size_t end = begin + 2; end <= n_expert(layer); end++) {
        best = gain_of(layer, begin, end) > gain_of(layer, begin, best) ? end : best;
    }
    return best;
}

static size_t add_pieces(struct piece * pieces, const struct slot_layer * layers, size_t i) {
    size_t n = 0;
    for (size_t begin = 0; begin < n_expert(&layers[i]); begin = pieces[n++].end) {
        const size_t end = hull_end(&layers[i], begin);
        pieces[n] = (struct piece) { i, begin, end, gain_of(&layers[i], begin, end) };
    }
    return n;
}

static int steepest_first(const void * a, const void * b) {
    const struct piece * x = a;
    const struct piece * y = b;
    if (x->gain != y->gain) {
        return x->gain > y->gain ? -1 : 1;
    }
    if (x->layer != y->layer) {
        return x->layer < y->layer ? -1 : 1;
    }
    return (x->begin > y->begin) - (x->begin < y->begin);
}

// Returns what is left of the budget. A layer whose next piece does not fit gets none of the later ones.
static uint64_t hand_out(const struct piece * pieces, size_t n_pieces, const struct slot_layer * layers,
                         uint64_t budget, size_t * slots) {
    for (size_t i = 0; i < n_pieces; i++) {
        const struct piece * piece = &pieces[i];
        const uint64_t       bytes = bytes_of(&layers[piece->layer], piece->end - piece->begin);
        if (slots[piece->layer] == piece->begin && bytes <= budget) {
            slots[piece->layer] = piece->end;
            budget             -= bytes;
        }
    }
    return budget;
}

// Returns n_layers where no slot fits any more.
static size_t best_slot(size_t n_layers, const struct slot_layer * layers, uint64_t budget, const size_t * slots) {
    size_t best      = n_layers;
    double best_gain = -1.0;
    for (size_t i = 0; i < n_layers; i++) {
        if (slots[i] < n_expert(&layers[i]) && bytes_of(&layers[i], 1) <= budget
            && gain_of(&layers[i], slots[i], slots[i] + 1) > best_gain) {
            best      = i;
            best_gain = gain_of(&layers[i], slots[i], slots[i] + 1);
        }
    }
    return best;
}

static void hand_out_rest(size_t n_layers, const struct slot_layer * layers, uint64_t budget, size_t * slots) {
    for (size_t i; (i = best_slot(n_layers, layers, budget, slots)) < n_layers; slots[i]++) {
        budget -= bytes_of(&layers[i], 1);
    }
}

static uint64_t all_bytes(size_t n_layers, const struct slot_layer * layers, const size_t * slots) {
    uint64_t sum = 0;
    for (size_t i = 0; i < n_layers; i++) {
        sum += bytes_of(&layers[i], slots[i]);
    }
    return sum;
}

static uint64_t all_hits(size_t n_layers, const struct slot_layer * layers, const size_t * slots) {
    uint64_t sum = 0;
    for (size_t i = 0; i < n_layers; i++) {
        sum += layers[i].hits[slots[i]];
    }
    return sum;
}

// The same number in each layer, at most its experts: the most that fit.
static void hand_out_alike(size_t n_layers, const struct slot_layer * layers, uint64_t budget, size_t * slots) {
    size_t n_slots = 0;
    for (size_t i = 0; i < n_layers; i++) {
        n_slots = n_expert(&layers[i]) > n_slots ? n_expert(&layers[i]) : n_slots;
    }
    do {
        for (size_t i = 0; i < n_layers; i++) {
            slots[i] = n_slots < n_expert(&layers[i]) ? n_slots : n_expert(&layers[i]);
        }
    } while (all_bytes(n_layers, layers, slots) > budget && n_slots-- > 0);
}

bool slot_allocation(size_t n_layers, const struct slot_layer * layers, uint64_t budget, size_t * slots) {
    size_t n_slots = 0;
    for (size_t i = 0; i < n_layers; i++) {
        n_slots += n_expert(&layers[i]);
        slots[i] = 0;
    }
    struct piece * pieces = malloc((n_slots  + 1) * sizeof(*pieces));
    size_t       * alike  = malloc((n_layers + 1) * sizeof(*alike));
    const bool     made   = pieces && alike;
    if (made) {
        size_t n_pieces = 0;
        for (size_t i = 0; i < n_layers; i++) {
            n_pieces += add_pieces(pieces + n_pieces, layers, i);
        }
        qsort(pieces, n_pieces, sizeof(*pieces), steepest_first);
        hand_out_rest(n_layers, layers, hand_out(pieces, n_pieces, layers, budget, slots), slots);
        hand_out_alike(n_layers, layers, budget, alike);
        if (all_hits(n_layers, layers, alike) > all_hits(n_layers, layers, slots)) {
            memcpy(slots, alike, n_layers * sizeof(*slots));
        }
    }
    free(pieces);
    free(alike);
    return made;
}
