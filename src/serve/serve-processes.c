// Keeps the list of traced processes: a thread looks into the folders of their sockets every second, connects to who is
// new, and drops who has ended. Who asks for the list never waits for a process.

#include "serve/serve-processes.h"

#include "base/clean.h"
#include "live/live-processes.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOOK_EVERY 1  // seconds
#define TRY_AFTER  10 // likewise, who did not answer
#define SHY_MAX    64
#define CELLS_MAX  ((uint64_t) 1 << 20) // layers times experts, of all models of a process

// Who did not answer, so that it does not cost the others time again at once.
struct shy_process {
    struct live_name name;
    time_t           until;
};

struct serve_processes {
    pthread_mutex_t         mutex;
    pthread_cond_t          wake;
    pthread_t               thread;
    bool                    ends;
    struct serve_process ** all;      // listed, by label
    size_t                  n;
    struct serve_untraced * untraced;
    size_t                  n_untraced;
    uint64_t                n_errors;
    struct shy_process      shy[SHY_MAX]; // the thread's own
    size_t                  next_shy;
};

//
// labels
//

static bool is_taken(const char * label, const char * (* taken)(const void * at, size_t i), const void * at, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (strcmp(taken(at, i), label) == 0) {
            return true;
        }
    }
    return false;
}

void serve_label_make(char label[SERVE_LABEL_MAX], const char * text,
                      const char * (* taken)(const void * at, size_t i), const void * at, size_t n) {
    char base[SERVE_LABEL_MAX - 24];
    clean_copy(base, sizeof(base), text[0] == '\0' ? "unknown" : text);
    snprintf(label, SERVE_LABEL_MAX, "%s", base);
    for (size_t number = 2; is_taken(label, taken, at, n); number++) {
        snprintf(label, SERVE_LABEL_MAX, "%s-%zu", base, number);
    }
}

static const char * label_of(const void * at, size_t i) {
    const struct serve_processes * processes = at;
    return processes->all[i]->label;
}

//
// the list
//

static void let_go(struct serve_process * process) {
    if (process->n_users == 0 && !process->is_listed) {
        live_client_close(&process->client);
        close(process->folder);
        free(process);
    }
}

static void drop(struct serve_processes * processes, size_t i) {
    struct serve_process * process = processes->all[i];
    memmove(&processes->all[i], &processes->all[i + 1], (processes->n - i - 1) * sizeof(struct serve_process *));
    processes->n--;
    process->is_listed = false;
    let_go(process);
}

static void drop_ended(struct serve_processes * processes) {
    for (size_t i = processes->n; i > 0; i--) {
        if (!live_client_is_alive(&processes->all[i - 1]->client)) {
            drop(processes, i - 1);
        }
    }
}

// The program as the process calls itself, which may be anything.
static void name_process(struct serve_processes * processes, struct serve_process * process) {
    char         program[LIVE_PROGRAM_SIZE];
    const char * path = live_map_header(&process->client.map)->program;
    memcpy(program, path, sizeof(program));
    program[sizeof(program) - 1] = '\0';
    const char * slash = strrchr(program, '/');
    serve_label_make(process->label, slash == NULL ? program : slash + 1, label_of, processes, processes->n);
}

static void insert(struct serve_processes * processes, struct serve_process * process) {
    name_process(processes, process);
    size_t at = processes->n;
    processes->all = memory_resize(processes->all, processes->n + 1, sizeof(struct serve_process *));
    for (; at > 0 && strcmp(processes->all[at - 1]->label, process->label) > 0; at--) {
        processes->all[at] = processes->all[at - 1];
    }
    processes->all[at] = process;
    processes->n++;
    process->is_listed = true;
}

static bool is_known(struct serve_processes * processes, const struct live_name * name) {
    for (size_t i = 0; i < processes->n; i++) {
        if (strcmp(processes->all[i]->client.name.text, name->text) == 0) {
            return true;
        }
    }
    return false;
}

//
// finding
//

static bool is_shy(const struct serve_processes * processes, const struct live_name * name) {
    for (size_t i = 0; i < SHY_MAX; i++) {
        const struct shy_process * shy = &processes->shy[i];
        if (shy->until > time(NULL) && strcmp(shy->name.text, name->text) == 0) {
            return true;
        }
    }
    return false;
}

