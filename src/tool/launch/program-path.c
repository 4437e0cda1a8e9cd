// Where a program is, as a shell would find it.

#include "tool/launch/program-path.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_plain_file(const char * path) {
    struct stat status;
    return stat(path, &status) == 0 && S_ISREG(status.st_mode);
}

static bool is_executable(const char * path) {
    return is_plain_file(path) && access(path, X_OK) == 0;
}

static char * find_at(const char * path, struct error * error, int * status) {
    struct stat file;
    if (stat(path, &file) != 0) {
        *status = errno == ENOENT || errno == ENOTDIR ? 127 : 126;
        error_set(error, "%s: %s", path,
                  errno == ENOENT ? "there is no such program: correct the path" : strerror(errno));
        return NULL;
    }
    *status = 126;
    if (S_ISDIR(file.st_mode)) {
        error_set(error, "%s: a directory, not a program: name a program in it", path);
        return NULL;
    }
    if (!is_executable(path)) {
        error_set(error, "%s: not executable: chmod +x it, if it is a program", path);
        return NULL;
    }
    return memory_text("%s", path);
}

// In the folders of PATH, an empty one being the current folder.
static char * find_on_path(const char * name, struct error * error, int * status) {
    const char * folders = getenv("PATH") == NULL ? "/bin:/usr/bin" : getenv("PATH");
    char       * barred  = NULL;
    for (const char * folder = folders;; folder++) {
        const size_t n    = strcspn(folder, ":");
        char       * path = memory_text("%.*s/%s", n == 0 ? 1 : (int) n, n == 0 ? "." : folder, name);
        if (is_executable(path)) {
            free(barred);
            return path;
        }
        if (barred == NULL && is_plain_file(path)) {
            barred = path;
        } else {
            free(path);
        }
        folder += n;
        if (*folder == '\0') {
            break;
        }
    }
    *status = barred == NULL ? 127 : 126;
    if (barred == NULL) {
        error_set(error, "%s: no such program on PATH: give its path (./%s, if it is here), or install it", name, name);
    } else {
        error_set(error, "%s: not executable: chmod +x it, if it is a program", barred);
    }
    free(barred);
    return NULL;
}

char * program_find(const char * name, struct error * error, int * status) {
    if (*name == '\0') {
        *status = 127;
        error_set(error, "the program's name is empty");
        return NULL;
    }
    return strchr(name, '/') != NULL ? find_at(name, error, status) : find_on_path(name, error, status);
}
