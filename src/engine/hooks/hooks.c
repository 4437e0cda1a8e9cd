// The functions we stand between: what the program calls of libllama, and libllama of libggml. Each of them passes the
// call on as it came (call.h), and notifies the rooms behind it.

#include "engine/hooks/hooks.h"

#include "engine/capture/capture.h"
#include "engine/capture/flights.h"
#include "engine/context/context-calls.h"
#include "engine/context/context.h"
#include "engine/context/models.h"
#include "engine/context/opened-file.h"
#include "engine/upstream/arrival.h"
#include "engine/upstream/call.h"
#include "engine/upstream/host-log.h"
#include "routing/sinks.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define NAME_ROOM 1024 // bytes: engines have 64 or 128 for the name of a tensor

// Where the library is part of libllama the linker brings calls of X to __wrap_X; preloaded, we have the name itself.
#ifdef EXPERT_TRACER_BUILT_IN
#    define HOOKED(name) __wrap_##name
#else
#    define HOOKED(name) name
#endif
#define EXPORTED __attribute__((visibility("default")))

// A hook: what the caller reaches, and in front of what that does, `struct call_result hook_NAME(const struct call *)`.
// `needs_llama`: the function is libllama's, not libggml's; `large`: `_large` where it takes large parameters by value.
// A program finds our names whatever its release has, by dlsym or as weak symbols: what is not there fails with
// `failure`. Calls for which `is_needed` is false are passed on as they are: some come ten times a token.
#define HOOK_OF(name, needs_llama, large, failure, is_needed)                                  \
    static struct call_result hook_##name(const struct call * call);                           \
    EXPORTED struct call_result HOOKED(name)(CALL_PARAMETERS(large));                          \
    struct call_result HOOKED(name)(CALL_PARAMETERS(large)) {                                  \
        const struct real * real = real_behind_fast(__builtin_return_address(0), needs_llama); \
        if (!(is_needed) && real->name) {                                                      \
            call_fn##large next;                                                               \
            memcpy(&next, &real->name, sizeof(next));                                          \
            const struct call_result result = next(CALL_ARGUMENTS);                            \
            call_is_over();                                                                    \
            return result;                                                                     \
        }                                                                                      \
        const struct call   call = {                                                           \
            .real     = real,                                                                  \
            .fn       = (void (*)(void)) real->name,                                           \
            .integers = CALL_INTEGERS_RECEIVED,                                                \
            .floats   = CALL_FLOATS_RECEIVED,                                                  \
            .words    = CALL_WORDS_RECEIVED(large),                                            \
            .is_large = sizeof(struct call_words##large) > sizeof(struct call_words),          \
        };                                                                                     \
        return call.fn ? hook_##name(&call) : absent(#name, failure);                          \
    }                                                                                          \
    static struct call_result hook_##name(const struct call * call)

#define HOOK_GGML(name)                   HOOK_OF(name, false, , 0, true)
#define HOOK_GGML_WHERE(name, is_needed)  HOOK_OF(name, false, , 0, is_needed)
#define HOOK_LLAMA(name)                  HOOK_OF(name, true, , 0, true)
#define HOOK_LLAMA_WHERE(name, is_needed) HOOK_OF(name, true, , 0, is_needed)
#define HOOK_LLAMA_STATUS(name)           HOOK_OF(name, true, , -1, true)
#define HOOK_LLAMA_LARGE(name)            HOOK_OF(name, true, _large, 0, true)

static struct call_result absent(const char * name, int failure) {
    log_line(host_log, LOG_ERROR, "the program called %s, which this release of llama.cpp does not have", name);
    return (struct call_result) { (uintptr_t) (intptr_t) failure, 0 };
}

static void (*on_context_created)(void);

void hooks_set_on_context_created(void (*fn)(void)) {
    on_context_created = fn;
}

static void forget_engine(void) {
    capture_forget_all();
    context_forget_all();
    models_forget_all();
    batch_forget_all();
    opened_file_forget_all();
    sinks_forget_all();
}

__attribute__((constructor)) static void begin_hooks(void) {
    pthread_atfork(NULL, NULL, forget_engine);
}

// Calls of which somebody has to know when they are over, as the hooks may be taken out meanwhile.
static atomic_int n_long_calls;

bool hooks_are_quiet(void) {
    return atomic_load(&n_long_calls) == 0;
}

static bool enter_long_call(void) {
    const bool counts = arrived_late();
    if (counts) {
        atomic_fetch_add(&n_long_calls, 1);
    }
    return counts;
}

static void leave_long_call(bool counts) {
    if (counts) {
        atomic_fetch_sub(&n_long_calls, 1);
    }
}

static void * pointer_in(struct call_result result) {
    void * pointer;
    memcpy(&pointer, &result.low, sizeof(pointer));
    return pointer;
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

HOOK_GGML(ggml_backend_sched_new) {
    if (traces_by_itself(call->real)) {
        return call_on(call);
    }
    if (on_context_created) {
        host_log_through(call->real);
        on_context_created();
    }
    const struct call_result result = call_on(call);
    if (pointer_in(result)) {
        capture_on_sched_new(call->real, pointer_in(result));
    }
    return result;
}

HOOK_GGML(ggml_backend_sched_free) {
    capture_on_sched_free(call_pointer(call, 0));
    return call_on(call);
}

HOOK_GGML(ggml_backend_free) {
    capture_on_backend_free(call_pointer(call, 0));
    return call_on(call);
}

HOOK_GGML(ggml_backend_sched_set_eval_callback) {
    ggml_eval_fn fn;
    memcpy(&fn, &call->integers[1], sizeof(fn));
    capture_on_set_eval_callback(call_pointer(call, 0), fn, call_pointer(call, 2));
    return call_on(call);
}

HOOK_GGML(ggml_new_graph_custom) {
    const struct call_result result = call_on(call);
    capture_on_new_graph(call_pointer(call, 0), pointer_in(result));
    return result;
}

// What is variable cannot be passed on: the name is made here, of whatever length, and cut by the engine.
EXPORTED struct ggml_tensor * HOOKED(ggml_format_name)(struct ggml_tensor * tensor, const char * format, ...);
struct ggml_tensor * HOOKED(ggml_format_name)(struct ggml_tensor * tensor, const char * format, ...) {
    const struct real * real = real_behind_fast(__builtin_return_address(0), false);
    char    name[NAME_ROOM];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(name, sizeof(name), format, arguments);
    va_end(arguments);
    capture_on_named(tensor, name);
    if (real->ggml_format_name == NULL) {
        absent("ggml_format_name", 0);
        return tensor;
    }
    return real->ggml_format_name(tensor, "%s", name);
}

HOOK_GGML(ggml_set_input) {
    capture_on_set_input(call_pointer(call, 0));
    return call_on(call);
}

HOOK_GGML(ggml_mul_mat_id) {
    const struct call_result result = call_on(call);
    capture_on_mul_mat_id(call->real, call_pointer(call, 0), call_pointer(call, 1), call_pointer(call, 3),
        pointer_in(result));
    return result;
}

HOOK_GGML(ggml_backend_sched_reset) {
    capture_on_sched_reset(call->real, call_pointer(call, 0));
    return call_on(call);
}

HOOK_GGML(ggml_backend_sched_split_graph) {
    const struct call_result result = call_on(call);
    capture_on_split(call_pointer(call, 0));
    return result;
}

HOOK_GGML(ggml_backend_sched_reserve) {
    return capture_reserve(call);
}

HOOK_GGML(ggml_backend_sched_reserve_size) {
    return capture_reserve_size(call);
}

HOOK_GGML(ggml_backend_sched_get_buffer_size) {
    return capture_buffer_size(call);
}

HOOK_GGML(ggml_backend_sched_alloc_graph) {
    return capture_alloc_graph(call);
}

HOOK_GGML(ggml_backend_sched_graph_compute_async) {
    const bool               counts = enter_long_call();
    const struct call_result result = capture_compute(call);
    leave_long_call(counts);
    return result;
}

HOOK_GGML_WHERE(ggml_backend_sched_synchronize, flights_any()) {
    const struct call_result result = call_on(call);
    capture_on_synchronize(call_pointer(call, 0));
    return result;
}

HOOK_GGML(gguf_init_from_file) {
    const struct call_result result = call_on(call);
    opened_file_add(call->real, pointer_in(result), call_pointer(call, 0));
    context_on_file_opened();
    return result;
}

//
// libllama, called by the program
//

static struct call_result evaluate(const struct call * call, const struct batch * batch) {
    const bool               counts  = enter_long_call();
    struct context         * context = context_decode_begin(call->real, call_pointer(call, 0), batch);
    const struct call_result result  = call_on(call);
    context_decode_end(context, batch, (int32_t) (uint32_t) result.low);
    leave_long_call(counts);
    return result;
}

static struct call_result evaluate_plain(const struct call * call) {
    struct llama_batch plain; // the members that all releases and forks begin with
    call_struct(call, 1, &plain, sizeof(plain));
    const struct batch batch = { .plain = &plain };
    return evaluate(call, &batch);
}

HOOK_LLAMA_STATUS(llama_decode) {
    return evaluate_plain(call);
}

HOOK_LLAMA_STATUS(llama_encode) {
    return evaluate_plain(call);
}

HOOK_LLAMA_STATUS(llama_process) {
    const struct llama_batch_ext * key   = call_pointer(call, 2);
    const struct batch             batch = { .notes = batch_find(key), .is_lost = batch_is_lost(key) };
    return evaluate(call, &batch);
}

HOOK_LLAMA(llama_batch_ext_init) {
    const struct call_result result = call_on(call);
    if (sinks_any()) {
        batch_on_init(pointer_in(result));
    }
    return result;
}

HOOK_LLAMA(llama_batch_ext_free) {
    batch_on_free(call_pointer(call, 0));
    return call_on(call);
}

HOOK_LLAMA(llama_batch_ext_clear) {
    if (sinks_any()) {
        batch_on_clear(call_pointer(call, 0));
    }
    return call_on(call);
}

static struct call_result add_to_batch(const struct call * call, int32_t token) {
    const struct call_result result = call_on(call);
    batch_on_add(call_pointer(call, 0), (int32_t) (uint32_t) result.low, call_int32(call, 1), token);
    return result;
}

HOOK_LLAMA_STATUS(llama_batch_ext_add) {
    return add_to_batch(call, -1);
}

HOOK_LLAMA_STATUS(llama_batch_ext_add_token) {
    return add_to_batch(call, call_int32(call, 2));
}

HOOK_LLAMA_STATUS(llama_batch_ext_add_embd) {
    return add_to_batch(call, -1);
}

static struct call_result set_output(const struct call * call) {
    const struct call_result result = call_on(call);
    if (call_bool(result)) {
        batch_on_set_output(call_pointer(call, 0), call_int32(call, 1), (call->integers[2] & 0xff) != 0);
    }
    return result;
}

HOOK_LLAMA(llama_batch_ext_set_output_logits) {
    return set_output(call);
}

HOOK_LLAMA(llama_batch_ext_set_output_embd) {
    return set_output(call);
}

HOOK_LLAMA(llama_batch_ext_set_pos) {
    const struct call_result result = call_on(call);
    if (call_bool(result)) {
        batch_on_set_pos(call_pointer(call, 0), call_int32(call, 1), *(const int32_t *) call_pointer(call, 2));
    }
    return result;
}

HOOK_LLAMA(llama_free) {
    capture_on_context_free(call_pointer(call, 0));
    context_on_free(call_pointer(call, 0));
    return call_on(call);
}

HOOK_LLAMA(llama_set_warmup) {
    if (sinks_any()) {
        context_on_set_warmup(call->real, call_pointer(call, 0), (call->integers[1] & 0xff) != 0);
    }
    return call_on(call);
}

HOOK_LLAMA(llama_perf_context_reset) {
    context_on_perf_reset(call_pointer(call, 0));
    return call_on(call);
}

HOOK_LLAMA(llama_memory_clear) {
    context_on_memory_clear(call_pointer(call, 0));
    return call_on(call);
}

HOOK_LLAMA(llama_memory_seq_rm) {
    const struct call_result result = call_on(call);
    context_on_memory_seq_rm(call_pointer(call, 0), call_int32(call, 1), call_int32(call, 2), call_int32(call, 3),
        call_bool(result));
    return result;
}

HOOK_LLAMA(llama_memory_seq_cp) {
    context_on_memory_seq_cp(call_pointer(call, 0), call_int32(call, 1), call_int32(call, 2), call_int32(call, 3),
        call_int32(call, 4));
    return call_on(call);
}

HOOK_LLAMA(llama_memory_seq_keep) {
    context_on_memory_seq_keep(call_pointer(call, 0), call_int32(call, 1));
    return call_on(call);
}

// The same functions of older releases, which take the context.
static struct call_result clear_context(const struct call * call) {
    context_on_clear(call_pointer(call, 0));
    return call_on(call);
}

static struct call_result remove_of_context(const struct call * call) {
    const struct call_result result = call_on(call);
    context_on_seq_rm(call_pointer(call, 0), call_int32(call, 1), call_int32(call, 2), call_int32(call, 3),
        call_bool(result));
    return result;
}

static struct call_result copy_of_context(const struct call * call) {
    context_on_seq_cp(call_pointer(call, 0), call_int32(call, 1), call_int32(call, 2), call_int32(call, 3),
        call_int32(call, 4));
    return call_on(call);
}

static struct call_result keep_of_context(const struct call * call) {
    context_on_seq_keep(call_pointer(call, 0), call_int32(call, 1));
    return call_on(call);
}

HOOK_LLAMA(llama_kv_self_clear)     { return clear_context(call); }
HOOK_LLAMA(llama_kv_self_seq_rm)    { return remove_of_context(call); }
HOOK_LLAMA(llama_kv_self_seq_cp)    { return copy_of_context(call); }
HOOK_LLAMA(llama_kv_self_seq_keep)  { return keep_of_context(call); }
HOOK_LLAMA(llama_kv_cache_clear)    { return clear_context(call); }
HOOK_LLAMA(llama_kv_cache_seq_rm)   { return remove_of_context(call); }
HOOK_LLAMA(llama_kv_cache_seq_cp)   { return copy_of_context(call); }
HOOK_LLAMA(llama_kv_cache_seq_keep) { return keep_of_context(call); }

// What is sampled from, in whichever way, and what is not.
static struct call_result read_logits(const struct call * call) {
    context_on_logits_read(call_pointer(call, 0));
    return call_on(call);
}

static struct call_result read_embeddings(const struct call * call) {
    context_on_embeddings_read(call_pointer(call, 0));
    return call_on(call);
}

HOOK_LLAMA_WHERE(llama_get_logits, context_reads_embeddings()) { return read_logits(call); }
HOOK_LLAMA_WHERE(llama_get_logits_ith, context_reads_embeddings()) { return read_logits(call); }
HOOK_LLAMA_WHERE(llama_get_sampled_token_ith, context_reads_embeddings()) { return read_logits(call); }
HOOK_LLAMA_WHERE(llama_get_sampled_probs_ith, context_reads_embeddings()) { return read_logits(call); }
HOOK_LLAMA_WHERE(llama_get_sampled_logits_ith, context_reads_embeddings()) { return read_logits(call); }

HOOK_LLAMA(llama_get_embeddings)         { return read_embeddings(call); }
HOOK_LLAMA(llama_get_embeddings_ith)     { return read_embeddings(call); }
HOOK_LLAMA(llama_get_embeddings_seq)     { return read_embeddings(call); }

HOOK_LLAMA_WHERE(llama_sampler_sample, context_reads_embeddings()) {
    context_on_logits_read(call_pointer(call, 1));
    return call_on(call);
}

static struct call_result set_state(const struct call * call, int32_t sequence) {
    context_on_state_set(call_pointer(call, 0), sequence);
    return call_on(call);
}

HOOK_LLAMA(llama_state_set_data)      { return set_state(call, -1); }
HOOK_LLAMA(llama_state_load_file)     { return set_state(call, -1); }
HOOK_LLAMA(llama_state_seq_set_data)  { return set_state(call, call_int32(call, 3)); }
HOOK_LLAMA(llama_state_seq_load_file) { return set_state(call, call_int32(call, 2)); }

// Part of a sequence's state (flag 1) is what a server goes back to within a sequence.
HOOK_LLAMA(llama_state_seq_set_data_ext) {
    return call->integers[4] & 1 ? call_on(call) : set_state(call, call_int32(call, 3));
}

static struct call_result load_model(const struct call * call, const char * path) {
    const struct call_result result = call_on(call);
    models_on_loaded(pointer_in(result), path);
    return result;
}

HOOK_LLAMA_LARGE(llama_model_load_from_file) {
    return load_model(call, call_pointer(call, 0));
}

HOOK_LLAMA_LARGE(llama_load_model_from_file) {
    return load_model(call, call_pointer(call, 0));
}

HOOK_LLAMA_LARGE(llama_model_load_from_splits) {
    const char * const * paths = call_pointer(call, 0);
    return load_model(call, call->integers[1] > 0 ? paths[0] : NULL);
}

static struct call_result free_model(const struct call * call) {
    models_on_free(call_pointer(call, 0));
    return call_on(call);
}

HOOK_LLAMA(llama_model_free) { return free_model(call); }
HOOK_LLAMA(llama_free_model) { return free_model(call); }

//
// libllama-common, the stock programs' own, called by them and by itself
//

HOOK_LLAMA(_Z16common_log_pauseP10common_log) {
    host_log_set_paused();
    return call_on(call);
}
