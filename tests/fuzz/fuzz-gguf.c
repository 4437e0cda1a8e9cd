// Whatever bytes there are as a GGUF file: all of its header, the ends of every tensor, and the counts of an imatrix.

#include "fuzz.h"

#include "gguf/gguf-reader.h"
#include "statistics/imatrix-file.h"
#include "statistics/statistics.h"

static void read_key(const struct gguf_file * file, size_t i) {
    const size_t n = gguf_file_n_values(file, i);
    for (size_t at = 0; at < n && at < 8; at++) {
        const char * string = NULL;
        size_t       length = 0;
        uint64_t     number;
        double       real;
        bool         truth;
        gguf_file_value_u64 (file, (int64_t) i, at, &number);
        gguf_file_value_f64 (file, (int64_t) i, at, &real);
        gguf_file_value_bool(file, (int64_t) i, at, &truth);
        if (gguf_file_value_string(file, (int64_t) i, at, &string, &length)) {
            EXPECT(string[length] == '\0');
        }
    }
    size_t size;
    EXPECT(gguf_file_encoded(file, i, &size) != NULL && size > 0);
    EXPECT(gguf_file_find_key(file, gguf_file_key(file, i)) >= 0);
}

static void read_tensor(const struct gguf_file * file, const struct gguf_file_tensor * tensor) {
    uint8_t bytes[16];
    EXPECT(gguf_file_find_tensor(file, tensor->name) != NULL);
    const size_t n = tensor->nbytes < sizeof(bytes) ? (size_t) tensor->nbytes : sizeof(bytes);
    EXPECT(gguf_file_read(file, tensor, 0, bytes, n));
    EXPECT(gguf_file_read(file, tensor, tensor->nbytes - n, bytes, n));
    EXPECT(!gguf_file_read(file, tensor, tensor->nbytes, bytes, 1));
}

int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    char               text[512];
    struct error       error;
    struct fuzz_file   input = fuzz_file_make(data, size);
    struct gguf_file * file  = gguf_file_open(input.path, text, sizeof(text));
    for (size_t i = 0; file && i < gguf_file_n_keys(file); i++) {
        read_key(file, i);
    }
    for (size_t i = 0; file && i < gguf_file_n_tensors(file); i++) {
        read_tensor(file, gguf_file_tensor(file, i));
    }
    gguf_file_close(file);
    statistics_free(imatrix_file_load(input.path, &error));
    close(input.fd);
    return 0;
}
