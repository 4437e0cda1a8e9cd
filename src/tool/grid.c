// Fills the cells, and prints them as lines.

#include "tool/grid.h"

#include "base/clean.h"
#include "tool/error.h"
#include "tool/heatmap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#define MANY_COLORS 256

struct grid grid_new(size_t n_rows, size_t n_columns, bool utf8, int colors) {
    struct grid grid = { n_rows, n_columns, utf8, colors, memory_new(n_rows * n_columns, sizeof(*grid.cells)) };
    for (size_t i = 0; i < n_rows * n_columns; i++) {
        grid.cells[i].text[0] = ' ';
    }
    return grid;
}

void grid_free(struct grid * grid) {
    free(grid->cells);
    *grid = (struct grid) { 0 };
}

//
// characters
//

struct character {
    char   text[GRID_CELL_SIZE];
    size_t width;
};

static void set(struct character * character, const char * text, size_t size) {
    memcpy(character->text, text, size);
    character->text[size] = '\0';
}

// Returns the bytes of `text` that it is made of, 0 at the end.
static int next(const struct grid * grid, const char * text, struct character * character) {
    bool      harmless;
    uint32_t  code;
    const int n = clean_next(text, &harmless);
    character->width = 1;
    if (harmless && (unsigned char) *text < 0x80) {
        set(character, text, 1);
    } else if (!harmless || !grid->utf8 || clean_utf8(text, &code) == 0) {
        set(character, "?", 1);
    } else {
        const int width = wcwidth((wchar_t) code);
        set(character, width < 0 ? "?" : text, width < 0 ? 1 : (size_t) n);
        character->width = width < 0 ? 1 : (size_t) width;
    }
    return n;
}

size_t grid_width(const struct grid * grid, const char * text) {
    struct character character;
    size_t           width = 0;
    for (int n; (n = next(grid, text, &character)) > 0; text += n) {
        width += character.width;
    }
    return width;
}

//
// filling
//

static struct grid_cell * at(struct grid * grid, size_t row, size_t column) {
    return &grid->cells[row * grid->n_columns + column];
}

static size_t end_within(const struct grid * grid, size_t row, size_t end) {
    return row >= grid->n_rows ? 0 : end < grid->n_columns ? end : grid->n_columns;
}

// What has no width of its own, such as an accent that is a character, is left out.
size_t grid_put(struct grid * grid, size_t row, size_t column, size_t end, enum grid_style style, const char * text) {
    struct character character;
    const size_t     limit = end_within(grid, row, end);
    for (int n; (n = next(grid, text, &character)) > 0 && column + character.width <= limit; text += n) {
        for (size_t i = 0; i < character.width; i++) {
            struct grid_cell * cell = at(grid, row, column + i);
            memcpy(cell->text, i == 0 ? character.text : "", i == 0 ? sizeof(cell->text) : 1);
            cell->style = (uint8_t) style;
        }
        column += character.width;
    }
    return column;
}

void grid_put_heat(struct grid * grid, size_t row, size_t column, double heat) {
    const size_t level = heatmap_level(heat);
    const char * shade = grid->colors >= MANY_COLORS ? " " : heatmap_shade(heat, grid->utf8);
    grid_put(grid, row, column, column + 1, (enum grid_style) (GRID_HEAT + level), shade);
}

void grid_put_bar(struct grid * grid, size_t row, size_t column, size_t end, double fraction) {
    static const char * const eighths[] = { "", "▏", "▎", "▍", "▌", "▋", "▊", "▉" };
    const double width  = end > column ? (double) (end - column) : 0.0;
    const size_t length = (size_t) lround(fmin(fmax(fraction, 0.0), 1.0) * width * 8.0);
    for (size_t i = 0; i < (grid->utf8 ? length : length + 4) / 8; i++) {
        column = grid_put(grid, row, column, end, GRID_BAR, grid->utf8 ? "█" : "#");
    }
    if (grid->utf8) {
        grid_put(grid, row, column, end, GRID_BAR, eighths[length % 8]);
    }
}

void grid_restyle(struct grid * grid, size_t row, size_t column, size_t end, enum grid_style style) {
    const size_t limit = end_within(grid, row, end);
    for (; column < limit; column++) {
        at(grid, row, column)->style = (uint8_t) style;
    }
}

//
// printing
//

size_t grid_run(const struct grid * grid, size_t row, size_t column) {
    const uint8_t style = grid_cell(grid, row, column)->style;
    while (column < grid->n_columns && grid_cell(grid, row, column)->style == style) {
        column++;
    }
    return column;
}

static bool is_blank(const struct grid * grid, const struct terminal * terminal, size_t row, size_t column) {
    const struct grid_cell * cell = grid_cell(grid, row, column);
    return strcmp(cell->text, " ") == 0 && !(terminal->color && cell->style >= GRID_HEAT);
}

static size_t length_of(const struct grid * grid, const struct terminal * terminal, size_t row) {
    size_t n = grid->n_columns;
    while (n > 0 && is_blank(grid, terminal, row, n - 1)) {
        n--;
    }
    return n;
}

static void print_style(const struct terminal * terminal, uint8_t style) {
    static const char * const codes[] = {
        [GRID_PLAIN]  = "\033[0m", [GRID_STRONG] = "\033[1m",  [GRID_FAINT] = "\033[2m",
        [GRID_LABEL]  = "\033[2m", [GRID_HEAD]   = "\033[1m",  [GRID_CHOSEN] = "\033[7m",
        [GRID_BAR]    = "\033[36m", [GRID_GOOD]  = "\033[32m", [GRID_WARNING] = "\033[33m",
    };
    if (terminal->color && style >= GRID_HEAT) {
        fprintf(terminal->out, "\033[48;5;%dm", heatmap_color(style - GRID_HEAT));
    } else if (terminal->color) {
        fputs(codes[style], terminal->out);
    }
}

static void print_row(const struct grid * grid, const struct terminal * terminal, size_t row) {
    const size_t length = length_of(grid, terminal, row);
    for (size_t column = 0; column < length; ) {
        const size_t end   = grid_run(grid, row, column);
        const size_t style = grid_cell(grid, row, column)->style;
        print_style(terminal, (uint8_t) style);
        for (; column < end && column < length; column++) {
            fputs(grid_cell(grid, row, column)->text, terminal->out);
        }
        if (style != GRID_PLAIN) {
            print_style(terminal, GRID_PLAIN);
        }
    }
    fputc('\n', terminal->out);
}

void grid_print(const struct grid * grid, const struct terminal * terminal) {
    size_t n = grid->n_rows;
    while (n > 0 && length_of(grid, terminal, n - 1) == 0) {
        n--;
    }
    for (size_t row = 0; row < n; row++) {
        print_row(grid, terminal, row);
    }
}
