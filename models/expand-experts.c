// Gives a small random model more experts, and a tokenizer.
//
// llama.cpp's test-llama-archs writes a model of every architecture, but with two experts of which two are used: every
// token takes both, and nothing can be told about routing. What is written here has N experts (no fewer than there
// are) of which K are used. The experts and router rows that are there stay, the new ones are random, as widely spread
// as the old.

#include "byte-tokenizer.h"
#include "gguf/gguf-reader.h"
#include "gguf/gguf-writer.h"
#include "half-float.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_N_EXPERT 16
#define DEFAULT_TOP_K     3
#define DEFAULT_SEED      1
#define N_CTX          4096 // theirs are 256
#define N_CHUNK       16384 // values written at a time

struct expansion {
    const struct gguf_file *  in;
    struct gguf_file_writer * out;
    uint32_t                  n_expert_in;
    uint32_t                  n_expert;
    uint32_t                  top_k;
    uint64_t                  seed;
};

static bool fail(const struct expansion * expansion, const char * message, const char * about) {
    fprintf(stderr, "expand-experts: %s: %s%s\n", gguf_file_path(expansion->in), message, about);
    return false;
}

//
// random numbers
//

struct random {
    uint64_t state;
};

static struct random random_of(uint64_t seed, const char * name) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (const char * at = name; *at != 0; at++) {
        hash = (hash ^ (uint8_t) *at)*0x100000001b3u;
    }
    return (struct random) { hash ^ seed*0x9e3779b97f4a7c15u };
}

static uint64_t random_next(struct random * random) {
    uint64_t z = random->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30)*0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27)*0x94d049bb133111ebu;
    return z ^ z >> 31;
}

// in (0, 1]
static double random_uniform(struct random * random) {
    return ((double) (random_next(random) >> 11) + 1.0)/9007199254740992.0;
}

static double random_normal(struct random * random) {
    return sqrt(-2.0*log(random_uniform(random)))*cos(6.283185307179586*random_uniform(random));
}

//
// numbers of a tensor
//

static float read_number(const struct gguf_file_tensor * tensor, const void * data, uint64_t i) {
    if (tensor->type == GGUF_FILE_TENSOR_F32) {
        float value;
        memcpy(&value, (const uint8_t *) data + i*sizeof(value), sizeof(value));
        return value;
    }
    uint16_t value;
    memcpy(&value, (const uint8_t *) data + i*sizeof(value), sizeof(value));
    return half_float_read(value);
}

static double spread_of(const struct gguf_file_tensor * tensor, const void * data) {
    const uint64_t n       = gguf_file_n_elements(tensor);
    double         squares = 0;
    for (uint64_t i = 0; i < n; i++) {
        const double value = (double) read_number(tensor, data, i);
        squares += value*value;
    }
    return n > 0 && squares > 0 ? sqrt(squares/(double) n) : 0.1;
}

//
// tensors
//

// A tensor with one slice per expert: it is the last dimension that counts them, in all of llama.cpp's architectures.
// (attn_v_exps of k2-horizon are experts of another kind, with a count of their own.)
static bool has_experts(const struct expansion * expansion, const struct gguf_file_tensor * tensor) {
    static const char * const names[] = { "exps.", ".ffn_gate_inp.", ".exp_probs_b" };
    if (tensor->n_dims == 0 || tensor->ne[tensor->n_dims - 1] != expansion->n_expert_in
        || strstr(tensor->name, ".attn_") != NULL) {
        return false;
    }
    for (size_t i = 0; i < sizeof(names)/sizeof(names[0]); i++) {
        if (strstr(tensor->name, names[i]) != NULL) {
            return true;
        }
    }
    return false;
}

static bool add_tensors(const struct expansion * expansion) {
    bool any = false;
    for (size_t i = 0; i < gguf_file_n_tensors(expansion->in); i++) {
        struct gguf_file_tensor tensor = *gguf_file_tensor(expansion->in, i);
        if (has_experts(expansion, &tensor)) {
            if (tensor.type != GGUF_FILE_TENSOR_F32 && tensor.type != GGUF_FILE_TENSOR_F16) {
                return fail(expansion, "only experts of type f32 and f16 can be expanded, not ", tensor.name);
            }
            tensor.ne[tensor.n_dims - 1] = expansion->n_expert;
            any = true;
        }
        gguf_file_writer_add_tensor(expansion->out, tensor.name, tensor.type, tensor.n_dims, tensor.ne);
    }
    return any || fail(expansion, "has no tensors of experts", "");
}

