// Lists the keys of `top`, and what its numbers are.

#include "commands/top/top-help.h"

#include "commands/top/top-pen.h"

#define KEYS_WIDTH 14 // columns

static const struct { const char * keys; const char * text; } lines[] = {
    { "w W  + -",     "the window of what is counted: 1, 5, 10, 30, 60 s, or all" },
    { "s",            "sort layers by number, least even first, hottest first; experts" },
    { "",             "of a layer by count, by number" },
    { "j k  arrows",  "choose a layer; page up and down, home (g), end (G) likewise" },
    { "Enter",        "the chosen layer with its experts; left and right: the next one" },
    { "Esc",          "back to all layers" },
    { "space f",      "freeze what is seen, go on" },
    { "d",            "seconds between two frames" },
    { "m",            "the next model of the process" },
    { "p",            "another process" },
    { "r",            "record every routing decision to a file, end that" },
    { "z R",          "begin to count at zero, in the process itself" },
    { "h ?",          "this page" },
    { "q  Ctrl-C",    "quit; Ctrl-Z suspends" },
    { "",             "" },
    { "prompt, gen",  "tokens a second, in the last second and in the window" },
    { "EVEN",         "entropy of a layer's use: 1 is even, 0 is one expert alone" },
    { "BY RANK",      "experts by use, the most used on the left; where several share" },
    { "",             "a column, the most used of them" },
    { "reuse",        "of a token's experts, those that the token before it in its" },
    { "",             "sequence had in the same layer" },
    { "drift",        "how far the last minute's routing is from what was before it" },
    { "",             "(Jensen-Shannon divergence), in times of its own noise" },
    { "USED",         "of all experts of all layers, those that the sequence has used" },
    { "LIFE",         "conversations that the sequence had before this one" },
    { "hits",         "requests that a cache of so many experts in each layer would" },
    { "",             "have served: LRU, and llama.cpp's own (--moe-cache-mib)" },
};

#define N_LINES (sizeof(lines) / sizeof(lines[0]))

void top_help_put(struct grid * grid, size_t row, size_t n_rows, struct top_view * view) {
    const size_t most = N_LINES > n_rows ? N_LINES - n_rows : 0;
    view->page   = n_rows;
    view->scroll = view->scroll > most ? most : view->scroll;
    for (size_t i = 0; i < n_rows && view->scroll + i < N_LINES; i++) {
        grid_put(grid, row + i, 0, KEYS_WIDTH, GRID_STRONG, lines[view->scroll + i].keys);
        grid_put(grid, row + i, KEYS_WIDTH, grid->n_columns, GRID_PLAIN, lines[view->scroll + i].text);
    }
}

// Pairs of a key and what it does, NULL behind the last.
static const char * const row_keys[][24] = {
    [TOP_LAYERS] = { "q", "quit", "h", "help", "w", "window", "s", "sort", "j k Enter", "layer", "space", "freeze",
                     "r", "record", "z", "reset", "d", "delay", "m", "model", "p", "process" },
    [TOP_LAYER]  = { "q", "quit", "Esc", "back", "j k", "scroll", "left right", "layer", "s", "sort", "w", "window",
                     "space", "freeze" },
    [TOP_HELP]   = { "q", "quit", "Esc", "back", "j k", "scroll" },
    [TOP_CHOICE] = { "q", "quit", "Esc", "back", "j k", "choose", "Enter", "watch it" },
};

void top_help_put_row(struct grid * grid, size_t row, const struct top_view * view) {
    struct top_pen pen = top_pen_at(grid, row, 0, grid->n_columns);
    for (const char * const * pair = row_keys[view->mode]; pair[0] != NULL; pair += 2) {
        top_pen_item(&pen, pair[0], GRID_PLAIN, "%s", pair[1]);
    }
}
