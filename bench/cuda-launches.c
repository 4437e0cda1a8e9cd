// Preloaded into a program that uses CUDA: counts what it asks of the card, kernels by their names. When the program
// ends, the counts are written to the file CUDA_LAUNCHES, a line "COUNT NAME" each.
//
// A kernel in a captured CUDA graph is launched once, while it is captured; from then on only the graph is. So this
// shows whether graphs are still captured, and whether the routing is still one kernel, on a machine without a
// profiler. The functions are those of the CUDA runtime, version 11 to 13, which has to be a shared object.

#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS   (1 << 17)
#define TO_HOST 2 // enum cudaMemcpyKind

struct dim3 {
    unsigned x, y, z;
};

// What is counted: a kernel, by its function in the program or by the handle that CUDA 12 and later have for it, or
// a function of the runtime, by its name.
struct slot {
    const void * key;
    const char * name;
    uint64_t     count;
};

static struct slot     slots[SLOTS];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

// With the mutex.
static struct slot * slot_of(const void * key) {
    size_t at = (size_t) (((uintptr_t) key >> 3) * UINT64_C(0x9e3779b97f4a7c15) >> 47) % SLOTS;
    for (size_t tries = 0; slots[at].key && slots[at].key != key; tries++) {
        if (tries == SLOTS) {
            fputs("cuda-launches: more kernels than there is room for\n", stderr);
            abort();
        }
        at = (at + 1) % SLOTS;
    }
    slots[at].key = key;
    return &slots[at];
}

static void set_name(const void * key, const char * name) {
    pthread_mutex_lock(&mutex);
    slot_of(key)->name = name;
    pthread_mutex_unlock(&mutex);
}

static void count(const void * key) {
    pthread_mutex_lock(&mutex);
    slot_of(key)->count++;
    pthread_mutex_unlock(&mutex);
}

static void count_call(const char * name) {
    set_name(name, name);
    count(name);
}

static const char * name_of(const void * key) {
    pthread_mutex_lock(&mutex);
    const char * name = slot_of(key)->name;
    pthread_mutex_unlock(&mutex);
    return name;
}

__attribute__((destructor)) static void write_counts(void) {
    const char * path = getenv("CUDA_LAUNCHES");
    FILE       * file = path ? fopen(path, "w") : NULL;
    if (file == NULL) {
        return;
    }
    for (size_t i = 0; i < SLOTS; i++) {
        if (slots[i].count > 0) {
            fprintf(file, "%llu %s\n", (unsigned long long) slots[i].count,
                    slots[i].name ? slots[i].name : "a kernel without a name");
        }
    }
    fclose(file);
}

static void * find_real(const char * name) {
    void * const real = dlsym(RTLD_NEXT, name);
    if (real == NULL) {
        fprintf(stderr, "cuda-launches: no %s behind us; the CUDA runtime has to be a shared object\n", name);
        abort();
    }
    return real;
}

// A function of the runtime that we stand in front of:
// does `before`, then calls the real one and returns what that does.
#define BETWEEN(type, name, parameters, arguments, before)      \
    __attribute__((visibility("default"))) type name parameters; \
    type name parameters {                                      \
        type (*real) parameters;                                \
        void * const address = find_real(#name);                \
        memcpy(&real, &address, sizeof(real));                  \
        before;                                                 \
        return real arguments;                                  \
    }

#define CALLED count_call(__func__)

static void count_copy(int kind) {
    count_call(kind == TO_HOST ? "copy to the host" : "other copy");
}

__attribute__((visibility("default")))
void __cudaRegisterFunction(void ** fat, const char * host, char * device, const char * name, int limit, void * tid,
                            void * bid, void * block, void * grid, int * warp);
void __cudaRegisterFunction(void ** fat, const char * host, char * device, const char * name, int limit, void * tid,
                            void * bid, void * block, void * grid, int * warp) {
    void (*real)(void **, const char *, char *, const char *, int, void *, void *, void *, void *, int *);
    void * const address = find_real(__func__);
    memcpy(&real, &address, sizeof(real));
    set_name(host, name);
    real(fat, host, device, name, limit, tid, bid, block, grid, warp);
}

__attribute__((visibility("default"))) int __cudaGetKernel(void ** kernel, const void * host);
int __cudaGetKernel(void ** kernel, const void * host) {
    int (*real)(void **, const void *);
    void * const address = find_real(__func__);
    memcpy(&real, &address, sizeof(real));
    const int status = real(kernel, host);
    if (status == 0) {
        set_name(*kernel, name_of(host));
    }
    return status;
}

BETWEEN(int, __cudaLaunchKernel,
        (void * kernel, struct dim3 grid, struct dim3 block, void ** args, size_t shared, void * stream),
    (kernel, grid, block, args, shared, stream), count(kernel))
BETWEEN(int, cudaLaunchKernel,
        (const void * host, struct dim3 grid, struct dim3 block, void ** args, size_t shared, void * stream),
    (host, grid, block, args, shared, stream), count(host))
BETWEEN(int, cudaLaunchKernelExC, (const void * config, const void * host, void ** args),
    (config, host, args), count(host))
BETWEEN(int, cudaGraphLaunch, (void * graph, void * stream),
    (graph, stream), CALLED)
BETWEEN(int, cudaStreamBeginCapture, (void * stream, int mode),
    (stream, mode), CALLED)
BETWEEN(int, cudaStreamSynchronize, (void * stream),
    (stream), CALLED)
BETWEEN(int, cudaEventSynchronize, (void * event),
    (event), CALLED)
BETWEEN(int, cudaMemcpyAsync, (void * dst, const void * src, size_t n, int kind, void * stream),
    (dst, src, n, kind, stream), count_copy(kind))
BETWEEN(int, cudaMemcpy2DAsync, (void * dst, size_t dpitch, const void * src, size_t spitch, size_t width,
                                 size_t height, int kind, void * stream),
    (dst, dpitch, src, spitch, width, height, kind, stream), count_copy(kind))
