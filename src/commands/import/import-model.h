// The model of what is imported, as a GGUF file tells of it that --model names.

#pragma once

#include "tool/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct import_model_layer {
    int32_t  layer;
    uint64_t expert_bytes; // of one expert, in all of its tensors
};

struct import_model {
    const char                * path;
    char                      * name;         // NULL: it has none
    char                      * architecture; // likewise
    int32_t                     n_layer;      // without a multi-token-prediction head, 0: not known
    int32_t                     n_expert;
    int32_t                     n_used;       // top-k, 0: not known
    struct import_model_layer * layers;       // with experts, ascending
    size_t                      n_layers;     // 0: of a model in several files
};

// Whether --model names a file rather than a model: it ends in .gguf, or is there and is GGUF.
bool import_model_is_file(const char * text);

// Keeps `path`. NULL, and why, where it is not the GGUF file of a Mixture-of-Experts model.
struct import_model * import_model_open(const char * path, struct error * error);
void                  import_model_free(struct import_model * model); // NULL is fine
