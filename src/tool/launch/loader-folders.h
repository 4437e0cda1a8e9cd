// Lists of folders in which a dynamic loader looks for libraries: RPATH, RUNPATH, LD_LIBRARY_PATH, and its own.

#pragma once

#include <stdbool.h>
#include <stddef.h>

struct loader_folders {
    char ** paths;
    size_t  n;
};

void loader_folders_add  (struct loader_folders * folders, char * path); // takes the path over
void loader_folders_clear(struct loader_folders * folders);

// Adds those of a list such as "/a:$ORIGIN/../lib"; an empty folder is the current one. *n_seen counts those of all
// lists: false where they are more than any real program has.
bool loader_folders_read(struct loader_folders * folders, const char * list, const char * separators, const char * lib,
                         const char * origin, size_t * n_seen);

// $ORIGIN, $LIB and $PLATFORM replaced, allocated. NULL where the result is no path.
char * loader_folders_expand(const char * text, size_t size, const char * lib, const char * origin);

// Where a file is, allocated.
char * loader_folder_of(const char * path);
