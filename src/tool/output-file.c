// Opens, checks and publishes the files that commands write.

#include "tool/output-file.h"

#include "base/aside.h"
#include "base/descriptor.h"
#include "base/family.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct output_file nothing = { .place = PLACE_NONE };

static const char * advice_of(int why) {
    switch (why) {
        case ENOSPC:
        case EDQUOT: return ": make room there, or name a file elsewhere";
        case EFBIG:  return ": allow larger files (ulimit -f), or name a file elsewhere";
        default:     return "";
    }
}

static bool fail(const struct output_file * file, int why, struct error * error) {
    const char * reason = why == 0      ? "the device did not take all of it"
                        : why == EXDEV  ? "another user's link leads there: name the file that it leads to"
                        : why == EEXIST ? "another program made it meanwhile"
                        : strerror(why);
    return error_set(error, "%s: cannot be written: %s%s", file->path, reason, advice_of(why));
}

static void forget(struct output_file * file) {
    place_leave(&file->place);
    free(file->path);
    free(file->aside);
    *file = nothing;
}

//
// inputs
//

struct input {
    dev_t device;
    ino_t inode;
};

static struct input * inputs;
static size_t         n_inputs;

static void forget_inputs(void) {
    free(inputs);
}

void output_file_protect(const char * path) {
    struct stat status;
    const int   failed = strcmp(path, "-") == 0 ? fstat(STDIN_FILENO, &status) : stat(path, &status);
    if (failed || !S_ISREG(status.st_mode)) {
        return;
    }
    if (n_inputs == 0) {
        atexit(forget_inputs);
    }
    inputs = memory_resize(inputs, n_inputs + 1, sizeof(*inputs));
    inputs[n_inputs++] = (struct input) { status.st_dev, status.st_ino };
}

static bool is_input(const struct stat * status) {
    for (size_t i = 0; i < n_inputs; i++) {
        if (inputs[i].device == status->st_dev && inputs[i].inode == status->st_ino) {
            return true;
        }
    }
    return false;
}

//
// what may be replaced
//

static const char * what_is_there(int fd) {
    char head[4] = "";
    if (pread(fd, head, sizeof(head), 0) == (ssize_t) sizeof(head)) {
        if (memcmp(head, "GGUF", sizeof(head)) == 0) {
            return "a GGUF file";
        }
        if (memcmp(head, "\177ELF", sizeof(head)) == 0) {
            return "a program or a library";
        }
    }
    for (int kind = 0; kind < FILE_KIND_UNMARKED; kind++) {
        if (file_kind_check(fd, (enum file_kind) kind) == 0) {
            return file_kind_name((enum file_kind) kind);
        }
    }
    return "something else";
}

// Whether the open file may be replaced.
static bool check_open(const struct output_file * file, int fd, struct error * error) {
    struct stat status;
    if (fstat(fd, &status) != 0) {
        return fail(file, errno, error);
    }
    if (is_input(&status)) {
        return error_set(error, "%s: is what is read: choose another name for what is written", file->path);
    }
    if (aside_is_same(fd, STDOUT_FILENO) || aside_is_same(fd, STDERR_FILENO)) {
        return error_set(error, "%s: is where this command's own output goes: choose another name, or -o -",
                         file->path);
    }
    const int why = file->force ? 0 : file_kind_check(fd, file->kind);
    if (why != -EBADMSG) {
        return why == 0 || fail(file, -why, error);
    }
    if (file->kind == FILE_KIND_UNMARKED) {
        return error_set(error, "%s: is there already, and nothing tells that it is an earlier export: choose another "
                                "name, or --force replaces it", file->path);
    }
    return error_set(error, "%s: holds %s, not %s, and stays: choose another name, or --force replaces it", file->path,
                     what_is_there(fd), file_kind_name(file->kind));
}

// Whether the place is free, or what is there may be replaced.
static bool check_place(struct output_file * file, struct error * error) {
    const int fd = descriptor_open(file->place.directory, file->place.name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    file->replaces = fd >= 0 || (fd == -EACCES && file->force);
    if (fd < 0) {
        return fd == -ENOENT || file->replaces || fail(file, -fd, error);
    }
    const bool may = check_open(file, fd, error);
    close(fd);
    return may;
}

//
// opening
//

static bool take_descriptor(struct output_file * file, int fd, struct error * error) {
    file->out = fd < 0 ? NULL : fdopen(fd, "wb");
    if (file->out != NULL) {
        return true;
    }
    fail(file, fd < 0 ? -fd : errno, error);
    if (fd >= 0) {
        close(fd);
    }
    forget(file);
    return false;
}

// The number of one of the process's own descriptors, -1: it is no name of one.
static int descriptor_of(const char * path) {
    static const char * const folders[] = { "/dev/fd/", "/proc/self/fd/" };
    if (strcmp(path, "/dev/stdout") == 0 || strcmp(path, "/dev/stderr") == 0) {
        return strcmp(path, "/dev/stdout") == 0 ? STDOUT_FILENO : STDERR_FILENO;
    }
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        if (strncmp(path, folders[i], strlen(folders[i])) != 0) {
            continue;
        }
        const char * number = path + strlen(folders[i]);
        return *number == '\0' || number[strspn(number, "0123456789")] != '\0' ? -1 : (int) strtol(number, NULL, 10);
    }
    return -1;
}

