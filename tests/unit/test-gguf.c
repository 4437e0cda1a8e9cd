// GGUF files: what is written comes back, and files that are truncated, damaged or impossible are refused.

#include "unit.h"

#include "folder.h"

#include "gguf/gguf-reader.h"
#include "gguf/gguf-writer.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define N_OF(array) (sizeof(array)/sizeof((array)[0]))

// The build puts this one in the place of strcmp.
static size_t n_compared;

int unit_strcmp(const char * one, const char * other);

int unit_strcmp(const char * one, const char * other) {
    n_compared++;
    return strcmp(one, other);
}

//
// files byte by byte
//

struct bytes {
    uint8_t data[8192];
    size_t  size;
};

static void put(struct bytes * bytes, const void * data, size_t size) {
    assert_true(size <= sizeof(bytes->data) - bytes->size);
    memcpy(bytes->data + bytes->size, data, size);
    bytes->size += size;
}

static void put_u32(struct bytes * bytes, uint32_t value) {
    put(bytes, &value, sizeof(value));
}

static void put_u64(struct bytes * bytes, uint64_t value) {
    put(bytes, &value, sizeof(value));
}

static void put_string(struct bytes * bytes, const char * text) {
    put_u64(bytes, strlen(text));
    put(bytes, text, strlen(text));
}

static void put_zeros(struct bytes * bytes, size_t n) {
    for (size_t i = 0; i < n; i++) {
        put(bytes, "", 1);
    }
}

static struct bytes header(uint32_t version, uint64_t n_tensors, uint64_t n_keys) {
    struct bytes bytes = { .size = 0 };
    put(&bytes, "GGUF", 4);
    put_u32(&bytes, version);
    put_u64(&bytes, n_tensors);
    put_u64(&bytes, n_keys);
    return bytes;
}

static void put_tensor(struct bytes * bytes, const char * name, uint32_t n_dims, const uint64_t * ne,
                       uint32_t type, uint64_t offset) {
    put_string(bytes, name);
    put_u32(bytes, n_dims);
    put(bytes, ne, n_dims*sizeof(*ne));
    put_u32(bytes, type);
    put_u64(bytes, offset);
}

