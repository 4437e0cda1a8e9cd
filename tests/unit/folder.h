// An empty folder for each test, which is its working folder: set up and torn down with these two.

#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64];

static int enter_folder(void ** state) {
    (void) state;
    strcpy(folder, "/tmp/expert-tracer-unit-XXXXXX");
    return mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

static int leave_folder(void ** state) {
    (void) state;
    char command[128];
    snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    return chdir("/") == 0 && system(command) == 0 ? 0 : -1;
}
