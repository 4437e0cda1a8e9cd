// Paths as they were meant when they were given: the program may change its folder before they are used.

#pragma once

// The program's current folder, NULL where it has none or memory runs out. To be freed.
char * folder_current(void);

// A path, which is relative to a folder (NULL: to the current one). To be freed; NULL where memory runs out.
char * folder_path(const char * folder, const char * path);