// NULL: it does not answer.
static struct serve_process * meet(struct serve_processes * processes, int folder, const struct live_name * name) {
    struct error           error;
    struct serve_process * process = memory_new(1, sizeof(*process));
    process->folder = fcntl(folder, F_DUPFD_CLOEXEC, 0);
    if (process->folder >= 0 && live_client_open(&process->client, process->folder, name, &error)) {
        process->started = live_map_header(&process->client.map)->started;
        return process;
    }
    if (process->folder >= 0) {
        close(process->folder);
    }
    free(process);
    processes->shy[processes->next_shy++ % SHY_MAX] = (struct shy_process) { *name, time(NULL) + TRY_AFTER };
    return NULL;
}

struct found {
    struct serve_processes * processes;
    struct serve_process  ** new;
    size_t                   n;
};

// Only this thread changes the list, and the mutex is not held while a process takes its time to answer.
static void find(struct found * found, const struct live_process * at) {
    const bool shows = at->directory >= 0 && at->name.text[0] != '\0';
    if (!shows || is_known(found->processes, &at->name) || is_shy(found->processes, &at->name)) {
        return;
    }
    struct serve_process * process = meet(found->processes, at->directory, &at->name);
    if (process != NULL) {
        found->new = memory_resize(found->new, found->n + 1, sizeof(struct serve_process *));
        found->new[found->n++] = process;
    }
}

static struct serve_untraced * find_untraced(const struct live_processes * seen, size_t * n) {
    struct serve_untraced * all = memory_new(seen->n, sizeof(*all));
    *n = 0;
    for (size_t i = 0; i < seen->n; i++) {
        const struct live_process * its = &seen->all[i];
        if (live_process_is_attachable(its)) {
            struct serve_untraced * one = &all[(*n)++];
            *one = (struct serve_untraced) { .pid = its->pid, .user = its->user };
            clean_copy(one->program, sizeof(one->program), its->program != NULL ? its->program : "");
        }
    }
    return all;
}

static int by_start(const void * a, const void * b) {
    const struct serve_process * first  = *(struct serve_process * const *) a;
    const struct serve_process * second = *(struct serve_process * const *) b;
    return (first->started > second->started) - (first->started < second->started);
}

// Those who are there when this begins get their numbers in the order in which they began.
static void look(struct serve_processes * processes) {
    struct found          found = { processes, NULL, 0 };
    struct live_processes seen;
    live_processes_find(&seen, true);
    for (size_t i = 0; i < seen.n; i++) {
        find(&found, &seen.all[i]);
    }
    size_t                  n_untraced;
    struct serve_untraced * untraced = find_untraced(&seen, &n_untraced);
    live_processes_free(&seen);
    if (found.n > 0) {
        qsort(found.new, found.n, sizeof(struct serve_process *), by_start);
    }
    pthread_mutex_lock(&processes->mutex);
    drop_ended(processes);
    for (size_t i = 0; i < found.n; i++) {
        insert(processes, found.new[i]);
    }
    free(processes->untraced);
    processes->untraced   = untraced;
    processes->n_untraced = n_untraced;
    pthread_mutex_unlock(&processes->mutex);
    free(found.new);
}

static bool wait_to_look(struct serve_processes * processes) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += LOOK_EVERY;
    pthread_mutex_lock(&processes->mutex);
    if (!processes->ends) {
        pthread_cond_timedwait(&processes->wake, &processes->mutex, &until);
    }
    const bool ends = processes->ends;
    pthread_mutex_unlock(&processes->mutex);
    return !ends;
}

static void * go_on_looking(void * self) {
    while (wait_to_look(self)) {
        look(self);
    }
    return NULL;
}

//
// the whole
//

struct serve_processes * serve_processes_new(void) {
    struct serve_processes * processes = memory_new(1, sizeof(*processes));
    pthread_mutex_init(&processes->mutex, NULL);
    pthread_cond_init (&processes->wake,  NULL);
    look(processes);
    if (pthread_create(&processes->thread, NULL, go_on_looking, processes) != 0) {
        processes->ends = true;
        serve_processes_free(processes);
        return NULL;
    }
    return processes;
}

