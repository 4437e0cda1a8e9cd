// Shares bytes out to slots: as many in each layer, and to groups as llama.cpp shares its budget out.

#include "answers/cache-rows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MIB     ((uint64_t) 1 << 20)
#define WHOLE   1e-6 // so that what is whole in real numbers is whole in floating point
#define QUARTER 0.25

static double layer_bytes(const struct shape_layer * layer) {
    return (double) layer->n_expert * (double) layer->expert_bytes;
}

static size_t sum_of(const size_t * counts, size_t n) {
    size_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += counts[i];
    }
    return sum;
}

static size_t all_experts(const struct trace_shape * shape) {
    size_t sum = 0;
    for (size_t i = 0; i < shape->n_layers; i++) {
        sum += (size_t) shape->layers[i].n_expert;
    }
    return sum;
}

static double row_bytes(const struct cache_row * row, const struct trace_shape * shape) {
    double bytes = 0;
    for (size_t i = 0; i < shape->n_layers; i++) {
        bytes += (double) row->layers[i] * (double) shape->layers[i].expert_bytes;
    }
    return bytes;
}

//
// one row
//

static struct cache_row new_row(const struct trace_shape * shape) {
    return (struct cache_row) {
        .bytes  = NAN,
        .whole  = shape->n_layers,
        .layers = memory_new(shape->n_layers, sizeof(size_t)),
        .groups = memory_new((size_t) shape->n_groups, sizeof(size_t)),
    };
}

// One slot more in a layer after the other, as long as one fits.
static void hand_out_rest(struct cache_row * row, const struct trace_shape * shape, double left) {
    bool any = true;
    while (any) {
        any = false;
        for (size_t i = 0; i < shape->n_layers; i++) {
            const double bytes = (double) shape->layers[i].expert_bytes;
            if (row->layers[i] < (size_t) shape->layers[i].n_expert && bytes <= left) {
                row->layers[i]++;
                left -= bytes;
                any   = true;
            }
        }
    }
}

static void fill_layers(struct cache_row * row, const struct trace_shape * shape, size_t n_slots) {
    for (size_t i = 0; i < shape->n_layers; i++) {
        const size_t n_expert = (size_t) shape->layers[i].n_expert;
        row->layers[i] = n_slots < n_expert ? n_slots : n_expert;
    }
}

static double bytes_of_slot(const struct trace_shape * shape) {
    double sum = 0;
    for (size_t i = 0; i < shape->n_layers; i++) {
        sum += (double) shape->layers[i].expert_bytes;
    }
    return sum;
}

static size_t slots_of_group(const struct trace_shape * shape, int32_t group, double bytes) {
    double all    = 0;
    double own    = 0;
    double expert = 0;
    size_t n_keys = 0;
    for (size_t i = 0; i < shape->n_layers; i++) {
        const struct shape_layer * layer = &shape->layers[i];
        all += layer_bytes(layer);
        if (layer->group == group) {
            own    += layer_bytes(layer);
            n_keys += (size_t) layer->n_expert;
            expert  = (double) layer->expert_bytes;
        }
    }
    const double slots = expert > 0 ? bytes * (own / all) / expert + WHOLE : 0;
    return slots < (double) n_keys ? (size_t) slots : n_keys;
}

static void fill_groups(struct cache_row * row, const struct trace_shape * shape) {
    for (int32_t group = 0; shape->bytes_known && group < shape->n_groups; group++) {
        row->groups[group] = slots_of_group(shape, group, row->bytes);
    }
    for (size_t i = 0; !shape->bytes_known && i < shape->n_layers; i++) {
        row->groups[shape->layers[i].group] += row->layers[i];
    }
}

// The last layers that fit as a whole.
static size_t whole_from(const struct trace_shape * shape, double bytes) {
    size_t i    = shape->n_layers;
    double left = bytes + WHOLE;
    while (i > 0 && left >= layer_bytes(&shape->layers[i - 1])) {
        i--;
        left -= layer_bytes(&shape->layers[i]);
    }
    return i;
}

static void finish_row(struct cache_row * row, const struct trace_shape * shape) {
    const double slots = (double) sum_of(row->layers, shape->n_layers);
    row->share = slots / (double) all_experts(shape);
    row->slots = slots / (double) shape->n_layers;
    fill_groups(row, shape);
    if (shape->bytes_known) {
        row->whole = whole_from(shape, row->bytes);
    }
}

static void row_free(struct cache_row * row) {
    free(row->layers);
    free(row->groups);
}

static struct cache_row row_of_slots(const struct trace_shape * shape, size_t n_slots) {
    struct cache_row row = new_row(shape);
    fill_layers(&row, shape, n_slots);
    if (shape->bytes_known) {
        row.bytes = row_bytes(&row, shape);
    }
    finish_row(&row, shape);
    return row;
}

static struct cache_row row_of_bytes(const struct trace_shape * shape, double bytes) {
    struct cache_row row  = new_row(shape);
    const double     slot = bytes_of_slot(shape);
    const double     most = slot > 0 ? bytes / slot : 0;
    fill_layers(&row, shape, most < (double) shape->n_expert ? (size_t) most : (size_t) shape->n_expert);
    hand_out_rest(&row, shape, bytes - row_bytes(&row, shape));
    row.bytes = bytes;
    finish_row(&row, shape);
    return row;
}

