// Leaves the run's sign, or reports at the end of the program that was started that nobody did.

#include "library/run-sign.h"

#include "base/descriptor.h"
#include "engine/upstream/host-log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIGN_VARIABLE "LLAMA_EXPERT_TRACE_SIGN" // PID:DESCRIPTOR:INODE, of src/commands/run.c

static const char sign_is_missing[] =
    LOG_PREFIX "nothing of llama.cpp was seen to evaluate anything in this run, so nothing was traced. "
    "`llama-expert-tracer check PROGRAM` tells whether it can be. Where llama.cpp is linked into the program or into "
    "an addon of it, build the tracer in (`llama-expert-tracer integrate`); where it runs in a container or as a "
    "service, trace it there\n";

static pid_t       sign_pid;        // of the program that was started, 0: there is no sign to leave
static int         sign_descriptor; // there
static uint64_t    sign_inode;
static atomic_bool sign_is_left;    // by this process
static struct statx sign_stderr;    // where it may be said

static bool sign_look(int fd, struct statx * about) {
    return fd >= 0 && statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_SIZE, about) == 0;
}

static bool sign_is(int fd, struct statx * about) {
    return sign_look(fd, about) && about->stx_ino == sign_inode;
}

// A number of at most 18 digits, and what comes behind it. Returns NULL where it is none.
static const char * sign_number(const char * text, char end, uint64_t * number) {
    int n = 0;
    for (*number = 0; text && n < 18 && text[n] >= '0' && text[n] <= '9'; n++) {
        *number = *number * 10 + (uint64_t) (text[n] - '0');
    }
    return n > 0 && text[n] == end ? text + n + (end != '\0') : NULL;
}

void run_sign_begin(void) {
    uint64_t     pid        = 0;
    uint64_t     descriptor = 0;
    const char * rest       = sign_number(secure_getenv(SIGN_VARIABLE), ':', &pid);
    rest = sign_number(sign_number(rest, ':', &descriptor), '\0', &sign_inode);
    if (rest == NULL || pid > INT_MAX || descriptor > INT_MAX) {
        return;
    }
    sign_pid        = (pid_t) pid;
    sign_descriptor = (int) descriptor;
    if (sign_pid == getpid() && sign_look(STDERR_FILENO, &sign_stderr)) {
        atexit(run_sign_end);
    }
}

// A child may have closed what it inherited.
void run_sign_leave(void) {
    struct statx about;
    char         path[64];
    if (sign_pid == 0 || atomic_exchange(&sign_is_left, true)) {
        return;
    }
    const int saved = errno;
    snprintf(path, sizeof(path), "/proc/%ld/fd/%d", (long) sign_pid, sign_descriptor);
    const int fd = descriptor_open(AT_FDCWD, path, O_WRONLY, 0);
    const int  sign = sign_is(fd, &about) ? fd : sign_is(sign_descriptor, &about) ? sign_descriptor : -1;
    const bool left = sign >= 0 && pwrite(sign, "1", 1, 0) == 1;
    (void) left; // otherwise it is said that there was nothing: there is nobody to tell
    if (fd >= 0) {
        close(fd);
    }
    errno = saved;
}

// What was the standard error may be a file of the program's by now.
static bool sign_stderr_is_there(void) {
    struct statx now;
    return sign_look(STDERR_FILENO, &now) && now.stx_ino == sign_stderr.stx_ino &&
           now.stx_dev_major == sign_stderr.stx_dev_major && now.stx_dev_minor == sign_stderr.stx_dev_minor;
}

void run_sign_end(void) {
    struct statx about;
    const int    saved = errno;
    if (sign_pid != 0 && sign_pid == getpid() && sign_is(sign_descriptor, &about) && about.stx_size == 0 &&
        sign_stderr_is_there() && pwrite(sign_descriptor, "0", 1, 0) == 1) { // once
        host_log_to_stderr(sign_is_missing);
    }
    errno = saved;
}