void serve_processes_free(struct serve_processes * processes) {
    pthread_mutex_lock(&processes->mutex);
    const bool has_thread = !processes->ends;
    processes->ends = true;
    pthread_cond_signal(&processes->wake);
    pthread_mutex_unlock(&processes->mutex);
    if (has_thread) {
        pthread_join(processes->thread, NULL);
    }
    while (processes->n > 0) {
        drop(processes, processes->n - 1);
    }
    pthread_cond_destroy (&processes->wake);
    pthread_mutex_destroy(&processes->mutex);
    free(processes->all);
    free(processes->untraced);
    free(processes);
}

struct serve_process ** serve_processes_list(struct serve_processes * processes, size_t * n) {
    pthread_mutex_lock(&processes->mutex);
    struct serve_process ** list = memory_new(processes->n, sizeof(*list));
    *n = 0;
    for (size_t i = 0; i < processes->n; i++) {
        if (live_client_is_alive(&processes->all[i]->client)) {
            processes->all[i]->n_users++;
            list[(*n)++] = processes->all[i];
        }
    }
    pthread_mutex_unlock(&processes->mutex);
    return list;
}

void serve_processes_hold(struct serve_processes * processes, struct serve_process * process) {
    pthread_mutex_lock(&processes->mutex);
    process->n_users++;
    pthread_mutex_unlock(&processes->mutex);
}

void serve_processes_release(struct serve_processes * processes, struct serve_process * process) {
    pthread_mutex_lock(&processes->mutex);
    process->n_users--;
    let_go(process);
    pthread_mutex_unlock(&processes->mutex);
}

void serve_processes_release_all(struct serve_processes * processes, struct serve_process ** list, size_t n) {
    for (size_t i = 0; i < n; i++) {
        serve_processes_release(processes, list[i]);
    }
    free(list);
}

struct serve_process * serve_processes_find(struct serve_processes * processes, const char * label) {
    size_t                  n;
    struct serve_process ** list  = serve_processes_list(processes, &n);
    struct serve_process  * found = NULL;
    for (size_t i = 0; i < n; i++) {
        if (found == NULL && strcmp(list[i]->label, label) == 0) {
            found = list[i];
        } else {
            serve_processes_release(processes, list[i]);
        }
    }
    free(list);
    return found;
}

struct serve_untraced * serve_processes_untraced(struct serve_processes * processes, size_t * n) {
    pthread_mutex_lock(&processes->mutex);
    struct serve_untraced * all = memory_new(processes->n_untraced, sizeof(*all));
    *n = processes->n_untraced;
    if (*n > 0) {
        memcpy(all, processes->untraced, *n * sizeof(*all));
    }
    pthread_mutex_unlock(&processes->mutex);
    return all;
}

// What no model has would make an answer of any size: the process may be anybody's.
static bool is_sensible(const struct live_view * view) {
    uint64_t n_cells = 0;
    for (size_t i = 0; i < view->n_models && n_cells <= CELLS_MAX; i++) {
        const struct counters_table * table = &view->models[i].counts.table;
        n_cells += (uint64_t) table->n_layers * ((uint64_t) table->n_expert + 1);
    }
    return view->n_models <= LIVE_ENTRIES_MAX && n_cells <= CELLS_MAX;
}

bool serve_processes_read(struct serve_processes * processes, const struct serve_process * process,
                          struct live_view * view, struct error * error) {
    bool ok = live_view_read(&process->client.map, view, error);
    if (ok && !is_sensible(view)) {
        live_view_free(view);
        ok = error_set(error, "it shows more layers and experts than any model has");
    }
    pthread_mutex_lock(&processes->mutex);
    processes->n_errors += !ok;
    pthread_mutex_unlock(&processes->mutex);
    return ok;
}

uint64_t serve_processes_n_errors(struct serve_processes * processes) {
    pthread_mutex_lock(&processes->mutex);
    const uint64_t n = processes->n_errors;
    pthread_mutex_unlock(&processes->mutex);
    return n;
}
