// Keeps the counts of the lives that go on, and ranks them when they end.

#include "analysis/cache-oracle.h"

#include "analysis/counts.h"

#include <stdlib.h>
#include <string.h>

struct life {
    uint64_t   number;
    uint64_t * counts; // [n_places]
};

struct cache_oracle {
    size_t        n_layers;
    size_t      * places;    // [n_layers + 1] of a layer's first expert among those of all layers
    struct life * lives;     // [n_lives] by their numbers
    size_t        n_lives;
    size_t        room;
    size_t        last_life; // index of the one that was asked for last
};

struct cache_oracle * cache_oracle_new(size_t n_layers, const int32_t * n_experts) {
    struct cache_oracle * oracle = calloc(1, sizeof(*oracle));
    if (oracle == NULL) {
        return NULL;
    }
    oracle->n_layers = n_layers;
    oracle->places   = calloc(n_layers + 1, sizeof(*oracle->places));
    if (oracle->places == NULL) {
        cache_oracle_free(oracle);
        return NULL;
    }
    for (size_t i = 0; i < n_layers; i++) {
        oracle->places[i + 1] = oracle->places[i] + (size_t) n_experts[i];
    }
    return oracle;
}

void cache_oracle_free(struct cache_oracle * oracle) {
    if (oracle == NULL) {
        return;
    }
    for (size_t i = 0; i < oracle->n_lives; i++) {
        free(oracle->lives[i].counts);
    }
    free(oracle->lives);
    free(oracle->places);
    free(oracle);
}

//
// lives of sequences
//

// The index of the first life whose number is not lower.
static size_t life_index(const struct cache_oracle * oracle, uint64_t number) {
    size_t begin = 0;
    size_t end   = oracle->n_lives;
    while (begin < end) {
        const size_t middle = begin + (end - begin) / 2;
        if (oracle->lives[middle].number < number) {
            begin = middle + 1;
        } else {
            end = middle;
        }
    }
    return begin;
}

static bool life_is_at(const struct cache_oracle * oracle, size_t index, uint64_t number) {
    return index < oracle->n_lives && oracle->lives[index].number == number;
}

static bool life_begin(struct cache_oracle * oracle, size_t index, uint64_t number) {
    if (oracle->n_lives == oracle->room) {
        const size_t  room  = oracle->room * 2 + 8;
        struct life * grown = realloc(oracle->lives, room * sizeof(*grown));
        if (grown == NULL) {
            return false;
        }
        oracle->lives = grown;
        oracle->room  = room;
    }
    uint64_t * counts = calloc(oracle->places[oracle->n_layers] + 1, sizeof(*counts));
    if (counts == NULL) {
        return false;
    }
    memmove(oracle->lives + index + 1, oracle->lives + index, (oracle->n_lives - index) * sizeof(*oracle->lives));
    oracle->lives[index] = (struct life) { number, counts };
    oracle->n_lives++;
    return true;
}

static bool is_of(const struct cache_oracle * oracle, size_t layer, const uint16_t * experts, size_t n_experts) {
    if (layer >= oracle->n_layers) {
        return false;
    }
    for (size_t i = 0; i < n_experts; i++) {
        if (experts[i] >= oracle->places[layer + 1] - oracle->places[layer]) {
            return false;
        }
    }
    return true;
}

bool cache_oracle_token(struct cache_oracle * oracle, size_t layer, uint64_t life, const uint16_t * experts,
                        size_t n_experts) {
    if (!is_of(oracle, layer, experts, n_experts)) {
        return false;
    }
    if (!life_is_at(oracle, oracle->last_life, life)) {
        oracle->last_life = life_index(oracle, life);
        if (!life_is_at(oracle, oracle->last_life, life) && !life_begin(oracle, oracle->last_life, life)) {
            return false;
        }
    }
    uint64_t * counts = oracle->lives[oracle->last_life].counts + oracle->places[layer];
    for (size_t i = 0; i < n_experts; i++) {
        counts[experts[i]]++;
    }
    return true;
}

//
// what they come to
//

static int descending(const void * a, const void * b) {
    const uint64_t x = *(const uint64_t *) a;
    const uint64_t y = *(const uint64_t *) b;
    return (x < y) - (x > y);
}

uint64_t cache_oracle_end_life(struct cache_oracle * oracle, uint64_t life, size_t n_sizes, const size_t * slots,
                               uint64_t * hits) {
    const size_t index    = life_index(oracle, life);
    uint64_t     requests = 0;
    memset(hits, 0, n_sizes * sizeof(*hits));
    if (!life_is_at(oracle, index, life)) {
        return 0;
    }
    for (size_t i = 0; i < oracle->n_layers; i++) {
        const size_t n      = oracle->places[i + 1] - oracle->places[i];
        uint64_t   * counts = oracle->lives[index].counts + oracle->places[i];
        qsort(counts, n, sizeof(*counts), descending);
        requests += counts_sum(counts, n);
        for (size_t j = 0; j < n_sizes; j++) {
            const size_t n_slots = slots[j * oracle->n_layers + i];
            hits[j] += counts_sum(counts, n_slots < n ? n_slots : n);
        }
    }
    free(oracle->lives[index].counts);
    oracle->n_lives--;
    memmove(oracle->lives + index, oracle->lives + index + 1, (oracle->n_lives - index) * sizeof(*oracle->lives));
    return requests;
}
