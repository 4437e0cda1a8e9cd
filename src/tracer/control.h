// Answers what is asked of a tracer while the program runs (docs/live-format.md): by the live server's thread.

#pragma once

#include "live/live-server.h"

// See struct live_answers; `self` is the tracer.
bool control_answer(void * self, struct live_request * request, struct text * answer);
