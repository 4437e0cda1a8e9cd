// Watches processes through connections of its own: their tracers fill rings as long as these are open, and a thread
// copies what is in them.

#include "serve/serve-recent.h"

#include "live/live-tails.h"
#include "serve/serve-events.h"
#include "serve/serve-study.h"
#include "tool/clock.h"
#include "tool/input/gguf-model.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define WATCH_TIME 60                   // seconds after the last question
#define READ_EVERY 20                   // milliseconds
#define ROOM       ((size_t) 64 << 20)  // bytes of events, of one process
#define WATCH_MAX  16                   // processes

// Of one model.
struct known_bytes {
    uint32_t           model;
    struct serve_bytes bytes;
};

struct watch {
    struct watch         * next;
    struct serve_process * process; // held
    struct live_client     client;  // that watches
    struct serve_events  * events;
    struct live_tails    * tails;
    struct known_bytes   * bytes;
    size_t                 n_bytes;
    double                 since;   // seconds of the monotonic clock
    double                 until;
};

struct serve_recents {
    struct serve_processes * processes;
    pthread_mutex_t          mutex;
    pthread_cond_t           wake;
    pthread_t                thread;
    bool                     ends;
    struct watch           * watches;
    size_t                   n_watches;
};

//
// rings
//

static void * open_source(void * self, uint32_t model, uint32_t context) {
    struct serve_source * source = memory_new(1, sizeof(*source));
    *source = (struct serve_source) { self, model, context };
    return source;
}

static void close_source(void * self, void * opened) {
    (void) self;
    free(opened);
}

static struct live_tails * new_tails(struct serve_events * events) {
    const struct live_tails_receiver receiver = { &serve_events_sink, open_source, close_source, events };
    return live_tails_new(&receiver);
}

//
// watching
//

static void free_watch(struct serve_recents * recents, struct watch * watch) {
    live_client_close(&watch->client);
    live_tails_free(watch->tails);
    for (size_t i = 0; i < watch->n_bytes; i++) {
        free(watch->bytes[i].bytes.layers);
    }
    serve_events_free(watch->events);
    serve_processes_release(recents->processes, watch->process);
    free(watch->bytes);
    free(watch);
}

// The process is held by the caller too.
static struct watch * new_watch(struct serve_recents * recents, struct serve_process * process, struct error * error) {
    static const char * const  words[]  = { "watch", NULL };
    const struct live_question question = { words, -1, LIVE_CLIENT_HOLDS };
    struct live_client         client;
    if (!live_client_open(&client, process->folder, &process->client.name, error)) {
        return NULL;
    }
    json_t * answer = live_client_ask(&client, &question, error);
    if (answer == NULL) {
        live_client_close(&client);
        return NULL;
    }
    json_decref(answer);
    struct watch * watch = memory_new(1, sizeof(*watch));
    watch->process = process;
    watch->client  = client;
    watch->events  = serve_events_new(ROOM);
    watch->tails   = new_tails(watch->events);
    watch->since   = clock_seconds();
    serve_processes_hold(recents->processes, process);
    return watch;
}

static struct watch * find_watch(const struct serve_recents * recents, const struct serve_process * process) {
    struct watch * at = recents->watches;
    while (at != NULL && at->process != process) {
        at = at->next;
    }
    return at;
}

// The mutex is not held while the process takes its time to answer. NULL, and why.
static struct watch * begin_watch(struct serve_recents * recents, struct serve_process * process,
                                  struct error * error) {
    struct watch * found = find_watch(recents, process);
    if (found != NULL || recents->n_watches >= WATCH_MAX) {
        error_set(error, "%d processes are watched already: try again in a minute", WATCH_MAX);
        return found;
    }
    pthread_mutex_unlock(&recents->mutex);
    struct watch * new = new_watch(recents, process, error);
    pthread_mutex_lock(&recents->mutex);
    found = find_watch(recents, process);
    if (new == NULL || found != NULL) {
        if (new != NULL) {
            free_watch(recents, new);
        }
        return found;
    }
    new->next = recents->watches;
    recents->watches = new;
    recents->n_watches++;
    pthread_cond_signal(&recents->wake);
    return new;
}

static void read_all(struct serve_recents * recents) {
    for (struct watch ** at = &recents->watches; *at != NULL; ) {
        struct watch * watch = *at;
        const bool     ends  = recents->ends || clock_seconds() > watch->until || !live_client_is_alive(&watch->client);
        if (ends) {
            *at = watch->next;
            recents->n_watches--;
            free_watch(recents, watch);
        } else {
            live_tails_read(watch->tails, &watch->client.map);
            at = &watch->next;
        }
    }
}

