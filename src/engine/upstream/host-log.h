// How the library's lines reach the person: through the host program's own logger where that shows them, else to
// stderr.

#pragma once

#include "base/log.h"

struct real;

// Logs whole lines, each ended by a newline.
void host_log(enum log_level level, const char * lines);

// Logs to stderr alone: from threads that the program does not know.
void host_log_to_stderr(const char * lines);

// The engine whose current log callback is meant. Until it is known, lines go to stderr.
void host_log_through(const struct real * real);

// Waits until what was logged is written, as far as the host's logger has a way to do that.
void host_log_flush(void);

// When the library is loaded.
void host_log_note_stderr(void);

// The program paused its own logger for good: it drops what it gets.
void host_log_set_paused(void);

// The process is ending: loggers that the program installed may be gone.
void host_log_set_exiting(void);
