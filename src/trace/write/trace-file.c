// Makes, appends to and looks after the file of a trace.

#include "trace/write/trace-file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int trace_file_create(struct trace_file * file, const struct trace_file_wish * wish) {
    const struct claim claim = {
        .path = wish->path, .kind = FILE_KIND_TRACE, .run = wish->run, .data = wish->data, .size = wish->size,
        .goes_on = wish->after != NULL, .limit = wish->limit,
    };
    struct claimed claimed;
    const struct claimed * after = wish->after != NULL ? &wish->after->at : NULL;
    const int              error = wish->rotated ? claim_part(&claim, after, &claimed) : claim_new(&claim, &claimed);
    if (!error) {
        *file = (struct trace_file) { claimed, wish->n_chunks, wish->size, false };
    }
    return error;
}

// Where that cannot be known it stands.
enum trace_file_fate trace_file_look(const struct trace_file * file) {
    struct statx ours;
    struct statx there;
    if (file->is_callers) {
        return TRACE_FILE_STANDS;
    }
    if (statx(file->at.fd, "", AT_EMPTY_PATH, STATX_NLINK | STATX_SIZE | STATX_INO, &ours) != 0) {
        return TRACE_FILE_STANDS;
    }
    if (ours.stx_nlink == 0) {
        return TRACE_FILE_DELETED;
    }
    if (ours.stx_size < file->size) {
        return TRACE_FILE_TRUNCATED;
    }
    if (statx(AT_FDCWD, file->at.path, AT_SYMLINK_NOFOLLOW, STATX_INO, &there) != 0) {
        return errno == ENOENT || errno == ENOTDIR ? TRACE_FILE_MOVED : TRACE_FILE_STANDS;
    }
    const bool is_there = there.stx_ino == ours.stx_ino && there.stx_dev_major == ours.stx_dev_major &&
                          there.stx_dev_minor == ours.stx_dev_minor;
    return is_there ? TRACE_FILE_STANDS : TRACE_FILE_MOVED;
}

static int write_at(int fd, const uint8_t * data, size_t size, uint64_t offset) {
    while (size > 0) {
        const ssize_t n = pwrite(fd, data, size, (off_t) offset);
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        if (n == 0) {
            return -EIO;
        }
        if (n > 0) {
            data   += n;
            offset += (uint64_t) n;
            size   -= (size_t) n;
        }
    }
    return 0;
}

int trace_file_create_in(struct trace_file * file, int descriptor, const struct trace_file_wish * wish) {
    const int fd    = fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
    char    * path  = strdup(wish->path);
    const int error = fd < 0       ? -errno
                    : path == NULL ? -ENOMEM
                                   : write_at(fd, wish->data, wish->size, 0);
    if (error) {
        if (fd >= 0) {
            close(fd);
        }
        free(path);
        return error;
    }
    *file = (struct trace_file) { { .fd = fd, .path = path }, wish->n_chunks, wish->size, true };
    return 0;
}

int trace_file_append(struct trace_file * file, uint8_t * chunk, const struct chunk_header * header) {
    struct chunk_header numbered = *header;
    const size_t        size     = TRACE_HEADER_SIZE + (size_t) header->size;
    numbered.number = file->n_chunks;
    chunk_header_encode(chunk, &numbered, chunk + TRACE_HEADER_SIZE);
    const int error = write_at(file->at.fd, chunk, size, file->size);
    if (error) {
        // Where this fails as well half a chunk stays, until the next one is written over it.
        const int failed = ftruncate(file->at.fd, (off_t) file->size);
        (void) failed;
        return error;
    }
    file->n_chunks++;
    file->size += size;
    return 0;
}

void trace_file_close(struct trace_file * file) {
    const struct trace_file before = *file;
    *file = (struct trace_file) TRACE_FILE_NONE; // first: a child that is forked now closes what it finds here
    if (before.at.fd >= 0) {
        close(before.at.fd);
    }
    free(before.at.path);
}
