// A file system that does nothing for a while: stands in front of the C library, and of llama_decode() and
// llama_process() to know who evaluates. Whatever touches a file below $DISK_FOLDER waits until these have returned
// $DISK_UNTIL times, and writes a line into the file that $DISK_LOG names:
//
//   FUNCTION evaluating|aside PATH      evaluating: by a thread that is inside one of the two
//
// and another one when so many batches are evaluated:
//
//   evaluated N
//
// Where somebody who evaluates waits nobody can be faster: after some seconds it goes on, the line is there.

#define _GNU_SOURCE

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#define PATIENCE 2000 // milliseconds

struct batch {
    int32_t    n_tokens;
    int32_t  * token;
    float    * embd;
    int32_t  * pos;
    int32_t  * n_seq_id;
    int32_t ** seq_id;
    int8_t   * logits;
};

static _Thread_local int evaluating;
static atomic_int        n_evaluated;

#define NEXT(type, name, parameters)                                    \
    static type (*next_##name) parameters;                              \
    if (next_##name == NULL) {                                          \
        void * found = dlsym(RTLD_NEXT, #name);                         \
        memcpy(&next_##name, &found, sizeof(found));                    \
    }

static int batches_until(void) {
    const char * value = getenv("DISK_UNTIL");
    return value ? atoi(value) : 0;
}

__attribute__((format(printf, 1, 2))) static void note(const char * format, ...) {
    static atomic_int log_file = -1;
    char    line[2 * PATH_MAX + 64];
    va_list arguments;
    va_start(arguments, format);
    const int length = vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    if (atomic_load(&log_file) < 0) {
        atomic_store(&log_file, (int) syscall(SYS_openat, AT_FDCWD, getenv("DISK_LOG"),
                                              O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
    }
    if (syscall(SYS_write, atomic_load(&log_file), line, (size_t) length) != length) {
        abort();
    }
}

static int32_t evaluated(int32_t status) {
    evaluating--;
    if (atomic_fetch_add(&n_evaluated, 1) + 1 == batches_until()) {
        note("evaluated %d\n", batches_until());
    }
    return status;
}

int32_t llama_decode (void * context, struct batch batch);
int32_t llama_process(void * context, int type, void * batch);

int32_t llama_decode(void * context, struct batch batch) {
    NEXT(int32_t, llama_decode, (void *, struct batch))
    evaluating++;
    return evaluated(next_llama_decode(context, batch));
}

int32_t llama_process(void * context, int type, void * batch) {
    NEXT(int32_t, llama_process, (void *, int, void *))
    evaluating++;
    return evaluated(next_llama_process(context, type, batch));
}

static void touch(const char * function, int folder, const char * path) {
    char         whole[2 * PATH_MAX];
    char         link[64];
    const int    saved = errno;
    const char * where = getenv("DISK_FOLDER");
    if (path == NULL || path[0] != '/') { // a descriptor's, or below it
        snprintf(link, sizeof(link), folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", folder);
        const ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, link, whole, PATH_MAX);
        whole[n > 0 ? n : 0] = '\0';
        if (path) {
            snprintf(whole + strlen(whole), sizeof(whole) - strlen(whole), "/%s", path);
        }
        path = whole;
    }
    if (where && strncmp(path, where, strlen(where)) == 0) {
        note("%s %s %s\n", function, evaluating ? "evaluating" : "aside", path);
        for (int i = 0; i < PATIENCE && atomic_load(&n_evaluated) < batches_until(); i++) {
            usleep(1000);
        }
    }
    errno = saved;
}

#define OPEN(name)                                                      \
    int name(const char * path, int flags, ...) {                       \
        NEXT(int, name, (const char *, int, ...))                       \
        va_list arguments;                                              \
        va_start(arguments, flags);                                     \
        const int mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(arguments, int) : 0; \
        va_end(arguments);                                              \
        touch("open", AT_FDCWD, path);                                  \
        return next_##name(path, flags, mode);                          \
    }

#define OPENAT(name)                                                    \
    int name(int folder, const char * path, int flags, ...) {           \
        NEXT(int, name, (int, const char *, int, ...))                  \
        va_list arguments;                                              \
        va_start(arguments, flags);                                     \
        const int mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(arguments, int) : 0; \
        va_end(arguments);                                              \
        touch("open", folder, path);                                    \
        return next_##name(folder, path, flags, mode);                  \
    }

#define TOUCH(type, name, what, parameters, arguments, folder, path)    \
    type name parameters {                                              \
        NEXT(type, name, parameters)                                    \
        touch(what, folder, path);                                      \
        return next_##name arguments;                                   \
    }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
TOUCH(int,     mkostemps,   "open",     (char * path, int length, int flags), (path, length, flags), AT_FDCWD, path)
TOUCH(int,     mkostemps64, "open",     (char * path, int length, int flags), (path, length, flags), AT_FDCWD, path)
TOUCH(char *,  realpath,    "realpath", (const char * path, char * resolved), (path, resolved), AT_FDCWD, path)
TOUCH(ssize_t, readlink,    "readlink", (const char * path, char * target, size_t size),
                                        (path, target, size), AT_FDCWD, path)
TOUCH(int,     rename,      "rename",   (const char * path, const char * to), (path, to), AT_FDCWD, path)
TOUCH(int,     renameat,    "rename",   (int folder, const char * path, int other, const char * to),
                                        (folder, path, other, to), folder, path)
TOUCH(int,     renameat2,   "rename",   (int folder, const char * path, int other, const char * to, unsigned flags),
                                        (folder, path, other, to, flags), folder, path)
TOUCH(int,     link,        "link",     (const char * path, const char * to), (path, to), AT_FDCWD, path)
TOUCH(int,     linkat,      "link",     (int folder, const char * path, int other, const char * to, int flags),
                                        (folder, path, other, to, flags), folder, path)
TOUCH(int,     unlink,      "unlink",   (const char * path), (path), AT_FDCWD, path)
TOUCH(int,     unlinkat,    "unlink",   (int folder, const char * path, int flags), (folder, path, flags), folder, path)
TOUCH(int,     fsync,       "fsync",    (int fd), (fd), fd, NULL)
TOUCH(int,     fdatasync,   "fsync",    (int fd), (fd), fd, NULL)
TOUCH(int,     ftruncate,   "truncate", (int fd, off_t size), (fd, size), fd, NULL)
TOUCH(ssize_t, write,       "write",    (int fd, const void * data, size_t size), (fd, data, size), fd, NULL)
TOUCH(ssize_t, pwrite,      "write",    (int fd, const void * data, size_t size, off_t at),
                                        (fd, data, size, at), fd, NULL)
TOUCH(ssize_t, pwrite64,    "write",    (int fd, const void * data, size_t size, off64_t at),
                                        (fd, data, size, at), fd, NULL)
