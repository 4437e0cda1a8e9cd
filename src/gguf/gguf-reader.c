// Opens GGUF files: parses and checks all that comes before the data of the tensors, which is read when it is asked
// for.

#include "gguf/gguf-reader.h"

#include "gguf/gguf-file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef GGUF_FILE_READ_FIRST
#define GGUF_FILE_READ_FIRST (1u << 20) // bytes; as many again and again where what comes before the data is longer
#endif
#define GGUF_FILE_READ_MOST  (1u << 30) // what comes before the data is not longer than that

// Where reading has got to. After a failure it reads zeros, and the first failure stays.
struct cursor {
    const char *    path;
    const uint8_t * data;      // [n_data] what was read of the file
    size_t          n_data;
    uint64_t        size;      // of the file
    size_t          at;
    bool            is_short;  // the failure is that more has to be read
    bool            failed;
    char *          error;
    size_t          n_error;
};

__attribute__((format(printf, 2, 3)))
static void cursor_fail(struct cursor * cursor, const char * format, ...) {
    if (cursor->failed) {
        return;
    }
    cursor->failed = true;
    va_list args;
    va_start(args, format);
    gguf_file_explain(cursor->error, cursor->n_error, cursor->path, format, args);
    va_end(args);
}

static uint64_t cursor_left(const struct cursor * cursor) {
    return cursor->size - cursor->at;
}

static const uint8_t * cursor_skip(struct cursor * cursor, uint64_t n, const char * what) {
    if (!cursor->failed && n > cursor_left(cursor)) {
        cursor_fail(cursor, "ends after %" PRIu64 " bytes, in the middle of %s: the file is truncated or damaged",
            cursor->size, what);
    }
    if (!cursor->failed && n > cursor->n_data - cursor->at) {
        cursor->is_short = cursor->failed = true;
    }
    if (cursor->failed) {
        return NULL;
    }
    const uint8_t * here = cursor->data + cursor->at;
    cursor->at += (size_t) n;
    return here;
}

static void cursor_copy(struct cursor * cursor, void * value, size_t size, const char * what) {
    const uint8_t * here = cursor_skip(cursor, size, what);
    if (here != NULL) {
        memcpy(value, here, size);
    }
}

static uint32_t cursor_u32(struct cursor * cursor, const char * what) {
    uint32_t value = 0;
    cursor_copy(cursor, &value, sizeof(value), what);
    return value;
}

static uint64_t cursor_u64(struct cursor * cursor, const char * what) {
    uint64_t value = 0;
    cursor_copy(cursor, &value, sizeof(value), what);
    return value;
}

// A copy that ends in NUL, for names: they must not hold one.
static char * cursor_name(struct cursor * cursor, const char * what) {
    const uint64_t  size = cursor_u64 (cursor, what);
    const uint8_t * here = cursor_skip(cursor, size, what);
    if (here == NULL) {
        return NULL;
    }
    if (memchr(here, 0, (size_t) size) != NULL) {
        cursor_fail(cursor, "%s holds a NUL: the file is damaged", what);
        return NULL;
    }
    char * name = malloc((size_t) size + 1);
    if (name == NULL) {
        cursor_fail(cursor, "no memory for %s", what);
        return NULL;
    }
    memcpy(name, here, (size_t) size);
    name[size] = 0;
    return name;
}

static void read_strings(struct cursor * cursor, struct gguf_key * key) {
    const size_t begin = cursor->at;
    for (size_t i = 0; i < key->n_values && !cursor->failed; i++) {
        cursor_skip(cursor, cursor_u64(cursor, "a string"), "a string");
    }
    if (cursor->failed) {
        return;
    }
    // every string trades 8 bytes of size for one NUL
    const size_t n_text = cursor->at - begin;
    key->strings = malloc(key->n_values*sizeof(key->strings[0]) + n_text + 1);
    if (key->strings == NULL) {
        cursor_fail(cursor, "no memory for the strings of %s", key->key);
        return;
    }
    char * text = (char *) (key->strings + key->n_values);
    cursor->at = begin;
    for (size_t i = 0; i < key->n_values; i++) {
        const size_t    size = (size_t) cursor_u64(cursor, "a string");
        const uint8_t * here = cursor_skip(cursor, size, "a string");
        memcpy(text, here, size);
        text[size] = 0;
        key->strings[i] = (struct gguf_string) { text, size };
        text += size + 1;
    }
}

