// Takes each layer's entropy of its counts, and prints the mean and the layers that are the least and the most even.

#include "commands/show-entropy.h"

#include "analysis/counts.h"
#include "analysis/uniform.h"

#include <math.h>
#include <stdlib.h>

#define FEW_LAYERS 8 // all of them are printed
#define EXTREMES   3 // otherwise so many of the least even, and of the most

struct layer_entropy {
    uint32_t layer;
    double   entropy;
};

struct layer_entropies {
    size_t                 n; // of which something was counted
    struct layer_entropy * layers;
    double                 mean;
    double                 uniform; // the mean if as many tokens used all experts alike, NAN: out of memory
};

static double uniform_entropy(const struct uniform_layer * layer) {
    struct uniform_range       effective;
    const struct uniform_study study = { .effective = &effective };
    return uniform_study(layer, 1, &study) ? log2(effective.mean) / log2((double) layer->n_expert) : (double) NAN;
}

static struct layer_entropies entropies_of(const struct statistics * statistics,
                                           const struct statistics_section * section) {
    const struct statistics_layers * layers    = &section->per_layer;
    struct layer_entropies           entropies = { 0, memory_new(layers->n, sizeof(*entropies.layers)), 0.0, 0.0 };
    for (size_t i = 0; i < layers->n; i++) {
        const size_t   n_expert = statistics_n_expert(statistics, section, layers->layers[i]);
        const int64_t  own      = statistics_value(&statistics->n_expert_used_per_layer, layers->layers[i]);
        const int64_t  n_used   = own > 0 ? own : statistics->n_expert_used > 0 ? statistics->n_expert_used : 1;
        const double   entropy  = counts_entropy(layers->activations[i], n_expert);
        const uint64_t all      = counts_sum(layers->activations[i], n_expert);
        const struct uniform_layer uniform = { all, n_expert, (size_t) n_used };
        if (!isnan(entropy)) {
            entropies.layers[entropies.n++] = (struct layer_entropy) { layers->layers[i], entropy };
            entropies.mean    += entropy;
            entropies.uniform += uniform_entropy(&uniform);
        }
    }
    entropies.mean    /= (double) entropies.n;
    entropies.uniform /= (double) entropies.n;
    return entropies;
}

static int least_even_first(const void * a, const void * b) {
    const struct layer_entropy * x = a;
    const struct layer_entropy * y = b;
    return x->entropy != y->entropy ? (x->entropy > y->entropy) - (x->entropy < y->entropy)
                                    : (x->layer > y->layer) - (x->layer < y->layer);
}

// "layer 3: 0.981, layer 7: 0.912"
static char * layers_text(const char * beginning, const struct layer_entropy * layers, size_t n) {
    char * text = memory_text("%s", beginning);
    for (size_t i = 0; i < n; i++) {
        text = memory_append(text, memory_text("%slayer %u: %.3f", i == 0 ? "" : ", ", (unsigned) layers[i].layer,
                                               layers[i].entropy));
    }
    return text;
}

static void print_layers(const struct terminal * terminal, struct layer_entropies * entropies) {
    struct layer_entropy * layers = entropies->layers;
    const size_t           n      = entropies->n;
    if (n <= FEW_LAYERS) {
        for (size_t i = 0; i < n; i += 4) {
            terminal_field_free(terminal, "", layers_text("", layers + i, i + 4 < n ? 4 : n - i));
        }
        return;
    }
    qsort(layers, n, sizeof(*layers), least_even_first);
    terminal_field_free(terminal, "", layers_text("least even: ", layers, EXTREMES));
    terminal_field_free(terminal, "", layers_text("most even:  ", layers + n - EXTREMES, EXTREMES));
}

void show_entropy_print(const struct terminal * terminal, const struct statistics * statistics,
                        const struct statistics_section * section) {
    struct layer_entropies entropies = entropies_of(statistics, section);
    if (entropies.n > 1) {
        terminal_field_free(terminal, "entropy",
                            memory_text("%.3f, mean of %zu layers (1: all used alike, 0: only one used)",
                                        entropies.mean, entropies.n));
        print_layers(terminal, &entropies);
        if (!isnan(entropies.uniform)) {
            terminal_field_free(terminal, "", memory_text("%.3f if as many tokens used all experts alike",
                                                          entropies.uniform));
        }
    }
    free(entropies.layers);
}
