// The engine's own functions: those we stand in front of, and those we call.
//
// Only exported functions are used, and structs are passed on unread: their layouts differ from release to
// release. llama_batch is the exception, its members have been the same since b3995.

#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ggml_cgraph;
struct ggml_context;
struct ggml_tensor;
struct gguf_context;
struct llama_batch_ext;
struct llama_context;
struct llama_memory_i;
struct llama_model;
struct llama_params_by_value; // of a size that differs from release to release
struct llama_sampler;
struct llama_vocab;

struct llama_batch {
    int32_t    n_tokens;
    int32_t  * token;
    float    * embd;
    int32_t  * pos;
    int32_t  * n_seq_id;
    int32_t ** seq_id;
    int8_t   * logits;
};

struct gguf_init_params {
    bool                   no_alloc;
    struct ggml_context ** ctx;
};

struct ggml_init_params {
    size_t mem_size;
    void * mem_buffer;
    bool   no_alloc;
};

// Asked before a node is computed (ask: is it wanted?) and, if it was wanted, after. `ask` and the result are a bool in
// llama.cpp and an int in forks of it: whole registers are both.
typedef uintptr_t (*ggml_eval_fn)(struct ggml_tensor * node, uintptr_t ask, void * user_data);
typedef void      (*ggml_log_fn) (int level, const char * text, void * user_data);

// X(return type, name, parameters). HOOKED: we stand in front of it, and pass calls on as they came (call.h): what
// stands here holds for the calls that we make ourselves. CALLED: we call it.

#define REAL_GGML_HOOKED(X)                                                                                      \
    X(void *, ggml_backend_sched_new, (void *, void *, int, size_t, uintptr_t, uintptr_t))                       \
    X(void, ggml_backend_sched_free, (void *))                                                                   \
    X(void, ggml_backend_sched_set_eval_callback, (void *, ggml_eval_fn, void *))                                \
    X(void, ggml_backend_sched_reset, (void *))                                                                  \
    X(void, ggml_backend_sched_split_graph, (void *, struct ggml_cgraph *))                                      \
    X(bool, ggml_backend_sched_reserve, (void *, struct ggml_cgraph *))                                          \
    X(void, ggml_backend_sched_reserve_size, (void *, struct ggml_cgraph *, size_t *))                           \
    X(size_t, ggml_backend_sched_get_buffer_size, (void *, void *))                                              \
    X(bool, ggml_backend_sched_alloc_graph, (void *, struct ggml_cgraph *))                                      \
    X(int, ggml_backend_sched_graph_compute_async, (void *, struct ggml_cgraph *))                               \
    X(void, ggml_backend_sched_synchronize, (void *))                                                            \
    X(void, ggml_backend_free, (void *))                                                                         \
    X(struct ggml_cgraph *, ggml_new_graph_custom, (struct ggml_context *, size_t, bool))                        \
    X(struct ggml_tensor *, ggml_format_name, (struct ggml_tensor *, const char *, ...))                         \
    X(void, ggml_set_input, (struct ggml_tensor *))                                                              \
    X(struct ggml_tensor *, ggml_mul_mat_id, (struct ggml_context *, struct ggml_tensor *, struct ggml_tensor *, \
                                              struct ggml_tensor *))                                             \
    X(struct gguf_context *, gguf_init_from_file, (const char *, struct gguf_init_params))

