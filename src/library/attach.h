// Comes into a process that runs already, and leaves it.

#pragma once

#include <stddef.h>

// Called in the process by whoever has brought the library there (`llama-expert-tracer attach`), from any thread that
// is in nobody's way. `words`: KEY=value, each ended by a zero, `size` bytes of all: LIVE, a folder, as in
// LLAMA_EXPERT_TRACE_LIVE; CAPTURE likewise; DORMANT=1. Returns an enum attach_result at once; a thread of ours goes
// on. What came of that is told to who calls again with a size of 0. Errno may change.
int expert_tracer_attach(const char * words, size_t size);
