// Where a program is, as a shell would find it.

#pragma once

#include "tool/error.h"

// Allocated. NULL and why where there is none; *status is what a shell would end with: 127 not found, 126 found and not
// executable.
char * program_find(const char * name, struct error * error, int * status);
