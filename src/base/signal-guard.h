// Keeps a signal that our own write raises (SIGPIPE, SIGXFSZ) from the program: it would end it.

#pragma once

#include <signal.h>
#include <stdbool.h>

struct signal_guard {
    int      signal;
    bool     was_pending; // it is the program's
    sigset_t before;
};

// Between the two calls the signal does not reach this thread.
void signal_guard_enter(struct signal_guard * guard, int signal);

// `raised`: the write failed in the way that raises the signal.
void signal_guard_leave(struct signal_guard * guard, bool raised);
