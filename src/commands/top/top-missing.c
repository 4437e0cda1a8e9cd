// The terminal of `top` where it was built without a library for one.

#include "commands/top/top-terminal.h"

#include "commands/top/top-view.h"

bool top_terminal_begin(bool color, struct error * error) {
    (void) color;
    return error_set(error, "this program was built without ncurses: install it (Debian: libncurses-dev) and build "
                            "again, or --once prints a frame");
}

void top_terminal_end(void) {
}

void top_terminal_size(size_t * n_rows, size_t * n_columns, int * colors) {
    *n_rows    = 0;
    *n_columns = 0;
    *colors    = 0;
}

int top_terminal_key(int milliseconds) {
    (void) milliseconds;
    return TOP_KEY_NONE;
}

void top_terminal_draw(const struct grid * grid) {
    (void) grid;
}