static void save(const char * path, const void * data, size_t size) {
    FILE * file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void load(const char * path, struct bytes * bytes) {
    FILE * file = fopen(path, "rb");
    assert_non_null(file);
    bytes->size = fread(bytes->data, 1, sizeof(bytes->data), file);
    assert_true(bytes->size < sizeof(bytes->data));
    fclose(file);
}

// All of a tensor's data, to be freed.
static uint8_t * data_of(const struct gguf_file * file, size_t i) {
    const struct gguf_file_tensor * tensor = gguf_file_tensor(file, i);
    uint8_t * data = malloc((size_t) tensor->nbytes + 1);
    assert_non_null(data);
    assert_true(gguf_file_read(file, tensor, 0, data, (size_t) tensor->nbytes));
    return data;
}

static void assert_data(const struct gguf_file * file, size_t i, const void * expected, size_t n) {
    uint8_t * data = data_of(file, i);
    assert_memory_equal(data, expected, n);
    free(data);
}

//
// what is asserted
//

static int n_files(void) {
    DIR * directory = opendir(".");
    int   n = 0;
    for (const struct dirent * entry; (entry = readdir(directory)); ) {
        n += entry->d_name[0] != '.';
    }
    closedir(directory);
    return n;
}

static struct gguf_file * open_file(const char * path) {
    char               error[512] = "";
    struct gguf_file * file       = gguf_file_open(path, error, sizeof(error));
    assert_string_equal(error, "");
    assert_non_null(file);
    assert_string_equal(gguf_file_path(file), path);
    return file;
}

static struct gguf_file * finish_and_open(struct gguf_file_writer * writer, const char * path) {
    char error[512] = "";
    assert_true(gguf_file_writer_finish(writer, error, sizeof(error)));
    assert_string_equal(error, "");
    return open_file(path);
}

static void assert_names_file(const char * error, const char * path, const char * why) {
    if (strncmp(error, path, strlen(path)) != 0 || strncmp(error + strlen(path), ": ", 2) != 0 || !strstr(error, why)) {
        fail_msg("\"%s\" is not about %s, or not that it %s", error, path, why);
    }
}

static void assert_refused(const char * path, const char * why) {
    char error[512] = "";
    assert_null(gguf_file_open(path, error, sizeof(error)));
    assert_names_file(error, path, why);

    char little[8];
    assert_null(gguf_file_open(path, little, sizeof(little)));
    assert_memory_equal(little, error, sizeof(little) - 1);
    assert_null(gguf_file_open(path, NULL, 0));
}

static void assert_bytes_refused(const struct bytes * bytes, const char * why) {
    save("bytes.gguf", bytes->data, bytes->size);
    assert_refused("bytes.gguf", why);
}

static void assert_not_written(struct gguf_file_writer * writer, const char * path, const char * why) {
    const int before     = n_files();
    char      error[512] = "";
    assert_false(gguf_file_writer_finish(writer, error, sizeof(error)));
    assert_names_file(error, path, why);
    assert_true(n_files() <= before);
}

static size_t key_of(const struct gguf_file * file, const char * key, enum gguf_file_value_type type) {
    const int64_t i_key = gguf_file_find_key(file, key);
    assert_true(i_key >= 0);
    assert_string_equal(gguf_file_key(file, (size_t) i_key), key);
    assert_int_equal(gguf_file_value_type(file, (size_t) i_key), type);
    return (size_t) i_key;
}

//
// keys
//

static void integers_come_back(void ** state) {
    (void) state;
    struct gguf_file_writer * writer = gguf_file_writer_new("keys.gguf");
    gguf_file_writer_set_u8  (writer, "u8",  UINT8_MAX);
    gguf_file_writer_set_i8  (writer, "i8",  INT8_MIN);
    gguf_file_writer_set_u16 (writer, "u16", UINT16_MAX);
    gguf_file_writer_set_i16 (writer, "i16", INT16_MIN);
    gguf_file_writer_set_u32 (writer, "u32", UINT32_MAX);
    gguf_file_writer_set_i32 (writer, "i32", INT32_MIN);
    gguf_file_writer_set_u64 (writer, "u64", UINT64_MAX);
    gguf_file_writer_set_i64 (writer, "i64", INT64_MIN);
    gguf_file_writer_set_i64 (writer, "max", INT64_MAX);
    gguf_file_writer_set_bool(writer, "yes", true);
    gguf_file_writer_set_bool(writer, "no",  false);
    struct gguf_file * file = finish_and_open(writer, "keys.gguf");

    static const struct {
        const char *              key;
        enum gguf_file_value_type type;
        int64_t                   value; // -1 where it does not fit
        uint64_t                  positive;
        double                    wide;
    } expected[] = {
        { "u8",  GGUF_FILE_U8,   UINT8_MAX,  UINT8_MAX,  255.0                   },
        { "i8",  GGUF_FILE_I8,   INT8_MIN,   0,          -128.0                  },
        { "u16", GGUF_FILE_U16,  UINT16_MAX, UINT16_MAX, 65535.0                 },
        { "i16", GGUF_FILE_I16,  INT16_MIN,  0,          -32768.0                },
        { "u32", GGUF_FILE_U32,  UINT32_MAX, UINT32_MAX, 4294967295.0            },
        { "i32", GGUF_FILE_I32,  INT32_MIN,  0,          -2147483648.0           },
        { "u64", GGUF_FILE_U64,  -1,         UINT64_MAX, 18446744073709551616.0  },
        { "i64", GGUF_FILE_I64,  INT64_MIN,  0,          -9223372036854775808.0  },
        { "max", GGUF_FILE_I64,  INT64_MAX,  INT64_MAX,  9223372036854775808.0   },
        { "yes", GGUF_FILE_BOOL, 1,          1,          1.0                     },
        { "no",  GGUF_FILE_BOOL, 0,          0,          0.0                     },
    };
    assert_int_equal(gguf_file_n_keys(file), N_OF(expected));
    for (size_t i = 0; i < N_OF(expected); i++) {
        const char * key    = expected[i].key;
        const bool   fits   = expected[i].value != -1;
        int64_t      number = 77;
        uint64_t     size   = 77;
        uint32_t     narrow = 77;
        double       wide   = 77;
        bool         truth  = false;
        const char * text   = "as it was";

        assert_int_equal(key_of(file, key, expected[i].type), i);
        assert_int_equal(gguf_file_element_type(file, i), expected[i].type);
        assert_int_equal(gguf_file_n_values(file, i), 1);

        assert_int_equal(gguf_file_get_i64(file, key, &number), fits);
        assert_int_equal(number, fits ? expected[i].value : 77);

        const bool positive = !fits || expected[i].value >= 0;
        assert_int_equal(gguf_file_get_u64(file, key, &size), positive);
        assert_int_equal(size, positive ? expected[i].positive : 77);

        const bool is_narrow = positive && expected[i].positive <= UINT32_MAX;
        assert_int_equal(gguf_file_get_u32(file, key, &narrow), is_narrow);
        assert_int_equal(narrow, is_narrow ? expected[i].positive : 77);

        assert_true(gguf_file_get_f64(file, key, &wide));
        assert_true(wide == expected[i].wide);

        assert_int_equal(gguf_file_get_bool(file, key, &truth), expected[i].type == GGUF_FILE_BOOL);
        assert_int_equal(truth, strcmp(key, "yes") == 0);
        assert_false(gguf_file_get_string(file, key, &text));
        assert_string_equal(text, "as it was");
    }
    gguf_file_close(file);
}

static void floats_and_strings_come_back(void ** state) {
    (void) state;
    struct gguf_file_writer * writer = gguf_file_writer_new("keys.gguf");
    gguf_file_writer_set_f32   (writer, "f32",   1e-6f);
    gguf_file_writer_set_f64   (writer, "f64",   -0.1);
    gguf_file_writer_set_string(writer, "text",  "Größe: 8×7B\n");
    gguf_file_writer_set_string(writer, "empty", "");
    struct gguf_file * file = finish_and_open(writer, "keys.gguf");

    double       number = 0;
    int64_t      whole  = 77;
    const char * text   = NULL;
    key_of(file, "f32",  GGUF_FILE_F32);
    key_of(file, "f64",  GGUF_FILE_F64);
    key_of(file, "text", GGUF_FILE_STRING);
    assert_true(gguf_file_get_f64(file, "f32", &number));
    assert_true(number == (double) 1e-6f);
    assert_true(gguf_file_get_f64(file, "f64", &number));
    assert_true(number == -0.1);
    assert_true(gguf_file_get_string(file, "text", &text));
    assert_string_equal(text, "Größe: 8×7B\n");
    assert_true(gguf_file_get_string(file, "empty", &text));
    assert_string_equal(text, "");

    assert_false(gguf_file_get_f64(file, "text", &number));
    assert_false(gguf_file_get_i64(file, "f32",  &whole));
    assert_false(gguf_file_get_i64(file, "none", &whole));
    assert_int_equal(whole, 77);
    assert_int_equal(gguf_file_find_key(file, "none"), -1);
    gguf_file_close(file);
}

static void arrays_come_back(void ** state) {
    (void) state;
    static const uint8_t  u8s [] = { 0, 1, UINT8_MAX };
    static const int8_t   i8s [] = { INT8_MIN, 0, INT8_MAX };
    static const uint16_t u16s[] = { 0, 1, UINT16_MAX };
    static const int16_t  i16s[] = { INT16_MIN, 0, INT16_MAX };
    static const uint32_t u32s[] = { 0, 1, UINT32_MAX };
    static const int32_t  i32s[] = { INT32_MIN, 0, INT32_MAX };
    static const uint64_t u64s[] = { 0, 1, 1ull << 53 };
    static const int64_t  i64s[] = { INT64_MIN, 0, 1ll << 53 };
    static const float    f32s[] = { -0.5f, 0.0f, 1e30f };
    static const double   f64s[] = { -0.1, 0.0, 1e300 };
    static const uint8_t  bools[] = { 1, 0, 1 };
    static const struct {
        const char *              key;
        enum gguf_file_value_type type;
        const void *              values;
        double                    expected[3];
    } arrays[] = {
        { "odd",   GGUF_FILE_U8,   u8s,   { 0, 1, UINT8_MAX }                         }, // nothing behind it is aligned
        { "i8s",   GGUF_FILE_I8,   i8s,   { INT8_MIN, 0, INT8_MAX }                   },
        { "u16s",  GGUF_FILE_U16,  u16s,  { 0, 1, UINT16_MAX }                        },
        { "i16s",  GGUF_FILE_I16,  i16s,  { INT16_MIN, 0, INT16_MAX }                 },
        { "u32s",  GGUF_FILE_U32,  u32s,  { 0, 1, UINT32_MAX }                        },
        { "i32s",  GGUF_FILE_I32,  i32s,  { INT32_MIN, 0, INT32_MAX }                 },
        { "u64s",  GGUF_FILE_U64,  u64s,  { 0, 1, 9007199254740992.0 }                },
        { "i64s",  GGUF_FILE_I64,  i64s,  { -9223372036854775808.0, 0, 9007199254740992.0 } },
        { "f32s",  GGUF_FILE_F32,  f32s,  { -0.5, 0, (double) 1e30f }                 },
        { "f64s",  GGUF_FILE_F64,  f64s,  { -0.1, 0, 1e300 }                          },
        { "bools", GGUF_FILE_BOOL, bools, { 1, 0, 1 }                                 },
    };
    struct gguf_file_writer * writer = gguf_file_writer_new("arrays.gguf");
    for (size_t i = 0; i < N_OF(arrays); i++) {
        gguf_file_writer_set_array(writer, arrays[i].key, arrays[i].type, arrays[i].values, 3);
    }
    struct gguf_file * file = finish_and_open(writer, "arrays.gguf");
    for (size_t i = 0; i < N_OF(arrays); i++) {
        const size_t i_key = key_of(file, arrays[i].key, GGUF_FILE_ARRAY);
        double       value = 77;
        assert_int_equal(gguf_file_element_type(file, i_key), arrays[i].type);
        assert_int_equal(gguf_file_n_values(file, i_key), 3);
        for (size_t j = 0; j < 3; j++) {
            assert_true(gguf_file_value_f64(file, (int64_t) i_key, j, &value));
            assert_true(value == arrays[i].expected[j]);
        }
        value = 77;
        assert_false(gguf_file_value_f64(file, (int64_t) i_key, 3, &value));
        assert_false(gguf_file_get_f64(file, arrays[i].key, &value)); // is no plain value
        assert_true(value == 77);
    }
    gguf_file_close(file);
}

static void arrays_of_strings_come_back(void ** state) {
    (void) state;
    static const char * const texts[] = { "", "<s>", "Ġ", "", "a longer one, of several words", "" };

    struct gguf_file_writer * writer = gguf_file_writer_new("strings.gguf");
    gguf_file_writer_set_array(writer, "none",  GGUF_FILE_STRING, NULL,  0);
    gguf_file_writer_set_array(writer, "texts", GGUF_FILE_STRING, texts, N_OF(texts));
    gguf_file_writer_set_array(writer, "empty", GGUF_FILE_F32,    NULL,  0);
    struct gguf_file * file  = finish_and_open(writer, "strings.gguf");
    const int64_t      i_key = (int64_t) key_of(file, "texts", GGUF_FILE_ARRAY);
    const char *       text  = NULL;
    size_t             size  = 0;
    assert_int_equal(gguf_file_n_values(file, (size_t) i_key), N_OF(texts));
    for (size_t i = 0; i < N_OF(texts); i++) {
        assert_true(gguf_file_value_string(file, i_key, i, &text, &size));
        assert_string_equal(text, texts[i]);
        assert_int_equal(size, strlen(texts[i]));
    }
    assert_false(gguf_file_value_string(file, i_key, N_OF(texts), &text, NULL));
    assert_false(gguf_file_value_string(file, gguf_file_find_key(file, "none"), 0, &text, NULL));
    assert_int_equal(gguf_file_n_values(file, key_of(file, "none",  GGUF_FILE_ARRAY)), 0);
    assert_int_equal(gguf_file_n_values(file, key_of(file, "empty", GGUF_FILE_ARRAY)), 0);
    gguf_file_close(file);
}

static void strings_may_hold_a_nul(void ** state) {
    (void) state;
    struct bytes bytes = header(3, 0, 1);
    put_string(&bytes, "text");
    put_u32(&bytes, GGUF_FILE_STRING);
    put_u64(&bytes, 3);
    put(&bytes, "a\0b", 3);
    save("nul.gguf", bytes.data, bytes.size);

    struct gguf_file * file = open_file("nul.gguf");
    const char *       text = NULL;
    size_t             size = 0;
    assert_true(gguf_file_value_string(file, 0, 0, &text, &size));
    assert_int_equal(size, 3);
    assert_memory_equal(text, "a\0b", 4);
    gguf_file_close(file);
}

static void keys_are_replaced_in_their_place(void ** state) {
    (void) state;
    struct gguf_file_writer * writer = gguf_file_writer_new("keys.gguf");
    gguf_file_writer_set_string(writer, "first",  "a text");
    gguf_file_writer_set_u32   (writer, "second", 2);
    gguf_file_writer_set_u32   (writer, "first",  1);
    gguf_file_writer_set_u32   (writer, "general.alignment", 4096); // the file has its own
    struct gguf_file * file  = finish_and_open(writer, "keys.gguf");
    uint32_t           value = 0;
    assert_int_equal(gguf_file_n_keys(file), 2);
    assert_int_equal(key_of(file, "first",  GGUF_FILE_U32), 0);
    assert_int_equal(key_of(file, "second", GGUF_FILE_U32), 1);
    assert_true(gguf_file_get_u32(file, "first", &value));
    assert_int_equal(value, 1);
    gguf_file_close(file);
}

// More keys and tensors than fit into the first pieces of memory, and one of every kind of value.
static struct gguf_file_writer * write_sample(const char * path) {
    static const char * const texts[]  = { "one", "", "three" };
    static const double       values[] = { 0.5, -2 };
    static const uint64_t     ne[]     = { 32, 3 };

    struct gguf_file_writer * writer = gguf_file_writer_new(path);
    gguf_file_writer_set_string(writer, "general.architecture", "llama");
    gguf_file_writer_set_u8    (writer, "u8",    8);
    gguf_file_writer_set_i16   (writer, "i16",   -16);
    gguf_file_writer_set_u32   (writer, "u32",   32);
    gguf_file_writer_set_i64   (writer, "i64",   -64);
    gguf_file_writer_set_f32   (writer, "f32",   0.25f);
    gguf_file_writer_set_bool  (writer, "bool",  true);
    gguf_file_writer_set_array (writer, "texts", GGUF_FILE_STRING, texts,  N_OF(texts));
    gguf_file_writer_set_array (writer, "f64s",  GGUF_FILE_F64,    values, N_OF(values));

    static const uint32_t types[] = { GGUF_FILE_TENSOR_F32, 2, GGUF_FILE_TENSOR_F16, GGUF_FILE_TENSOR_F64,
                                      8, GGUF_FILE_TENSOR_I32 };
    for (size_t i = 0; i < N_OF(types); i++) {
        char name[32];
        snprintf(name, sizeof(name), "blk.%zu.weight", i);
        assert_int_equal(gguf_file_writer_add_tensor(writer, name, types[i], 1 + i%2, ne), i);
    }
    return writer;
}

static void copied_keys_are_the_same(void ** state) {
    (void) state;
    struct gguf_file *        file   = finish_and_open(write_sample("sample.gguf"), "sample.gguf");
    struct gguf_file_writer * writer = gguf_file_writer_new("copy.gguf");
    for (size_t i = 0; i < gguf_file_n_keys(file); i++) {
        gguf_file_writer_copy_key(writer, file, i);
    }
    for (size_t i = 0; i < gguf_file_n_tensors(file); i++) {
        const struct gguf_file_tensor * tensor = gguf_file_tensor(file, i);
        gguf_file_writer_add_tensor(writer, tensor->name, tensor->type, tensor->n_dims, tensor->ne);
    }
    gguf_file_close(file);
    gguf_file_close(finish_and_open(writer, "copy.gguf"));

    struct bytes original;
    struct bytes copy;
    load("sample.gguf", &original);
    load("copy.gguf",   &copy);
    assert_int_equal(copy.size, original.size);
    assert_memory_equal(copy.data, original.data, copy.size);
}

//
// tensors
//

static void tensors_come_back(void ** state) {
    (void) state;
    static const struct {
        const char * name;
        uint32_t     type;
        const char * type_name;
        uint32_t     n_dims;
        uint64_t     ne[4];
        uint64_t     nbytes;
    } tensors[] = {
        { "scalar",     GGUF_FILE_TENSOR_F32,  "f32",     0, { 0 },            4            },
        { "vector",     GGUF_FILE_TENSOR_F32,  "f32",     1, { 5 },            5*4          },
        { "matrix",     GGUF_FILE_TENSOR_F16,  "f16",     2, { 3, 7 },         3*7*2        },
        { "cube",       GGUF_FILE_TENSOR_BF16, "bf16",    3, { 3, 5, 2 },      3*5*2*2      },
        { "experts",    2,                     "q4_0",    4, { 64, 3, 2, 1 },  3*2*2*18     },
        { "super",      14,                    "q6_K",    2, { 512, 2 },       2*2*210      },
        { "scales",     39,                    "mxfp4",   1, { 32 },           17           },
        { "integers",   GGUF_FILE_TENSOR_I32,  "i32",     1, { 3 },            3*4          },
        { "counts",     GGUF_FILE_TENSOR_I64,  "i64",     2, { 1, 3 },         3*8          },
        { "doubles",    GGUF_FILE_TENSOR_F64,  "f64",     1, { 9 },            9*8          },
        { "nothing",    GGUF_FILE_TENSOR_F32,  "f32",     2, { 0, 4 },         0            },
    };
    uint8_t                   data[4096];
    struct gguf_file_writer * writer = gguf_file_writer_new("tensors.gguf");
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t) (1 + i%251);
    }
    for (size_t i = 0; i < N_OF(tensors); i++) {
        assert_int_equal(gguf_file_writer_add_tensor(writer, tensors[i].name, tensors[i].type,
                                                     tensors[i].n_dims, tensors[i].ne), i);
    }
    for (size_t i = N_OF(tensors); i-- > 0; ) { // in any order, in pieces
        const size_t half = tensors[i].nbytes/2;
        gguf_file_writer_write(writer, (int64_t) i, half, data + i + half, tensors[i].nbytes - half);
        gguf_file_writer_write(writer, (int64_t) i, 0,    data + i,        half);
    }
    struct gguf_file * file = finish_and_open(writer, "tensors.gguf");

    uint64_t end = 0;
    assert_int_equal(gguf_file_n_tensors(file), N_OF(tensors));
    assert_null(gguf_file_find_tensor(file, "none"));
    for (size_t i = 0; i < N_OF(tensors); i++) {
        const struct gguf_file_tensor * tensor = gguf_file_find_tensor(file, tensors[i].name);
        uint64_t                        n      = 1;
        assert_ptr_equal(tensor, gguf_file_tensor(file, i));
        assert_string_equal(gguf_file_tensor_type_name(tensor->type), tensors[i].type_name);
        assert_int_equal(tensor->n_dims, tensors[i].n_dims);
        for (uint32_t j = 0; j < GGUF_FILE_MAX_DIMS; j++) {
            assert_int_equal(tensor->ne[j], j < tensors[i].n_dims ? tensors[i].ne[j] : 1);
            n *= tensor->ne[j];
        }
        assert_int_equal(gguf_file_n_elements(tensor), n);
        assert_int_equal(tensor->nbytes, tensors[i].nbytes);
        assert_int_equal(tensor->offset % 32, 0);
        assert_true(tensor->offset >= end);
        assert_data(file, i, data + i, (size_t) tensor->nbytes);
        end = tensor->offset + tensor->nbytes;
    }
    assert_null(gguf_file_tensor_type_name(4));
    assert_null(gguf_file_tensor_type_name(UINT32_MAX));
    gguf_file_close(file);
}

