// Tells a model's file from others without reading all of it: see docs/trace-format.md.

#pragma once

#include <stdbool.h>

#define FINGERPRINT_MAX 48

// Returns false where the file cannot be read.
bool fingerprint_read(const char * path, char fingerprint[FINGERPRINT_MAX]);
