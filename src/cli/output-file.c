#include "output-file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool failed(const struct output_file * file, struct error * error) {
    return error_set(error, "%s: cannot be written: %s", file->path, errno == 0 ? "not all of it arrived" : strerror(errno));
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
    file->aside = memory_text("%s.tmp-%ld", file->path, (long) getpid());
    return open_fd(file, file->aside, O_CREAT | O_EXCL, error);
}

// Of the standard output main() tells whether it arrived.
bool output_file_close(struct output_file * file, struct error * error) {
    if (file->path == NULL) {
        forget(file);
        return true;
    }
    errno   = 0;
    bool ok = ferror(file->out) == 0 && fflush(file->out) == 0 && (file->aside == NULL || fsync(fileno(file->out)) == 0);
    ok = ok || failed(file, error);
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
