// What is called in the process, and in which order: memory for paths and words, the library, its function.

#include "inject/inject.h"

#include "inject/remote-call.h"
#include "tool/launch/elf-file.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define LIBC        "libc.so.6"
#define LIBDL       "libdl.so.2" // has what libc has from 2.34 on
#define WORDS_MAX   ((size_t) 1 << 20)
#define REASON_SIZE 1024
#define COPY_SIZE   ((size_t) 64 << 10)

struct functions {
    uint64_t dlopen;
    uint64_t dlsym;
    uint64_t dlerror;
    uint64_t mmap;
    uint64_t munmap;
    uint64_t memfd_create;
    uint64_t close;
};

// Memory of the process that is ours for a while.
struct loan {
    uint64_t address;
    size_t   size;
    uint64_t path;
    uint64_t entry;
};

struct injection {
    struct remote_target target;
    struct functions     functions;
    struct loan          loan;
    char                 path[PATH_MAX]; // of the library
    const char         * library;        // as it was named
    const char         * entry;
    const char         * words;
    size_t               size;
};

static int pid_of(const struct injection * injection) {
    return (int) injection->target.process.pid;
}

static bool call(struct injection * injection, const char * what, uint64_t function, uint64_t * result,
                 struct error * error, const uint64_t arguments[PROCESSOR_ARGUMENTS]) {
    return remote_call(&injection->target, what, function, arguments, result, error);
}

#define ARGUMENTS(...) ((const uint64_t[PROCESSOR_ARGUMENTS]) { __VA_ARGS__ })

//
// functions of the process
//

static bool find_function(struct injection * injection, const char * library, const char * name, uint64_t * function,
                          struct error * error) {
    const struct remote_target * target = &injection->target;
    const struct remote_object * object = remote_object_named(&target->objects, library);
    *function = object == NULL ? 0 : remote_function(&target->process, object, name);
    return *function != 0 || error_set(error, "the %s of process %d has no %s(): start the program with tracing "
                                       "instead", library, pid_of(injection), name);
}

static bool is_mapped(const struct injection * injection, const char * part) {
    const struct remote_process * process = &injection->target.process;
    for (size_t i = 0; i < process->n_mappings; i++) {
        if (strstr(process->mappings[i].path, part) != NULL) {
            return true;
        }
    }
    return false;
}

static bool check_libc(const struct injection * injection, struct error * error) {
    if (remote_object_named(&injection->target.objects, LIBC) != NULL) {
        return true;
    }
    if (is_mapped(injection, "ld-musl")) {
        return error_set(error, "process %d runs with musl, not with glibc: only programs with glibc can be injected "
                         "into", pid_of(injection));
    }
    return error_set(error, "process %d has not loaded glibc (" LIBC ") once: only programs that are linked to it "
                     "dynamically can be injected into", pid_of(injection));
}

static bool find_functions(struct injection * injection, struct error * error) {
    struct functions * found = &injection->functions;
    if (!check_libc(injection, error)) {
        return false;
    }
    const struct remote_target * target = &injection->target;
    const struct remote_object * libc   = remote_object_named(&target->objects, LIBC);
    const bool                   in_one = remote_function(&target->process, libc, "dlopen") != 0;
    if (!in_one && remote_object_named(&target->objects, LIBDL) == NULL) {
        return error_set(error, "process %d has an old glibc and not loaded " LIBDL ": start the program with tracing "
                         "instead", pid_of(injection));
    }
    const char * linker = in_one ? LIBC : LIBDL;
    return find_function(injection, linker, "dlopen",  &found->dlopen,  error)
        && find_function(injection, linker, "dlsym",   &found->dlsym,   error)
        && find_function(injection, linker, "dlerror", &found->dlerror, error)
        && find_function(injection, LIBC, "mmap",         &found->mmap,         error)
        && find_function(injection, LIBC, "munmap",       &found->munmap,       error)
        && find_function(injection, LIBC, "memfd_create", &found->memfd_create, error)
        && find_function(injection, LIBC, "close",        &found->close,        error)
        && find_function(injection, LIBC, "__errno_location", &injection->target.errno_location, error);
}

//
// memory for what it is told
//

