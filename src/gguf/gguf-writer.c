// Lays out keys and tensors in memory, and writes them and the data to a file beside the one that is wanted.

#include "gguf/gguf-writer.h"

#include "gguf/gguf-reader.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_NAME   64 // GGML_MAX_NAME
#define ROOM_ASIDE 64 // of what is put behind the path of a file on its way

struct buffer {
    uint8_t * data;
    size_t    size;
    size_t    capacity;
    bool      failed; // there was no memory
};

static void buffer_add(struct buffer * buffer, const void * data, size_t size) {
    if (buffer->failed || size == 0) {
        return;
    }
    if (size > buffer->capacity - buffer->size) {
        const size_t capacity = 2*(buffer->size + size);
        uint8_t *    grown    = realloc(buffer->data, capacity);
        if (grown == NULL) {
            buffer->failed = true;
            return;
        }
        buffer->data     = grown;
        buffer->capacity = capacity;
    }
    memcpy(buffer->data + buffer->size, data, size);
    buffer->size += size;
}

static void buffer_add_u32(struct buffer * buffer, uint32_t value) {
    buffer_add(buffer, &value, sizeof(value));
}

static void buffer_add_u64(struct buffer * buffer, uint64_t value) {
    buffer_add(buffer, &value, sizeof(value));
}

static void buffer_add_string(struct buffer * buffer, const char * text) {
    buffer_add_u64(buffer, strlen(text));
    buffer_add    (buffer, text, strlen(text));
}

struct written_key {
    char *        key;
    struct buffer encoded; // from the value's type on
};

struct gguf_file_writer {
    char *                    path;
    char *                    path_aside; // where it is written until it is whole
    int                       fd;         // -1 while keys and tensors are added
    bool                      failed;
    char                      error[512]; // the first failure

    struct written_key *      keys;
    size_t                    n_keys;
    struct gguf_file_tensor * tensors;
    size_t                    n_tensors;
    uint64_t                  data;       // where the tensor data begins in the file
    uint64_t                  n_data;
};

__attribute__((format(printf, 2, 3)))
static void writer_fail(struct gguf_file_writer * writer, const char * format, ...) {
    if (writer->failed) {
        return;
    }
    writer->failed = true;
    va_list args;
    va_start(args, format);
    gguf_file_explain(writer->error, sizeof(writer->error), writer->path, format, args);
    va_end(args);
}

struct gguf_file_writer * gguf_file_writer_new(const char * path) {
    struct gguf_file_writer * writer = calloc(1, sizeof(*writer));
    if (writer == NULL) {
        return NULL;
    }
    writer->fd         = -1;
    writer->path       = strdup(path);
    writer->path_aside = calloc(1, strlen(path) + ROOM_ASIDE);
    if (writer->path == NULL || writer->path_aside == NULL) {
        gguf_file_writer_discard(writer);
        return NULL;
    }
    return writer;
}

// The n items with room for one more, NULL when there is no memory for it. The room is always a power of two.
static void * grow(void * items, size_t n, size_t item_size) {
    const bool full = (n & (n - 1)) == 0;
    return full ? realloc(items, (n == 0 ? 1 : 2*n)*item_size) : items;
}

static bool writer_takes_header(struct gguf_file_writer * writer, const char * what) {
    if (!writer->failed && writer->fd >= 0) {
        writer_fail(writer, "%s comes after the first data", what);
    }
    return !writer->failed;
}

static int64_t writer_find_key(const struct gguf_file_writer * writer, const char * key) {
    for (size_t i = 0; i < writer->n_keys; i++) {
        if (strcmp(writer->keys[i].key, key) == 0) {
            return (int64_t) i;
        }
    }
    return -1;
}

