// Whether preloading reaches llama.cpp in a program: a row of questions to its files, the first that has an answer
// decides.

#include "tool/launch/program.h"

#include "base/clean.h"
#include "tool/launch/elf-file.h"
#include "tool/launch/loader.h"
#include "tool/launch/program-path.h"
#include "tool/launch/script.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

// The name that routing has in every graph of llama.cpp: who has it in himself has llama.cpp in himself.
#define ROUTING_NAME "ffn_moe_topk"
// Functions of libggml that libllama calls, and that are stood between: without the first there is nothing of them.
static const char * const engine_calls[] = {
    "ggml_backend_sched_graph_compute_async", "ggml_backend_sched_alloc_graph", "ggml_backend_sched_synchronize",
    "ggml_backend_sched_set_eval_callback",
};

// What the tracer leaves in an engine that it is built into.
#define BUILT_IN_MARK "llama-expert-tracer is built in"

// What this command has in itself, whose own search words would be taken for llama.cpp's.
#define OWN_MARK "llama-expert-tracer searches programs"

#define BUILD_SHARED  "build llama.cpp with -DBUILD_SHARED_LIBS=ON, which is its default, and link the program to " \
                      "libllama.so"
#define NOT_PRELOADED BUILD_SHARED "; or build the tracer into its llama.cpp (llama-expert-tracer integrate)"
#define IN_CONTAINER  "run the tracer inside the container: install it in the image, or mount the library and set " \
                      "LD_PRELOAD and LLAMA_EXPERT_TRACE_* there (docker run -v LIBRARY:/tracer.so " \
                      "-e LD_PRELOAD=/tracer.so …)"

#define SCRIPTS_MAX 4

struct examination {
    const char             * path;
    const char             * library;
    struct elf_file          elf;
    struct loader_listing    listing;
    struct program_verdict * verdict;
};

// Always true: decided.
__attribute__((format(printf, 3, 4)))
static bool decide(struct examination * examination, enum program_answer answer, const char * format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(examination->verdict->why, sizeof(examination->verdict->why), format, args);
    va_end(args);
    clean_in_place(examination->verdict->why);
    examination->verdict->answer = answer;
    return true;
}

__attribute__((format(printf, 2, 3)))
static bool advise(struct examination * examination, const char * format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(examination->verdict->advice, sizeof(examination->verdict->advice), format, args);
    va_end(args);
    return true;
}

