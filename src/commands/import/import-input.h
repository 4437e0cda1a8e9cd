// The file that `import` reads: its lines and their cells, and errors that say where in it something is wrong.

#pragma once

#include "tool/error.h"
#include "tool/progress.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct import_input {
    const char    * path;
    const char    * name;     // for people
    FILE          * file;
    char          * line;     // without its end
    size_t          room;
    uint64_t        number;   // of the line, from 1
    uint64_t        offset;   // of the bytes that were read
    char         ** cells;    // of the line, after import_input_split()
    size_t          n_cells;
    size_t          room_cells;
    struct progress progress;
};

enum import_line { IMPORT_LINE, IMPORT_END, IMPORT_FAILED };

// "-" is the standard input, which is copied to a temporary file where it cannot be read twice.
bool import_input_open (struct import_input * input, const char * path, struct error * error);
void import_input_close(struct import_input * input);

// The first bytes, without reading on. Returns how many there are.
size_t import_input_head(const struct import_input * input, char * head, size_t size);

// Whether a text is anywhere in the file.
bool import_input_has(const struct import_input * input, const char * text);

enum import_line import_input_line(struct import_input * input, struct error * error);

// Cuts the line at its commas.
void import_input_split(struct import_input * input);

// Finds the cells, counted from 1, that are these names, in the line that has the names of the columns; 0: there is
// none. False, and why, where one of `required` is missing: a bit for each name, the lowest for the first.
bool import_input_columns(struct import_input * input, const char * const * names, size_t n, unsigned required,
                          size_t * columns, struct error * error);

// Always false. The text comes behind the file's name, the line and, unless it is 0, the cell, counted from 1.
bool import_input_fail(const struct import_input * input, size_t cell, struct error * error, const char * format, ...)
    __attribute__((format(printf, 4, 5)));

// The cell, counted from 1, as a number from `least` to `most`; `what` is in it. False, and why, where it is none.
bool import_input_number(const struct import_input * input, size_t cell, const char * what, int64_t least, int64_t most,
                         int64_t * number, struct error * error);
bool import_input_real  (const struct import_input * input, size_t cell, const char * what, float * number,
                         struct error * error);
