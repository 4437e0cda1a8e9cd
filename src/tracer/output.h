// A file that is always whole, and never another's.
//
// Every version is written aside and renamed. The current version carries a lock (flock) as long as its owner
// lives, so that a second process, or a second model in this one, that is given the same path notices and takes a
// path of its own: stats.json, stats-2.json, stats-3.json … A file of the same run of a program is not taken
// either when its owner has ended: a server's models come and go.

#ifndef TRACER_OUTPUT_H
#define TRACER_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>

struct output {
    char * path;       // absolute, NULL: not claimed
    int    fd;         // holds the lock
    bool   is_sibling; // the path that was wanted is another's
};

#define OUTPUT_UNCLAIMED { NULL, -1, false }

// Writes the first version of `wanted`, or of a sibling of that name. `run` is searched for in a file that is
// there already, as a JSON member "run". Returns 0, or -errno: nothing is claimed then. -ENOTSUP: it is not a
// regular file; -EBUSY: it is where the program's standard output or error goes.
int output_claim(struct output * output, const char * wanted, const char * run, const char * data, size_t size);

// Replaces the file. `durable`: see claim_put(). Returns 0, or -errno: the version before stands.
int output_replace(struct output * output, const char * data, size_t size, bool durable);

void output_release(struct output * output);

// Writes a file that nobody claims: aside, and renamed. Returns 0, or -errno. Links are followed; -ENOTSUP: what is
// there is not a regular file, -EISDIR: it is a folder.
int output_write_once(const char * wanted, const char * data, size_t size);

#endif // TRACER_OUTPUT_H
