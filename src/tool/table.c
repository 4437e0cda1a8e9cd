// Lays out a table of texts for the terminal.

#include "tool/table.h"

#include "base/clean.h"
#include "tool/error.h"
#include "tool/wrap.h"

#include <stdlib.h>
#include <string.h>

#define GAP 2 // between two columns

// A row, or a note: NULL but for the first text.
struct table_line {
    bool    is_note;
    char ** texts;
};

struct table {
    const struct table_column * columns;
    size_t                      n_columns;
    struct table_line         * lines;
    size_t                      n_lines;
};

struct table * table_new(const struct table_column * columns, size_t n_columns) {
    struct table * table = memory_new(1, sizeof(*table));
    table->columns   = columns;
    table->n_columns = n_columns;
    return table;
}

static size_t n_texts(const struct table * table, const struct table_line * line) {
    return line->is_note ? 1 : table->n_columns;
}

void table_free(struct table * table) {
    for (size_t i = 0; i < table->n_lines; i++) {
        for (size_t j = 0; j < n_texts(table, &table->lines[i]); j++) {
            free(table->lines[i].texts[j]);
        }
        free(table->lines[i].texts);
    }
    free(table->lines);
    free(table);
}

static void add_line(struct table * table, bool is_note, char * const * texts) {
    table->lines = memory_resize(table->lines, table->n_lines + 1, sizeof(*table->lines));
    struct table_line * line = &table->lines[table->n_lines++];
    line->is_note = is_note;
    line->texts   = memory_new(table->n_columns, sizeof(*line->texts));
    for (size_t i = 0; i < n_texts(table, line); i++) {
        line->texts[i] = clean_in_place(texts[i]);
    }
}

void table_row(struct table * table, char * const * texts) {
    add_line(table, false, texts);
}

void table_note(struct table * table, char * text) {
    add_line(table, true, &text);
}

//
// widths
//

static size_t width_of(const char * text) {
    return (size_t) wrap_width(text, strlen(text));
}

static size_t widest(const struct table * table, size_t column) {
    size_t width = width_of(table->columns[column].title);
    for (size_t i = 0; i < table->n_lines; i++) {
        const struct table_line * line = &table->lines[i];
        const size_t              its  = line->is_note ? 0 : width_of(line->texts[column]);
        width = its > width ? its : width;
    }
    return width;
}

// The column that can give most, n_columns: none can.
static size_t most_generous(const struct table * table, const size_t * widths) {
    size_t best = table->n_columns;
    for (size_t i = 0; i < table->n_columns; i++) {
        const bool can = table->columns[i].least > 0 && widths[i] > table->columns[i].least;
        if (can && (best == table->n_columns || widths[i] > widths[best])) {
            best = i;
        }
    }
    return best;
}

static size_t * make_widths(const struct table * table, size_t room) {
    size_t * widths = memory_new(table->n_columns, sizeof(*widths));
    size_t   whole  = GAP * (table->n_columns - 1);
    for (size_t i = 0; i < table->n_columns; i++) {
        widths[i] = widest(table, i);
        whole    += widths[i];
    }
    for (size_t i; whole > room && (i = most_generous(table, widths)) < table->n_columns; whole--) {
        widths[i]--;
    }
    return widths;
}

//
// printing
//

static void print_blanks(const struct terminal * terminal, size_t n) {
    fprintf(terminal->out, "%*s", (int) n, "");
}

// As much of it as there is room for. Returns its columns.
static size_t print_cut(const struct terminal * terminal, const char * text, size_t width) {
    const size_t whole = width_of(text);
    if (whole <= width) {
        fputs(text, terminal->out);
        return whole;
    }
    size_t n = 0;
    while (text[n] != '\0') {
        bool      harmless;
        const int size = clean_next(text + n, &harmless);
        if ((size_t) wrap_width(text, n + (size_t) size) > width - 1) {
            break;
        }
        n += (size_t) size;
    }
    fprintf(terminal->out, "%.*s%s", (int) n, text, terminal->utf8 ? "…" : ".");
    return (size_t) wrap_width(text, n) + 1;
}

static void print_row(const struct table * table, const struct terminal * terminal, const size_t * widths,
                      const char * const * texts) {
    size_t blanks = 0;
    for (size_t i = 0; i < table->n_columns; i++) {
        const size_t its  = width_of(texts[i]);
        const size_t used = its < widths[i] ? its : widths[i];
        print_blanks(terminal, blanks + (table->columns[i].right ? widths[i] - used : 0));
        const size_t printed = print_cut(terminal, texts[i], widths[i]);
        blanks = GAP + (table->columns[i].right ? 0 : widths[i] - printed);
    }
    fputc('\n', terminal->out);
}

static void print_titles(const struct table * table, const struct terminal * terminal, const size_t * widths) {
    const char ** titles = memory_new(table->n_columns, sizeof(*titles));
    for (size_t i = 0; i < table->n_columns; i++) {
        titles[i] = table->columns[i].title;
    }
    terminal_style(terminal, TERMINAL_FAINT);
    print_row(table, terminal, widths, titles);
    terminal_style(terminal, TERMINAL_PLAIN);
    free(titles);
}

void table_print(const struct table * table, const struct terminal * terminal) {
    size_t * widths = make_widths(table, terminal->width);
    print_titles(table, terminal, widths);
    for (size_t i = 0; i < table->n_lines; i++) {
        const struct table_line * line = &table->lines[i];
        if (line->is_note) {
            fprintf(terminal->out, "%s\n", line->texts[0]);
        } else {
            print_row(table, terminal, widths, (const char * const *) line->texts);
        }
    }
    free(widths);
}
