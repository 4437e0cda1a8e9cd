// Finds keys of an open GGUF file, and converts their values where that loses nothing.

#include "gguf/gguf-values.h"

#include "gguf/gguf-file.h"

#include <string.h>

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

const void * gguf_file_encoded(const struct gguf_file * file, size_t i_key, size_t * size) {
    *size = file->keys[i_key].n_encoded;
    return file->keys[i_key].encoded;
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

// An integer of any width, widened to 64 bits: those of a negative one as of an int64_t.
static bool read_integer(const struct gguf_file * file, int64_t i_key, size_t i, bool * negative, uint64_t * bits) {
    const struct gguf_key * key = find_value(file, i_key, i);
    if (key == NULL || key->values == NULL) {
        return false;
    }
    const size_t size = gguf_file_value_size(key->element_type);
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
    memcpy(&value, key->values + i*size, size);

    int64_t number = 0;
    switch (key->element_type) {
        case GGUF_FILE_BOOL: number = value.u8 != 0;  break;
        case GGUF_FILE_U8:   number = value.u8;       break;
        case GGUF_FILE_I8:   number = value.i8;       break;
        case GGUF_FILE_U16:  number = value.u16;      break;
        case GGUF_FILE_I16:  number = value.i16;      break;
        case GGUF_FILE_U32:  number = value.u32;      break;
        case GGUF_FILE_I32:  number = value.i32;      break;
        case GGUF_FILE_U64:
        case GGUF_FILE_I64:  number = value.i64;      break;
        default:             return false;
    }
    *negative = number < 0 && key->element_type != GGUF_FILE_U64;
    *bits     = (uint64_t) number;
    return true;
}

bool gguf_file_value_u64(const struct gguf_file * file, int64_t i_key, size_t i, uint64_t * value) {
    bool     negative;
    uint64_t bits;
    if (!read_integer(file, i_key, i, &negative, &bits) || negative) {
        return false;
    }
    *value = bits;
    return true;
}

bool gguf_file_value_i64(const struct gguf_file * file, int64_t i_key, size_t i, int64_t * value) {
    bool     negative;
    uint64_t bits;
    if (!read_integer(file, i_key, i, &negative, &bits) || (!negative && bits > INT64_MAX)) {
        return false;
    }
    *value = (int64_t) bits;
    return true;
}

bool gguf_file_value_f64(const struct gguf_file * file, int64_t i_key, size_t i, double * value) {
    bool     negative;
    uint64_t bits;
    if (read_integer(file, i_key, i, &negative, &bits)) {
        *value = negative ? (double) (int64_t) bits : (double) bits;
        return true;
    }
    const struct gguf_key * key = find_value(file, i_key, i);
    if (key == NULL || key->values == NULL) {
        return false;
    }
    if (key->element_type == GGUF_FILE_F32) {
        float number;
        memcpy(&number, key->values + i*sizeof(number), sizeof(number));
        *value = (double) number;
    } else {
        memcpy(value, key->values + i*sizeof(*value), sizeof(*value));
    }
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

bool gguf_file_value_string(const struct gguf_file * file, int64_t i_key, size_t i, const char ** value,
                            size_t * size) {
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