static void a_writer_tells_of_its_tensors(void ** state) {
    (void) state;
    static const uint64_t ne[] = { 5, 2 };

    struct gguf_file_writer * writer = gguf_file_writer_new("tensors.gguf");
    gguf_file_writer_add_tensor(writer, "first",  GGUF_FILE_TENSOR_F16, 1, ne);
    gguf_file_writer_add_tensor(writer, "second", GGUF_FILE_TENSOR_F32, 2, ne);
    const struct gguf_file_tensor * tensor = gguf_file_writer_tensor(writer, 1);
    assert_non_null(tensor);
    assert_string_equal(tensor->name, "second");
    assert_int_equal(tensor->nbytes, 40);
    assert_int_equal(tensor->offset, 32);
    assert_null(gguf_file_writer_tensor(writer, 2));
    assert_null(gguf_file_writer_tensor(writer, -1));
    gguf_file_writer_discard(writer);
}

static void what_is_not_written_is_a_hole(void ** state) {
    (void) state;
    static const uint64_t large = 4u << 20;
    static const uint64_t small = 16;

    struct gguf_file_writer * writer = gguf_file_writer_new("holes.gguf");
    gguf_file_writer_add_tensor(writer, "hole",  GGUF_FILE_TENSOR_F32, 1, &large);
    gguf_file_writer_add_tensor(writer, "data",  GGUF_FILE_TENSOR_F32, 1, &small);
    gguf_file_writer_add_tensor(writer, "hole2", GGUF_FILE_TENSOR_F32, 1, &large);
    gguf_file_writer_write(writer, 1, 20, "here", 4);
    struct gguf_file * file = finish_and_open(writer, "holes.gguf");

    struct stat about;
    assert_int_equal(stat("holes.gguf", &about), 0);
    assert_true(about.st_size > 2*(off_t) large*4);
    assert_true((off_t) about.st_blocks*512 < 1 << 20);

    for (size_t i = 0; i < 3; i++) {
        const struct gguf_file_tensor * tensor = gguf_file_tensor(file, i);
        uint8_t *                       data   = data_of(file, i);
        size_t                          n      = 0;
        for (uint64_t j = 0; j < tensor->nbytes; j++) {
            n += data[j] != 0;
        }
        assert_int_equal(n, i == 1 ? 4 : 0);
        free(data);
    }
    char here[4];
    assert_true(gguf_file_read(file, gguf_file_tensor(file, 1), 20, here, sizeof(here)));
    assert_memory_equal(here, "here", 4);
    assert_true (gguf_file_read(file, gguf_file_tensor(file, 1), 60, here, 4));
    assert_false(gguf_file_read(file, gguf_file_tensor(file, 1), 61, here, 4)); // not what is behind it
    assert_false(gguf_file_read(file, gguf_file_tensor(file, 1), UINT64_MAX, here, 4));
    gguf_file_close(file);
}

