// Preloaded: the last byte of one pread is another one, as if the file had changed for a moment. FLIP_READ is its
// number, from 1. The files that FLIP_COUNT and FLIP_BYTES name get the number of all, and of their bytes.

#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

static long n_reads;
static long n_bytes;

static void write_number(const char * variable, long number) {
    const char * path = getenv(variable);
    FILE       * out  = path == NULL ? NULL : fopen(path, "w");
    if (out != NULL) {
        fprintf(out, "%ld", number);
        fclose(out);
    }
}

__attribute__((destructor)) static void write_numbers(void) {
    write_number("FLIP_COUNT", n_reads);
    write_number("FLIP_BYTES", n_bytes);
}

static ssize_t flip(void * data, ssize_t n) {
    const char * wanted = getenv("FLIP_READ");
    n_bytes += n > 0 ? n : 0;
    if (n > 0 && ++n_reads == (wanted == NULL ? 0 : atol(wanted))) {
        ((unsigned char *) data)[n - 1] ^= 0x40;
    }
    return n;
}

static ssize_t read_at(int fd, void * data, size_t size, off64_t offset) {
    const struct iovec part = { data, size };
    return flip(data, preadv64(fd, &part, 1, offset));
}

ssize_t pread(int fd, void * data, size_t size, off_t offset) {
    return read_at(fd, data, size, offset);
}

ssize_t pread64(int fd, void * data, size_t size, off64_t offset) {
    return read_at(fd, data, size, offset);
}
