// Runs this very program for answers that take seconds and much memory.

#include "serve/serve-study.h"

#include "tool/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define AT_ONCE   2
#define TIME_MAX  60  // seconds
#define WORDS_MAX 16
#define PAUSE     5   // milliseconds between two looks
#define INPUT     3   // the file's descriptor there
#define INPUT_AT  "/proc/self/fd/3"

extern char ** environ;

struct serve_studies {
    pthread_mutex_t mutex;
    pid_t           pids[AT_ONCE]; // 0: free, -1: about to begin
    bool            ends;
};

struct serve_studies * serve_studies_new(void) {
    struct serve_studies * studies = memory_new(1, sizeof(*studies));
    pthread_mutex_init(&studies->mutex, NULL);
    return studies;
}

void serve_studies_free(struct serve_studies * studies) {
    pthread_mutex_destroy(&studies->mutex);
    free(studies);
}

void serve_studies_stop(struct serve_studies * studies) {
    pthread_mutex_lock(&studies->mutex);
    studies->ends = true;
    for (int i = 0; i < AT_ONCE; i++) {
        if (studies->pids[i] > 0) {
            kill(studies->pids[i], SIGKILL);
        }
    }
    pthread_mutex_unlock(&studies->mutex);
}

int serve_study_file(const char * name) {
    return memfd_create(name, MFD_CLOEXEC);
}

//
// places
//

// -1: all are taken.
static int take_place(struct serve_studies * studies) {
    int place = -1;
    pthread_mutex_lock(&studies->mutex);
    for (int i = 0; i < AT_ONCE && place < 0 && !studies->ends; i++) {
        if (studies->pids[i] == 0) {
            studies->pids[i] = -1;
            place = i;
        }
    }
    pthread_mutex_unlock(&studies->mutex);
    return place;
}

// False: it is not to go on.
static bool set_place(struct serve_studies * studies, int place, pid_t pid) {
    pthread_mutex_lock(&studies->mutex);
    studies->pids[place] = pid;
    const bool goes_on = !studies->ends;
    pthread_mutex_unlock(&studies->mutex);
    return goes_on;
}

//
// the process
//

struct child {
    pid_t pid;
    int   out; // files without a name
    int   err;
};

static bool spawn(struct child * child, const char * const * words, int fd) {
    char * argv[WORDS_MAX + 3] = { (char *) (uintptr_t) "llama-expert-tracer" };
    size_t n = 1;
    for (; words[n - 1] != NULL && n < WORDS_MAX; n++) {
        argv[n] = (char *) (uintptr_t) words[n - 1];
    }
    argv[n] = (char *) (uintptr_t) INPUT_AT;

    posix_spawn_file_actions_t actions;
    posix_spawnattr_t          attributes;
    sigset_t                   none;
    sigemptyset(&none);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags  (&attributes, POSIX_SPAWN_SETSIGMASK);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, child->out, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, child->err, STDERR_FILENO);
    posix_spawn_file_actions_adddup2(&actions, fd, INPUT);
    const int failed = posix_spawn(&child->pid, "/proc/self/exe", &actions, &attributes, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return failed == 0;
}

// With the number in its place it can be ended, and its number stays its own.
static pid_t look(struct serve_studies * studies, int place, pid_t pid, int * status) {
    pthread_mutex_lock(&studies->mutex);
    const pid_t ended = waitpid(pid, status, WNOHANG);
    studies->pids[place] = ended == 0 ? pid : -1;
    pthread_mutex_unlock(&studies->mutex);
    return ended;
}

static int wait_for(struct serve_studies * studies, int place, pid_t pid) {
    const struct timespec pause = { 0, PAUSE * 1000000 };
    const double          end   = clock_seconds() + TIME_MAX;
    int                   status = 0;
    if (!set_place(studies, place, pid)) {
        kill(pid, SIGKILL);
    }
    for (pid_t ended = 0; ended == 0; ) {
        ended = look(studies, place, pid, &status);
        if (ended == 0) {
            if (clock_seconds() >= end) {
                kill(pid, SIGKILL);
            }
            nanosleep(&pause, NULL);
        }
    }
    return status;
}

//
// its answer
//

// What it wrote to stderr, as one line without the names of this program and the file.
static void explain(int fd, struct error * error) {
    static const char * const prefixes[] = { "llama-expert-tracer: ", INPUT_AT ": " };
    char                      text[1024];
    const char              * at = text;
    const ssize_t             n  = pread(fd, text, sizeof(text) - 1, 0);
    text[n < 0 ? 0 : n] = '\0';
    text[strcspn(text, "\n")] = '\0';
    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
        at += strncmp(at, prefixes[i], strlen(prefixes[i])) == 0 ? strlen(prefixes[i]) : 0;
    }
    error_set(error, "%s", *at == '\0' ? "it took too long, or too much memory" : at);
}

static json_t * read_answer(int fd) {
    const off_t size = lseek(fd, 0, SEEK_END);
    void      * text = size <= 0 ? MAP_FAILED : mmap(NULL, (size_t) size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (text == MAP_FAILED) {
        return NULL;
    }
    json_t * json = json_loadb(text, (size_t) size, 0, NULL);
    munmap(text, (size_t) size);
    return json;
}

static enum serve_study_state run(struct serve_studies * studies, int place, struct child * child,
                                  const char * const * words, int fd, json_t ** answer, struct error * error) {
    if (child->out < 0 || child->err < 0 || !spawn(child, words, fd)) {
        error_set(error, "no process can be started, or out of memory");
        return SERVE_STUDY_FAILED;
    }
    const int status = wait_for(studies, place, child->pid);
    *answer = WIFEXITED(status) && WEXITSTATUS(status) == STATUS_OK ? read_answer(child->out) : NULL;
    if (*answer != NULL) {
        return SERVE_STUDY_DONE;
    }
    explain(child->err, error);
    return WIFEXITED(status) && WEXITSTATUS(status) == STATUS_USAGE ? SERVE_STUDY_WRONG : SERVE_STUDY_FAILED;
}

static void close_file(int fd) {
    if (fd >= 0) {
        close(fd);
    }
}

enum serve_study_state serve_study(struct serve_studies * studies, const char * const * words, int fd,
                                   json_t ** answer, struct error * error) {
    const int place = take_place(studies);
    if (place < 0) {
        error_set(error, "%d such questions are being answered: try again in some seconds", AT_ONCE);
        return SERVE_STUDY_BUSY;
    }
    struct child child = { 0, serve_study_file("answer"), serve_study_file("errors") };
    const enum serve_study_state state = run(studies, place, &child, words, fd, answer, error);
    set_place(studies, place, 0);
    close_file(child.out);
    close_file(child.err);
    return state;
}
