// Brings the tracer into a running process, finds the tracers of processes by number, and sends them away.

#pragma once

#include "live/live-client.h"
#include "tool/error.h"

#include <stdbool.h>
#include <sys/types.h>

struct attach_order {
    const char * way;     // how the routing is read, NULL: as it is best
    bool         dormant; // nothing is counted until that is asked for
};

// The process is traced from its next graph on, and `client` is connected to its tracer. False, and why.
bool attach_process(pid_t pid, const struct attach_order * order, struct live_client * client, struct error * error);

// Connects to the tracer of the process. False where none is there that can be seen.
bool attach_find(pid_t pid, struct live_client * client, struct error * error);

// Its tracer writes what it has, and goes. False, and why, where it does not.
bool attach_end(const struct live_client * client, struct error * error);