static void data_is_aligned_behind_any_header(void ** state) {
    (void) state;
    static const uint64_t n     = 7;
    char                  key[] = "0123456789012345678901234567890123456789";
    for (size_t i = strlen(key); i > 0; i--) {
        key[i] = '\0';
        struct gguf_file_writer * writer = gguf_file_writer_new("aligned.gguf");
        gguf_file_writer_set_u8(writer, key, 1);
        gguf_file_writer_add_tensor(writer, "tensor", GGUF_FILE_TENSOR_I32, 1, &n);
        gguf_file_writer_write(writer, 0, 0, "the tensor's data, 28 bytes.", 28);
        struct gguf_file * file = finish_and_open(writer, "aligned.gguf");
        assert_data(file, 0, "the tensor's data, 28 bytes.", 28);
        gguf_file_close(file);

        struct bytes bytes;
        load("aligned.gguf", &bytes);
        assert_int_equal(bytes.size % 32, 0);
        assert_memory_equal(bytes.data + bytes.size - 32, "the tensor's data, 28 bytes.", 28);
    }
}

static struct bytes aligned_file(uint32_t version, uint32_t alignment, uint64_t offset) {
    static const uint64_t ne    = 1;
    struct bytes          bytes = header(version, 1, 1);
    put_string(&bytes, "general.alignment");
    put_u32(&bytes, GGUF_FILE_U32);
    put_u32(&bytes, alignment);
    put_tensor(&bytes, "tensor", 1, &ne, GGUF_FILE_TENSOR_I32, offset);
    while (alignment > 0 && bytes.size % alignment != 0) {
        put(&bytes, "", 1);
    }
    put_zeros(&bytes, offset);
    put(&bytes, "data", 4);
    return bytes;
}

