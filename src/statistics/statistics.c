// Statistics in memory: made, compared and added up.

#include "statistics/statistics.h"

#include "analysis/counts.h"
#include "base/clean.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UNKNOWN STATISTICS_UNKNOWN

struct statistics * statistics_new(const char * path) {
    struct statistics * statistics = memory_new(1, sizeof(*statistics));
    *statistics = (struct statistics) {
        .path              = memory_text("%s", path),
        .complete          = UNKNOWN,
        .n_layer           = UNKNOWN,
        .n_expert          = UNKNOWN,
        .n_expert_used     = UNKNOWN,
        .prompt_tokens     = UNKNOWN,
        .generation_tokens = UNKNOWN,
        .warmup_tokens     = UNKNOWN,
        .model             = { .total_tokens = UNKNOWN },
        .mtp               = { .total_tokens = UNKNOWN },
    };
    return statistics;
}

static void values_clear(struct statistics_values * values) {
    free(values->layers);
    free(values->values);
    *values = (struct statistics_values) { 0 };
}

static void layers_clear(struct statistics_layers * layers) {
    for (size_t i = 0; i < layers->n; i++) {
        free(layers->activations[i]);
    }
    free(layers->layers);
    free(layers->activations);
    *layers = (struct statistics_layers) { 0 };
}

static void section_clear(struct statistics_section * section) {
    free(section->activations);
    values_clear(&section->layer_tokens);
    layers_clear(&section->per_layer);
}

void statistics_free(struct statistics * statistics) {
    if (statistics == NULL) {
        return;
    }
    for (size_t i = 0; i < statistics->n_runs; i++) {
        free(statistics->runs[i]);
    }
    free(statistics->runs);
    free(statistics->path);
    free(statistics->stopped);
    free(statistics->lost_reason);
    free(statistics->engine);
    free(statistics->capture);
    free(statistics->name);
    free(statistics->architecture);
    free(statistics->file);
    values_clear(&statistics->n_expert_per_layer);
    values_clear(&statistics->n_expert_used_per_layer);
    section_clear(&statistics->model);
    section_clear(&statistics->mtp);
    free(statistics);
}

//
// layers
//

// Where the layer is, or belongs.
static size_t find_layer(const uint32_t * layers, size_t n, uint32_t layer) {
    size_t i = n;
    while (i > 0 && layers[i - 1] >= layer) {
        i--;
    }
    return i;
}

int64_t statistics_value(const struct statistics_values * values, uint32_t layer) {
    const size_t i = find_layer(values->layers, values->n, layer);
    return i < values->n && values->layers[i] == layer ? values->values[i] : UNKNOWN;
}

const uint64_t * statistics_layer(const struct statistics_layers * layers, uint32_t layer) {
    const size_t i = find_layer(layers->layers, layers->n, layer);
    return i < layers->n && layers->layers[i] == layer ? layers->activations[i] : NULL;
}

size_t statistics_n_expert(const struct statistics * statistics, const struct statistics_section * section,
                           uint32_t layer) {
    const int64_t own = statistics_value(&statistics->n_expert_per_layer, layer);
    return own != UNKNOWN && (uint64_t) own < section->n_expert ? (size_t) own : section->n_expert;
}

int64_t * statistics_values_at(struct statistics_values * values, uint32_t layer) {
    const size_t i = find_layer(values->layers, values->n, layer);
    if (i == values->n || values->layers[i] != layer) {
        const size_t n_behind = values->n - i;
        values->n++;
        values->layers = memory_resize(values->layers, values->n, sizeof(*values->layers));
        values->values = memory_resize(values->values, values->n, sizeof(*values->values));
        memmove(values->layers + i + 1, values->layers + i, n_behind * sizeof(*values->layers));
        memmove(values->values + i + 1, values->values + i, n_behind * sizeof(*values->values));
        values->layers[i] = layer;
        values->values[i] = 0;
    }
    return &values->values[i];
}