static void read_value(struct cursor * cursor, struct gguf_key * key) {
    uint32_t type = cursor_u32(cursor, "a value's type");
    uint64_t n    = 1;
    key->type = (enum gguf_file_value_type) type;
    if (type == GGUF_FILE_ARRAY) {
        type = cursor_u32(cursor, "an array's type");
        n    = cursor_u64(cursor, "an array's length");
    }
    key->element_type = (enum gguf_file_value_type) type;
    if (cursor->failed) {
        return;
    }
    const size_t least = type == GGUF_FILE_STRING ? sizeof(uint64_t) : gguf_file_value_size(type);
    if (least == 0) {
        cursor_fail(cursor, "%s has a value of type %" PRIu32 ", which GGUF does not have: the file is damaged or "
            "newer than this program", key->key, type);
        return;
    }
    if (n > cursor_left(cursor)/least) {
        cursor_fail(cursor, "%s cannot hold the %" PRIu64 " values it claims: the file is truncated or damaged",
            key->key, n);
        return;
    }
    key->n_values = (size_t) n;
    if (type == GGUF_FILE_STRING) {
        read_strings(cursor, key);
    } else {
        key->values = cursor_skip(cursor, n*least, key->key);
    }
}

static void read_key(struct cursor * cursor, struct gguf_key * key) {
    key->key = cursor_name(cursor, "a key");
    const size_t begin = cursor->at;
    if (!cursor->failed) {
        read_value(cursor, key);
    }
    key->encoded   = cursor->data + begin;
    key->n_encoded = cursor->at - begin;
}

static void read_tensor(struct cursor * cursor, struct gguf_file_tensor * tensor) {
    char * name = cursor_name(cursor, "a tensor's name");
    tensor->name = name;
    if (name == NULL) {
        return;
    }
    tensor->n_dims = cursor_u32(cursor, "a tensor's shape");
    for (uint32_t i = 0; i < tensor->n_dims && i < GGUF_FILE_MAX_DIMS; i++) {
        tensor->ne[i] = cursor_u64(cursor, "a tensor's shape");
    }
    if (tensor->n_dims <= GGUF_FILE_MAX_DIMS) {
        tensor->type   = cursor_u32(cursor, "a tensor's type");
        tensor->offset = cursor_u64(cursor, "a tensor's offset");
    }
    if (cursor->failed) {
        return;
    }
    const char * wrong = gguf_file_shape_tensor(tensor);
    if (wrong != NULL) {
        cursor_fail(cursor, "tensor %s (%" PRIu32 " dimensions, type %" PRIu32 ") %s: the file is damaged or newer "
            "than this program", name, tensor->n_dims, tensor->type, wrong);
    }
}

static uint64_t read_alignment(struct cursor * cursor, const struct gguf_file * file) {
    const int64_t i_key = gguf_file_find_key(file, GGUF_FILE_ALIGNMENT_KEY);
    if (i_key < 0) {
        return GGUF_FILE_ALIGNMENT;
    }
    uint64_t alignment = 0;
    if (!gguf_file_value_u64(file, i_key, 0, &alignment) || alignment == 0 || alignment > 1u << 30 ||
        (alignment & (alignment - 1)) != 0) {
        cursor_fail(cursor, GGUF_FILE_ALIGNMENT_KEY " is no power of two: the file is damaged");
        return GGUF_FILE_ALIGNMENT;
    }
    return alignment;
}

// What the file begins with: how many keys and tensors it has.
static void read_counts(struct cursor * cursor, uint64_t * n_keys, uint64_t * n_tensors) {
    const uint8_t * magic = cursor_skip(cursor, strlen(GGUF_FILE_MAGIC), "its first word");
    if (magic != NULL && memcmp(magic, GGUF_FILE_MAGIC, strlen(GGUF_FILE_MAGIC)) != 0) {
        cursor_fail(cursor, "is not a GGUF file");
    }
    const uint32_t version = cursor_u32(cursor, "the header");
    *n_tensors = cursor_u64(cursor, "the header");
    *n_keys    = cursor_u64(cursor, "the header");
    if (cursor->failed) {
        return;
    }
    // the least a key takes (name's size, type, one byte), and a tensor (name's size, dimensions, type, offset)
    const uint64_t max_keys    = cursor_left(cursor)/(8 + 4 + 1);
    const uint64_t max_tensors = cursor_left(cursor)/(8 + 4 + 4 + 8);
    if ((version & 0xffff) == 0) {
        cursor_fail(cursor, "is a big-endian GGUF file, these are not read");
    } else if (version < 2 || version > GGUF_FILE_VERSION) {
        cursor_fail(cursor, "is a GGUF file of version %" PRIu32 ", only 2 and 3 are read", version);
    } else if (*n_keys > max_keys || *n_tensors > max_tensors) {
        cursor_fail(cursor, "claims %" PRIu64 " keys and %" PRIu64 " tensors, more than its %" PRIu64 " bytes can "
            "hold: the file is truncated or damaged", *n_keys, *n_tensors, cursor->size);
    }
}

