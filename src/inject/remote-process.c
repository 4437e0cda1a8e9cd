// Looks at a process through /proc and process_vm_readv().

#include "inject/remote-process.h"

#include "tool/launch/elf-file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAPPINGS_MAX ((size_t) 1 << 17)
#define STATUS_SIZE  8192

//
// status
//

static bool read_status(pid_t pid, pid_t tid, char text[STATUS_SIZE]) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/task/%d/status", (int) pid, (int) tid);
    const int     fd = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t n  = fd < 0 ? -1 : read(fd, text, STATUS_SIZE - 1);
    if (fd >= 0) {
        close(fd);
    }
    text[n < 0 ? 0 : n] = '\0';
    return n > 0;
}

// The name of the program comes first, and has its newlines escaped.
static const char * status_line(const char * text, const char * name) {
    const size_t length = strlen(name);
    for (const char * line = text; line != NULL && *line != '\0'; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, length) == 0 && line[length] == ':') {
            return line + length + 1 + strspn(line + length + 1, "\t ");
        }
    }
    return NULL;
}

bool remote_status(pid_t pid, pid_t tid, const char * name, int base, uint64_t * value) {
    char         text[STATUS_SIZE];
    const char * line = read_status(pid, tid, text) ? status_line(text, name) : NULL;
    *value = line == NULL ? 0 : strtoull(line, NULL, base);
    return line != NULL;
}

//
// who may
//

static long read_number(const char * path) {
    char      text[32] = "";
    const int fd       = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && read(fd, text, sizeof(text) - 1) < 0) {
        text[0] = '\0';
    }
    if (fd >= 0) {
        close(fd);
    }
    return strtol(text, NULL, 10);
}

static bool is_other_user(pid_t pid) {
    char        path[64];
    struct stat status;
    snprintf(path, sizeof(path), "/proc/%d", (int) pid);
    return stat(path, &status) == 0 && status.st_uid != geteuid();
}

bool remote_denied(pid_t pid, struct error * error) {
    const int  reason = errno;
    const long scope  = read_number("/proc/sys/kernel/yama/ptrace_scope");
    if (reason == ESRCH || reason == ENOENT) {
        return error_set(error, "process %d has ended", (int) pid);
    }
    if (reason != EPERM && reason != EACCES) {
        return error_set(error, "process %d cannot be looked into: %s", (int) pid, strerror(reason));
    }
    if (is_other_user(pid) && geteuid() != 0) {
        return error_set(error, "process %d is another user's, or may not be looked into: run this as that user, or as "
                         "root", (int) pid);
    }
    if (scope > 0) {
        return error_set(error, "this system lets nobody look into a running process that is not its own child "
                         "(/proc/sys/kernel/yama/ptrace_scope is %ld): run this as root%s", scope,
                         scope < 3 ? ", or allow it with 'sysctl kernel.yama.ptrace_scope=0'"
                                   : " on a system that was started with another setting");
    }
    return error_set(error, "process %d may not be looked into: this needs the capability CAP_SYS_PTRACE; run this as "
                     "root, and give a container '--cap-add SYS_PTRACE'", (int) pid);
}

//
// mappings
//

// "7f0000000000-7f0000010000 r-xp 00001000 08:01 5   /usr/lib/libc.so.6"
static bool parse_mapping(const char * line, struct remote_mapping * mapping) {
    char rights[5];
    int  end = 0;
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %*s %*s %n", &mapping->start, &mapping->end, rights,
               &mapping->offset, &end) < 4 || strlen(rights) != 4 || end == 0 || mapping->start >= mapping->end) {
        return false;
    }
    mapping->can_read    = rights[0] == 'r';
    mapping->can_write   = rights[1] == 'w';
    mapping->can_execute = rights[2] == 'x';
    mapping->is_private  = rights[3] == 'p';
    snprintf(mapping->path, sizeof(mapping->path), "%.*s", (int) strcspn(line + end, "\n"), line + end);
    return true;
}

static void add_mapping(struct remote_process * process, const char * line) {
    struct remote_mapping mapping;
    if (process->n_mappings == MAPPINGS_MAX || !parse_mapping(line, &mapping)) {
        return;
    }
    if (process->n_mappings % 256 == 0) {
        process->mappings = memory_resize(process->mappings, process->n_mappings + 256, sizeof(mapping));
    }
    process->mappings[process->n_mappings++] = mapping;
}

bool remote_process_map(struct remote_process * process, struct error * error) {
    char   path[64];
    char * line = NULL;
    size_t room = 0;
    snprintf(path, sizeof(path), "/proc/%d/maps", (int) process->pid);
    FILE * file = fopen(path, "re");
    if (file == NULL) {
        return remote_denied(process->pid, error);
    }
    process->n_mappings = 0;
    while (getline(&line, &room, file) > 0) {
        add_mapping(process, line);
    }
    free(line);
    fclose(file);
    return process->n_mappings > 0 || error_set(error, "process %d has ended, or is one of the kernel's: there is "
                                                "nothing in it to inject into", (int) process->pid);
}

