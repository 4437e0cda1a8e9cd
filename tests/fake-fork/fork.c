// The engine that is none: see fork.h. Its graph has one node, what a layer selects of 4 experts; which ones says a
// token's number. Until the device was waited for the selection is not there yet, and reads as expert 3.

#include "fork.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_EXPERT  4
#define N_USED    2
#define ROWS_MAX 32
#define NAME_MAX_ 128 // koboldcpp's
#define EXPORT    __attribute__((visibility("default")))

struct tensor {
    char    name[NAME_MAX_];
    int32_t n_columns;
    int32_t n_rows;
    int32_t values[N_EXPERT * ROWS_MAX];
};

struct sched {
    eval_fn fn;
    void  * data;
};

struct graph {
    struct tensor nodes[2]; // the scores, the selection
    struct tensor tokens;
    int32_t       result[N_USED * ROWS_MAX];
};

struct model {
    int dummy;
};

struct context {
    struct model * model;
    struct sched * sched;
    struct graph   graph;
};

// Of libggml, called through the dynamic linker as libllama calls it.
void *       ggml_backend_sched_new(void * backends, void * bufts, int n_backends, size_t graph_size, bool parallel);
void         ggml_backend_sched_free(struct sched * sched);
void         ggml_backend_sched_set_eval_callback(struct sched * sched, eval_fn fn, void * data);
void         ggml_backend_sched_reset(struct sched * sched);
bool         ggml_backend_sched_alloc_graph(struct sched * sched, struct graph * graph);
int          ggml_backend_sched_graph_compute_async(struct sched * sched, struct graph * graph);
struct tensor * ggml_mul_mat_id(void * ctx, struct tensor * weights, struct tensor * b, struct tensor * ids);
int64_t      ggml_nelements(const struct tensor * tensor);
int64_t      ggml_nrows(const struct tensor * tensor);
size_t       ggml_nbytes(const struct tensor * tensor);
size_t       ggml_element_size(const struct tensor * tensor);
int          ggml_graph_n_nodes(struct graph * graph);
struct tensor * ggml_graph_node(struct graph * graph, int i);
struct tensor * ggml_graph_get_tensor(const struct graph * graph, const char * name);
void         ggml_backend_tensor_get(const struct tensor * tensor, void * data, size_t offset, size_t size);
const struct model * llama_get_model(const struct context * context);
int32_t      llama_model_n_layer(const struct model * model);

EXPORT void * ggml_backend_sched_new(void * backends, void * bufts, int n_backends, size_t graph_size, bool parallel) {
    printf("sched_new %d %d %d %zu %d\n", backends != NULL, bufts != NULL, n_backends, graph_size, parallel);
    return calloc(1, sizeof(struct sched));
}

EXPORT void ggml_backend_sched_free(struct sched * sched) {
    free(sched);
}

EXPORT void ggml_backend_sched_set_eval_callback(struct sched * sched, eval_fn fn, void * data) {
    sched->fn   = fn;
    sched->data = data;
}

EXPORT void ggml_backend_sched_reset(struct sched * sched) {
    (void) sched;
}

EXPORT bool ggml_backend_sched_alloc_graph(struct sched * sched, struct graph * graph) {
    return sched && graph;
}

EXPORT int ggml_backend_sched_graph_compute_async(struct sched * sched, struct graph * graph) {
    int n_waits = 0;
    for (int i = 0; i < 2; i++) {
        struct tensor * node = &graph->nodes[i];
        const int       need = sched->fn ? sched->fn(node, 1, sched->data) : 0;
        if (need == 1) {
            n_waits++;
            memcpy(graph->nodes[1].values, graph->result, sizeof(graph->result));
        }
        if (need && !sched->fn(node, 0, sched->data)) {
            break;
        }
    }
    fprintf(stderr, "fake fork: %d waits\n", n_waits);
    return 0;
}

EXPORT struct tensor * ggml_mul_mat_id(void * ctx, struct tensor * weights, struct tensor * b, struct tensor * ids) {
    (void) ctx;
    (void) weights;
    (void) ids;
    return b;
}

EXPORT struct tensor * ggml_format_name(struct tensor * tensor, const char * format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(tensor->name, sizeof(tensor->name), format, arguments);
    va_end(arguments);
    return tensor;
}

EXPORT const char * ggml_get_name(const struct tensor * tensor) {
    return tensor->name;
}

EXPORT int64_t ggml_nelements(const struct tensor * tensor) {
    return (int64_t) tensor->n_columns * tensor->n_rows;
}

EXPORT int64_t ggml_nrows(const struct tensor * tensor) {
    return tensor->n_rows;
}

EXPORT size_t ggml_nbytes(const struct tensor * tensor) {
    return (size_t) ggml_nelements(tensor) * sizeof(int32_t);
}

EXPORT size_t ggml_element_size(const struct tensor * tensor) {
    (void) tensor;
    return sizeof(int32_t);
}