uint64_t * statistics_layers_at(struct statistics_layers * layers, uint32_t layer, size_t n_expert) {
    const size_t i = find_layer(layers->layers, layers->n, layer);
    if (i == layers->n || layers->layers[i] != layer) {
        const size_t n_behind = layers->n - i;
        layers->n++;
        layers->layers      = memory_resize(layers->layers,      layers->n, sizeof(*layers->layers));
        layers->activations = memory_resize(layers->activations, layers->n, sizeof(*layers->activations));
        memmove(layers->layers      + i + 1, layers->layers      + i, n_behind * sizeof(*layers->layers));
        memmove(layers->activations + i + 1, layers->activations + i, n_behind * sizeof(*layers->activations));
        layers->layers[i]      = layer;
        layers->activations[i] = memory_new(n_expert, sizeof(**layers->activations));
    }
    return layers->activations[i];
}

//
// of one model?
//

struct model_comparison {
    const struct statistics * a;
    const struct statistics * b;
    struct error            * error;
    bool                      same;
};

static void differ(struct model_comparison * comparison, const char * what, const char * a, const char * b) {
    char       * text   = comparison->error->text;
    const size_t length = comparison->same ? 0 : strlen(text);
    snprintf(text + length, sizeof(comparison->error->text) - length, "%s%s: %s in %s, %s in %s",
             comparison->same ? "" : "\n", what, a, comparison->a->path, b, comparison->b->path);
    comparison->same = false;
}

static void compare_text(struct model_comparison * comparison, const char * what, const char * a, const char * b) {
    const bool both_known = a != NULL && b != NULL && *a != '\0' && *b != '\0';
    if (both_known && strcmp(a, b) != 0) {
        char * clean_a = clean_in_place(memory_text("%.200s", a)); // a line for each difference
        char * clean_b = clean_in_place(memory_text("%.200s", b));
        differ(comparison, what, clean_a, clean_b);
        free(clean_a);
        free(clean_b);
    }
}

static void compare_number(struct model_comparison * comparison, const char * what, int64_t a, int64_t b) {
    if (a >= 0 && b >= 0 && a != b) {
        char text_a[32];
        char text_b[32];
        snprintf(text_a, sizeof(text_a), "%lld", (long long) a);
        snprintf(text_b, sizeof(text_b), "%lld", (long long) b);
        differ(comparison, what, text_a, text_b);
    }
}

static void compare_values(struct model_comparison * comparison, const char * what,
                           const struct statistics_values * a, const struct statistics_values * b) {
    for (size_t i = 0; i < a->n; i++) {
        char where[64];
        snprintf(where, sizeof(where), "%s of layer %u", what, (unsigned) a->layers[i]);
        compare_number(comparison, where, a->values[i], statistics_value(b, a->layers[i]));
    }
}

// Experts as stated, or as many as there must be at least where they pass what the other one states.
static int64_t n_expert_against(const struct statistics * statistics, const struct statistics * other) {
    const int64_t n_counted = (int64_t) statistics->model.n_expert;
    return statistics->n_expert < 0 && other->n_expert >= 0 && n_counted > other->n_expert
         ? n_counted : statistics->n_expert;
}

bool statistics_same_model(const struct statistics * a, const struct statistics * b, bool shapes_only,
                           struct error * error) {
    struct model_comparison comparison = { a, b, error, true };
    if (!shapes_only) {
        compare_text  (&comparison, "architecture",  a->architecture,  b->architecture);
        compare_text  (&comparison, "name",          a->name,          b->name);
        compare_number(&comparison, "n_expert_used", a->n_expert_used, b->n_expert_used);
        compare_values(&comparison, "n_expert_used", &a->n_expert_used_per_layer, &b->n_expert_used_per_layer);
    }
    compare_number(&comparison, "n_layer",  a->n_layer,  b->n_layer);
    compare_number(&comparison, "n_expert", n_expert_against(a, b), n_expert_against(b, a));
    compare_values(&comparison, "n_expert", &a->n_expert_per_layer, &b->n_expert_per_layer);
    return comparison.same;
}

