// GGUF files of versions 2 and 3, read.
//
//   - A function that can fail returns false, NULL or -1.
//   - A file may be read by several threads at once: nothing changes after it was opened.
//   - What is handed out (keys, strings, arrays, tensors) is the file's, and lives until it is closed.

#pragma once

#include "gguf/gguf-types.h"

#include <stdbool.h>

struct gguf_file; // open for reading

// Opens and checks the whole header: every key, every shape, and that the data of every tensor lies in the file.
// The data of tensors is read when it is asked for: whatever becomes of the file while it is open, nothing worse happens
// than that gguf_file_read() fails.
// NULL when it cannot be opened or is not a whole GGUF file; error then holds why (may be NULL, n_error its size).
struct gguf_file * gguf_file_open (const char * path, char * error, size_t n_error);
void               gguf_file_close(struct gguf_file * file); // NULL is fine

const char * gguf_file_path(const struct gguf_file * file);

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
bool gguf_file_value_string(const struct gguf_file * file, int64_t i_key, size_t i, const char ** value, size_t * size);

// The same by name, for values that are no arrays.
bool gguf_file_get_u32   (const struct gguf_file * file, const char * key, uint32_t    * value);
bool gguf_file_get_u64   (const struct gguf_file * file, const char * key, uint64_t    * value);
bool gguf_file_get_i64   (const struct gguf_file * file, const char * key, int64_t     * value);
bool gguf_file_get_f64   (const struct gguf_file * file, const char * key, double      * value);
bool gguf_file_get_bool  (const struct gguf_file * file, const char * key, bool        * value);
bool gguf_file_get_string(const struct gguf_file * file, const char * key, const char ** value);

size_t                          gguf_file_n_tensors  (const struct gguf_file * file);
const struct gguf_file_tensor * gguf_file_tensor     (const struct gguf_file * file, size_t i_tensor);
const struct gguf_file_tensor * gguf_file_find_tensor(const struct gguf_file * file, const char * name); // NULL: there is none

// Reads a part of a tensor's data. False where the file does not have it, any more, or cannot be read.
bool gguf_file_read(const struct gguf_file * file, const struct gguf_file_tensor * tensor, uint64_t offset, void * data,
                    size_t size);