// Takes what is encoded.
static void writer_set(struct gguf_file_writer * writer, const char * key, struct buffer encoded) {
    if (encoded.failed) {
        writer_fail(writer, "no memory for %s", key);
    }
    // our own alignment is the one the file gets
    if (!writer_takes_header(writer, key) || strcmp(key, GGUF_FILE_ALIGNMENT_KEY) == 0) {
        free(encoded.data);
        return;
    }
    const int64_t i_key = writer_find_key(writer, key);
    if (i_key >= 0) {
        free(writer->keys[i_key].encoded.data);
        writer->keys[i_key].encoded = encoded;
        return;
    }
    struct written_key * keys = grow(writer->keys, writer->n_keys, sizeof(*keys));
    if (keys != NULL) {
        writer->keys = keys;
    }
    char * copy = strdup(key);
    if (keys == NULL || copy == NULL) {
        writer_fail(writer, "no memory for %s", key);
        free(copy);
        free(encoded.data);
        return;
    }
    writer->keys[writer->n_keys++] = (struct written_key) { copy, encoded };
}

static void writer_set_scalar(struct gguf_file_writer * writer, const char * key, enum gguf_file_value_type type,
                              const void * value) {
    struct buffer encoded = { 0 };
    buffer_add_u32(&encoded, type);
    buffer_add    (&encoded, value, gguf_file_value_size(type));
    writer_set(writer, key, encoded);
}

void gguf_file_writer_set_u8(struct gguf_file_writer * writer, const char * key, uint8_t value) {
    writer_set_scalar(writer, key, GGUF_FILE_U8, &value);
}

void gguf_file_writer_set_i8(struct gguf_file_writer * writer, const char * key, int8_t value) {
    writer_set_scalar(writer, key, GGUF_FILE_I8, &value);
}

void gguf_file_writer_set_u16(struct gguf_file_writer * writer, const char * key, uint16_t value) {
    writer_set_scalar(writer, key, GGUF_FILE_U16, &value);
}

void gguf_file_writer_set_i16(struct gguf_file_writer * writer, const char * key, int16_t value) {
    writer_set_scalar(writer, key, GGUF_FILE_I16, &value);
}

void gguf_file_writer_set_u32(struct gguf_file_writer * writer, const char * key, uint32_t value) {
    writer_set_scalar(writer, key, GGUF_FILE_U32, &value);
}

void gguf_file_writer_set_i32(struct gguf_file_writer * writer, const char * key, int32_t value) {
    writer_set_scalar(writer, key, GGUF_FILE_I32, &value);
}

void gguf_file_writer_set_u64(struct gguf_file_writer * writer, const char * key, uint64_t value) {
    writer_set_scalar(writer, key, GGUF_FILE_U64, &value);
}

void gguf_file_writer_set_i64(struct gguf_file_writer * writer, const char * key, int64_t value) {
    writer_set_scalar(writer, key, GGUF_FILE_I64, &value);
}

void gguf_file_writer_set_f32(struct gguf_file_writer * writer, const char * key, float value) {
    writer_set_scalar(writer, key, GGUF_FILE_F32, &value);
}

void gguf_file_writer_set_f64(struct gguf_file_writer * writer, const char * key, double value) {
    writer_set_scalar(writer, key, GGUF_FILE_F64, &value);
}

void gguf_file_writer_set_bool(struct gguf_file_writer * writer, const char * key, bool value) {
    const uint8_t byte = value;
    writer_set_scalar(writer, key, GGUF_FILE_BOOL, &byte);
}

void gguf_file_writer_set_string(struct gguf_file_writer * writer, const char * key, const char * value) {
    struct buffer encoded = { 0 };
    buffer_add_u32   (&encoded, GGUF_FILE_STRING);
    buffer_add_string(&encoded, value);
    writer_set(writer, key, encoded);
}

