// GGUF files of version 3, written.
//
// Keys and tensors first, in any order, then data, in any order, then finish. The file appears under its name when it
// is finished, whole or not at all; until then it is PATH.tmp-<pid>-<n> beside it. Data that was never written reads
// as zeros and takes no space: the file has a hole there.
//
// The first failure is kept, everything after it does nothing, and finish tells: no call in between needs a look.

#pragma once

#include "gguf/gguf-types.h"

#include <stdbool.h>

struct gguf_file;        // gguf-reader.h
struct gguf_file_writer; // a file on its way

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
void gguf_file_writer_set_array (struct gguf_file_writer * writer, const char * key, enum gguf_file_value_type type,
                                 const void * values, size_t n);

// The same key and value as another file has.
void gguf_file_writer_copy_key  (struct gguf_file_writer * writer, const struct gguf_file * file, size_t i_key);

// The tensor's index, -1 after a failure. 64 bytes of name at most, as in ggml, the NUL included.
int64_t                         gguf_file_writer_add_tensor(struct gguf_file_writer * writer, const char * name,
                                                            uint32_t type, uint32_t n_dims, const uint64_t * ne);
// What the tensor is, offset and size included, until the next one is added; NULL for -1.
const struct gguf_file_tensor * gguf_file_writer_tensor    (const struct gguf_file_writer * writer, int64_t i_tensor);

// Data of a tensor, size bytes from its byte offset on. The first one ends the time of keys and tensors.
void gguf_file_writer_write(struct gguf_file_writer * writer, int64_t i_tensor, uint64_t offset, const void * data,
                            size_t size);
