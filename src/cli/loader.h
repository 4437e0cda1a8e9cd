#pragma once

// Asks a program's own dynamic loader what it would load. The program itself is not started.

#include <stdbool.h>
#include <stddef.h>

struct loader_listing {
    bool     ok;         // the loader answered
    size_t   n;
    char  ** names;      // as they are needed, "libllama.so.0"
    char  ** paths;      // what they resolve to, NULL: not found
    char   * complaints; // what the loader said besides
};

// `preload` (may be NULL) comes as LD_PRELOAD.
void loader_list (struct loader_listing * listing, const char * interpreter, const char * program, const char * preload);
void loader_clear(struct loader_listing * listing);
