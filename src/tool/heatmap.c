// How often each layer's experts are used, as lines of characters and colours.

#include "tool/heatmap.h"

#include "analysis/counts.h"
#include "tool/error.h"

#include <math.h>
#include <string.h>

#define WIDEST_EXPERT 4 // columns

// Up to what heat there is a shade, in times the even share.
static const double       limits[]       = { 0.25, 0.75, 1.25, 2.0 };
static const char * const shades_utf8[]  = { " ", "░", "▒", "▓", "█" };
static const char * const shades_ascii[] = { " ", ".", "-", "+", "#" };

#define N_LIMITS (sizeof(limits) / sizeof(limits[0]))

// Of 256, from a quarter of the even share to four times as much, in equal steps of its logarithm. The first is for
// nothing.
static const int colors[HEATMAP_N_LEVELS] = { 234, 17, 18, 54, 90, 126, 162, 197, 203, 209, 215, 221, 228 };

#define DOUBLINGS    2.0 // below and above the even share

struct picture {
    const struct terminal    * terminal;
    const struct heatmap_row * rows;
    size_t                     n_rows;
    size_t                     n_expert;    // the most of any layer
    size_t                     n_columns;
    size_t                     label;       // columns
    size_t                     rows_a_line;
};

//
// how large it is
//

static size_t digits(int32_t number) {
    return (size_t) snprintf(NULL, 0, "%d", (int) number);
}

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

static void lay_out(struct picture * picture, size_t most_lines) {
    picture->rows_a_line = (picture->n_rows + most_lines - 1) / most_lines;
    for (size_t i = 0; i < picture->n_rows; i++) {
        const size_t n_expert = picture->rows[i].n_expert;
        picture->n_expert = n_expert > picture->n_expert ? n_expert : picture->n_expert;
    }
    const size_t number = digits(picture->rows[picture->n_rows - 1].layer);
    picture->label = picture->rows_a_line == 1 ? number : 2 * number + 1;
    picture->label = picture->label < 5 ? 5 : picture->label;
    const size_t room = picture->terminal->width - picture->label - 1;
    picture->n_columns = picture->n_expert > room
        ? room : picture->n_expert * smaller(room / picture->n_expert, WIDEST_EXPERT);
}

//
// heat
//

static double heat_of_row(const struct picture * picture, const struct heatmap_row * row, size_t column) {
    const size_t first = column * row->n_expert / picture->n_columns;
    const size_t next  = (column + 1) * row->n_expert / picture->n_columns;
    const size_t end   = next > first ? next : first + 1;
    const double share = counts_share(counts_sum(row->counts + first, end - first),
                                      counts_sum(row->counts, row->n_expert));
    return share * (double) row->n_expert / (double) (end - first);
}

static double heat_of(const struct picture * picture, size_t first, size_t n_rows, size_t column) {
    double sum = 0.0;
    for (size_t i = 0; i < n_rows; i++) {
        sum += heat_of_row(picture, &picture->rows[first + i], column);
    }
    return sum / (double) n_rows;
}

static size_t shade_of(double heat) {
    size_t i = 0;
    while (i < N_LIMITS && heat > limits[i]) {
        i++;
    }
    return i;
}

size_t heatmap_level(double heat) {
    if (!(heat > 0.0)) {
        return 0;
    }
    const double place = (log2(heat) + DOUBLINGS) / (2.0 * DOUBLINGS);
    return 1 + (size_t) lround(fmin(fmax(place, 0.0), 1.0) * (double) (HEATMAP_N_LEVELS - 2));
}

int heatmap_color(size_t level) {
    return colors[level];
}

static const char * shade_text(size_t shade, bool utf8) {
    return utf8 ? shades_utf8[shade] : shades_ascii[shade];
}

const char * heatmap_shade(double heat, bool utf8) {
    return shade_text(shade_of(heat), utf8);
}

//
// drawing
//

// A column in this color, which is named where it is another one than that of the column before.
static void print_color(const struct picture * picture, size_t color, size_t * before) {
    if (color != *before) {
        fprintf(picture->terminal->out, "\033[48;5;%dm", colors[color]);
    }
    fputc(' ', picture->terminal->out);
    *before = color;
}

