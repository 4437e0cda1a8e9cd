// Chooses and opens the folder of the running tracers: the one that was named, the user's runtime folder, or /tmp.

#include "live/live-folder.h"

#include "base/descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LIVE_FOLDER_NAME     "llama-expert-tracer"
#define LIVE_FOLDER_NOT_OURS EPERM    // a symbolic link, or another user's
#define LIVE_FOLDER_UNSAFE   ENOTUNIQ // others may write to it

bool live_folder_is_named(const char * setting) {
    return setting != NULL && setting[0] != '\0' && strcmp(setting, "0") != 0 && strcmp(setting, "1") != 0;
}

char * live_folder_runtime_path(const char * runtime) {
    char * path = NULL;
    if (runtime == NULL || runtime[0] != '/') {
        return NULL;
    }
    return asprintf(&path, "%s/" LIVE_FOLDER_NAME, runtime) < 0 ? NULL : path;
}

char * live_folder_common_path(uid_t user) {
    char * path = NULL;
    return asprintf(&path, "/tmp/" LIVE_FOLDER_NAME "-%lu", (unsigned long) user) < 0 ? NULL : path;
}

static int live_folder_check(int fd, uid_t user) {
    struct statx about;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_UID | STATX_MODE, &about) != 0) {
        return -errno;
    }
    if (about.stx_uid != user && about.stx_uid != 0) {
        return -LIVE_FOLDER_NOT_OURS;
    }
    return about.stx_mode & (S_IWGRP | S_IWOTH) ? -LIVE_FOLDER_UNSAFE : 0;
}

static int live_folder_close_if(int error, int fd) {
    if (error) {
        close(fd);
    }
    return error ? error : fd;
}

int live_folder_open_path(const char * path, uid_t user, bool follow) {
    const int fd = descriptor_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | (follow ? 0 : O_NOFOLLOW), 0);
    if (fd < 0) {
        struct statx about;
        const bool   link = !follow && statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &about) == 0 &&
                            S_ISLNK(about.stx_mode);
        return link ? -LIVE_FOLDER_NOT_OURS : fd;
    }
    return live_folder_close_if(live_folder_check(fd, user), fd);
}

// For files of this process. The lock keeps systemd-tmpfiles from removing what is old there.
static int live_folder_claim(int fd) {
    if (fd < 0) {
        return fd;
    }
    if (faccessat(fd, ".", W_OK | X_OK, 0) != 0) {
        return live_folder_close_if(-errno, fd);
    }
    flock(fd, LOCK_SH | LOCK_NB);
    return fd;
}

static int live_folder_try(const char * path, bool make, bool named) {
    if (path == NULL) {
        return -ENOENT;
    }
    if (make && !named && mkdir(path, 0700) != 0 && errno != EEXIST) {
        return -errno;
    }
    const int fd = live_folder_open_path(path, geteuid(), named);
    return make ? live_folder_claim(fd) : fd;
}

int live_folder_open(const char * setting, bool make, char ** path) {
    if (live_folder_is_named(setting)) {
        *path = strdup(setting);
        return *path == NULL ? -ENOMEM : live_folder_try(*path, make, true);
    }
    *path = live_folder_runtime_path(secure_getenv("XDG_RUNTIME_DIR"));
    int fd = live_folder_try(*path, make, false);
    if (fd < 0) {
        free(*path);
        *path = live_folder_common_path(geteuid());
        fd    = *path == NULL ? -ENOMEM : live_folder_try(*path, make, false);
    }
    return fd;
}

const char * live_folder_explain(int error) {
    switch (-error) {
        case LIVE_FOLDER_NOT_OURS: return "it is a link, or belongs to another user";
        case LIVE_FOLDER_UNSAFE:   return "its group or others may write to it (chmod go-w)";
        default:                   return strerror(-error);
    }
}
