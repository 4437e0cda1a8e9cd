// Reads statistics from a file, and writes them as JSON.

#pragma once

#include "statistics/statistics.h"

#include <stdio.h>

// A statistics file (docs/statistics-format.md), the JSON of the founding specification, or an imatrix of
// llama-imatrix; "-" is the standard input. NULL, and why, when it is none of them.
struct statistics * statistics_file_load(const char * path, struct error * error);

// `analysis`: with the figures of the analysis under "summary", which readers ignore.
bool statistics_file_write(FILE * out, const struct statistics * statistics, bool analysis);

// Written aside and renamed: the file appears whole or not at all. NULL or "-" is the standard output. `force`:
// whatever is there is replaced.
bool statistics_file_save(const char * path, const struct statistics * statistics, bool force, struct error * error);
