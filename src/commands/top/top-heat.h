// Layers x experts as a map: a row of each layer, with its experts by how often they are used.

#pragma once

#include "commands/top/top-view.h"
#include "tool/grid.h"

// Rows that it takes where there is room for all layers.
size_t top_heat_rows(const struct watch_frame * frame);

// Into `n_rows` rows from `row` on, as wide as the grid. Where a layer has more experts than there are columns, each
// column has neighbouring ranks, and shows the most used of them. `marks`: the chosen layer is to be seen, and is among
// those that are shown.
void top_heat_put(struct grid * grid, size_t row, size_t n_rows, const struct watch_frame * frame,
                  const struct top_view * view, bool marks);

// Its counts in falling order, with the experts that they are of.
struct top_expert {
    size_t   expert;
    uint64_t count;
};

void top_heat_rank(const struct watch_layer * layer, struct top_expert * experts); // [n_expert]
