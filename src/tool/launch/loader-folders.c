// Lists of folders in which a dynamic loader looks for libraries: RPATH, RUNPATH, LD_LIBRARY_PATH, and its own.

#include "tool/launch/loader-folders.h"

#include "tool/error.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#define FOLDERS_MAX 10000

void loader_folders_add(struct loader_folders * folders, char * path) {
    folders->paths = memory_resize(folders->paths, folders->n + 1, sizeof(*folders->paths));
    folders->paths[folders->n++] = path;
}

void loader_folders_clear(struct loader_folders * folders) {
    for (size_t i = 0; i < folders->n; i++) {
        free(folders->paths[i]);
    }
    free(folders->paths);
}

char * loader_folder_of(const char * path) {
    const char * slash = strrchr(path, '/');
    return slash == NULL ? memory_text(".")
         : slash == path ? memory_text("/")
                         : memory_text("%.*s", (int) (slash - path), path);
}

// How long the name of a token is that stands here, with its braces. 0: another's.
static size_t token_length(const char * text, const char * token) {
    const size_t n = strlen(token);
    if (strncmp(text, "${", 2) == 0 && strncmp(text + 2, token, n) == 0 && text[2 + n] == '}') {
        return n + 3;
    }
    return strncmp(text, "$", 1) == 0 && strncmp(text + 1, token, n) == 0 ? n + 1 : 0;
}

static size_t token_at(const char * text, const char * lib, const char * origin, const char ** value) {
    const char * platform = (const char *) getauxval(AT_PLATFORM);
    const struct {
        const char * token;
        const char * value;
    } tokens[] = { { "ORIGIN", origin }, { "LIB", lib }, { "PLATFORM", platform == NULL ? "" : platform } };
    for (size_t i = 0; i < sizeof(tokens) / sizeof(tokens[0]); i++) {
        const size_t n = token_length(text, tokens[i].token);
        if (n > 0) {
            *value = tokens[i].value;
            return n;
        }
    }
    return 0;
}

char * loader_folders_expand(const char * text, size_t size, const char * lib, const char * origin) {
    char   path[PATH_MAX];
    size_t n = 0;
    for (size_t i = 0; i < size;) {
        const char * value = text + i;
        const size_t token = token_at(text + i, lib, origin, &value);
        const size_t more  = token > 0 ? strlen(value) : 1;
        if (more >= sizeof(path) - n) {
            return NULL;
        }
        memcpy(path + n, value, more);
        n += more;
        i += token > 0 ? token : 1;
    }
    return memory_text("%.*s", (int) n, path);
}

bool loader_folders_read(struct loader_folders * folders, const char * list, const char * separators, const char * lib,
                         const char * origin, size_t * n_seen) {
    if (list == NULL || *list == '\0') {
        return true;
    }
    for (const char * item = list;; item++) {
        if ((*n_seen)++ >= FOLDERS_MAX) {
            return false;
        }
        const size_t n    = strcspn(item, separators);
        char       * path = n == 0 ? memory_text(".") : loader_folders_expand(item, n, lib, origin);
        if (path != NULL) {
            loader_folders_add(folders, path);
        }
        item += n;
        if (*item == '\0') {
            return true;
        }
    }
}
