// A file that is always whole, and never another's.
//
// Every version is written aside and renamed. The current version carries a lock (flock) as long as its owner
// lives, so that a second process, or a second model in this one, that is given the same path notices and takes a
// path of its own: stats.json, stats-2.json, stats-3.json … A file of the same run of a program is not taken
// either when its owner has ended: a server's models come and go. An earlier run's file is renamed to a sibling, so
// that the path has the newest run and no run is lost.

#pragma once

#include "base/claim.h"

#include <stddef.h>

struct output {
    char            * path;   // absolute, NULL: not claimed
    int               fd;     // holds the lock
    enum claim_reason reason;
    char            * moved;  // where an earlier run's file is now, NULL: there was none
    char            * wanted; // absolute
    uint64_t          limit;  // see struct claim
};

#define OUTPUT_UNCLAIMED { NULL, -1, CLAIM_AS_WANTED, NULL, NULL, 0 }

// What is asked for, see struct claim.
struct output_wish {
    const char * path;
    const char * run;
    uint64_t     limit;
};

// Writes the first version, to the path or to a sibling. Returns 0, or -errno: nothing is claimed then. See
// claim_newest().
int output_claim(struct output * output, const struct output_wish * wish, const void * data, size_t size);

// Replaces the file. `durable`: see aside_put(). Returns 0, or -errno: the version before stands. -ESTALE: there is
// another file in its place, which stays.
int output_replace(struct output * output, const void * data, size_t size, bool durable);

void output_release(struct output * output);

// Writes a file that nobody claims: aside, and renamed. Returns 0, or -errno. Links are followed; -ENOTSUP: what is
// there is not a regular file, -EISDIR: it is a folder, -EBADMSG: it holds no statistics.
int output_write_once(const char * wanted, const void * data, size_t size);
