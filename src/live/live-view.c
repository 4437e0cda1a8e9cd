// Copies what lies under sequence locks and keeps what did not change meanwhile. Whatever the memory holds, no more is
// copied than its size: the process behind it may be anybody's.

#include "live/live-view.h"

#include <stdlib.h>
#include <string.h>

#define DEADLINE    200   // milliseconds
#define TEXT_MAX    65536
#define EXPERTS_MAX 65536 // of a layer, so that no product is too large for 64 bits

enum outcome {
    READ,
    CHANGED, // to be read again
    DAMAGED,
    LATE,
};

struct reading {
    const struct live_map * map;
    struct live_view      * view;
    int64_t                 deadline;
    uint32_t                sequence; // of the header
    uint64_t                room;     // bytes that may still be copied: segments do not overlap
};

// What is wrong may be of another state than what was looked at before.
static enum outcome damaged(const struct reading * reading) {
    return live_map_is_same(&live_map_header(reading->map)->sequence, reading->sequence) ? DAMAGED : CHANGED;
}

static const void * take_bytes(struct reading * reading, uint64_t offset, uint64_t size) {
    if (size > reading->room) {
        return NULL;
    }
    reading->room -= size;
    return live_map_at(reading->map, offset, size);
}

static void copy_name(char * to, const char * from, size_t size) {
    memcpy(to, from, size);
    to[size - 1] = '\0';
}

static void read_header(const struct live_map * map, struct live_view * view) {
    const struct live_header * header = live_map_header(map);
    view->started  = header->started;
    view->pid      = header->pid;
    view->switches = atomic_load_explicit(&header->switches, memory_order_relaxed);
    view->n_hidden = atomic_load_explicit(&header->n_hidden, memory_order_relaxed);
    copy_name(view->name,    header->name,    sizeof(view->name));
    copy_name(view->program, header->program, sizeof(view->program));
    copy_name(view->tracer,  header->tracer,  sizeof(view->tracer));
}

//
// models
//

// In its place by number.
static struct live_view_model * find_model(struct live_view * view, uint32_t number) {
    size_t at = 0;
    while (at < view->n_models && view->models[at].number < number) {
        at++;
    }
    if (at < view->n_models && view->models[at].number == number) {
        return &view->models[at];
    }
    view->models = memory_resize(view->models, view->n_models + 1, sizeof(*view->models));
    memmove(&view->models[at + 1], &view->models[at], (view->n_models - at) * sizeof(*view->models));
    view->n_models++;
    view->models[at] = (struct live_view_model) { .number = number };
    return &view->models[at];
}

static bool copy_text(const char * segment, uint64_t size, struct live_string string, char ** text) {
    if (string.length > TEXT_MAX || string.at > size || string.length > size - string.at) {
        return false;
    }
    free(*text);
    *text = string.length == 0 ? NULL : memory_text("%.*s", (int) string.length, segment + string.at);
    return true;
}

static enum outcome read_model(struct reading * reading, const struct live_segment * segment) {
    const char * base = take_bytes(reading, segment->offset, segment->size);
    if (base == NULL || segment->size < sizeof(struct live_model)) {
        return damaged(reading);
    }
    struct live_view_model * model = find_model(reading->view, segment->model);
    struct live_model        shown;
    memcpy(&shown, base, sizeof(shown));
    model->n_layer      = shown.n_layer;
    model->n_expert     = shown.n_expert;
    model->n_used       = shown.n_used;
    model->phases_known = shown.phases_known != 0;
    return copy_text(base, segment->size, shown.name,         &model->name)         &&
           copy_text(base, segment->size, shown.architecture, &model->architecture) &&
           copy_text(base, segment->size, shown.file,         &model->file)         &&
           copy_text(base, segment->size, shown.engine,       &model->engine)       &&
           copy_text(base, segment->size, shown.capture,      &model->capture) ? READ : damaged(reading);
}

