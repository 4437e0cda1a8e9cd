// The page of an answer: one HTML file with all that it needs in it, which asks nothing of a network.

#pragma once

#include "tool/error.h"

#include <jansson.h>

// False, and what to do, where this program was built without the library that draws.
bool page_possible(struct error * error);

// `document`: what --json prints, of report, cache or compare. `path` "-": the standard output. `force`: it
// replaces whatever is there.
bool page_write(const char * path, bool force, json_t * document, struct error * error);
