// Follows symbolic links step by step, and refuses those that other users have set.

#include "base/place.h"

#include "base/descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINKS_MAX 40

// On the way to a place.
struct way {
    int    directory; // reached so far
    char * reached;   // its path; "" is the root
    char * rest;      // what is left to go, of the path and of the links on it
    char * ahead;     // in `rest`
    int    n_links;
};

static void way_end(struct way * way) {
    if (way->directory >= 0) {
        close(way->directory);
    }
    free(way->reached);
    free(way->rest);
}

static int way_enter(struct way * way, int directory, char * reached) {
    if (directory < 0 || reached == NULL) {
        if (directory >= 0) {
            close(directory);
        }
        free(reached);
        return directory < 0 ? directory : -ENOMEM;
    }
    if (way->directory >= 0) {
        close(way->directory);
    }
    free(way->reached);
    way->directory = directory;
    way->reached   = reached;
    return 0;
}

static int way_enter_root(struct way * way) {
    return way_enter(way, descriptor_open(AT_FDCWD, "/", O_PATH | O_DIRECTORY, 0), strdup(""));
}

static int way_enter_working_directory(struct way * way) {
    char * path = getcwd(NULL, 0);
    if (path == NULL || path[0] != '/') { // "(unreachable)…"
        const int error = path != NULL ? -ENOENT : -errno;
        free(path);
        return error;
    }
    if (strcmp(path, "/") == 0) {
        path[0] = '\0';
    }
    return way_enter(way, descriptor_open(AT_FDCWD, ".", O_PATH | O_DIRECTORY, 0), path);
}

static int way_enter_parent(struct way * way) {
    char * slash = strrchr(way->reached, '/');
    return way_enter(way, descriptor_open(way->directory, "..", O_PATH | O_DIRECTORY, 0),
        strndup(way->reached, slash != NULL ? (size_t) (slash - way->reached) : 0));
}

static char * way_below(const struct way * way, const char * name) {
    char * path = NULL;
    return asprintf(&path, "%s/%s", way->reached, name) < 0 ? NULL : path;
}

// What is ahead comes from elsewhere now: takes `rest` over.
static int way_turn(struct way * way, char * rest) {
    if (rest == NULL) {
        return -ENOMEM;
    }
    free(way->rest);
    way->rest  = rest;
    way->ahead = rest;
    return rest[0] == '/' ? way_enter_root(way) : 0;
}

// Where anybody may put a link it is followed only if it is ours, or root's, who needs no link to lead us astray.
static bool is_to_be_followed(const struct way * way, const struct statx * link) {
    struct statx folder;
    if (statx(way->directory, "", AT_EMPTY_PATH, STATX_MODE, &folder) != 0) {
        return false;
    }
    const bool is_shared = (folder.stx_mode & S_IWOTH) || ((folder.stx_mode & S_ISVTX) && (folder.stx_mode & S_IWGRP));
    return !is_shared || link->stx_uid == geteuid() || link->stx_uid == 0;
}

static int way_follow(struct way * way, int link, const struct statx * about, const char * after) {
    char target[PATH_MAX];
    if (!is_to_be_followed(way, about)) {
        return -EXDEV;
    }
    if (++way->n_links > LINKS_MAX) {
        return -ELOOP;
    }
    const ssize_t n = readlinkat(link, "", target, sizeof(target) - 1);
    if (n <= 0) {
        return n < 0 ? -errno : -ENOENT;
    }
    target[n] = '\0';
    char * rest = NULL;
    return way_turn(way, asprintf(&rest, "%s%s", target, after) < 0 ? NULL : rest);
}

// Returns 0, 1 where `name` is the place that is looked for, or -errno.
static int way_step(struct way * way, const char * name, const char * after) {
    struct statx about;
    const bool  is_last = *after == '\0';
    const int   fd      = descriptor_open(way->directory, name, O_PATH | O_NOFOLLOW, 0);
    if (fd < 0) {
        return fd == -ENOENT && is_last ? 1 : fd;
    }
    int result = statx(fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_UID, &about) != 0 ? -errno : is_last ? 1 : -ENOTDIR;
    if (result != 1 && result != -ENOTDIR) {
        // it is unknown
    } else if (S_ISLNK(about.stx_mode)) {
        result = way_follow(way, fd, &about, after);
    } else if (S_ISDIR(about.stx_mode)) {
        return way_enter(way, fd, way_below(way, name));
    }
    close(fd);
    return result;
}

static int way_arrive(struct way * way, const char * name, struct place * place) {
    char * path = way_below(way, name);
    if (path == NULL) {
        return -ENOMEM;
    }
    *place = (struct place) { way->directory, path, strrchr(path, '/') + 1 };
    way->directory = -1;
    return 0;
}

// Takes the next part of what is ahead. Returns 0, or -errno; in `place` where it is the place.
static int way_go_on(struct way * way, struct place * place) {
    const size_t length = strcspn(way->ahead, "/");
    char       * name   = strndup(way->ahead, length);
    if (name == NULL) {
        return -ENOMEM;
    }
    way->ahead += length;
    int result = 0;
    if (strcmp(name, "..") == 0) {
        result = way_enter_parent(way);
    } else if (strcmp(name, ".") != 0) {
        char * after = strdup(way->ahead); // `rest` may go
        result = after != NULL ? way_step(way, name, after) : -ENOMEM;
        free(after);
    }
    result = result == 1 ? way_arrive(way, name, place) : result;
    free(name);
    return result;
}

int place_find(struct place * place, const char * path) {
    struct way way = { .directory = -1 };
    *place = (struct place) PLACE_NONE;
    int error = *path == '\0' ? -ENOENT : way_turn(&way, strdup(path));
    if (!error && *path != '/') {
        error = way_enter_working_directory(&way);
    }
    while (!error && place->path == NULL) {
        way.ahead += strspn(way.ahead, "/");
        error = *way.ahead ? way_go_on(&way, place) : -EISDIR;
    }
    way_end(&way);
    return error;
}

void place_leave(struct place * place) {
    if (place->directory >= 0) {
        close(place->directory);
    }
    free(place->path);
    *place = (struct place) PLACE_NONE;
}
