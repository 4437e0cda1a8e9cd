// Files that are made whole at once, aside and renamed, and that carry a lock (flock) as long as their owner lives.

#ifndef BASE_CLAIM_H
#define BASE_CLAIM_H

#include "base/file-kind.h"

#include <stdbool.h>
#include <stddef.h>

#define CLAIM_SIBLINGS_MAX 10000

struct claim {
    const char   * run;  // a file that tells this run, as a JSON member "run" at its beginning, is not taken
    const char   * data; // what the file begins with
    size_t         size;
    enum file_kind kind; // what may be replaced: see file_kind_check()
};

// Makes a file, or takes over one that is there. Returns its descriptor, which carries the lock and may be written to,
// or -errno. -EEXIST: it is another's; -EBADMSG: it is of another kind; -ENOTSUP: it is not a regular file; -EISDIR: it is
// a folder; -EBUSY: it is where the program's standard output or error goes.
int claim_path(const char * path, const struct claim * claim);

// Puts a file in place. `replace`: over what is there; otherwise -EEXIST where something is. `durable`: on the disk
// first, so that the machine may fail at any time; that waits as long as the disk takes.
// Returns the descriptor of the file, or -errno.
int claim_put(const char * path, const char * data, size_t size, bool replace, bool durable);

// Whether what a path stands for may be replaced by a file of a kind, a missing one included. Returns 0, or -errno: see
// file_kind_check().
int claim_check(const char * path, enum file_kind kind);

// Absolute, and without symbolic links, those to what is not there yet included: the program may change its directory.
// Returns NULL, and errno.
char * claim_absolute(const char * path);

// The n-th of a path's siblings: stats.json, stats-2.json … Returns NULL where memory runs out.
char * claim_sibling(const char * path, int n);

// Why a file of a kind could not be made or written to, in words. `error`: -errno.
const char * claim_explain(int error, enum file_kind kind);

#endif // BASE_CLAIM_H
