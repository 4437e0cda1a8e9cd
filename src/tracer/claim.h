// Files that are made whole at once, aside and renamed, and that carry a lock (flock) as long as their owner lives.

#ifndef TRACER_CLAIM_H
#define TRACER_CLAIM_H

#include <stdbool.h>
#include <stddef.h>

#define CLAIM_SIBLINGS_MAX 10000

struct claim {
    const char * run;        // a file that tells this run, as a JSON member "run" at its beginning, is not taken
    const char * data;       // what the file begins with
    size_t       size;
    const char * magic;      // what is there is replaced where it begins so, or is empty; NULL: whatever it is
    size_t       magic_size;
};

// Makes a file, or takes over one that is there. Returns its descriptor, which carries the lock and may be written to,
// or -errno. -EEXIST: it is another's; -EBADMSG: it does not begin with `magic`; -ENOTSUP: it is not a regular file;
// -EISDIR: it is a folder; -EBUSY: it is where the program's standard output or error goes.
int claim_path(const char * path, const struct claim * claim);

// Puts a file in place. `replace`: over what is there; otherwise -EEXIST where something is.
// Returns the descriptor of the file, or -errno.
int claim_put(const char * path, const char * data, size_t size, bool replace);

// Whether a path, or a descriptor where it is empty, stands for a regular file. Returns 0, or -errno.
int claim_expect_regular(int fd, const char * path);

// Absolute, and without symbolic links, those to what is not there yet included: the program may change its directory.
// Returns NULL, and errno.
char * claim_absolute(const char * path);

// The n-th of a path's siblings: stats.json, stats-2.json … Returns NULL where memory runs out.
char * claim_sibling(const char * path, int n);

// Why a file could not be made or written to, in words. `error`: -errno.
const char * claim_explain(int error);

#endif // TRACER_CLAIM_H
