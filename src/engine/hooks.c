// The functions we stand between: what the program calls of libllama, and libllama of libggml. Each of them does
// what the engine does, and tells the rooms behind it.

#include "capture.h"
#include "context.h"
#include "engine.h"
#include "layers.h"
#include "opened-file.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

// Where the library is part of libllama the linker brings calls of X to __wrap_X; preloaded, we have the name itself.
#ifdef EXPERT_TRACER_BUILT_IN
#    define HOOKED(name) __wrap_##name
#else
#    define HOOKED(name) name
#endif
#define HOOK_DECLARE(type, name, parameters) __attribute__((visibility("default"))) type HOOKED(name) parameters;

REAL_HOOKED(HOOK_DECLARE)

#define REAL_GGML()     real_behind(__builtin_return_address(0), false)
#define REAL_LLAMA()    real_behind(__builtin_return_address(0), true)

// A program finds our names whatever its release has, by dlsym or as weak symbols. What is not there fails.
#define CALL(real, name, failure, ...) ((real)->name ? (real)->name(__VA_ARGS__) : (absent(#name), (failure)))

static void absent(const char * name) {
    log_line(engine_say, LOG_ERROR, "the program called %s, which this release of llama.cpp does not have", name);
}

static void (*on_context_created)(void);

void engine_set_on_context_created(void (*fn)(void)) {
    on_context_created = fn;
}

static void forget_engine(void) {
    capture_forget_all();
    context_forget_all();
    batch_forget_all();
    opened_file_forget_all();
    sinks_forget_all();
}

__attribute__((constructor)) static void begin_hooks(void) {
    pthread_atfork(NULL, NULL, forget_engine);
}

//
// libggml, called by libllama
//

// An engine that this library is built into needs no preloaded one.
static bool traces_by_itself(const struct real * real) {
#ifdef EXPERT_TRACER_BUILT_IN
    (void) real;
    return false;
#else
    return real->expert_tracer_built_in != NULL;
#endif
}

// Older releases have five parameters: the sixth is passed on as it came, and not read behind us.
void * HOOKED(ggml_backend_sched_new)(void * backends, void * bufts, int n_backends, size_t graph_size, uintptr_t parallel, uintptr_t op_offload) {
    const struct real * real = REAL_GGML();
    if (traces_by_itself(real)) {
        return real->ggml_backend_sched_new(backends, bufts, n_backends, graph_size, parallel, op_offload);
    }
    if (on_context_created) {
        engine_say_through(real);
        on_context_created();
    }
    void * sched = real->ggml_backend_sched_new(backends, bufts, n_backends, graph_size, parallel, op_offload);
    if (sched && sinks_any()) {
        capture_on_sched_new(real, sched);
    }
    return sched;
}

void HOOKED(ggml_backend_sched_free)(void * sched) {
    capture_on_sched_free(sched);
    REAL_GGML()->ggml_backend_sched_free(sched);
}

void HOOKED(ggml_backend_free)(void * backend) {
    capture_on_backend_free(backend);
    REAL_GGML()->ggml_backend_free(backend);
}

void HOOKED(ggml_backend_sched_set_eval_callback)(void * sched, ggml_eval_fn fn, void * user_data) {
    if (!capture_on_set_eval_callback(sched, fn, user_data)) {
        REAL_GGML()->ggml_backend_sched_set_eval_callback(sched, fn, user_data);
    }
}

struct ggml_cgraph * HOOKED(ggml_new_graph_custom)(struct ggml_context * ctx, size_t size, bool grads) {
    struct ggml_cgraph * graph = REAL_GGML()->ggml_new_graph_custom(ctx, size, grads);
    capture_on_new_graph(ctx, graph);
    return graph;
}

