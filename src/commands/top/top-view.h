// What the user of `top` has chosen to see, and what each key does to it. No terminal is needed.

#pragma once

#include "watch/watch-frame.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Keys that are no characters; others are bytes, as they were typed.
enum top_key {
    TOP_KEY_NONE  = 0,
    TOP_KEY_ENTER = '\n',
    TOP_KEY_ESCAPE = 27,
    TOP_KEY_UP = 256, TOP_KEY_DOWN, TOP_KEY_LEFT, TOP_KEY_RIGHT, TOP_KEY_PAGE_UP, TOP_KEY_PAGE_DOWN, TOP_KEY_HOME,
    TOP_KEY_END, TOP_KEY_ERASE, TOP_KEY_RESIZE,
};

enum top_mode {
    TOP_LAYERS, // all of them
    TOP_LAYER,  // one, with its experts
    TOP_HELP,
    TOP_CHOICE, // of a process
};

enum top_sort { TOP_BY_NUMBER, TOP_BY_EVENNESS, TOP_BY_HOTTEST, N_TOP_SORTS };

// What the last line asks for.
enum top_question { TOP_ASKS_NOTHING, TOP_ASKS_RESET, TOP_ASKS_FILE, TOP_ASKS_SECONDS };

#define TOP_TYPED_MAX    1024
#define TOP_INTERVAL_MIN 0.1
#define TOP_INTERVAL_MAX 3600.0

struct top_view {
    enum top_mode     mode;
    enum top_sort     sort;
    size_t            window;    // index: see top_view_window()
    int32_t           layer;     // the chosen one, as in blk.<layer>.
    size_t            scroll;    // experts, or lines of help, that are before those on the screen
    size_t            page;      // how many of them, or of layers, the screen has: it sets this
    bool              by_id;     // experts of a layer, otherwise by count
    bool              is_frozen;
    double            interval;  // seconds between two frames
    enum top_question question;
    char              typed[TOP_TYPED_MAX];
    size_t            n_choices; // of processes
    size_t            choice;
};

// What is to be done besides drawing.
enum top_action {
    TOP_DRAW,
    TOP_LOOK,         // take a new frame at once
    TOP_QUIT,
    TOP_RESET,
    TOP_RECORD,       // to the file that was typed
    TOP_RECORD_STOP,
    TOP_NEXT_MODEL,
    TOP_FIND,         // look for processes
    TOP_TAKE,         // the process that was chosen
};

// As of watch_question.
int          top_view_window     (const struct top_view * view);
const char * top_view_window_text(const struct top_view * view);
const char * top_view_sort_text  (const struct top_view * view);

// Indices of the frame's layers, in the order in which they are shown. `order` has n_layers.
void top_view_order(const struct top_view * view, const struct watch_frame * frame, size_t * order);

// `frame` NULL: there is none yet.
enum top_action top_view_key(struct top_view * view, const struct watch_frame * frame, int key);
