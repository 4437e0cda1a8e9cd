// A screen of styled characters, filled before it is shown: on a terminal, or as lines of text. No text can leave its
// place or the screen, whatever it holds.

#pragma once

#include "tool/terminal.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum grid_style {
    GRID_PLAIN,
    GRID_STRONG,
    GRID_FAINT,
    GRID_LABEL,  // in front of a value
    GRID_HEAD,   // above columns
    GRID_CHOSEN, // among others
    GRID_BAR,
    GRID_GOOD,
    GRID_WARNING,
    GRID_HEAT,   // plus a level of heat, below HEATMAP_N_LEVELS
};

#define GRID_CELL_SIZE 8

struct grid_cell {
    char    text[GRID_CELL_SIZE]; // a character in UTF-8; empty: the one before it is two columns wide
    uint8_t style;                // enum grid_style
};

struct grid {
    size_t             n_rows;
    size_t             n_columns;
    bool               utf8;   // otherwise it has ASCII alone
    int                colors; // that there are: 0, 8, 16 or 256
    struct grid_cell * cells;  // [n_rows][n_columns]
};

// Of blanks.
struct grid grid_new (size_t n_rows, size_t n_columns, bool utf8, int colors);
void        grid_free(struct grid * grid);

// Columns that a text takes.
size_t grid_width(const struct grid * grid, const char * text);

// Puts a text from a column up to before `end`, as much as has room. Returns the column behind it.
size_t grid_put(struct grid * grid, size_t row, size_t column, size_t end, enum grid_style style, const char * text);

// A cell whose heat is a share in times the even one: a colour, or a shade where there are few of them.
void grid_put_heat(struct grid * grid, size_t row, size_t column, double heat);

// A bar of `fraction` of the columns up to before `end`.
void grid_put_bar(struct grid * grid, size_t row, size_t column, size_t end, double fraction);

// The style of what is between two columns.
void grid_restyle(struct grid * grid, size_t row, size_t column, size_t end, enum grid_style style);

static inline const struct grid_cell * grid_cell(const struct grid * grid, size_t row, size_t column) {
    return &grid->cells[row * grid->n_columns + column];
}

// Cells of one style, one behind the other, from a column on. Returns the column behind them.
size_t grid_run(const struct grid * grid, size_t row, size_t column);

// As lines, without blanks at their ends and without empty rows at the end; with colours where `terminal` has them.
void grid_print(const struct grid * grid, const struct terminal * terminal);
