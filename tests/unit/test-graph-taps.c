// What no engine shows on demand: graphs without room, devices without memory or without an operation, releases
// without a function. The engine here is a fake; what real ones do is tested with real ones.

#include "engine/capture/device-memory.h"
#include "engine/capture/graph-taps.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N_USED = 2, N_ROWS = 4, GRAPH_SIZE = 100, NODES_MAX = 16 };

struct ggml_tensor {
    const char * name;
    int64_t      n_rows;
    int64_t      n_elements;
    char       * data;
};

struct ggml_cgraph {
    int                  n_nodes;
    int                  n_others; // that are only counted
    struct ggml_tensor * nodes[NODES_MAX];
};

static struct {
    int    device_type;
    bool   has_memory;
    bool   can_copy;
    size_t used_mem;
    int    n_buffers;
} fake;

static struct ggml_tensor tensors[64]; // made by the engine, on demand
static int                n_tensors;
static char               backend, device, buffer_type;

static struct ggml_tensor * tensor_new(const char * name, int64_t n_rows, int64_t n_elements) {
    assert_true(n_tensors < 64);
    tensors[n_tensors] = (struct ggml_tensor) { name, n_rows, n_elements, NULL };
    return &tensors[n_tensors++];
}

static int          n_backends   (void * sched)                      { (void) sched; return 1; }
static void       * get_backend  (void * sched, int i)               { (void) sched; (void) i; return &backend; }
static void       * get_device   (void * of)                         { (void) of; return &device; }
static void       * get_type     (void * of)                         { (void) of; return &buffer_type; }
static int          device_type  (void * of)                         { (void) of; return fake.device_type; }
static size_t       alignment    (void * type)                       { (void) type; return 32; }
static bool         is_host      (void * type)                       { (void) type; return true; }
static void       * buffer_base  (void * buffer)                     { return (size_t *) buffer + 4; }
static size_t       buffer_size  (void * buffer)                     { return *(size_t *) buffer; }
static void         context_free (struct ggml_context * ctx)         { (void) ctx; }
static const char * get_name     (const struct ggml_tensor * tensor) { return tensor->name; }
static int64_t      n_rows_of    (const struct ggml_tensor * tensor) { return tensor->n_rows; }
static int64_t      n_elements_of(const struct ggml_tensor * tensor) { return tensor->n_elements; }
static size_t       n_bytes_of   (const struct ggml_tensor * tensor) { return (size_t) tensor->n_elements * 4; }
static size_t       element_size (const struct ggml_tensor * tensor) { (void) tensor; return 4; }
static void       * get_data     (const struct ggml_tensor * tensor) { return tensor->data; }
static int          graph_n_nodes(struct ggml_cgraph * graph)        { return graph->n_nodes + graph->n_others; }
static int          graph_size   (struct ggml_cgraph * graph)        { (void) graph; return GRAPH_SIZE; }
static size_t       used_mem     (const struct ggml_context * ctx)   { (void) ctx; return fake.used_mem; }
static size_t       mem_size     (const struct ggml_context * ctx)   { (void) ctx; return 100000; }
static size_t       overhead     (void)                              { return 300; }

static void * backend_of_tensor(void * sched, struct ggml_tensor * tensor) {
    (void) sched;
    (void) tensor;
    return &backend;
}

static bool supports_op(void * of, const struct ggml_tensor * node) {
    (void) of;
    (void) node;
    return fake.can_copy;
}

static void place(void * buffer, struct ggml_tensor * tensor, void * at) {
    (void) buffer;
    tensor->data = at;
}

static struct ggml_tensor * set_name(struct ggml_tensor * tensor, const char * name) {
    (void) name;
    return tensor;
}

static void * alloc_buffer(void * type, size_t size) {
    (void) type;
    size_t * buffer = fake.has_memory ? malloc(size + 4 * sizeof(size_t)) : NULL;
    if (buffer) {
        *buffer = size;
        fake.n_buffers++;
    }
    return buffer;
}

static void buffer_free(void * buffer) {
    fake.n_buffers--;
    free(buffer);
}

static struct ggml_context * context_new(struct ggml_init_params params) {
    assert_true(params.no_alloc);
    return (struct ggml_context *) &backend;
}

static struct ggml_tensor * new_1d(struct ggml_context * ctx, int type, int64_t n) {
    (void) ctx;
    (void) type;
    return tensor_new("", 1, n);
}

static struct ggml_tensor * new_2d(struct ggml_context * ctx, int type, int64_t n, int64_t rows) {
    (void) ctx;
    (void) type;
    return tensor_new("", rows, n * rows);
}

static struct ggml_tensor * view_1d(struct ggml_context * ctx, struct ggml_tensor * tensor, int64_t n, size_t offset) {
    (void) ctx;
    (void) offset;
    (void) tensor;
    return tensor_new("view", 1, n);
}

static struct ggml_tensor * copy(struct ggml_context * ctx, struct ggml_tensor * from, struct ggml_tensor * to) {
    (void) ctx;
    (void) to;
    return tensor_new("copy", from->n_rows, from->n_elements);
}