// Where the data of every tensor is, once all of the header is read.
static void find_data(struct cursor * cursor, struct gguf_file * file) {
    const uint64_t alignment = read_alignment(cursor, file);
    const uint64_t data      = file->data = gguf_file_align(cursor->at, alignment);
    for (size_t i = 0; i < file->n_tensors && !cursor->failed; i++) {
        const struct gguf_file_tensor * tensor = &file->tensors[i];
        if (tensor->offset % alignment != 0) {
            cursor_fail(cursor, "the data of tensor %s is not aligned: the file is damaged", tensor->name);
        } else if (data > file->size || tensor->offset > file->size - data ||
                   tensor->nbytes > file->size - data - tensor->offset) {
            cursor_fail(cursor, "ends after %" PRIu64 " bytes, before the data of tensor %s does: the file is "
                "truncated or damaged", file->size, tensor->name);
        }
    }
}

static int compare_names(const void * one, const void * other) {
    const struct gguf_file_tensor * a = *(const struct gguf_file_tensor * const *) one;
    const struct gguf_file_tensor * b = *(const struct gguf_file_tensor * const *) other;
    const int order = strcmp(a->name, b->name);
    return order != 0 ? order : (a > b) - (a < b);
}

// A file may have as many tensors as it likes, and each may be asked for.
static void sort_tensors(struct cursor * cursor, struct gguf_file * file) {
    file->by_name = calloc(file->n_tensors + 1, sizeof(file->by_name[0]));
    if (file->by_name == NULL) {
        cursor_fail(cursor, "no memory for the names of %zu tensors", file->n_tensors);
        return;
    }
    for (size_t i = 0; i < file->n_tensors; i++) {
        file->by_name[i] = &file->tensors[i];
    }
    qsort(file->by_name, file->n_tensors, sizeof(file->by_name[0]), compare_names);
}

static void read_file(struct cursor * cursor, struct gguf_file * file) {
    uint64_t n_keys;
    uint64_t n_tensors;
    read_counts(cursor, &n_keys, &n_tensors);
    if (cursor->failed) {
        return;
    }
    file->keys    = calloc((size_t) n_keys    + 1, sizeof(file->keys[0]));
    file->tensors = calloc((size_t) n_tensors + 1, sizeof(file->tensors[0]));
    if (file->keys == NULL || file->tensors == NULL) {
        cursor_fail(cursor, "no memory for %" PRIu64 " keys and %" PRIu64 " tensors", n_keys, n_tensors);
    }
    while (file->n_keys < n_keys && !cursor->failed) {
        read_key(cursor, &file->keys[file->n_keys++]);
    }
    while (file->n_tensors < n_tensors && !cursor->failed) {
        read_tensor(cursor, &file->tensors[file->n_tensors++]);
    }
    if (!cursor->failed) {
        find_data(cursor, file);
    }
    if (!cursor->failed) {
        sort_tensors(cursor, file);
    }
}

static void forget_contents(struct gguf_file * file) {
    for (size_t i = 0; i < file->n_keys; i++) {
        free(file->keys[i].key);
        free(file->keys[i].strings);
    }
    for (size_t i = 0; i < file->n_tensors; i++) {
        free((char *) file->tensors[i].name);
    }
    free(file->by_name);
    free(file->keys);
    free(file->tensors);
    free(file->beginning);
    *file = (struct gguf_file) { .path = file->path, .fd = file->fd, .size = file->size };
}

