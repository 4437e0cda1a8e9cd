// Looks through the folders of running tracers, and through /proc for those that have theirs elsewhere: another user's,
// or that of a container.

#include "live/live-processes.h"

#include "live/live-folder.h"
#include "tool/error.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MEMORY  "/memfd:llama-expert-tracer"
#define LIBRARY "libllama-expert-tracer"
#define MEMORY_OF_LIBRARY "/memfd:" LIBRARY // of one that was handed in
#define ENGINE  "libllama"
#define LOCK    ".lock"

static struct live_process * add(struct live_processes * processes) {
    processes->all = memory_resize(processes->all, processes->n + 1, sizeof(*processes->all));
    struct live_process * process = &processes->all[processes->n++];
    *process = (struct live_process) { .directory = -1 };
    return process;
}

static struct live_process * find_name(struct live_processes * processes, const struct live_name * name) {
    for (size_t i = 0; i < processes->n; i++) {
        if (strcmp(processes->all[i].name.text, name->text) == 0) {
            return &processes->all[i];
        }
    }
    return NULL;
}

//
// this user's folders
//

static bool is_own(int directory) {
    struct stat status;
    return fstat(directory, &status) == 0 && status.st_uid == geteuid();
}

// Takes the path.
static void look_into(struct live_processes * processes, char * path, bool follow) {
    struct live_name * names     = NULL;
    const int          directory = path == NULL ? -1 : live_folder_open_path(path, geteuid(), follow);
    if (directory >= 0 && is_own(directory)) {
        live_names_sweep(directory);
    }
    const int n = directory < 0 ? 0 : live_names_list(directory, &names);
    for (int i = 0; i < n; i++) {
        if (find_name(processes, &names[i]) == NULL) {
            struct live_process * process = add(processes);
            process->name      = names[i];
            process->directory = fcntl(directory, F_DUPFD_CLOEXEC, 3);
            process->folder    = memory_text("%s", path);
        }
    }
    if (directory >= 0) {
        close(directory);
    }
    free(names);
    free(path);
}

static void look_into_folders(struct live_processes * processes) {
    const char * setting = getenv(LIVE_FOLDER_VARIABLE);
    if (live_folder_is_named(setting)) {
        look_into(processes, memory_text("%s", setting), true);
        return;
    }
    look_into(processes, live_folder_runtime_path(getenv("XDG_RUNTIME_DIR")), false);
    look_into(processes, live_folder_common_path(geteuid()), false);
}

//
// /proc
//

struct mapped {
    bool memory; // of ours, to write to: those who look at it may not
    bool library;
    bool engine;
};

static bool begins(const char * text, const char * with) {
    return strncmp(text, with, strlen(with)) == 0;
}

// "7f0000000000-7f0000010000 rw-s 00000000 00:01 5 /memfd:llama-expert-tracer (deleted)"
static void look_at_mapping(const char * line, struct mapped * mapped) {
    const char * rights = strchr(line, ' ');
    const char * path   = strchr(line, '/');
    if (rights == NULL || path == NULL) {
        return;
    }
    const char * name = strrchr(path, '/') + 1;
    if (begins(path, MEMORY)) {
        mapped->memory = mapped->memory || rights[2] == 'w';
    } else if (begins(name, LIBRARY) || begins(path, MEMORY_OF_LIBRARY)) {
        mapped->library = true;
    } else if (begins(name, ENGINE) && strstr(name, ".so") != NULL) {
        mapped->engine = true;
    }
}

// False where that is none of this user's business.
static bool read_mappings(long pid, struct mapped * mapped) {
    char   path[64];
    char * line = NULL;
    size_t room = 0;
    *mapped = (struct mapped) { 0 };
    snprintf(path, sizeof(path), "/proc/%ld/maps", pid);
    FILE * file = fopen(path, "re");
    while (file != NULL && getline(&line, &room, file) > 0) {
        look_at_mapping(line, mapped);
    }
    free(line);
    return file != NULL && fclose(file) == 0;
}

// "/run/user/1000/llama-expert-tracer/123-89abcdef.lock": the folder, which is cut off there, and the name.
static bool take_lock_apart(char * path, struct live_name * name) {
    char       * end    = strrchr(path, '/');
    const size_t length = end == NULL ? 0 : strlen(end + 1);
    const size_t suffix = strlen(LOCK);
    if (path[0] != '/' || length <= suffix || length - suffix >= sizeof(name->text) ||
        strcmp(end + 1 + length - suffix, LOCK) != 0) {
        return false;
    }
    snprintf(name->text, sizeof(name->text), "%.*s", (int) (length - suffix), end + 1);
    *end = '\0';
    return live_name_is(name->text);
}