void gguf_file_writer_set_array(struct gguf_file_writer * writer, const char * key, enum gguf_file_value_type type,
                                const void * values, size_t n) {
    struct buffer encoded = { 0 };
    buffer_add_u32(&encoded, GGUF_FILE_ARRAY);
    buffer_add_u32(&encoded, type);
    buffer_add_u64(&encoded, n);
    if (type == GGUF_FILE_STRING) {
        const char * const * strings = values;
        for (size_t i = 0; i < n; i++) {
            buffer_add_string(&encoded, strings[i]);
        }
    } else if (gguf_file_value_size(type) > 0) {
        buffer_add(&encoded, values, n*gguf_file_value_size(type));
    } else {
        writer_fail(writer, "%s: an array cannot hold values of type %d", key, (int) type);
    }
    writer_set(writer, key, encoded);
}

void gguf_file_writer_copy_key(struct gguf_file_writer * writer, const struct gguf_file * file, size_t i_key) {
    struct buffer encoded = { 0 };
    size_t        size;
    const void *  value   = gguf_file_encoded(file, i_key, &size);
    buffer_add(&encoded, value, size);
    writer_set(writer, gguf_file_key(file, i_key), encoded);
}

int64_t gguf_file_writer_add_tensor(struct gguf_file_writer * writer, const char * name, uint32_t type,
                                    uint32_t n_dims, const uint64_t * ne) {
    if (!writer_takes_header(writer, name)) {
        return -1;
    }
    struct gguf_file_tensor tensor = {
        .type = type, .n_dims = n_dims, .offset = gguf_file_align(writer->n_data, GGUF_FILE_ALIGNMENT),
    };
    for (uint32_t i = 0; i < n_dims && i < GGUF_FILE_MAX_DIMS; i++) {
        tensor.ne[i] = ne[i];
    }
    const char * wrong = gguf_file_shape_tensor(&tensor);
    if (wrong == NULL && strlen(name) >= MAX_NAME) {
        wrong = "has too long a name";
    }
    if (wrong == NULL && tensor.nbytes > INT64_MAX/4 - tensor.offset) {
        wrong = "is too large";
    }
    if (wrong != NULL) {
        writer_fail(writer, "tensor %s %s", name, wrong);
        return -1;
    }
    struct gguf_file_tensor * tensors = grow(writer->tensors, writer->n_tensors, sizeof(*tensors));
    if (tensors != NULL) {
        writer->tensors = tensors;
    }
    char * copy = strdup(name);
    if (tensors == NULL || copy == NULL) {
        writer_fail(writer, "no memory for tensor %s", name);
        free(copy);
        return -1;
    }
    tensor.name    = copy;
    writer->n_data = tensor.offset + tensor.nbytes;
    writer->tensors[writer->n_tensors] = tensor;
    return (int64_t) writer->n_tensors++;
}

const struct gguf_file_tensor * gguf_file_writer_tensor(const struct gguf_file_writer * writer, int64_t i_tensor) {
    return i_tensor < 0 || (uint64_t) i_tensor >= writer->n_tensors ? NULL : &writer->tensors[i_tensor];
}

static void writer_put(struct gguf_file_writer * writer, uint64_t offset, const void * bytes, size_t size) {
    const uint8_t * data = bytes;
    while (size > 0 && !writer->failed) {
        const ssize_t n = pwrite(writer->fd, data, size, (off_t) offset);
        if (n < 0 && errno != EINTR) {
            writer_fail(writer, "cannot be written: %s", strerror(errno));
        } else if (n > 0) {
            data   += n;
            size   -= (size_t) n;
            offset += (uint64_t) n;
        }
    }
}

