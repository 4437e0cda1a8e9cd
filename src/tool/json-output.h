// JSON as it is printed and written: as jansson does it, with escapes for all that is not harmless to see (clean.h).

#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

// `flags`: jansson's. A newline is put behind it. False where it could not be written.
bool json_output_put(FILE * out, const json_t * json, size_t flags);
