// What a program's dynamic loader would load: the search of glibc's and musl's loaders, done again in the files.

#include "tool/launch/loader.h"

#include "tool/error.h"
#include "tool/launch/elf-file.h"
#include "tool/launch/loader-cache.h"
#include "tool/launch/loader-folders.h"

#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CACHE "/etc/ld.so.cache"

// More than any real program has. Behind them nothing is known.
#define OBJECTS_MAX  1024
#define TRIES_MAX    100000
#define READ_MAX     ((uint64_t) 512 << 20)
#define VERSION_MAX  256

struct version {
    char * library;
    char * version;
};

// What is loaded, or would be.
struct object {
    char                * name;    // as it is needed
    char                * path;    // NULL: not found
    char                * soname;
    dev_t                 device;
    ino_t                 inode;
    size_t                parent;  // who needs it
    char               ** needed;
    size_t                n_needed;
    struct loader_folders rpath;   // none where there is a RUNPATH
    struct loader_folders runpath;
    bool                  has_runpath;
    bool                  has_own_folders_only;
    struct version      * versions;
    size_t                n_versions;
};

struct search {
    struct object       * objects;
    size_t                n_objects;
    struct loader_folders environment; // LD_LIBRARY_PATH
    struct loader_folders defaults;    // those of the loader
    struct loader_cache   cache;
    const char          * lib;         // what it takes $LIB for
    int                   level;       // of x86-64 whose folders are searched first, 1: none
    bool                  is_musl;
    size_t                n_folders;   // of all lists
    size_t                n_tries;
    uint64_t              n_bytes;     // read, or kept
    bool                  is_cut;      // there was more to do than any real program asks for
};

static struct loader_folders read_folders(struct search * search, const char * list, const char * separators,
                                          const char * origin) {
    struct loader_folders folders = { NULL, 0 };
    const bool            ok      = loader_folders_read(&folders, list, separators, search->lib, origin,
                                                        &search->n_folders);
    search->is_cut = search->is_cut || !ok;
    return folders;
}

//
// objects
//

static char * copy_text(const char * text) {
    return text == NULL ? NULL : memory_text("%s", text);
}

static void count_bytes(struct search * search, uint64_t n) {
    search->n_bytes += n;
    search->is_cut   = search->is_cut || search->n_bytes > READ_MAX;
}

static void copy_needed(struct search * search, struct object * object, const struct elf_file * file) {
    object->needed = memory_new(file->n_needed, sizeof(*object->needed));
    for (size_t i = 0; i < file->n_needed && !search->is_cut; i++) {
        object->needed[object->n_needed++] = memory_text("%.*s", PATH_MAX, file->needed[i]);
        count_bytes(search, strlen(object->needed[i]));
    }
}

static bool is_short(const char * text) {
    return strnlen(text, VERSION_MAX) < VERSION_MAX;
}

static void copy_versions(struct object * object, const struct elf_file * file) {
    object->versions = memory_new(file->n_versions, sizeof(*object->versions));
    for (size_t i = 0; i < file->n_versions; i++) {
        const struct elf_version * version = &file->versions[i];
        if (is_short(version->library) && is_short(version->version)) {
            object->versions[object->n_versions++] = (struct version) {
                copy_text(version->library), copy_text(version->version),
            };
        }
    }
}

static void read_object(struct search * search, struct object * object, const struct elf_file * file,
                        const char * origin) {
    struct stat status;
    if (fstat(file->fd, &status) == 0) {
        object->device = status.st_dev;
        object->inode  = status.st_ino;
    }
    object->soname               = file->soname == NULL ? NULL : memory_text("%.*s", PATH_MAX, file->soname);
    object->has_own_folders_only = file->has_own_folders_only;
    object->has_runpath          = file->runpath != NULL;
    object->runpath              = read_folders(search, file->runpath, ":", origin);
    object->rpath                = read_folders(search, file->runpath != NULL ? NULL : file->rpath, ":", origin);
    search->is_cut = search->is_cut || (file->is_dynamic && file->strings == NULL);
    count_bytes  (search, file->n_strings + file->n_versions * VERSION_MAX);
    copy_needed  (search, object, file);
    copy_versions(object, file);
}

