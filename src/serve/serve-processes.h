// The traced processes that `serve` sees, found again and again by a thread of its own, each with a name that stays the
// same when a program is started anew.

#pragma once

#include "live/live-client.h"
#include "live/live-view.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SERVE_LABEL_MAX 256 // bytes of a name, with its zero byte

struct serve_process {
    char               label[SERVE_LABEL_MAX]; // the program's name, with a number where there are several
    struct live_client client;                 // which requests do not use: they open one of their own
    int                folder;                 // that it was found in, a descriptor
    int64_t            started;                // microseconds since 1970
    size_t             n_users;
    bool               is_listed;
};

// One that is not traced, and could be attached to.
struct serve_untraced {
    pid_t pid;
    uid_t user;
    char  program[SERVE_LABEL_MAX]; // "": not known
};

struct serve_processes;

struct serve_processes * serve_processes_new (void);
void                     serve_processes_free(struct serve_processes * processes);

// Those that live now, by label. Each is held until it is released.
struct serve_process ** serve_processes_list   (struct serve_processes * processes, size_t * n);
struct serve_process  * serve_processes_find   (struct serve_processes * processes, const char * label); // NULL: none
void serve_processes_hold       (struct serve_processes * processes, struct serve_process * process);
void serve_processes_release    (struct serve_processes * processes, struct serve_process * process);
void serve_processes_release_all(struct serve_processes * processes, struct serve_process ** list, size_t n);

// By number; allocated.
struct serve_untraced * serve_processes_untraced(struct serve_processes * processes, size_t * n);

// Reads what a process has counted; a failure is counted.
bool     serve_processes_read (struct serve_processes * processes, const struct serve_process * process,
                               struct live_view * view, struct error * error);
uint64_t serve_processes_n_errors(struct serve_processes * processes);

// Makes a text that may be anything a label: harmless, not too long, and none of the `n` that are taken, by a number
// behind it where need be. taken(at, i) is the i-th of them.
void serve_label_make(char label[SERVE_LABEL_MAX], const char * text,
                      const char * (* taken)(const void * at, size_t i), const void * at, size_t n);