//
// counters
//

static uint64_t table_size(int32_t n_layers, int32_t n_expert) {
    return (uint64_t) n_layers * (sizeof(struct counters_layer) + (uint64_t) n_expert * sizeof(uint64_t));
}

// Where a table's counters lie in the file: `layers` is NULL where there are none. False: that cannot be.
static bool find_table(struct reading * reading, const struct live_table * shown, struct counters_table * table) {
    const uint64_t offset = atomic_load_explicit(&shown->offset, memory_order_relaxed);
    *table = (struct counters_table) {
        .n_layers = atomic_load_explicit(&shown->n_layers, memory_order_relaxed),
        .n_expert = atomic_load_explicit(&shown->n_expert, memory_order_relaxed),
    };
    if (table->n_layers < 0 || table->n_expert < 0 || table->n_expert > EXPERTS_MAX) {
        return false;
    }
    if (offset == 0) {
        table->n_layers = 0;
        table->n_expert = 0;
        return true;
    }
    const uint64_t size = table_size(table->n_layers, table->n_expert);
    table->layers = (struct counters_layer *) (uintptr_t) take_bytes(reading, offset, size);
    if (table->layers == NULL) {
        return false;
    }
    table->activations = (_Atomic uint64_t *) (table->layers + table->n_layers);
    return true;
}

static bool is_sound(const struct counters_table * table) {
    for (int32_t i = 0; i < table->n_layers; i++) {
        const struct counters_layer * layer = &table->layers[i];
        if (layer->n_expert < 0 || layer->n_expert > table->n_expert || layer->n_used < 0) {
            return false;
        }
    }
    return true;
}

static void copy_table(const struct counters_table * from, struct counters_table * to) {
    *to = *from;
    if (from->layers == NULL) {
        return;
    }
    const size_t             n      = (size_t) table_size(from->n_layers, from->n_expert) / sizeof(uint64_t);
    const _Atomic uint64_t * source = (const _Atomic uint64_t *) (const void *) from->layers;
    uint64_t               * copy   = memory_new(n, sizeof(*copy));
    for (size_t i = 0; i < n; i++) {
        copy[i] = counter_get(&source[i]);
    }
    to->layers      = (void *) copy;
    to->activations = (_Atomic uint64_t *) (to->layers + to->n_layers);
}

// Of one context.
struct meter_copy {
    struct counters counts;
    struct counters pending;
};

static void forget_copy(struct meter_copy * copy) {
    counters_free(&copy->counts);
    counters_free(&copy->pending);
}

static enum outcome copy_meter(struct reading * reading, const struct live_meter * meter, struct meter_copy * copy) {
    struct counters_table counts;
    struct counters_table pending;
    uint32_t              sequence;
    if (!find_table(reading, &meter->counts_table, &counts) || !find_table(reading, &meter->pending_table, &pending)) {
        return damaged(reading);
    }
    for (;;) {
        if (live_map_is_late(reading->deadline) || !live_map_begin(&meter->sequence, reading->deadline, &sequence)) {
            return LATE;
        }
        *copy = (struct meter_copy) { { { 0 }, { 0 } }, { { 0 }, { 0 } } };
        counters_add_totals(&copy->counts.totals,  &meter->counts);
        counters_add_totals(&copy->pending.totals, &meter->pending);
        copy_table(&counts,  &copy->counts.table);
        copy_table(&pending, &copy->pending.table);
        if (live_map_is_same(&meter->sequence, sequence)) {
            break;
        }
        forget_copy(copy);
    }
    return is_sound(&copy->counts.table) && is_sound(&copy->pending.table) ? READ : damaged(reading);
}

