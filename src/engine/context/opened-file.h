// The model files that the engine has opened. They are all that is known of the models of a program that fetched
// llama.cpp's functions with dlsym: libllama itself calls libggml to open them.

#pragma once

#include "engine/upstream/layers.h"
#include "engine/upstream/real.h"

struct opened_file {
    char              * path;
    char                name        [256]; // empty: not told
    char                architecture[ 64];
    int32_t             n_layer;           // without a multi-token-prediction head
    int32_t             n_expert;
    int32_t             n_used;
    struct file_tensor * tensors;          // [n_tensors] those that stack experts
    int                 n_tensors;
    struct opened_file * next;
};

// The engine opened a file. Files without experts are not kept; a part of a model that is split into several files is.
void opened_file_add(const struct real * real, const struct gguf_context * gguf, const char * path);

// The only model with experts that was opened so far. NULL: there is none, or no telling which one is meant.
const struct opened_file * opened_file_only(void);

// The only one of this name and architecture, likewise.
const struct opened_file * opened_file_called(const char * name, const char * architecture);

// Finds the tensors that stack a layer's experts in the file of this path, or in the parts that the model is split
// into. Returns how many are written to `tensors`, at most `max`; 0 where that, or the number of experts, is not known.
int opened_file_tensors(const char * path, int32_t layer, struct file_tensor * tensors, int max, int32_t * n_expert);

// In the child of a fork: forgets everything without touching it.
void opened_file_forget_all(void);
