// Stands behind the tracer, in front of the engine, and writes down the gate weights that the engine computes, read by
// an eval callback of its own: an independent witness of those in a trace, of models that no stock program prints.
// Lines in the file that $GATES_LOG names:
//
//   graph                    a graph begins to be computed
//   NAME TAB VALUE...        a tensor of gate weights, all of its values

#define _GNU_SOURCE

#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCHEDULERS_MAX 64

typedef bool (*eval_fn)(void * tensor, bool ask, void * data);

// The callback that a scheduler was given, mostly NULL.
static struct scheduler {
    void  * sched;
    eval_fn fn;
    void  * data;
    bool    wanted; // the node that was asked for last
} schedulers[SCHEDULERS_MAX];

static FILE * log_file(void) {
    static FILE * file;
    if (file == NULL && getenv("GATES_LOG")) {
        file = fopen(getenv("GATES_LOG"), "ae");
    }
    return file;
}

#define NEXT(type, name, parameters)                                    \
    static type (*next_##name) parameters;                              \
    if (next_##name == NULL) {                                          \
        void * found = dlsym(RTLD_NEXT, #name);                         \
        memcpy(&next_##name, &found, sizeof(found));                    \
    }

static const char * name_of(const void * tensor) {
    NEXT(const char *, ggml_get_name, (const void *))
    return next_ggml_get_name(tensor);
}

static void write_values(const void * tensor) {
    NEXT(int64_t, ggml_nelements, (const void *))
    NEXT(size_t, ggml_nbytes, (const void *))
    NEXT(void, ggml_backend_tensor_get, (const void *, void *, size_t, size_t))
    const size_t n      = (size_t) next_ggml_nelements(tensor);
    float      * values = calloc(n + 1, sizeof(*values));
    if (values == NULL || next_ggml_nbytes(tensor) != n * sizeof(*values)) {
        abort(); // not what gate weights ever were
    }
    if (n > 0) {
        next_ggml_backend_tensor_get(tensor, values, 0, n * sizeof(*values));
    }
    fprintf(log_file(), "%s\t", name_of(tensor));
    for (size_t i = 0; i < n; i++) {
        fprintf(log_file(), "%.9g ", (double) values[i]);
    }
    fprintf(log_file(), "\n");
    free(values);
}

static bool on_node(void * tensor, bool ask, void * data) {
    struct scheduler * scheduler = data;
    const bool         is_gates  = log_file()
                                   && strncmp(name_of(tensor), "ffn_moe_weights", strlen("ffn_moe_weights")) == 0;
    if (ask) {
        scheduler->wanted = scheduler->fn && scheduler->fn(tensor, true, scheduler->data);
        return scheduler->wanted || is_gates;
    }
    if (is_gates) {
        write_values(tensor);
    }
    return scheduler->wanted ? scheduler->fn(tensor, false, scheduler->data) : true;
}

static struct scheduler * scheduler_of(void * sched) {
    for (int i = 0; i < SCHEDULERS_MAX; i++) {
        if (schedulers[i].sched == sched || schedulers[i].sched == NULL) {
            schedulers[i].sched = sched;
            return &schedulers[i];
        }
    }
    abort();
}

void ggml_backend_sched_set_eval_callback(void * sched, eval_fn fn, void * data);
int  ggml_backend_sched_graph_compute_async(void * sched, void * graph);

void ggml_backend_sched_set_eval_callback(void * sched, eval_fn fn, void * data) {
    NEXT(void, ggml_backend_sched_set_eval_callback, (void *, eval_fn, void *))
    struct scheduler * scheduler = scheduler_of(sched);
    scheduler->fn   = fn;
    scheduler->data = data;
    next_ggml_backend_sched_set_eval_callback(sched, on_node, scheduler);
}

int ggml_backend_sched_graph_compute_async(void * sched, void * graph) {
    NEXT(int, ggml_backend_sched_graph_compute_async, (void *, void *))
    if (log_file()) {
        fprintf(log_file(), "graph\n");
        fflush(log_file());
    }
    return next_ggml_backend_sched_graph_compute_async(sched, graph);
}
