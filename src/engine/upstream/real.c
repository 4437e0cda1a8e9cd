// Finds the engine's own functions behind this library, by the dynamic linker.

#include "engine/upstream/real.h"

#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

// What the dynamic linker would have found for a caller without us: first the global scope behind this library
// (RTLD_NEXT); where that has nothing, a program has loaded the engine with RTLD_LOCAL (Node, JNI, Python), and
// it is found through the object that called.
struct real_scope {
    uintptr_t           low;    // code of the calling object
    uintptr_t           high;
    void              * handle; // RTLD_NEXT, or a reference that keeps the object loaded
    struct real         real;
    struct real_scope * next;
};

static pthread_mutex_t               scope_mutex = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(struct real_scope *)  scopes;       // of callers whose engine is not in the global scope
_Atomic(const struct real *)          real_of_all;
static _Atomic(struct real *)        global_real;  // of everybody else's, once libllama is there
static const struct real             nothing;

static bool is_ours(const void * function) {
    Dl_info its_object;
    Dl_info our_object;
    return dladdr(function, &its_object) && dladdr((const void *) &nothing, &our_object) &&
           its_object.dli_fbase == our_object.dli_fbase;
}

static void * find(void * handle, const char * name) {
    void * function = dlsym(handle, name);
    return function && !is_ours(function) ? function : NULL;
}

// ISO C has no conversion from void * to a function pointer; POSIX promises that the representations agree.
#define REAL_FIND(type, name, parameters)                     \
    do {                                                      \
        void * found = find(handle, #name);                   \
        memcpy(&real->name, &found, sizeof(found));           \
    } while (0);

static void find_all(struct real * real, void * handle) {
    REAL_HOOKED(REAL_FIND)
    REAL_CALLED(REAL_FIND)
}

struct range {
    uintptr_t address;
    uintptr_t low;
    uintptr_t high;
};

static int range_of(struct dl_phdr_info * info, size_t size, void * data) {
    (void) size;
    struct range * range = data;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) * segment = &info->dlpi_phdr[i];
        const uintptr_t    low     = info->dlpi_addr + segment->p_vaddr;
        const uintptr_t    high    = low + segment->p_memsz;
        if (segment->p_type == PT_LOAD && range->address >= low && range->address < high) {
            range->low  = low;
            range->high = high;
            return 1;
        }
    }
    return 0;
}

static bool has_engine(const struct real * real, bool needs_llama) {
    return needs_llama ? real->llama_decode != NULL : real->ggml_backend_sched_graph_compute_async != NULL;
}

// Returns NULL where the calling object reaches no engine.
static const struct real * scope_add(const void * caller, bool needs_llama) {
    struct range range = { (uintptr_t) caller, 0, 0 };
    Dl_info      object;
    if (!dl_iterate_phdr(range_of, &range) || !dladdr(caller, &object) || object.dli_fname == NULL) {
        return NULL;
    }
    void              * handle = dlopen(object.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    struct real_scope * scope  = handle ? calloc(1, sizeof(*scope)) : NULL;
    if (scope) {
        find_all(&scope->real, handle);
    }
    if (scope == NULL || !has_engine(&scope->real, needs_llama)) {
        free(scope);
        if (handle) {
            dlclose(handle);
        }
        return NULL;
    }
    atomic_store_explicit(&real_of_all, NULL, memory_order_release);
    scope->low    = range.low;
    scope->high   = range.high;
    scope->handle = handle;
    scope->next   = atomic_load_explicit(&scopes, memory_order_relaxed);
    atomic_store_explicit(&scopes, scope, memory_order_release);
    return &scope->real;
}

// A function that ends in the call of another one leaves its own caller's address behind: b5640's llama_free_model
// does, and what called it may be far from any engine. libllama has called libggml before, so the engine is known.
static const struct real * any_scope(bool needs_llama) {
    const struct real_scope * scope = atomic_load_explicit(&scopes, memory_order_acquire);
    while (scope && !has_engine(&scope->real, needs_llama)) {
        scope = scope->next;
    }
    return scope ? &scope->real : &nothing;
}

static const struct real * scope_of(const void * caller) {
    const struct real_scope * scope = atomic_load_explicit(&scopes, memory_order_acquire);
    while (scope && ((uintptr_t) caller < scope->low || (uintptr_t) caller >= scope->high)) {
        scope = scope->next;
    }
    return scope ? &scope->real : NULL;
}

// Behind this library; where it came last (arrival.h), anywhere in the global scope.
static bool find_globally(const char * name, void ** handle) {
    *handle = RTLD_NEXT;
    if (find(*handle, name) == NULL) {
        *handle = RTLD_DEFAULT;
    }
    return find(*handle, name) != NULL;
}

// A program may have libggml without libllama, for good or so far.
static const struct real * search(const void * caller, bool needs_llama) {
    static struct real ggml_only;

    const struct real * real   = scope_of(caller);
    void              * handle = RTLD_NEXT;
    if (real) {
        return real;
    }
    if (find_globally("llama_decode", &handle)) {
        static struct real global;
        find_all(&global, handle);
        atomic_store_explicit(&global_real, &global, memory_order_release);
        if (atomic_load_explicit(&scopes, memory_order_relaxed) == NULL) {
            atomic_store_explicit(&real_of_all, &global, memory_order_release);
        }
        return &global;
    }
    if (needs_llama || !find_globally("ggml_backend_sched_graph_compute_async", &handle)) {
        real = scope_add(caller, needs_llama);
        return real ? real : any_scope(needs_llama);
    }
    if (ggml_only.ggml_backend_sched_graph_compute_async == NULL) {
        find_all(&ggml_only, handle);
    }
    return &ggml_only;
}

const struct real * real_behind(const void * caller, bool needs_llama) {
    const struct real * real = scope_of(caller);
    if (real) {
        return real;
    }
    real = atomic_load_explicit(&global_real, memory_order_acquire);
    if (real) {
        return real;
    }
    pthread_mutex_lock(&scope_mutex);
    real = search(caller, needs_llama);
    pthread_mutex_unlock(&scope_mutex);
    return real;
}
