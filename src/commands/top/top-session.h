// The process that `top` watches: its connection, and what is asked of it.

#pragma once

#include "live/live-processes.h"
#include "tool/error.h"
#include "watch/watch.h"

#include <stdbool.h>

#define TOP_SIZES_MAX 2

// Bytes of caches to be looked at besides the usual ones.
struct top_sizes {
    uint64_t bytes[TOP_SIZES_MAX];
    size_t   n;
};

struct top_session {
    int              directory; // where its name is, -1: nothing is watched
    struct live_name name;
    char           * who;       // "llama-server (4711)"
    struct watch   * watch;
    uint32_t         model;     // its number, 0: the one that has evaluated the most tokens
    bool             has_ended;
};

#define TOP_SESSION_NONE { .directory = -1 }

// False, and why. To be closed either way.
bool top_session_open (struct top_session * session, const struct live_process * process,
                       const struct top_sizes * sizes, struct error * error);
void top_session_close(struct top_session * session);

// To be called every WATCH_POLL milliseconds.
void top_session_poll(struct top_session * session);

// NULL, and why, where nothing is known yet. To be freed with watch_frame_free().
struct watch_frame * top_session_look(struct top_session * session, int window, struct error * error);

// The model with the next number, or the first one.
void top_session_next_model(struct top_session * session, const struct watch_frame * frame);
