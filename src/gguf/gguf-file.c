#define _POSIX_C_SOURCE   200809L
#define _FILE_OFFSET_BITS 64

#include "gguf-file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define GGUF_FILE_MAGIC         "GGUF"
#define GGUF_FILE_VERSION       3
#define GGUF_FILE_ALIGNMENT     32
#define GGUF_FILE_ALIGNMENT_KEY "general.alignment"
#define GGUF_FILE_MAX_NAME      64 // GGML_MAX_NAME

//
// types
//

static size_t value_size(uint32_t type) {
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

uint64_t gguf_file_row_size(uint32_t type, uint64_t n) {
    const struct tensor_type * found = find_tensor_type(type);
    if (found == NULL || n % found->n_block != 0 || n/found->n_block > UINT64_MAX/found->nbytes) {
        return 0;
    }
    return n/found->n_block*found->nbytes;
}

uint64_t gguf_file_n_elements(const struct gguf_file_tensor * tensor) {
    return tensor->ne[0]*tensor->ne[1]*tensor->ne[2]*tensor->ne[3];
}

// Fills in nbytes and what lies behind n_dims. NULL, or what is wrong with the shape.
static const char * shape_tensor(struct gguf_file_tensor * tensor) {
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

static uint64_t align_up(uint64_t n, uint64_t alignment) {
    return (n + alignment - 1)/alignment*alignment;
}

//
// reading
//

struct gguf_string {
    const char * text;
    size_t       size;
};

struct gguf_key {
    char *                    key;
    enum gguf_file_value_type type;
    enum gguf_file_value_type element_type;
    size_t                    n_values;
    const uint8_t *           values;   // in the mapping, not aligned
    struct gguf_string *      strings;  // of a string or an array of strings, their text behind them
    const uint8_t *           encoded;  // what the file has behind the key, from the value's type on
    size_t                    n_encoded;
};

struct gguf_file {
    char *                    path;
    const uint8_t *           data;
    size_t                    size;

    struct gguf_key *         keys;
    size_t                    n_keys;
    struct gguf_file_tensor * tensors;
    size_t                    n_tensors;
};

// Where reading has got to. After a failure it reads zeros, and the first failure stays.
struct cursor {
    const char *    path;
    const uint8_t * data;
    size_t          size;
    size_t          at;
    bool            failed;
    char *          error;
    size_t          n_error;
};

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
static void cursor_fail(struct cursor * cursor, const char * format, ...) {
    if (cursor->failed) {
        return;
    }
    cursor->failed = true;
    if (cursor->error == NULL || cursor->n_error == 0) {
        return;
    }
    const int n = snprintf(cursor->error, cursor->n_error, "%s: ", cursor->path);
    if (n < 0 || (size_t) n >= cursor->n_error) {
        return;
    }
    va_list args;
    va_start(args, format);
    vsnprintf(cursor->error + n, cursor->n_error - (size_t) n, format, args);
    va_end(args);
}

static size_t cursor_left(const struct cursor * cursor) {
    return cursor->size - cursor->at;
}

static const uint8_t * cursor_skip(struct cursor * cursor, uint64_t n, const char * what) {
    if (!cursor->failed && n > cursor_left(cursor)) {
        cursor_fail(cursor, "ends after %zu bytes, in the middle of %s: the file is truncated or damaged", cursor->size, what);
    }
    if (cursor->failed) {
        return NULL;
    }
    const uint8_t * here = cursor->data + cursor->at;
    cursor->at += (size_t) n;
    return here;
}

static uint32_t cursor_u32(struct cursor * cursor, const char * what) {
    uint32_t value = 0;
    const uint8_t * here = cursor_skip(cursor, sizeof(value), what);
    if (here != NULL) {
        memcpy(&value, here, sizeof(value));
    }
    return value;
}

static uint64_t cursor_u64(struct cursor * cursor, const char * what) {
    uint64_t value = 0;
    const uint8_t * here = cursor_skip(cursor, sizeof(value), what);
    if (here != NULL) {
        memcpy(&value, here, sizeof(value));
    }
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

static void read_key(struct cursor * cursor, struct gguf_key * key) {
    key->key = cursor_name(cursor, "a key");
    if (key->key == NULL) {
        return;
    }
    const size_t encoded = cursor->at;

    uint32_t type   = cursor_u32(cursor, "a value's type");
    uint64_t n      = 1;
    key->type = (enum gguf_file_value_type) type;
    if (type == GGUF_FILE_ARRAY) {
        type = cursor_u32(cursor, "an array's type");
        n    = cursor_u64(cursor, "an array's length");
    }
    key->element_type = (enum gguf_file_value_type) type;
    if (cursor->failed) {
        return;
    }
    const size_t n_left = cursor_left(cursor);
    if (type == GGUF_FILE_STRING) {
        if (n > n_left/sizeof(uint64_t)) {
            cursor_fail(cursor, "%s cannot hold the %" PRIu64 " strings it claims: the file is truncated or damaged", key->key, n);
            return;
        }
        key->n_values = (size_t) n;
        read_strings(cursor, key);
    } else if (value_size(type) > 0) {
        if (n > n_left/value_size(type)) {
            cursor_fail(cursor, "%s cannot hold the %" PRIu64 " values it claims: the file is truncated or damaged", key->key, n);
            return;
        }
        key->n_values = (size_t) n;
        key->values   = cursor_skip(cursor, n*value_size(type), key->key);
    } else {
        cursor_fail(cursor, "%s has a value of type %" PRIu32 ", which GGUF does not have: the file is damaged or newer than this program", key->key, type);
        return;
    }
    key->encoded   = cursor->data + encoded;
    key->n_encoded = cursor->at - encoded;
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
    const char * wrong = shape_tensor(tensor);
    if (wrong != NULL) {
        cursor_fail(cursor, "tensor %s (%" PRIu32 " dimensions, type %" PRIu32 ") %s: the file is damaged or newer than this program",
                name, tensor->n_dims, tensor->type, wrong);
    }
}

static uint64_t read_alignment(struct cursor * cursor, const struct gguf_file * file) {
    const int64_t i_key = gguf_file_find_key(file, GGUF_FILE_ALIGNMENT_KEY);
    if (i_key < 0) {
        return GGUF_FILE_ALIGNMENT;
    }
    uint64_t alignment = 0;
    if (!gguf_file_value_u64(file, i_key, 0, &alignment) || alignment == 0 || alignment > 1u << 30 || (alignment & (alignment - 1)) != 0) {
        cursor_fail(cursor, GGUF_FILE_ALIGNMENT_KEY " is no power of two: the file is damaged");
        return GGUF_FILE_ALIGNMENT;
    }
    return alignment;
}

static void read_file(struct cursor * cursor, struct gguf_file * file) {
    const uint8_t * magic = cursor_skip(cursor, 4, "its first word");
    if (magic == NULL) {
        return;
    }
    if (memcmp(magic, GGUF_FILE_MAGIC, 4) != 0) {
        cursor_fail(cursor, "is not a GGUF file");
        return;
    }
    const uint32_t version   = cursor_u32(cursor, "the header");
    const uint64_t n_tensors = cursor_u64(cursor, "the header");
    const uint64_t n_keys    = cursor_u64(cursor, "the header");
    if (cursor->failed) {
        return;
    }
    if ((version & 0xffff) == 0) {
        cursor_fail(cursor, "is a big-endian GGUF file, these are not read");
        return;
    }
    if (version < 2 || version > GGUF_FILE_VERSION) {
        cursor_fail(cursor, "is a GGUF file of version %" PRIu32 ", only 2 and 3 are read", version);
        return;
    }
    // the least a key takes (name's size, type, one byte), and a tensor (name's size, dimensions, type, offset)
    if (n_keys > cursor_left(cursor)/(8 + 4 + 1) || n_tensors > cursor_left(cursor)/(8 + 4 + 4 + 8)) {
        cursor_fail(cursor, "claims %" PRIu64 " keys and %" PRIu64 " tensors, more than its %zu bytes can hold: the file is truncated or damaged",
                n_keys, n_tensors, cursor->size);
        return;
    }
    file->keys    = calloc((size_t) n_keys    + 1, sizeof(file->keys[0]));
    file->tensors = calloc((size_t) n_tensors + 1, sizeof(file->tensors[0]));
    if (file->keys == NULL || file->tensors == NULL) {
        cursor_fail(cursor, "no memory for %" PRIu64 " keys and %" PRIu64 " tensors", n_keys, n_tensors);
        return;
    }
    while (file->n_keys < n_keys && !cursor->failed) {
        read_key(cursor, &file->keys[file->n_keys++]);
    }
    while (file->n_tensors < n_tensors && !cursor->failed) {
        read_tensor(cursor, &file->tensors[file->n_tensors++]);
    }
    if (cursor->failed) {
        return;
    }
    const uint64_t alignment = read_alignment(cursor, file);
    const uint64_t data      = align_up(cursor->at, alignment);
    for (size_t i = 0; i < file->n_tensors && !cursor->failed; i++) {
        struct gguf_file_tensor * tensor = &file->tensors[i];
        if (tensor->offset % alignment != 0) {
            cursor_fail(cursor, "the data of tensor %s is not aligned: the file is damaged", tensor->name);
        } else if (data > file->size || tensor->offset > file->size - data || tensor->nbytes > file->size - data - tensor->offset) {
            cursor_fail(cursor, "ends after %zu bytes, before the data of tensor %s does: the file is truncated or damaged", file->size, tensor->name);
        } else {
            tensor->data = file->data + data + tensor->offset;
        }
    }
}

static const uint8_t * map_file(struct cursor * cursor) {
    const uint8_t * data = NULL;
    struct stat     info;

    const int fd = open(cursor->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) != 0) {
        cursor_fail(cursor, "%s", strerror(errno));
    } else if (!S_ISREG(info.st_mode)) {
        cursor_fail(cursor, "is not a regular file");
    } else if (info.st_size == 0) {
        cursor_fail(cursor, "is empty");
    } else if ((uintmax_t) info.st_size > SIZE_MAX) {
        cursor_fail(cursor, "is too large for this machine");
    } else {
        void * mapped = mmap(NULL, (size_t) info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (mapped == MAP_FAILED) {
            cursor_fail(cursor, "%s", strerror(errno));
        } else {
            data = mapped;
            cursor->size = (size_t) info.st_size;
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    return data;
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
    file->data = cursor.data = map_file(&cursor);
    file->size = cursor.size;
    if (!cursor.failed) {
        read_file(&cursor, file);
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
    for (size_t i = 0; i < file->n_keys; i++) {
        free(file->keys[i].key);
        free(file->keys[i].strings);
    }
    for (size_t i = 0; i < file->n_tensors; i++) {
        free((char *) file->tensors[i].name);
    }
    if (file->data != NULL) {
        munmap((void *) file->data, file->size);
    }
    free(file->keys);
    free(file->tensors);
    free(file->path);
    free(file);
}

const char * gguf_file_path(const struct gguf_file * file) {
    return file->path;
}

size_t gguf_file_n_keys(const struct gguf_file * file) {
    return file->n_keys;
}

int64_t gguf_file_find_key(const struct gguf_file * file, const char * key) {
    for (size_t i = 0; i < file->n_keys; i++) {
        if (strcmp(file->keys[i].key, key) == 0) {
            return (int64_t) i;
        }
    }
    return -1;
}

const char * gguf_file_key(const struct gguf_file * file, size_t i_key) {
    return file->keys[i_key].key;
}

enum gguf_file_value_type gguf_file_value_type(const struct gguf_file * file, size_t i_key) {
    return file->keys[i_key].type;
}

size_t gguf_file_n_values(const struct gguf_file * file, size_t i_key) {
    return file->keys[i_key].n_values;
}

enum gguf_file_value_type gguf_file_element_type(const struct gguf_file * file, size_t i_key) {
    return file->keys[i_key].element_type;
}

static const struct gguf_key * find_value(const struct gguf_file * file, int64_t i_key, size_t i) {
    if (i_key < 0 || (uint64_t) i_key >= file->n_keys || i >= file->keys[i_key].n_values) {
        return NULL;
    }
    return &file->keys[i_key];
}

// An integer as sign and magnitude: wide enough for all of them.
static bool read_integer(const struct gguf_file * file, int64_t i_key, size_t i, bool * negative, uint64_t * magnitude) {
    const struct gguf_key * key = find_value(file, i_key, i);
    if (key == NULL || key->values == NULL) {
        return false;
    }
    const uint8_t * here = key->values + i*value_size(key->element_type);
    union {
        uint8_t  u8;
        int8_t   i8;
        uint16_t u16;
        int16_t  i16;
        uint32_t u32;
        int32_t  i32;
        uint64_t u64;
        int64_t  i64;
    } value;
    memcpy(&value, here, value_size(key->element_type));

    int64_t number = 0;
    switch (key->element_type) {
        case GGUF_FILE_BOOL: number = value.u8 != 0;       break;
        case GGUF_FILE_U8:   number = value.u8;            break;
        case GGUF_FILE_I8:   number = value.i8;            break;
        case GGUF_FILE_U16:  number = value.u16;           break;
        case GGUF_FILE_I16:  number = value.i16;           break;
        case GGUF_FILE_U32:  number = value.u32;           break;
        case GGUF_FILE_I32:  number = value.i32;           break;
        case GGUF_FILE_I64:  number = value.i64;           break;
        case GGUF_FILE_U64:
            *negative  = false;
            *magnitude = value.u64;
            return true;
        default:
            return false;
    }
    *negative  = number < 0;
    *magnitude = number < 0 ? 0 - (uint64_t) number : (uint64_t) number;
    return true;
}

bool gguf_file_value_u64(const struct gguf_file * file, int64_t i_key, size_t i, uint64_t * value) {
    bool     negative;
    uint64_t magnitude;
    if (!read_integer(file, i_key, i, &negative, &magnitude) || negative) {
        return false;
    }
    *value = magnitude;
    return true;
}

bool gguf_file_value_i64(const struct gguf_file * file, int64_t i_key, size_t i, int64_t * value) {
    bool     negative;
    uint64_t magnitude;
    if (!read_integer(file, i_key, i, &negative, &magnitude) || (!negative && magnitude > INT64_MAX)) {
        return false;
    }
    *value = negative ? -1 - (int64_t) (magnitude - 1) : (int64_t) magnitude;
    return true;
}

bool gguf_file_value_f64(const struct gguf_file * file, int64_t i_key, size_t i, double * value) {
    const struct gguf_key * key = find_value(file, i_key, i);
    if (key == NULL || key->values == NULL) {
        return false;
    }
    if (key->element_type == GGUF_FILE_F32) {
        float number;
        memcpy(&number, key->values + i*sizeof(number), sizeof(number));
        *value = (double) number;
        return true;
    }
    if (key->element_type == GGUF_FILE_F64) {
        memcpy(value, key->values + i*sizeof(*value), sizeof(*value));
        return true;
    }
    bool     negative;
    uint64_t magnitude;
    if (!read_integer(file, i_key, i, &negative, &magnitude)) {
        return false;
    }
    *value = negative ? -(double) magnitude : (double) magnitude;
    return true;
}

bool gguf_file_value_bool(const struct gguf_file * file, int64_t i_key, size_t i, bool * value) {
    const struct gguf_key * key = find_value(file, i_key, i);
    if (key == NULL || key->element_type != GGUF_FILE_BOOL) {
        return false;
    }
    *value = key->values[i] != 0;
    return true;
}

bool gguf_file_value_string(const struct gguf_file * file, int64_t i_key, size_t i, const char ** value, size_t * size) {
    const struct gguf_key * key = find_value(file, i_key, i);
    if (key == NULL || key->strings == NULL) {
        return false;
    }
    *value = key->strings[i].text;
    if (size != NULL) {
        *size = key->strings[i].size;
    }
    return true;
}

static int64_t find_scalar(const struct gguf_file * file, const char * key) {
    const int64_t i_key = gguf_file_find_key(file, key);
    return i_key < 0 || file->keys[i_key].type == GGUF_FILE_ARRAY ? -1 : i_key;
}

bool gguf_file_get_u32(const struct gguf_file * file, const char * key, uint32_t * value) {
    uint64_t wide;
    if (!gguf_file_get_u64(file, key, &wide) || wide > UINT32_MAX) {
        return false;
    }
    *value = (uint32_t) wide;
    return true;
}

bool gguf_file_get_u64(const struct gguf_file * file, const char * key, uint64_t * value) {
    return gguf_file_value_u64(file, find_scalar(file, key), 0, value);
}

bool gguf_file_get_i64(const struct gguf_file * file, const char * key, int64_t * value) {
    return gguf_file_value_i64(file, find_scalar(file, key), 0, value);
}

bool gguf_file_get_f64(const struct gguf_file * file, const char * key, double * value) {
    return gguf_file_value_f64(file, find_scalar(file, key), 0, value);
}

bool gguf_file_get_bool(const struct gguf_file * file, const char * key, bool * value) {
    return gguf_file_value_bool(file, find_scalar(file, key), 0, value);
}

bool gguf_file_get_string(const struct gguf_file * file, const char * key, const char ** value) {
    return gguf_file_value_string(file, find_scalar(file, key), 0, value, NULL);
}

size_t gguf_file_n_tensors(const struct gguf_file * file) {
    return file->n_tensors;
}

const struct gguf_file_tensor * gguf_file_tensor(const struct gguf_file * file, size_t i_tensor) {
    return &file->tensors[i_tensor];
}

const struct gguf_file_tensor * gguf_file_find_tensor(const struct gguf_file * file, const char * name) {
    for (size_t i = 0; i < file->n_tensors; i++) {
        if (strcmp(file->tensors[i].name, name) == 0) {
            return &file->tensors[i];
        }
    }
    return NULL;
}

//
// writing
//

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
    size_t                    max_keys;
    struct gguf_file_tensor * tensors;
    size_t                    n_tensors;
    size_t                    max_tensors;
    uint64_t                  data;       // where the tensor data begins in the file
    uint64_t                  n_data;
};

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
static void writer_fail(struct gguf_file_writer * writer, const char * format, ...) {
    if (writer->failed) {
        return;
    }
    writer->failed = true;
    const int n = snprintf(writer->error, sizeof(writer->error), "%s: ", writer->path);
    if (n < 0 || (size_t) n >= sizeof(writer->error)) {
        return;
    }
    va_list args;
    va_start(args, format);
    vsnprintf(writer->error + n, sizeof(writer->error) - (size_t) n, format, args);
    va_end(args);
}

struct gguf_file_writer * gguf_file_writer_new(const char * path) {
    const size_t              n_aside = strlen(path) + 64;
    struct gguf_file_writer * writer  = calloc(1, sizeof(*writer));
    if (writer == NULL) {
        return NULL;
    }
    writer->fd         = -1;
    writer->path       = strdup(path);
    writer->path_aside = calloc(1, n_aside);
    if (writer->path == NULL || writer->path_aside == NULL) {
        gguf_file_writer_discard(writer);
        return NULL;
    }
    return writer;
}

// Room for one more at the end of items; false after a failure.
static bool writer_grow(struct gguf_file_writer * writer, void ** items, size_t n, size_t * max, size_t item_size) {
    if (n < *max) {
        return true;
    }
    const size_t new_max = 2*n + 64;
    void *       grown   = realloc(*items, new_max*item_size);
    if (grown == NULL) {
        writer_fail(writer, "no memory for %zu keys or tensors", new_max);
        return false;
    }
    *items = grown;
    *max   = new_max;
    return true;
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
    void * keys = writer->keys;
    char * copy = strdup(key);
    const bool grown = writer_grow(writer, &keys, writer->n_keys, &writer->max_keys, sizeof(writer->keys[0]));
    writer->keys = keys;
    if (copy == NULL || !grown) {
        writer_fail(writer, "no memory for %s", key);
        free(copy);
        free(encoded.data);
        return;
    }
    writer->keys[writer->n_keys++] = (struct written_key) { copy, encoded };
}

static void writer_set_scalar(struct gguf_file_writer * writer, const char * key, enum gguf_file_value_type type, const void * value) {
    struct buffer encoded = { 0 };
    buffer_add_u32(&encoded, type);
    buffer_add    (&encoded, value, value_size(type));
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

void gguf_file_writer_set_array(struct gguf_file_writer * writer, const char * key, enum gguf_file_value_type type, const void * values, size_t n) {
    struct buffer encoded = { 0 };
    buffer_add_u32(&encoded, GGUF_FILE_ARRAY);
    buffer_add_u32(&encoded, type);
    buffer_add_u64(&encoded, n);
    if (type == GGUF_FILE_STRING) {
        const char * const * strings = values;
        for (size_t i = 0; i < n; i++) {
            buffer_add_string(&encoded, strings[i]);
        }
    } else if (value_size(type) > 0) {
        buffer_add(&encoded, values, n*value_size(type));
    } else {
        writer_fail(writer, "%s: an array cannot hold values of type %d", key, (int) type);
    }
    writer_set(writer, key, encoded);
}

void gguf_file_writer_copy_key(struct gguf_file_writer * writer, const struct gguf_file * file, size_t i_key) {
    struct buffer encoded = { 0 };
    buffer_add(&encoded, file->keys[i_key].encoded, file->keys[i_key].n_encoded);
    writer_set(writer, file->keys[i_key].key, encoded);
}

void gguf_file_writer_remove_key(struct gguf_file_writer * writer, const char * key) {
    if (!writer_takes_header(writer, key)) {
        return;
    }
    const int64_t i_key = writer_find_key(writer, key);
    if (i_key < 0) {
        return;
    }
    struct written_key * removed = &writer->keys[i_key];
    free(removed->key);
    free(removed->encoded.data);
    writer->n_keys--;
    memmove(removed, removed + 1, (writer->n_keys - (size_t) i_key)*sizeof(*removed));
}

int64_t gguf_file_writer_add_tensor(struct gguf_file_writer * writer, const char * name, uint32_t type, uint32_t n_dims, const uint64_t * ne) {
    if (!writer_takes_header(writer, name)) {
        return -1;
    }
    struct gguf_file_tensor tensor = { .type = type, .n_dims = n_dims, .offset = align_up(writer->n_data, GGUF_FILE_ALIGNMENT) };
    for (uint32_t i = 0; i < n_dims && i < GGUF_FILE_MAX_DIMS; i++) {
        tensor.ne[i] = ne[i];
    }
    const char * wrong = shape_tensor(&tensor);
    if (wrong == NULL && strlen(name) >= GGUF_FILE_MAX_NAME) {
        wrong = "has too long a name";
    }
    if (wrong == NULL && tensor.nbytes > INT64_MAX/4 - tensor.offset) {
        wrong = "is too large";
    }
    if (wrong != NULL) {
        writer_fail(writer, "tensor %s %s", name, wrong);
        return -1;
    }
    void * tensors = writer->tensors;
    char * copy    = strdup(name);
    const bool grown = writer_grow(writer, &tensors, writer->n_tensors, &writer->max_tensors, sizeof(writer->tensors[0]));
    writer->tensors = tensors;
    if (copy == NULL || !grown) {
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

static void writer_pwrite(struct gguf_file_writer * writer, uint64_t offset, const uint8_t * data, size_t size) {
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
        snprintf(writer->path_aside, strlen(writer->path) + 64, "%s.tmp-%ld-%d", writer->path, (long) getpid(), i);
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
    buffer_add    (&header, GGUF_FILE_MAGIC, 4);
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
        writer->data = align_up(header.size, GGUF_FILE_ALIGNMENT);
        if (ftruncate(writer->fd, (off_t) (writer->data + align_up(writer->n_data, GGUF_FILE_ALIGNMENT))) != 0) {
            writer_fail(writer, "cannot be written: %s", strerror(errno));
        }
        writer_pwrite(writer, 0, header.data, header.size);
    }
    free(header.data);
}

void gguf_file_writer_write(struct gguf_file_writer * writer, int64_t i_tensor, uint64_t offset, const void * data, size_t size) {
    writer_begin_data(writer);
    if (writer->failed) {
        return;
    }
    const struct gguf_file_tensor * tensor = gguf_file_writer_tensor(writer, i_tensor);
    if (tensor == NULL) {
        writer_fail(writer, "there is no tensor %" PRId64 " to write data of", i_tensor);
    } else if (offset > tensor->nbytes || size > tensor->nbytes - offset) {
        writer_fail(writer, "tensor %s has %" PRIu64 " bytes, %zu at %" PRIu64 " are beyond them", tensor->name, tensor->nbytes, size, offset);
    } else {
        writer_pwrite(writer, writer->data + tensor->offset + offset, data, size);
    }
}

bool gguf_file_writer_finish(struct gguf_file_writer * writer, char * error, size_t n_error) {
    writer_begin_data(writer);
    if (!writer->failed && fsync(writer->fd) != 0) {
        writer_fail(writer, "cannot be written: %s", strerror(errno));
    }
    if (writer->fd >= 0) {
        const bool closed = close(writer->fd) == 0;
        writer->fd = -1;
        if (!closed) {
            writer_fail(writer, "cannot be written: %s", strerror(errno));
        }
        if (!writer->failed && rename(writer->path_aside, writer->path) != 0) {
            writer_fail(writer, "%s cannot be renamed to it: %s", writer->path_aside, strerror(errno));
        }
        if (writer->failed) {
            unlink(writer->path_aside);
        }
    }
    const bool whole = !writer->failed;
    if (!whole && error != NULL && n_error > 0) {
        snprintf(error, n_error, "%s", writer->error);
    }
    gguf_file_writer_discard(writer);
    return whole;
}

void gguf_file_writer_discard(struct gguf_file_writer * writer) {
    if (writer == NULL) {
        return;
    }
    if (writer->fd >= 0) {
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