static bool borrow(struct injection * injection, struct error * error) {
    struct loan  * loan   = &injection->loan;
    const size_t   size   = injection->size + 1 + PATH_MAX + strlen(injection->entry) + 1;
    const uint64_t none   = UINT64_MAX;
    const int      flags  = MAP_PRIVATE | MAP_ANONYMOUS;
    uint64_t       address;
    if (!call(injection, "taking memory", injection->functions.mmap, &address, error,
              ARGUMENTS(0, size, PROT_READ | PROT_WRITE, (uint64_t) flags, none, 0))) {
        return false;
    }
    if (address == none) {
        return error_set(error, "process %d has no memory left", pid_of(injection));
    }
    *loan = (struct loan) { address, size, address + injection->size + 1, address + injection->size + 1 + PATH_MAX };
    return true;
}

// The block is new, and zero behind what is written.
static bool tell(const struct injection * injection, uint64_t address, const char * text, size_t size,
                 struct error * error) {
    return size == 0 || remote_write(&injection->target.process, address, text, size)
        || remote_denied(injection->target.process.pid, error);
}

// The memory stays where it may still be in use.
static void give_back(struct injection * injection) {
    struct error ignored;
    uint64_t     result;
    if (injection->loan.address != 0 && !injection->target.is_busy) {
        call(injection, "returning memory", injection->functions.munmap, &result, &ignored,
             ARGUMENTS(injection->loan.address, injection->loan.size));
    }
    remote_call_finish(&injection->target);
}

// What dlerror() says, "": nothing.
static void read_reason(struct injection * injection, char reason[REASON_SIZE]) {
    struct error ignored;
    uint64_t     address;
    memset(reason, 0, REASON_SIZE);
    if (!call(injection, "asking why", injection->functions.dlerror, &address, &ignored, ARGUMENTS(0))
            || address == 0) {
        return;
    }
    for (size_t i = 0; i + 1 < REASON_SIZE && remote_read(&injection->target.process, address + i, &reason[i], 1)
            && reason[i] != '\0'; i++) {
    }
    reason[REASON_SIZE - 1] = '\0';
}

//
// the library
//

static bool check_library(struct injection * injection, const char * library, struct error * error) {
    struct elf_file file;
    if (realpath(library, injection->path) == NULL) {
        return error_set(error, "%s: %s", library, strerror(errno));
    }
    const bool fine = elf_file_open(&file, injection->path, error)
        && ((file.is_native && file.is_dynamic && !file.is_executable)
            || error_set(error, "%s: not a shared library for this machine", library));
    elf_file_close(&file);
    return fine;
}

static bool is_same_file(const struct injection * injection, struct stat * there) {
    struct stat here;
    char      * path = memory_text("/proc/%d/root%s", pid_of(injection), injection->path);
    const bool  same = stat(injection->path, &here) == 0 && stat(path, there) == 0
        && here.st_dev == there->st_dev && here.st_ino == there->st_ino;
    free(path);
    return same;
}

// All folders down to it, and the file itself.
static bool is_open_to_others(const struct injection * injection) {
    char        path[PATH_MAX];
    struct stat status;
    memcpy(path, injection->path, sizeof(path));
    bool open_to_others = stat(path, &status) == 0 && (status.st_mode & S_IROTH) != 0;
    for (char * slash; open_to_others && (slash = strrchr(path, '/')) != NULL && slash != path;) {
        *slash         = '\0';
        open_to_others = stat(path, &status) == 0 && (status.st_mode & S_IXOTH) != 0;
    }
    return open_to_others;
}

static bool sees_library(const struct injection * injection) {
    char        path[64];
    struct stat process, there;
    snprintf(path, sizeof(path), "/proc/%d", pid_of(injection));
    return stat(path, &process) == 0 && is_same_file(injection, &there)
        && (process.st_uid == 0 || process.st_uid == there.st_uid || is_open_to_others(injection));
}

static bool copy(int from, int to) {
    char  * bytes = memory_new(COPY_SIZE, 1);
    ssize_t n;
    bool    done  = true;
    while (done && (n = read(from, bytes, COPY_SIZE)) != 0) {
        done = n > 0 && write(to, bytes, (size_t) n) == n;
    }
    free(bytes);
    return done;
}

