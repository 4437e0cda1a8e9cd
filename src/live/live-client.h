// A connection to a running tracer: its memory, and the answers to requests (docs/live-format.md).

#pragma once

#include "live/live-map.h"
#include "live/live-names.h"
#include "tool/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#define LIVE_CLIENT_PATIENCE 2000  // milliseconds, for what is answered at once
#define LIVE_CLIENT_HOLDS    12000 // for what holds from a batch on: the tracer gives up after ten seconds

struct live_client {
    int              fd;
    struct live_name name;
    pid_t            pid;  // as it is seen from here, 0: it is not
    uid_t            user;
    struct live_map  map;
};

// A request: words, NULL behind the last, and a descriptor that goes with it, -1: none.
struct live_question {
    const char * const * words;
    int                  fd;
    int                  patience; // milliseconds
};

// Connects to a name of a folder. False, and why, where it does not answer as a tracer does.
bool live_client_open (struct live_client * client, int directory, const struct live_name * name, struct error * error);
void live_client_close(struct live_client * client);

// Whether the process still lives.
bool live_client_is_alive(const struct live_client * client);

// NULL, and why, where there is no answer, or it refuses.
json_t * live_client_ask(const struct live_client * client, const struct live_question * question,
                         struct error * error);
