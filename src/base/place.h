// Where a path leads: a folder that is open, and a name in it. Whatever happens to the path then, who goes on with
// these two works in the folder that was looked at.

#pragma once

struct place {
    int          directory; // for openat() and its like, not to be read
    char       * path;      // absolute, without symbolic links: the program may change its directory
    const char * name;      // the end of it
};

#define PLACE_NONE { -1, NULL, NULL }

// Follows all symbolic links, those to what is not there yet included, but one that another user (and not root) has
// put where everybody may put links: -EXDEV. Returns 0, or -errno. -EISDIR: it leads to a folder.
int  place_find (struct place * place, const char * path);
void place_leave(struct place * place);