// In whole MiB, as --moe-cache-mib takes them: where nobody names a size, advice can be typed all the same.
static struct cache_row row_of_quarter(const struct trace_shape * shape, size_t n_slots) {
    struct cache_row row   = row_of_slots(shape, n_slots);
    const double     bytes = shape->bytes_known ? floor(row.bytes / (double) MIB) * (double) MIB : 0;
    if (bytes > 0 && bytes < row.bytes) {
        row_free(&row);
        row = row_of_bytes(shape, bytes);
    }
    return row;
}

//
// all of them
//

static bool is_same_size(const struct cache_row * a, const struct cache_row * b) {
    return isnan(a->bytes) ? a->slots == b->slots : a->bytes == b->bytes;
}

static bool is_smaller(const struct cache_row * a, const struct cache_row * b) {
    return isnan(a->bytes) ? a->slots < b->slots : a->bytes < b->bytes;
}

static void add_row(struct cache_rows * rows, struct cache_row row) {
    size_t at = rows->n;
    while (at > 0 && is_smaller(&row, &rows->rows[at - 1])) {
        at--;
    }
    if (at > 0 && is_same_size(&row, &rows->rows[at - 1])) {
        rows->rows[at - 1].is_asked |= row.is_asked;
        row_free(&row);
        return;
    }
    rows->rows = memory_resize(rows->rows, rows->n + 1, sizeof(*rows->rows));
    memmove(rows->rows + at + 1, rows->rows + at, (rows->n - at) * sizeof(*rows->rows));
    rows->rows[at] = row;
    rows->n++;
}

static void add_asked(struct cache_rows * rows, struct cache_row row) {
    row.is_asked = true;
    add_row(rows, row);
}

static void add_shares(struct cache_rows * rows, const struct trace_shape * shape) {
    static const double shares[] = {
        1.0 / 16, 1.0 / 8, 3.0 / 16, QUARTER, 3.0 / 8, 1.0 / 2, 5.0 / 8, 3.0 / 4, 7.0 / 8,
    };
    for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); i++) {
        const size_t slots = (size_t) lround(shares[i] * shape->n_expert);
        if (slots > 0) {
            add_row(rows, shares[i] == QUARTER ? row_of_quarter(shape, slots) : row_of_slots(shape, slots));
        }
    }
}

static size_t row_with(const struct cache_rows * rows, double bytes) {
    size_t i = 0;
    while (i < rows->n && rows->rows[i].bytes != bytes) {
        i++;
    }
    return i;
}

static void find_quarter(struct cache_rows * rows) {
    for (size_t i = 0; i < rows->n; i++) {
        const double distance = fabs(rows->rows[i].share - QUARTER);
        if (distance < fabs(rows->rows[rows->quarter].share - QUARTER)) {
            rows->quarter = i;
        }
    }
}

bool cache_rows_make(struct cache_rows * rows, const struct trace_shape * shape,
                     const struct cache_questions * questions, struct error * error) {
    const double vram = (double) (questions->vram / MIB * MIB);
    double       most = vram;
    *rows = (struct cache_rows) { 0 };
    if (!shape->bytes_known && (questions->vram > 0 || questions->n_budgets > 0 || questions->tg > 0)) {
        return error_set(error, "does not have the bytes of an expert, which %s needs",
                         questions->vram > 0 ? "--vram" : questions->n_budgets > 0 ? "--moe-cache-mib" : "--tg");
    }
    add_shares(rows, shape);
    for (size_t i = 0; i < questions->n_budgets; i++) {
        const double bytes = (double) questions->budgets[i];
        add_asked(rows, row_of_bytes(shape, bytes));
        most = vram == 0 && bytes > most ? bytes : most;
    }
    if (vram > 0) {
        add_asked(rows, row_of_bytes(shape, vram));
    }
    find_quarter(rows);
    rows->budget = most > 0 ? row_with(rows, most) : rows->n;
    return true;
}

void cache_rows_free(struct cache_rows * rows) {
    for (size_t i = 0; i < rows->n; i++) {
        row_free(&rows->rows[i]);
    }
    free(rows->rows);
}

double cache_rows_floor(const struct trace_shape * shape) {
    double floor = shape->bytes_known ? 0 : NAN;
    for (int32_t group = 0; shape->bytes_known && group < shape->n_groups; group++) {
        double own   = 0; // of all of the group's experts,
        double token = 0; // and of those that one token uses
        for (size_t i = 0; i < shape->n_layers; i++) {
            const struct shape_layer * layer = &shape->layers[i];
            own   += layer->group == group ? layer_bytes(layer) : 0;
            token += layer->group == group ? (double) layer->n_used * (double) layer->expert_bytes : 0;
        }
        const double least = own > 0 ? token * ((double) shape->all_bytes / own) : 0;
        floor = least > floor ? least : floor;
    }
    return floor;
}
