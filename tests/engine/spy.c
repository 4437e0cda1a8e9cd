// Stands behind the tracer, in front of the engine, and writes down what is asked of the devices: an independent
// witness of how the routing is read. A line each into the file that $SPY_LOG names:
//
//   compute plain|callback            a graph, without or with an eval callback
//   synchronize                       a wait for a device
//   get NAME BYTES                    a tensor is read, and waited for
//   get_async DEVICE NAME BYTES       a tensor is read when the device comes to it
//   alloc TYPE BYTES WHO BUFFER       memory is taken, by the tracer (ours) or by somebody else (theirs)
//   free TYPE BYTES WHO BUFFER        and given back
//   sched new|free N                  a scheduler, which every context has, is made or freed; so many live then

#define _GNU_SOURCE

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool       has_callback;
static atomic_int n_scheds;

__attribute__((format(printf, 1, 2))) static void note(const char * format, ...) {
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static int             file  = -1;
    char                   line[256];
    va_list                arguments;
    va_start(arguments, format);
    const int length = vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);

    pthread_mutex_lock(&mutex);
    if (file < 0 && getenv("SPY_LOG")) {
        file = open(getenv("SPY_LOG"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    }
    if (file >= 0 && write(file, line, (size_t) length) != length) {
        abort();
    }
    pthread_mutex_unlock(&mutex);
}

#define NEXT(type, name, parameters)                                    \
    static type (*next_##name) parameters;                              \
    if (next_##name == NULL) {                                          \
        void * found = dlsym(RTLD_NEXT, #name);                         \
        memcpy(&next_##name, &found, sizeof(found));                    \
    }

static const char * who_is_at(const void * caller) {
    Dl_info object;
    return dladdr(caller, &object) && object.dli_fname && strstr(object.dli_fname, "expert-tracer") ? "ours" : "theirs";
}

static const char * name_of(const void * tensor) {
    NEXT(const char *, ggml_get_name, (const void *))
    return next_ggml_get_name(tensor);
}

void ggml_backend_sched_set_eval_callback(void * sched, bool (*fn)(void *, bool, void *), void * data);
int  ggml_backend_sched_graph_compute_async(void * sched, void * graph);
void ggml_backend_synchronize(void * backend);
void ggml_backend_event_synchronize(void * event);
void ggml_backend_tensor_get(const void * tensor, void * data, size_t offset, size_t size);
void ggml_backend_tensor_get_async(void * backend, const void * tensor, void * data, size_t offset, size_t size);
void * ggml_backend_buft_alloc_buffer(void * type, size_t size);
void   ggml_backend_buffer_free(void * buffer);
void * ggml_backend_sched_new(void * backends, void * types, int n, size_t size,
                              uintptr_t parallel, uintptr_t op_offload);
void   ggml_backend_sched_free(void * sched);

void ggml_backend_sched_set_eval_callback(void * sched, bool (*fn)(void *, bool, void *), void * data) {
    NEXT(void, ggml_backend_sched_set_eval_callback, (void *, bool (*)(void *, bool, void *), void *))
    has_callback = fn != NULL;
    next_ggml_backend_sched_set_eval_callback(sched, fn, data);
}

int ggml_backend_sched_graph_compute_async(void * sched, void * graph) {
    NEXT(int, ggml_backend_sched_graph_compute_async, (void *, void *))
    note("compute %s\n", has_callback ? "callback" : "plain");
    return next_ggml_backend_sched_graph_compute_async(sched, graph);
}

void ggml_backend_synchronize(void * backend) {
    NEXT(void, ggml_backend_synchronize, (void *))
    note("synchronize\n");
    next_ggml_backend_synchronize(backend);
}

void ggml_backend_event_synchronize(void * event) {
    NEXT(void, ggml_backend_event_synchronize, (void *))
    note("synchronize\n");
    next_ggml_backend_event_synchronize(event);
}

void ggml_backend_tensor_get(const void * tensor, void * data, size_t offset, size_t size) {
    NEXT(void, ggml_backend_tensor_get, (const void *, void *, size_t, size_t))
    note("get %s %zu\n", name_of(tensor), size);
    next_ggml_backend_tensor_get(tensor, data, offset, size);
}

void ggml_backend_tensor_get_async(void * backend, const void * tensor, void * data, size_t offset, size_t size) {
    NEXT(void, ggml_backend_tensor_get_async, (void *, const void *, void *, size_t, size_t))
    NEXT(const char *, ggml_backend_name, (void *))
    note("get_async %s %s %zu\n", next_ggml_backend_name(backend), name_of(tensor), size);
    next_ggml_backend_tensor_get_async(backend, tensor, data, offset, size);
}

void * ggml_backend_buft_alloc_buffer(void * type, size_t size) {
    NEXT(void *, ggml_backend_buft_alloc_buffer, (void *, size_t))
    NEXT(const char *, ggml_backend_buft_name, (void *))
    void * buffer = next_ggml_backend_buft_alloc_buffer(type, size);
    note("alloc %s %zu %s %p\n", next_ggml_backend_buft_name(type), size,
         who_is_at(__builtin_return_address(0)), buffer);
    return buffer;
}

void ggml_backend_buffer_free(void * buffer) {
    NEXT(void, ggml_backend_buffer_free, (void *))
    NEXT(const char *, ggml_backend_buffer_name, (void *))
    NEXT(size_t, ggml_backend_buffer_get_size, (void *))
    if (buffer) {
        note("free %s %zu %s %p\n", next_ggml_backend_buffer_name(buffer), next_ggml_backend_buffer_get_size(buffer),
            who_is_at(__builtin_return_address(0)), buffer);
    }
    next_ggml_backend_buffer_free(buffer);
}

// The sixth parameter is newer: passed on as it came.
void * ggml_backend_sched_new(void * backends, void * types, int n, size_t size,
                              uintptr_t parallel, uintptr_t op_offload) {
    NEXT(void *, ggml_backend_sched_new, (void *, void *, int, size_t, uintptr_t, uintptr_t))
    note("sched new %d\n", atomic_fetch_add(&n_scheds, 1) + 1);
    return next_ggml_backend_sched_new(backends, types, n, size, parallel, op_offload);
}

void ggml_backend_sched_free(void * sched) {
    NEXT(void, ggml_backend_sched_free, (void *))
    if (sched) {
        note("sched free %d\n", atomic_fetch_sub(&n_scheds, 1) - 1);
    }
    next_ggml_backend_sched_free(sched);
}
