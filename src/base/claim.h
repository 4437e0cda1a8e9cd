// Which file is written to where one is asked for: never one that somebody else writes to, never one that holds
// something else, and no earlier run's in a way that loses it.

#pragma once

#include "base/family.h"
#include "base/file-kind.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct claim {
    const char   * path;
    enum file_kind kind;
    const char   * run;     // a file that tells this run, as a JSON member "run" at its beginning, is another model's
    const void   * data;    // what the file begins with
    size_t         size;
    bool           goes_on; // as a file that somebody took away: whatever is at the path now, a sibling is made
    uint64_t       limit;   // of bytes that all files of this path take together, 0: none. See family_limit()
};

enum claim_reason {
    CLAIM_AS_WANTED,
    CLAIM_BESIDE_ANOTHER, // the path belongs to another process, or to another model of this run
    CLAIM_BESIDE_EARLIER, // an earlier run is there, and stays
};

// A file that was made. It carries a lock as long as its descriptor is open, and may be written to.
struct claimed {
    int               fd;
    char            * path;    // absolute. To be freed, like all that follows
    enum claim_reason reason;
    int               n;       // of the sibling, 1: the path that was wanted
    int64_t           part;    // of a trace that is rotated
    char            * moved;   // where an earlier run's file is now, NULL: there was none
    uint64_t          others;  // bytes that the other files of this path take; only with a limit
};

// All return 0, or -errno. -EBADMSG: what is there is of another kind; -ENOTSUP: it is not a regular file; -EISDIR: it
// is a folder; -EBUSY: it is where the program's standard output or error goes; -EXDEV: see place_find().

// The path itself, or else a sibling that is not there yet. Only an empty file is replaced.
int claim_new(const struct claim * claim, struct claimed * claimed);

// The next part of the path, behind all that there are. `after` NULL: the first of a trace; of a sibling where the
// last part is another's.
int claim_part(const struct claim * claim, const struct claimed * after, struct claimed * claimed);

// The path itself: what an earlier run has left there is renamed to a sibling that is not there yet. Where it is
// another's a sibling is made.
int claim_newest(const struct claim * claim, struct claimed * claimed);

// Replaces the file whose descriptor is `fd` and whose path was claimed. `durable`: see aside_put(). Returns the new
// version's descriptor, or -errno. -ESTALE: there is another one now.
int claim_replace(const char * path, int fd, const void * data, size_t size, bool durable);

// Writes a file that nobody claims, in place of one of the same kind. Returns 0, or -errno.
int claim_write_once(const struct claim * claim);

// Deletes the oldest files of a path as struct claim's `limit` asks for. Returns the bytes that the others take then.
uint64_t claim_limit(const struct claim * claim, bool rotated, uint64_t size);

// Why a file of a kind could not be made or written to, in words. `error`: -errno.
const char * claim_explain(int error, enum file_kind kind);
