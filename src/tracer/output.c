#include "output.h"

#include "base/claim.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

int output_claim(struct output * output, const char * wanted, const char * run, const char * data, size_t size) {
    char * path = claim_absolute(wanted);
    if (!path) {
        return -errno;
    }
    const struct claim claim = { .run = run, .data = data, .size = size, .kind = FILE_KIND_STATISTICS };
    int fd = -EEXIST;
    for (int n = 1; n <= CLAIM_SIBLINGS_MAX && fd == -EEXIST; n++) {
        char * candidate = claim_sibling(path, n);
        fd = candidate ? claim_path(candidate, &claim) : -ENOMEM;
        if (fd >= 0) {
            *output = (struct output) { candidate, fd, n > 1 };
        } else {
            free(candidate);
        }
    }
    free(path);
    return fd < 0 ? fd : 0;
}

int output_replace(struct output * output, const char * data, size_t size, bool durable) {
    const int fd = claim_put(output->path, data, size, true, durable);
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
    char * path = claim_absolute(wanted);
    if (!path) {
        return -errno;
    }
    int fd = claim_check(path, FILE_KIND_STATISTICS);
    if (fd == 0) {
        fd = claim_put(path, data, size, true, true);
    }
    free(path);
    if (fd < 0) {
        return fd;
    }
    close(fd);
    return 0;
}