static void the_alignment_of_a_file_is_followed(void ** state) {
    (void) state;
    static const uint32_t alignments[] = { 1, 2, 8, 32, 64, 1024 };
    for (size_t i = 0; i < N_OF(alignments); i++) {
        for (uint32_t version = 2; version <= 3; version++) {
            const struct bytes bytes = aligned_file(version, alignments[i], alignments[i]);
            save("aligned.gguf", bytes.data, bytes.size);
            struct gguf_file * file = open_file("aligned.gguf");
            assert_data(file, 0, "data", 4);
            gguf_file_close(file);
        }
    }
    static const uint32_t wrong[] = { 0, 3, 48, UINT32_MAX, 1u << 31 };
    for (size_t i = 0; i < N_OF(wrong); i++) {
        struct bytes bytes = aligned_file(3, 0, 0);
        memcpy(bytes.data + 4 + 4 + 8 + 8 + 8 + strlen("general.alignment") + 4, &wrong[i], sizeof(wrong[i]));
        assert_bytes_refused(&bytes, "general.alignment");
    }
    struct bytes bytes = aligned_file(3, 8, 12);
    assert_bytes_refused(&bytes, "tensor tensor is not aligned");
}

//
// damaged files
//

static void write_complete_sample(const char * path, struct bytes * bytes) {
    struct gguf_file_writer * writer = write_sample(path);
    for (int64_t i = 0; gguf_file_writer_tensor(writer, i); i++) {
        const uint8_t data[1024] = { (uint8_t) i };
        gguf_file_writer_write(writer, i, 0, data, gguf_file_writer_tensor(writer, i)->nbytes);
    }
    gguf_file_close(finish_and_open(writer, path));
    load(path, bytes);
}

// Where the data of the first tensor is: what comes before it is the header.
static size_t header_size(const char * path, const struct bytes * bytes) {
    struct gguf_file * file = open_file(path);
    const size_t       n    = gguf_file_n_tensors(file);
    const struct gguf_file_tensor * last = gguf_file_tensor(file, n - 1);
    const size_t       size = bytes->size - (last->offset + last->nbytes);
    assert_int_equal((last->offset + last->nbytes) % 32, 0); // nothing behind the last tensor's data
    gguf_file_close(file);
    return size;
}

static void a_truncated_file_is_refused(void ** state) {
    (void) state;
    struct bytes bytes;
    write_complete_sample("sample.gguf", &bytes);
    assert_true(header_size("sample.gguf", &bytes) > 400);

    for (size_t size = bytes.size; size-- > 1; ) {
        assert_int_equal(truncate("sample.gguf", (off_t) size), 0);
        assert_refused("sample.gguf", "truncated");
    }
    assert_int_equal(truncate("sample.gguf", 0), 0);
    assert_refused("sample.gguf", "is empty");
}

