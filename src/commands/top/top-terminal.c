// Puts the grid on a terminal with ncurses, which knows what this one understands, and what has changed.

#include "commands/top/top-terminal.h"

#include "commands/top/top-view.h"
#include "tool/heatmap.h"

#include <curses.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <term.h>
#include <unistd.h>

#define MANY_COLORS  256
#define ESCAPE_DELAY 50 // milliseconds in which what follows Esc belongs to a key
#define CONTROL_L    12

// Pairs of colours, by number: those of the first styles, and from PAIR_HEAT on those of heat.
enum { PAIR_BAR = 1, PAIR_GOOD, PAIR_WARNING, PAIR_HEAT };

static SCREEN * screen;
static int      colors;

//
// beginning and ending
//

static const char * term_name(void) {
    const char * name = getenv("TERM");
    return name == NULL || *name == '\0' ? "unknown" : name;
}

static bool is_terminal(struct error * error) {
    int why = 0;
    if (!isatty(STDIN_FILENO)) {
        return error_set(error, "the standard input is no terminal, there are no keys: --once prints a frame");
    }
    if (setupterm(NULL, STDOUT_FILENO, &why) != OK) {
        return error_set(error, "the terminal '%s' (TERM) is not known here: set another one, or --once prints a frame",
                         term_name());
    }
    const bool can_move = cursor_address != NULL;
    del_curterm(cur_term);
    return can_move || error_set(error, "the terminal '%s' (TERM) has lines alone: --once prints a frame", term_name());
}

// Few colours: cold to hot. The first level is for nothing.
static void make_few_heats(void) {
    static const short ramp[] = { COLOR_BLUE, COLOR_CYAN, COLOR_GREEN, COLOR_YELLOW, COLOR_RED };
    for (short level = 1; level < HEATMAP_N_LEVELS; level++) {
        const int i = (level - 1) * (int) (sizeof(ramp) / sizeof(*ramp)) / (HEATMAP_N_LEVELS - 1);
        init_pair((short) (PAIR_HEAT + level), ramp[i], -1);
    }
}

static void make_colors(bool wanted) {
    colors = 0;
    if (!wanted || !has_colors() || start_color() != OK || COLORS < 8) {
        return;
    }
    colors = COLORS >= MANY_COLORS && COLOR_PAIRS > PAIR_HEAT + HEATMAP_N_LEVELS ? MANY_COLORS : COLORS >= 16 ? 16 : 8;
    use_default_colors();
    init_pair(PAIR_BAR,     COLOR_CYAN,   -1);
    init_pair(PAIR_GOOD,    COLOR_GREEN,  -1);
    init_pair(PAIR_WARNING, COLOR_YELLOW, -1);
    if (colors < MANY_COLORS) {
        make_few_heats();
        return;
    }
    for (short level = 0; level < HEATMAP_N_LEVELS; level++) {
        init_pair((short) (PAIR_HEAT + level), -1, (short) heatmap_color((size_t) level));
    }
}

bool top_terminal_begin(bool color, struct error * error) {
    if (!is_terminal(error)) {
        return false;
    }
    screen = newterm(NULL, stdout, stdin);
    if (screen == NULL) {
        return error_set(error, "the terminal '%s' (TERM) cannot be used: --once prints a frame", term_name());
    }
    set_escdelay(ESCAPE_DELAY);
    cbreak();
    noecho();
    nonl();
    keypad(stdscr, TRUE);
    curs_set(0);
    make_colors(color);
    return true;
}

void top_terminal_end(void) {
    endwin();
    delscreen(screen);
    screen = NULL;
}

void top_terminal_size(size_t * n_rows, size_t * n_columns, int * n_colors) {
    *n_rows    = (size_t) LINES;
    *n_columns = (size_t) COLS;
    *n_colors  = colors;
}

//
// keys
//

static int key_of(int code) {
    switch (code) {
        case ERR:           return TOP_KEY_NONE;
        case KEY_UP:        return TOP_KEY_UP;
        case KEY_DOWN:      return TOP_KEY_DOWN;
        case KEY_LEFT:      return TOP_KEY_LEFT;
        case KEY_RIGHT:     return TOP_KEY_RIGHT;
        case KEY_PPAGE:     return TOP_KEY_PAGE_UP;
        case KEY_NPAGE:     return TOP_KEY_PAGE_DOWN;
        case KEY_HOME:      return TOP_KEY_HOME;
        case KEY_END:       return TOP_KEY_END;
        case KEY_RESIZE:    return TOP_KEY_RESIZE;
        case KEY_F(1):      return '?';
        case KEY_F(10):     return 'q';
        case '\r':
        case KEY_ENTER:     return TOP_KEY_ENTER;
        case '\b':
        case 127:
        case KEY_BACKSPACE: return TOP_KEY_ERASE;
        default:            return code < 256 ? code : TOP_KEY_NONE;
    }
}

// Ctrl-L: somebody else has written to the terminal.
int top_terminal_key(int milliseconds) {
    timeout(milliseconds);
    const int code = getch();
    if (code == CONTROL_L) {
        clearok(stdscr, TRUE);
        return TOP_KEY_RESIZE;
    }
    return key_of(code);
}

//
// drawing
//

static attr_t attributes_of_heat(int level) {
    const bool cold = level < HEATMAP_N_LEVELS / 2;
    return (attr_t) (colors == 0 ? 0 : COLOR_PAIR(PAIR_HEAT + level) | (colors < MANY_COLORS && !cold ? A_BOLD : 0));
}

static attr_t attributes_of(int style) {
    const bool has = colors > 0;
    switch (style) {
        case GRID_PLAIN:   return A_NORMAL;
        case GRID_STRONG:
        case GRID_HEAD:    return A_BOLD;
        case GRID_FAINT:
        case GRID_LABEL:   return has ? A_DIM : A_NORMAL;
        case GRID_CHOSEN:  return A_REVERSE;
        case GRID_BAR:     return has ? (attr_t) COLOR_PAIR(PAIR_BAR) : A_NORMAL;
        case GRID_GOOD:    return has ? (attr_t) COLOR_PAIR(PAIR_GOOD) : A_NORMAL;
        case GRID_WARNING: return (has ? (attr_t) COLOR_PAIR(PAIR_WARNING) : A_NORMAL) | A_BOLD;
        default:           return attributes_of_heat(style - GRID_HEAT);
    }
}

static void draw_run(const struct grid * grid, size_t row, size_t begin, size_t end) {
    attrset(attributes_of(grid_cell(grid, row, begin)->style));
    move((int) row, (int) begin);
    for (size_t column = begin; column < end; column++) {
        addstr(grid_cell(grid, row, column)->text); // the last cell of the screen reports an error, and is drawn
    }
}

void top_terminal_draw(const struct grid * grid) {
    erase();
    for (size_t row = 0; row < grid->n_rows; row++) {
        for (size_t column = 0; column < grid->n_columns; ) {
            const size_t end = grid_run(grid, row, column);
            draw_run(grid, row, column, end);
            column = end;
        }
    }
    attrset(A_NORMAL);
    refresh();
}
