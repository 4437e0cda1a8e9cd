#include "output-file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char * advice_of(int why) {
    switch (why) {
        case ENOSPC:
        case EDQUOT: return ": make room there, or name a file elsewhere";
        case EFBIG:  return ": allow larger files (ulimit -f), or name a file elsewhere";
        default:     return "";
    }
}

static bool failed_because(const struct output_file * file, int why, struct error * error) {
    return error_set(error, "%s: cannot be written: %s%s", file->path, why == 0 ? "the device did not take all of it" : strerror(why),
        advice_of(why));
}

static bool failed(const struct output_file * file, struct error * error) {
    return failed_because(file, errno, error);
}

// Why something could not be written a while ago, which stdio does not remember: what is written now, to a file that will
// be deleted, fails in the same way. 0: it does not.
static int why_it_fails(const struct output_file * file) {
    static const char zeros[4096];
    for (int i = 0; file->aside != NULL && i < 64; i++) {
        if (write(fileno(file->out), zeros, sizeof(zeros)) < 0) {
            return errno;
        }
    }
    return 0;
}

// Not longer than names may be, and of no other process.
static char * aside_of(const char * path) {
    const char * slash  = strrchr(path, '/');
    const size_t folder = slash == NULL ? 0 : (size_t) (slash + 1 - path);
    char       * end    = memory_text(".tmp-%ld", (long) getpid());
    const size_t room   = NAME_MAX - strlen(end);
    const size_t length = strlen(path + folder);
    char       * aside  = memory_text("%.*s%s", (int) (folder + (length < room ? length : room)), path, end);
    free(end);
    return aside;
}

static void forget(struct output_file * file) {
    free(file->path);
    free(file->aside);
    *file = (struct output_file) { NULL, NULL, NULL };
}

static bool open_fd(struct output_file * file, const char * name, int flags, struct error * error) {
    const int fd = open(name, O_WRONLY | O_CLOEXEC | flags, 0600);
    file->out    = fd < 0 ? NULL : fdopen(fd, "wb");
    if (file->out != NULL) {
        return true;
    }
    failed(file, error);
    if (fd >= 0) {
        close(fd);
    }
    forget(file);
    return false;
}

// A device or a pipe is written to, not replaced; so is what a link points at.
bool output_file_open(struct output_file * file, const char * path, struct error * error) {
    *file = (struct output_file) { stdout, NULL, NULL };
    if (path == NULL || strcmp(path, "-") == 0) {
        return true;
    }
    struct stat status;
    const bool  exists = stat(path, &status) == 0;
    if (exists && S_ISDIR(status.st_mode)) {
        return error_set(error, "%s: a directory: name a file in it", path);
    }
    char * real = exists ? realpath(path, NULL) : NULL;
    file->path  = real == NULL ? memory_text("%s", path) : real;
    if (exists && !S_ISREG(status.st_mode)) {
        return open_fd(file, path, 0, error);
    }
    file->aside = aside_of(file->path);
    return open_fd(file, file->aside, O_CREAT | O_EXCL, error);
}

// Of the standard output main() tells whether it arrived.
bool output_file_close(struct output_file * file, struct error * error) {
    if (file->path == NULL) {
        forget(file);
        return true;
    }
    bool ok = ferror(file->out) == 0;
    if (!ok) {
        failed_because(file, why_it_fails(file), error);
    } else if (fflush(file->out) != 0 || (file->aside != NULL && fsync(fileno(file->out)) != 0)) {
        ok = failed(file, error);
    }
    if (fclose(file->out) != 0 && ok) {
        ok = failed(file, error);
    }
    if (ok && file->aside != NULL && rename(file->aside, file->path) != 0) {
        ok = failed(file, error);
    }
    if (!ok && file->aside != NULL) {
        unlink(file->aside);
    }
    forget(file);
    return ok;
}

void output_file_drop(struct output_file * file) {
    if (file->path != NULL) {
        fclose(file->out);
    }
    if (file->aside != NULL) {
        unlink(file->aside);
    }
    forget(file);
}
