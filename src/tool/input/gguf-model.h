// A Mixture-of-Experts model, as its GGUF file describes it: its shape, and the bytes of its experts.

#pragma once

#include "tool/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define GGUF_MODEL_TENSORS_MAX 4 // of a layer's experts

struct gguf_model_layer {
    int32_t  layer;
    uint64_t expert_bytes; // of one expert, in all of its tensors
    size_t   n_tensors;
    uint64_t tensor_bytes[GGUF_MODEL_TENSORS_MAX]; // of one expert in each, in the order of the file
};

struct gguf_model {
    const char              * path;
    char                    * name;         // NULL: it has none
    char                    * architecture; // likewise
    int32_t                   n_layer;      // without a multi-token-prediction head, 0: not known
    int32_t                   n_expert;
    int32_t                   n_used;       // top-k, 0: not known
    struct gguf_model_layer * layers;       // with experts, ascending
    size_t                    n_layers;     // 0: of a model in several files
};

// Whether a text names a file rather than a model: it ends in .gguf, or is there and is GGUF.
bool gguf_model_is_file(const char * text);

// Keeps `path`. NULL, and why, where it is not the GGUF file of a Mixture-of-Experts model.
struct gguf_model * gguf_model_open(const char * path, struct error * error);

// The same of what a process of `user` says that its model's file is; NULL: it does not. It is read where that is a
// process of this user: others could name any file.
struct gguf_model * gguf_model_open_named(const char * path, uid_t user);

void gguf_model_free(struct gguf_model * model); // NULL is fine
