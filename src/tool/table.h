// A table of texts, as wide as the terminal: columns that are too wide together are cut, the widest first.

#pragma once

#include "tool/terminal.h"

#include <stdbool.h>
#include <stddef.h>

struct table_column {
    const char * title;
    bool         right; // its texts end at one column
    size_t       least; // columns that it keeps at least, 0: it is never cut
};

struct table;

struct table * table_new (const struct table_column * columns, size_t n_columns);
void           table_free(struct table * table);

// A row of as many texts, which are the table's from now on.
void table_row (struct table * table, char * const * texts);

// A line below the last row, which may be wider than the terminal; likewise.
void table_note(struct table * table, char * text);

void table_print(const struct table * table, const struct terminal * terminal);