// Numbers of keys and tensors in a GGUF file were an int, and are an int64_t since b4500 or so: they are small, and
// read as an int.
#define REAL_GGML_CALLED(X)                                                                                \
    X(const char *, ggml_get_name, (const struct ggml_tensor *))                                           \
    X(int64_t, ggml_nelements, (const struct ggml_tensor *))                                               \
    X(int64_t, ggml_nrows, (const struct ggml_tensor *))                                                   \
    X(size_t, ggml_nbytes, (const struct ggml_tensor *))                                                   \
    X(size_t, ggml_element_size, (const struct ggml_tensor *))                                             \
    X(int, ggml_graph_n_nodes, (struct ggml_cgraph *))                                                     \
    X(struct ggml_tensor *, ggml_graph_node, (struct ggml_cgraph *, int))                                  \
    X(struct ggml_tensor *, ggml_graph_get_tensor, (const struct ggml_cgraph *, const char *))             \
    X(void, ggml_backend_tensor_get, (const struct ggml_tensor *, void *, size_t, size_t))                 \
    X(void *, ggml_get_data, (const struct ggml_tensor *))                                                 \
    X(struct ggml_tensor *, ggml_set_name, (struct ggml_tensor *, const char *))                           \
    X(struct ggml_context *, ggml_init, (struct ggml_init_params))                                         \
    X(void, ggml_free, (struct ggml_context *))                                                            \
    X(size_t, ggml_used_mem, (const struct ggml_context *))                                                \
    X(size_t, ggml_get_mem_size, (const struct ggml_context *))                                            \
    X(size_t, ggml_tensor_overhead, (void))                                                                \
    X(struct ggml_tensor *, ggml_new_tensor_1d, (struct ggml_context *, int, int64_t))                     \
    X(struct ggml_tensor *, ggml_new_tensor_2d, (struct ggml_context *, int, int64_t, int64_t))            \
    X(struct ggml_tensor *, ggml_view_1d, (struct ggml_context *, struct ggml_tensor *, int64_t, size_t))  \
    X(struct ggml_tensor *, ggml_cpy, (struct ggml_context *, struct ggml_tensor *, struct ggml_tensor *)) \
    X(void, ggml_build_forward_expand, (struct ggml_cgraph *, struct ggml_tensor *))                       \
    X(int, ggml_graph_size, (struct ggml_cgraph *))                                                        \
    X(int, ggml_backend_sched_get_n_backends, (void *))                                                    \
    X(void *, ggml_backend_sched_get_backend, (void *, int))                                               \
    X(void *, ggml_backend_sched_get_tensor_backend, (void *, struct ggml_tensor *))                       \
    X(void *, ggml_backend_sched_get_buffer_type, (void *, void *))                                        \
    X(void *, ggml_backend_get_device, (void *))                                                           \
    X(void *, ggml_backend_get_default_buffer_type, (void *))                                              \
    X(int, ggml_backend_dev_type, (void *))                                                                \
    X(void *, ggml_backend_dev_backend_reg, (void *))                                                      \
    X(void *, ggml_backend_dev_host_buffer_type, (void *))                                                 \
    X(bool, ggml_backend_supports_op, (void *, const struct ggml_tensor *))                                \
    X(void, ggml_backend_tensor_get_async, (void *, const struct ggml_tensor *, void *, size_t, size_t))   \
    X(void *, ggml_backend_event_new, (void *))                                                            \
    X(void, ggml_backend_event_free, (void *))                                                             \
    X(void, ggml_backend_event_record, (void *, void *))                                                   \
    X(void, ggml_backend_event_synchronize, (void *))                                                      \
    X(void *, ggml_backend_buft_alloc_buffer, (void *, size_t))                                            \
    X(size_t, ggml_backend_buft_get_alignment, (void *))                                                   \
    X(bool, ggml_backend_buft_is_host, (void *))                                                           \
    X(void *, ggml_backend_buffer_get_base, (void *))                                                      \
    X(size_t, ggml_backend_buffer_get_size, (void *))                                                      \
    X(void, ggml_backend_buffer_free, (void *))                                                            \
    X(void, ggml_backend_tensor_alloc, (void *, struct ggml_tensor *, void *))                             \
    X(void, ggml_log_get, (ggml_log_fn *, void **))                                                        \
    X(void, ggml_log_callback_default, (int, const char *, void *))                                        \
    X(const char *, ggml_version, (void))                                                                  \
    X(void, gguf_free, (struct gguf_context *))                                                            \
    X(int, gguf_find_key, (const struct gguf_context *, const char *))                                     \
    X(int, gguf_get_kv_type, (const struct gguf_context *, int64_t))                                       \
    X(const char *, gguf_get_val_str, (const struct gguf_context *, int64_t))                              \
    X(uint32_t, gguf_get_val_u32, (const struct gguf_context *, int64_t))                                  \
    X(size_t, gguf_get_alignment, (const struct gguf_context *))                                           \
    X(int, gguf_get_n_tensors, (const struct gguf_context *))                                              \
    X(const char *, gguf_get_tensor_name, (const struct gguf_context *, int64_t))                          \
    X(size_t, gguf_get_tensor_offset, (const struct gguf_context *, int64_t))                              \
    X(size_t, gguf_get_tensor_size, (const struct gguf_context *, int64_t)) /* since b4500 or so */