static void * go_on_reading(void * self) {
    struct serve_recents * recents = self;
    const struct timespec  pause   = { 0, READ_EVERY * 1000000 };
    pthread_mutex_lock(&recents->mutex);
    while (!recents->ends) {
        if (recents->watches == NULL) {
            pthread_cond_wait(&recents->wake, &recents->mutex);
        }
        read_all(recents);
        pthread_mutex_unlock(&recents->mutex);
        nanosleep(&pause, NULL);
        pthread_mutex_lock(&recents->mutex);
    }
    read_all(recents);
    pthread_mutex_unlock(&recents->mutex);
    return NULL;
}

//
// bytes of experts
//

static struct serve_bytes read_bytes(const struct watch * watch, const struct live_view_model * model) {
    struct serve_bytes  bytes = { 0 };
    struct gguf_model * file  = gguf_model_open_named(model->file, watch->client.user);
    for (size_t i = 0; file != NULL && i < file->n_layers; i++) {
        const size_t at = (size_t) file->layers[i].layer;
        if (at >= bytes.n) {
            bytes.layers = memory_resize(bytes.layers, at + 1, sizeof(*bytes.layers));
            for (; bytes.n <= at; bytes.n++) {
                bytes.layers[bytes.n] = 0;
            }
        }
        bytes.layers[at] = file->layers[i].expert_bytes;
    }
    gguf_model_free(file);
    return bytes;
}

// Read once. Valid while the watch is.
static struct serve_bytes bytes_of(struct watch * watch, const struct live_view_model * model) {
    for (size_t i = 0; i < watch->n_bytes; i++) {
        if (watch->bytes[i].model == model->number) {
            return watch->bytes[i].bytes;
        }
    }
    watch->bytes = memory_resize(watch->bytes, watch->n_bytes + 1, sizeof(*watch->bytes));
    watch->bytes[watch->n_bytes] = (struct known_bytes) { model->number, read_bytes(watch, model) };
    return watch->bytes[watch->n_bytes++].bytes;
}

static struct serve_bytes copy_bytes(const struct serve_bytes * bytes) {
    struct serve_bytes copy = { bytes->n, memory_new(bytes->n, sizeof(*bytes->layers)) };
    for (size_t i = 0; i < bytes->n; i++) {
        copy.layers[i] = bytes->layers[i];
    }
    return copy;
}

//
// questions
//

static bool write_trace(const struct serve_events * events, const struct live_view_model * model,
                        const struct serve_bytes * bytes, struct serve_recent * recent, struct error * error) {
    recent->n_tokens   = serve_events_tokens  (events, model->number);
    recent->n_ubatches = serve_events_ubatches(events, model->number);
    if (recent->n_ubatches == 0) {
        return true;
    }
    recent->fd = serve_study_file("recent");
    if (recent->fd >= 0 && serve_events_write(events, model, bytes, recent->fd, error)) {
        return true;
    }
    if (recent->fd < 0) {
        return error_set(error, "out of memory");
    }
    close(recent->fd);
    recent->fd = -1;
    return false;
}

bool serve_recents_ask(struct serve_recents * recents, struct serve_process * process,
                       const struct live_view_model * model, struct serve_recent * recent, struct error * error) {
    *recent = (struct serve_recent) { .fd = -1 };
    pthread_mutex_lock(&recents->mutex);
    struct watch * watch = begin_watch(recents, process, error);
    if (watch == NULL) {
        pthread_mutex_unlock(&recents->mutex);
        return false;
    }
    watch->until = clock_seconds() + WATCH_TIME;
    live_tails_read(watch->tails, &watch->client.map);
    const struct serve_bytes known  = bytes_of(watch, model);
    struct serve_bytes       bytes  = copy_bytes(&known);
    struct serve_events    * events = serve_events_copy(watch->events);
    recent->seconds = clock_seconds() - watch->since;
    recent->overrun = live_tails_overrun(watch->tails);
    pthread_mutex_unlock(&recents->mutex);

    const bool ok = write_trace(events, model, &bytes, recent, error);
    serve_events_free(events);
    free(bytes.layers);
    return ok;
}

//
// the whole
//

struct serve_recents * serve_recents_new(struct serve_processes * processes) {
    struct serve_recents * recents = memory_new(1, sizeof(*recents));
    recents->processes = processes;
    pthread_mutex_init(&recents->mutex, NULL);
    pthread_cond_init (&recents->wake,  NULL);
    if (pthread_create(&recents->thread, NULL, go_on_reading, recents) == 0) {
        return recents;
    }
    pthread_cond_destroy (&recents->wake);
    pthread_mutex_destroy(&recents->mutex);
    free(recents);
    return NULL;
}

void serve_recents_free(struct serve_recents * recents) {
    pthread_mutex_lock(&recents->mutex);
    recents->ends = true;
    pthread_cond_signal(&recents->wake);
    pthread_mutex_unlock(&recents->mutex);
    pthread_join(recents->thread, NULL);
    pthread_cond_destroy (&recents->wake);
    pthread_mutex_destroy(&recents->mutex);
    free(recents);
}
