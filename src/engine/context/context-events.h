// What happens to a context while its ubatches' routing is on its way to the host: it is delivered behind them.

#pragma once

#include "engine/context/context-state.h"

// Delivers the event, or has it wait for the ubatches that are on their way.
void context_events_add(struct context * context, struct context_event event);

// The routing of a ubatch is on its way to the host; what happens meanwhile waits for it.
void context_events_ubatch_started(struct context * context);
void context_events_ubatch_landed (struct context * context);