// Who reads it finds less than there was, and is told so.
static void a_file_that_becomes_shorter_is_no_danger(void ** state) {
    (void) state;
    struct bytes bytes;
    write_complete_sample("sample.gguf", &bytes);
    for (size_t size = bytes.size; size > 0; size -= size > 7 ? 7 : size) {
        save("sample.gguf", bytes.data, bytes.size);
        struct gguf_file * file = open_file("sample.gguf");
        assert_int_equal(truncate("sample.gguf", (off_t) size), 0);
        for (size_t i = 0; i < gguf_file_n_tensors(file); i++) {
            const struct gguf_file_tensor * tensor = gguf_file_tensor(file, i);
            const struct gguf_file_tensor * last   = gguf_file_tensor(file, gguf_file_n_tensors(file) - 1);
            const size_t end = bytes.size - (size_t) last->nbytes - (size_t) last->offset
                               + (size_t) (tensor->offset + tensor->nbytes);
            uint8_t data[1024];
            assert_int_equal(gguf_file_read(file, tensor, 0, data, (size_t) tensor->nbytes), end <= size);
            assert_ptr_equal(gguf_file_find_tensor(file, tensor->name), tensor);
        }
        gguf_file_close(file);
    }
}

// Each of very many tensors is found: with a walk through all of them for each that would be 5,000,000,000 comparisons.
static void many_tensors_are_no_trouble(void ** state) {
    (void) state;
    enum { N = 100000 };
    static const uint64_t ne   = 1;
    FILE *                out  = fopen("many.gguf", "wb");
    struct bytes          part = header(3, N, 0);
    assert_non_null(out);
    fwrite(part.data, 1, part.size, out);
    for (int i = 0; i < N; i++) {
        char name[64];
        snprintf(name, sizeof(name), "blk.%d.ffn_up_exps.weight", i * 7919 % N); // in no order
        part.size = 0;
        put_tensor(&part, name, 1, &ne, GGUF_FILE_TENSOR_F32, 0);
        fwrite(part.data, 1, part.size, out);
    }
    part.size = 0;
    put_zeros(&part, 64);
    fwrite(part.data, 1, part.size, out);
    assert_int_equal(fclose(out), 0);

    n_compared = 0;
    struct gguf_file * file = open_file("many.gguf");
    for (int i = 0; i < N; i++) {
        char name[64];
        snprintf(name, sizeof(name), "blk.%d.ffn_up_exps.weight", i);
        const struct gguf_file_tensor * found = gguf_file_find_tensor(file, name);
        assert_non_null(found);
        assert_int_equal(memcmp(found->name, name, strlen(name) + 1), 0);
    }
    assert_null(gguf_file_find_tensor(file, "blk"));
    assert_null(gguf_file_find_tensor(file, "z"));
    assert_true(n_compared < 50u * N);
    gguf_file_close(file);
}

static void of_two_tensors_of_one_name_the_first_is_found(void ** state) {
    (void) state;
    static const uint64_t ne    = 1;
    struct bytes          bytes = header(3, 3, 0);
    put_tensor(&bytes, "twice", 1, &ne, GGUF_FILE_TENSOR_F32, 32);
    put_tensor(&bytes, "once",  1, &ne, GGUF_FILE_TENSOR_F32, 0);
    put_tensor(&bytes, "twice", 1, &ne, GGUF_FILE_TENSOR_F32, 64);
    put_zeros(&bytes, 160);
    save("twice.gguf", bytes.data, bytes.size);
    struct gguf_file * file = open_file("twice.gguf");
    assert_ptr_equal(gguf_file_find_tensor(file, "twice"), gguf_file_tensor(file, 0));
    assert_ptr_equal(gguf_file_find_tensor(file, "once"),  gguf_file_tensor(file, 1));
    gguf_file_close(file);
}

static uint32_t next_random(uint32_t * random) {
    *random ^= *random << 13;
    *random ^= *random >> 17;
    *random ^= *random << 5;
    return *random;
}

static void mutate(struct bytes * bytes, size_t n_header, uint32_t * random) {
    static const uint64_t numbers[] = { 0, 1, 5, 255, INT32_MAX, UINT32_MAX, 1ull << 32, INT64_MAX, 1ull << 63,
                                        UINT64_MAX - 7, UINT64_MAX };

    const uint64_t number = numbers[next_random(random) % N_OF(numbers)];
    const size_t   at     = next_random(random) % n_header;
    switch (next_random(random) % 5) {
        case 0: bytes->data[at] ^= (uint8_t) (1u << next_random(random)%8); break;
        case 1: bytes->data[at]  = (uint8_t) next_random(random);           break;
        case 2: bytes->data[at]  = (uint8_t) (next_random(random) % 16);    break; // types, small counts
        case 3: memcpy(bytes->data + at, &number, 4);                       break;
        case 4: memcpy(bytes->data + at, &number, 8);                       break;
    }
}

// Reads all there is, of every kind.
static size_t walk(const struct gguf_file * file) {
    size_t sum = 0;
    for (size_t i = 0; i < gguf_file_n_keys(file); i++) {
        size_t       size    = 0;
        const void * encoded = gguf_file_encoded(file, i, &size);
        sum += strlen(gguf_file_key(file, i)) + (size > 0 && ((const uint8_t *) encoded)[size - 1]);
        for (size_t j = 0; j <= gguf_file_n_values(file, i); j++) {
            const int64_t i_key  = (int64_t) i;
            uint64_t      size64 = 0;
            int64_t       number = 0;
            double        wide   = 0;
            bool          truth  = false;
            const char *  text   = "";
            size_t        n_text = 0;
            sum += gguf_file_value_u64   (file, i_key, j, &size64);
            sum += gguf_file_value_i64   (file, i_key, j, &number);
            sum += gguf_file_value_f64   (file, i_key, j, &wide);
            sum += gguf_file_value_bool  (file, i_key, j, &truth);
            sum += gguf_file_value_string(file, i_key, j, &text, &n_text);
            sum += text[n_text] == '\0';
        }
    }
    for (size_t i = 0; i < gguf_file_n_tensors(file); i++) {
        const struct gguf_file_tensor * tensor = gguf_file_tensor(file, i);
        uint8_t *                       data   = data_of(file, i);
        sum += strlen(tensor->name) + gguf_file_n_elements(tensor)%2;
        for (uint64_t j = 0; j < tensor->nbytes; j++) {
            sum += data[j];
        }
        free(data);
    }
    return sum;
}

