// Streams of what a running model does, a frame a second, as server-sent events (docs/serve.md): each watches its
// process by itself, in the thread of its connection.

#pragma once

#include "serve/serve-http.h"
#include "serve/serve-processes.h"
#include "watch/watch.h"

#define SERVE_LIVES_MAX 16 // at a time

struct serve_lives;

struct serve_lives * serve_lives_new (void);
void                 serve_lives_free(struct serve_lives * lives); // when there are no streams any more

// Seconds, or "all"; NULL: the usual. False where it is none of these.
bool serve_live_window(const char * text, int * window);

// A stream, or why there is none.
struct serve_response serve_live_open(struct serve_lives * lives, const struct serve_process * process,
                                      const struct watch_question * question);

// Asks a stream that is under way something else, from its next frame on, which comes at once. False: there is none
// of that name.
bool serve_live_change(struct serve_lives * lives, const char * stream, const struct watch_question * question);
