// Stands in front of _exit() and its like, and has everything written before the process is gone.

#include "library/sudden-end.h"

#include "library/run-sign.h"
#include "tracer/periodic-writer.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#ifdef EXPERT_TRACER_BUILT_IN

// Built into llama.cpp we stand in front of llama.cpp's functions alone.
void sudden_end_watch(void) {
}

#else

static _Atomic pid_t watched; // the process that is ours

// The child of a vfork() has our memory, and is none of ours.
static void write_before_end(void) {
    run_sign_end();
    if (atomic_load(&watched) == getpid()) {
        periodic_writers_end();
    }
}

typedef void (* exit_fn)(int status);

static exit_fn next_exit;      // behind us, which a signal handler cannot look for
static exit_fn next_exit_of_c; // _Exit

__attribute__((visibility("default"), noreturn)) void _exit(int status);
__attribute__((visibility("default"), noreturn)) void _Exit(int status);

static exit_fn find_next(const char * name) {
    exit_fn      fn;
    void * const found = dlsym(RTLD_NEXT, name);
    memcpy(&fn, &found, sizeof(fn));
    return fn;
}

void sudden_end_watch(void) {
    if (next_exit == NULL) {
        next_exit      = find_next("_exit");
        next_exit_of_c = find_next("_Exit");
        at_quick_exit(write_before_end);
    }
    atomic_store(&watched, getpid());
}

static _Noreturn void end_now(exit_fn end, int status) {
    write_before_end();
    if (end) {
        end(status);
    }
    for (;;) {
        syscall(SYS_exit_group, status);
    }
}

void _exit(int status) {
    end_now(next_exit, status);
}

void _Exit(int status) {
    end_now(next_exit_of_c, status);
}

#endif
