// Joins routing traces of one model: the parts of one that was rotated, or several.
//
// What is copied is whole chunks. Of a trace that follows another one ubatches and contexts get further numbers, and
// tables of layers that are there already are not there twice. Chunks that are missing stay missing in the result.

#pragma once

#include "tool/error.h"

#include <stdio.h>

struct trace_join;

// Opens the files and looks whether they fit together. NULL where they do not, as `error` tells.
struct trace_join * trace_join_open (char ** paths, size_t n, struct error * error);
void                trace_join_close(struct trace_join * join);

// Warns of what is missing. Returns false where a chunk was lost.
bool trace_join_write(struct trace_join * join, FILE * out);

// Whether one of them changed while it was read, and which: what was written then is not to be kept.
bool trace_join_changed(const struct trace_join * join, struct error * error);
