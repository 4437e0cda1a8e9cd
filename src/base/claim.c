// Looks at what is at a path, and finds a file that may be written to: there or beside it.

#include "base/claim.h"

#include "base/aside.h"
#include "base/descriptor.h"
#include "base/place.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CLAIM_TRIES     100       // to be faster than others who take the same path
#define CLAIM_SIBLINGS  10000     // are tried one by one where the folder cannot be read
#define CLAIM_HEAD_SIZE 4096      // of a file, where its run is told

// What is at a place.
enum found {
    FOUND_NOTHING,
    FOUND_EMPTY,
    FOUND_EARLIER, // an earlier run's
    FOUND_ANOTHER, // somebody writes to it, or it is of this run
};

static bool is_of_run(int fd, const char * run) {
    char          head[CLAIM_HEAD_SIZE];
    char          member[256];
    const ssize_t n = pread(fd, head, sizeof(head), 0);
    snprintf(member, sizeof(member), "\"run\": \"%s\"", run);
    return n > 0 && memmem(head, (size_t) n, member, strlen(member)) != NULL;
}

static bool is_empty(int fd) {
    char byte;
    return pread(fd, &byte, 1, 0) == 0;
}

static int judge_found(int fd, const struct place * place, const struct claim * claim) {
    const int error = file_kind_check(fd, claim->kind);
    if (error && error != -EBADMSG) {
        return error;
    }
    if (aside_is_same(fd, STDOUT_FILENO) || aside_is_same(fd, STDERR_FILENO)) {
        return -EBUSY;
    }
    if (error) {
        return error;
    }
    if (!aside_lock(fd, false) || is_of_run(fd, claim->run)) {
        return FOUND_ANOTHER;
    }
    if (!aside_is_at(fd, place->directory, place->name)) {
        return FOUND_NOTHING; // any more
    }
    return is_empty(fd) ? FOUND_EMPTY : FOUND_EARLIER;
}

