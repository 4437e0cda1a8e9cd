// Statistics files: opened by what is in them, JSON or an imatrix, and saved.

#include "statistics/statistics-file.h"

#include "base/other-file.h"
#include "statistics/imatrix-file.h"
#include "statistics/statistics-json.h"
#include "tool/json-output.h"
#include "tool/output-file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_BYTES ((size_t) 1 << 30)

struct file_text {
    char * bytes;
    size_t size;
};

static bool is_stdin(const char * path) {
    return strcmp(path, "-") == 0;
}

static bool read_up_to(int fd, struct file_text * text, size_t limit) {
    size_t room = text->size;
    while (text->size < limit) {
        if (text->size == room) {
            room = room == 0 ? 64 * 1024 : 2 * room;
            text->bytes = memory_resize(text->bytes, room, 1);
        }
        const size_t  want = (room < limit ? room : limit) - text->size;
        const ssize_t got  = read(fd, text->bytes + text->size, want);
        if (got == 0) {
            return true;
        }
        if (got < 0 && errno != EINTR) {
            return false;
        }
        text->size += got < 0 ? 0 : (size_t) got;
    }
    return true;
}

static bool is_gguf(const struct file_text * text) {
    return text->size >= 4 && memcmp(text->bytes, "GGUF", 4) == 0;
}

static bool is_regular(int fd) {
    struct stat status;
    return fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

static bool is_blank(const struct file_text * text) {
    for (size_t i = 0; i < text->size; i++) {
        if (strchr(" \t\r\n", text->bytes[i]) == NULL || text->bytes[i] == '\0') {
            return false;
        }
    }
    return true;
}

static struct statistics * fail(struct error * error, const char * name, const char * what) {
    error_set(error, "%s: %s", name, what);
    return NULL;
}

static struct statistics * load_json(const char * name, int fd, struct file_text * text, struct error * error) {
    if (!read_up_to(fd, text, MAX_BYTES + 1)) {
        return fail(error, name, strerror(errno));
    }
    if (is_blank(text)) {
        return fail(error, name,
            "the file is empty: the traced program has not written its statistics yet, or had no room for them");
    }
    if (text->size > MAX_BYTES) {
        return fail(error, name, "more than 1 GiB: this is no statistics file");
    }
    const size_t n_head = text->size < OTHER_FILE_HEAD ? text->size : OTHER_FILE_HEAD;
    const char * advice = other_file(text->bytes, n_head, OTHER_THAN_STATISTICS);
    if (advice != NULL) {
        return fail(error, name, advice);
    }
    return statistics_json_parse(name, text->bytes, text->size, error);
}

static struct statistics * load_open(const char * path, const char * name, int fd, struct error * error) {
    struct file_text text = { NULL, 0 };
    struct statistics * statistics;
    if (!read_up_to(fd, &text, 4)) {
        statistics = fail(error, name, errno == EISDIR ? "a directory: name a file in it" : strerror(errno));
    } else if (!is_gguf(&text)) {
        statistics = load_json(name, fd, &text, error);
    } else if (is_stdin(path) || !is_regular(fd)) {
        statistics = fail(error, name, "GGUF can only be read from a file: save it and give its name");
    } else {
        statistics = imatrix_file_load(path, error);
    }
    free(text.bytes);
    return statistics;
}

struct statistics * statistics_file_load(const char * path, struct error * error) {
    const char * name = is_stdin(path) ? "standard input" : path;
    const int    fd   = is_stdin(path) ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return fail(error, name, strerror(errno));
    }
    struct statistics * statistics = load_open(path, name, fd, error);
    if (fd != STDIN_FILENO) {
        close(fd);
    }
    return statistics;
}

//
// writing
//

bool statistics_file_write(FILE * out, const struct statistics * statistics, bool analysis) {
    json_t * root = statistics_json_of(statistics);
    if (analysis) {
        json_object_set_new(root, "summary", statistics_json_summary(&statistics->model));
    }
    const bool ok = json_output_put(out, root, JSON_INDENT(2));
    json_decref(root);
    return ok && fflush(out) == 0;
}

bool statistics_file_save(const char * path, const struct statistics * statistics, bool force, struct error * error) {
    struct output_file file;
    if (!output_file_open(&file, path, FILE_KIND_STATISTICS, force, error)) {
        return false;
    }
    statistics_file_write(file.out, statistics, false); // what fails there is told when it is closed
    return output_file_close(&file, error);
}
