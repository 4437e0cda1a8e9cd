// The processes that `top` can watch.

#pragma once

#include "live/live-processes.h"

struct top_choices {
    struct live_processes processes; // all of them can be watched
    char               ** texts;     // [processes.n] what they are called
};

void top_choices_find(struct top_choices * choices);
void top_choices_free(struct top_choices * choices); // zeroed: ignored
