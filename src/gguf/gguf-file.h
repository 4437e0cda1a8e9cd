// A GGUF file that is open: what gguf-reader.c read of it, for gguf-values.c to look things up in. Private to the two.

#pragma once

#include "gguf/gguf-types.h"

#include <stddef.h>
#include <stdint.h>

struct gguf_string {
    const char * text;
    size_t       size;
};

struct gguf_key {
    char *                    key;
    enum gguf_file_value_type type;
    enum gguf_file_value_type element_type;
    size_t                    n_values;
    const uint8_t *           values;   // in the file's beginning, not aligned
    struct gguf_string *      strings;  // of a string or an array of strings, their text behind them
    const uint8_t *           encoded;  // from the value's type on
    size_t                    n_encoded;
};

struct gguf_file {
    char *                    path;
    int                       fd;
    uint64_t                  size;
    uint8_t *                 beginning; // all that comes before the data of the tensors

    struct gguf_key *         keys;
    size_t                    n_keys;
    struct gguf_file_tensor * tensors;
    size_t                    n_tensors;
    const struct gguf_file_tensor ** by_name; // those of one name in their order
    uint64_t                  data;      // where that of the tensors begins
};
