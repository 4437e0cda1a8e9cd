// The terminal that `top` fills: a whole screen, keys as they are typed. At most one at a time.

#pragma once

#include "tool/error.h"
#include "tool/grid.h"

#include <stdbool.h>
#include <stddef.h>

// False, and why, where this terminal cannot do it. `color`: where it has colours, they are used.
bool top_terminal_begin(bool color, struct error * error);

// As it was before.
void top_terminal_end(void);

// Its size of now, and how many colours there are.
void top_terminal_size(size_t * n_rows, size_t * n_columns, int * colors);

// The next key, an enum top_key or a byte; TOP_KEY_NONE after so many milliseconds.
int top_terminal_key(int milliseconds);

void top_terminal_draw(const struct grid * grid);
