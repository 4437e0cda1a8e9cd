// Processes that are traced and can be watched, or could be: from the folders of running tracers, and from /proc.

#pragma once

#include "live/live-names.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct live_process {
    struct live_name name;      // empty: it shows nothing
    int              directory; // where that name is, -1: nowhere
    char           * folder;    // the same as a path
    pid_t            pid;       // as it is seen from here, 0: it is not
    uid_t            user;      // where the pid is known, like what follows
    char           * program;   // NULL: not known
    bool             is_traced; // our library is loaded, though it shows nothing
};

struct live_processes {
    struct live_process * all; // by pid and name
    size_t                n;
};

// Those whose tracer can be watched. Root finds everybody's. `others`: and those that have llama.cpp's library. Where
// LLAMA_EXPERT_TRACE_LIVE names a folder, those of that folder alone.
void live_processes_find(struct live_processes * processes, bool others);
void live_processes_free(struct live_processes * processes);

// Whether `attach` can trace it, as far as can be seen from outside.
bool live_process_is_attachable(const struct live_process * process);