static void expand(struct ggml_cgraph * graph, struct ggml_tensor * node) {
    assert_true(graph->n_nodes < NODES_MAX);
    graph->nodes[graph->n_nodes++] = node;
}

static struct ggml_tensor * graph_node(struct ggml_cgraph * graph, int i) {
    return i < graph->n_nodes ? graph->nodes[i] : &tensors[0];
}

static struct ggml_tensor * graph_find(const struct ggml_cgraph * graph, const char * name) {
    for (int i = 0; i < graph->n_nodes; i++) {
        if (strcmp(graph->nodes[i]->name, name) == 0) {
            return graph->nodes[i];
        }
    }
    return NULL;
}

// What is only asked whether it is there.
static bool reserve(void * sched, struct ggml_cgraph * graph) {
    (void) sched;
    (void) graph;
    return true;
}

static void wait_for(void * sched) {
    (void) sched;
}

static void get_async(void * of, const struct ggml_tensor * tensor, void * data, size_t offset, size_t size) {
    (void) of;
    (void) tensor;
    (void) data;
    (void) offset;
    (void) size;
}

static struct ggml_cgraph * new_graph(struct ggml_context * ctx, size_t size, bool grads) {
    (void) ctx;
    (void) size;
    (void) grads;
    return NULL;
}

static struct real real;

static int begin(void ** state) {
    real = (struct real) {
        .ggml_backend_sched_alloc_graph        = reserve,
        .ggml_backend_sched_reserve            = reserve,
        .ggml_backend_sched_synchronize        = wait_for,
        .ggml_backend_sched_get_n_backends     = n_backends,
        .ggml_backend_sched_get_backend        = get_backend,
        .ggml_backend_sched_get_tensor_backend = backend_of_tensor,
        .ggml_backend_sched_get_buffer_type    = NULL,
        .ggml_backend_get_default_buffer_type  = get_type,
        .ggml_backend_get_device               = get_device,
        .ggml_backend_dev_type                 = device_type,
        .ggml_backend_supports_op              = supports_op,
        .ggml_backend_tensor_get_async         = get_async,
        .ggml_backend_buft_alloc_buffer        = alloc_buffer,
        .ggml_backend_buft_get_alignment       = alignment,
        .ggml_backend_buft_is_host             = is_host,
        .ggml_backend_buffer_get_base          = buffer_base,
        .ggml_backend_buffer_get_size          = buffer_size,
        .ggml_backend_buffer_free              = buffer_free,
        .ggml_backend_tensor_alloc             = place,
        .ggml_init                             = context_new,
        .ggml_free                             = context_free,
        .ggml_new_tensor_1d                    = new_1d,
        .ggml_new_tensor_2d                    = new_2d,
        .ggml_view_1d                          = view_1d,
        .ggml_cpy                              = copy,
        .ggml_set_name                         = set_name,
        .ggml_get_data                         = get_data,
        .ggml_get_name                         = get_name,
        .ggml_nrows                            = n_rows_of,
        .ggml_nelements                        = n_elements_of,
        .ggml_nbytes                           = n_bytes_of,
        .ggml_element_size                     = element_size,
        .ggml_build_forward_expand             = expand,
        .ggml_graph_size                       = graph_size,
        .ggml_graph_n_nodes                    = graph_n_nodes,
        .ggml_graph_node                       = graph_node,
        .ggml_graph_get_tensor                 = graph_find,
        .ggml_new_graph_custom                 = new_graph,
        .ggml_used_mem                         = used_mem,
        .ggml_get_mem_size                     = mem_size,
        .ggml_tensor_overhead                  = overhead,
    };
    memset(&fake, 0, sizeof(fake));
    fake.has_memory = true;
    fake.can_copy   = true;
    n_tensors       = 0;
    tensor_new("other", 1, 1);
    *state = NULL;
    return 0;
}

// Builds a graph with one MoE layer after another one was reserved, as far as that goes. Returns whether all lands.
static bool build(struct graph_taps * taps, struct layers * layers, int n_others) {
    struct ggml_tensor * topk     = tensor_new("ffn_moe_topk-0", N_ROWS, N_ROWS * N_USED);
    struct ggml_cgraph   reserved = { .n_nodes = 1, .nodes = { topk } };
    struct ggml_cgraph   graph    = { .n_nodes = 1, .n_others = n_others, .nodes = { topk } };
    struct ggml_context * ctx     = (struct ggml_context *) &backend;
    char                  strip[256];

    graph_taps_init(taps, &real, &backend, layers, false);
    if (taps->trouble == NULL) {
        graph_taps_measure(taps, &reserved);
    }
    graph_taps_must_move(taps, false);
    graph_taps_begin(taps);
    graph_taps_add(taps, ctx, &graph, layers_add_tensor(layers, "blk.0.ffn_up_exps.weight", 0), topk, NULL);
    graph_taps_place(taps, &graph);
    topk->data = strip; // the scheduler's memory
    graph_taps_settle(taps, true);
    return graph_taps_catch(taps, &graph);
}

