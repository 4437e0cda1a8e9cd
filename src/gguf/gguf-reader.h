// GGUF files of versions 2 and 3, read.
//
//   - A function that can fail returns false, NULL or -1.
//   - A file may be read by several threads at once: nothing changes after it was opened.
//   - What is handed out (keys, strings, arrays, tensors) is the file's, and lives until it is closed.

#pragma once

#include "gguf/gguf-types.h"
#include "gguf/gguf-values.h"

#include <stdbool.h>

// Opens and checks the whole header: every key, every shape, and that the data of every tensor lies in the file.
// The data of tensors is read when it is asked for: whatever becomes of the file while it is open, nothing worse
// happens than that gguf_file_read() fails. NULL when it cannot be opened or is not a whole GGUF file; error then
// holds why (may be NULL, n_error its size).
struct gguf_file * gguf_file_open (const char * path, char * error, size_t n_error);
void               gguf_file_close(struct gguf_file * file); // NULL is fine

const char * gguf_file_path(const struct gguf_file * file);

size_t                          gguf_file_n_tensors  (const struct gguf_file * file);
const struct gguf_file_tensor * gguf_file_tensor     (const struct gguf_file * file, size_t i_tensor);
// NULL: there is none.
const struct gguf_file_tensor * gguf_file_find_tensor(const struct gguf_file * file, const char * name);

// Reads a part of a tensor's data. False where the file does not have it, any more, or cannot be read.
bool gguf_file_read(const struct gguf_file * file, const struct gguf_file_tensor * tensor, uint64_t offset,
                    void * data, size_t size);