// `file` NULL: not found. Takes the name over, and the path.
static void add_object(struct search * search, char * name, char * path, const struct elf_file * file, size_t parent) {
    search->objects = memory_resize(search->objects, search->n_objects + 1, sizeof(*search->objects));
    struct object * object = &search->objects[search->n_objects++];
    *object = (struct object) { .name = name, .path = path, .parent = parent };
    if (file != NULL) {
        char * origin = loader_folder_of(path);
        read_object(search, object, file, origin);
        free(origin);
    }
}

static void clear_object(struct object * object) {
    for (size_t i = 0; i < object->n_needed; i++) {
        free(object->needed[i]);
    }
    for (size_t i = 0; i < object->n_versions; i++) {
        free(object->versions[i].library);
        free(object->versions[i].version);
    }
    loader_folders_clear(&object->rpath);
    loader_folders_clear(&object->runpath);
    free(object->needed);
    free(object->versions);
    free(object->soname);
}

static struct object * find_object(const struct search * search, const char * name) {
    for (size_t i = 1; i < search->n_objects; i++) {
        struct object * object = &search->objects[i];
        if (strcmp(object->name, name) == 0 || (object->soname != NULL && strcmp(object->soname, name) == 0)) {
            return object;
        }
    }
    return NULL;
}

// A library may have several names, and is loaded once.
static bool is_loaded(const struct search * search, const struct elf_file * file) {
    struct stat status;
    bool        found = fstat(file->fd, &status) != 0;
    for (size_t i = 0; i < search->n_objects && !found; i++) {
        const struct object * object = &search->objects[i];
        found = object->path != NULL && object->device == status.st_dev && object->inode == status.st_ino;
    }
    return found;
}

//
// the search
//

// Takes the path over. Returns it where a library of this machine is there, and that opened.
static char * try_path(struct search * search, char * path, struct elf_file * file) {
    struct error error;
    if (search->n_tries++ >= TRIES_MAX) {
        search->is_cut = true;
    } else if (elf_file_open(file, path, &error)) {
        if (file->is_native && !file->is_executable) {
            return path;
        }
        elf_file_close(file);
    }
    free(path);
    return NULL;
}

static char * try_folder(struct search * search, const char * folder, const char * name, struct elf_file * file) {
    char * path = NULL;
    for (int level = search->level; level > 1 && path == NULL; level--) {
        path = try_path(search, memory_text("%s/glibc-hwcaps/x86-64-v%d/%s", folder, level, name), file);
    }
    return path == NULL ? try_path(search, memory_text("%s/%s", folder, name), file) : path;
}

static char * try_folders(struct search * search, const struct loader_folders * folders, const char * name,
                          struct elf_file * file) {
    char * path = NULL;
    for (size_t i = 0; i < folders->n && path == NULL && !search->is_cut; i++) {
        path = try_folder(search, folders->paths[i], name, file);
    }
    return path;
}

// The RPATH of who needs it, of who needs that, … and of the program. musl looks at RUNPATH the same way.
static char * try_rpaths(struct search * search, size_t parent, const char * name, struct elf_file * file) {
    char * path = NULL;
    for (size_t i = parent; path == NULL; i = search->objects[i].parent) {
        path = try_folders(search, &search->objects[i].rpath, name, file);
        if (path == NULL && search->is_musl) {
            path = try_folders(search, &search->objects[i].runpath, name, file);
        }
        if (i == 0) {
            break;
        }
    }
    return path;
}

// The level of x86-64 that a path in the cache is for, 1: any.
static int level_of(const char * path) {
    const char * folder = strstr(path, "/glibc-hwcaps/x86-64-v");
    return folder == NULL ? 1 : folder[strlen("/glibc-hwcaps/x86-64-v")] - '0';
}

