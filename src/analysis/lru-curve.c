// Keeps all keys in the order of their last use, so that a use finds its distance.

#include "analysis/lru-curve.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define FEW_KEYS   512  // up to here it is faster to keep all distances than to count when one is asked for
#define AT_ONCE    16   // keys whose use moves the distances of the others in one go
#define NEVER      INT16_MAX

#define WORD       64   // times whose bits are counted together
#define TIMES_MORE 4    // times for each key, before they are numbered anew

struct lru_curve {
    size_t     n_keys;

    // few keys
    int16_t  * distance; // [n_keys] NEVER: not used

    // many keys: the bit of a time is set where it is the last use of a key (Bennett & Kruskal 1975, with one level of
    // sums)
    uint32_t * last;     // [n_keys] time, 0: not used
    uint64_t * bits;     // [n_times / WORD]
    uint32_t * later;    // [n_times / WORD] bits that are set in the words after this one
    uint32_t   n_times;
    uint32_t   now;      // of the last use
    uint32_t   n_used;   // keys
};

static bool is_few(const struct lru_curve * curve) {
    return curve->n_keys <= FEW_KEYS;
}

static bool make_few(struct lru_curve * curve) {
    curve->distance = malloc(curve->n_keys * sizeof(*curve->distance) + 1);
    for (size_t i = 0; curve->distance && i < curve->n_keys; i++) {
        curve->distance[i] = NEVER;
    }
    return curve->distance != NULL;
}

static bool make_many(struct lru_curve * curve) {
    curve->n_times = (uint32_t) (curve->n_keys * TIMES_MORE / WORD + 1) * WORD;
    curve->last    = calloc(curve->n_keys,         sizeof(*curve->last));
    curve->bits    = calloc(curve->n_times / WORD, sizeof(*curve->bits));
    curve->later   = calloc(curve->n_times / WORD, sizeof(*curve->later));
    return curve->last && curve->bits && curve->later;
}

struct lru_curve * lru_curve_new(size_t n_keys) {
    struct lru_curve * curve = calloc(1, sizeof(*curve));
    if (curve == NULL) {
        return NULL;
    }
    curve->n_keys = n_keys;
    if (!(is_few(curve) ? make_few(curve) : make_many(curve))) {
        lru_curve_free(curve);
        return NULL;
    }
    return curve;
}

void lru_curve_free(struct lru_curve * curve) {
    if (curve) {
        free(curve->distance);
        free(curve->last);
        free(curve->bits);
        free(curve->later);
        free(curve);
    }
}

//
// few keys
//

static void look_few(const struct lru_curve * curve, const uint32_t * keys, size_t n, int32_t * distances) {
    for (size_t i = 0; i < n; i++) {
        const int16_t distance = curve->distance[keys[i]];
        distances[i] = distance == NEVER ? -1 : distance;
    }
}

// Each key moves one further away for each of the used ones that were behind it. Fast where the compiler knows n_used.
static inline void move_away(int16_t * restrict distance, size_t n_keys, const int16_t * used, size_t n_used) {
    for (size_t k = 0; k < n_keys; k++) {
        const int16_t from = distance[k];
        int16_t       to   = from;
        for (size_t i = 0; i < n_used; i++) {
            to = (int16_t) (to + (from < used[i]));
        }
        distance[k] = to;
    }
}

// used: no key is behind -1, which is in front of all, so that there may be one of these too many
static void move_away_by(int16_t * restrict distance, size_t n_keys, const int16_t used[AT_ONCE], size_t n_used) {
    switch ((n_used + 1) / 2) {
        case 1:  move_away(distance, n_keys, used, 2);  break;
        case 2:  move_away(distance, n_keys, used, 4);  break;
        case 3:  move_away(distance, n_keys, used, 6);  break;
        case 4:  move_away(distance, n_keys, used, 8);  break;
        case 5:  move_away(distance, n_keys, used, 10); break;
        case 6:  move_away(distance, n_keys, used, 12); break;
        default: move_away(distance, n_keys, used, AT_ONCE);
    }
}

static void touch_few(struct lru_curve * curve, const uint32_t * keys, size_t n) {
    int16_t used[AT_ONCE];
    for (size_t i = 0; i < AT_ONCE; i++) {
        used[i] = i < n ? curve->distance[keys[i]] : -1;
    }
    move_away_by(curve->distance, curve->n_keys, used, n);
    for (size_t i = 0; i < n; i++) {
        curve->distance[keys[i]] = (int16_t) (n - 1 - i);
    }
}

//
// many keys
//

static uint32_t count_bits(uint64_t bits) {
    bits -= bits >> 1 & 0x5555555555555555;
    bits  = (bits & 0x3333333333333333) + (bits >> 2 & 0x3333333333333333);
    bits  = (bits + (bits >> 4)) & 0x0f0f0f0f0f0f0f0f;
    return (uint32_t) (bits * 0x0101010101010101 >> 56);
}

static uint32_t count_later(const struct lru_curve * curve, uint32_t time) {
    return curve->later[time / WORD] + count_bits(curve->bits[time / WORD] >> time % WORD >> 1);
}

static void look_many(const struct lru_curve * curve, const uint32_t * keys, size_t n, int32_t * distances) {
    for (size_t i = 0; i < n; i++) {
        const uint32_t last = curve->last[keys[i]];
        distances[i] = last == 0 ? -1 : (int32_t) count_later(curve, last);
    }
}

// The last uses in their order, from 1 on.
static void number_anew(struct lru_curve * curve) {
    for (size_t i = 0; i < curve->n_keys; i++) {
        if (curve->last[i] != 0) {
            curve->last[i] = curve->n_used - count_later(curve, curve->last[i]);
        }
    }
    memset(curve->bits,  0, curve->n_times / WORD * sizeof(*curve->bits));
    memset(curve->later, 0, curve->n_times / WORD * sizeof(*curve->later));
    for (uint32_t time = 1; time <= curve->n_used; time++) {
        curve->bits[time / WORD] |= (uint64_t) 1 << time % WORD;
    }
    for (uint32_t word = 0; word < curve->n_used / WORD; word++) {
        curve->later[word] = curve->n_used - (word * WORD + WORD - 1);
    }
    curve->now = curve->n_used;
}

static void touch_many(struct lru_curve * curve, uint32_t key) {
    if (curve->now + 1 == curve->n_times) {
        number_anew(curve);
    }
    const uint32_t last = curve->last[key];
    const uint32_t now  = ++curve->now;
    if (last == 0) {
        curve->n_used++;
    } else {
        curve->bits[last / WORD] &= ~((uint64_t) 1 << last % WORD);
    }
    curve->bits[now / WORD] |= (uint64_t) 1 << now % WORD;
    for (uint32_t word = last / WORD; word < now / WORD; word++) {
        curve->later[word]++;
    }
    curve->last[key] = now;
}

//
// either
//

void lru_curve_look(const struct lru_curve * curve, const uint32_t * keys, size_t n, int32_t * distances) {
    if (is_few(curve)) {
        look_few(curve, keys, n, distances);
    } else {
        look_many(curve, keys, n, distances);
    }
}

void lru_curve_touch(struct lru_curve * curve, const uint32_t * keys, size_t n) {
    if (is_few(curve)) {
        for (size_t i = 0; i < n; i += AT_ONCE) {
            touch_few(curve, keys + i, n - i < AT_ONCE ? n - i : AT_ONCE);
        }
    } else {
        for (size_t i = 0; i < n; i++) {
            touch_many(curve, keys[i]);
        }
    }
}
