// Writes numbers and rows.

#include "commands/top/top-pen.h"

#include "tool/error.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GAP           2      // columns between items
#define COUNT_PLAIN   1000000
#define NUMBER_LARGE  1e15   // nothing that is shown gets there

static bool is_shown(double number) {
    return isfinite(number) && fabs(number) < NUMBER_LARGE;
}

char * top_decimal(double number, int digits, char text[TOP_NUMBER_MAX]) {
    if (is_shown(number)) {
        snprintf(text, TOP_NUMBER_MAX, "%.*f", digits, number);
    } else {
        snprintf(text, TOP_NUMBER_MAX, "-");
    }
    return text;
}

char * top_share(double share, char text[TOP_NUMBER_MAX]) {
    top_decimal(100.0 * share, 1, text);
    return is_shown(share) ? strcat(text, "%") : text;
}

char * top_rate(double rate, char text[TOP_NUMBER_MAX]) {
    return top_decimal(rate, rate < 1000.0 ? 1 : 0, text);
}

char * top_count(uint64_t count, char text[TOP_NUMBER_MAX]) {
    static const char units[] = "MGT";
    double number = (double) count / 1e6;
    size_t unit   = 0;
    while (number >= 1000.0 && unit + 1 < strlen(units)) {
        number /= 1000.0;
        unit++;
    }
    if (count < COUNT_PLAIN) {
        snprintf(text, TOP_NUMBER_MAX, "%" PRIu64, count);
    } else {
        snprintf(text, TOP_NUMBER_MAX, "%.*f%c", number < 100.0 ? 2 : 1, number, units[unit]);
    }
    return text;
}

//
// rows
//

struct top_pen top_pen_at(struct grid * grid, size_t row, size_t begin, size_t end) {
    return (struct top_pen) { grid, row, begin, begin, end < grid->n_columns ? end : grid->n_columns };
}

static void put(struct top_pen * pen, enum grid_style style, const char * text) {
    pen->column = grid_put(pen->grid, pen->row, pen->column, pen->end, style, text);
}

static void put_item(struct top_pen * pen, const char * label, enum grid_style style, const char * value) {
    const bool   first = pen->column == pen->begin;
    const size_t width = grid_width(pen->grid, label) + (*label != '\0') + grid_width(pen->grid, value);
    if (!first && pen->column + GAP + width > pen->end) {
        return;
    }
    pen->column += first ? 0 : GAP;
    put(pen, GRID_LABEL, label);
    put(pen, GRID_LABEL, *label != '\0' ? " " : "");
    put(pen, style, value);
}

void top_pen_item(struct top_pen * pen, const char * label, enum grid_style style, const char * format, ...) {
    char  * value = NULL;
    va_list arguments;
    va_start(arguments, format);
    if (vasprintf(&value, format, arguments) >= 0) {
        put_item(pen, label, style, value);
        free(value);
    }
    va_end(arguments);
}

void top_pen_text(struct top_pen * pen, enum grid_style style, const char * text) {
    pen->column += pen->column == pen->begin ? 0 : GAP;
    put(pen, style, text);
}

void top_pen_cells(struct top_pen * pen, enum grid_style style, const int * widths, const char * const * texts,
                   size_t n) {
    for (size_t i = 0; i < n; i++) {
        const size_t width = (size_t) abs(widths[i]);
        const size_t begin = pen->column + (pen->column > pen->begin);
        const size_t its   = grid_width(pen->grid, texts[i]);
        const size_t shift = widths[i] > 0 && its < width ? width - its : 0;
        if (begin + width > pen->end) {
            return;
        }
        grid_put(pen->grid, pen->row, begin + shift, begin + width, style, texts[i]);
        pen->column = begin + width;
    }
}