// The name is made here: arguments cannot be passed on.
struct ggml_tensor * HOOKED(ggml_format_name)(struct ggml_tensor * tensor, const char * format, ...) {
    char    name[LAYER_NAME_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(name, sizeof(name), format, arguments);
    va_end(arguments);
    capture_on_named(tensor, name);
    const struct real * real = REAL_GGML();
    return CALL(real, ggml_set_name, tensor, tensor, name);
}

void HOOKED(ggml_set_input)(struct ggml_tensor * tensor) {
    const struct real * real = REAL_GGML();
    capture_on_set_input(tensor);
    CALL(real, ggml_set_input, (void) 0, tensor);
}

struct ggml_tensor * HOOKED(ggml_mul_mat_id)(struct ggml_context * ctx, struct ggml_tensor * as, struct ggml_tensor * b, struct ggml_tensor * ids) {
    const struct real * real = REAL_GGML();
    struct ggml_tensor * product = real->ggml_mul_mat_id(ctx, as, b, ids);
    capture_on_mul_mat_id(real, ctx, as, ids, product);
    return product;
}

void HOOKED(ggml_backend_sched_reset)(void * sched) {
    capture_on_sched_reset(sched);
    REAL_GGML()->ggml_backend_sched_reset(sched);
}

void HOOKED(ggml_backend_sched_split_graph)(void * sched, struct ggml_cgraph * graph) {
    const struct real * real = REAL_GGML();
    CALL(real, ggml_backend_sched_split_graph, (void) 0, sched, graph);
    capture_on_split(sched);
}

bool HOOKED(ggml_backend_sched_reserve)(void * sched, struct ggml_cgraph * graph) {
    return capture_reserve(REAL_GGML(), sched, graph);
}

void HOOKED(ggml_backend_sched_reserve_size)(void * sched, struct ggml_cgraph * graph, size_t * sizes) {
    const struct real * real = REAL_GGML();
    if (real->ggml_backend_sched_reserve_size) {
        capture_reserve_size(real, sched, graph, sizes);
    } else {
        absent("ggml_backend_sched_reserve_size");
    }
}

size_t HOOKED(ggml_backend_sched_get_buffer_size)(void * sched, void * backend) {
    return capture_buffer_size(REAL_GGML(), sched, backend);
}

bool HOOKED(ggml_backend_sched_alloc_graph)(void * sched, struct ggml_cgraph * graph) {
    return capture_alloc_graph(REAL_GGML(), sched, graph);
}

int HOOKED(ggml_backend_sched_graph_compute_async)(void * sched, struct ggml_cgraph * graph) {
    return capture_compute(REAL_GGML(), sched, graph);
}

void HOOKED(ggml_backend_sched_synchronize)(void * sched) {
    REAL_GGML()->ggml_backend_sched_synchronize(sched);
    capture_on_synchronize(sched);
}

struct gguf_context * HOOKED(gguf_init_from_file)(const char * path, struct gguf_init_params params) {
    const struct real   * real = REAL_GGML();
    struct gguf_context * gguf = real->gguf_init_from_file(path, params);
    opened_file_add(real, gguf, path);
    context_on_file_opened();
    return gguf;
}

//
// libllama, called by the program
//

typedef int32_t (*evaluate_fn)(struct llama_context *, struct llama_batch);

static int32_t evaluate(const struct real * real, evaluate_fn fn, const char * name, struct llama_context * ctx, struct llama_batch plain) {
    if (!fn) {
        absent(name);
        return -1;
    }
    const struct batch batch   = { .plain = &plain };
    struct context   * context = context_decode_begin(real, ctx, &batch);
    const int32_t      status  = fn(ctx, plain);
    context_decode_end(context, &batch, status);
    return status;
}

int32_t HOOKED(llama_decode)(struct llama_context * ctx, struct llama_batch batch) {
    const struct real * real = REAL_LLAMA();
    return evaluate(real, real->llama_decode, "llama_decode", ctx, batch);
}

int32_t HOOKED(llama_encode)(struct llama_context * ctx, struct llama_batch batch) {
    const struct real * real = REAL_LLAMA();
    return evaluate(real, real->llama_encode, "llama_encode", ctx, batch);
}

int32_t HOOKED(llama_process)(struct llama_context * ctx, int type, struct llama_batch_ext * ext) {
    const struct real * real    = REAL_LLAMA();
    const struct batch  batch   = { .notes = batch_find(ext) };
    struct context    * context = context_decode_begin(real, ctx, &batch);
    const int32_t       status  = CALL(real, llama_process, -1, ctx, type, ext);
    context_decode_end(context, &batch, status);
    return status;
}

struct llama_batch_ext * HOOKED(llama_batch_ext_init)(struct llama_context * ctx) {
    const struct real * real = REAL_LLAMA();
    struct llama_batch_ext * batch = CALL(real, llama_batch_ext_init, NULL, ctx);
    if (sinks_any()) {
        batch_on_init(batch);
    }
    return batch;
}

void HOOKED(llama_batch_ext_free)(struct llama_batch_ext * batch) {
    const struct real * real = REAL_LLAMA();
    batch_on_free(batch);
    CALL(real, llama_batch_ext_free, (void) 0, batch);
}

void HOOKED(llama_batch_ext_clear)(struct llama_batch_ext * batch) {
    const struct real * real = REAL_LLAMA();
    batch_on_clear(batch);
    CALL(real, llama_batch_ext_clear, (void) 0, batch);
}

int32_t HOOKED(llama_batch_ext_add)(struct llama_batch_ext * batch, int32_t seq_id) {
    const struct real * real = REAL_LLAMA();
    const int32_t index = CALL(real, llama_batch_ext_add, -1, batch, seq_id);
    batch_on_add(batch, index, seq_id, -1);
    return index;
}

int32_t HOOKED(llama_batch_ext_add_token)(struct llama_batch_ext * batch, int32_t seq_id, int32_t id) {
    const struct real * real = REAL_LLAMA();
    const int32_t index = CALL(real, llama_batch_ext_add_token, -1, batch, seq_id, id);
    batch_on_add(batch, index, seq_id, id);
    return index;
}

int32_t HOOKED(llama_batch_ext_add_embd)(struct llama_batch_ext * batch, int32_t seq_id, struct llama_params_by_value embd) {
    const struct real * real = REAL_LLAMA();
    const int32_t index = CALL(real, llama_batch_ext_add_embd, -1, batch, seq_id, embd);
    batch_on_add(batch, index, seq_id, -1);
    return index;
}

bool HOOKED(llama_batch_ext_set_output_logits)(struct llama_batch_ext * batch, int32_t idx, bool value) {
    const struct real * real = REAL_LLAMA();
    const bool done = CALL(real, llama_batch_ext_set_output_logits, false, batch, idx, value);
    if (done) {
        batch_on_set_output(batch, idx, value);
    }
    return done;
}

bool HOOKED(llama_batch_ext_set_output_embd)(struct llama_batch_ext * batch, int32_t idx, bool value) {
    const struct real * real = REAL_LLAMA();
    const bool done = CALL(real, llama_batch_ext_set_output_embd, false, batch, idx, value);
    if (done) {
        batch_on_set_output(batch, idx, value);
    }
    return done;
}

bool HOOKED(llama_batch_ext_set_pos)(struct llama_batch_ext * batch, int32_t idx, const int32_t * pos) {
    const struct real * real = REAL_LLAMA();
    const bool done = CALL(real, llama_batch_ext_set_pos, false, batch, idx, pos);
    if (done) {
        batch_on_set_pos(batch, idx, *pos);
    }
    return done;
}

void HOOKED(llama_free)(struct llama_context * ctx) {
    const struct real * real = REAL_LLAMA();
    capture_on_context_free(ctx);
    context_on_free(ctx);
    CALL(real, llama_free, (void) 0, ctx);
}

void HOOKED(llama_set_warmup)(struct llama_context * ctx, bool warmup) {
    const struct real * real = REAL_LLAMA();
    if (sinks_any()) {
        context_on_set_warmup(real, ctx, warmup);
    }
    CALL(real, llama_set_warmup, (void) 0, ctx, warmup);
}

void HOOKED(llama_perf_context_reset)(struct llama_context * ctx) {
    const struct real * real = REAL_LLAMA();
    context_on_perf_reset(ctx);
    CALL(real, llama_perf_context_reset, (void) 0, ctx);
}

void HOOKED(llama_memory_clear)(struct llama_memory_i * memory, bool data) {
    const struct real * real = REAL_LLAMA();
    context_on_memory_clear(memory);
    CALL(real, llama_memory_clear, (void) 0, memory, data);
}

bool HOOKED(llama_memory_seq_rm)(struct llama_memory_i * memory, int32_t seq_id, int32_t p0, int32_t p1) {
    const struct real * real = REAL_LLAMA();
    const bool done = CALL(real, llama_memory_seq_rm, false, memory, seq_id, p0, p1);
    context_on_memory_seq_rm(memory, seq_id, p0, p1, done);
    return done;
}

void HOOKED(llama_memory_seq_keep)(struct llama_memory_i * memory, int32_t seq_id) {
    const struct real * real = REAL_LLAMA();
    context_on_memory_seq_keep(memory, seq_id);
    CALL(real, llama_memory_seq_keep, (void) 0, memory, seq_id);
}

void HOOKED(llama_kv_self_clear)(struct llama_context * ctx) {
    const struct real * real = REAL_LLAMA();
    context_on_clear(ctx);
    CALL(real, llama_kv_self_clear, (void) 0, ctx);
}

bool HOOKED(llama_kv_self_seq_rm)(struct llama_context * ctx, int32_t seq_id, int32_t p0, int32_t p1) {
    const struct real * real = REAL_LLAMA();
    const bool done = CALL(real, llama_kv_self_seq_rm, false, ctx, seq_id, p0, p1);
    context_on_seq_rm(ctx, seq_id, p0, p1, done);
    return done;
}

void HOOKED(llama_kv_self_seq_keep)(struct llama_context * ctx, int32_t seq_id) {
    const struct real * real = REAL_LLAMA();
    context_on_seq_keep(ctx, seq_id);
    CALL(real, llama_kv_self_seq_keep, (void) 0, ctx, seq_id);
}

void HOOKED(llama_kv_cache_clear)(struct llama_context * ctx) {
    const struct real * real = REAL_LLAMA();
    context_on_clear(ctx);
    CALL(real, llama_kv_cache_clear, (void) 0, ctx);
}

bool HOOKED(llama_kv_cache_seq_rm)(struct llama_context * ctx, int32_t seq_id, int32_t p0, int32_t p1) {
    const struct real * real = REAL_LLAMA();
    const bool done = CALL(real, llama_kv_cache_seq_rm, false, ctx, seq_id, p0, p1);
    context_on_seq_rm(ctx, seq_id, p0, p1, done);
    return done;
}

void HOOKED(llama_kv_cache_seq_keep)(struct llama_context * ctx, int32_t seq_id) {
    const struct real * real = REAL_LLAMA();
    context_on_seq_keep(ctx, seq_id);
    CALL(real, llama_kv_cache_seq_keep, (void) 0, ctx, seq_id);
}

size_t HOOKED(llama_state_set_data)(struct llama_context * ctx, const uint8_t * src, size_t size) {
    const struct real * real = REAL_LLAMA();
    context_on_state_set(ctx, -1);
    return CALL(real, llama_state_set_data, 0, ctx, src, size);
}

bool HOOKED(llama_state_load_file)(struct llama_context * ctx, const char * path, int32_t * tokens, size_t n_tokens_max, size_t * n_tokens) {
    const struct real * real = REAL_LLAMA();
    context_on_state_set(ctx, -1);
    return CALL(real, llama_state_load_file, false, ctx, path, tokens, n_tokens_max, n_tokens);
}

size_t HOOKED(llama_state_seq_set_data)(struct llama_context * ctx, const uint8_t * src, size_t size, int32_t seq_id) {
    const struct real * real = REAL_LLAMA();
    context_on_state_set(ctx, seq_id);
    return CALL(real, llama_state_seq_set_data, 0, ctx, src, size, seq_id);
}

// Part of a sequence's state (flag 1) is what a server goes back to within a sequence.
size_t HOOKED(llama_state_seq_set_data_ext)(struct llama_context * ctx, const uint8_t * src, size_t size, int32_t seq_id, uint32_t flags) {
    const struct real * real = REAL_LLAMA();
    if (!(flags & 1)) {
        context_on_state_set(ctx, seq_id);
    }
    return CALL(real, llama_state_seq_set_data_ext, 0, ctx, src, size, seq_id, flags);
}

size_t HOOKED(llama_state_seq_load_file)(struct llama_context * ctx, const char * path, int32_t seq_id, int32_t * tokens, size_t n_tokens_max,
                                         size_t * n_tokens) {
    const struct real * real = REAL_LLAMA();
    context_on_state_set(ctx, seq_id);
    return CALL(real, llama_state_seq_load_file, 0, ctx, path, seq_id, tokens, n_tokens_max, n_tokens);
}

struct llama_model * HOOKED(llama_model_load_from_file)(const char * path, struct llama_params_by_value params) {
    const struct real * real = REAL_LLAMA();
    struct llama_model * model = CALL(real, llama_model_load_from_file, NULL, path, params);
    context_on_model_loaded(model, path);
    return model;
}

struct llama_model * HOOKED(llama_load_model_from_file)(const char * path, struct llama_params_by_value params) {
    const struct real * real = REAL_LLAMA();
    struct llama_model * model = CALL(real, llama_load_model_from_file, NULL, path, params);
    context_on_model_loaded(model, path);
    return model;
}

struct llama_model * HOOKED(llama_model_load_from_splits)(const char ** paths, size_t n_paths, struct llama_params_by_value params) {
    const struct real * real = REAL_LLAMA();
    struct llama_model * model = CALL(real, llama_model_load_from_splits, NULL, paths, n_paths, params);
    context_on_model_loaded(model, n_paths > 0 ? paths[0] : NULL);
    return model;
}

void HOOKED(llama_model_free)(struct llama_model * model) {
    const struct real * real = REAL_LLAMA();
    context_on_model_free(model);
    CALL(real, llama_model_free, (void) 0, model);
}

void HOOKED(llama_free_model)(struct llama_model * model) {
    const struct real * real = REAL_LLAMA();
    context_on_model_free(model);
    CALL(real, llama_free_model, (void) 0, model);
}

//
// libllama-common, the stock programs' own, called by them and by itself
//

void HOOKED(_Z16common_log_pauseP10common_log)(void * log) {
    const struct real * real = REAL_LLAMA();
    engine_set_log_paused();
    CALL(real, _Z16common_log_pauseP10common_log, (void) 0, log);
}
