// Draws the map of layers x experts by rank.

#include "commands/top/top-heat.h"

#include "commands/top/top-pen.h"
#include "tool/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WIDEST_EXPERT 4  // columns
#define NARROW       48  // a narrower screen has no hottest expert beside its layer
#define LEGEND       29  // columns

enum column { LAYER, EVENNESS, HOTTEST, SHARE, N_COLUMNS };

static const int widths[N_COLUMNS] = { [LAYER] = 5, [EVENNESS] = 5, [HOTTEST] = 7, [SHARE] = 6 };

size_t top_heat_rows(const struct watch_frame * frame) {
    return frame->n_layers + 1;
}

static int compare(const void * a, const void * b) {
    const struct top_expert * x = a;
    const struct top_expert * y = b;
    return x->count != y->count ? (x->count < y->count) - (x->count > y->count)
                                : (x->expert > y->expert) - (x->expert < y->expert);
}

void top_heat_rank(const struct watch_layer * layer, struct top_expert * experts) {
    const size_t n = (size_t) layer->n_expert;
    for (size_t i = 0; i < n; i++) {
        experts[i] = (struct top_expert) { i, layer->counts[i] };
    }
    qsort(experts, n, sizeof(*experts), compare);
}

//
// how large it is
//

struct map {
    struct grid              * grid;
    const struct watch_frame * frame;
    size_t                     n_texts;   // columns of texts before the map
    size_t                     left;      // where the map begins
    size_t                     n_columns; // of the map, for the most experts of any layer
};

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

static struct map lay_out(struct grid * grid, const struct watch_frame * frame) {
    struct map map = { grid, frame, grid->n_columns < NARROW ? HOTTEST : N_COLUMNS, 0, 0 };
    for (size_t i = 0; i < map.n_texts; i++) {
        map.left += (size_t) widths[i] + 1;
    }
    const size_t room     = grid->n_columns > map.left ? grid->n_columns - map.left : 0;
    const size_t n_expert = frame->n_expert > 0 ? (size_t) frame->n_expert : 1;
    map.n_columns = n_expert > room ? room : n_expert * smaller(room / n_expert, WIDEST_EXPERT);
    return map;
}

//
// rows
//

static void put_legend(const struct map * map, size_t row, size_t column) {
    static const double heats[] = { 0.2, 0.4, 0.7, 1.0, 1.9, 4.0 };
    const size_t        end     = map->grid->n_columns;
    column = grid_put(map->grid, row, column, end, GRID_LABEL, "1/4 ");
    for (size_t i = 0; i < sizeof(heats) / sizeof(heats[0]); i++) {
        grid_put_heat(map->grid, row, column++, heats[i]);
    }
    grid_put(map->grid, row, column, end, GRID_LABEL, " 4 x the even share");
}

static void put_head(const struct map * map, size_t row) {
    static const char * const titles[N_COLUMNS] = { "LAYER", "EVEN", "HOTTEST", "SHARE" };
    char           text[64];
    struct top_pen pen   = top_pen_at(map->grid, row, 0, map->grid->n_columns);
    const size_t   width = map->grid->n_columns;
    top_pen_cells(&pen, GRID_HEAD, widths, titles, map->n_texts);
    snprintf(text, sizeof(text), "EXPERTS 1 TO %d BY RANK", (int) map->frame->n_expert);
    const size_t end = grid_put(map->grid, row, map->left, width, GRID_HEAD, text);
    if (end + 2 + LEGEND <= width) {
        put_legend(map, row, width - LEGEND);
    }
}

static void put_heat(const struct map * map, size_t row, const struct watch_layer * layer) {
    const size_t        n       = (size_t) layer->n_expert;
    struct top_expert * experts = memory_new(n, sizeof(*experts));
    const size_t        columns = map->n_columns * n / (size_t) map->frame->n_expert;
    top_heat_rank(layer, experts);
    for (size_t i = 0; i < columns && layer->activations > 0; i++) {
        const double share = (double) experts[i * n / columns].count / (double) layer->activations;
        grid_put_heat(map->grid, row, map->left + i, share * (double) n);
    }
    free(experts);
}

static void put_layer(const struct map * map, size_t row, const struct watch_layer * layer, bool is_chosen) {
    char number[TOP_NUMBER_MAX], evenness[TOP_NUMBER_MAX], hottest[TOP_NUMBER_MAX] = "-", share[TOP_NUMBER_MAX];
    struct top_pen pen = top_pen_at(map->grid, row, 0, map->grid->n_columns);
    snprintf(number, sizeof(number), "%d", (int) layer->layer);
    if (layer->activations > 0) {
        snprintf(hottest, sizeof(hottest), "%zu", layer->hottest);
    }
    const char * const texts[N_COLUMNS] = {
        number, top_decimal(layer->entropy, 3, evenness), hottest, top_share(layer->share, share),
    };
    top_pen_cells(&pen, GRID_PLAIN, widths, texts, map->n_texts);
    if (is_chosen) {
        grid_restyle(map->grid, row, 0, pen.column, GRID_CHOSEN);
    }
    if (layer->n_expert > 0 && map->n_columns > 0) {
        put_heat(map, row, layer);
    }
}

static size_t place_of(const struct top_view * view, const struct watch_frame * frame, const size_t * order) {
    for (size_t i = 0; i < frame->n_layers; i++) {
        if (frame->layers[order[i]].layer == view->layer) {
            return i;
        }
    }
    return 0;
}

// The chosen one in the middle, but at the ends.
static size_t first_of(size_t chosen, size_t n_rows, size_t n) {
    const size_t half = n_rows / 2;
    return n <= n_rows || chosen <= half ? 0 : smaller(chosen - half, n - n_rows);
}

void top_heat_put(struct grid * grid, size_t row, size_t n_rows, const struct watch_frame * frame,
                  const struct top_view * view, bool marks) {
    const struct map map   = lay_out(grid, frame);
    size_t         * order = memory_new(frame->n_layers, sizeof(*order));
    if (n_rows > 0) {
        top_view_order(view, frame, order);
        put_head(&map, row);
        const size_t chosen = place_of(view, frame, order);
        const size_t first  = first_of(chosen, n_rows - 1, frame->n_layers);
        for (size_t i = 0; i + 1 < n_rows && first + i < frame->n_layers; i++) {
            put_layer(&map, row + 1 + i, &frame->layers[order[first + i]], marks && first + i == chosen);
        }
    }
    free(order);
}
