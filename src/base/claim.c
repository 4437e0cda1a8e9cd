#include "claim.h"

#include "signal-guard.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRIES_MAX    100  // to be faster than others who take the same path
#define HEAD_SIZE    4096 // of a file, where its run is told
#define ASIDE_END    ".tmp"

static int write_all(int fd, const char * data, size_t size) {
    while (size > 0) {
        const ssize_t n = write(fd, data, size);
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        if (n > 0) {
            data += n;
            size -= (size_t) n;
        }
    }
    return 0;
}

// The same, and a limit on the size of files does not end the program.
static int write_quietly(int fd, const char * data, size_t size) {
    struct signal_guard guard;
    signal_guard_enter(&guard, SIGXFSZ);
    const int error = write_all(fd, data, size);
    signal_guard_leave(&guard, error == -EFBIG);
    return error;
}

// A lock that the file system does not know protects nothing, and is no reason to fail.
static bool lock(int fd) {
    return flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
}

// A name that no other process, thread or machine writes to. Completed by mkostemps().
static char * aside_of(const char * path) {
    char * aside = NULL;
    return asprintf(&aside, "%s.XXXXXX" ASIDE_END, path) < 0 ? NULL : aside;
}

// Writes and locks a file. Returns its descriptor, or -errno: there is no file then.
static int write_aside(char * aside, const char * data, size_t size, bool durable) {
    const int fd = mkostemps(aside, (int) strlen(ASIDE_END), O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    lock(fd);
    int error = write_quietly(fd, data, size);
    if (!error && durable && fsync(fd) != 0 && errno != EINVAL && errno != EROFS) {
        error = -errno;
    }
    if (error) {
        unlink(aside);
        close(fd);
        return error;
    }
    return fd;
}

int claim_put(const char * path, const char * data, size_t size, bool replace, bool durable) {
    char * aside = aside_of(path);
    if (!aside) {
        return -ENOMEM;
    }
    int fd = write_aside(aside, data, size, durable);
    if (fd >= 0) {
        int failed = replace ? rename(aside, path) : renameat2(AT_FDCWD, aside, AT_FDCWD, path, RENAME_NOREPLACE);
        if (failed && !replace && (errno == EINVAL || errno == ENOSYS)) {
            failed = link(aside, path); // a file system without RENAME_NOREPLACE
            unlink(aside);
        }
        if (failed) {
            const int error = -errno;
            unlink(aside);
            close(fd);
            fd = error;
        }
    }
    free(aside);
    return fd;
}

// Whether a descriptor's file is the one that another descriptor, or a path, stands for.
static bool same_file(int fd, int other_fd, const char * other_path) {
    struct statx one;
    struct statx other;
    return statx(fd, "", AT_EMPTY_PATH, STATX_INO, &one) == 0 && statx(other_fd, other_path, AT_EMPTY_PATH, STATX_INO, &other) == 0 &&
           one.stx_ino == other.stx_ino && one.stx_dev_major == other.stx_dev_major && one.stx_dev_minor == other.stx_dev_minor;
}

static bool is_of_run(int fd, const char * run) {
    char          head[HEAD_SIZE];
    char          member[256];
    const ssize_t n = pread(fd, head, sizeof(head), 0);
    snprintf(member, sizeof(member), "\"run\": \"%s\"", run);
    return n > 0 && memmem(head, (size_t) n, member, strlen(member)) != NULL;
}

// Takes over a file that is there. Returns a descriptor; -EEXIST: it is another's; -EAGAIN: it went away.
static int take_over(const char * path, const struct claim * claim) {
    const int old = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (old < 0) {
        return errno == ENOENT ? -EAGAIN : -errno;
    }
    int fd = file_kind_check(old, claim->kind);
    if (same_file(old, STDOUT_FILENO, "") || same_file(old, STDERR_FILENO, "")) {
        fd = -EBUSY;
    } else if (fd < 0) {
        // it stays as it is
    } else if (!lock(old) || is_of_run(old, claim->run)) {
        fd = -EEXIST;
    } else if (!same_file(old, AT_FDCWD, path)) {
        fd = -EAGAIN;
    } else {
        fd = claim_put(path, claim->data, claim->size, true, false);
    }
    close(old);
    return fd;
}

int claim_check(const char * path, enum file_kind kind) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    const int error = file_kind_check(fd, kind);
    close(fd);
    return error;
}

int claim_path(const char * path, const struct claim * claim) {
    for (int tries = 0; tries < TRIES_MAX; tries++) {
        int fd = take_over(path, claim);
        if (fd == -EAGAIN) {
            fd = claim_put(path, claim->data, claim->size, false, false);
            if (fd == -EEXIST) {
                continue; // somebody was faster
            }
        }
        return fd;
    }
    return -EEXIST;
}

static char * join(const char * directory, const char * path) {
    char * result = NULL;
    if (path[0] == '/') {
        return strdup(path);
    }
    return asprintf(&result, "%s/%s", strcmp(directory, "/") == 0 ? "" : directory, path) < 0 ? NULL : result;
}

char * claim_absolute(const char * path) {
    char * result = realpath(path, NULL);
    if (result) {
        return result;
    }
    const bool   is_missing = errno == ENOENT;
    const char * slash      = strrchr(path, '/');
    char       * start      = slash ? strndup(path, slash == path ? 1 : (size_t) (slash - path)) : strdup(".");
    char       * directory  = start ? realpath(start, NULL) : NULL;
    const int    saved      = errno;
    if (directory) {
        char          target[PATH_MAX];
        const ssize_t n = is_missing ? readlink(path, target, sizeof(target) - 1) : -1;
        if (n > 0) {
            target[n] = '\0';
            char * linked = join(directory, target);
            result = linked ? claim_absolute(linked) : NULL;
            free(linked);
        } else {
            result = join(directory, slash ? slash + 1 : path);
        }
    } else {
        errno = saved;
    }
    free(start);
    free(directory);
    return result;
}

char * claim_sibling(const char * path, int n) {
    if (n == 1) {
        return strdup(path);
    }
    const char * name = strrchr(path, '/');
    const char * dot  = strrchr(name ? name + 1 : path, '.');
    const int    stem = (int) (dot && dot != name + 1 ? dot - path : (ptrdiff_t) strlen(path));
    char       * result = NULL;
    return asprintf(&result, "%.*s-%d%s", stem, path, n, path + stem) < 0 ? NULL : result;
}

const char * claim_explain(int error, enum file_kind kind) {
    switch (error) {
        case -ENOTSUP: return "not a regular file";
        case -EBUSY:   return "the program's own output goes there";
        case -EBADMSG: return file_kind_refusal(kind);
        default:       return strerror(-error);
    }
}
