// Counts the experts of a trace, and makes of the counts the frequencies of a code.

#include "trace/rewrite/code-fitting.h"

#include "trace/read/trace-reader.h"

#include <math.h>
#include <stdlib.h>

// Of one layer of one table.
struct layer_counts {
    uint64_t * experts; // [n_expert], NULL: none
};

struct table_counts {
    struct layer_counts * layers;
};

static void free_counts(struct table_counts * counts, const struct trace_tables * tables) {
    for (size_t i = 0; counts != NULL && i < tables->n; i++) {
        for (size_t j = 0; counts[i].layers != NULL && j < tables->tables[i].n_layers; j++) {
            free(counts[i].layers[j].experts);
        }
        free(counts[i].layers);
    }
    free(counts);
}

static bool count_layer(struct layer_counts * counts, const struct trace_routing * routing) {
    if (counts->experts == NULL) {
        counts->experts = calloc((size_t) routing->n_expert, sizeof(counts->experts[0]));
    }
    if (counts->experts == NULL) {
        return false;
    }
    const size_t n = (size_t) routing->n_rows * (size_t) routing->n_used;
    for (size_t i = 0; i < n; i++) {
        counts->experts[routing->experts[i]]++;
    }
    return true;
}

static bool count_ubatch(struct table_counts * counts, const struct trace_ubatch * ubatch) {
    struct table_counts * table = &counts[ubatch->table];
    if (table->layers == NULL) {
        table->layers = calloc(ubatch->n_layers + 1, sizeof(table->layers[0]));
    }
    bool ok = table->layers != NULL;
    for (size_t i = 0; i < ubatch->n_layers && ok; i++) {
        ok = count_layer(&table->layers[i], &ubatch->layers[i]);
    }
    return ok;
}

static bool count_all(const struct trace * trace, struct table_counts * counts, uint64_t * lost,
                      const struct rewriting_progress * progress) {
    struct trace_cursor * cursor = trace_cursor_new(trace);
    struct trace_ubatch   ubatch;
    bool                  ok     = cursor != NULL;
    while (ok && trace_next(cursor, &ubatch)) {
        ok = count_ubatch(counts, &ubatch);
        rewriting_progress_report(progress, trace_cursor_offset(cursor));
    }
    *lost = ok ? trace_cursor_lost(cursor) : 0;
    trace_cursor_free(cursor);
    return ok;
}

static double entropy_of(const uint64_t * counts, int32_t n_expert) {
    double total = 0;
    double bits  = 0;
    for (int32_t i = 0; i < n_expert; i++) {
        total += (double) counts[i];
    }
    for (int32_t i = 0; i < n_expert; i++) {
        bits += counts[i] > 0 ? (double) counts[i] * log2(total / (double) counts[i]) : 0;
    }
    return bits / 8;
}

static bool fit_layer(struct trace_code_layer * layer, const struct trace_layer * about, const uint64_t * counts,
                      double * entropy) {
    if (counts != NULL) {
        *entropy += entropy_of(counts, about->n_expert);
        return trace_code_fit(layer, counts, about->n_expert);
    }
    layer->experts = calloc((size_t) about->n_expert + 1, sizeof(layer->experts[0]));
    layer->n_expert = about->n_expert;
    return layer->experts != NULL;
}

// A code for each table that ubatches have.
static bool fit_tables(const struct trace * trace, const struct table_counts * counts, struct trace_code * code,
                       double * entropy) {
    bool ok = true;
    for (size_t i = 0; i < trace->tables.n && ok; i++) {
        const struct trace_table * about = &trace->tables.tables[i];
        struct trace_code_table  * table = counts[i].layers != NULL ? trace_code_add(code, i, about->n_layers) : NULL;
        ok = table != NULL || counts[i].layers == NULL;
        for (size_t j = 0; table != NULL && j < about->n_layers && ok; j++) {
            ok = fit_layer(&table->layers[j], &about->layers[j], counts[i].layers[j].experts, entropy);
        }
    }
    return ok;
}

bool code_fitting_run(struct code_fitting * fitting, const struct trace * trace,
                      const struct rewriting_progress * progress) {
    struct table_counts * counts = calloc(trace->tables.n + 1, sizeof(counts[0]));
    const bool ok = counts != NULL && count_all(trace, counts, &fitting->lost, progress) &&
                    fit_tables(trace, counts, &fitting->code, &fitting->entropy);
    free_counts(counts, &trace->tables);
    return ok;
}
