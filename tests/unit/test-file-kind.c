// Which kind of file something is by its first bytes, and what is never replaced.

#include "unit.h"

#include "folder.h"

#include "base/file-kind.h"
#include "trace/format/trace-format.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define N_KINDS (FILE_KIND_UNMARKED + 1)

struct sample {
    enum file_kind kind;
    const char   * content;
    size_t         size;
};

#define SAMPLE(kind, text) { kind, text, sizeof(text) - 1 }

// As the library and the commands begin them.
static const struct sample samples[] = {
    SAMPLE(FILE_KIND_STATISTICS,  "{\n  \"format\": \"llama-expert-tracer-statistics\",\n  \"version\": 1,\n"),
    SAMPLE(FILE_KIND_TRACE,       TRACE_MAGIC "\1\0\1\0\0\0\0\0"),
    SAMPLE(FILE_KIND_PAGE,        "<!DOCTYPE html>\n<html lang=\"en\">\n<title>llama-expert-tracer</title>\n"),
    SAMPLE(FILE_KIND_NPY,
           "\x93NUMPY\1\0v\0{'descr': '<i2', 'fortran_order': False, 'shape': (9, 2, 4), }\t\t\t\t   \n\0\0"),
    SAMPLE(FILE_KIND_CSV,         "ubatch,token,context,sequence,life,position,phase,warmup,rejected,layer,expert0\n"),
    SAMPLE(FILE_KIND_JSONL,       "{\"ubatch\":0,\"token\":0,"),
    SAMPLE(FILE_KIND_LIBCACHESIM, "time,obj_id,obj_size,layer,expert,tokens\n0,"),
    SAMPLE(FILE_KIND_SGLANG,      "layer_id,expert_id,count\n0,"),
    SAMPLE(FILE_KIND_SGLANG_JSON, "{\"logical_count\":[\n[0,1"),
    SAMPLE(FILE_KIND_HOT_CSV,     "layer,rank,expert,activations,share\n0,"),
    SAMPLE(FILE_KIND_HOT_JSON,    "{\"llama_expert_tracer_hot\":1,"),
    SAMPLE(FILE_KIND_IMPORTANCE,  "layer,expert,activations,share,mean_weight,weight_sum\n0,"),
};

// What others wrote, and what is nearly ours.
static const struct sample foreign[] = {
    SAMPLE(N_KINDS, "GGUF\3\0\0\0"),
    SAMPLE(N_KINDS, "\x7f" "ELF"),
    SAMPLE(N_KINDS, "\n"),
    SAMPLE(N_KINDS, "0,1\n0,3\n"),
    SAMPLE(N_KINDS, "{}"),
    SAMPLE(N_KINDS, "{\n  \"format\": \"llama-expert-tracer-statistic"),
    SAMPLE(N_KINDS, "<!DOCTYPE html>\n<title>another</title>\n"),
    SAMPLE(N_KINDS, "\x93NUMPY\1\0v\0{'descr': '<i2', 'fortran_order': False, 'shape': (9, 2, 4), }       \n\0\0"),
    SAMPLE(N_KINDS, "layer,expert\n0,1\n"),
    SAMPLE(N_KINDS, "\x89MOET\r\n"),
};

static int open_with(const char * content, size_t size) {
    FILE * file = fopen("file", "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(content, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    const int fd = open("file", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static void check(const struct sample * sample) {
    const int fd = open_with(sample->content, sample->size);
    for (int kind = 0; kind < N_KINDS; kind++) {
        const bool fits = kind == (int) sample->kind && kind != FILE_KIND_UNMARKED;
        assert_int_equal(file_kind_check(fd, (enum file_kind) kind), fits ? 0 : -EBADMSG);
    }
    close(fd);
}

static void each_kind_is_itself_alone(void ** state) {
    (void) state;
    assert_int_equal(sizeof(samples) / sizeof(samples[0]), N_KINDS - 1);
    for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
        assert_int_equal(samples[i].kind, i);
        check(&samples[i]);
    }
}

static void nothing_else_is_ours(void ** state) {
    (void) state;
    for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
        check(&foreign[i]);
    }
}

static void an_empty_file_may_be_anything(void ** state) {
    (void) state;
    const int fd = open_with("", 0);
    for (int kind = 0; kind < N_KINDS; kind++) {
        assert_int_equal(file_kind_check(fd, (enum file_kind) kind), 0);
    }
    close(fd);
}

static void what_is_no_file_is_no_kind(void ** state) {
    (void) state;
    const int directory = open(".",         O_RDONLY | O_CLOEXEC);
    const int device    = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_int_equal(file_kind_check(directory, FILE_KIND_PAGE), -EISDIR);
    assert_int_equal(file_kind_check(device,    FILE_KIND_PAGE), -ENOTSUP);
    assert_int_equal(file_kind_check(-1,        FILE_KIND_PAGE), -EBADF);
    close(directory);
    close(device);
}

static void a_refusal_names_the_kind(void ** state) {
    (void) state;
    assert_non_null(strstr(file_kind_refusal(FILE_KIND_TRACE), "no routing trace"));
    for (int kind = 0; kind < N_KINDS; kind++) {
        assert_non_null(strstr(file_kind_refusal((enum file_kind) kind), "and stays"));
    }
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, enter_folder, leave_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(each_kind_is_itself_alone),
        TEST(nothing_else_is_ours),
        TEST(an_empty_file_may_be_anything),
        TEST(what_is_no_file_is_no_kind),
        TEST(a_refusal_names_the_kind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
