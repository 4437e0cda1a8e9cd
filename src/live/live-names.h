// The files of a running tracer in its folder: NAME.lock, which is locked as long as the process lives, and NAME.sock
// (docs/live-format.md).

#pragma once

#include "live/live-layout.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/un.h>

struct live_name {
    char text[LIVE_NAME_SIZE]; // PID-XXXXXXXX
};

// Whether a text has the form of a name.
bool live_name_is(const char * text);

// Chooses a name and makes its lock, which nobody ever sees unlocked. Returns the descriptor that holds it, or -errno.
int live_name_take(int directory, struct live_name * name);

// Removes the files of a name that was taken; the descriptor is closed behind that.
void live_name_remove(int directory, const struct live_name * name);

// Where its socket is, to be bound or connected to while the directory is open: of any length, wherever the folder is
// moved.
struct sockaddr_un live_name_address(int directory, const struct live_name * name);

// Whether the process of that name lives.
bool live_name_is_alive(int directory, const struct live_name * name);

// Those who live. *names is to be freed. Returns how many, or -errno.
int live_names_list(int directory, struct live_name ** names);

// Removes the files of those who do not.
void live_names_sweep(int directory);
