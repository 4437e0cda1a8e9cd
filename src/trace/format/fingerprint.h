// Tells a model's file from others without reading all of it: see docs/trace-format.md.

#ifndef TRACER_FINGERPRINT_H
#define TRACER_FINGERPRINT_H

#include <stdbool.h>

#define FINGERPRINT_MAX 48

// Returns false where the file cannot be read.
bool fingerprint_read(const char * path, char fingerprint[FINGERPRINT_MAX]);

#endif // TRACER_FINGERPRINT_H