static const char * base_name(const char * path) {
    const char * slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

static bool begins(const char * text, const char * prefix) {
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool contains(const struct elf_file * file, const char * text) {
    return elf_file_contains(file, text, strlen(text));
}

// Whether what it has or calls of libggml goes through the linker. A library that has all of llama.cpp inside may have
// been built so that some of it does and some does not.
static bool is_reached(const struct elf_file * file) {
    bool reached = elf_file_calls(file, engine_calls[0]);
    for (size_t i = 1; i < sizeof(engine_calls) / sizeof(engine_calls[0]) && reached; i++) {
        reached = !elf_file_names(file, engine_calls[i]) || elf_file_calls(file, engine_calls[i]);
    }
    return reached;
}

static bool is_musl(const char * interpreter) {
    return interpreter != NULL && begins(base_name(interpreter), "ld-musl");
}

// Who starts the program as someone else's, or with more rights than his own, does not get his LD_PRELOAD through.
static bool is_privileged(struct examination * examination) {
    struct stat    file;
    struct statvfs mount;
    if (stat(examination->path, &file) != 0 || statvfs(examination->path, &mount) != 0
            || (mount.f_flag & ST_NOSUID) != 0 || prctl(PR_GET_NO_NEW_PRIVS, 0L, 0L, 0L, 0L) == 1) {
        return false;
    }
    const bool setuid_  = (file.st_mode & S_ISUID) != 0 && file.st_uid != getuid();
    const bool setgid_  = (file.st_mode & S_ISGID) != 0 && (file.st_mode & S_IXGRP) != 0 && file.st_gid != getgid();
    const bool has_caps = getuid() != 0 && getxattr(examination->path, "security.capability", NULL, 0) > 0;
    if (!setuid_ && !setgid_ && !has_caps) {
        return false;
    }
    decide(examination, PROGRAM_CANNOT, "it is %s, and the loader ignores LD_PRELOAD for such programs",
           setuid_ ? "setuid" : setgid_ ? "setgid" : "given file capabilities");
    return advise(examination, "copy it, which leaves that behind, and trace the copy: cp %s ./", examination->path);
}

static bool is_foreign(struct examination * examination) {
    const struct elf_file * elf = &examination->elf;
    if (elf->is_native) {
        return false;
    }
    decide(examination, PROGRAM_CANNOT, "it is a %d-bit program for %s, this tracer is built for %zu-bit %s", elf->bits,
           elf_file_machine_name(elf->machine), sizeof(void *) * 8,
#if defined(__x86_64__)
           "x86-64"
#elif defined(__aarch64__)
           "AArch64"
#else
           "another machine"
#endif
    );
    return advise(examination, "build the tracer for that machine, and use it there");
}

// Started by hand, the loader preloads as ever: what matters is the program it is given.
static bool is_loader(struct examination * examination) {
    const struct elf_file * elf = &examination->elf;
    if (elf->interpreter != NULL || elf->soname == NULL || !begins(elf->soname, "ld")) {
        return false;
    }
    decide(examination, PROGRAM_MAY,
           "it is the dynamic loader: the program that it is told to load is traced, if it has llama.cpp");
    return advise(examination, "check that program");
}

static bool is_shared(const struct elf_file * elf) {
    return elf->is_dynamic && elf->interpreter == NULL && !elf->is_executable && !elf->is_pie && elf->soname != NULL;
}

bool program_is_library(const char * path) {
    struct elf_file file;
    struct error    error;
    if (strchr(path, '/') == NULL || !elf_file_open(&file, path, &error)) {
        return false;
    }
    const bool is = is_shared(&file);
    elf_file_close(&file);
    return is;
}

static bool is_library(struct examination * examination) {
    const struct elf_file * elf = &examination->elf;
    if (!is_shared(elf)) {
        return false;
    }
    if (!contains(elf, ROUTING_NAME)) {
        decide(examination, PROGRAM_CANNOT, "it is a shared library, not a program");
        return advise(examination, "check the program that uses it");
    }
    if (contains(elf, BUILT_IN_MARK)) {
        return decide(examination, PROGRAM_CAN, "it is a library with llama.cpp inside, and the tracer built in");
    }
    if (is_reached(elf)) {
        decide(examination, PROGRAM_MAY, "it is a library with llama.cpp inside: a program that loads it is traced");
        return advise(examination, "run the program that uses it");
    }
    decide(examination, PROGRAM_CANNOT,
           "it is a library with llama.cpp inside, which calls it directly, where nothing can "
           "stand between");
    return advise(examination, NOT_PRELOADED);
}

// Clients of a service that starts containers elsewhere: neither a preloaded library nor a variable gets there.
static const char * const container_clients[] = {
    "docker", "docker-compose", "podman", "podman-compose", "podman-remote", "nerdctl", "kubectl", "lxc", "incus",
};

static bool is_container_client(struct examination * examination) {
    char * real  = realpath(examination->path, NULL);
    bool   found = false;
    for (size_t i = 0; i < sizeof(container_clients) / sizeof(container_clients[0]) && !found; i++) {
        found = strcmp(base_name(examination->path), container_clients[i]) == 0
             || (real != NULL && strcmp(base_name(real), container_clients[i]) == 0);
    }
    free(real);
    if (!found) {
        return false;
    }
    decide(examination, PROGRAM_CANNOT, "it starts programs in containers, where neither the tracer nor its variables "
           "come");
    return advise(examination, IN_CONTAINER);
}

// A script that names one of them as a command.
static bool starts_container(struct examination * examination, const char * text, size_t size) {
    for (size_t i = 0; i < sizeof(container_clients) / sizeof(container_clients[0]); i++) {
        if (script_has_command(text, size, container_clients[i])) {
            decide(examination, PROGRAM_IN_VAIN,
                   "it is a script that uses %s: what runs in a container is not traced, as "
                   "neither the tracer nor its variables come there", container_clients[i]);
            return advise(examination, IN_CONTAINER);
        }
    }
    return false;
}

static bool is_this_command(struct examination * examination) {
    if (!contains(&examination->elf, OWN_MARK)) {
        return false;
    }
    decide(examination, PROGRAM_MAY, "it is this command: the program that it runs is traced, if that has llama.cpp");
    return advise(examination, "check that program");
}

static bool has_tracer_inside(struct examination * examination) {
    return contains(&examination->elf, BUILT_IN_MARK) && contains(&examination->elf, ROUTING_NAME)
        && decide(examination, PROGRAM_CAN, "llama.cpp is inside it, with the tracer built in");
}

static bool is_static(struct examination * examination) {
    const struct elf_file * elf = &examination->elf;
    if (elf->interpreter != NULL) {
        return false;
    }
    decide(examination, PROGRAM_CANNOT, "it is statically linked, so no library can be put before it");
    return advise(examination, contains(elf, ROUTING_NAME)
                  ? "llama.cpp is inside: " NOT_PRELOADED
                  : "use a dynamically linked build of it");
}

// A library of one C library cannot be loaded beside another.
static bool is_of_other_libc(struct examination * examination) {
    struct elf_file self;
    struct error    error;
    if (!elf_file_open(&self, "/proc/self/exe", &error)) {
        return false;
    }
    const bool program_is_musl = is_musl(examination->elf.interpreter);
    const bool differs         = self.interpreter != NULL && is_musl(self.interpreter) != program_is_musl;
    elf_file_close(&self);
    if (!differs) {
        return false;
    }
    decide(examination, PROGRAM_CANNOT, "it uses the C library %s, this tracer %s, and one process cannot have both",
           program_is_musl ? "musl" : "glibc", program_is_musl ? "glibc" : "musl");
    return advise(examination,
                  "build the tracer with %s too (CC=musl-gcc, or on the distribution that the program is from)",
                  program_is_musl ? "musl" : "glibc");
}

static bool has_no_interpreter(struct examination * examination) {
    if (access(examination->elf.interpreter, X_OK) == 0) {
        return false;
    }
    decide(examination, PROGRAM_CANNOT, "it does not start here: its loader %s is missing",
           examination->elf.interpreter);
    return advise(examination, "install what the program was built for, or use a build for this system");
}

static bool has_unknown_loader(struct examination * examination) {
    if (examination->listing.is_known) {
        return false;
    }
    decide(examination, PROGRAM_UNKNOWN, examination->listing.n == 0
           ? "its loader %s is none whose rules are known here"
           : "what its loader %s would load for it cannot be followed to the end", examination->elf.interpreter);
    return advise(examination, "trace it, and see");
}

static bool has_missing_libraries(struct examination * examination) {
    const struct loader_listing * listing = &examination->listing;
    for (size_t i = 0; i < listing->n; i++) {
        if (listing->paths[i] == NULL) {
            decide(examination, PROGRAM_IN_VAIN, "it does not start here: its loader will not find %s",
                   listing->names[i]);
            return advise(examination, "name the folder of %s in LD_LIBRARY_PATH, or install it", listing->names[i]);
        }
    }
    if (listing->complaint == NULL) {
        return false;
    }
    decide(examination, PROGRAM_IN_VAIN, "it does not start here: %s", listing->complaint);
    return advise(examination, "use a build of the program for this system");
}

static bool refuses_library(struct examination * examination) {
    const struct loader_listing * listing = &examination->listing;
    if (examination->library == NULL || listing->refusal == NULL) {
        return false;
    }
    decide(examination, PROGRAM_CANNOT, "its loader will not take %s: %s", examination->library, listing->refusal);
    return advise(examination, "use a tracer built for the same system as the program");
}

static const char * find_library(const struct loader_listing * listing, const char * name) {
    for (size_t i = 0; i < listing->n; i++) {
        const char * base = base_name(listing->names[i]);
        if (begins(base, name) && (base[strlen(name)] == '.' || base[strlen(name)] == '\0')) {
            return listing->paths[i];
        }
    }
    return NULL;
}

// libllama.so.0.7.0 is 0.7.0; a single number is the one of the interface, and no version.
static char * version_of(const char * path) {
    const char * suffix = strstr(base_name(path), ".so.");
    return suffix != NULL && strchr(suffix + 4, '.') != NULL ? memory_text("%s", suffix + 4) : NULL;
}

static struct program_part part_of(const char * path) {
    char * real = realpath(path, NULL);
    char * best = real == NULL ? memory_text("%s", path) : real;
    return (struct program_part) { best, version_of(best) };
}

static bool file_names(const char * path, const char * name) {
    struct elf_file file;
    struct error    error;
    if (!elf_file_open(&file, path, &error)) {
        return false;
    }
    const bool found = elf_file_names(&file, name);
    elf_file_close(&file);
    return found;
}

static bool file_is_reached(const char * path) {
    struct elf_file file;
    struct error    error;
    if (!elf_file_open(&file, path, &error)) {
        return false;
    }
    const bool reached = is_reached(&file);
    elf_file_close(&file);
    return reached;
}

static bool file_contains(const char * path, const char * text) {
    struct elf_file file;
    struct error    error;
    if (!elf_file_open(&file, path, &error)) {
        return false;
    }
    const bool found = contains(&file, text);
    elf_file_close(&file);
    return found;
}

// Forks that differ where the tracer stands, by a function that only they export.
static const char * fork_of(const char * ggml) {
    static const struct {
        const char * function;
        const char * about;
    } forks[] = {
        { "ggml_moe_up_gate",
          "ik_llama.cpp: its eval callback is used. Tried with llama-cli and llama-server of 8337e4cd" },
    };
    for (size_t i = 0; i < sizeof(forks) / sizeof(forks[0]) && ggml != NULL; i++) {
        if (file_names(ggml, forks[i].function)) {
            return forks[i].about;
        }
    }
    return NULL;
}

static bool uses_llama(struct examination * examination) {
    const struct loader_listing * listing = &examination->listing;
    const char * llama = find_library(listing, "libllama");
    const char * ggml  = find_library(listing, "libggml-base");
    ggml = ggml == NULL ? find_library(listing, "libggml") : ggml;
    if (llama == NULL) {
        return false;
    }
    examination->verdict->llama = part_of(llama);
    if (ggml != NULL) {
        examination->verdict->ggml = part_of(ggml);
    }
    if (!file_is_reached(llama)) {
        decide(examination, PROGRAM_IN_VAIN,
               "%s has ggml inside and calls it directly, where nothing can stand between", llama);
        return advise(examination, NOT_PRELOADED);
    }
    examination->verdict->fork = fork_of(ggml);
    return decide(examination, PROGRAM_CAN, "it uses llama.cpp as a shared library%s",
                  file_contains(llama, BUILT_IN_MARK) ? ", with the tracer built in" : "");
}

static bool is_tracer(const struct examination * examination, const char * path) {
    return examination->library != NULL && strcmp(path, examination->library) == 0;
}

// llama.cpp inside the program, or inside a library that has all of it.
static bool has_llama_inside(struct examination * examination) {
    const struct loader_listing * listing = &examination->listing;
    if (contains(&examination->elf, ROUTING_NAME)) {
        decide(examination, PROGRAM_IN_VAIN,
               "llama.cpp is linked into the program itself, where nothing can stand between");
        return advise(examination, NOT_PRELOADED);
    }
    for (size_t i = 0; i < listing->n; i++) {
        const char * path = listing->paths[i];
        if (path == NULL || is_tracer(examination, path) || !file_contains(path, ROUTING_NAME)) {
            continue;
        }
        if (file_is_reached(path)) {
            decide(examination, PROGRAM_MAY,
                   "llama.cpp is inside its library %s, which may call it in a way that can be traced", path);
            return advise(examination, "trace it, and see; if nothing is counted, " BUILD_SHARED);
        }
        decide(examination, PROGRAM_IN_VAIN, "llama.cpp is linked into its library %s, where nothing can stand between",
               path);
        return advise(examination, NOT_PRELOADED);
    }
    return false;
}

static bool is_of_libc(const char * name) {
    static const char * const parts[] = { "libc.", "libc-", "libdl.", "libdl-", "libpthread", "ld-", "ld64",
                                          "linux-vdso", "linux-gate" };
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (begins(base_name(name), parts[i])) {
            return true;
        }
    }
    return false;
}

static bool loads_libraries(const struct examination * examination) {
    const struct loader_listing * listing = &examination->listing;
    bool loads = elf_file_names(&examination->elf, "dlopen");
    for (size_t i = 0; i < listing->n && !loads; i++) {
        const char * path = listing->paths[i];
        loads = path != NULL && !is_of_libc(path) && !is_tracer(examination, path) && file_names(path, "dlopen");
    }
    return loads;
}

static bool starts_programs(const struct examination * examination) {
    static const char * const calls[] = { "execve", "execv", "execvp", "execvpe", "execl", "execlp", "execle",
                                          "fexecve",
                                          "posix_spawn", "posix_spawnp", "system", "popen" };
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        if (elf_file_names(&examination->elf, calls[i])) {
            return true;
        }
    }
    return false;
}

