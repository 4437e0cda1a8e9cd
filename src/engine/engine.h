// The engine room as the library's other rooms see it.

#pragma once

#include "base/log.h"
#include "routing/sinks.h"

#include <stdbool.h>

struct real;

// Called when the program creates a scheduler, that is a context, before it is known whether anybody listens.
void engine_set_on_context_created(void (*fn)(void));

// Chooses how the routing of schedulers to come is read: "auto" (or NULL), "graph" or "eval-callback". Returns false
// where there is no such way; then it is as before.
bool engine_set_capture(const char * way);

// Says lines to the person: through the host program's own logger where that shows them, else to stderr.
void engine_say(enum log_level level, const char * lines);

// The engine whose current log callback is meant. Until it is told, lines go to stderr.
void engine_say_through(const struct real * real);

// When the library is loaded.
void engine_note_stderr(void);

// Says lines to stderr alone: from threads that the program does not know.
void engine_say_to_stderr(const char * lines);

// Waits until what was said is written, as far as the host's logger has a way to do that.
void engine_say_flush(void);

// The program paused its own logger for good: it drops what it gets.
void engine_set_log_paused(void);

// The process is ending: loggers that the program installed may be gone.
void engine_set_exiting(void);