static char * try_cache(struct search * search, const char * name, struct elf_file * file) {
    char * path = NULL;
    for (int level = search->level; level > 0 && path == NULL; level--) {
        size_t i = 0;
        for (const char * found; path == NULL && (found = loader_cache_next(&search->cache, name, &i)) != NULL;) {
            path = level_of(found) == level ? try_path(search, memory_text("%s", found), file) : NULL;
        }
    }
    return path;
}

static char * try_all(struct search * search, size_t parent, const char * name, struct elf_file * file) {
    const struct object * object = &search->objects[parent];
    char                * path   = NULL;
    if (search->is_musl) {
        path = try_folders(search, &search->environment, name, file);
        path = path != NULL ? path : try_rpaths(search, parent, name, file);
    } else {
        path = object->has_runpath ? NULL : try_rpaths(search, parent, name, file);
        path = path != NULL ? path : try_folders(search, &search->environment, name, file);
        path = path != NULL ? path : try_folders(search, &search->objects[parent].runpath, name, file);
    }
    if (object->has_own_folders_only) {
        return path;
    }
    path = path != NULL ? path : try_cache  (search, name, file);
    path = path != NULL ? path : try_folders(search, &search->defaults, name, file);
    return path;
}

// What has a slash is a path.
static char * find_needed(struct search * search, size_t parent, const char * name, struct elf_file * file) {
    if (strchr(name, '$') == NULL && strchr(name, '/') == NULL) {
        return try_all(search, parent, name, file);
    }
    char * origin = loader_folder_of(search->objects[parent].path);
    char * path   = loader_folders_expand(name, strlen(name), search->lib, origin);
    char * found  = path == NULL ? NULL : strchr(path, '/') != NULL ? try_path(search, memory_text("%s", path), file)
                                                                    : try_all(search, parent, path, file);
    free(origin);
    free(path);
    return found;
}

static void load_needed(struct search * search, size_t parent, const char * name) {
    struct elf_file file;
    if (find_object(search, name) != NULL) {
        return;
    }
    char * path = find_needed(search, parent, name, &file);
    if (path == NULL) {
        if (!search->is_cut) {
            add_object(search, memory_text("%s", name), NULL, NULL, parent);
        }
        return;
    }
    if (is_loaded(search, &file)) {
        free(path);
    } else {
        add_object(search, memory_text("%s", name), path, &file, parent);
    }
    elf_file_close(&file);
}

// Those that are needed by what comes first come first.
static void load_all(struct search * search) {
    for (size_t i = 0; i < search->n_objects && !search->is_cut; i++) {
        for (size_t k = 0; k < search->objects[i].n_needed && !search->is_cut; k++) {
            search->is_cut = search->n_objects >= OBJECTS_MAX;
            char * name = memory_text("%s", search->objects[i].needed[k]);
            load_needed(search, i, name);
            free(name);
        }
    }
}

//
// the loader
//

// The folders that each build of a loader has in itself.
static const char * const system_folders[] = {
#if defined(__x86_64__)
    "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu",
#elif defined(__aarch64__)
    "/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu",
#elif defined(__riscv)
    "/lib/riscv64-linux-gnu", "/usr/lib/riscv64-linux-gnu",
#elif defined(__powerpc64__)
    "/lib/powerpc64le-linux-gnu", "/usr/lib/powerpc64le-linux-gnu",
#elif defined(__s390x__)
    "/lib/s390x-linux-gnu", "/usr/lib/s390x-linux-gnu",
#endif
    "/lib64", "/usr/lib64", "/lib", "/usr/lib",
};

// As a text of its own: "/lib/" is the end of many.
static bool has_folder(const struct elf_file * loader, const char * folder) {
    char         text[PATH_MAX + 2];
    const int    n = snprintf(text + 1, sizeof(text) - 1, "%s/", folder);
    text[0] = '\0';
    return n > 0 && (size_t) n < sizeof(text) - 1 && elf_file_contains(loader, text, (size_t) n + 2);
}

