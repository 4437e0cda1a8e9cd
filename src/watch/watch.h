// Watches a running tracer: through a connection of its own, as long as which its tracer fills the rings of recent
// routing. One thread at a time.

#pragma once

#include "live/live-client.h"
#include "tool/error.h"
#include "watch/watch-frame.h"

struct watch;

struct watch_question {
    uint32_t model;  // its number; 0: the one that has evaluated the most tokens
    int      window; // seconds, 1 to WATCH_SECONDS_MAX, or WATCH_ALL
};

// `asked` are bytes of caches to be looked at besides the usual ones, at most two, NULL where there are none. NULL, and
// why. Takes over the connection if it succeeds.
struct watch * watch_new (struct live_client * client, const uint64_t * asked, size_t n_asked, struct error * error);
void           watch_free(struct watch * watch); // NULL is ignored

// Reads the rings, and once a second the counters: to be called every WATCH_POLL milliseconds. False where the process
// has ended.
#define WATCH_POLL 50
bool watch_poll(struct watch * watch);

// What is known by now, NULL and why where no model is there yet, or the counters change all the time.
struct watch_frame * watch_look(struct watch * watch, const struct watch_question * question, struct error * error);

// The connection, for other requests to the tracer: `reset`, `record`.
const struct live_client * watch_client(const struct watch * watch);
