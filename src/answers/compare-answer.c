// Works out how far the uses of experts in several files are from each other, and from themselves, half against half.

#include "answers/compare-answer.h"

#include "analysis/counts.h"
#include "analysis/divergence.h"
#include "answers/worth.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double hot_shares[COMPARE_N_HOT] = { 0.1, 0.25, 0.5 };

//
// whether they can be compared
//

#define SAME_SHAPE "only what has the same shape can be compared"

static bool same_layer(const struct routing_counts * a, const struct routing_counts * b, size_t i,
                       struct error * error) {
    const struct counted_layer * x      = &a->layers[i];
    const struct counted_layer * y      = &b->layers[i];
    const char                 * name_a = routing_counts_name(a);
    const char                 * name_b = routing_counts_name(b);
    if (x->layer != y->layer) {
        return error_set(error, "%s has experts in layer %d where %s has them in layer %d: " SAME_SHAPE,
                         name_a, (int) x->layer, name_b, (int) y->layer);
    }
    if (x->n_expert != y->n_expert) {
        return error_set(error, "%s has %zu experts in layer %d, %s has %zu: " SAME_SHAPE,
                         name_a, x->n_expert, (int) x->layer, name_b, y->n_expert);
    }
    if (x->n_used >= 0 && y->n_used >= 0 && x->n_used != y->n_used) {
        return error_set(error, "%s uses %d experts for a token in layer %d, %s uses %d: " SAME_SHAPE,
                         name_a, (int) x->n_used, (int) x->layer, name_b, (int) y->n_used);
    }
    return true;
}

static bool same_shape(const struct routing_counts * a, const struct routing_counts * b, struct error * error) {
    if (a->n_layers != b->n_layers) {
        return error_set(error, "%s has %zu layers with experts, %s has %zu: " SAME_SHAPE,
                         routing_counts_name(a), a->n_layers, routing_counts_name(b), b->n_layers);
    }
    for (size_t i = 0; i < a->n_layers; i++) {
        if (!same_layer(a, b, i, error)) {
            return false;
        }
    }
    return true;
}

static bool has_layers(const struct routing_counts * counts, struct error * error) {
    if (counts->n_layers > 0) {
        return true;
    }
    const bool per_layer = counts->statistics == NULL || counts->statistics->model.per_layer.known;
    return error_set(error, "%s: has no %s", routing_counts_name(counts), per_layer ? "layer to compare" :
                     "counts per layer: record them with `llama-expert-tracer run --per-layer -o FILE`");
}

//
// a pair
//

static double js_of(const struct counted_layer * a, enum counted_part part_a,
                    const struct counted_layer * b, enum counted_part part_b) {
    const uint64_t * x = a->activations[part_a];
    const uint64_t * y = b->activations[part_b];
    return x == NULL || y == NULL ? (double) NAN : divergence_js(x, y, a->n_expert);
}

static struct compare_layer compare_layers(const struct counted_layer * a, const struct counted_layer * b) {
    return (struct compare_layer) {
        .divergence = js_of(a, COUNTED_ALL, b, COUNTED_ALL),
        .overlap    = divergence_overlap(a->activations[COUNTED_ALL], b->activations[COUNTED_ALL], a->n_expert),
        .noise_a    = js_of(a, COUNTED_FIRST_HALF, a, COUNTED_SECOND_HALF),
        .noise_b    = js_of(b, COUNTED_FIRST_HALF, b, COUNTED_SECOND_HALF),
    };
}

// Of those that are known.
struct mean {
    double sum;
    double n;
};

static void add_to_mean(struct mean * mean, double value) {
    if (!isnan(value)) {
        mean->sum += value;
        mean->n   += 1.0;
    }
}

static double value_of_mean(struct mean mean) {
    return mean.n > 0.0 ? mean.sum / mean.n : (double) NAN;
}