#define REAL_LLAMA_HOOKED(X)                                                                                           \
    X(int32_t, llama_decode, (struct llama_context *, struct llama_batch))                                             \
    X(int32_t, llama_encode, (struct llama_context *, struct llama_batch))                                             \
    X(int32_t, llama_process, (struct llama_context *, int, struct llama_batch_ext *))                                 \
    X(struct llama_batch_ext *, llama_batch_ext_init, (struct llama_context *))                                        \
    X(void, llama_batch_ext_free, (struct llama_batch_ext *))                                                          \
    X(void, llama_batch_ext_clear, (struct llama_batch_ext *))                                                         \
    X(int32_t, llama_batch_ext_add, (struct llama_batch_ext *, int32_t))                                               \
    X(int32_t, llama_batch_ext_add_token, (struct llama_batch_ext *, int32_t, int32_t))                                \
    X(int32_t, llama_batch_ext_add_embd, (struct llama_batch_ext *, int32_t, struct llama_params_by_value))            \
    X(bool, llama_batch_ext_set_output_logits, (struct llama_batch_ext *, int32_t, bool))                              \
    X(bool, llama_batch_ext_set_output_embd, (struct llama_batch_ext *, int32_t, bool))                                \
    X(bool, llama_batch_ext_set_pos, (struct llama_batch_ext *, int32_t, const int32_t *))                             \
    X(void, llama_free, (struct llama_context *))                                                                      \
    X(void, llama_set_warmup, (struct llama_context *, bool))                                                          \
    X(void, llama_perf_context_reset, (struct llama_context *))                                                        \
    X(void, llama_memory_clear, (struct llama_memory_i *, bool))                                                       \
    X(bool, llama_memory_seq_rm, (struct llama_memory_i *, int32_t, int32_t, int32_t))                                 \
    X(void, llama_memory_seq_cp, (struct llama_memory_i *, int32_t, int32_t, int32_t, int32_t))                        \
    X(void, llama_memory_seq_keep, (struct llama_memory_i *, int32_t))                                                 \
    X(void, llama_kv_self_clear, (struct llama_context *))                                                             \
    X(bool, llama_kv_self_seq_rm, (struct llama_context *, int32_t, int32_t, int32_t))                                 \
    X(void, llama_kv_self_seq_cp, (struct llama_context *, int32_t, int32_t, int32_t, int32_t))                        \
    X(void, llama_kv_self_seq_keep, (struct llama_context *, int32_t))                                                 \
    X(void, llama_kv_cache_clear, (struct llama_context *))                                                            \
    X(bool, llama_kv_cache_seq_rm, (struct llama_context *, int32_t, int32_t, int32_t))                                \
    X(void, llama_kv_cache_seq_cp, (struct llama_context *, int32_t, int32_t, int32_t, int32_t))                       \
    X(void, llama_kv_cache_seq_keep, (struct llama_context *, int32_t))                                                \
    X(size_t, llama_state_set_data, (struct llama_context *, const uint8_t *, size_t))                                 \
    X(bool, llama_state_load_file, (struct llama_context *, const char *, int32_t *, size_t, size_t *))                \
    X(size_t, llama_state_seq_set_data, (struct llama_context *, const uint8_t *, size_t, int32_t))                    \
    X(size_t, llama_state_seq_set_data_ext, (struct llama_context *, const uint8_t *, size_t, int32_t, uint32_t))      \
    X(size_t, llama_state_seq_load_file, (struct llama_context *, const char *, int32_t, int32_t *, size_t, size_t *)) \
    X(float *, llama_get_logits, (struct llama_context *))                                                             \
    X(float *, llama_get_logits_ith, (struct llama_context *, int32_t))                                                \
    X(float *, llama_get_embeddings, (struct llama_context *))                                                         \
    X(float *, llama_get_embeddings_ith, (struct llama_context *, int32_t))                                            \
    X(float *, llama_get_embeddings_seq, (struct llama_context *, int32_t))                                            \
    X(int32_t, llama_get_sampled_token_ith, (struct llama_context *, int32_t))                                         \
    X(float *, llama_get_sampled_probs_ith, (struct llama_context *, int32_t))                                         \
    X(float *, llama_get_sampled_logits_ith, (struct llama_context *, int32_t))                                        \
    X(int32_t, llama_sampler_sample, (struct llama_sampler *, struct llama_context *, int32_t))                        \
    X(struct llama_model *, llama_model_load_from_file, (const char *, struct llama_params_by_value))                  \
    X(struct llama_model *, llama_load_model_from_file, (const char *, struct llama_params_by_value))                  \
    X(struct llama_model *, llama_model_load_from_splits, (const char **, size_t, struct llama_params_by_value))       \
    X(void, llama_model_free, (struct llama_model *))                                                                  \
    X(void, llama_free_model, (struct llama_model *))