static void check(const char * trouble, int n_others) {
    struct graph_taps taps;
    struct layers     layers = { 0 };
    device_memory_on_sched_new(&real, &backend);
    const bool        lands  = build(&taps, &layers, n_others);
    if (trouble) {
        assert_string_equal(taps.trouble, trouble);
    } else {
        assert_null(taps.trouble);
    }
    assert_int_equal(lands, trouble == NULL);
    graph_taps_free(&taps);
    layers_free(&layers);
    device_memory_on_sched_free(&backend);
    assert_int_equal(fake.n_buffers, 0);
}

static void everything_is_there(void ** state) {
    (void) state;
    check(NULL, 0);
}

static void graph_is_nearly_full(void ** state) {
    (void) state;
    check(NULL, GRAPH_SIZE / 4 * 3 - 2);
    check("its graph has no room for further nodes", GRAPH_SIZE / 4 * 3 - 1);
}

static void context_is_nearly_full(void ** state) {
    (void) state;
    fake.used_mem = 100000 - 300 * 4;
    check("its graph has no room for further nodes", 0);
}

static void device_has_no_memory(void ** state) {
    (void) state;
    fake.has_memory = false;
    check("a device has no memory left", 0);
}

static void device_cannot_copy(void ** state) {
    (void) state;
    fake.can_copy = false;
    check("a device cannot copy the selection", 0);
}

static void device_is_made_of_several(void ** state) {
    (void) state;
    fake.device_type = 4;
    check("it joins several devices to one", 0);
}

static void function_is_missing(void ** state) {
    (void) state;
    real.ggml_backend_tensor_get_async = NULL;
    check("this release of llama.cpp lacks functions that are needed", 0);
}

// Memory that another use needs more of is kept with what is taken then: somebody else may use the device.
static void nothing_is_freed_before_the_scheduler(void ** state) {
    (void) state;
    struct graph_taps taps;
    struct layers     layers = { 0 };
    device_memory_on_sched_new(&real, &backend);
    assert_true(build(&taps, &layers, 0));
    assert_int_equal(fake.n_buffers, 1);

    const size_t size = taps.strips[0].size;
    assert_false(graph_taps_must_move(&taps, false));
    taps.rows_max = 1000; // a larger batch than any that was reserved
    assert_true(graph_taps_must_move(&taps, true));
    graph_taps_begin(&taps);
    assert_true(taps.strips[0].size > size);
    assert_int_equal(fake.n_buffers, 2);
    assert_false(graph_taps_must_move(&taps, true));

    graph_taps_free(&taps);
    layers_free(&layers);
    assert_int_equal(fake.n_buffers, 2);
    device_memory_on_sched_free(&backend);
    assert_int_equal(fake.n_buffers, 0);
}

// The last layer is reserved with one row, and computed with as many as there are tokens.
static void rows_of_all_layers_may_be_as_many(void ** state) {
    (void) state;
    struct ggml_tensor * first  = tensor_new("ffn_moe_topk-0", N_ROWS * 1000, N_ROWS * 1000 * N_USED);
    struct ggml_tensor * last   = tensor_new("ffn_moe_topk-1", 1, N_USED);
    struct ggml_cgraph   graph  = { .n_nodes = 2, .nodes = { first, last } };
    struct layers        layers = { 0 };
    struct graph_taps    taps;
    device_memory_on_sched_new(&real, &backend);
    graph_taps_init(&taps, &real, &backend, &layers, false);
    graph_taps_must_move(&taps, false);
    graph_taps_begin(&taps); // before anything is reserved: nothing is known of it
    assert_int_equal(fake.n_buffers, 0);
    graph_taps_measure(&taps, &graph);
    graph_taps_must_move(&taps, false);
    graph_taps_begin(&taps);
    const size_t size = taps.strips[0].size;
    assert_true(size >= 2 * N_ROWS * 1000 * N_USED * sizeof(int32_t));

    last->n_rows     = first->n_rows;
    last->n_elements = first->n_elements;
    graph_taps_measure(&taps, &graph);
    assert_false(graph_taps_must_move(&taps, false));
    graph_taps_free(&taps);
    layers_free(&layers);
    device_memory_on_sched_free(&backend);
    assert_int_equal(fake.n_buffers, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(everything_is_there,       begin),
        cmocka_unit_test_setup(graph_is_nearly_full,      begin),
        cmocka_unit_test_setup(context_is_nearly_full,    begin),
        cmocka_unit_test_setup(device_has_no_memory,      begin),
        cmocka_unit_test_setup(device_cannot_copy,        begin),
        cmocka_unit_test_setup(device_is_made_of_several, begin),
        cmocka_unit_test_setup(function_is_missing,       begin),
        cmocka_unit_test_setup(nothing_is_freed_before_the_scheduler, begin),
        cmocka_unit_test_setup(rows_of_all_layers_may_be_as_many,     begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
