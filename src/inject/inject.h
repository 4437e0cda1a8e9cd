// Brings a shared library into a running process and calls one function of it, by ptrace: Linux, glibc, and the
// processors that inject-processor.h knows.
//
// The process lives whatever happens here: whoever injects may be killed at any instant, and no thread stays stopped,
// nor does any return into nothing. What is called runs in one of the process's own threads, which waits meanwhile in a
// system call and resumes it as if nothing had been.

#pragma once

#include "tool/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

// Loads the library into the process, calls `entry`, a function `int entry(const char * words, size_t size)` that it
// exports, with a copy of the words there, and waits up to ten seconds for its end. The copy, zero-terminated, is gone
// afterwards. The signals of the process are blocked meanwhile in the thread that calls. That thread may have waited
// for a limited time, which Linux forgets if it sleeps in between: `entry` must not call nanosleep() or its like.
//
// A library at the same path is loaded once by a process however often this is called; one that the process cannot see
// there (a container) is handed in as it is now, each time anew. At most one injection works on a process at a time.
// To be called by one thread from beginning to end. False, and why.
bool inject(pid_t pid, const char * library, const char * entry, const char * words, size_t size, int * result,
            struct error * error);
