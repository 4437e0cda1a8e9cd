// Lays the screen out: first lines, the map of layers, tables below it, and a last line.

#include "commands/top/top-screen.h"

#include "commands/top/top-experts.h"
#include "commands/top/top-head.h"
#include "commands/top/top-heat.h"
#include "commands/top/top-help.h"
#include "commands/top/top-panes.h"
#include "commands/top/top-pen.h"

#include <stdio.h>

#define GAP       2  // columns between tables
#define AIRY     30  // a screen of so many rows has blank ones between its parts
#define SMALL    12  // one of fewer has no tables
#define N_PANES   3

static const struct top_pane * const panes[N_PANES] = {
    &top_pane_sequences, &top_pane_caches, &top_pane_hottest,
};

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

// Rows that all parts together have use for, however they are laid out.
size_t top_screen_rows(const struct top_scene * scene) {
    size_t n = TOP_HEAD_ROWS + 8;
    if (scene->frame != NULL) {
        n += top_heat_rows(scene->frame);
        for (size_t i = 0; i < N_PANES; i++) {
            n += panes[i]->rows(scene->frame) + 1;
        }
    }
    return n;
}

//
// tables
//

// Tables that stand side by side.
struct band {
    size_t first;
    size_t end;    // the table behind the last
    size_t n_rows; // that they have use for
};

struct layout {
    size_t heat_row;
    size_t heat_rows;
    size_t row;             // of what is below the map
    size_t end;             // behind the last row
    size_t gap;             // rows between parts
    size_t n_panes;         // the first ones
    bool   has_hottest_row; // instead of their table
};

static struct band band_of(const struct grid * grid, const struct watch_frame * frame, size_t first, size_t n_panes) {
    struct band band = { first, first, 0 };
    size_t      left = 0;
    while (band.end < n_panes && (band.end == first || left + panes[band.end]->least <= grid->n_columns)) {
        band.n_rows = larger(band.n_rows, panes[band.end]->rows(frame));
        left       += panes[band.end++]->least + GAP;
    }
    return band;
}

static void put_band(struct grid * grid, const struct watch_frame * frame, const struct band * band, size_t row,
                     size_t n_rows) {
    struct top_area area = { row, n_rows, 0, 0 };
    size_t          left = grid->n_columns; // for those that have use for more
    for (size_t i = band->first; i < band->end; i++) {
        left -= smaller(left, panes[i]->least + (i > band->first ? GAP : 0));
    }
    for (size_t i = band->first; i < band->end; i++) {
        const size_t more = smaller(left, panes[i]->most - panes[i]->least);
        area.end = smaller(area.column + panes[i]->least + more, grid->n_columns);
        panes[i]->put(grid, &area, frame);
        area.column = area.end + GAP;
        left       -= more;
    }
}

static void put_bands(struct grid * grid, const struct watch_frame * frame, const struct layout * layout) {
    size_t row = layout->row;
    if (layout->has_hottest_row && row < layout->end) {
        top_panes_hottest_row(grid, row, frame);
        row += 1 + layout->gap;
    }
    for (size_t first = 0; first < layout->n_panes && row + TOP_PANE_HEAD < layout->end; ) {
        const struct band band = band_of(grid, frame, first, layout->n_panes);
        const size_t      n    = smaller(band.n_rows, layout->end - row);
        put_band(grid, frame, &band, row, n);
        first = band.end;
        row  += n + layout->gap;
    }
}

static size_t rows_of_bands(const struct grid * grid, const struct watch_frame * frame, const struct layout * layout) {
    size_t n = layout->has_hottest_row ? 1 + layout->gap : 0;
    for (size_t first = 0; first < layout->n_panes; ) {
        const struct band band = band_of(grid, frame, first, layout->n_panes);
        n    += layout->gap + band.n_rows;
        first = band.end;
    }
    return n;
}

// Half of the rows are the map's, and more where it or the tables have no use for them.
static struct layout lay_out(const struct grid * grid, const struct watch_frame * frame, size_t row, size_t end) {
    struct layout layout = {
        .heat_row = row, .end = end, .gap = grid->n_rows >= AIRY ? 1 : 0, .n_panes = grid->n_rows < SMALL ? 0 : N_PANES,
    };
    const size_t room = end > row ? end - row : 0;
    const size_t heat = top_heat_rows(frame);
    const bool   fits = band_of(grid, frame, 0, N_PANES).end == N_PANES;
    if (layout.n_panes > 0 && !fits && heat + rows_of_bands(grid, frame, &layout) > room) {
        layout.has_hottest_row = true;
        layout.n_panes         = N_PANES - 1;
    }
    const size_t spare = larger(room / 2, room > heat ? room - heat : 0);
    const size_t below = smaller(rows_of_bands(grid, frame, &layout), spare);
    layout.heat_rows   = smaller(room - below, heat);
    layout.row         = row + layout.heat_rows + layout.gap;
    return layout;
}

