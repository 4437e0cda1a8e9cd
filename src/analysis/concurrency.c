// Keeps some of the generated tokens, and works out what any n of them touch from who uses each expert.

#include "analysis/concurrency.h"

#include "analysis/random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct kept_token {
    uint64_t   life;
    uint16_t * n_experts; // [n_layers]
    uint16_t * experts;   // of all layers, from offsets on
};

struct concurrency {
    size_t            n_layers;
    size_t          * offsets;    // [n_layers] of a layer's experts among those of a token
    int32_t         * n_used;     // [n_layers]
    uint64_t          n_seen;
    uint64_t          random;
    size_t            n_kept;
    size_t            i_told;     // the token whose rows are told
    struct kept_token kept[CONCURRENCY_TOKENS];
    uint16_t        * n_experts;  // of all that are kept
    uint16_t        * experts;    // likewise
    uint32_t        * uses;       // room for those of all that are kept, in a layer
    double            log_factorials[CONCURRENCY_TOKENS + 1];
};

//
// which tokens are kept
//

static bool allocate(struct concurrency * c, size_t n_token, size_t most_used) {
    c->offsets   = calloc(c->n_layers + 1, sizeof(*c->offsets));
    c->n_used    = calloc(c->n_layers + 1, sizeof(*c->n_used));
    c->n_experts = calloc(c->n_layers * CONCURRENCY_TOKENS + 1, sizeof(*c->n_experts));
    c->experts   = calloc(n_token     * CONCURRENCY_TOKENS + 1, sizeof(*c->experts));
    c->uses      = calloc(most_used   * CONCURRENCY_TOKENS + 1, sizeof(*c->uses));
    return c->offsets != NULL && c->n_used != NULL && c->n_experts != NULL && c->experts != NULL && c->uses != NULL;
}

struct concurrency * concurrency_new(size_t n_layers, const struct concurrency_layer * layers) {
    struct concurrency * c = calloc(1, sizeof(*c));
    size_t n_token   = 0;
    size_t most_used = 0;
    for (size_t i = 0; i < n_layers; i++) {
        const size_t n_used = (size_t) layers[i].n_used;
        n_token  += n_used;
        most_used = n_used > most_used ? n_used : most_used;
    }
    if (c == NULL) {
        return NULL;
    }
    c->n_layers = n_layers;
    if (!allocate(c, n_token, most_used)) {
        concurrency_free(c);
        return NULL;
    }
    for (size_t i = 0, offset = 0; i < n_layers; i++) {
        c->offsets[i] = offset;
        c->n_used[i]  = layers[i].n_used;
        offset       += (size_t) layers[i].n_used;
    }
    for (size_t i = 0; i < CONCURRENCY_TOKENS; i++) {
        c->kept[i].n_experts    = c->n_experts + i * n_layers;
        c->kept[i].experts      = c->experts   + i * n_token;
        c->log_factorials[i + 1] = c->log_factorials[i] + log((double) (i + 1));
    }
    return c;
}

void concurrency_free(struct concurrency * c) {
    if (c != NULL) {
        free(c->offsets);
        free(c->n_used);
        free(c->n_experts);
        free(c->experts);
        free(c->uses);
        free(c);
    }
}

bool concurrency_token(struct concurrency * c, uint64_t life) {
    const uint64_t place = c->n_seen < CONCURRENCY_TOKENS ? c->n_seen : random_next(&c->random) % (c->n_seen + 1);
    c->n_seen++;
    if (place >= CONCURRENCY_TOKENS) {
        return false;
    }
    c->n_kept += place == c->n_kept;
    c->i_told  = (size_t) place;
    c->kept[place].life = life;
    memset(c->kept[place].n_experts, 0, c->n_layers * sizeof(*c->kept[place].n_experts));
    return true;
}

void concurrency_row(struct concurrency * c, size_t layer, const uint16_t * experts, size_t n_experts) {
    struct kept_token * token = &c->kept[c->i_told];
    const size_t        room  = (size_t) c->n_used[layer];
    const size_t        n     = n_experts < room ? n_experts : room;
    token->n_experts[layer] = (uint16_t) n;
    memcpy(token->experts + c->offsets[layer], experts, n * sizeof(*experts));
}

//
// what they touch together
//

// Kept tokens that are drawn from as one: those of a life, or each for itself.
struct groups {
    size_t  n;
    uint8_t of  [CONCURRENCY_TOKENS]; // by token
    double  size[CONCURRENCY_TOKENS]; // tokens of a group
};

static size_t first_of_life(const struct concurrency * c, size_t i_token) {
    size_t i = 0;
    while (c->kept[i].life != c->kept[i_token].life) {
        i++;
    }
    return i;
}

