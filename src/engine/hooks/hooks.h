// The hooks, as the library's other rooms see them: all they offer is one notification.

#pragma once

#include <stdbool.h>

// `fn` is called when the program creates a scheduler, that is a context, before it is known whether anybody listens.
void hooks_set_on_context_created(void (*fn)(void));

// Whether no call that evaluates is inside of them, of those that began since the library came late (arrival.h).
bool hooks_are_quiet(void);
