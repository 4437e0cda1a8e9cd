// What the screen of `top` is about, besides what its user has chosen.

#pragma once

#include "commands/top/top-view.h"

#include <stdbool.h>

// Strings may hold anything.
struct top_scene {
    const char               * who;       // the process
    const struct watch_frame * frame;     // NULL: there is none yet
    const char               * why;       // there is none, or the last one stays; NULL: nothing is wrong
    const char               * message;   // what came of the last key, NULL: nothing
    bool                       has_ended; // the process
    bool                       has_keys;  // there is a last line that names them
    const char * const       * choices;   // processes to choose one of: view->n_choices
};