// The library holds its lock open. The folder is as the process sees it; NULL: it has none.
static char * find_lock(long pid, struct live_name * name) {
    char            path[PATH_MAX];
    struct dirent * entry;
    char          * folder = NULL;
    snprintf(path, sizeof(path), "/proc/%ld/fd", pid);
    DIR           * all    = opendir(path);
    while (all != NULL && folder == NULL && (entry = readdir(all)) != NULL) {
        const ssize_t n = readlinkat(dirfd(all), entry->d_name, path, sizeof(path) - 1);
        path[n < 0 ? 0 : n] = '\0';
        if (take_lock_apart(path, name)) {
            folder = memory_text("%s", path);
        }
    }
    if (all != NULL) {
        closedir(all);
    }
    return folder;
}

static char * program_of(long pid) {
    char link[64];
    char path[PATH_MAX];
    snprintf(link, sizeof(link), "/proc/%ld/exe", pid);
    const ssize_t n = readlink(link, path, sizeof(path) - 1);
    if (n <= 0) {
        return NULL;
    }
    path[n] = '\0';
    const char * name = strrchr(path, '/');
    return memory_text("%s", name == NULL ? path : name + 1);
}

static uid_t user_of(long pid) {
    char        path[64];
    struct stat status;
    snprintf(path, sizeof(path), "/proc/%ld", pid);
    return stat(path, &status) == 0 ? status.st_uid : geteuid();
}

static void note_process(struct live_process * process, long pid) {
    free(process->program);
    process->pid     = (pid_t) pid;
    process->user    = user_of(pid);
    process->program = program_of(pid);
}

// A child of the process may have its descriptors, too.
static void note_again(struct live_process * process, long pid) {
    if (process->pid == 0 || strtol(process->name.text, NULL, 10) == pid) {
        note_process(process, pid);
    }
}

// One whose folder is another than this user's.
static void add_elsewhere(struct live_processes * processes, const struct live_name * name, const char * folder,
                          long pid) {
    char    * path      = memory_text("/proc/%ld/root%s", pid, folder);
    const int directory = live_folder_open_path(path, user_of(pid), false);
    free(path);
    if (directory < 0) {
        return;
    }
    if (!live_name_is_alive(directory, name)) {
        close(directory);
        return;
    }
    struct live_process * process = add(processes);
    process->name      = *name;
    process->directory = directory;
    process->folder    = memory_text("%s", folder);
    note_process(process, pid);
}

static void look_at_shown(struct live_processes * processes, long pid) {
    struct live_name name;
    char           * folder = find_lock(pid, &name);
    if (folder == NULL) {
        return; // a child that has inherited the memory alone
    }
    struct live_process * known = find_name(processes, &name);
    if (known != NULL) {
        note_again(known, pid);
    } else {
        add_elsewhere(processes, &name, folder, pid);
    }
    free(folder);
}

static void look_at_process(struct live_processes * processes, long pid, bool others) {
    struct mapped mapped;
    if (!read_mappings(pid, &mapped)) {
        return;
    }
    if (mapped.memory) {
        look_at_shown(processes, pid);
    } else if (mapped.engine && others) {
        struct live_process * process = add(processes);
        process->is_traced = mapped.library;
        note_process(process, pid);
    }
}

static void look_into_proc(struct live_processes * processes, bool others) {
    DIR           * all = opendir("/proc");
    struct dirent * entry;
    while (all != NULL && (entry = readdir(all)) != NULL) {
        char     * end;
        const long pid = strtol(entry->d_name, &end, 10);
        if (pid > 0 && *end == '\0') {
            look_at_process(processes, pid, others);
        }
    }
    if (all != NULL) {
        closedir(all);
    }
}

//
// all of them
//

static int compare(const void * a, const void * b) {
    const struct live_process * one   = a;
    const struct live_process * other = b;
    return one->pid != other->pid ? (one->pid > other->pid) - (one->pid < other->pid)
                                  : strcmp(one->name.text, other->name.text);
}

void live_processes_find(struct live_processes * processes, bool others) {
    *processes = (struct live_processes) { 0 };
    look_into_folders(processes);
    if (!live_folder_is_named(getenv(LIVE_FOLDER_VARIABLE))) {
        look_into_proc(processes, others);
    }
    if (processes->n > 0) {
        qsort(processes->all, processes->n, sizeof(*processes->all), compare);
    }
}

bool live_process_is_attachable(const struct live_process * process) {
    return process->directory < 0 && !process->is_traced;
}

void live_processes_free(struct live_processes * processes) {
    for (size_t i = 0; i < processes->n; i++) {
        struct live_process * process = &processes->all[i];
        if (process->directory >= 0) {
            close(process->directory);
        }
        free(process->folder);
        free(process->program);
    }
    free(processes->all);
    *processes = (struct live_processes) { 0 };
}
