// The hooks, as the library's other rooms see them: all they offer is one notification.

#pragma once

// `fn` is called when the program creates a scheduler, that is a context, before it is known whether anybody listens.
void hooks_set_on_context_created(void (*fn)(void));
