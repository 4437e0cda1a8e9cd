// Whether a FILE is a routing trace, or something with statistics in it.

#pragma once

#include "tool/error.h"

enum input_kind { INPUT_TRACE, INPUT_STATISTICS };

// By its first bytes. A standard input that cannot be read twice is first copied to a temporary file without a name,
// which takes its place. Other pipes count as traces. False where it cannot be read.
bool input_kind_of(const char * path, enum input_kind * kind, struct error * error);