static void add_default(struct search * search, const struct elf_file * loader, const char * folder) {
    if (has_folder(loader, folder)) {
        loader_folders_add(&search->defaults, memory_text("%s", folder));
    }
}

static void read_defaults(struct search * search, const struct elf_file * loader, const char * path) {
    for (size_t i = 0; i < sizeof(system_folders) / sizeof(system_folders[0]); i++) {
        add_default(search, loader, system_folders[i]);
    }
    char * own = loader_folder_of(path); // of a C library that lives in a folder of its own, as in Nix and Guix
    add_default(search, loader, own);
    free(own);
    search->lib = search->defaults.n == 0 ? "lib" : search->defaults.paths[0] + 1;
}

// The file that tells musl's loader its folders, and what it takes without.
static void read_musl_defaults(struct search * search, const char * loader) {
    const char * name = strrchr(loader, '/') == NULL ? loader : strrchr(loader, '/') + 1;
    char       * path = memory_text("/etc/%.*s.path", (int) strcspn(name, "."), name);
    char         list[4096];
    const int    fd   = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t      n    = fd < 0 ? 0 : read(fd, list, sizeof(list) - 1);
    list[n < 0 ? 0 : n] = '\0';
    search->lib      = "lib";
    search->defaults = read_folders(search, n > 0 ? list : "/lib:/usr/local/lib:/usr/lib", ":\n", "");
    if (fd >= 0) {
        close(fd);
    }
    free(path);
}

static int x86_level(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("sse4.2") || !__builtin_cpu_supports("popcnt")) {
        return 1;
    }
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("bmi2") || !__builtin_cpu_supports("fma")) {
        return 2;
    }
    const bool has_avx512 = __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq")
                         && __builtin_cpu_supports("avx512vl");
    return has_avx512 ? 4 : 3;
#else
    return 1;
#endif
}

static bool contains_text(const struct elf_file * file, const char * text) {
    return elf_file_contains(file, text, strlen(text));
}

static bool begins(const char * text, const char * prefix) {
    return text != NULL && strncmp(text, prefix, strlen(prefix)) == 0;
}

// A shared library that calls itself a loader and has no loader: of glibc, or of musl.
static bool read_loader(struct search * search, const char * path) {
    struct elf_file file;
    struct error    error;
    if (!elf_file_open(&file, path, &error)) {
        return false;
    }
    search->is_musl = begins(file.soname, "libc.musl-") || begins(file.soname, "libc.so");
    const bool is_loader = file.is_native && file.interpreter == NULL && (search->is_musl || begins(file.soname, "ld"));
    if (is_loader && search->is_musl) {
        read_musl_defaults(search, path);
    } else if (is_loader) {
        read_defaults(search, &file, path);
        search->level = contains_text(&file, "glibc-hwcaps") ? x86_level() : 1;
        if (contains_text(&file, CACHE)) {
            loader_cache_open(&search->cache, CACHE);
        }
    }
    if (is_loader) {
        add_object(search, memory_text("%s", path), memory_text("%s", path), &file, 0);
    }
    elf_file_close(&file);
    return is_loader;
}

//
// what came of it
//

static const char * path_of(const struct search * search, const char * name) {
    const struct object * object = find_object(search, name);
    return object == NULL ? NULL : object->path;
}

// Whether the library has the version; it stays open for the next question. True where it cannot be told.
static bool has_version(struct search * search, const struct version * version, struct elf_file * file,
                        const char ** library) {
    struct error error;
    if (*library == NULL || strcmp(*library, version->library) != 0) {
        const char * path = path_of(search, version->library);
        elf_file_close(file);
        *library = version->library;
        if (path != NULL && elf_file_open(file, path, &error)) {
            count_bytes(search, file->n_strings);
        }
    }
    return file->fd < 0 || elf_file_names(file, version->version);
}