static struct compare_layer mean_of(const struct compare_layer * layers, size_t n) {
    struct mean divergence = { 0 };
    struct mean overlap    = { 0 };
    struct mean noise_a    = { 0 };
    struct mean noise_b    = { 0 };
    for (size_t i = 0; i < n; i++) {
        add_to_mean(&divergence, layers[i].divergence);
        add_to_mean(&overlap,    layers[i].overlap);
        add_to_mean(&noise_a,    layers[i].noise_a);
        add_to_mean(&noise_b,    layers[i].noise_b);
    }
    return (struct compare_layer) {
        value_of_mean(divergence), value_of_mean(overlap), value_of_mean(noise_a), value_of_mean(noise_b),
    };
}

static size_t * by_divergence(const struct compare_layer * layers, size_t n) {
    size_t * order = memory_new(n, sizeof(*order));
    for (size_t i = 0; i < n; i++) {
        size_t at = i;
        for (; at > 0 && layers[i].divergence > layers[order[at - 1]].divergence; at--) {
            order[at] = order[at - 1];
        }
        order[at] = i;
    }
    return order;
}

//
// hot sets
//

static bool has_both_halves(const struct routing_counts * counts) {
    uint64_t sums[2] = { 0 };
    for (size_t i = 0; i < counts->n_layers; i++) {
        const struct counted_layer * layer = &counts->layers[i];
        for (int half = 0; half < 2 && layer->activations[COUNTED_FIRST_HALF + half] != NULL; half++) {
            sums[half] += counts_sum(layer->activations[COUNTED_FIRST_HALF + half], layer->n_expert);
        }
    }
    return sums[0] > 0 && sums[1] > 0;
}

static double hits_of(const struct routing_counts * learned, enum counted_part learned_part,
                      const struct routing_counts * judged,  enum counted_part judged_part, double share) {
    double hits = 0.0;
    double all  = 0.0;
    for (size_t i = 0; i < judged->n_layers; i++) {
        const size_t     n     = judged->layers[i].n_expert;
        const uint64_t * known = learned->layers[i].activations[learned_part];
        const uint64_t * there = judged->layers[i].activations[judged_part];
        const double     sum   = (double) counts_sum(there, n);
        hits += sum * divergence_hot_set(known, there, n, (size_t) ceil(share * (double) n));
        all  += sum;
    }
    return all > 0.0 ? hits / all : (double) NAN;
}

// A list that is learned on more than the own one, or on what it is judged by, would look better than it is.
static double hits_of_list(const struct routing_counts * learned, const struct routing_counts * judged, double share) {
    return hits_of(learned, has_both_halves(learned) ? COUNTED_FIRST_HALF  : COUNTED_ALL,
                   judged,  has_both_halves(judged)  ? COUNTED_SECOND_HALF : COUNTED_ALL, share);
}

// Tokens that a list is judged by, in a layer.
static double n_judged(const struct routing_counts * judged) {
    const enum counted_part part = has_both_halves(judged) ? COUNTED_SECOND_HALF : COUNTED_ALL;
    double                  n    = 0.0;
    for (size_t i = 0; i < judged->n_layers; i++) {
        const struct counted_layer * layer = &judged->layers[i];
        n += (double) counts_sum(layer->activations[part], layer->n_expert) / (layer->n_used < 1 ? 1 : layer->n_used);
    }
    return n / (double) judged->n_layers;
}

enum loss { LOSS_NONE, LOSS_PERHAPS, LOSS_SURE };

// As sure as if all layers of a token were served alike: two standard deviations of the difference are more than what
// so many tokens differ by chance, if they are independent.
static enum loss loss_of(double by_other, double by_own, double n_tokens) {
    const double loss = by_own - by_other;
    if (loss <= 0.0 || loss < WORTH_HAVING * by_own) {
        return LOSS_NONE;
    }
    return loss > 2.0 * sqrt((by_own + by_other) / n_tokens) ? LOSS_SURE : LOSS_PERHAPS;
}

