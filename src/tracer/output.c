#include "output.h"

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

#define SIBLINGS_MAX 10000
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
static int write_aside(char * aside, const char * data, size_t size) {
    const int fd = mkostemps(aside, (int) strlen(ASIDE_END), O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    lock(fd);
    int error = write_quietly(fd, data, size);
    if (!error && fsync(fd) != 0 && errno != EINVAL && errno != EROFS) {
        error = -errno;
    }
    if (error) {
        unlink(aside);
        close(fd);
        return error;
    }
    return fd;
}

// Puts a file in place. `replace`: over what is there; otherwise -EEXIST where something is.
// Returns the descriptor of the file, or -errno.
static int put(const char * path, const char * data, size_t size, bool replace) {
    char * aside = aside_of(path);
    if (!aside) {
        return -ENOMEM;
    }
    int fd = write_aside(aside, data, size);
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

// Whether a path, or a descriptor where it is empty, stands for a regular file. Returns 0, or -errno.
static int expect_regular(int fd, const char * path) {
    struct statx about;
    if (statx(fd, path, AT_EMPTY_PATH, STATX_TYPE, &about) != 0) {
        return -errno;
    }
    return S_ISREG(about.stx_mode) ? 0 : S_ISDIR(about.stx_mode) ? -EISDIR : -ENOTSUP;
}

static bool is_of_run(int fd, const char * run) {
    char          head[HEAD_SIZE + 1];
    char          member[256];
    const ssize_t n = pread(fd, head, HEAD_SIZE, 0);
    head[n > 0 ? n : 0] = '\0';
    snprintf(member, sizeof(member), "\"run\": \"%s\"", run);
    return strstr(head, member) != NULL;
}

// Takes over a file that is there. Returns a descriptor; -EEXIST: it is another's; -EAGAIN: it went away.
static int take_over(const char * path, const char * run, const char * data, size_t size) {
    const int old = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (old < 0) {
        return errno == ENOENT ? -EAGAIN : -errno;
    }
    int fd = expect_regular(old, "");
    if (fd < 0) {
        // it stays as it is
    } else if (same_file(old, STDOUT_FILENO, "") || same_file(old, STDERR_FILENO, "")) {
        fd = -EBUSY;
    } else if (!lock(old) || is_of_run(old, run)) {
        fd = -EEXIST;
    } else if (!same_file(old, AT_FDCWD, path)) {
        fd = -EAGAIN;
    } else {
        fd = put(path, data, size, true);
    }
    close(old);
    return fd;
}

static int claim_path(const char * path, const char * run, const char * data, size_t size) {
    for (int tries = 0; tries < TRIES_MAX; tries++) {
        int fd = take_over(path, run, data, size);
        if (fd == -EAGAIN) {
            fd = put(path, data, size, false);
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

// Absolute, and without symbolic links, those to what is not there yet included: the program may change its directory.
static char * absolute(const char * path) {
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
            result = linked ? absolute(linked) : NULL;
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

// The n-th of a path's siblings: stats.json, stats-2.json …
static char * sibling(const char * path, int n) {
    if (n == 1) {
        return strdup(path);
    }
    const char * name = strrchr(path, '/');
    const char * dot  = strrchr(name ? name + 1 : path, '.');
    const int    stem = (int) (dot && dot != name + 1 ? dot - path : (ptrdiff_t) strlen(path));
    char       * result = NULL;
    return asprintf(&result, "%.*s-%d%s", stem, path, n, path + stem) < 0 ? NULL : result;
}

int output_claim(struct output * output, const char * wanted, const char * run, const char * data, size_t size) {
    char * path = absolute(wanted);
    if (!path) {
        return -errno;
    }
    int fd = -EEXIST;
    for (int n = 1; n <= SIBLINGS_MAX && fd == -EEXIST; n++) {
        char * candidate = sibling(path, n);
        fd = candidate ? claim_path(candidate, run, data, size) : -ENOMEM;
        if (fd >= 0) {
            *output = (struct output) { candidate, fd, n > 1 };
        } else {
            free(candidate);
        }
    }
    free(path);
    return fd < 0 ? fd : 0;
}

int output_replace(struct output * output, const char * data, size_t size) {
    const int fd = put(output->path, data, size, true);
    if (fd < 0) {
        return fd;
    }
    const int before = output->fd;
    output->fd = fd; // first: a child that is forked now closes what it finds here
    close(before);
    return 0;
}

void output_release(struct output * output) {
    const struct output before = *output;
    *output = (struct output) OUTPUT_UNCLAIMED;
    if (before.fd >= 0) {
        close(before.fd);
    }
    free(before.path);
}

int output_write_once(const char * wanted, const char * data, size_t size) {
    char * path = absolute(wanted);
    if (!path) {
        return -errno;
    }
    int fd = expect_regular(AT_FDCWD, path);
    if (fd == 0 || fd == -ENOENT) {
        fd = put(path, data, size, true);
    }
    free(path);
    if (fd < 0) {
        return fd;
    }
    close(fd);
    return 0;
}