static int compare_runs(const void * one, const void * other) {
    return strcmp(*(const char * const *) one, *(const char * const *) other);
}

// Statistics that were merged of very many have as many runs.
const char * statistics_common_run(const struct statistics * a, const struct statistics * b) {
    const char * common = NULL;
    const char ** sorted = memory_new(b->n_runs, sizeof(*sorted));
    for (size_t i = 0; i < b->n_runs; i++) {
        sorted[i] = b->runs[i];
    }
    qsort(sorted, b->n_runs, sizeof(*sorted), compare_runs);
    for (size_t i = 0; i < a->n_runs && common == NULL; i++) {
        const char * run = a->runs[i];
        common = bsearch(&run, sorted, b->n_runs, sizeof(*sorted), compare_runs) != NULL ? a->runs[i] : NULL;
    }
    free(sorted);
    return common;
}

//
// adding
//

static bool add_count(uint64_t * to, uint64_t from, struct error * error) {
    return counts_add(to, from) || error_set(error, "the counts add up to more than 2^63 - 1");
}

// Known only where both are.
static bool add_number(int64_t * to, int64_t from, struct error * error) {
    if (*to == UNKNOWN || from == UNKNOWN) {
        *to = UNKNOWN;
        return true;
    }
    uint64_t sum = (uint64_t) *to;
    if (!add_count(&sum, (uint64_t) from, error)) {
        return false;
    }
    *to = (int64_t) sum;
    return true;
}

static bool add_counts(uint64_t * to, const uint64_t * from, size_t n, struct error * error) {
    for (size_t i = 0; i < n; i++) {
        if (!add_count(&to[i], from[i], error)) {
            return false;
        }
    }
    return true;
}

static bool add_layer_tokens(struct statistics_values * to, const struct statistics_values * from,
                             struct error * error) {
    if (!to->known || !from->known) {
        values_clear(to);
        return true;
    }
    for (size_t i = 0; i < from->n; i++) {
        if (!add_number(statistics_values_at(to, from->layers[i]), from->values[i], error)) {
            return false;
        }
    }
    return true;
}

static bool add_per_layer(struct statistics_section * to, const struct statistics_section * from,
                          struct error * error) {
    if (!to->per_layer.known || !from->per_layer.known) {
        layers_clear(&to->per_layer);
        return true;
    }
    for (size_t i = 0; i < from->per_layer.n; i++) {
        uint64_t * activations = statistics_layers_at(&to->per_layer, from->per_layer.layers[i], to->n_expert);
        if (!add_counts(activations, from->per_layer.activations[i], from->n_expert, error)) {
            return false;
        }
    }
    return true;
}

static uint64_t * widened(uint64_t * counts, size_t n_old, size_t n_new) {
    counts = memory_resize(counts, n_new, sizeof(*counts));
    memset(counts + n_old, 0, (n_new - n_old) * sizeof(*counts));
    return counts;
}

static void section_widen(struct statistics_section * section, size_t n_expert) {
    if (n_expert <= section->n_expert) {
        return;
    }
    section->activations = widened(section->activations, section->n_expert, n_expert);
    for (size_t i = 0; i < section->per_layer.n; i++) {
        section->per_layer.activations[i] = widened(section->per_layer.activations[i], section->n_expert, n_expert);
    }
    section->n_expert = n_expert;
}

static bool section_add(struct statistics_section * to, const struct statistics_section * from, struct error * error) {
    section_widen(to, from->n_expert);
    return add_number      (&to->total_tokens,      from->total_tokens,      error)
        && add_count       (&to->total_activations, from->total_activations, error)
        && add_counts      (to->activations, from->activations, from->n_expert, error)
        && add_layer_tokens(&to->layer_tokens, &from->layer_tokens, error)
        && add_per_layer   (to, from, error);
}

