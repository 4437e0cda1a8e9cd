// Numbers as `top` shows them, and lines that are filled with them from left to right.

#pragma once

#include "tool/grid.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TOP_NUMBER_MAX 32

// In `text`, which is returned; "-" for NAN.
char * top_share  (double share,   char text[TOP_NUMBER_MAX]); // "34.1%"
char * top_rate   (double rate,    char text[TOP_NUMBER_MAX]); // "1234", "43.1"
char * top_count  (uint64_t count, char text[TOP_NUMBER_MAX]); // "123456", "12.3M"
char * top_decimal(double number, int digits, char text[TOP_NUMBER_MAX]);

// Where the next word of a row goes.
struct top_pen {
    struct grid * grid;
    size_t        row;
    size_t        begin;
    size_t        column;
    size_t        end;
};

struct top_pen top_pen_at(struct grid * grid, size_t row, size_t begin, size_t end);

// A label and a value behind what is there, with a gap. Left out where it has no room; the first one is cut.
void top_pen_item(struct top_pen * pen, const char * label, enum grid_style style, const char * format, ...)
    __attribute__((format(printf, 4, 5)));

// The same of a text that is cut where it has no room.
void top_pen_text(struct top_pen * pen, enum grid_style style, const char * text);

// A table's row: each text right-aligned in its column, or left-aligned where its width is negative, with a blank
// between. Columns that have no room are left out, all behind them too.
void top_pen_cells(struct top_pen * pen, enum grid_style style, const int * widths, const char * const * texts,
                   size_t n);
