// What traced processes routed last: `serve` watches those that somebody asked about within the last minute, and keeps
// what they route, as far as there is room.

#pragma once

#include "serve/serve-processes.h"

struct serve_recents;

struct serve_recent {
    double   seconds;    // since it is watched
    uint64_t n_tokens;   // that are kept, of this model
    uint64_t n_ubatches;
    uint64_t overrun;    // bytes that were overwritten before they were read, of all models
    int      fd;         // a routing trace of them, the caller's; -1: there is nothing yet
};

// NULL: there can be no thread.
struct serve_recents * serve_recents_new (struct serve_processes * processes);
void                   serve_recents_free(struct serve_recents * recents);

// Watches the process for a minute from now on, and makes a trace of what is known of one of its models. False, and
// why, where it cannot be watched.
bool serve_recents_ask(struct serve_recents * recents, struct serve_process * process,
                       const struct live_view_model * model, struct serve_recent * recent, struct error * error);
