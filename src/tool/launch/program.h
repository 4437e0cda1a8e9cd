// Whether preloading reaches llama.cpp in a program. That is read from its files: nothing of the program is started.

#pragma once

#include "tool/error.h"

#include <stdbool.h>
#include <stddef.h>

enum program_answer {
    PROGRAM_CAN,     // llama.cpp is there, as shared libraries
    PROGRAM_MAY,     // it may come while the program runs
    PROGRAM_UNKNOWN, // its files do not tell
    PROGRAM_IN_VAIN, // the library is preloaded, and there is nothing it could see
    PROGRAM_CANNOT,  // nothing can be preloaded into it
};

// One of the shared objects that llama.cpp consists of.
struct program_part {
    char * path;
    char * version; // NULL: its name does not tell
};

struct program_verdict {
    enum program_answer answer;
    char                path  [4096]; // of the program that was judged: what a script starts, where that is plain
    char                why   [1024];
    char                advice[1024];
    struct program_part llama;
    struct program_part ggml;
    // which fork of llama.cpp it is, and what is known to work there; NULL: none that is known
    const char        * fork;
};

// Whether it is the path of a shared library, which need not be executable to be judged.
bool program_is_library(const char * path);

// `library` (may be NULL) is what would be preloaded. False, and why, where the file cannot be read.
bool program_judge(const char * path, const char * library, struct program_verdict * verdict, struct error * error);
void program_verdict_clear(struct program_verdict * verdict);
