// How many activations a second caches of all sizes can be looked at, by one thread:
// prints a line for each way to do it.
//
//   bench-analysis N_LAYERS N_EXPERT N_USED SECONDS [SIZE…]     sizes: slots per layer, for the optimum
//
// Tokens come one by one, so that every activation is a request of its own.
// Some experts of a layer are used much more often than others, and which ones changes from time to time.

#include "analysis/lfu-curve.h"
#include "analysis/lru-curve.h"
#include "analysis/optimum.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define N_TOKENS     4096
#define TOPIC_TOKENS 512
#define HALF_LIFE    256.0

struct routing {
    size_t     n_layers;
    size_t     n_expert;
    size_t     n_used;
    uint32_t * experts; // [N_TOKENS][n_layers][n_used]
};

// What one layer's caches are followed with.
struct layer {
    struct lru_curve * lru;
    struct lfu_curve * lfu;
    struct optimum   * optimum;
    bool             * hits; // [number of sizes][n_used]
};

typedef void step_function(struct layer * layer, const uint32_t * experts, size_t n, int32_t * found);

//
// routing
//

static uint64_t by_chance(void) {
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

// Half of what is chosen is one of an eighth of the experts.
static uint32_t choose(size_t n_expert, size_t layer, size_t topic) {
    const double   u    = (double) (by_chance() >> 11) / 9007199254740992.0;
    const uint32_t rank = (uint32_t) ((double) n_expert * u * u * u);
    return (uint32_t) ((rank * 37 + layer * 11 + topic * 29) % n_expert);
}

static bool is_among(const uint32_t * experts, size_t n, uint32_t expert) {
    for (size_t i = 0; i < n; i++) {
        if (experts[i] == expert) {
            return true;
        }
    }
    return false;
}

static void route(const struct routing * routing) {
    uint32_t * experts = routing->experts;
    for (size_t token = 0; token < N_TOKENS; token++) {
        for (size_t layer = 0; layer < routing->n_layers; layer++, experts += routing->n_used) {
            for (size_t i = 0; i < routing->n_used;) {
                experts[i] = choose(routing->n_expert, layer, token / TOPIC_TOKENS);
                i += !is_among(experts, i, experts[i]);
            }
        }
    }
}

//
// what is measured
//

static void step_lru(struct layer * layer, const uint32_t * experts, size_t n, int32_t * found) {
    lru_curve_look (layer->lru, experts, n, found);
    lru_curve_touch(layer->lru, experts, n);
}

static void step_lfu(struct layer * layer, const uint32_t * experts, size_t n, int32_t * found) {
    lfu_curve_look (layer->lfu, experts, n, found);
    lfu_curve_touch(layer->lfu, experts, n);
}

static void step_optimum(struct layer * layer, const uint32_t * experts, size_t n, int32_t * found) {
    (void) found;
    optimum_step(layer->optimum, experts, n, 0, layer->hits);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double) time.tv_sec + (double) time.tv_nsec / 1e9;
}

static void measure(const char * name, step_function * step, struct layer * layers,
                    const struct routing * routing, double seconds) {
    int32_t    * found = calloc(routing->n_used, sizeof(*found));
    const double start = now();
    double       taken = 0.0;
    size_t       n     = 0;
    do {
        const uint32_t * experts = routing->experts;
        for (size_t token = 0; token < N_TOKENS; token++) {
            for (size_t i = 0; i < routing->n_layers; i++, experts += routing->n_used) {
                step(&layers[i], experts, routing->n_used, found);
            }
        }
        n    += N_TOKENS * routing->n_layers * routing->n_used;
        taken = now() - start;
    } while (taken < seconds);
    printf("%s %.0f\n", name, (double) n / taken);
    free(found);
}

static bool make_layers(struct layer * layers, const struct routing * routing, size_t n_sizes, const size_t * sizes) {
    bool made = true;
    for (size_t i = 0; i < routing->n_layers; i++) {
        layers[i].lru     = lru_curve_new(routing->n_expert);
        layers[i].lfu     = lfu_curve_new(routing->n_expert, HALF_LIFE);
        layers[i].optimum = optimum_new(routing->n_expert, n_sizes, sizes, 1);
        layers[i].hits    = calloc((n_sizes + 1) * routing->n_used, sizeof(*layers[i].hits));
        made = made && layers[i].lru && layers[i].lfu && layers[i].optimum && layers[i].hits;
    }
    return made;
}

int main(int argc, char ** argv) {
    if (argc < 5) {
        fprintf(stderr, "usage: bench-analysis N_LAYERS N_EXPERT N_USED SECONDS [SIZE...]\n");
        return 2;
    }
    struct routing routing = { strtoul(argv[1], NULL, 10), strtoul(argv[2], NULL, 10),
                               strtoul(argv[3], NULL, 10), NULL };
    const double   seconds = strtod(argv[4], NULL);
    const size_t   n_sizes = (size_t) (argc - 5);
    size_t       * sizes   = calloc(n_sizes + 1, sizeof(*sizes));
    struct layer * layers  = calloc(routing.n_layers + 1, sizeof(*layers));
    routing.experts = calloc(N_TOKENS * routing.n_layers * routing.n_used + 1, sizeof(*routing.experts));
    if (sizes == NULL || layers == NULL || routing.experts == NULL || routing.n_used > routing.n_expert) {
        return 1;
    }
    for (size_t i = 0; i < n_sizes; i++) {
        sizes[i] = strtoul(argv[5 + i], NULL, 10);
    }
    route(&routing);
    if (!make_layers(layers, &routing, n_sizes, sizes)) {
        return 1;
    }
    measure("lru", step_lru, layers, &routing, seconds);
    measure("lfu", step_lfu, layers, &routing, seconds);
    measure("optimum", step_optimum, layers, &routing, seconds);
    return 0;
}
