// A system that runs out of memory: stands in front of the C library, and of all that takes memory, or a thread, fails
// what the tracer's library asks for, the program's own never.
//
//   LACK_LIBRARY  the library's file name
//   LACK_FROM     which of its requests fails, from 1; 0 or none: no one does
//   LACK_ALL      all that follow fail too
//   LACK_COUNT    a file: how many requests there were is written there when the program exits

#define _GNU_SOURCE

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// What the C library does, whoever stands in front of it.
extern void * __libc_malloc(size_t size);
extern void * __libc_calloc(size_t n, size_t size);
extern void * __libc_realloc(void * memory, size_t size);
extern void * __libc_memalign(size_t alignment, size_t size);

static uintptr_t   library_begin;
static uintptr_t   library_end;
static atomic_long n_requests;
static long        fails_from;
static bool        fails_all;

static int look_for_library(struct dl_phdr_info * info, size_t size, void * data) {
    const char * name  = data;
    const char * slash = strrchr(info->dlpi_name, '/');
    (void) size;
    if (slash == NULL || strcmp(slash + 1, name) != 0) {
        return 0;
    }
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) * segment = &info->dlpi_phdr[i];
        if (segment->p_type == PT_LOAD && segment->p_flags & PF_X) {
            library_begin = info->dlpi_addr + segment->p_vaddr;
            library_end   = library_begin + segment->p_memsz;
        }
    }
    return 1;
}

// Before the library's own, which is in front of us: those behind it begin first.
__attribute__((constructor)) static void begin(void) {
    const char * from = getenv("LACK_FROM");
    char         name[NAME_MAX];
    snprintf(name, sizeof(name), "%s", getenv("LACK_LIBRARY"));
    fails_from = from ? atol(from) : 0;
    fails_all  = getenv("LACK_ALL") != NULL;
    dl_iterate_phdr(look_for_library, name);
}

__attribute__((destructor)) static void tell(void) {
    const char * path = getenv("LACK_COUNT");
    FILE       * file = path ? fopen(path, "w") : NULL;
    if (file) {
        fprintf(file, "%ld\n", atomic_load(&n_requests));
        fclose(file);
    }
}

static bool lacks(const void * caller) {
    const uintptr_t at = (uintptr_t) caller;
    if (at < library_begin || at >= library_end) {
        return false;
    }
    const long n = atomic_fetch_add(&n_requests, 1) + 1;
    return fails_from > 0 && (n == fails_from || (fails_all && n > fails_from));
}

#define LACKS() (lacks(__builtin_return_address(0)) && (errno = ENOMEM))

#define NEXT(type, name, parameters)                                    \
    static type (*next_##name) parameters;                              \
    if (next_##name == NULL) {                                          \
        void * found = dlsym(RTLD_NEXT, #name);                         \
        memcpy(&next_##name, &found, sizeof(found));                    \
    }

void * malloc(size_t size)                 { return LACKS() ? NULL : __libc_malloc(size); }
void * calloc(size_t n, size_t size)       { return LACKS() ? NULL : __libc_calloc(n, size); }
void * realloc(void * memory, size_t size) { return LACKS() ? NULL : __libc_realloc(memory, size); }

int posix_memalign(void ** memory, size_t alignment, size_t size) {
    *memory = lacks(__builtin_return_address(0)) ? NULL : __libc_memalign(alignment, size);
    return *memory ? 0 : ENOMEM;
}

static char * copy_of(const char * string, size_t length) {
    char * copy = __libc_malloc(length + 1);
    if (copy) {
        memcpy(copy, string, length);
        copy[length] = '\0';
    }
    return copy;
}

char * strdup (const char * string)           { return LACKS() ? NULL : copy_of(string, strlen(string)); }
char * strndup(const char * string, size_t n) { return LACKS() ? NULL : copy_of(string, strnlen(string, n)); }

int vasprintf(char ** text, const char * format, va_list args) {
    NEXT(int, vasprintf, (char **, const char *, va_list))
    return LACKS() ? -1 : next_vasprintf(text, format, args);
}

int asprintf(char ** text, const char * format, ...) {
    if (LACKS()) {
        return -1;
    }
    NEXT(int, vasprintf, (char **, const char *, va_list))
    va_list args;
    va_start(args, format);
    const int n = next_vasprintf(text, format, args);
    va_end(args);
    return n;
}

char * realpath(const char * path, char * resolved) {
    NEXT(char *, realpath, (const char *, char *))
    return LACKS() ? NULL : next_realpath(path, resolved);
}

char * getcwd(char * folder, size_t size) {
    NEXT(char *, getcwd, (char *, size_t))
    return folder == NULL && LACKS() ? NULL : next_getcwd(folder, size);
}

DIR * fdopendir(int fd) {
    NEXT(DIR *, fdopendir, (int))
    return LACKS() ? NULL : next_fdopendir(fd);
}

void * mmap(void * at, size_t size, int protection, int flags, int fd, off_t offset) {
    NEXT(void *, mmap, (void *, size_t, int, int, int, off_t))
    return LACKS() ? MAP_FAILED : next_mmap(at, size, protection, flags, fd, offset);
}

int pthread_create(pthread_t * thread, const pthread_attr_t * attributes, void * (*fn)(void *), void * data) {
    NEXT(int, pthread_create, (pthread_t *, const pthread_attr_t *, void * (*)(void *), void *))
    return lacks(__builtin_return_address(0)) ? EAGAIN : next_pthread_create(thread, attributes, fn, data);
}