// The libraries that an object asks for have the versions that it asks for. Returns the complaint where not.
static char * missing_version(struct search * search, const struct object * object) {
    struct elf_file file      = { .fd = -1 };
    const char    * library   = NULL;
    char          * complaint = NULL;
    for (size_t i = 0; i < object->n_versions && complaint == NULL && !search->is_cut; i++) {
        const struct version * version = &object->versions[i];
        if (!has_version(search, version, &file, &library)) {
            complaint = memory_text("%s has no version %s, which %s needs", path_of(search, version->library),
                                    version->version, object->path);
        }
    }
    elf_file_close(&file);
    return complaint;
}

static void check_versions(struct search * search, struct loader_listing * listing, const char * preload) {
    for (size_t i = 0; i < search->n_objects && listing->complaint == NULL && !search->is_musl; i++) {
        const struct object * object = &search->objects[i];
        if (object->path == NULL) {
            continue;
        }
        const bool is_preload = preload != NULL && strcmp(object->name, preload) == 0;
        *(is_preload ? &listing->refusal : &listing->complaint) = missing_version(search, object);
    }
}

static void add_to_listing(struct loader_listing * listing, const struct object * object) {
    listing->names = memory_resize(listing->names, listing->n + 1, sizeof(*listing->names));
    listing->paths = memory_resize(listing->paths, listing->n + 1, sizeof(*listing->paths));
    listing->names[listing->n] = object->name;
    listing->paths[listing->n] = object->path;
    listing->n++;
}

static void end_search(struct search * search, struct loader_listing * listing) {
    for (size_t i = 0; i < search->n_objects; i++) {
        if (i == 0) {
            free(search->objects[i].name);
            free(search->objects[i].path);
        } else {
            add_to_listing(listing, &search->objects[i]);
        }
        clear_object(&search->objects[i]);
    }
    free(search->objects);
    loader_folders_clear(&search->environment);
    loader_folders_clear(&search->defaults);
    loader_cache_close(&search->cache);
}

// Takes the path over. False where it is none of this machine's.
static bool add_first(struct search * search, char * path, char * name) {
    struct elf_file file;
    char          * found = try_path(search, path, &file);
    if (found == NULL) {
        free(name);
        return false;
    }
    add_object(search, name, found, &file, 0);
    elf_file_close(&file);
    return true;
}

// The program may be at a fixed address, which try_path() does not take for a library.
static bool add_program(struct search * search, const char * program) {
    struct elf_file file;
    struct error    error;
    char          * real = realpath(program, NULL); // $ORIGIN is where it really is
    if (real == NULL || !elf_file_open(&file, real, &error)) {
        free(real);
        return false;
    }
    add_object(search, memory_text("%s", program), memory_text("%s", real), &file, 0);
    elf_file_close(&file);
    free(real);
    return true;
}

void loader_list(struct loader_listing * listing, const char * interpreter, const char * program,
                 const char * preload) {
    struct search search = { .level = 1, .lib = "lib" };
    *listing = (struct loader_listing) { 0 };
    if (add_program(&search, program) && read_loader(&search, interpreter)) {
        search.environment = read_folders(&search, getenv("LD_LIBRARY_PATH"), ":;", ".");
        if (preload != NULL && !add_first(&search, memory_text("%s", preload), memory_text("%s", preload))) {
            listing->refusal = memory_text("it is no library of this machine");
        }
        load_all(&search);
        check_versions(&search, listing, preload);
        listing->is_known = !search.is_cut;
    }
    end_search(&search, listing);
}

void loader_clear(struct loader_listing * listing) {
    for (size_t i = 0; i < listing->n; i++) {
        free(listing->names[i]);
        free(listing->paths[i]);
    }
    free(listing->names);
    free(listing->paths);
    free(listing->complaint);
    free(listing->refusal);
    *listing = (struct loader_listing) { 0 };
}
