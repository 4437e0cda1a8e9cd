// The whole screen of `top`: what is known of a process, as much as has room.

#pragma once

#include "commands/top/top-scene.h"
#include "tool/grid.h"

// Fills the grid. In the view it sets `page`, and how far can be scrolled.
void top_screen_fill(struct grid * grid, const struct top_scene * scene, struct top_view * view);

// Rows after which nothing more would be shown.
size_t top_screen_rows(const struct top_scene * scene);
