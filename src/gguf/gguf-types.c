// Sizes of values and of ggml types, and shapes of tensors.

#include "gguf/gguf-types.h"

#include <stdio.h>

size_t gguf_file_value_size(uint32_t type) {
    switch (type) {
        case GGUF_FILE_U8:
        case GGUF_FILE_I8:
        case GGUF_FILE_BOOL: return 1;
        case GGUF_FILE_U16:
        case GGUF_FILE_I16:  return 2;
        case GGUF_FILE_U32:
        case GGUF_FILE_I32:
        case GGUF_FILE_F32:  return 4;
        case GGUF_FILE_U64:
        case GGUF_FILE_I64:
        case GGUF_FILE_F64:  return 8;
        default:             return 0;
    }
}

struct tensor_type {
    const char * name;
    uint32_t     n_block; // elements
    uint32_t     nbytes;  // of a block
};

static const struct tensor_type tensor_types[] = {
    [ 0] = { "f32",       1,   4 },
    [ 1] = { "f16",       1,   2 },
    [ 2] = { "q4_0",     32,  18 },
    [ 3] = { "q4_1",     32,  20 },
    [ 6] = { "q5_0",     32,  22 },
    [ 7] = { "q5_1",     32,  24 },
    [ 8] = { "q8_0",     32,  34 },
    [ 9] = { "q8_1",     32,  36 },
    [10] = { "q2_K",    256,  84 },
    [11] = { "q3_K",    256, 110 },
    [12] = { "q4_K",    256, 144 },
    [13] = { "q5_K",    256, 176 },
    [14] = { "q6_K",    256, 210 },
    [15] = { "q8_K",    256, 292 },
    [16] = { "iq2_xxs", 256,  66 },
    [17] = { "iq2_xs",  256,  74 },
    [18] = { "iq3_xxs", 256,  98 },
    [19] = { "iq1_s",   256,  50 },
    [20] = { "iq4_nl",   32,  18 },
    [21] = { "iq3_s",   256, 110 },
    [22] = { "iq2_s",   256,  82 },
    [23] = { "iq4_xs",  256, 136 },
    [24] = { "i8",        1,   1 },
    [25] = { "i16",       1,   2 },
    [26] = { "i32",       1,   4 },
    [27] = { "i64",       1,   8 },
    [28] = { "f64",       1,   8 },
    [29] = { "iq1_m",   256,  56 },
    [30] = { "bf16",      1,   2 },
    [34] = { "tq1_0",   256,  54 },
    [35] = { "tq2_0",   256,  66 },
    [39] = { "mxfp4",    32,  17 },
    [40] = { "nvfp4",    64,  36 },
    [41] = { "q1_0",    128,  18 },
    [42] = { "q2_0",     64,  18 },
};

static const struct tensor_type * find_tensor_type(uint32_t type) {
    if (type >= sizeof(tensor_types)/sizeof(tensor_types[0]) || tensor_types[type].name == NULL) {
        return NULL;
    }
    return &tensor_types[type];
}

const char * gguf_file_tensor_type_name(uint32_t type) {
    const struct tensor_type * found = find_tensor_type(type);
    return found == NULL ? NULL : found->name;
}

uint64_t gguf_file_n_elements(const struct gguf_file_tensor * tensor) {
    return tensor->ne[0]*tensor->ne[1]*tensor->ne[2]*tensor->ne[3];
}

const char * gguf_file_shape_tensor(struct gguf_file_tensor * tensor) {
    if (tensor->n_dims > GGUF_FILE_MAX_DIMS) {
        return "has more than 4 dimensions";
    }
    const struct tensor_type * type = find_tensor_type(tensor->type);
    if (type == NULL) {
        return "has a type that is not known here";
    }
    uint64_t n_elements = 1;
    for (uint32_t i = 0; i < GGUF_FILE_MAX_DIMS; i++) {
        if (i >= tensor->n_dims) {
            tensor->ne[i] = 1;
        }
        if (tensor->ne[i] > INT64_MAX || (tensor->ne[i] > 0 && n_elements > INT64_MAX/8/tensor->ne[i])) {
            return "is too large";
        }
        n_elements *= tensor->ne[i];
    }
    if (tensor->ne[0] % type->n_block != 0) {
        return "has rows that are no multiple of their type's block";
    }
    tensor->nbytes = n_elements/type->n_block*type->nbytes;
    return NULL;
}

uint64_t gguf_file_align(uint64_t n, uint64_t alignment) {
    return (n + alignment - 1)/alignment*alignment;
}

void gguf_file_explain(char * error, size_t n_error, const char * path, const char * format, va_list args) {
    if (error == NULL || n_error == 0) {
        return;
    }
    const int n = snprintf(error, n_error, "%s: ", path);
    if (n > 0 && (size_t) n < n_error) {
        vsnprintf(error + n, n_error - (size_t) n, format, args);
    }
}
