// How far a command has got, on stderr: only on a terminal that nothing else is printed on, and after a second.

#pragma once

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char * what;
    uint64_t     total;
    bool         possible;
    bool         shown;
    int64_t      next;  // when to say it again, in milliseconds of the monotonic clock
};

struct progress progress_begin(const char * what, uint64_t total);
void            progress_tell (struct progress * progress, uint64_t done);
void            progress_end  (struct progress * progress); // takes it from the terminal
