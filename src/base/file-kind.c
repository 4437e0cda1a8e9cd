// What each kind of file begins with, and how it is called.

#include "base/file-kind.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KIND_HEAD_SIZE 4096

struct kind_bytes {
    const char * begins;  // NULL: it cannot be known again
    const char * mark;    // somewhere in the first KIND_HEAD_SIZE bytes as well; NULL: none
    const char * name;    // for people
    const char * refusal;
};

#define REFUSAL(what) "there is a file of that name that is no " what ", and stays"

static const struct kind_bytes kind_table[] = {
    [FILE_KIND_STATISTICS] = {
        "{\n  \"format\": \"llama-expert-tracer-statistics\"", NULL,
        "a statistics file",
        REFUSAL("statistics file"),
    },
    [FILE_KIND_TRACE] = {
        "\x89MOET\r\n\x1a", NULL,
        "a routing trace",
        REFUSAL("routing trace"),
    },
    [FILE_KIND_PAGE] = {
        "<!DOCTYPE html>", "<title>llama-expert-tracer</title>",
        "a page of this command",
        REFUSAL("page of llama-expert-tracer"),
    },
    [FILE_KIND_NPY] = {
        "\x93NUMPY", "), }" FILE_KIND_NPY_MARK,
        "an npy export",
        REFUSAL("npy file of llama-expert-tracer"),
    },
    [FILE_KIND_CSV] = {
        "ubatch,token,context,sequence,life,position,phase,", NULL,
        "a csv export",
        REFUSAL("csv export"),
    },
    [FILE_KIND_JSONL] = {
        "{\"ubatch\":", NULL,
        "a jsonl export",
        REFUSAL("jsonl export"),
    },
    [FILE_KIND_LIBCACHESIM] = {
        "time,obj_id,obj_size,layer,expert,tokens\n", NULL,
        "a libcachesim export",
        REFUSAL("libcachesim export"),
    },
    [FILE_KIND_SGLANG] = {
        "layer_id,expert_id,count\n", NULL,
        "an sglang export",
        REFUSAL("sglang export"),
    },
    [FILE_KIND_SGLANG_JSON] = {
        "{\"logical_count\":", NULL,
        "an sglang-json export",
        REFUSAL("sglang-json export"),
    },
    [FILE_KIND_HOT_CSV] = {
        "layer,rank,expert,activations,share\n", NULL,
        "a hot-csv export",
        REFUSAL("hot-csv export"),
    },
    [FILE_KIND_HOT_JSON] = {
        "{\"llama_expert_tracer_hot\":", NULL,
        "a hot-json export",
        REFUSAL("hot-json export"),
    },
    [FILE_KIND_IMPORTANCE] = {
        "layer,expert,activations,share,mean_weight,weight_sum\n", NULL,
        "an importance export",
        REFUSAL("importance export"),
    },
    [FILE_KIND_UNMARKED] = {
        NULL, NULL,
        "a file that nothing tells from others",
        "there is a file of that name, which nothing marks as an earlier export, and stays",
    },
};

static bool begins_as(const struct kind_bytes * kind, const char * head, size_t size) {
    const size_t length = kind->begins != NULL ? strlen(kind->begins) : 0;
    return length > 0 && size >= length && memcmp(head, kind->begins, length) == 0 &&
           (kind->mark == NULL || memmem(head, size, kind->mark, strlen(kind->mark)) != NULL);
}

int file_kind_check(int fd, enum file_kind kind) {
    struct statx about;
    char         head[KIND_HEAD_SIZE];
    if (statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &about) != 0) {
        return -errno;
    }
    if (!S_ISREG(about.stx_mode)) {
        return S_ISDIR(about.stx_mode) ? -EISDIR : -ENOTSUP;
    }
    const ssize_t n = pread(fd, head, sizeof(head), 0);
    if (n < 0) {
        return -errno;
    }
    return n == 0 || begins_as(&kind_table[kind], head, (size_t) n) ? 0 : -EBADMSG;
}

const char * file_kind_refusal(enum file_kind kind) {
    return kind_table[kind].refusal;
}

const char * file_kind_name(enum file_kind kind) {
    return kind_table[kind].name;
}
