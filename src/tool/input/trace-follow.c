// Looks at a trace's file four times a second: whether it grew, who writes it, and what is at its path.

#include "tool/input/trace-follow.h"

#include "tool/clock.h"
#include "tool/input/trace-family.h"
#include "tool/input/trace-input.h"
#include "tool/output-file.h"
#include "trace/read/trace-index.h"

#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TICK        250  // milliseconds
#define QUIET       1000 // that a file without an owner may be quiet: a copy that is being made has none
#define QUIET_PARTS 3000 // that the next part may take
#define OPEN_TRIES  5    // parts may be deleted meanwhile

struct trace_follow {
    const char          * path;
    struct trace_member * parts;      // those that were followed, and are there as far as is known
    size_t                n_parts;
    struct trace        * trace;      // the last one
    enum follow_news      entered;    // how it was come to
    bool                  is_told;    // that it was
    bool                  has_grown;  // since then
    uint64_t              seen;       // bytes of it that were read together with the other parts
    int64_t               last;       // time when it grew
    bool                  has_entered; // and was not looked at yet
    bool                  is_truncated;
    bool                  said_waiting;
    bool                  said_deleted;
};

// False: who reads the output has left.
static bool wait_a_moment(void) {
    struct pollfd out = { .fd = STDOUT_FILENO };
    return poll(&out, 1, TICK) <= 0 || (out.revents & (POLLERR | POLLHUP | POLLNVAL)) == 0;
}

static struct trace_member * last_part(const struct trace_follow * follow) {
    return &follow->parts[follow->n_parts - 1];
}

static void forget_parts(struct trace_follow * follow) {
    for (size_t i = 0; i < follow->n_parts; i++) {
        trace_member_free(&follow->parts[i]);
    }
    follow->n_parts = 0;
}

static void close_trace(struct trace_follow * follow) {
    if (follow->trace != NULL) {
        trace_close(follow->trace);
    }
    follow->trace = NULL;
}

//
// coming to a part
//

// Takes the member over.
static bool enter(struct trace_follow * follow, struct trace_member member, enum follow_news entered) {
    char           why[TRACE_ERROR_MAX];
    struct trace * trace = trace_open_growing(member.path, why);
    if (trace == NULL) {
        error_say("%s", why);
        trace_member_free(&member);
        return false;
    }
    output_file_protect(member.path);
    close_trace(follow);
    follow->parts = memory_resize(follow->parts, follow->n_parts + 1, sizeof(*follow->parts));
    follow->parts[follow->n_parts++] = member;
    follow->trace        = trace;
    follow->entered      = entered;
    follow->is_told      = false;
    follow->has_grown    = false;
    follow->seen         = 0;
    follow->last         = clock_milliseconds();
    follow->has_entered  = true;
    follow->is_truncated = false;
    return true;
}

static bool enter_another(struct trace_follow * follow, struct trace_member member) {
    forget_parts(follow);
    return enter(follow, member, FOLLOW_ANOTHER);
}

static bool enter_next(struct trace_follow * follow, struct trace_member member) {
    const int64_t part = last_part(follow)->identity.part;
    if (member.identity.part > part + 1) {
        error_say("%s: the parts of the trace between it and %s are not there any more", last_part(follow)->path,
                  member.path);
    }
    if (member.identity.part == part || follow->is_truncated) { // a copy in its place, or what cannot be read again
        trace_member_free(last_part(follow));
        follow->n_parts--;
    }
    return enter(follow, member, FOLLOW_PART);
}

static struct trace_member member_at(const char * path, enum trace_found * found) {
    struct trace_member member = { .path = memory_text("%s", path) };
    *found = trace_identify(path, &member.identity);
    return member;
}

static bool refuse(const struct trace_follow * follow) {
    char        why[TRACE_ERROR_MAX];
    struct stat about;
    if (stat(follow->path, &about) == 0 && !S_ISREG(about.st_mode)) {
        error_say("%s: not a regular file, and only such a file can be followed", follow->path);
        return false;
    }
    struct trace * trace = trace_open(follow->path, why);
    if (trace != NULL) { // by now
        trace_close(trace);
        return true;
    }
    error_say("%s", why);
    return false;
}

