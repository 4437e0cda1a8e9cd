// The library that is preloaded: where it is, and how the loader is told.

#pragma once

#include "tool/error.h"

#include <stdbool.h>

// Allocated. NULL, and where it was looked for, when it is not there.
char * library_find(struct error * error);

// The folder of what is built into llama.cpp. Allocated. NULL, and what to do, when it is not there.
char * library_find_parts(struct error * error);

// False where LD_PRELOAD cannot tell the path.
bool library_is_preloadable(const char * path, struct error * error);

// What LD_PRELOAD has to be so that the library is in it, once. Allocated.
char * library_preload(const char * path, const char * present);
