#include "trace-file.h"

#include "base/claim.h"
#include "trace/crc32.h"
#include "trace/encoding.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void trace_chunk_seal(uint8_t * chunk, const struct trace_chunk_head * head, uint32_t number, size_t size) {
    memset(chunk, 0, TRACE_HEADER_SIZE);
    memcpy(chunk, TRACE_MAGIC, TRACE_MAGIC_SIZE);
    chunk[TRACE_AT_KIND] = (uint8_t) head->kind;
    trace_put_u16(chunk + TRACE_AT_VERSION,     TRACE_VERSION);
    trace_put_u32(chunk + TRACE_AT_NUMBER,      number);
    trace_put_u32(chunk + TRACE_AT_SIZE,        (uint32_t) size);
    trace_put_u32(chunk + TRACE_AT_N_UBATCHES,  (uint32_t) head->n_ubatches);
    trace_put_u64(chunk + TRACE_AT_FIRST,       head->first);
    trace_put_u64(chunk + TRACE_AT_TIME,        (uint64_t) head->time);
    trace_put_u32(chunk + TRACE_AT_N_TOKENS,    (uint32_t) head->n_tokens);
    trace_put_u32(chunk + TRACE_AT_CRC_PAYLOAD, trace_crc32(chunk + TRACE_HEADER_SIZE, size));
    trace_put_u32(chunk + TRACE_AT_CRC_HEADER,  trace_crc32(chunk, TRACE_AT_CRC_HEADER));
}

// run.moetrace becomes run-000000.moetrace. Takes the path over.
static char * part_of(char * path, int64_t part) {
    if (part < 0 || !path) {
        return path;
    }
    const char * name   = strrchr(path, '/') + 1;
    const char * dot    = strrchr(name, '.');
    const int    stem   = (int) (dot && dot != name ? dot - path : (ptrdiff_t) strlen(path));
    char       * result = NULL;
    if (asprintf(&result, "%.*s-%06" PRId64 "%s", stem, path, part, path + stem) < 0) {
        result = NULL;
    }
    free(path);
    return result;
}

int trace_file_create(struct trace_file * file, const struct trace_file_wish * wish) {
    const struct claim claim = { wish->run, wish->data, wish->size, FILE_KIND_TRACE };
    int fd = -EEXIST;
    for (int n = wish->n_sibling; n <= CLAIM_SIBLINGS_MAX && fd == -EEXIST; n++) {
        char * path = part_of(claim_sibling(wish->path, n), wish->part);
        fd = path ? claim_path(path, &claim) : -ENOMEM;
        if (fd >= 0) {
            *file = (struct trace_file) { path, fd, n, wish->n_chunks, wish->size };
        } else {
            free(path);
        }
    }
    return fd < 0 ? fd : 0;
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

int trace_file_append(struct trace_file * file, uint8_t * chunk, const struct trace_chunk_head * head, size_t size) {
    trace_chunk_seal(chunk, head, file->n_chunks, size);
    const int error = write_at(file->fd, chunk, TRACE_HEADER_SIZE + size, file->size);
    if (error) {
        // Where this fails as well half a chunk stays, until the next one is written over it.
        const int failed = ftruncate(file->fd, (off_t) file->size);
        (void) failed;
        return error;
    }
    file->n_chunks++;
    file->size += TRACE_HEADER_SIZE + size;
    return 0;
}

void trace_file_close(struct trace_file * file) {
    const struct trace_file before = *file;
    *file = (struct trace_file) TRACE_FILE_NONE; // first: a child that is forked now closes what it finds here
    if (before.fd >= 0) {
        close(before.fd);
    }
    free(before.path);
}
