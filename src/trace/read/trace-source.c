// Opens files, copies pipes aside, and reads at offsets.

#include "trace/read/trace-source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define COPY_SIZE (256 * 1024)

static bool write_whole(int fd, const uint8_t * data, size_t size) {
    while (size > 0) {
        const ssize_t n = write(fd, data, size);
        if (n < 0 && errno != EINTR) {
            return false;
        }
        if (n > 0) {
            data += n;
            size -= (size_t) n;
        }
    }
    return true;
}

static bool copy_whole(int from, int to) {
    uint8_t * data = malloc(COPY_SIZE);
    ssize_t   n    = data != NULL ? 1 : -1;
    while (n > 0 || (n < 0 && data != NULL && errno == EINTR)) {
        n = read(from, data, COPY_SIZE);
        if (n > 0 && !write_whole(to, data, (size_t) n)) {
            n = -1;
            break;
        }
    }
    free(data);
    return n == 0;
}

// A file that is gone when it is closed.
static int nameless_file(void) {
    const char * set = secure_getenv("TMPDIR");
    char       * path;
    if (asprintf(&path, "%s/moetrace-XXXXXX", set != NULL && *set ? set : "/tmp") < 0) {
        return -1;
    }
    const int fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0) {
        unlink(path);
    }
    free(path);
    return fd;
}

// Takes the descriptor over. Returns one that can be read anywhere, or -1.
static int copy_aside(int fd) {
    int copy = nameless_file();
    if (copy >= 0 && !copy_whole(fd, copy)) {
        const int why = errno;
        close(copy);
        errno = why;
        copy  = -1;
    }
    const int why = errno;
    close(fd);
    errno = why;
    return copy;
}

const char * trace_source_open(struct trace_source * source, const char * path) {
    struct stat about;
    *source = (struct trace_source) TRACE_SOURCE_CLOSED;

    int fd = strcmp(path, "-") == 0 ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3) : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &about) != 0) {
        goto failed;
    }
    if (S_ISDIR(about.st_mode)) {
        close(fd);
        return "a directory: name a file in it";
    }
    if (!S_ISREG(about.st_mode)) {
        fd = copy_aside(fd);
        if (fd < 0 || fstat(fd, &about) != 0) {
            goto failed;
        }
    }
    *source = (struct trace_source) { .fd = fd, .size = (uint64_t) about.st_size };
    return NULL;

failed:;
    const char * why = errno != ENOSPC ? strerror(errno) :
        "no space left for a copy in the folder of temporary files: make room, name another one in TMPDIR, or save the "
        "trace to a file";
    if (fd >= 0) {
        close(fd);
    }
    return why;
}

void trace_source_close(struct trace_source * source) {
    if (source->fd >= 0) {
        close(source->fd);
    }
    if (source->before != NULL) {
        trace_source_close(source->before);
        free(source->before);
    }
    *source = (struct trace_source) TRACE_SOURCE_CLOSED;
}

bool trace_source_grow(struct trace_source * source) {
    struct stat about;
    if (source->fd < 0 || fstat(source->fd, &about) != 0) {
        return true;
    }
    const uint64_t size = source->begin + (uint64_t) about.st_size;
    const bool     ok   = size >= source->size;
    source->size = ok ? size : source->size;
    return ok;
}

// Shared, so that those who look do not take each other for the owner.
bool trace_source_is_written(const struct trace_source * source) {
    if (flock(source->fd, LOCK_SH | LOCK_NB) != 0) {
        return true;
    }
    flock(source->fd, LOCK_UN);
    return false;
}

bool trace_source_append(struct trace_source * source, struct trace_source next) {
    struct trace_source * before = malloc(sizeof(*before));
    if (before == NULL) {
        trace_source_close(&next);
        return false;
    }
    *before      = *source;
    next.begin   = before->size;
    next.size   += before->size;
    next.before  = before;
    *source      = next;
    return true;
}

static size_t read_memory(const struct trace_source * source, uint64_t offset, void * data, size_t size) {
    const uint64_t left = source->size - offset;
    const size_t   n    = left < size ? (size_t) left : size;
    memcpy(data, source->memory + offset, n);
    return n;
}

size_t trace_source_read(const struct trace_source * source, uint64_t offset, void * data, size_t size) {
    while (offset < source->begin) {
        source = source->before;
    }
    if (offset >= source->size || size == 0) {
        return 0;
    }
    if (source->fd < 0) {
        return read_memory(source, offset, data, size);
    }
    size_t got = 0;
    while (got < size) {
        const ssize_t n = pread(source->fd, (uint8_t *) data + got, size - got,
                                (off_t) (offset - source->begin + got));
        if (n == 0 || (n < 0 && errno != EINTR)) {
            break;
        }
        got += n > 0 ? (size_t) n : 0;
    }
    return got;
}
