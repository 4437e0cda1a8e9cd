// A process as it looks from outside: its memory and what is mapped there, read without touching it. What it says is
// somebody else's: it may be anything, and change at any time.

#pragma once

#include "tool/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct remote_mapping {
    uint64_t start;
    uint64_t end;
    uint64_t offset;     // in the file
    bool     can_read;
    bool     can_write;
    bool     can_execute;
    bool     is_private;
    char     path[64];   // its beginning; "": none
};

struct remote_process {
    pid_t                   pid;
    int                     lock;     // held while something is injected
    struct remote_mapping * mappings; // in the order of their addresses
    size_t                  n_mappings;
};

// Refuses a process that nothing can be injected into. To be closed whatever it returns.
bool remote_process_open (struct remote_process * process, pid_t pid, struct error * error);
void remote_process_close(struct remote_process * process);

// Reads the mappings again. False, and why: the process has ended, say.
bool remote_process_map(struct remote_process * process, struct error * error);

// The mapping that the address lies in. NULL: none.
const struct remote_mapping * remote_mapping_at(const struct remote_process * process, uint64_t address);

// All of the bytes, or false.
bool remote_read (const struct remote_process * process, uint64_t address, void * bytes, size_t size);
// To memory that the process itself may write to.
bool remote_write(const struct remote_process * process, uint64_t address, const void * bytes, size_t size);

// A line of /proc/PID/status, or of one of its threads: the number behind "name:" of that base. False: there is none.
bool remote_status(pid_t pid, pid_t tid, const char * name, int base, uint64_t * value);

// Always false: why the process may not be looked at, from errno.
bool remote_denied(pid_t pid, struct error * error);
