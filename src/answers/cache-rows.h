// The sizes that `cache` compares caches at: each is as many bytes for all of them, whatever they share out.

#pragma once

#include "answers/cache-questions.h"
#include "tool/error.h"
#include "tool/input/trace-shape.h"

struct cache_row {
    bool     is_asked; // by --moe-cache-mib or --vram
    double   bytes;    // NAN: not known
    double   share;    // of all experts
    double   slots;    // in each layer, on the mean
    size_t   whole;    // index of the first of the last layers that fit as a whole
    size_t * layers;   // [n_layers] slots of each layer's own cache
    size_t * groups;   // [n_groups] slots that the layers of a group share, by the bytes of all of their experts
};

struct cache_rows {
    size_t             n;
    struct cache_row * rows;    // ascending by bytes, of equal ones once
    size_t             quarter; // the one that is the nearest to a quarter of all experts
    size_t             budget;  // the one that was asked for, with --vram or as the most of --moe-cache-mib; n: none
};

// False, and why, where bytes are asked for that the trace does not know.
bool cache_rows_make(struct cache_rows * rows, const struct trace_shape * shape,
                     const struct cache_questions * questions, struct error * error);
void cache_rows_free(struct cache_rows * rows);

// Bytes below which a list that the layers share has dropped what a token uses before the next token comes: the least
// that hold one token's experts of all layers, in each group. NAN: bytes are not known.
double cache_rows_floor(const struct trace_shape * shape);