static enum compare_sharing sharing_of(const struct compare_pair * pair, const struct routing_counts * a,
                                       const struct routing_counts * b) {
    const struct compare_hot * hot = &pair->hot[COMPARE_QUARTER];
    if (isnan(hot->a_on_b) || isnan(hot->b_on_b) || isnan(hot->b_on_a) || isnan(hot->a_on_a)) {
        return COMPARE_UNKNOWN;
    }
    const enum loss of_a = loss_of(hot->b_on_a, hot->a_on_a, n_judged(a));
    const enum loss of_b = loss_of(hot->a_on_b, hot->b_on_b, n_judged(b));
    if (of_a == LOSS_NONE && of_b == LOSS_NONE) {
        return COMPARE_SHARE;
    }
    if (of_a != LOSS_SURE && of_b != LOSS_SURE) {
        return COMPARE_TOO_CLOSE;
    }
    return of_b == LOSS_NONE ? COMPARE_A_FOR_B : of_a == LOSS_NONE ? COMPARE_B_FOR_A : COMPARE_NOT;
}

//
// experts
//

static double difference(const struct compare_expert * expert) {
    return fabs(expert->a - expert->b);
}

// Keeps those that differ most, in order; of equals those that came first.
static void take_expert(struct compare_pair * pair, struct compare_expert expert) {
    size_t at = pair->n_experts;
    while (at > 0 && difference(&pair->experts[at - 1]) < difference(&expert)) {
        at--;
    }
    if (at == COMPARE_N_EXPERTS || expert.a == expert.b) {
        return;
    }
    pair->n_experts += pair->n_experts < COMPARE_N_EXPERTS;
    for (size_t i = pair->n_experts - 1; i > at; i--) {
        pair->experts[i] = pair->experts[i - 1];
    }
    pair->experts[at] = expert;
}

static void compare_experts(struct compare_pair * pair, const struct counted_layer * a,
                            const struct counted_layer * b) {
    const uint64_t * x     = a->activations[COUNTED_ALL];
    const uint64_t * y     = b->activations[COUNTED_ALL];
    const uint64_t   sum_x = counts_sum(x, a->n_expert);
    const uint64_t   sum_y = counts_sum(y, b->n_expert);
    for (size_t i = 0; i < a->n_expert && sum_x > 0 && sum_y > 0; i++) {
        const double share_x = counts_share(x[i], sum_x);
        const double share_y = counts_share(y[i], sum_y);
        take_expert(pair, (struct compare_expert) { a->layer, i, share_x, share_y });
    }
}

static void compare_pair(const struct compare_answer * comparison, struct compare_pair * pair, size_t b) {
    const struct routing_counts * x = comparison->files[0];
    const struct routing_counts * y = comparison->files[b];
    pair->a      = 0;
    pair->b      = b;
    pair->layers = memory_new(x->n_layers, sizeof(*pair->layers));
    for (size_t i = 0; i < x->n_layers; i++) {
        pair->layers[i] = compare_layers(&x->layers[i], &y->layers[i]);
        compare_experts(pair, &x->layers[i], &y->layers[i]);
    }
    pair->by_divergence = by_divergence(pair->layers, x->n_layers);
    pair->mean          = mean_of(pair->layers, x->n_layers);
    pair->noise         = fmax(pair->mean.noise_a, pair->mean.noise_b);
    pair->times         = pair->mean.divergence / pair->noise;
    for (size_t i = 0; i < COMPARE_N_HOT; i++) {
        const double share = hot_shares[i];
        pair->hot[i] = (struct compare_hot) { share, hits_of_list(x, y, share), hits_of_list(y, y, share),
                                              hits_of_list(y, x, share), hits_of_list(x, x, share) };
    }
    pair->sharing    = sharing_of(pair, x, y);
    pair->has_halves = has_both_halves(x) && has_both_halves(y);
}

static double mean_divergence(const struct routing_counts * a, const struct routing_counts * b) {
    struct mean mean = { 0 };
    for (size_t i = 0; i < a->n_layers; i++) {
        add_to_mean(&mean, js_of(&a->layers[i], COUNTED_ALL, &b->layers[i], COUNTED_ALL));
    }
    return value_of_mean(mean);
}

//
// names for sentences
//

