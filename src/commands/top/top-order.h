// A request of `top` to the tracer that it watches, on a thread and a connection of its own: a tracer answers from its
// next batch on, and the screen goes on meanwhile.

#pragma once

#include "commands/ctl/ctl-order.h"
#include "commands/top/top-session.h"

struct top_order;

// CTL_RESET, CTL_RECORD (to `file`) or CTL_RECORD_STOP, of the model of that number. NULL, and why.
struct top_order * top_order_begin(const struct top_session * session, enum ctl_verb verb, const char * file,
                                   uint32_t model, struct error * error);

bool top_order_is_done(const struct top_order * order);

// Waits for it. Returns what came of it, allocated. NULL is ignored, and returned.
char * top_order_end(struct top_order * order);
