// What holds in programs that are no cmocka tests, fuzzers and what they call: where it does not they abort.

#pragma once

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#define EXPECT(condition) expect((condition), #condition, __FILE__, __LINE__)

static inline void expect(bool condition, const char * text, const char * file, int line) {
    if (!condition) {
        fprintf(stderr, "%s:%d: not so: %s\n", file, line, text);
        abort();
    }
}
