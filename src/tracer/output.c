// Claims, replaces and gives up a statistics file by base/claim.h.

#include "tracer/output.h"

#include "base/place.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Claims an absolute path, which is taken over.
static int claim_output(struct output * output, char * path, const struct output_wish * wish, const void * data,
        size_t size) {
    const struct claim claim = {
        .path = path, .kind = FILE_KIND_STATISTICS, .run = wish->run, .data = data, .size = size, .limit = wish->limit,
    };
    struct claimed claimed;
    const int error = path ? claim_newest(&claim, &claimed) : -ENOMEM;
    if (error) {
        free(path);
        return error;
    }
    *output = (struct output) { claimed.path, claimed.fd, claimed.reason, claimed.moved, path, wish->limit };
    return 0;
}

int output_claim(struct output * output, const struct output_wish * wish, const void * data, size_t size) {
    struct place place;
    const int error = place_find(&place, wish->path);
    char    * path  = error ? NULL : strdup(place.path);
    place_leave(&place);
    return error ? error : claim_output(output, path, wish, data, size);
}

int output_replace(struct output * output, const void * data, size_t size, bool durable) {
    const int fd = claim_replace(output->path, output->fd, data, size, durable);
    if (fd < 0) {
        return fd;
    }
    const int before = output->fd;
    output->fd = fd; // first: a child that is forked now closes what it finds here
    close(before);
    if (output->limit > 0) {
        const struct claim claim = { .path = output->wanted, .kind = FILE_KIND_STATISTICS, .limit = output->limit };
        claim_limit(&claim, false, size);
    }
    return 0;
}

void output_release(struct output * output) {
    const struct output before = *output;
    *output = (struct output) OUTPUT_UNCLAIMED;
    if (before.fd >= 0) {
        close(before.fd);
    }
    free(before.path);
    free(before.moved);
    free(before.wanted);
}

int output_write_once(const char * wanted, const void * data, size_t size) {
    const struct claim claim = { .path = wanted, .kind = FILE_KIND_STATISTICS, .data = data, .size = size };
    return claim_write_once(&claim);
}
