// `top` where there are lines alone: in a pipe, a file, or with --once.

#pragma once

#include "commands/top/top-live.h"

// Returns an exit status.
int top_print(struct top_session * session, const struct top_options * options);