static bool may_come_to_llama(struct examination * examination) {
    if (loads_libraries(examination)) {
        decide(examination, PROGRAM_MAY, "it has no libllama itself; if it loads one while it runs, that is traced");
    } else if (starts_programs(examination)) {
        decide(examination, PROGRAM_MAY, "it has no libllama itself; if it starts a program that has, that is traced");
    } else {
        return false;
    }
    return advise(examination, "trace it, and see");
}

static bool judge_elf(struct examination * examination) {
    if (is_container_client(examination) || is_foreign(examination) || is_loader(examination)
            || is_library(examination) || is_this_command(examination)
            || has_tracer_inside(examination) || is_static(examination) || is_of_other_libc(examination)
            || is_privileged(examination)
            || has_no_interpreter(examination)) {
        return true;
    }
    loader_list(&examination->listing, examination->elf.interpreter, examination->path, examination->library);
    if (has_unknown_loader(examination) || has_missing_libraries(examination) || refuses_library(examination)
            || uses_llama(examination) || has_llama_inside(examination) || may_come_to_llama(examination)) {
        return true;
    }
    decide(examination, PROGRAM_IN_VAIN, "it has nothing of llama.cpp, and loads no libraries while it runs");
    return advise(examination, "name the program that runs the model");
}

#define HEAD_MAX (64 * 1024) // of a script, nothing more is read

