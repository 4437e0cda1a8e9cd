// Joins a folder and a path.

#include "base/folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char * folder_current(void) {
    return getcwd(NULL, 0);
}

char * folder_path(const char * folder, const char * path) {
    char * joined = NULL;
    if (folder == NULL || path[0] == '/') {
        return strdup(path);
    }
    return asprintf(&joined, "%s/%s", strcmp(folder, "/") == 0 ? "" : folder, path) < 0 ? NULL : joined;
}