static void write_random(const struct expansion * expansion, int64_t i_tensor, uint64_t n_before, double spread) {
    const struct gguf_file_tensor * tensor = gguf_file_writer_tensor(expansion->out, i_tensor);
    if (tensor == NULL) {
        return;
    }
    static union {
        float    f32[N_CHUNK];
        uint16_t f16[N_CHUNK];
    } chunk;
    struct random  random = random_of(expansion->seed, tensor->name);
    const uint64_t n      = gguf_file_n_elements(tensor);
    const size_t   size   = tensor->type == GGUF_FILE_TENSOR_F32 ? sizeof(float) : sizeof(uint16_t);
    for (uint64_t at = n_before; at < n; at += N_CHUNK) {
        const size_t n_chunk = n - at < N_CHUNK ? (size_t) (n - at) : N_CHUNK;
        for (size_t i = 0; i < n_chunk; i++) {
            const float value = (float) (spread*random_normal(&random));
            if (tensor->type == GGUF_FILE_TENSOR_F32) {
                chunk.f32[i] = value;
            } else {
                chunk.f16[i] = half_float_write(value);
            }
        }
        gguf_file_writer_write(expansion->out, i_tensor, at*size, &chunk, n_chunk*size);
    }
}

static bool write_tensor(const struct expansion * expansion, size_t i) {
    const struct gguf_file_tensor * tensor = gguf_file_tensor(expansion->in, i);
    void * data = malloc((size_t) tensor->nbytes + 1);
    if (data == NULL || !gguf_file_read(expansion->in, tensor, 0, data, (size_t) tensor->nbytes)) {
        free(data);
        return fail(expansion, "cannot be read: ", tensor->name);
    }
    gguf_file_writer_write(expansion->out, (int64_t) i, 0, data, (size_t) tensor->nbytes);
    if (has_experts(expansion, tensor)) {
        write_random(expansion, (int64_t) i, gguf_file_n_elements(tensor), spread_of(tensor, data));
    }
    free(data);
    return true;
}

static bool write_tensors(const struct expansion * expansion) {
    bool ok = true;
    for (size_t i = 0; i < gguf_file_n_tensors(expansion->in) && ok; i++) {
        ok = write_tensor(expansion, i);
    }
    return ok;
}

//
// keys
//

// Some architectures use another number of experts in every layer: those that use any use top_k then.
static bool set_used_count(const struct expansion * expansion, const char * key) {
    const int64_t i_key = gguf_file_find_key(expansion->in, key);
    if (i_key < 0 || gguf_file_value_type(expansion->in, (size_t) i_key) != GGUF_FILE_ARRAY) {
        gguf_file_writer_set_u32(expansion->out, key, expansion->top_k);
        return true;
    }
    const size_t n      = gguf_file_n_values(expansion->in, (size_t) i_key);
    uint32_t *   counts = calloc(n + 1, sizeof(*counts));
    if (counts == NULL) {
        return fail(expansion, "no memory for ", key);
    }
    for (size_t i = 0; i < n; i++) {
        uint64_t count = 0;
        gguf_file_value_u64(expansion->in, i_key, i, &count);
        counts[i] = count > 0 ? expansion->top_k : 0;
    }
    gguf_file_writer_set_array(expansion->out, key, GGUF_FILE_U32, counts, n);
    free(counts);
    return true;
}

static bool key_of(const struct expansion * expansion, const char * name, char * key, size_t n_key) {
    const char * architecture = NULL;
    if (!gguf_file_get_string(expansion->in, "general.architecture", &architecture)) {
        return fail(expansion, "says nothing of its architecture", "");
    }
    snprintf(key, n_key, "%s.%s", architecture, name);
    return true;
}