static void writer_open_aside(struct gguf_file_writer * writer) {
    for (int i = 0; i < 100 && writer->fd < 0; i++) {
        snprintf(writer->path_aside, strlen(writer->path) + ROOM_ASIDE, "%s.tmp-%ld-%d", writer->path,
            (long) getpid(), i);
        writer->fd = open(writer->path_aside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (writer->fd < 0 && errno != EEXIST) {
            break;
        }
    }
    if (writer->fd < 0) {
        writer_fail(writer, "%s cannot be created: %s", writer->path_aside, strerror(errno));
    }
}

// Everything before the data is written, and the file has its size.
static void writer_begin_data(struct gguf_file_writer * writer) {
    if (writer->failed || writer->fd >= 0) {
        return;
    }
    struct buffer header = { 0 };
    buffer_add    (&header, GGUF_FILE_MAGIC, strlen(GGUF_FILE_MAGIC));
    buffer_add_u32(&header, GGUF_FILE_VERSION);
    buffer_add_u64(&header, writer->n_tensors);
    buffer_add_u64(&header, writer->n_keys);
    for (size_t i = 0; i < writer->n_keys; i++) {
        buffer_add_string(&header, writer->keys[i].key);
        buffer_add       (&header, writer->keys[i].encoded.data, writer->keys[i].encoded.size);
    }
    for (size_t i = 0; i < writer->n_tensors; i++) {
        const struct gguf_file_tensor * tensor = &writer->tensors[i];
        buffer_add_string(&header, tensor->name);
        buffer_add_u32   (&header, tensor->n_dims);
        buffer_add       (&header, tensor->ne, tensor->n_dims*sizeof(tensor->ne[0]));
        buffer_add_u32   (&header, tensor->type);
        buffer_add_u64   (&header, tensor->offset);
    }
    if (header.failed) {
        writer_fail(writer, "no memory for its header");
    } else {
        writer_open_aside(writer);
    }
    if (!writer->failed) {
        writer->data = gguf_file_align(header.size, GGUF_FILE_ALIGNMENT);
        if (ftruncate(writer->fd, (off_t) (writer->data + gguf_file_align(writer->n_data,
            GGUF_FILE_ALIGNMENT))) != 0) {
            writer_fail(writer, "cannot be written: %s", strerror(errno));
        }
        writer_put(writer, 0, header.data, header.size);
    }
    free(header.data);
}

void gguf_file_writer_write(struct gguf_file_writer * writer, int64_t i_tensor, uint64_t offset, const void * data,
                            size_t size) {
    writer_begin_data(writer);
    if (writer->failed) {
        return;
    }
    const struct gguf_file_tensor * tensor = gguf_file_writer_tensor(writer, i_tensor);
    if (tensor == NULL) {
        writer_fail(writer, "there is no tensor %" PRId64 " to write data of", i_tensor);
    } else if (offset > tensor->nbytes || size > tensor->nbytes - offset) {
        writer_fail(writer, "tensor %s has %" PRIu64 " bytes, %zu at %" PRIu64 " are beyond them", tensor->name,
            tensor->nbytes, size, offset);
    } else {
        writer_put(writer, writer->data + tensor->offset + offset, data, size);
    }
}

bool gguf_file_writer_finish(struct gguf_file_writer * writer, char * error, size_t n_error) {
    writer_begin_data(writer);
    if (!writer->failed && fsync(writer->fd) != 0) {
        writer_fail(writer, "cannot be written: %s", strerror(errno));
    }
    if (!writer->failed && rename(writer->path_aside, writer->path) != 0) {
        writer_fail(writer, "%s cannot be renamed to it: %s", writer->path_aside, strerror(errno));
    }
    const bool whole = !writer->failed;
    if (whole) {
        close(writer->fd);
        writer->fd = -1;
    } else if (error != NULL) {
        snprintf(error, n_error, "%s", writer->error);
    }
    gguf_file_writer_discard(writer);
    return whole;
}

void gguf_file_writer_discard(struct gguf_file_writer * writer) {
    if (writer == NULL) {
        return;
    }
    if (writer->fd >= 0) { // not finished
        close(writer->fd);
        unlink(writer->path_aside);
    }
    for (size_t i = 0; i < writer->n_keys; i++) {
        free(writer->keys[i].key);
        free(writer->keys[i].encoded.data);
    }
    for (size_t i = 0; i < writer->n_tensors; i++) {
        free((char *) writer->tensors[i].name);
    }
    free(writer->keys);
    free(writer->tensors);
    free(writer->path_aside);
    free(writer->path);
    free(writer);
}
