// Lists the experts of the chosen layer.

#include "commands/top/top-experts.h"

#include "commands/top/top-heat.h"
#include "commands/top/top-pen.h"
#include "tool/error.h"

#include <stdio.h>
#include <stdlib.h>

#define HEAD_ROWS 3  // the layer, a blank row, titles
#define NARROWEST 26 // columns of an expert
#define GAP       2

enum { RANK, EXPERT, COUNT, SHARE, N_COLUMNS };

static const int widths[N_COLUMNS] = { [RANK] = 4, [EXPERT] = 6, [COUNT] = 7, [SHARE] = 6 };

struct list {
    struct grid              * grid;
    const struct watch_layer * layer;
    struct top_expert        * experts; // in the order in which they are shown
    size_t                   * ranks;   // [n_expert] of each expert, from 1
    struct top_area            area;    // of the list alone
    size_t                     columns; // that it has
    size_t                     width;   // of one of them, with the gap
};

static const struct watch_layer * layer_of(const struct watch_frame * frame, const struct top_view * view) {
    for (size_t i = 0; i < frame->n_layers; i++) {
        if (frame->layers[i].layer == view->layer) {
            return &frame->layers[i];
        }
    }
    return frame->n_layers > 0 ? &frame->layers[0] : NULL;
}

static void put_summary(struct grid * grid, const struct top_area * area, const struct watch_layer * layer) {
    char           evenness[TOP_NUMBER_MAX], share[TOP_NUMBER_MAX], count[TOP_NUMBER_MAX];
    struct top_pen pen = top_pen_at(grid, area->row, area->column, area->end);
    top_pen_item(&pen, "layer",       GRID_STRONG, "%d", (int) layer->layer);
    top_pen_item(&pen, "experts",     GRID_PLAIN,  "%d, %d for each token", (int) layer->n_expert, (int) layer->n_used);
    top_pen_item(&pen, "evenness",    GRID_PLAIN,  "%s", top_decimal(layer->entropy, 3, evenness));
    if (layer->activations > 0) {
        top_pen_item(&pen, "hottest", GRID_PLAIN,  "%zu, %s", layer->hottest, top_share(layer->share, share));
    }
    top_pen_item(&pen, "unused",      GRID_PLAIN,  "%zu", layer->unused);
    top_pen_item(&pen, "activations", GRID_PLAIN,  "%s", top_count(layer->activations, count));
}

static int by_id(const void * a, const void * b) {
    const struct top_expert * x = a;
    const struct top_expert * y = b;
    return (x->expert > y->expert) - (x->expert < y->expert);
}

static void fill(struct list * list, const struct top_view * view) {
    const size_t n = (size_t) list->layer->n_expert;
    list->experts = memory_new(n, sizeof(*list->experts));
    list->ranks   = memory_new(n, sizeof(*list->ranks));
    top_heat_rank(list->layer, list->experts);
    for (size_t i = 0; i < n; i++) {
        list->ranks[list->experts[i].expert] = i + 1;
    }
    if (view->by_id) {
        qsort(list->experts, n, sizeof(*list->experts), by_id);
    }
}

static void lay_out(struct list * list) {
    const size_t n      = (size_t) list->layer->n_expert;
    const size_t width  = list->area.end - list->area.column + GAP;
    const size_t most   = width / (NARROWEST + GAP) > 0 ? width / (NARROWEST + GAP) : 1;
    const size_t needed = (n + list->area.n_rows - 1) / list->area.n_rows;
    list->columns = needed < most ? needed : most;
    list->width   = width / list->columns;
}

static void put_expert(const struct list * list, size_t row, size_t column, const struct top_expert * its) {
    char         rank[TOP_NUMBER_MAX], expert[TOP_NUMBER_MAX], count[TOP_NUMBER_MAX], share[TOP_NUMBER_MAX];
    const size_t end    = column + list->width - GAP;
    const double total  = (double) list->layer->activations;
    const double of_all = total > 0.0 ? (double) its->count / total : 0.0;
    snprintf(rank,   sizeof(rank),   "%zu", list->ranks[its->expert]);
    snprintf(expert, sizeof(expert), "%zu", its->expert);
    const char * const texts[N_COLUMNS] = {
        rank, expert, top_count(its->count, count), top_share(of_all, share),
    };
    struct top_pen pen = top_pen_at(list->grid, row, column, end);
    top_pen_cells(&pen, its->count > 0 ? GRID_PLAIN : GRID_FAINT, widths, texts, N_COLUMNS);
    if (list->layer->share > 0.0) {
        grid_put_bar(list->grid, row, pen.column + 1, end, of_all / list->layer->share);
    }
}

// From the expert `first` in the list's order on.
static void put_column(const struct list * list, size_t i_column, size_t first) {
    static const char * const titles[N_COLUMNS] = { "RANK", "EXPERT", "COUNT", "SHARE" };
    const size_t   left = list->area.column + i_column * list->width;
    const size_t   n    = (size_t) list->layer->n_expert;
    struct top_pen pen  = top_pen_at(list->grid, list->area.row - 1, left, left + list->width - GAP);
    top_pen_cells(&pen, GRID_HEAD, widths, titles, N_COLUMNS);
    for (size_t row = 0; row < list->area.n_rows && first + row < n; row++) {
        put_expert(list, list->area.row + row, left, &list->experts[first + row]);
    }
}

static void put_list(struct list * list, struct top_view * view) {
    lay_out(list);
    const size_t n    = (size_t) list->layer->n_expert;
    const size_t seen = list->columns * list->area.n_rows;
    const size_t most = n > seen ? n - seen : 0;
    view->page   = seen;
    view->scroll = view->scroll > most ? most : view->scroll;
    for (size_t i = 0; i < list->columns; i++) {
        put_column(list, i, view->scroll + i * list->area.n_rows);
    }
}

void top_experts_put(struct grid * grid, const struct top_area * area, const struct watch_frame * frame,
                     struct top_view * view) {
    struct list list = { .grid = grid, .layer = layer_of(frame, view), .area = *area };
    if (list.layer == NULL || area->n_rows == 0) {
        return;
    }
    put_summary(grid, area, list.layer);
    if (area->n_rows > HEAD_ROWS && list.layer->n_expert > 0) {
        list.area.row    += HEAD_ROWS;
        list.area.n_rows -= HEAD_ROWS;
        fill(&list, view);
        put_list(&list, view);
        free(list.experts);
        free(list.ranks);
    }
}