static bool write_keys(const struct expansion * expansion) {
    for (size_t i = 0; i < gguf_file_n_keys(expansion->in); i++) {
        if (strncmp(gguf_file_key(expansion->in, i), "tokenizer.", strlen("tokenizer.")) != 0) {
            gguf_file_writer_copy_key(expansion->out, expansion->in, i);
        }
    }
    char key[256];
    key_of(expansion, "expert_count", key, sizeof(key));
    gguf_file_writer_set_u32(expansion->out, key, expansion->n_expert);
    key_of(expansion, "expert_used_count", key, sizeof(key));
    if (!set_used_count(expansion, key)) {
        return false;
    }
    uint32_t n_groups = 0;
    key_of(expansion, "expert_group_count", key, sizeof(key));
    if (gguf_file_get_u32(expansion->in, key, &n_groups) && n_groups > 1 && expansion->n_expert % n_groups != 0) {
        return fail(expansion, "the experts cannot be split into as many groups as it has: ", key);
    }
    if (gguf_file_find_tensor(expansion->in, "position_embd.weight") == NULL) {
        key_of(expansion, "context_length", key, sizeof(key));
        gguf_file_writer_set_u32(expansion->out, key, N_CTX);
    }
    const struct gguf_file_tensor * embeddings = gguf_file_find_tensor(expansion->in, "token_embd.weight");
    if (embeddings == NULL) {
        return fail(expansion, "has no token embeddings", "");
    }
    byte_tokenizer_write(expansion->out, (uint32_t) embeddings->ne[1]);
    return true;
}

static bool expand(struct expansion * expansion, const char * path) {
    char key[256];
    if (!key_of(expansion, "expert_count", key, sizeof(key))) {
        return false;
    }
    if (!gguf_file_get_u32(expansion->in, key, &expansion->n_expert_in) || expansion->n_expert_in == 0) {
        return fail(expansion, "has no experts", "");
    }
    if (expansion->n_expert < expansion->n_expert_in) {
        expansion->n_expert = expansion->n_expert_in; // deepseek2 has 64, and its loader wants them
    }
    expansion->out = gguf_file_writer_new(path);
    if (expansion->out == NULL) {
        return fail(expansion, "no memory", "");
    }
    if (!write_keys(expansion) || !add_tensors(expansion)) {
        gguf_file_writer_discard(expansion->out);
        return false;
    }
    if (!write_tensors(expansion)) {
        gguf_file_writer_discard(expansion->out);
        return false;
    }
    char error[1024];
    if (!gguf_file_writer_finish(expansion->out, error, sizeof(error))) {
        fprintf(stderr, "expand-experts: %s\n", error);
        return false;
    }
    return true;
}

static bool read_count(int argc, char ** argv, int i, uint64_t otherwise, uint64_t * count) {
    *count = otherwise;
    if (i >= argc) {
        return true;
    }
    char * end = argv[i];
    errno  = 0;
    *count = strtoull(argv[i], &end, 10);
    return errno == 0 && end != argv[i] && *end == 0 && argv[i][0] != '-';
}

int main(int argc, char ** argv) {
    uint64_t n_expert;
    uint64_t top_k;
    uint64_t seed;
    if (argc < 3 || argc > 6
            || !read_count(argc, argv, 3, DEFAULT_N_EXPERT, &n_expert) || n_expert > 4096
            || !read_count(argc, argv, 4, DEFAULT_TOP_K,    &top_k)    || top_k == 0 || top_k > n_expert
            || !read_count(argc, argv, 5, DEFAULT_SEED,     &seed)) {
        fprintf(stderr, "usage: expand-experts IN.gguf OUT.gguf [N_EXPERT=%d] [TOP_K=%d] [SEED=%d]\n", DEFAULT_N_EXPERT,
                DEFAULT_TOP_K, DEFAULT_SEED);
        return 2;
    }
    char               error[1024];
    struct gguf_file * in = gguf_file_open(argv[1], error, sizeof(error));
    if (in == NULL) {
        fprintf(stderr, "expand-experts: %s\n", error);
        return 1;
    }
    struct expansion expansion = { .in = in, .n_expert = (uint32_t) n_expert, .top_k = (uint32_t) top_k, .seed = seed };
    const bool       done      = expand(&expansion, argv[2]);
    gguf_file_close(in);
    return done ? 0 : 1;
}
