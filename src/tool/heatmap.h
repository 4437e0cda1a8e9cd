// A picture of layers x experts in characters, as wide as the terminal at most.

#pragma once

#include "tool/terminal.h"

#include <stdint.h>

struct heatmap_row {
    int32_t          layer;
    size_t           n_expert;
    const uint64_t * counts;
};

// Neighbouring experts share a column where there are more than columns, and neighbouring layers a line where there are
// more than `most_lines`; what is shown is their mean. Heat is a share of a layer's activations, 1 where all of its
// experts have the same.
void heatmap_print(const struct terminal * terminal, const struct heatmap_row * rows, size_t n_rows, size_t most_lines);

// The same scale for others: heat as a level of colour, from 0 (nothing) on, which colour of 256 that is, and the shade
// of who has no colours. NAN is nothing.
#define HEATMAP_N_LEVELS 13
size_t       heatmap_level(double heat);
int          heatmap_color(size_t level);
const char * heatmap_shade(double heat, bool utf8);
