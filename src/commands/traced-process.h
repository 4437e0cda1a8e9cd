// Which running tracer a command line means, and what it is called in messages.

#pragma once

#include "live/live-client.h"
#include "live/live-processes.h"

#include <stdbool.h>
#include <sys/types.h>

// Whether a word is a process: its number, or the name of a tracer, such as 1234-89abcdef.
bool traced_process_is_word(const char * word);

// Whether this is the process that the word means.
bool traced_process_is_meant(const struct live_process * process, const char * word);

// "llama-server (1234)", allocated; safe to be shown. `pid` 0: it is not known.
char * traced_process_text(const struct live_client * client, pid_t pid);

// That the word means none, and what to do. Returns STATUS_FAILED.
int traced_process_say_none(const char * word);

// That none can be `done`, as in "watched", and which could be attached to. Returns STATUS_FAILED.
int traced_process_say_none_at_all(const char * done);
