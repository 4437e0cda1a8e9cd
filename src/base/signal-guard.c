// Blocks a signal in this thread, and takes away the one that was raised meanwhile.

#include "base/signal-guard.h"

#include <pthread.h>
#include <stddef.h>
#include <time.h>

static sigset_t only(int signal) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    return set;
}

void signal_guard_enter(struct signal_guard * guard, int signal) {
    const sigset_t blocked = only(signal);
    sigset_t       pending;
    sigpending(&pending);
    guard->signal      = signal;
    guard->was_pending = sigismember(&pending, signal) == 1;
    pthread_sigmask(SIG_BLOCK, &blocked, &guard->before);
}

void signal_guard_leave(struct signal_guard * guard, bool raised) {
    if (raised && !guard->was_pending) {
        const sigset_t        ours = only(guard->signal);
        const struct timespec now  = { 0, 0 };
        sigtimedwait(&ours, NULL, &now);
    }
    pthread_sigmask(SIG_SETMASK, &guard->before, NULL);
}