// How many bytes there are of as many as were asked for.
static size_t read_at(int fd, void * data, size_t size, uint64_t offset) {
    size_t got = 0;
    while (got < size) {
        const ssize_t n = pread(fd, (uint8_t *) data + got, size - got, (off_t) (offset + got));
        if (n == 0 || (n < 0 && errno != EINTR)) {
            break;
        }
        got += n > 0 ? (size_t) n : 0;
    }
    return got;
}

// Reads as much as there may be of the header: where that is not enough, `cursor` says so.
static void read_beginning(struct cursor * cursor, struct gguf_file * file, size_t size) {
    file->beginning = malloc(size + 1);
    if (file->beginning == NULL) {
        cursor_fail(cursor, "no memory for its first %zu bytes", size);
        return;
    }
    errno = 0;
    if (read_at(file->fd, file->beginning, size, 0) != size) {
        cursor_fail(cursor, "%s", errno != 0 ? strerror(errno) : "became shorter while it was read");
        return;
    }
    cursor->data   = file->beginning;
    cursor->n_data = size;
    read_file(cursor, file);
}

// It is read, not mapped: whatever becomes of the file meanwhile, that is no danger.
static void read_all(struct cursor * cursor, struct gguf_file * file) {
    for (size_t size = GGUF_FILE_READ_FIRST; ; size *= 4) {
        const struct cursor begin = *cursor;
        read_beginning(cursor, file, size < file->size ? size : (size_t) file->size);
        if (!cursor->is_short) {
            return;
        }
        forget_contents(file);
        *cursor = begin;
        if (size >= GGUF_FILE_READ_MOST) {
            cursor_fail(cursor, "has more than %u bytes before its tensors' data: the file is damaged",
                GGUF_FILE_READ_MOST);
            return;
        }
    }
}

// Returns a descriptor, and tells the size. -1 where it is none to be read.
static int open_regular(struct cursor * cursor) {
    struct stat info;
    const int fd = open(cursor->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) != 0) {
        cursor_fail(cursor, "%s", strerror(errno));
    } else if (!S_ISREG(info.st_mode)) {
        cursor_fail(cursor, "is not a regular file");
    } else if (info.st_size == 0) {
        cursor_fail(cursor, "is empty");
    } else {
        cursor->size = (uint64_t) info.st_size;
    }
    return fd;
}

struct gguf_file * gguf_file_open(const char * path, char * error, size_t n_error) {
    struct cursor      cursor = { .path = path, .error = error, .n_error = n_error };
    struct gguf_file * file   = calloc(1, sizeof(*file));
    char *             copy   = strdup(path);
    if (file == NULL || copy == NULL) {
        cursor_fail(&cursor, "no memory to open it");
        free(copy);
        free(file);
        return NULL;
    }
    file->path = copy;
    file->fd   = open_regular(&cursor);
    file->size = cursor.size;
    if (!cursor.failed) {
        read_all(&cursor, file);
    }
    if (cursor.failed) {
        gguf_file_close(file);
        return NULL;
    }
    return file;
}

void gguf_file_close(struct gguf_file * file) {
    if (file == NULL) {
        return;
    }
    forget_contents(file);
    if (file->fd >= 0) {
        close(file->fd);
    }
    free(file->path);
    free(file);
}

const char * gguf_file_path(const struct gguf_file * file) {
    return file->path;
}

size_t gguf_file_n_tensors(const struct gguf_file * file) {
    return file->n_tensors;
}

const struct gguf_file_tensor * gguf_file_tensor(const struct gguf_file * file, size_t i_tensor) {
    return &file->tensors[i_tensor];
}

// The first of that name.
const struct gguf_file_tensor * gguf_file_find_tensor(const struct gguf_file * file, const char * name) {
    size_t first = 0;
    size_t end   = file->n_tensors;
    while (first < end) {
        const size_t middle = first + (end - first)/2;
        if (strcmp(file->by_name[middle]->name, name) < 0) {
            first = middle + 1;
        } else {
            end = middle;
        }
    }
    return first < file->n_tensors && strcmp(file->by_name[first]->name, name) == 0 ? file->by_name[first] : NULL;
}

bool gguf_file_read(const struct gguf_file * file, const struct gguf_file_tensor * tensor, uint64_t offset,
                    void * data, size_t size) {
    return offset <= tensor->nbytes && size <= tensor->nbytes - offset &&
           read_at(file->fd, data, size, file->data + tensor->offset + offset) == size;
}
