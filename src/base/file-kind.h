// What we write, known again by its first bytes, and the one rule of what may be replaced: a file that is new, or
// empty, or of the same kind. The library and the commands both go by it.

#pragma once

enum file_kind {
    FILE_KIND_STATISTICS,
    FILE_KIND_TRACE,
    FILE_KIND_PAGE,
    FILE_KIND_NPY,         // with FILE_KIND_NPY_MARK behind the dictionary: numpy's own have none
    FILE_KIND_CSV,
    FILE_KIND_JSONL,
    FILE_KIND_LIBCACHESIM,
    FILE_KIND_SGLANG,
    FILE_KIND_SGLANG_JSON,
    FILE_KIND_HOT_CSV,
    FILE_KIND_HOT_JSON,
    FILE_KIND_IMPORTANCE,
    FILE_KIND_UNMARKED,    // nothing tells it from what others write (moe-trace, moe-cache-profile): only an empty
                           // file is replaced
};

#define FILE_KIND_NPY_MARK "\t\t\t\t"

// Whether an open file may be replaced by one of `kind`. Returns 0, or -errno. -EBADMSG: it holds something else;
// -EISDIR: it is a folder; -ENOTSUP: it is another thing that is no regular file.
int file_kind_check(int fd, enum file_kind kind);

// Why -EBADMSG, in words that follow the file's name and a colon. A constant.
const char * file_kind_refusal(enum file_kind kind);

// What such a file is called, with its article: "a routing trace". A constant.
const char * file_kind_name(enum file_kind kind);
