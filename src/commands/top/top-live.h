// `top` on a terminal: draws, and follows keys, until it is left.

#pragma once

#include "commands/top/top-session.h"
#include "commands/top/top-view.h"
#include "tool/terminal.h"

struct top_options {
    struct top_sizes     sizes;
    double               interval; // seconds between two frames
    uint64_t             frames;   // 0: not chosen
    bool                 once;
    bool                 json;
    int                  window;   // index: see top_view
    enum terminal_color  color;
};

// Returns an exit status. The session may have no watch: a process is chosen first.
int top_live(struct top_session * session, const struct top_options * options);