const struct remote_mapping * remote_mapping_at(const struct remote_process * process, uint64_t address) {
    size_t low = 0, high = process->n_mappings;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (process->mappings[middle].end <= address) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    const bool found = low < process->n_mappings && process->mappings[low].start <= address;
    return found ? &process->mappings[low] : NULL;
}

bool remote_read(const struct remote_process * process, uint64_t address, void * bytes, size_t size) {
    const struct iovec here  = { bytes, size };
    const struct iovec there = { (void *) (uintptr_t) address, size };
    return process_vm_readv(process->pid, &here, 1, &there, 1, 0) == (ssize_t) size;
}

bool remote_write(const struct remote_process * process, uint64_t address, const void * bytes, size_t size) {
    const struct iovec here  = { (void *) (uintptr_t) bytes, size };
    const struct iovec there = { (void *) (uintptr_t) address, size };
    return process_vm_writev(process->pid, &here, 1, &there, 1, 0) == (ssize_t) size;
}

//
// what is refused
//

static bool check_state(pid_t pid, struct error * error) {
    char     text[STATUS_SIZE];
    uint64_t leader, tracer;
    if (!read_status(pid, pid, text)) {
        return error_set(error, "there is no process %d", (int) pid);
    }
    const char * state = status_line(text, "State");
    if (state != NULL && (*state == 'Z' || *state == 'X')) {
        return error_set(error, "process %d has ended: only its parent has not noticed yet", (int) pid);
    }
    if (remote_status(pid, pid, "Tgid", 10, &leader) && leader != (uint64_t) pid) {
        return error_set(error, "%d is a thread of process %d: give the number of the process", (int) pid,
                         (int) leader);
    }
    if (remote_status(pid, pid, "TracerPid", 10, &tracer) && tracer != 0) {
        return error_set(error, "process %d is being debugged by process %d: detach that first", (int) pid,
                         (int) tracer);
    }
    if (state != NULL && (*state == 'T' || *state == 't')) {
        return error_set(error, "process %d is stopped: let it go on first, with 'kill -CONT %d'", (int) pid,
                         (int) pid);
    }
    return true;
}

static bool check_file(pid_t pid, const struct elf_file * file, struct error * error) {
    if (file->is_elf && file->bits == 32) {
        return error_set(error, "process %d runs a 32-bit program: only 64-bit ones can be injected into", (int) pid);
    }
    if (!file->is_native) {
        return error_set(error, "process %d runs a program that is not of this machine's own kind: start it with "
                         "tracing instead", (int) pid);
    }
    if (file->interpreter != NULL && strstr(file->interpreter, "musl") != NULL) {
        return error_set(error, "process %d runs with musl, not with glibc: only programs with glibc can be injected "
                         "into", (int) pid);
    }
    return true;
}

static bool check_program(pid_t pid, struct error * error) {
    char            path[64];
    struct elf_file file;
    snprintf(path, sizeof(path), "/proc/%d/exe", (int) pid);
    if (access(path, R_OK) != 0) {
        return remote_denied(pid, error);
    }
    const bool fine = elf_file_open(&file, path, error) && check_file(pid, &file, error);
    elf_file_close(&file);
    return fine;
}

// What needs the right to trace: errors are better told before anything is done.
static bool check_right(const struct remote_process * process, struct error * error) {
    char byte;
    for (size_t i = 0; i < process->n_mappings; i++) {
        if (process->mappings[i].can_read && process->mappings[i].is_private
                && remote_read(process, process->mappings[i].start, &byte, 1)) {
            return true;
        }
    }
    return remote_denied(process->pid, error);
}

// Kernels know no lock of a process: the folder that stands for it is one for all who open it.
static bool take_lock(struct remote_process * process, struct error * error) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d", (int) process->pid);
    process->lock = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (process->lock < 0) {
        return remote_denied(process->pid, error);
    }
    return flock(process->lock, LOCK_EX | LOCK_NB) == 0
        || error_set(error, "something else is being injected into process %d: try again", (int) process->pid);
}

bool remote_process_open(struct remote_process * process, pid_t pid, struct error * error) {
    *process = (struct remote_process) { .pid = pid, .lock = -1 };
    if (pid <= 0) {
        return error_set(error, "%d is no number of a process", (int) pid);
    }
    if (pid == getpid()) {
        return error_set(error, "process %d is this one: nothing can be injected into itself", (int) pid);
    }
    return check_state(pid, error) && remote_process_map(process, error) && check_program(pid, error)
        && check_right(process, error) && take_lock(process, error);
}

void remote_process_close(struct remote_process * process) {
    if (process->lock >= 0) {
        close(process->lock);
    }
    free(process->mappings);
    *process = (struct remote_process) { .lock = -1 };
}