// The last n parts of a path, without the ending.
static char * tail_of(const char * path, int n_parts) {
    const char * from = path + strlen(path);
    while (from > path && (from[-1] != '/' || --n_parts > 0)) {
        from--;
    }
    from += *from == '/';
    const char * slash = strrchr(from, '/');
    const char * dot   = strrchr(from, '.');
    const bool   ends  = dot != NULL && dot > (slash == NULL ? from : slash + 1);
    return memory_text("%.*s", ends ? (int) (dot - from) : (int) strlen(from), from);
}

static bool is_same_as_another(char * const * names, size_t n, size_t i) {
    for (size_t k = 0; k < n; k++) {
        if (k != i && strcmp(names[k], names[i]) == 0) {
            return true;
        }
    }
    return false;
}

// In the place of those that are the same. Takes the new ones.
static void replace_same(char ** names, char ** others, size_t n) {
    bool * same = memory_new(n, sizeof(*same));
    for (size_t i = 0; i < n; i++) {
        same[i] = is_same_as_another(names, n, i);
    }
    for (size_t i = 0; i < n; i++) {
        free(same[i] ? names[i] : others[i]);
        names[i] = same[i] ? others[i] : names[i];
    }
    free(same);
}

// With their folder where names are the same, and with their letter where that is too.
static void fill_names(struct compare_answer * comparison) {
    const size_t n       = comparison->n_files;
    char      ** folders = memory_new(n, sizeof(char *));
    char      ** letters = memory_new(n, sizeof(char *));
    comparison->names    = memory_new(n, sizeof(char *));
    for (size_t i = 0; i < n; i++) {
        const char * path = routing_counts_name(comparison->files[i]);
        comparison->names[i] = tail_of(path, 1);
        folders[i]           = tail_of(path, 2);
        letters[i]           = memory_append(tail_of(path, 1), memory_text(" (%c)", (char) ('A' + i)));
    }
    replace_same(comparison->names, folders, n);
    replace_same(comparison->names, letters, n);
    free(folders);
    free(letters);
}

//
// the whole
//

static bool load(struct compare_answer * comparison, char ** paths, size_t n_paths, const struct trace_filter * filter,
                 struct error * error) {
    comparison->files = memory_new(n_paths, sizeof(*comparison->files));
    for (size_t i = 0; i < n_paths; i++) {
        struct routing_counts * counts = routing_counts_load(paths[i], filter, true, error);
        if (counts == NULL) {
            return false;
        }
        comparison->files[comparison->n_files++] = counts;
        if (!has_layers(counts, error) || !same_shape(comparison->files[0], counts, error)) {
            return false;
        }
    }
    return true;
}

static void compare_all(struct compare_answer * comparison) {
    const size_t n = comparison->n_files;
    fill_names(comparison);
    comparison->n_pairs = n - 1;
    comparison->pairs   = memory_new(n - 1, sizeof(*comparison->pairs));
    comparison->matrix  = memory_new(n * n, sizeof(*comparison->matrix));
    for (size_t i = 1; i < n; i++) {
        compare_pair(comparison, &comparison->pairs[i - 1], i);
    }
    for (size_t i = 0; i < n * n; i++) {
        comparison->matrix[i] = mean_divergence(comparison->files[i / n], comparison->files[i % n]);
    }
}

struct compare_answer * compare_answer_new(char ** paths, size_t n_paths, const struct trace_filter * filter,
                                           struct error * error) {
    struct compare_answer * comparison = memory_new(1, sizeof(*comparison));
    if (!load(comparison, paths, n_paths, filter, error)) {
        compare_answer_free(comparison);
        return NULL;
    }
    compare_all(comparison);
    return comparison;
}

void compare_answer_free(struct compare_answer * comparison) {
    for (size_t i = 0; i < comparison->n_files; i++) {
        routing_counts_free(comparison->files[i]);
        free(comparison->names == NULL ? NULL : comparison->names[i]);
    }
    free(comparison->names);
    for (size_t i = 0; i < comparison->n_pairs; i++) {
        free(comparison->pairs[i].layers);
        free(comparison->pairs[i].by_divergence);
    }
    free(comparison->files);
    free(comparison->pairs);
    free(comparison->matrix);
    free(comparison);
}
