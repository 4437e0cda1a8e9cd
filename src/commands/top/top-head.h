// What stands above everything else in `top`: who it is, how fast, how even, since when.

#pragma once

#include "commands/top/top-scene.h"
#include "tool/grid.h"

#define TOP_HEAD_ROWS 5

// The first `n_rows` of these, at the top of the grid.
void top_head_put(struct grid * grid, size_t n_rows, const struct top_scene * scene, const struct top_view * view);