//
// all of it
//

static void put_layers(struct grid * grid, const struct top_scene * scene, struct top_view * view, size_t row,
                       size_t end) {
    const struct layout layout = lay_out(grid, scene->frame, row, end);
    view->page = layout.heat_rows > 1 ? layout.heat_rows - 1 : 1;
    top_heat_put(grid, layout.heat_row, layout.heat_rows, scene->frame, view, scene->has_keys);
    put_bands(grid, scene->frame, &layout);
}

static void put_choices(struct grid * grid, const struct top_scene * scene, struct top_view * view, size_t row,
                        size_t end) {
    const size_t n_rows = end > row ? end - row : 0;
    const size_t first  = n_rows == 0 || view->choice < n_rows ? 0 : view->choice - n_rows + 1;
    view->page = n_rows;
    for (size_t i = 0; i < n_rows && first + i < view->n_choices; i++) {
        grid_put(grid, row + i, 0, grid->n_columns, GRID_PLAIN, scene->choices[first + i]);
        if (first + i == view->choice) {
            grid_restyle(grid, row + i, 0, grid->n_columns, GRID_CHOSEN);
        }
    }
}

static void put_last_row(struct grid * grid, size_t row, const struct top_scene * scene, const struct top_view * view) {
    static const char * const questions[] = {
        [TOP_ASKS_RESET]   = "begin to count at zero, in the process itself? y or n",
        [TOP_ASKS_FILE]    = "record to the file:",
        [TOP_ASKS_SECONDS] = "seconds between two frames:",
    };
    struct top_pen pen = top_pen_at(grid, row, 0, grid->n_columns);
    if (view->question != TOP_ASKS_NOTHING) {
        const size_t end   = grid_put(grid, row, 0, grid->n_columns, GRID_STRONG, questions[view->question]);
        const char * typed = view->typed;
        while (grid_width(grid, typed) + end + 2 > grid->n_columns && *typed != '\0') {
            typed++; // its end is what is looked at
        }
        grid_put(grid, row, end + 1, grid->n_columns, GRID_PLAIN, typed);
    } else if (scene->message != NULL) {
        top_pen_item(&pen, "", GRID_STRONG, "%s", scene->message);
    } else {
        top_help_put_row(grid, row, view);
    }
}

static void put_body(struct grid * grid, const struct top_scene * scene, struct top_view * view, size_t row,
                     size_t end) {
    const struct top_area area = { row, end > row ? end - row : 0, 0, grid->n_columns };
    if (view->mode == TOP_HELP) {
        top_help_put(grid, row, area.n_rows, view);
    } else if (view->mode == TOP_CHOICE) {
        put_choices(grid, scene, view, row, end);
    } else if (scene->frame == NULL) {
        grid_put(grid, row, 0, grid->n_columns, GRID_PLAIN, scene->why != NULL ? scene->why : "");
    } else if (view->mode == TOP_LAYER) {
        top_experts_put(grid, &area, scene->frame, view);
    } else {
        put_layers(grid, scene, view, row, end);
    }
}

// Few rows have few lines above everything else.
static size_t head_rows(const struct grid * grid, const struct top_scene * scene, const struct top_view * view) {
    const size_t n = grid->n_rows >= SMALL + TOP_HEAD_ROWS ? TOP_HEAD_ROWS : grid->n_rows >= 9 ? 3
                   : grid->n_rows >= 5 ? 2 : 1;
    return scene->frame == NULL || view->mode == TOP_HELP || view->mode == TOP_CHOICE ? 1 : n;
}

void top_screen_fill(struct grid * grid, const struct top_scene * scene, struct top_view * view) {
    const bool   has_last = scene->has_keys && grid->n_rows > 2;
    const size_t head     = head_rows(grid, scene, view);
    const size_t gap      = grid->n_rows >= AIRY || head == 1 ? 1 : 0;
    const size_t end      = grid->n_rows - (has_last ? 1 : 0);
    top_head_put(grid, head, scene, view);
    put_body(grid, scene, view, smaller(head + gap, end), end);
    if (has_last) {
        put_last_row(grid, grid->n_rows - 1, scene, view);
    }
}