static bool open_in_place(struct output_file * file, struct error * error) {
    const int own = descriptor_of(file->path);
    fflush(stdout); // which may be the same
    const int fd  = own < 0 ? descriptor_open(AT_FDCWD, file->path, O_WRONLY, 0) : fcntl(own, F_DUPFD_CLOEXEC, 3);
    return take_descriptor(file, own >= 0 && fd < 0 ? -errno : fd, error);
}

static bool find_place(struct output_file * file, struct error * error) {
    const int why = place_find(&file->place, file->path);
    if ((why == 0 || fail(file, -why, error)) && check_place(file, error)) {
        return true;
    }
    forget(file);
    return false;
}

static bool open_aside(struct output_file * file, struct error * error) {
    if (!find_place(file, error)) {
        return false;
    }
    const struct family family = { file->place.directory, file->place.name, file->kind, false };
    family_look(&family, 1); // removes what a run that was killed has left behind
    return take_descriptor(file, aside_make(file->place.directory, file->place.name, &file->aside), error);
}

enum way { TO_STDOUT, IN_PLACE, ASIDE, NOWHERE };

// How it is written to. `file` is filled in but for what comes with opening.
static enum way begin(struct output_file * file, const char * path, enum file_kind kind, bool force,
                      struct error * error) {
    struct stat status;
    *file = nothing;
    if (path == NULL || strcmp(path, "-") == 0) {
        return TO_STDOUT;
    }
    const bool exists = stat(path, &status) == 0;
    if (exists && S_ISDIR(status.st_mode)) {
        error_set(error, "%s: a directory: name a file in it", path);
        return NOWHERE;
    }
    file->path  = memory_text("%s", path);
    file->kind  = kind;
    file->force = force;
    return descriptor_of(path) >= 0 || (exists && !S_ISREG(status.st_mode)) ? IN_PLACE : ASIDE;
}

// What a link leads to is replaced, not the link.
bool output_file_open(struct output_file * file, const char * path, enum file_kind kind, bool force,
                      struct error * error) {
    switch (begin(file, path, kind, force, error)) {
        case TO_STDOUT: file->out = stdout; return true;
        case IN_PLACE:  return open_in_place(file, error);
        case ASIDE:     return open_aside(file, error);
        default:        return false;
    }
}

bool output_file_check(const char * path, enum file_kind kind, bool force, struct error * error) {
    struct output_file file;
    const enum way     way = begin(&file, path, kind, force, error);
    const bool         may = way != NOWHERE && (way != ASIDE || find_place(&file, error));
    forget(&file);
    return may;
}

//
// the end
//

// Why something could not be written a while ago, which stdio does not remember: what is written now, to a file that
// will be deleted, fails in the same way. 0: it does not.
static int why_it_fails(const struct output_file * file) {
    static const char zeros[4096];
    for (int i = 0; file->aside != NULL && i < 64; i++) {
        if (write(fileno(file->out), zeros, sizeof(zeros)) < 0) {
            return errno;
        }
    }
    return 0;
}

// Of the standard output main() tells whether it arrived.
static bool settle(struct output_file * file, struct error * error) {
    if (ferror(file->out) != 0) {
        return fail(file, why_it_fails(file), error);
    }
    if (fflush(file->out) != 0) {
        return fail(file, errno, error);
    }
    const int why = file->aside == NULL ? 0 : aside_sync(fileno(file->out));
    return why == 0 || fail(file, -why, error);
}

static bool close_stream(struct output_file * file, struct error * error) {
    FILE * out = file->out;
    file->out  = NULL;
    return fclose(out) == 0 || fail(file, errno, error);
}

// What is not closed yet is dropped with the rest.
static bool ended(struct output_file * file, bool ok) {
    if (!ok) {
        output_file_drop(file);
    }
    return ok;
}

bool output_file_finish(struct output_file * file, struct error * error) {
    return file->path == NULL || ended(file, settle(file, error) && close_stream(file, error));
}

// It may have become another one meanwhile.
static bool take_place(struct output_file * file, struct error * error) {
    const bool replaces = file->replaces;
    if (replaces && !check_place(file, error)) {
        return false;
    }
    const int why = aside_place(file->place.directory, file->aside, file->place.name, replaces);
    return why == 0 || fail(file, -why, error);
}

bool output_file_publish(struct output_file * file, struct error * error) {
    const bool ok = ended(file, file->aside == NULL || take_place(file, error));
    forget(file);
    return ok;
}

// Its lock is held until it has its place: nobody takes it for one that was left behind.
bool output_file_close(struct output_file * file, struct error * error) {
    if (file->path == NULL) {
        return true;
    }
    bool ok = settle(file, error) && (file->aside == NULL || take_place(file, error));
    if (ok) {
        free(file->aside);
        file->aside = NULL;
        ok = close_stream(file, error);
    }
    ok = ended(file, ok);
    forget(file);
    return ok;
}

void output_file_drop(struct output_file * file) {
    if (file->path != NULL && file->out != NULL) {
        fclose(file->out);
    }
    if (file->aside != NULL) {
        unlinkat(file->place.directory, file->aside, 0);
    }
    forget(file);
}
