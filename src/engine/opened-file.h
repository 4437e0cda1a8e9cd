// The model files that the engine has opened. They are all that is known of the models of a program that fetched
// llama.cpp's functions with dlsym: libllama itself calls libggml to open them.

#ifndef ENGINE_OPENED_FILE_H
#define ENGINE_OPENED_FILE_H

#include "real.h"

struct opened_file {
    char              * path;
    char                name        [256]; // empty: not told
    char                architecture[ 64];
    int32_t             n_layer;           // without a multi-token-prediction head
    int32_t             n_expert;
    int32_t             n_used;
    struct opened_file * next;
};

// The engine opened a file. Files without experts are not kept.
void opened_file_add(const struct real * real, const struct gguf_context * gguf, const char * path);

// The only model with experts that was opened so far. NULL: there is none, or no telling which one is meant.
const struct opened_file * opened_file_only(void);

// In the child of a fork: forgets everything without touching it.
void opened_file_forget_all(void);

#endif // ENGINE_OPENED_FILE_H