// False where it is no trace.
static bool begin(struct trace_follow * follow) {
    enum trace_found    found;
    struct trace_member member = member_at(follow->path, &found);
    if (found == TRACE_FOUND) {
        return enter_another(follow, member);
    }
    trace_member_free(&member);
    if (found == TRACE_FOUND_OTHER) {
        return refuse(follow);
    }
    if (found == TRACE_FOUND_NOTHING && trace_family_first(follow->path, &member)) {
        return enter_another(follow, member);
    }
    if (!follow->said_waiting) {
        follow->said_waiting = true;
        error_say("%s: %s: waiting for it", follow->path,
                  found == TRACE_FOUND_NOTHING ? "there is no such file yet" : "nothing is recorded in it yet");
    }
    return true;
}

//
// leaving a part
//

static bool is_followed(const struct trace_follow * follow, const struct trace_identity * identity) {
    for (size_t i = 0; i < follow->n_parts; i++) {
        if (trace_identity_is_same_file(&follow->parts[i].identity, identity)) {
            return true;
        }
    }
    return false;
}

// What is at the path now, where that is a trace and none of the files that are or were followed.
static bool find_replacement(const struct trace_follow * follow, struct trace_member * other) {
    enum trace_found found;
    *other = member_at(follow->path, &found);
    const struct trace_identity * last = &last_part(follow)->identity;
    const bool is_old = trace_identity_is_same_trace(&other->identity, last) &&
                        (other->identity.part < last->part || is_followed(follow, &other->identity));
    if (found == TRACE_FOUND && !is_old) {
        return true;
    }
    trace_member_free(other);
    return false;
}

static enum follow_news say_end(const struct trace_follow * follow) {
    const char * path = last_part(follow)->path;
    if (trace_about(follow->trace)->ending == TRACE_ROTATED) {
        error_say("%s: the trace goes on in a next part, which is not here", path);
    } else {
        error_say("%s: the program that wrote it was killed, or has left it: it ends here", path);
    }
    return FOLLOW_ENDED;
}

// All of the part was read. Returns FOLLOW_GREW where there is nothing new yet.
static enum follow_news leave(struct trace_follow * follow, bool is_written) {
    const bool          is_rotated = trace_about(follow->trace)->ending == TRACE_ROTATED;
    const int64_t       quiet      = clock_milliseconds() - follow->last;
    struct trace_member other;
    if ((is_rotated || !is_written) && trace_family_next(last_part(follow), &other)) {
        return enter_next(follow, other) ? FOLLOW_GREW : FOLLOW_FAILED;
    }
    if (find_replacement(follow, &other)) {
        if (trace_identity_is_same_trace(&other.identity, &last_part(follow)->identity)) {
            return enter_next(follow, other) ? FOLLOW_GREW : FOLLOW_FAILED;
        }
        error_say("%s: is another trace now, which is begun anew", follow->path);
        return enter_another(follow, other) ? FOLLOW_GREW : FOLLOW_FAILED;
    }
    return !is_written && quiet >= (is_rotated ? QUIET_PARTS : QUIET) ? say_end(follow) : FOLLOW_GREW;
}

//
// news
//

bool trace_follow_is_over(const struct trace_follow * follow) {
    const enum trace_ending ending = trace_about(follow->trace)->ending;
    return ending == TRACE_COMPLETE || ending == TRACE_INCOMPLETE;
}

// False: out of memory.
static bool take_growth(struct trace_follow * follow) {
    switch (follow->is_truncated ? TRACE_AS_BEFORE : trace_grow(follow->trace)) {
        case TRACE_AS_BEFORE:
            return true;
        case TRACE_GREW:
            follow->last      = clock_milliseconds();
            follow->has_grown = follow->has_grown || follow->trace->source.size > follow->seen;
            return true;
        case TRACE_SHRANK:
            error_say("%s: was truncated: what was recorded until then is gone", last_part(follow)->path);
            follow->is_truncated = true;
            return true;
        case TRACE_NO_MEMORY:
            error_say("%s: out of memory", last_part(follow)->path);
            break;
    }
    return false;
}

static bool has_news(const struct trace_follow * follow) {
    const struct trace_info * info = trace_about(follow->trace);
    return follow->is_told ? follow->has_grown : info->n_ubatches > 0 || info->ending != TRACE_INTERRUPTED;
}

