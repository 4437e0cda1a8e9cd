// Whether a ubatch's routing may be recorded: what was not read as it was routed is worse than none.

#pragma once

#include "routing/routing.h"

// Whether it has the form of a routing: it is known which rows are which tokens, and those are either all tokens,
// those whose output was asked for, or none. Says in `doubt` what is wrong otherwise. Takes no time worth mentioning.
bool trace_trust_form(const struct routing_ubatch * ubatch, char * doubt, size_t size);

#define TRACE_TRUST_ROWS_ALIKE 1024 // of top 1: more of them do not take expert 0 each

// Likewise, looking at each expert: it is one of its layer's, and no token takes it twice.
bool trace_trust_experts(const struct routing_ubatch * ubatch, char * doubt, size_t size);
