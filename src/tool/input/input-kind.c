// Looks at the first bytes of an input, without taking them from whoever reads it.

#include "tool/input/input-kind.h"

#include "trace/format/trace-format.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COPY_SIZE (64 * 1024)

static bool is_regular(int fd) {
    struct stat status;
    return fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

static bool copy_whole(int from, FILE * to) {
    char    bytes[COPY_SIZE];
    ssize_t n = 1;
    while (n != 0) {
        n = read(from, bytes, sizeof(bytes));
        if ((n < 0 && errno != EINTR) || (n > 0 && fwrite(bytes, 1, (size_t) n, to) != (size_t) n)) {
            return false;
        }
    }
    return fflush(to) == 0;
}

static bool replace_stdin(struct error * error) {
    FILE * copy = tmpfile();
    const bool ok = copy != NULL && copy_whole(STDIN_FILENO, copy) && lseek(fileno(copy), 0, SEEK_SET) == 0
                 && dup2(fileno(copy), STDIN_FILENO) >= 0;
    const int why = errno;
    if (copy != NULL) {
        fclose(copy);
    }
    return ok || error_set(error,
                           "standard input: cannot be copied to " P_tmpdir ": %s: make room there, or save it to a "
                                  "file and name that", strerror(why));
}

static bool begins_as_trace(int fd) {
    char          first[TRACE_MAGIC_SIZE];
    const ssize_t n = pread(fd, first, sizeof(first), 0);
    return n == (ssize_t) sizeof(first) && memcmp(first, TRACE_MAGIC, sizeof(first)) == 0;
}

static bool kind_of_stdin(enum input_kind * kind, struct error * error) {
    if (!is_regular(STDIN_FILENO) && !replace_stdin(error)) {
        return false;
    }
    *kind = begins_as_trace(STDIN_FILENO) ? INPUT_TRACE : INPUT_STATISTICS;
    return true;
}

static bool fail(struct error * error, const char * path) {
    return error_set(error, "%s: %s", path, strerror(errno));
}

// A pipe is not opened: what it has can be read only once.
bool input_kind_of(const char * path, enum input_kind * kind, struct error * error) {
    struct stat status;
    if (strcmp(path, "-") == 0) {
        return kind_of_stdin(kind, error);
    }
    if (stat(path, &status) != 0) {
        return fail(error, path);
    }
    *kind = INPUT_TRACE;
    if (!S_ISREG(status.st_mode)) {
        return true;
    }
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return fail(error, path);
    }
    *kind = begins_as_trace(fd) ? INPUT_TRACE : INPUT_STATISTICS;
    close(fd);
    return true;
}
