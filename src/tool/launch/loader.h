// What a program's dynamic loader would load, read from the files: neither the program nor its loader is started.
// The rules are those of glibc (ld.so(8)) and musl; files that are made to mislead cost a limited time.

#pragma once

#include <stdbool.h>
#include <stddef.h>

struct loader_listing {
    bool     is_known;  // the loader is one whose rules are known here, and the search came to its end
    size_t   n;         // the loader itself is among them
    char  ** names;     // as they are needed, "libllama.so.0"
    char  ** paths;     // what they resolve to, NULL: not found
    char   * complaint; // why what is found would not be loaded, NULL: it would
    char   * refusal;   // why `preload` would not, NULL: it would
};

// `preload` (may be NULL): a library that comes before the program's own.
void loader_list (struct loader_listing * listing, const char * interpreter, const char * program,
                  const char * preload);
void loader_clear(struct loader_listing * listing);
