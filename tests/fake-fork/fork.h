// An engine that is no engine: functions of llama.cpp's names that take more than llama.cpp's do, as forks of it have
// them. Each of them writes to stdout what it was passed.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// ik_llama.cpp's, koboldcpp's, and llama.cpp's before b3995: three more members.
struct llama_batch {
    int32_t    n_tokens;
    int32_t  * token;
    float    * embd;
    int32_t  * pos;
    int32_t  * n_seq_id;
    int32_t ** seq_id;
    int8_t   * logits;
    int32_t    all_pos_0;
    int32_t    all_pos_1;
    int32_t    all_seq_id;
};

// As large as a loader's parameters are in some forks, and of a size that is no multiple of anything.
struct params {
    unsigned char bytes[201];
};

// Returned in two registers.
struct pair {
    uint64_t low;
    uint64_t high;
};

struct context;
struct model;
struct tensor;

// 1: the device is to be waited for; any other number but 0: it is not.
typedef int (*eval_fn)(struct tensor * node, int ask, void * data);

struct model * llama_model_load_from_file(const char * path, struct params params);
void           llama_model_free(struct model * model);

struct context * context_new(struct model * model, eval_fn fn, void * data);
void             llama_free(struct context * context);

int32_t llama_decode(struct context * context, struct llama_batch batch);
size_t  llama_state_seq_set_data(struct context * context, const uint8_t * data, size_t size,
                                 int32_t sequence, uint32_t flags);

// More of everything than there are registers, and a result that has none to spare.
struct pair llama_memory_seq_rm(void * memory, int64_t sequence, int64_t p0, int64_t p1, int64_t i4, int64_t i5,
                                int64_t i6, int64_t i7, int64_t i8, double f0, float f1, double f2, double f3,
                                double f4, double f5, double f6, double f7, double f8, int64_t last);

// Whose names are longer than llama.cpp's.
struct tensor * ggml_format_name(struct tensor * tensor, const char * format, ...);
const char    * ggml_get_name   (const struct tensor * tensor);