static void a_damaged_file_is_no_danger(void ** state) {
    (void) state;
    struct bytes sample;
    write_complete_sample("sample.gguf", &sample);
    const size_t n_header  = header_size("sample.gguf", &sample);
    uint32_t     random    = 2463534242u;
    size_t       n_read    = 0;
    size_t       n_refused = 0;
    size_t       sum       = 0;
    for (int i = 0; i < 10000; i++) {
        struct bytes bytes = sample;
        for (uint32_t j = next_random(&random) % 3 + 1; j > 0; j--) {
            mutate(&bytes, n_header, &random);
        }
        save("mutated.gguf", bytes.data, bytes.size);
        char               error[256] = "";
        struct gguf_file * file       = gguf_file_open("mutated.gguf", error, sizeof(error));
        if (file) {
            sum += walk(file);
            gguf_file_close(file);
            n_read++;
        } else {
            assert_names_file(error, "mutated.gguf", "");
            n_refused++;
        }
    }
    assert_true(n_read    > 500);
    assert_true(n_refused > 500);
    assert_true(sum       > 0);
}

static void other_files_are_refused(void ** state) {
    (void) state;
    static const struct {
        const char * magic;
        uint32_t     version;
        const char * why;
    } files[] = {
        { "GGUX", 3,          "not a GGUF file" },
        { "ggml", 3,          "not a GGUF file" },
        { "GGUF", 1,          "version 1"       },
        { "GGUF", 4,          "version 4"       },
        { "GGUF", 0x03000000, "big-endian"      },
    };
    for (size_t i = 0; i < N_OF(files); i++) {
        struct bytes bytes = header(files[i].version, 0, 0);
        memcpy(bytes.data, files[i].magic, 4);
        put_zeros(&bytes, 64);
        assert_bytes_refused(&bytes, files[i].why);
    }
    for (uint32_t version = 2; version <= 3; version++) {
        const struct bytes bytes = header(version, 0, 0);
        save("bytes.gguf", bytes.data, bytes.size);
        struct gguf_file * file = open_file("bytes.gguf");
        assert_int_equal(gguf_file_n_keys(file) + gguf_file_n_tensors(file), 0);
        gguf_file_close(file);
    }
    assert_int_equal(mkdir("folder.gguf", 0700), 0);
    assert_refused("folder.gguf",  "not a regular file");
    assert_refused("missing.gguf", "No such file");
}

static void impossible_counts_are_refused(void ** state) {
    (void) state;
    static const uint64_t counts[] = { 100, UINT32_MAX, 1ull << 60, INT64_MAX, UINT64_MAX - 1, UINT64_MAX };
    for (size_t i = 0; i < N_OF(counts); i++) {
        struct bytes bytes = header(3, counts[i], 0);
        put_zeros(&bytes, 64);
        assert_bytes_refused(&bytes, "tensors, more than");

        bytes = header(3, 0, counts[i]);
        put_zeros(&bytes, 64);
        assert_bytes_refused(&bytes, "keys");

        bytes = header(3, 0, 1); // the size of a key's name
        put_u64(&bytes, counts[i]);
        put_zeros(&bytes, 64);
        assert_bytes_refused(&bytes, "in the middle of a key");

        bytes = header(3, 0, 1);
        put_string(&bytes, "text");
        put_u32(&bytes, GGUF_FILE_STRING);
        put_u64(&bytes, counts[i]);
        put_zeros(&bytes, 64);
        assert_bytes_refused(&bytes, "in the middle of a string");

        static const uint32_t types[] = { GGUF_FILE_U8, GGUF_FILE_F64, GGUF_FILE_STRING };
        for (size_t j = 0; j < N_OF(types); j++) {
            bytes = header(3, 0, 1);
            put_string(&bytes, "array");
            put_u32(&bytes, GGUF_FILE_ARRAY);
            put_u32(&bytes, types[j]);
            put_u64(&bytes, counts[i]);
            put_zeros(&bytes, 64);
            assert_bytes_refused(&bytes, "array cannot hold");
        }
    }
}

static void impossible_keys_are_refused(void ** state) {
    (void) state;
    struct bytes bytes = header(3, 0, 1);
    put_string(&bytes, "strange");
    put_u32(&bytes, 13);
    put_zeros(&bytes, 64);
    assert_bytes_refused(&bytes, "strange has a value of type 13");

    bytes = header(3, 0, 1);
    put_string(&bytes, "nested");
    put_u32(&bytes, GGUF_FILE_ARRAY);
    put_u32(&bytes, GGUF_FILE_ARRAY);
    put_zeros(&bytes, 64);
    assert_bytes_refused(&bytes, "nested has a value of type 9");

    bytes = header(3, 0, 1);
    put_u64(&bytes, 3);
    put(&bytes, "a\0b", 3);
    put_zeros(&bytes, 64);
    assert_bytes_refused(&bytes, "a key holds a NUL");
}

static void impossible_tensors_are_refused(void ** state) {
    (void) state;
    static const struct {
        uint32_t     type;
        uint32_t     n_dims;
        uint64_t     ne[5];
        uint64_t     offset;
        const char * why;
    } tensors[] = {
        { GGUF_FILE_TENSOR_F32, 5, { 1, 1, 1, 1, 1 },  0,               "more than 4 dimensions" },
        { 4,                    1, { 32 },             0,               "type that is not known" },
        { UINT32_MAX,           1, { 32 },             0,               "type that is not known" },
        { 2,                    1, { 33 },             0,               "block"                  },
        { GGUF_FILE_TENSOR_F32, 1, { UINT64_MAX },     0,               "too large"              },
        { GGUF_FILE_TENSOR_F64, 1, { 1ull << 61 },     0,               "too large"              },
        { GGUF_FILE_TENSOR_F32, 4, { 1u << 31, 1u << 31, 1u << 31, 1u << 31 }, 0, "too large" },
        { GGUF_FILE_TENSOR_F32, 1, { 1ull << 58 },     0,               "before the data"        },
        { GGUF_FILE_TENSOR_F32, 1, { 65 },             0,               "before the data"        },
        { GGUF_FILE_TENSOR_F32, 1, { 8 },              UINT64_MAX - 31, "before the data"        },
        { GGUF_FILE_TENSOR_F32, 1, { 8 },              1ull << 32,      "before the data"        },
        { GGUF_FILE_TENSOR_F32, 1, { 8 },              4,               "not aligned"            },
    };
    for (size_t i = 0; i < N_OF(tensors); i++) {
        struct bytes bytes = header(3, 1, 0);
        put_tensor(&bytes, "x", tensors[i].n_dims, tensors[i].ne, tensors[i].type, tensors[i].offset);
        put_zeros(&bytes, 31 - (bytes.size + 31)%32);
        put_zeros(&bytes, 256);
        assert_bytes_refused(&bytes, tensors[i].why);
    }
    struct bytes bytes = header(3, 1, 0);
    put_string(&bytes, "x");
    put_u32(&bytes, UINT32_MAX);
    put_zeros(&bytes, 64);
    assert_bytes_refused(&bytes, "more than 4 dimensions");
}

