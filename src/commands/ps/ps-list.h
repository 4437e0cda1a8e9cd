// What `ps` lists: processes that are traced, or could be, and what those answer that can be asked.

#pragma once

#include "live/live-processes.h"
#include "live/live-status.h"

struct ps_row {
    const struct live_process * process;
    pid_t                       pid;    // 0: it is not seen from here
    uid_t                       user;
    char                      * error;  // why it did not answer, NULL: it did, or shows nothing
    struct live_status        * status; // NULL: it did not answer, or shows nothing
};

struct ps_list {
    struct live_processes processes;
    size_t                n;
    struct ps_row       * rows;
};

void ps_list_make(struct ps_list * list);
void ps_list_free(struct ps_list * list);