// What has counted nothing yet, and is ready for whatever `like` knows.
static void section_begin(struct statistics_section * section, const struct statistics_section * like) {
    *section = (struct statistics_section) {
        .layer_tokens.known = like->layer_tokens.known,
        .per_layer.known    = like->per_layer.known,
    };
}

static void add_runs(struct statistics * to, const struct statistics * from) {
    to->runs = memory_resize(to->runs, to->n_runs + from->n_runs, sizeof(*to->runs));
    for (size_t i = 0; i < from->n_runs; i++) {
        to->runs[to->n_runs++] = memory_text("%s", from->runs[i]);
    }
}

// The one that is known; what differed once stays so.
static void agree_text(char ** to, const char * from) {
    if (*to == NULL && from != NULL) {
        *to = memory_text("%s", from);
    } else if (*to != NULL && from != NULL && strcmp(*to, from) != 0) {
        free(*to);
        *to = memory_text("%s", "");
    }
}

static void agree_number(int64_t * to, int64_t from) {
    if (*to == UNKNOWN) {
        *to = from;
    } else if (from != UNKNOWN && *to != from) {
        *to = STATISTICS_DIFFERS;
    }
}

static void agree_values(struct statistics_values * to, const struct statistics_values * from) {
    to->known = to->known || from->known;
    for (size_t i = 0; i < from->n; i++) {
        const bool is_new = statistics_value(to, from->layers[i]) == UNKNOWN;
        int64_t  * value  = statistics_values_at(to, from->layers[i]);
        *value = is_new ? UNKNOWN : *value;
        agree_number(value, from->values[i]);
    }
}

// Engines of several machines may differ, and are worth knowing all the same: "a; b".
static void join_text(char ** to, const char * from) {
    if (from == NULL || (*to != NULL && strstr(*to, from) != NULL)) {
        return;
    }
    char * joined = *to == NULL ? memory_text("%s", from) : memory_text("%s; %s", *to, from);
    free(*to);
    *to = joined;
}

static int both_complete(int a, int b) {
    if (a == 0 || b == 0) {
        return 0;
    }
    return a == 1 && b == 1 ? 1 : UNKNOWN;
}

bool statistics_add(struct statistics * to, const struct statistics * from, struct error * error) {
    agree_text  (&to->name,          from->name);
    agree_text  (&to->architecture,  from->architecture);
    agree_text  (&to->file,          from->file);
    join_text   (&to->engine,        from->engine);
    join_text   (&to->capture,       from->capture);
    agree_number(&to->n_layer,       from->n_layer);
    agree_number(&to->n_expert,      from->n_expert);
    agree_number(&to->n_expert_used, from->n_expert_used);
    agree_values(&to->n_expert_per_layer,      &from->n_expert_per_layer);
    agree_values(&to->n_expert_used_per_layer, &from->n_expert_used_per_layer);
    add_runs    (to, from);
    to->complete = both_complete(to->complete, from->complete);
    join_text   (&to->stopped,       from->stopped);
    join_text   (&to->lost_reason,   from->lost_reason);

    if (from->has_mtp && !to->has_mtp) {
        section_begin(&to->mtp, &from->mtp);
        to->has_mtp = true;
    }
    return add_number (&to->lost_ubatches,     from->lost_ubatches,     error)
        && add_number (&to->lost_tokens,       from->lost_tokens,       error)
        && add_number (&to->prompt_tokens,     from->prompt_tokens,     error)
        && add_number (&to->generation_tokens, from->generation_tokens, error)
        && add_number (&to->warmup_tokens,     from->warmup_tokens,     error)
        && section_add(&to->model, &from->model, error)
        && (!from->has_mtp || section_add(&to->mtp, &from->mtp, error));
}