static void print_label(const struct picture * picture, size_t first, size_t n_rows) {
    char text[32];
    if (n_rows == 1) {
        snprintf(text, sizeof(text), "%d", (int) picture->rows[first].layer);
    } else {
        snprintf(text, sizeof(text), "%d-%d", (int) picture->rows[first].layer,
                 (int) picture->rows[first + n_rows - 1].layer);
    }
    fprintf(picture->terminal->out, "%*s ", (int) picture->label, text);
}

static void print_line(const struct picture * picture, size_t first) {
    const size_t n_rows = smaller(picture->rows_a_line, picture->n_rows - first);
    size_t       color  = HEATMAP_N_LEVELS;
    print_label(picture, first, n_rows);
    for (size_t column = 0; column < picture->n_columns; column++) {
        const double heat = heat_of(picture, first, n_rows, column);
        if (picture->terminal->color) {
            print_color(picture, heatmap_level(heat), &color);
        } else {
            fputs(heatmap_shade(heat, picture->terminal->utf8), picture->terminal->out);
        }
    }
    terminal_style(picture->terminal, TERMINAL_PLAIN);
    fputc('\n', picture->terminal->out);
}

static void print_axis(const struct picture * picture) {
    char         text[64];
    const int    length = snprintf(text, sizeof(text), "expert %zu", picture->n_expert - 1);
    const size_t gap    = picture->n_columns > (size_t) length ? picture->n_columns - (size_t) length : 0;
    terminal_style(picture->terminal, TERMINAL_FAINT);
    fprintf(picture->terminal->out, "%*s ", (int) picture->label, "layer");
    if (gap > 2) {
        fprintf(picture->terminal->out, "%-*s%s\n", (int) gap, "0", text);
    } else {
        fprintf(picture->terminal->out, "expert\n");
    }
    terminal_style(picture->terminal, TERMINAL_PLAIN);
}

static size_t columns_of(const char * text) {
    size_t n = 0;
    for (; *text != '\0'; text++) {
        n += ((unsigned char) *text & 0xc0) != 0x80; // not a further byte of a character in UTF-8
    }
    return n;
}

// On the next line where there is no room.
static void put_words(const struct picture * picture, size_t * column, const char * words) {
    const size_t begin  = picture->label + 1;
    const size_t length = columns_of(words);
    const size_t gap    = *column == begin ? 0 : 2;
    if (*column + gap + length >= picture->terminal->width) {
        fprintf(picture->terminal->out, "\n%*s%s", (int) begin, "", words);
        *column = begin + length;
    } else {
        fprintf(picture->terminal->out, "%*s%s", (int) gap, "", words);
        *column += gap + length;
    }
}

static void print_color_legend(const struct picture * picture) {
    size_t column = picture->label + 1 + strlen("1/4 ") + HEATMAP_N_LEVELS - 1 + strlen(" 4");
    size_t color  = HEATMAP_N_LEVELS;
    fprintf(picture->terminal->out, "%*s1/4 ", (int) picture->label + 1, "");
    for (size_t i = 1; i < HEATMAP_N_LEVELS; i++) {
        print_color(picture, i, &color);
    }
    terminal_style(picture->terminal, TERMINAL_PLAIN);
    fputs(" 4", picture->terminal->out);
    put_words(picture, &column, "times the even share");
    fputc('\n', picture->terminal->out);
}

static void print_shade_legend(const struct picture * picture) {
    size_t column = picture->label + 1;
    fprintf(picture->terminal->out, "%*s", (int) column, "");
    for (size_t i = 0; i <= N_LIMITS; i++) {
        char words[32];
        snprintf(words, sizeof(words), "%s %s %g", i == 0 ? "blank" : shade_text(i, picture->terminal->utf8),
                 i < N_LIMITS ? "to" : "above",
                 limits[i < N_LIMITS ? i : N_LIMITS - 1]);
        put_words(picture, &column, words);
    }
    put_words(picture, &column, "times the even share");
    fputc('\n', picture->terminal->out);
}

void heatmap_print(const struct terminal * terminal, const struct heatmap_row * rows, size_t n_rows,
                   size_t most_lines) {
    if (n_rows == 0) {
        return;
    }
    struct picture picture = { .terminal = terminal, .rows = rows, .n_rows = n_rows };
    lay_out(&picture, most_lines);
    print_axis(&picture);
    for (size_t first = 0; first < n_rows; first += picture.rows_a_line) {
        print_line(&picture, first);
    }
    if (terminal->color) {
        print_color_legend(&picture);
    } else {
        print_shade_legend(&picture);
    }
}