EXPORT int ggml_graph_n_nodes(struct graph * graph) {
    (void) graph;
    return 2;
}

EXPORT struct tensor * ggml_graph_node(struct graph * graph, int i) {
    return &graph->nodes[i];
}

EXPORT struct tensor * ggml_graph_get_tensor(const struct graph * graph, const char * name) {
    return strcmp(name, graph->tokens.name) == 0 ? (struct tensor *) (uintptr_t) &graph->tokens : NULL;
}

EXPORT void ggml_backend_tensor_get(const struct tensor * tensor, void * data, size_t offset, size_t size) {
    memcpy(data, (const char *) tensor->values + offset, size);
}

EXPORT struct model * llama_model_load_from_file(const char * path, struct params params) {
    unsigned sum = 0;
    for (size_t i = 0; i < sizeof(params.bytes); i++) {
        sum = 31 * sum + params.bytes[i];
    }
    printf("load %s %u\n", path, sum);
    return calloc(1, sizeof(struct model));
}

EXPORT void llama_model_free(struct model * model) {
    free(model);
}

EXPORT struct context * context_new(struct model * model, eval_fn fn, void * data) {
    struct context * context = calloc(1, sizeof(*context));
    context->model = model;
    context->sched = ggml_backend_sched_new(context, NULL, 3, 1234567890123, true);
    ggml_backend_sched_set_eval_callback(context->sched, fn, data);
    return context;
}

EXPORT void llama_free(struct context * context) {
    ggml_backend_sched_free(context->sched);
    free(context);
}

EXPORT const struct model * llama_get_model(const struct context * context) {
    return context->model;
}

EXPORT int32_t llama_model_n_layer(const struct model * model) {
    (void) model;
    return 1;
}

static void shape(struct tensor * tensor, int32_t n_columns, int32_t n_rows) {
    tensor->n_columns = n_columns;
    tensor->n_rows    = n_rows;
}

// Token t is routed to experts t and t + 1.
static void build(struct graph * graph, const struct llama_batch * batch) {
    static struct tensor weights = { .n_columns = 8, .n_rows = N_EXPERT };
    ggml_format_name(&graph->tokens,   "%s", "inp_tokens");
    ggml_format_name(&graph->nodes[0], "%s-%d", "ffn_moe_logits", 0);
    ggml_format_name(&graph->nodes[1], "%s-%d", "ffn_moe_topk", 0);
    ggml_format_name(&weights, "blk.%d.%s.weight", 0, "ffn_up_exps");
    shape(&graph->tokens,   batch->n_tokens, 1);
    shape(&graph->nodes[0], N_EXPERT, batch->n_tokens);
    shape(&graph->nodes[1], N_USED,   batch->n_tokens);
    for (int32_t i = 0; i < batch->n_tokens * N_USED; i++) {
        graph->result[i]          = (batch->token[i / N_USED] + i % N_USED) % N_EXPERT;
        graph->nodes[1].values[i] = N_EXPERT - 1;
    }
    ggml_mul_mat_id(graph, &weights, &graph->nodes[0], &graph->nodes[1]);
}

EXPORT int32_t llama_decode(struct context * context, struct llama_batch batch) {
    printf("decode %d tokens, pos %d+%d, sequence %d, own %d %d %d\n",
           batch.n_tokens, batch.all_pos_0, batch.all_pos_1, batch.all_seq_id,
           batch.pos != NULL, batch.seq_id != NULL, batch.logits != NULL);
    ggml_backend_sched_reset(context->sched);
    build(&context->graph, &batch);
    ggml_backend_sched_alloc_graph(context->sched, &context->graph);
    return ggml_backend_sched_graph_compute_async(context->sched, &context->graph);
}

EXPORT size_t llama_state_seq_set_data(struct context * context, const uint8_t * data, size_t size,
                                       int32_t sequence, uint32_t flags) {
    printf("state %d %d %zu %d %u\n", context != NULL, data != NULL, size, sequence, flags);
    return size;
}

EXPORT struct pair llama_memory_seq_rm(void * memory, int64_t sequence, int64_t p0, int64_t p1, int64_t i4,
                                       int64_t i5, int64_t i6, int64_t i7, int64_t i8, double f0, float f1, double f2,
                                       double f3, double f4, double f5, double f6, double f7, double f8, int64_t last) {
    printf("seq_rm %d %lld %lld %lld %lld %lld %lld %lld %lld %g %g %g %g %g %g %g %g %g %lld\n",
           memory != NULL, (long long) sequence, (long long) p0, (long long) p1, (long long) i4, (long long) i5,
           (long long) i6, (long long) i7, (long long) i8, f0, (double) f1, f2, f3, f4, f5, f6, f7, f8,
           (long long) last);
    return (struct pair) { UINT64_C(0xfedcba9876543210), UINT64_C(0x0123456789abcdef) };
}
