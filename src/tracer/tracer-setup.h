// What a tracer is given besides its configuration.

#pragma once

#include "base/log.h"

#include <stdbool.h>

struct tracer_setup {
    log_fn       say;       // for the program's own threads
    log_fn       say_aside; // for the tracer's thread, and at the program's end
    const char * run;       // names the run of the program, kept by the caller
    bool         always;    // the program's own: counts although nothing is to be printed or exported, and keeps the
                            // counts of models that are gone, which it may ask for
    void     (*leave)(void); // asks whoever brought it to take it away, and returns at once; NULL: nobody can
};
