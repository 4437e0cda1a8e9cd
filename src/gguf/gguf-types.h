// What GGUF files consist of: a list of keys with typed values, a list of tensors with name, type and shape, and then
// the tensors' data.
//
//   - Sizes and offsets are bytes. Shapes are counted in elements, the dimension that lies together in memory first.
//   - Everything is little-endian, and so are the machines this runs on.

#pragma once

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#define GGUF_FILE_MAGIC         "GGUF"
#define GGUF_FILE_VERSION       3
#define GGUF_FILE_ALIGNMENT     32 // of tensor data, where the file does not say otherwise
#define GGUF_FILE_ALIGNMENT_KEY "general.alignment"
#define GGUF_FILE_MAX_DIMS      4

// the numbers are the format's
enum gguf_file_value_type {
    GGUF_FILE_U8     = 0,
    GGUF_FILE_I8     = 1,
    GGUF_FILE_U16    = 2,
    GGUF_FILE_I16    = 3,
    GGUF_FILE_U32    = 4,
    GGUF_FILE_I32    = 5,
    GGUF_FILE_F32    = 6,
    GGUF_FILE_BOOL   = 7,
    GGUF_FILE_STRING = 8,
    GGUF_FILE_ARRAY  = 9,
    GGUF_FILE_U64    = 10,
    GGUF_FILE_I64    = 11,
    GGUF_FILE_F64    = 12,
};

// the numbers are ggml's; gguf_file_tensor_type_name knows the others too
enum gguf_file_tensor_type {
    GGUF_FILE_TENSOR_F32  = 0,
    GGUF_FILE_TENSOR_F16  = 1,
    GGUF_FILE_TENSOR_I32  = 26,
    GGUF_FILE_TENSOR_I64  = 27,
    GGUF_FILE_TENSOR_F64  = 28,
    GGUF_FILE_TENSOR_BF16 = 30,
};

struct gguf_file_tensor {
    const char * name;
    uint32_t     type;                   // as in enum gguf_file_tensor_type
    uint32_t     n_dims;
    uint64_t     ne[GGUF_FILE_MAX_DIMS]; // elements per dimension, 1 behind the last one
    uint64_t     offset;                 // of the data, from the beginning of the tensor data, also of a writer's
    uint64_t     nbytes;
};

const char * gguf_file_tensor_type_name(uint32_t type); // "f32", "q4_0", …; NULL for a type that is not known
uint64_t     gguf_file_n_elements      (const struct gguf_file_tensor * tensor);

//
// for reader and writer
//

size_t   gguf_file_value_size(uint32_t type); // 0 for strings, arrays and what is no type of a value
uint64_t gguf_file_align     (uint64_t n, uint64_t alignment);

// Fills in nbytes, and ne behind n_dims. NULL, or what is wrong with the shape.
const char * gguf_file_shape_tensor(struct gguf_file_tensor * tensor);

// "PATH: MESSAGE", as much of it as there is room for; error may be NULL.
void gguf_file_explain(char * error, size_t n_error, const char * path, const char * format, va_list args)
    __attribute__((format(printf, 4, 0)));