#define REAL_LLAMA_CALLED(X)                                                                         \
    X(const struct llama_model *, llama_get_model, (const struct llama_context *))                   \
    X(struct llama_memory_i *, llama_get_memory, (const struct llama_context *))                     \
    X(int32_t, llama_memory_seq_pos_max, (struct llama_memory_i *, int32_t)) /* since b5600 or so */ \
    X(uint32_t, llama_n_ubatch, (const struct llama_context *))                                      \
    X(int32_t, llama_model_n_layer, (const struct llama_model *))                                    \
    X(int32_t, llama_n_layer, (const struct llama_model *))                                          \
    X(int32_t, llama_model_meta_val_str, (const struct llama_model *, const char *, char *, size_t)) \
    X(const struct llama_vocab *, llama_model_get_vocab, (const struct llama_model *))               \
    X(int32_t, llama_vocab_bos, (const struct llama_vocab *))                                        \
    X(int32_t, llama_vocab_eos, (const struct llama_vocab *))                                        \
    X(int32_t, llama_token_bos, (const struct llama_model *))                                        \
    X(int32_t, llama_token_eos, (const struct llama_model *))                                        \
    X(const char *, llama_version, (void))                                                           \
    X(const char *, expert_tracer_built_in, (void)) /* ours, where it is part of this engine */

// Of libllama-common, the stock programs' own, with the name that C++ gives it.
#define REAL_COMMON_HOOKED(X) \
    X(void, _Z16common_log_pauseP10common_log, (void *))

#define REAL_COMMON_CALLED(X)                                                                      \
    X(void *, _Z15common_log_mainv, (void))                                                        \
    X(void, _Z14common_log_addP10common_log14ggml_log_levelPKcz, (void *, int, const char *, ...)) \
    X(void, _Z16common_log_flushP10common_log, (void *))                                           \
    X(bool, _Z20common_log_get_jsonlv, (void)) /* since 0.5.0 */                                   \
    X(void, _Z27common_log_default_callback14ggml_log_levelPKcPv, (int, const char *, void *))

#define REAL_HOOKED(X) REAL_GGML_HOOKED(X) REAL_LLAMA_HOOKED(X) REAL_COMMON_HOOKED(X)
#define REAL_CALLED(X) REAL_GGML_CALLED(X) REAL_LLAMA_CALLED(X) REAL_COMMON_CALLED(X)

#define REAL_POINTER(type, name, parameters) type (*name) parameters;

// Functions of one engine; NULL: this release does not have it.
struct real {
    REAL_HOOKED(REAL_POINTER)
    REAL_CALLED(REAL_POINTER)
};

// Finds the engine whose functions the code at `caller`, a return address into the object that called, would have
// reached without us. `needs_llama`: it called a function of libllama, not of libggml. Never NULL, but what a program
// has found through us alone (dlsym, weak symbols) is not there. Thread-safe.
const struct real * real_behind(const void * caller, bool needs_llama);

// The one engine that all callers have, as mostly. NULL: that depends on the caller, or is not known yet.
extern _Atomic(const struct real *) real_of_all;

// real_behind(), for who asks dozens of times a token.
static inline const struct real * real_behind_fast(const void * caller, bool needs_llama) {
    const struct real * real = atomic_load_explicit(&real_of_all, memory_order_acquire);
    return real ? real : real_behind(caller, needs_llama);
}
