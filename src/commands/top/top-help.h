// The page of `top` that says what its keys do.

#pragma once

#include "commands/top/top-view.h"
#include "tool/grid.h"

// From line `scroll` of the page on, which becomes what there is, as `page` does.
void top_help_put(struct grid * grid, size_t row, size_t n_rows, struct top_view * view);

// The keys in one row.
void top_help_put_row(struct grid * grid, size_t row, const struct top_view * view);
