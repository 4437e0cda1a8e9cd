// The file that a trace is recorded to: made here, where it may be, and grown by the traced process.

#pragma once

#include "base/place.h"
#include "tool/error.h"

#include <stdbool.h>

struct ctl_file {
    struct place place;
    int          fd;
    bool         is_new; // not there before
    char       * aside;  // its name until it replaces what is there; NULL: it has its own
};

// A file that is not there yet, or empty; `force`: any regular file, which is replaced when the trace has begun. False,
// and why, where there can be none.
bool ctl_file_open(struct ctl_file * file, const char * path, bool force, struct error * error);

// The trace has begun. False, and why, where it cannot take its place.
bool ctl_file_keep(struct ctl_file * file, struct error * error);

// It has not: everything is as it was.
void ctl_file_drop(struct ctl_file * file);
