// The counts of a running process in the form of a statistics file (docs/statistics-format.md).

#pragma once

#include "live/live-view.h"

// What `show --json` prints of the file that would be written now, allocated. NULL, and why.
char * serve_statistics_text(const struct live_view * view, const struct live_view_model * model, struct error * error);
