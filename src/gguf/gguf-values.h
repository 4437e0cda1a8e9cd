// Keys of an open GGUF file (gguf-reader.h) and their values.

#pragma once

#include "gguf/gguf-types.h"

#include <stdbool.h>

struct gguf_file; // open for reading

size_t                    gguf_file_n_keys    (const struct gguf_file * file);
int64_t                   gguf_file_find_key  (const struct gguf_file * file, const char * key); // -1: there is none
const char *              gguf_file_key       (const struct gguf_file * file, size_t i_key);
enum gguf_file_value_type gguf_file_value_type(const struct gguf_file * file, size_t i_key);

// How many elements an array has, and of which type. A value that is no array counts as one of its own type.
size_t                    gguf_file_n_values    (const struct gguf_file * file, size_t i_key);
enum gguf_file_value_type gguf_file_element_type(const struct gguf_file * file, size_t i_key);

// The value as the file has it, from its type on.
const void * gguf_file_encoded(const struct gguf_file * file, size_t i_key, size_t * size);

// One element of an array (of a plain value: index 0). False, and *value untouched, when there is no such key or
// element (i_key may be what gguf_file_find_key answered) or it is of another kind. Integers of every width and
// bools are integers as long as they fit; integers and floats of both widths are floats.
bool gguf_file_value_u64   (const struct gguf_file * file, int64_t i_key, size_t i, uint64_t * value);
bool gguf_file_value_i64   (const struct gguf_file * file, int64_t i_key, size_t i, int64_t  * value);
bool gguf_file_value_f64   (const struct gguf_file * file, int64_t i_key, size_t i, double   * value);
bool gguf_file_value_bool  (const struct gguf_file * file, int64_t i_key, size_t i, bool     * value);
// NUL-terminated; size (may be NULL) tells of strings that hold a NUL themselves
bool gguf_file_value_string(const struct gguf_file * file, int64_t i_key, size_t i, const char ** value,
                            size_t * size);

// The same by name, for values that are no arrays.
bool gguf_file_get_u32   (const struct gguf_file * file, const char * key, uint32_t    * value);
bool gguf_file_get_u64   (const struct gguf_file * file, const char * key, uint64_t    * value);
bool gguf_file_get_i64   (const struct gguf_file * file, const char * key, int64_t     * value);
bool gguf_file_get_f64   (const struct gguf_file * file, const char * key, double      * value);
bool gguf_file_get_bool  (const struct gguf_file * file, const char * key, bool        * value);
bool gguf_file_get_string(const struct gguf_file * file, const char * key, const char ** value);
