// usage: test-inject PID LIBRARY ENTRY WORDS [TIMES]: injects, and prints what the function returned; or why not.
// TIMES: again and again, after random pauses of up to ten milliseconds.

#include "inject/inject.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char ** argv) {
    struct error error  = { "" };
    int          result = 0;
    if (argc < 5) {
        return STATUS_USAGE;
    }
    const long times = argc > 5 ? strtol(argv[5], NULL, 10) : 1;
    srand((unsigned) getpid());
    for (long i = 0; i < times; i++) {
        if (!inject((pid_t) strtol(argv[1], NULL, 10), argv[2], argv[3], argv[4], strlen(argv[4]), &result, &error)) {
            error_say("%s", error.text);
            return STATUS_FAILED;
        }
        printf("%d\n", result);
        if (times > 1) {
            nanosleep(&(struct timespec) { 0, rand() % 10000000 }, NULL);
        }
    }
    return STATUS_OK;
}
