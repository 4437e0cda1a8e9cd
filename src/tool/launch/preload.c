// The library that is preloaded: where it is, and whether LD_PRELOAD can name it.

#include "tool/launch/preload.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LIBRARY  "libllama-expert-tracer.so"
#define OVERRIDE "LLAMA_EXPERT_TRACER_LIBRARY"

static bool is_file(const char * path) {
    struct stat status;
    return stat(path, &status) == 0 && S_ISREG(status.st_mode);
}

static char * own_folder(void) {
    char * path  = realpath("/proc/self/exe", NULL);
    char * slash = path == NULL ? NULL : strrchr(path, '/');
    if (slash != NULL) {
        *slash = '\0';
    }
    return path;
}

// Links stay what they are: one may be there because the path behind it cannot be told to the loader.
static char * absolute(const char * path) {
    char * folder = *path == '/' ? NULL : realpath(".", NULL);
    char * whole  = folder == NULL ? memory_text("%s", path) : memory_text("%s/%s", folder, path);
    free(folder);
    return whole;
}

static char * find_override(const char * path, struct error * error) {
    if (is_file(path)) {
        return absolute(path);
    }
    error_set(error, "%s, which " OVERRIDE " names, is not there: correct or unset it", path);
    return NULL;
}

// In a build tree beside the command, installed where it was built to be or moved together with the command.
static char * find_near(const char * folder) {
    char * candidates[] = {
        memory_text("%s/" LIBRARY, folder),
        memory_text("%s/" EXPERT_TRACER_LIBDIR_FROM_BINDIR "/" LIBRARY, folder),
        memory_text("%s/../lib/" LIBRARY, folder),
        memory_text(EXPERT_TRACER_LIBDIR "/" LIBRARY),
    };
    char * found = NULL;
    for (size_t i = 0; i < sizeof(candidates) / sizeof(candidates[0]); i++) {
        if (found == NULL && is_file(candidates[i])) {
            found = realpath(candidates[i], NULL);
        }
        free(candidates[i]);
    }
    return found;
}

char * library_find(struct error * error) {
    const char * override = secure_getenv(OVERRIDE);
    if (override != NULL && *override != '\0') {
        return find_override(override, error);
    }
    char * folder = own_folder();
    char * found  = folder == NULL ? NULL : find_near(folder);
    if (found == NULL) {
        error_set(error,
                  LIBRARY " is neither beside this command (%s), nor in ../lib of it, nor in " EXPERT_TRACER_LIBDIR
                         ": install it, or name it in " OVERRIDE, folder == NULL ? "?" : folder);
    }
    free(folder);
    return found;
}

char * library_find_parts(struct error * error) {
    char * folder = own_folder();
    char * candidates[] = {
        memory_text("%s/built-in", folder == NULL ? "" : folder),
        memory_text("%s/" EXPERT_TRACER_DATADIR_FROM_BINDIR, folder == NULL ? "" : folder),
        memory_text(EXPERT_TRACER_DATADIR),
    };
    char * found = NULL;
    for (size_t i = 0; i < sizeof(candidates) / sizeof(candidates[0]); i++) {
        char * file = memory_text("%s/llama-expert-tracer.cmake", candidates[i]);
        if (found == NULL && is_file(file)) {
            found = realpath(candidates[i], NULL);
        }
        free(file);
        free(candidates[i]);
    }
    if (found == NULL) {
        error_set(error, "the files that are built into llama.cpp are not in " EXPERT_TRACER_DATADIR
                  ": install them (make install)");
    }
    free(folder);
    return found;
}

bool library_is_preloadable(const char * path, struct error * error) {
    if (strpbrk(path, " :$") == NULL) {
        return true;
    }
    return error_set(error,
        "%s: LD_PRELOAD cannot name a path with a space, a colon or a $ in it: move it, or link to it from elsewhere: "
                            "ln -s '%s' /some/folder/ and set " OVERRIDE "=/some/folder/" LIBRARY, path, path);
}

static bool is_same_file(const char * a, const char * b) {
    struct stat status_a;
    struct stat status_b;
    return strcmp(a, b) == 0
        || (stat(a, &status_a) == 0 && stat(b, &status_b) == 0 && status_a.st_dev == status_b.st_dev
            && status_a.st_ino == status_b.st_ino);
}

static bool is_in(const char * path, const char * list) {
    char * copy  = memory_text("%s", list);
    char * rest  = NULL;
    bool   found = false;
    for (char * item = strtok_r(copy, " :", &rest); item != NULL && !found; item = strtok_r(NULL, " :", &rest)) {
        found = is_same_file(item, path);
    }
    free(copy);
    return found;
}

char * library_preload(const char * path, const char * present) {
    if (present == NULL || *present == '\0') {
        return memory_text("%s", path);
    }
    return is_in(path, present) ? memory_text("%s", present) : memory_text("%s:%s", path, present);
}
