#pragma once

// GGUF files, read and written.
//
// A GGUF file is a list of keys with typed values, a list of tensors with name, type and shape, and then the
// tensors' data. What is here reads versions 2 and 3 and writes version 3, little-endian, on little-endian machines.
//
//   - Sizes and offsets are bytes. Shapes are counted in elements, the dimension that lies together in memory first.
//   - A function that can fail returns false, NULL or -1, and says in one line which file, what is wrong with it.
//   - A reader may be used by several threads at once: nothing changes after it was opened. A writer belongs to one.
//   - What a reader hands out (keys, strings, arrays, tensor data) is the reader's, and lives until it is closed.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GGUF_FILE_MAX_DIMS 4

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

// the numbers are ggml's; types that are not named here are known to gguf_file_tensor_type_name all the same
enum gguf_file_tensor_type {
    GGUF_FILE_TENSOR_F32  = 0,
    GGUF_FILE_TENSOR_F16  = 1,
    GGUF_FILE_TENSOR_I32  = 26,
    GGUF_FILE_TENSOR_I64  = 27,
    GGUF_FILE_TENSOR_F64  = 28,
    GGUF_FILE_TENSOR_BF16 = 30,
};

struct gguf_file;        // a file open for reading
struct gguf_file_writer; // a file on its way

struct gguf_file_tensor {
    const char * name;
    uint32_t     type;                   // as in enum gguf_file_tensor_type
    uint32_t     n_dims;
    uint64_t     ne[GGUF_FILE_MAX_DIMS]; // elements per dimension, 1 behind the last one
    uint64_t     offset;                 // of the data, from the beginning of the tensor data (where a writer starts to count too)
    uint64_t     nbytes;
    const void * data;                   // NULL while writing; aligned as the file says, commonly to 32
};

//
// reading
//

// Opens and checks the whole header: every key, every shape, and that the data of every tensor lies in the file.
// The file is mapped, not read: who shortens it while it is open gets a SIGBUS, as with any mapping.
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

//
// tensor types
//

const char * gguf_file_tensor_type_name(uint32_t type); // "f32", "q4_0", …; NULL for a type that is not known
// bytes of a row of n elements; 0 for a type that is not known and a row that is no multiple of its block
uint64_t     gguf_file_row_size        (uint32_t type, uint64_t n);
uint64_t     gguf_file_n_elements      (const struct gguf_file_tensor * tensor);

//
// writing
//
// Keys and tensors first, in any order, then data, in any order, then finish. The file appears under its name when it
// is finished, whole or not at all; until then it is PATH.tmp-<pid>-<n> beside it. Data that was never written reads
// as zeros and takes no space: the file has a hole there.
//
// The first failure is kept, everything after it does nothing, and finish tells: no call in between needs a look.
//

// NULL only when there is no memory for the writer itself
struct gguf_file_writer * gguf_file_writer_new(const char * path);
// True when the file is there under its name. The writer is gone either way; error as in gguf_file_open.
bool gguf_file_writer_finish(struct gguf_file_writer * writer, char * error, size_t n_error);
// Leaves nothing behind. NULL is fine.
void gguf_file_writer_discard(struct gguf_file_writer * writer);

// A key that is there already is replaced in its place.
void gguf_file_writer_set_u8    (struct gguf_file_writer * writer, const char * key, uint8_t      value);
void gguf_file_writer_set_i8    (struct gguf_file_writer * writer, const char * key, int8_t       value);
void gguf_file_writer_set_u16   (struct gguf_file_writer * writer, const char * key, uint16_t     value);
void gguf_file_writer_set_i16   (struct gguf_file_writer * writer, const char * key, int16_t      value);
void gguf_file_writer_set_u32   (struct gguf_file_writer * writer, const char * key, uint32_t     value);
void gguf_file_writer_set_i32   (struct gguf_file_writer * writer, const char * key, int32_t      value);
void gguf_file_writer_set_u64   (struct gguf_file_writer * writer, const char * key, uint64_t     value);
void gguf_file_writer_set_i64   (struct gguf_file_writer * writer, const char * key, int64_t      value);
void gguf_file_writer_set_f32   (struct gguf_file_writer * writer, const char * key, float        value);
void gguf_file_writer_set_f64   (struct gguf_file_writer * writer, const char * key, double       value);
void gguf_file_writer_set_bool  (struct gguf_file_writer * writer, const char * key, bool         value);
void gguf_file_writer_set_string(struct gguf_file_writer * writer, const char * key, const char * value);

// values: n elements as C holds them, for strings n pointers to NUL-terminated ones, for bools n bytes of 0 or 1
void gguf_file_writer_set_array (struct gguf_file_writer * writer, const char * key, enum gguf_file_value_type type, const void * values, size_t n);

// The same key and value as another file has.
void gguf_file_writer_copy_key  (struct gguf_file_writer * writer, const struct gguf_file * file, size_t i_key);
void gguf_file_writer_remove_key(struct gguf_file_writer * writer, const char * key); // none: fine

// The tensor's index, -1 after a failure. 64 bytes of name at most, as in ggml, the NUL included.
int64_t                         gguf_file_writer_add_tensor(struct gguf_file_writer * writer, const char * name, uint32_t type, uint32_t n_dims, const uint64_t * ne);
// What the tensor is, offset and size included, until the next one is added; NULL for -1.
const struct gguf_file_tensor * gguf_file_writer_tensor    (const struct gguf_file_writer * writer, int64_t i_tensor);

// Data of a tensor, size bytes from its byte offset on. The first one ends the time of keys and tensors.
void gguf_file_writer_write(struct gguf_file_writer * writer, int64_t i_tensor, uint64_t offset, const void * data, size_t size);
