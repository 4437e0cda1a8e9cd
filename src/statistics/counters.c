// Adds up routing in one block of memory that grows with the layers and experts that turn up.

#include "statistics/counters.h"

#include "base/cache-line.h"

#include <stdlib.h>

static int32_t greater_of(int32_t a, int32_t b) {
    return a > b ? a : b;
}

// What is known of a layer mostly stays as it is.
static inline void describe_layer(struct counters_layer * layer, int32_t n_expert, int32_t n_used) {
    if (n_expert > layer->n_expert) {
        layer->n_expert = n_expert;
    }
    if (n_used != layer->n_used) {
        layer->n_used = n_used;
    }
}

static void add_row(struct counters_table * table, const struct counters_table * from, int32_t index) {
    const struct counters_layer * layer    = &from->layers[index];
    const int32_t                 n_expert = layer->n_expert;
    const uint64_t                n_tokens = counter_get(&layer->n_tokens);
    if (n_expert > 0) {
        describe_layer(&table->layers[index], n_expert, layer->n_used);
    }
    if (n_tokens == 0) {
        return; // no activations either
    }
    _Atomic uint64_t       * row    = counters_row(table, index);
    const _Atomic uint64_t * source = counters_row(from,  index);
    for (int32_t i = 0; i < n_expert; i++) {
        counter_add(&row[i], counter_get(&source[i]));
    }
    counter_add(&table->layers[index].n_tokens, n_tokens);
}

void counters_add_table(struct counters_table * table, const struct counters_table * from) {
    for (int32_t i = 0; i < from->n_layers; i++) {
        add_row(table, from, i);
    }
}

size_t counters_block_size(int32_t n_layers, int32_t n_expert) {
    return (size_t) n_layers * (sizeof(struct counters_layer) + (size_t) n_expert * sizeof(uint64_t));
}

static void * take_block(const struct memory_source * memory, size_t size) {
    return memory ? memory->take(memory->self, size) : cache_line_alloc(size);
}

void counters_free_table(struct counters_table * table) {
    const struct memory_source * memory = table->memory;
    if (memory && table->layers) {
        memory->give(memory->self, table->layers, counters_block_size(table->n_layers, table->n_expert));
    } else {
        free(table->layers);
    }
    *table = (struct counters_table) { .memory = memory };
}

bool counters_make_room(struct counters_table * table, int32_t n_layers, int32_t n_expert) {
    if (counters_have_room(table, n_layers, n_expert)) {
        return true;
    }
    struct counters_table grown = {
        .n_layers = greater_of(n_layers, table->n_layers),
        .n_expert = greater_of(n_expert, table->n_expert),
        .memory   = table->memory,
    };
    grown.layers = take_block(table->memory, counters_block_size(grown.n_layers, grown.n_expert));
    if (grown.layers == NULL) {
        return false;
    }
    grown.activations = (_Atomic uint64_t *) (grown.layers + grown.n_layers);
    counters_add_table(&grown, table);
    counters_free_table(table);
    *table = grown;
    return true;
}

bool counters_add_layer(struct counters_table * table, const struct routing_layer * routed) {
    if (!counters_have_room(table, routed->layer + 1, routed->n_expert)) {
        return false;
    }
    struct counters_layer * layer = &table->layers[routed->layer];
    describe_layer(layer, routed->n_expert, routed->n_used);
    counter_add(&layer->n_tokens, (uint64_t) routed->n_tokens);

    _Atomic uint64_t * row     = counters_row(table, routed->layer);
    const int32_t    * experts = routed->experts;
    const size_t       n       = (size_t) routed->n_tokens * (size_t) routed->n_used;
    for (size_t i = 0; i < n; i++) {
        counter_add(&row[experts[i]], 1);
    }
    return true;
}

void counters_add_totals(struct counters_totals * totals, const struct counters_totals * from) {
    counter_add(&totals->n_tokens,        counter_get(&from->n_tokens));
    counter_add(&totals->n_prompt,        counter_get(&from->n_prompt));
    counter_add(&totals->n_generation,    counter_get(&from->n_generation));
    counter_add(&totals->n_warmup,        counter_get(&from->n_warmup));
    counter_add(&totals->n_mtp,           counter_get(&from->n_mtp));
    counter_add(&totals->n_lost,          counter_get(&from->n_lost));
    counter_add(&totals->n_lost_ubatches, counter_get(&from->n_lost_ubatches));
}

bool counters_add(struct counters * counts, const struct counters * from) {
    if (!counters_make_room(&counts->table, from->table.n_layers, from->table.n_expert)) {
        return false;
    }
    counters_add_table (&counts->table,  &from->table);
    counters_add_totals(&counts->totals, &from->totals);
    return true;
}

void counters_reset_table(struct counters_table * table) {
    for (int32_t i = 0; i < table->n_layers; i++) {
        if (counter_get(&table->layers[i].n_tokens) == 0) {
            continue;
        }
        counter_set(&table->layers[i].n_tokens, 0);
        _Atomic uint64_t * row = counters_row(table, i);
        for (int32_t expert = 0; expert < table->n_expert; expert++) {
            counter_set(&row[expert], 0);
        }
    }
}

void counters_reset_totals(struct counters_totals * totals) {
    counter_set(&totals->n_tokens,        0);
    counter_set(&totals->n_prompt,        0);
    counter_set(&totals->n_generation,    0);
    counter_set(&totals->n_warmup,        0);
    counter_set(&totals->n_mtp,           0);
    counter_set(&totals->n_lost,          0);
    counter_set(&totals->n_lost_ubatches, 0);
}

void counters_reset(struct counters * counts) {
    counters_reset_table (&counts->table);
    counters_reset_totals(&counts->totals);
}

void counters_free(struct counters * counts) {
    counters_free_table(&counts->table);
    counters_reset_totals(&counts->totals);
}