static bool judge_at_depth(const char * path, const char * library, int depth, struct program_verdict * verdict,
                           struct error * error);

// The program that a wrapper script hands over to is judged in its place.
static void judge_target(struct examination * examination, const char * target, int depth) {
    struct error error;
    int          status;
    char       * path = program_find(target, &error, &status);
    if (path != NULL && judge_at_depth(path, examination->library, depth + 1, examination->verdict, &error)
            && examination->verdict->answer == PROGRAM_CANNOT) {
        examination->verdict->answer = PROGRAM_IN_VAIN; // the script itself runs, and may start others before
    }
    free(path);
}

static void judge_other(struct examination * examination, int depth) {
    char         interpreter[512];
    char         target[4096];
    char       * head = memory_new(HEAD_MAX, 1);
    const size_t size = elf_file_head(&examination->elf, head, HEAD_MAX);
    if (!script_interpreter(head, size, interpreter, sizeof(interpreter))) {
        decide(examination, PROGRAM_CANNOT, "it is neither an ELF program nor a script");
        advise(examination, "name the program that runs the model");
    } else {
        decide(examination, PROGRAM_MAY, "it is a script for %s; what it starts is traced, if that has llama.cpp",
               interpreter);
        advise(examination, "check the program that it starts");
        if (!starts_container(examination, head, size) && depth < SCRIPTS_MAX
                && script_exec_target(head, size, target, sizeof(target))) {
            judge_target(examination, target, depth);
        }
    }
    free(head);
}

static bool judge_at_depth(const char * path, const char * library, int depth, struct program_verdict * verdict,
                           struct error * error) {
    struct examination examination = { .path = path, .library = library, .verdict = verdict };
    if (!elf_file_open(&examination.elf, path, error)) {
        return false;
    }
    snprintf(verdict->path, sizeof(verdict->path), "%s", path);
    if (examination.elf.is_elf) {
        judge_elf(&examination);
    } else {
        judge_other(&examination, depth);
    }
    loader_clear(&examination.listing);
    elf_file_close(&examination.elf);
    return true;
}

bool program_judge(const char * path, const char * library, struct program_verdict * verdict, struct error * error) {
    *verdict = (struct program_verdict) { 0 };
    return judge_at_depth(path, library, 0, verdict, error);
}

void program_verdict_clear(struct program_verdict * verdict) {
    free(verdict->llama.path);
    free(verdict->llama.version);
    free(verdict->ggml.path);
    free(verdict->ggml.version);
    *verdict = (struct program_verdict) { 0 };
}