static void group_lives(const struct concurrency * c, struct groups * groups) {
    memset(groups, 0, sizeof(*groups));
    for (size_t i = 0; i < c->n_kept; i++) {
        const size_t first = first_of_life(c, i);
        groups->of[i] = first == i ? (uint8_t) groups->n++ : groups->of[first];
        groups->size[groups->of[i]] += 1.0;
    }
}

static void group_tokens(const struct concurrency * c, struct groups * groups) {
    groups->n = c->n_kept;
    for (size_t i = 0; i < c->n_kept; i++) {
        groups->of[i]   = (uint8_t) i;
        groups->size[i] = 1.0;
    }
}

size_t concurrency_n_lives(const struct concurrency * c) {
    struct groups groups;
    group_lives(c, &groups);
    return groups.n;
}

static int compare_uses(const void * a, const void * b) {
    const uint32_t x = *(const uint32_t *) a;
    const uint32_t y = *(const uint32_t *) b;
    return (x > y) - (x < y);
}

// Every use of an expert in a layer: the expert, and in the lowest 8 bits the group. In ascending order.
static size_t list_uses(const struct concurrency * c, size_t layer, const struct groups * groups) {
    size_t n = 0;
    for (size_t i = 0; i < c->n_kept; i++) {
        const uint16_t * experts = c->kept[i].experts + c->offsets[layer];
        for (size_t k = 0; k < c->kept[i].n_experts[layer]; k++) {
            c->uses[n++] = (uint32_t) experts[k] << 8 | groups->of[i];
        }
    }
    qsort(c->uses, n, sizeof(*c->uses), compare_uses);
    return n;
}

static double log_choose(const struct concurrency * c, size_t n, size_t k) {
    return c->log_factorials[n] - c->log_factorials[k] - c->log_factorials[n - k];
}

// Chance that j of m groups are among n that are drawn of all (hypergeometric).
static double chance_of_drawing(const struct concurrency * c, size_t j, size_t m, size_t n, size_t all) {
    if (n - j > all - m) {
        return 0.0;
    }
    return exp(log_choose(c, m, j) + log_choose(c, all - m, n - j) - log_choose(c, all, n));
}

// Chance that n groups, and of each one token, are drawn without one that uses the expert. m groups have such tokens,
// the i-th in a share misses[i] of its tokens none. none[j], of j groups drawn from the first i of them: from those of
// i - 1.
static double chance_of_none(const struct concurrency * c, const double * misses, size_t m, size_t n, size_t all) {
    double none[CONCURRENCY_MOST + 1] = { 1.0 };
    for (size_t i = 1; i <= m; i++) {
        for (size_t j = i < n ? i : n; j > 0; j--) {
            none[j] = (none[j] * (double) (i - j) + none[j - 1] * misses[i - 1] * (double) j) / (double) i;
        }
    }

    double chance = 0.0;
    for (size_t j = 0; j <= n && j <= m; j++) {
        chance += none[j] * chance_of_drawing(c, j, m, n, all);
    }
    return chance;
}

// The uses of one expert, from the i-th on, are put together for each group. Returns where those of the next expert
// begin.
static size_t take_expert(const struct concurrency * c, const struct groups * groups, size_t i, size_t n_uses,
                          double * misses, size_t * m) {
    const uint32_t expert = c->uses[i] >> 8;
    for (*m = 0; i < n_uses && c->uses[i] >> 8 == expert; (*m)++) {
        const uint32_t use    = c->uses[i];
        size_t         n_same = 0;
        for (; i < n_uses && c->uses[i] == use; i++) {
            n_same++;
        }
        misses[*m] = 1.0 - (double) n_same / groups->size[use & 255];
    }
    return i;
}

static double experts_of_layer(const struct concurrency * c, size_t layer, size_t n, const struct groups * groups) {
    const size_t n_uses = list_uses(c, layer, groups);
    double       sum    = 0.0;
    for (size_t i = 0; i < n_uses;) {
        double misses[CONCURRENCY_TOKENS];
        size_t m;
        i = take_expert(c, groups, i, n_uses, misses, &m);
        sum += 1.0 - chance_of_none(c, misses, m, n, groups->n);
    }
    return sum;
}

bool concurrency_experts(const struct concurrency * c, size_t n, double * experts) {
    if (n == 0 || n > CONCURRENCY_MOST || n > c->n_kept) {
        return false;
    }
    struct groups groups;
    group_lives(c, &groups);
    if (groups.n < n) {
        group_tokens(c, &groups);
    }
    for (size_t i = 0; i < c->n_layers; i++) {
        experts[i] = experts_of_layer(c, i, n, &groups);
    }
    return true;
}