// Returns enum found, or -errno. What is nobody's is locked as long as `*fd` is open: nobody else takes it over.
static int look_at(const struct place * place, const struct claim * claim, int * fd) {
    *fd = descriptor_open(place->directory, place->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    return *fd >= 0 ? judge_found(*fd, place, claim) : *fd == -ENOENT ? FOUND_NOTHING : *fd == -ENXIO ? -ENOTSUP : *fd;
}

static void close_found(int fd) {
    if (fd >= 0) {
        close(fd);
    }
}

static struct family family_of(const struct place * place, const struct claim * claim, bool rotated) {
    return (struct family) { place->directory, place->name, claim->kind, rotated };
}

static int put_new(const struct place * place, const char * name, const struct claim * claim) {
    return aside_put(place->directory, name, claim->data, claim->size, false, false);
}

// Puts the file at the path that was wanted, if that is free. Returns its descriptor, or -errno; -EEXIST: see `found`,
// and `*old` is its descriptor.
static int put_as_wanted(const struct place * place, const struct claim * claim, int * found, int * old) {
    for (int tries = 0; tries < CLAIM_TRIES; tries++) {
        int fd = put_new(place, place->name, claim);
        *old = -1;
        if (fd != -EEXIST) {
            return fd;
        }
        *found = look_at(place, claim, old);
        if (*found == FOUND_EMPTY) {
            fd = aside_put(place->directory, place->name, claim->data, claim->size, true, false);
        }
        if (*found == FOUND_EARLIER || *found == FOUND_ANOTHER) {
            return -EEXIST;
        }
        close_found(*old);
        *old = -1;
        if (*found != FOUND_NOTHING) {
            return *found < 0 ? *found : fd;
        }
    }
    return -EAGAIN;
}

// Room for the path of any member. It is taken before a file is made: a file whose path there is no memory for would
// stay.
static size_t room_for_path(const struct place * place) {
    return strlen(place->path) + FAMILY_MEMBER_MORE;
}

// Fills in what is known of a file that was made.
static int fill_claimed(struct claimed * claimed, const struct place * place, int fd, int n, int64_t part) {
    claimed->fd   = fd;
    claimed->n    = n;
    claimed->part = part;
    family_member(claimed->path, room_for_path(place), place->path, n, part);
    return fd < 0 ? fd : 0;
}

static int put_member(const struct place * place, const struct claim * claim, int n, int64_t part) {
    char name[NAME_MAX + FAMILY_MEMBER_MORE];
    return family_member(name, sizeof(name), place->name, n, part) ? put_new(place, name, claim) : -ENAMETOOLONG;
}

// The first sibling from `n` on that is not there.
static int put_sibling(const struct place * place, const struct claim * claim, int n, struct claimed * claimed) {
    int fd = -EEXIST;
    for (int last = n + CLAIM_SIBLINGS; n < last && fd == -EEXIST; n++) {
        fd = put_member(place, claim, n, FAMILY_NO_PART);
    }
    return fill_claimed(claimed, place, fd, n - 1, FAMILY_NO_PART);
}

//
// the path, or a sibling
//

static int make_new(const struct place * place, const struct claim * claim, struct claimed * claimed) {
    const struct family family = family_of(place, claim, false);
    const int           next   = family_look(&family, 1).n + 1;
    int found;
    int old;
    const int  fd       = put_as_wanted(place, claim, &found, &old);
    const bool is_other = fd == -EBADMSG || fd == -ENOTSUP || fd == -EISDIR || fd == -ELOOP;
    if (fd != -EEXIST && !(is_other && claim->goes_on)) {
        return fill_claimed(claimed, place, fd, 1, FAMILY_NO_PART);
    }
    close_found(old);
    claimed->reason = found == FOUND_ANOTHER ? CLAIM_BESIDE_ANOTHER : CLAIM_BESIDE_EARLIER;
    return put_sibling(place, claim, next, claimed);
}

//
// the next part
//

// Whether what comes next may be numbered behind this part: not while it is written to.
static bool may_follow(const struct place * place, const struct claim * claim, int64_t part) {
    char         name[NAME_MAX + FAMILY_MEMBER_MORE];
    struct place last = *place;
    int          old  = -1;
    last.name = name;
    const bool may = family_member(name, sizeof(name), place->name, 1, part) &&
                     look_at(&last, claim, &old) != FOUND_ANOTHER;
    close_found(old);
    return may;
}

static int make_first_part(const struct place * place, const struct claim * claim, struct claimed * claimed) {
    const struct family family = family_of(place, claim, true);
    int     fd   = -EEXIST;
    int     n    = 1;
    int64_t part = 0;
    for (int tries = 0; tries < CLAIM_TRIES && fd == -EEXIST; tries++) {
        const struct family_last last = family_look(&family, 1);
        claimed->reason = last.part == FAMILY_NO_PART ? CLAIM_AS_WANTED : CLAIM_BESIDE_EARLIER;
        n    = 1;
        part = last.part + 1;
        if (last.part != FAMILY_NO_PART && !may_follow(place, claim, last.part)) {
            claimed->reason = CLAIM_BESIDE_ANOTHER;
            n    = last.n + 1;
            part = 0;
        }
        fd = put_member(place, claim, n, part);
    }
    return fill_claimed(claimed, place, fd, n, part);
}

static int make_next_part(const struct place * place, const struct claim * claim, const struct claimed * after,
        struct claimed * claimed) {
    const struct family family = family_of(place, claim, true);
    int64_t part = after->part + 1;
    int     fd   = put_member(place, claim, after->n, part);
    for (int tries = 0; tries < CLAIM_TRIES && fd == -EEXIST; tries++) {
        part = family_look(&family, after->n).part + 1;
        fd   = put_member(place, claim, after->n, part);
    }
    return fill_claimed(claimed, place, fd, after->n, part);
}

//
// the path, and what is there to a sibling
//

// Returns 0, or -errno. `n`: the first sibling that may be free.
static int move_away(const struct place * place, int n, struct claimed * claimed) {
    char         name[NAME_MAX + FAMILY_MEMBER_MORE];
    const size_t room  = room_for_path(place);
    char       * moved = malloc(room);
    int          error = moved != NULL ? -EEXIST : -ENOMEM;
    for (int last = n + CLAIM_SIBLINGS; n < last && error == -EEXIST; n++) {
        error = family_member(name, sizeof(name), place->name, n, FAMILY_NO_PART) ?
            aside_rename(place->directory, place->name, name) : -ENAMETOOLONG;
    }
    if (error) {
        free(moved);
    } else {
        free(claimed->moved);
        claimed->moved = moved;
        family_member(moved, room, place->path, n - 1, FAMILY_NO_PART);
    }
    return error == -ENOENT ? 0 : error;
}

static int make_newest(const struct place * place, const struct claim * claim, struct claimed * claimed) {
    const struct family family = family_of(place, claim, false);
    const int           next   = family_look(&family, 1).n + 1;
    int fd = -EEXIST;
    for (int tries = 0; tries < CLAIM_TRIES && fd == -EEXIST; tries++) {
        int found;
        int old;
        fd = put_as_wanted(place, claim, &found, &old);
        if (fd == -EEXIST && found == FOUND_ANOTHER) {
            close(old);
            claimed->reason = CLAIM_BESIDE_ANOTHER;
            return put_sibling(place, claim, next, claimed);
        }
        if (fd == -EEXIST) {
            const int error = move_away(place, next, claimed);
            close(old);
            fd = error ? error : -EEXIST;
        }
    }
    return fill_claimed(claimed, place, fd, 1, FAMILY_NO_PART);
}

//
// what is claimed
//

typedef int (* make_fn)(const struct place * place, const struct claim * claim, struct claimed * claimed);

static uint64_t others_of(const struct family * family, const struct claim * claim, uint64_t size) {
    const uint64_t all = family_limit(family, claim->limit);
    return all > size ? all - size : 0;
}

static int make_at_place(const struct claim * claim, bool rotated, make_fn make, const struct claimed * after,
        struct claimed * claimed) {
    struct place place;
    int error = place_find(&place, claim->path);
    *claimed = (struct claimed) { .fd = -1, .path = error ? NULL : malloc(room_for_path(&place)) };
    if (!error && claimed->path == NULL) {
        error = -ENOMEM;
    }
    if (!error) {
        error = after != NULL ? make_next_part(&place, claim, after, claimed) : make(&place, claim, claimed);
    }
    if (!error && claim->limit > 0) {
        const struct family family = family_of(&place, claim, rotated);
        claimed->others = others_of(&family, claim, claim->size);
    }
    if (error) {
        free(claimed->path);
        free(claimed->moved);
        claimed->path  = NULL;
        claimed->moved = NULL;
    }
    place_leave(&place);
    return error;
}

int claim_new(const struct claim * claim, struct claimed * claimed) {
    return make_at_place(claim, false, make_new, NULL, claimed);
}

int claim_part(const struct claim * claim, const struct claimed * after, struct claimed * claimed) {
    return make_at_place(claim, true, make_first_part, after, claimed);
}

int claim_newest(const struct claim * claim, struct claimed * claimed) {
    return make_at_place(claim, false, make_newest, NULL, claimed);
}

uint64_t claim_limit(const struct claim * claim, bool rotated, uint64_t size) {
    struct place place;
    uint64_t     others = 0;
    if (place_find(&place, claim->path) == 0) {
        const struct family family = family_of(&place, claim, rotated);
        others = others_of(&family, claim, size);
    }
    place_leave(&place);
    return others;
}

int claim_replace(const char * path, int fd, const void * data, size_t size, bool durable) {
    struct place place;
    int result = place_find(&place, path);
    if (result == 0) {
        const bool is_ours = aside_is_at(fd, place.directory, place.name);
        result = aside_put(place.directory, place.name, data, size, is_ours, durable);
    }
    place_leave(&place);
    return result == -EEXIST ? -ESTALE : result;
}

int claim_write_once(const struct claim * claim) {
    struct place place;
    int error = place_find(&place, claim->path);
    if (!error) {
        const int old = descriptor_open(place.directory, place.name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
        error = old >= 0 ? file_kind_check(old, claim->kind) : old == -ENOENT ? 0 : old == -ENXIO ? -ENOTSUP : old;
        close_found(old);
    }
    if (!error) {
        const int fd = aside_put(place.directory, place.name, claim->data, claim->size, true, true);
        close_found(fd);
        error = fd < 0 ? fd : 0;
    }
    place_leave(&place);
    return error;
}

const char * claim_explain(int error, enum file_kind kind) {
    switch (error) {
        case -ENOTSUP: return "not a regular file";
        case -EBUSY:   return "the program's own output goes there";
        case -EXDEV:   return "another user's symbolic link, in a folder where everybody may put one, is not followed";
        case -EBADMSG: return file_kind_refusal(kind);
        default:       return strerror(-error);
    }
}
