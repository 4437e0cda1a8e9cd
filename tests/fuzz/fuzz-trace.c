// Opens whatever bytes there are as a trace, reads all of it, packs it, reads that, unpacks it and reads that: each
// must tell the same. Compiled with EXPERT_TRACER_FUZZING every checksum counts as right.
//
// With -DMAIN it is a program that does so with the files that it is given.

#include "../trace/consume.h"

#include "trace/rewrite/trace-packer.h"
#include "trace/rewrite/trace-unpacker.h"

#include <sys/mman.h>
#include <unistd.h>

typedef const char * (* convert_fn)(const struct trace *, FILE *, rewriting_progress_fn, void *,
                                    struct trace_pack_report *);

int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size);

static FILE * memory_file(void) {
    const int fd  = memfd_create("trace", MFD_CLOEXEC);
    FILE    * out = fd < 0 ? NULL : fdopen(fd, "w+b");
    EXPECT(out != NULL);
    return out;
}

static struct trace * convert(const struct trace * trace, convert_fn fn, struct trace_pack_report * report) {
    char   path[64];
    char   error[TRACE_ERROR_MAX];
    FILE * out = memory_file();
    const char * wrong = fn(trace, out, NULL, NULL, report);
    EXPECT(fflush(out) == 0);
    if (wrong) { // chunks are numbered so high that there is no number left
        EXPECT(strcmp(wrong, "it has too many chunks") == 0);
        fclose(out);
        return NULL;
    }
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fileno(out));
    struct trace * converted = trace_open(path, error);
    EXPECT(converted != NULL && trace_about(converted)->file_size == report->size);
    fclose(out);
    return converted;
}

// What is damaged or unfinished is left out of what is written, and may no longer be in the way of the rest.
static bool is_whole(const struct trace * trace) {
    return trace_about(trace)->lost_bytes == 0 && trace_about(trace)->lost_chunks == 0 && consume(trace, 0).lost == 0;
}

static void expect_same(const struct trace * before, const struct trace * after) {
    const struct digest events_before = consume(before, 0);
    const struct digest events_after  = consume(after, 0);
    const struct digest info_before   = consume_info(before);
    const struct digest info_after    = consume_info(after);
    if (is_whole(before)) {
        EXPECT(events_before.hash == events_after.hash);
        EXPECT(info_before.hash == info_after.hash);
        EXPECT(is_whole(after));
    }
}

static void convert_both_ways(const struct trace * trace) {
    struct trace_pack_report report;
    struct trace * packed = convert(trace, trace_pack, &report);
    if (packed == NULL) {
        return;
    }
    EXPECT(report.size <= trace_about(trace)->file_size);
    expect_same(trace, packed);
    struct trace * unpacked = convert(packed, trace_unpack, &report);
    if (unpacked && is_whole(trace)) { // otherwise numbers of chunks that were lost before come to light again
        expect_same(packed, unpacked);
    }
    trace_close(unpacked);
    trace_close(packed);
}

int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    char           error[TRACE_ERROR_MAX];
    struct trace * trace = trace_open_memory(data, size, error);
    if (trace == NULL) {
        return 0;
    }
    const uint64_t n = trace_about(trace)->n_ubatches;
    consume(trace, n / 2);
    convert_both_ways(trace);
    trace_close(trace);
    return 0;
}

#ifdef MAIN
static void run_file(const char * path) {
    FILE * in = fopen(path, "rb");
    EXPECT(in != NULL && fseek(in, 0, SEEK_END) == 0);
    const size_t size = (size_t) ftell(in);
    uint8_t    * data = malloc(size + 1);
    rewind(in);
    EXPECT(data != NULL && fread(data, 1, size, in) == size);
    fclose(in);
    LLVMFuzzerTestOneInput(data, size);
    free(data);
}

int main(int argc, char ** argv) {
    for (int i = 1; i < argc; i++) {
        run_file(argv[i]);
    }
    printf("%d files\n", argc - 1);
    return argc > 1 ? 0 : 1;
}
#endif
