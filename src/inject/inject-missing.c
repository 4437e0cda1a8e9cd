// Where nobody has written how a library is brought into a running process: other processors and systems.

#include "inject/inject.h"

bool inject(pid_t pid, const char * library, const char * entry, const char * words, size_t size, int * result,
            struct error * error) {
    (void) library;
    (void) entry;
    (void) words;
    (void) size;
    (void) result;
    return error_set(error, "nothing can be injected into process %d: this is built for x86-64 with Linux alone; start "
                     "the program with tracing instead", (int) pid);
}
