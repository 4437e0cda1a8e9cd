// Makes files beside the ones that they will replace, locked by flock(), and renames them.

#include "base/aside.h"

#include "base/descriptor.h"
#include "base/signal-guard.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ASIDE_TRIES   100
#define ASIDE_END     ".tmp"
#define ASIDE_LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
#define ASIDE_RANDOM  6

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

bool aside_lock(int fd, bool strictly) {
    return flock(fd, LOCK_EX | LOCK_NB) == 0 || (errno != EWOULDBLOCK && !strictly);
}

bool aside_is_suffix(const char * suffix) {
    return strlen(suffix) == ASIDE_SUFFIX_SIZE && suffix[0] == '.' &&
           strspn(suffix + 1, ASIDE_LETTERS) == ASIDE_RANDOM && strcmp(suffix + 1 + ASIDE_RANDOM, ASIDE_END) == 0;
}

bool aside_is_at(int fd, int directory, const char * name) {
    struct statx one;
    struct statx other;
    return statx(fd, "", AT_EMPTY_PATH, STATX_INO, &one) == 0 &&
           statx(directory, name, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_INO, &other) == 0 &&
           one.stx_ino == other.stx_ino && one.stx_dev_major == other.stx_dev_major &&
           one.stx_dev_minor == other.stx_dev_minor;
}

bool aside_is_same(int fd, int other_fd) {
    return aside_is_at(fd, other_fd, "");
}

// A name that no other process, thread or machine writes to, most likely, and no longer than names may be.
static char * aside_name(const char * name) {
    uint8_t random[ASIDE_RANDOM];
    if (getrandom(random, sizeof(random), GRND_NONBLOCK) != (ssize_t) sizeof(random)) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        const uint64_t seed = ((uint64_t) now.tv_nsec << 24) ^ (uint64_t) now.tv_sec ^ ((uint64_t) getpid() << 12);
        memcpy(random, &seed, sizeof(random));
    }
    char   end[ASIDE_RANDOM + 1] = "";
    char * aside                 = NULL;
    for (size_t i = 0; i < ASIDE_RANDOM; i++) {
        end[i] = ASIDE_LETTERS[random[i] % (sizeof(ASIDE_LETTERS) - 1)];
    }
    return asprintf(&aside, "%.*s.%s" ASIDE_END, NAME_MAX - ASIDE_SUFFIX_SIZE, name, end) < 0 ? NULL : aside;
}

// Until it is locked, a file that is empty may be taken for one that a program which was killed has left behind.
static bool is_still_there(int fd) {
    struct statx about;
    return statx(fd, "", AT_EMPTY_PATH, STATX_NLINK, &about) == 0 && about.stx_nlink > 0;
}

int aside_make(int directory, const char * name, char ** aside) {
    int fd = -EEXIST;
    for (int tries = 0; tries < ASIDE_TRIES && fd == -EEXIST; tries++) {
        *aside = aside_name(name);
        fd = *aside != NULL ? descriptor_open(directory, *aside, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600)
            : -ENOMEM;
        if (fd >= 0 && !(aside_lock(fd, false) && is_still_there(fd))) {
            close(fd);
            fd = -EEXIST;
        }
        if (fd < 0) {
            free(*aside);
            *aside = NULL;
        }
    }
    return fd;
}

// A file system that knows no fsync() has nothing to wait for.
int aside_sync(int fd) {
    return fsync(fd) == 0 || errno == EINVAL || errno == EROFS || errno == ENOTSUP ? 0 : -errno;
}

static int fill_aside(int fd, const void * data, size_t size, bool durable) {
    const int error = write_quietly(fd, data, size);
    return error || !durable ? error : aside_sync(fd);
}

int aside_rename(int directory, const char * from, const char * to) {
    if (renameat2(directory, from, directory, to, RENAME_NOREPLACE) == 0) {
        return 0;
    }
    if (errno != EINVAL && errno != ENOSYS) {
        return -errno;
    }
    // a file system without RENAME_NOREPLACE
    if (linkat(directory, from, directory, to, 0) != 0) {
        return -errno;
    }
    unlinkat(directory, from, 0);
    return 0;
}

int aside_place(int directory, const char * aside, const char * name, bool replace) {
    if (!replace) {
        return aside_rename(directory, aside, name);
    }
    return renameat(directory, aside, directory, name) == 0 ? 0 : -errno;
}

int aside_put(int directory, const char * name, const void * data, size_t size, bool replace, bool durable) {
    char * aside = NULL;
    int    fd    = aside_make(directory, name, &aside);
    if (fd < 0) {
        return fd;
    }
    int error = fill_aside(fd, data, size, durable);
    if (!error) {
        error = aside_place(directory, aside, name, replace);
    }
    if (error) {
        unlinkat(directory, aside, 0);
        close(fd);
    }
    free(aside);
    return error ? error : fd;
}