// Returns false where there is nothing new, or it is not due.
static bool look(struct trace_follow * follow, bool is_due, enum follow_news * news) {
    *news = FOLLOW_FAILED;
    if (follow->trace == NULL) {
        return !begin(follow);
    }
    const bool is_written = !follow->is_truncated && trace_is_written(follow->trace); // before its last words are read
    if (!take_growth(follow)) {
        return true;
    }
    const bool is_over = trace_follow_is_over(follow);
    if (has_news(follow)) {
        *news = follow->is_told ? FOLLOW_GREW : follow->entered;
        if (is_due || is_over) {
            follow->is_told   = true;
            follow->has_grown = false;
        }
        return is_due || is_over;
    }
    *news = is_over ? FOLLOW_ENDED : leave(follow, is_written);
    return *news != FOLLOW_GREW;
}

enum follow_news trace_follow_next(struct trace_follow * follow, int64_t pause) {
    const int64_t    due = clock_milliseconds() + pause;
    enum follow_news news;
    for (;;) {
        follow->has_entered = false;
        if (look(follow, clock_milliseconds() >= due, &news)) {
            return news;
        }
        if (!follow->has_entered && !wait_a_moment()) {
            return FOLLOW_LEFT;
        }
    }
}

const struct trace * trace_follow_trace(const struct trace_follow * follow) {
    return follow->trace;
}

//
// all parts together
//

// Those that were deleted or replaced meanwhile are left out.
static void drop_deleted(struct trace_follow * follow) {
    size_t kept = 0;
    for (size_t i = 0; i < follow->n_parts; i++) {
        struct trace_member * part = &follow->parts[i];
        struct stat           about;
        const bool is_there = i + 1 == follow->n_parts ||
            (stat(part->path, &about) == 0 && (uint64_t) about.st_ino == part->identity.inode &&
             (uint64_t) about.st_dev == part->identity.device);
        if (is_there) {
            follow->parts[kept++] = *part;
            continue;
        }
        if (!follow->said_deleted) {
            error_say("%s: was deleted meanwhile: what is left of the trace is used", part->path);
        }
        follow->said_deleted = true;
        trace_member_free(part);
    }
    follow->n_parts = kept;
}

// Goes on to the last part that there is.
static bool catch_up(struct trace_follow * follow) {
    struct trace_member next;
    bool                ok = true;
    while (ok && trace_about(follow->trace)->ending == TRACE_ROTATED &&
           trace_family_next(last_part(follow), &next)) {
        ok = enter_next(follow, next);
    }
    follow->is_told = true;
    return ok;
}

static struct trace * open_parts(const struct trace_follow * follow, char why[TRACE_ERROR_MAX]) {
    struct trace * trace = trace_open(follow->parts[0].path, why);
    for (size_t i = 1; trace != NULL && i < follow->n_parts; i++) {
        if (!trace_append(trace, follow->parts[i].path, why)) {
            trace_close(trace);
            trace = NULL;
        }
    }
    return trace;
}

struct trace * trace_follow_open(struct trace_follow * follow, struct error * error) {
    char           why[TRACE_ERROR_MAX];
    struct trace * trace = NULL;
    if (!catch_up(follow)) {
        error_set(error, "%s: its parts cannot be read together", follow->path);
        return NULL;
    }
    for (int tries = 0; tries < OPEN_TRIES && trace == NULL; tries++) {
        drop_deleted(follow);
        trace = open_parts(follow, why);
    }
    if (trace == NULL) {
        error_set(error, "%s", why);
        return NULL;
    }
    follow->seen      = trace->source.size - trace->source.begin;
    follow->has_grown = follow->trace->source.size > follow->seen;
    return trace;
}

int trace_follow_check(const struct command * command, const char * path) {
    return strcmp(path, "-") != 0 ? STATUS_OK : command_usage_error(command, "--follow needs the name of a file: what "
        "the standard input has is read to its end, and nothing follows");
}

struct trace_follow * trace_follow_new(const char * path) {
    struct trace_follow * follow = memory_new(1, sizeof(*follow));
    follow->path = path;
    return follow;
}

void trace_follow_free(struct trace_follow * follow) {
    close_trace(follow);
    forget_parts(follow);
    free(follow->parts);
    free(follow);
}
