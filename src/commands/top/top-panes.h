// The tables of `top` below the map: sequences, caches, hottest experts.

#pragma once

#include "commands/top/top-view.h"
#include "tool/grid.h"

// Rows and columns of a grid.
struct top_area {
    size_t row;
    size_t n_rows;
    size_t column;
    size_t end; // the column behind it
};

#define TOP_PANE_HEAD 2 // rows above the first one of a table

struct top_pane {
    size_t least; // columns
    size_t most;  // that it has use for
    size_t (* rows)(const struct watch_frame * frame); // that it has use for
    void   (* put) (struct grid * grid, const struct top_area * area, const struct watch_frame * frame);
};

extern const struct top_pane top_pane_sequences;
extern const struct top_pane top_pane_caches;
extern const struct top_pane top_pane_hottest;

// The hottest experts in one row.
void top_panes_hottest_row(struct grid * grid, size_t row, const struct watch_frame * frame);
