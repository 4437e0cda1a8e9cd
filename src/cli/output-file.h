#pragma once

// Where a command writes to: a file that appears whole or not at all, or the standard output.

#include "error.h"

#include <stdio.h>

struct output_file {
    FILE * out;
    char * path;  // NULL: the standard output
    char * aside; // written here, and renamed; NULL: in place, as a device or a pipe is
};

// `path` NULL or "-": the standard output. The file may be read by its owner alone: traces tell what a model was asked.
bool output_file_open (struct output_file * file, const char * path, struct error * error);

// Writes what is still to be written. False where not all of it arrived; the file is as it was before then.
bool output_file_close(struct output_file * file, struct error * error);

// Leaves it as it was before.
void output_file_drop (struct output_file * file);