static bool copy_library(const struct injection * injection, int descriptor, struct error * error) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid_of(injection), descriptor);
    const int  from = open(injection->path, O_RDONLY | O_CLOEXEC);
    const int  to   = open(path, O_WRONLY | O_CLOEXEC);
    const bool done = from >= 0 && to >= 0 && copy(from, to);
    if (!done) {
        error_set(error, "%s cannot be copied into process %d: %s", injection->library, pid_of(injection),
                  strerror(errno));
    }
    if (from >= 0) {
        close(from);
    }
    if (to >= 0) {
        close(to);
    }
    return done;
}

static bool load_from(struct injection * injection, const char * path, uint64_t * handle, struct error * error) {
    char reason[REASON_SIZE];
    if (!tell(injection, injection->loan.path, path, strlen(path) + 1, error)
            || !call(injection, "loading the library", injection->functions.dlopen, handle, error,
                     ARGUMENTS(injection->loan.path, RTLD_NOW | RTLD_LOCAL))) {
        return false;
    }
    if (*handle == 0) {
        read_reason(injection, reason);
        return error_set(error, "process %d cannot load %s: %s", pid_of(injection), injection->library, reason);
    }
    return true;
}

// A process that does not see the file gets a copy of it, in memory that has no name in any folder.
static bool load_copy(struct injection * injection, uint64_t * handle, struct error * error) {
    const char * name = strrchr(injection->path, '/') + 1;
    char         path[64];
    uint64_t     descriptor, ignored;
    if (!tell(injection, injection->loan.path, name, strlen(name) + 1, error)
            || !call(injection, "taking memory for the library", injection->functions.memfd_create, &descriptor, error,
                     ARGUMENTS(injection->loan.path, MFD_CLOEXEC))) {
        return false;
    }
    if ((int) descriptor < 0) {
        return error_set(error, "process %d gets no memory for the library: has it too many files open?",
                         pid_of(injection));
    }
    snprintf(path, sizeof(path), "/proc/self/fd/%d", (int) descriptor);
    const bool   loaded = copy_library(injection, (int) descriptor, error) && load_from(injection, path, handle, error);
    struct error later;
    if (!injection->target.is_busy) {
        call(injection, "closing the library", injection->functions.close, &ignored, &later,
             ARGUMENTS((uint64_t) (int) descriptor));
    }
    return loaded;
}

static bool load(struct injection * injection, uint64_t * handle, struct error * error) {
    return sees_library(injection) ? load_from(injection, injection->path, handle, error)
                                   : load_copy(injection, handle, error);
}

//
// its function
//

static bool call_entry(struct injection * injection, uint64_t handle, int * result, struct error * error) {
    const struct loan * loan = &injection->loan;
    uint64_t            entry, value;
    if (!tell(injection, loan->entry, injection->entry, strlen(injection->entry) + 1, error)
            || !tell(injection, loan->address, injection->words, injection->size, error)
            || !call(injection, "finding the library's function", injection->functions.dlsym, &entry, error,
                     ARGUMENTS(handle, loan->entry))) {
        return false;
    }
    if (entry == 0) {
        return error_set(error, "%s has no function %s()", injection->library, injection->entry);
    }
    if (!call(injection, "running the library's function", entry, &value, error,
              ARGUMENTS(loan->address, injection->size))) {
        return false;
    }
    *result = (int) value;
    return true;
}

static bool work(struct injection * injection, int * result, struct error * error) {
    uint64_t handle;
    if (!remote_call_prepare(&injection->target, error)) {
        return false;
    }
    const bool done = borrow(injection, error) && load(injection, &handle, error)
        && call_entry(injection, handle, result, error);
    give_back(injection);
    return done;
}

bool inject(pid_t pid, const char * library, const char * entry, const char * words, size_t size, int * result,
            struct error * error) {
    struct injection       injection = { .library = library, .entry = entry, .words = words, .size = size };
    struct remote_target * target    = &injection.target;
    if (size > WORDS_MAX) {
        return error_set(error, "%zu bytes are too many to hand in", size);
    }
    bool done = check_library(&injection, library, error) && remote_process_open(&target->process, pid, error);
    if (done) {
        remote_objects_find(&target->process, &target->objects);
        remote_unsafe_find(&target->process, &target->objects, &target->unsafe);
        done = find_functions(&injection, error) && work(&injection, result, error);
        remote_unsafe_free(&target->unsafe);
        remote_objects_free(&target->objects);
    }
    remote_process_close(&target->process);
    return done;
}