//
// files on their way
//

static void an_abandoned_file_leaves_nothing_behind(void ** state) {
    (void) state;
    gguf_file_writer_discard(NULL);
    gguf_file_writer_discard(write_sample("new.gguf"));
    assert_int_equal(n_files(), 0);

    save("old.gguf", "old", 3);
    static const char * const paths[] = { "new.gguf", "old.gguf" };
    for (size_t i = 0; i < N_OF(paths); i++) {
        struct gguf_file_writer * writer = write_sample(paths[i]);
        gguf_file_writer_write(writer, 0, 0, "data", 4);
        assert_int_equal(n_files(), 2); // the new one is beside its name
        assert_int_equal(access("new.gguf", F_OK), -1);
        gguf_file_writer_discard(writer);
        assert_int_equal(n_files(), 1);
    }
    struct bytes bytes;
    load("old.gguf", &bytes);
    assert_int_equal(bytes.size, 3);
}

static void a_finished_file_replaces(void ** state) {
    (void) state;
    save("old.gguf", "old", 3);
    struct gguf_file_writer * first  = write_sample("old.gguf");
    struct gguf_file_writer * second = write_sample("old.gguf");
    gguf_file_writer_write(first,  0, 0, "one", 3);
    gguf_file_writer_write(second, 0, 0, "two", 3);
    assert_int_equal(n_files(), 3);
    gguf_file_close(finish_and_open(first, "old.gguf"));
    struct gguf_file * file = finish_and_open(second, "old.gguf");
    assert_data(file, 0, "two", 3);
    gguf_file_close(file);
    assert_int_equal(n_files(), 1);
}

static void the_first_failure_is_told(void ** state) {
    (void) state;
    static const uint64_t ne[] = { 33, 1, 1, 1, 1 };
    const struct {
        const char * name;
        uint32_t     type;
        uint32_t     n_dims;
        uint64_t     ne[5];
        const char * why;
    } tensors[] = {
        { "wide",   GGUF_FILE_TENSOR_F32, 5, { 1, 1, 1, 1, 1 }, "tensor wide has more than 4 dimensions" },
        { "block",  2,                    1, { 33 },            "tensor block has rows"                  },
        { "type",   4,                    1, { 1 },             "tensor type has a type"                 },
        { "large",  GGUF_FILE_TENSOR_F32, 1, { UINT64_MAX },    "tensor large is too large"              },
        { "a name of sixty-four bytes: one more than ggml has room for, NUL", GGUF_FILE_TENSOR_F32, 1,
          { 1 }, "too long a name" },
    };
    for (size_t i = 0; i < N_OF(tensors); i++) {
        struct gguf_file_writer * writer = write_sample("failed.gguf");
        assert_int_equal(gguf_file_writer_add_tensor(writer, tensors[i].name, tensors[i].type,
                                                     tensors[i].n_dims, tensors[i].ne), -1);
        assert_int_equal(gguf_file_writer_add_tensor(writer, "fine", GGUF_FILE_TENSOR_F32, 1, ne), -1);
        gguf_file_writer_set_u32(writer, "key", 1);
        gguf_file_writer_write(writer, -1, 0, "", 1);
        assert_not_written(writer, "failed.gguf", tensors[i].why);
    }

    struct gguf_file_writer * writer = write_sample("failed.gguf");
    gguf_file_writer_set_array(writer, "nested", GGUF_FILE_ARRAY, NULL, 0);
    assert_not_written(writer, "failed.gguf", "nested");

    writer = write_sample("failed.gguf");
    gguf_file_writer_write(writer, 0, 0, "data", 4);
    gguf_file_writer_set_u32(writer, "late", 1);
    assert_not_written(writer, "failed.gguf", "late comes after");

    writer = write_sample("failed.gguf");
    gguf_file_writer_write(writer, 0, 125, "data", 4);
    assert_not_written(writer, "failed.gguf", "beyond");

    writer = write_sample("failed.gguf");
    gguf_file_writer_write(writer, 0, UINT64_MAX, "data", 4);
    assert_not_written(writer, "failed.gguf", "beyond");

    writer = write_sample("failed.gguf");
    gguf_file_writer_write(writer, 77, 0, "data", 4);
    assert_not_written(writer, "failed.gguf", "no tensor 77");
    assert_int_equal(n_files(), 0);

    assert_not_written(write_sample("missing/failed.gguf"), "missing/failed.gguf", "cannot be created");

    assert_int_equal(mkdir("folder", 0700), 0);
    assert_not_written(write_sample("folder"), "folder", "cannot be renamed");
    assert_int_equal(n_files(), 1);
    assert_false(gguf_file_writer_finish(write_sample("folder"), NULL, 0));
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, enter_folder, leave_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(integers_come_back),
        TEST(floats_and_strings_come_back),
        TEST(arrays_come_back),
        TEST(arrays_of_strings_come_back),
        TEST(strings_may_hold_a_nul),
        TEST(keys_are_replaced_in_their_place),
        TEST(copied_keys_are_the_same),
        TEST(tensors_come_back),
        TEST(a_writer_tells_of_its_tensors),
        TEST(what_is_not_written_is_a_hole),
        TEST(data_is_aligned_behind_any_header),
        TEST(the_alignment_of_a_file_is_followed),
        TEST(a_truncated_file_is_refused),
        TEST(a_file_that_becomes_shorter_is_no_danger),
        TEST(many_tensors_are_no_trouble),
        TEST(of_two_tensors_of_one_name_the_first_is_found),
        TEST(a_damaged_file_is_no_danger),
        TEST(other_files_are_refused),
        TEST(impossible_counts_are_refused),
        TEST(impossible_keys_are_refused),
        TEST(impossible_tensors_are_refused),
        TEST(an_abandoned_file_leaves_nothing_behind),
        TEST(a_finished_file_replaces),
        TEST(the_first_failure_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