// Sizes that do not belong together could ask for far more than the file has.
static bool fits(const struct reading * reading, const struct counters_table * sum,
                 const struct counters_table * more) {
    const int32_t n_layers = more->n_layers > sum->n_layers ? more->n_layers : sum->n_layers;
    const int32_t n_expert = more->n_expert > sum->n_expert ? more->n_expert : sum->n_expert;
    uint64_t      all      = table_size(n_layers, n_expert);
    for (size_t i = 0; i < reading->view->n_models; i++) {
        const struct counters_table * table = &reading->view->models[i].counts.table;
        all += table == sum ? 0 : table_size(table->n_layers, table->n_expert);
    }
    return all <= 2 * reading->map->size;
}

static enum outcome add_copy(struct reading * reading, struct counters * sum, const struct counters * copy) {
    if (!fits(reading, &sum->table, &copy->table)) {
        return damaged(reading);
    }
    return counters_add(sum, copy) ? READ : DAMAGED;
}

static enum outcome read_meter(struct reading * reading, const struct live_segment * segment) {
    const struct live_meter * meter = take_bytes(reading, segment->offset, segment->size);
    struct live_view_model  * model = find_model(reading->view, segment->model);
    struct meter_copy         copy  = { { { 0 }, { 0 } }, { { 0 }, { 0 } } };
    if (meter == NULL || segment->size < sizeof(*meter)) {
        return damaged(reading);
    }
    enum outcome outcome = copy_meter(reading, meter, &copy);
    if (outcome == READ) {
        outcome = add_copy(reading, &model->counts, &copy.counts);
    }
    if (outcome == READ) {
        outcome = add_copy(reading, &model->counts, &copy.pending);
    }
    model->n_contexts += segment->kind == LIVE_CONTEXT;
    forget_copy(&copy);
    return outcome;
}

//
// all of it
//

static enum outcome read_segment(struct reading * reading, const struct live_segment * segment) {
    switch (segment->kind) {
        case LIVE_MODEL:   return read_model(reading, segment);
        case LIVE_CONTEXT:
        case LIVE_CLOSED:  return read_meter(reading, segment);
        default:           return READ;
    }
}

static enum outcome read_all(struct reading * reading) {
    const struct live_map      * map    = reading->map;
    const struct live_header   * header = live_map_header(map);
    if (!live_map_begin(&header->sequence, reading->deadline, &reading->sequence)) {
        return LATE;
    }
    read_header(map, reading->view);
    for (size_t i = 0; i < map->n_entries; i++) {
        const struct live_segment segment = live_map_segment(map, i);
        const enum outcome        outcome = read_segment(reading, &segment);
        if (outcome != READ) {
            return outcome;
        }
    }
    return live_map_is_same(&header->sequence, reading->sequence) ? READ : CHANGED;
}

bool live_view_read(const struct live_map * map, struct live_view * view, struct error * error) {
    const int64_t deadline = live_map_deadline(DEADLINE);
    enum outcome  outcome  = CHANGED;
    *view = (struct live_view) { 0 };
    while (outcome == CHANGED && !live_map_is_late(deadline)) {
        struct reading reading = { map, view, deadline, 0, map->size };
        live_view_free(view);
        outcome = read_all(&reading);
    }
    if (outcome == READ) {
        return true;
    }
    live_view_free(view);
    return error_set(error, "%s", outcome == DAMAGED
        ? "its live memory is damaged"
        : "its counters changed all the time, or it was stopped meanwhile: this did not get through; try again");
}

void live_view_free(struct live_view * view) {
    for (size_t i = 0; i < view->n_models; i++) {
        struct live_view_model * model = &view->models[i];
        free(model->name);
        free(model->architecture);
        free(model->file);
        free(model->engine);
        free(model->capture);
        counters_free(&model->counts);
    }
    free(view->models);
    *view = (struct live_view) { 0 };
}

bool live_view_has_layer(const struct live_view_model * model, int32_t layer) {
    const bool is_mtp = model->n_layer > 0 && layer >= model->n_layer;
    return !is_mtp && model->counts.table.layers[layer].n_expert > 0;
}
