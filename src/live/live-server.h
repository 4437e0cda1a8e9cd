// The socket through which a running tracer's memory is handed out and requests come in (docs/live-format.md): a thread
// that answers them, one message each. Nothing that a client does makes another one, or the program, wait.

#pragma once

#include "base/text.h"
#include "live/live-names.h"

#include <stdbool.h>
#include <stddef.h>

#define LIVE_WORDS_MAX 16

struct live_request {
    const char * words[LIVE_WORDS_MAX]; // the verb, and key=value
    size_t       n_words;
    int          fd;                    // came with it; -1: none did, or it is taken
    bool         is_first;              // otherwise it was called before, and was not answered
    bool         is_late;               // it has to be answered now
};

// The value of a key, NULL: it has none.
const char * live_request_value(const struct live_request * request, const char * key);

// What the server calls, from its thread. A request that is not answered (false) comes again, some milliseconds later.
struct live_answers {
    bool (* answer)(void * self, struct live_request * request, struct text * answer);
    void (* watch) (void * self, bool is_watched); // the first client begins to watch, the last one has gone
    void  * self;
};

struct live_server;

// Where it listens: a folder that is open, a name that was taken there, and the descriptor that holds it.
struct live_place {
    int              folder;
    int              lock;
    struct live_name name;
};

// Takes the place over, and hands out `memory`, a descriptor. Returns NULL, and -errno in *error: the place is given up
// then.
struct live_server * live_server_new(const struct live_place * place, int memory, const struct live_answers * answers,
                                     int * error);

// Gives up a place that nobody has taken over.
void live_place_leave(const struct live_place * place);

// Waits for the thread, and removes what is in the folder. NULL is ignored.
void live_server_free(struct live_server * server);

// In the child of a fork: closes what is the parent's.
void live_server_abandon(struct live_server * server);
