// The library as a whole: joins the engine room to tracers, the one that the environment asks for and those of
// the API, and sees to the process's beginning and end.

#include "base/fork-reset.h"
#include "engine/capture/capture.h"
#include "engine/hooks/hooks.h"
#include "engine/upstream/host-log.h"
#include "library/library.h"
#include "library/run-sign.h"
#include "library/sudden-end.h"
#include "llama-expert-tracer.h"
#include "routing/sinks.h"
#include "tracer/announce.h"
#include "tracer/listener.h"
#include "tracer/periodic-writer.h"
#include "tracer/tracer.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define RUN_VARIABLE   "LLAMA_EXPERT_TRACE_RUN"
#define RUN_CHARACTERS "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_." // as in JSON

static pthread_mutex_t        attached_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct expert_tracer * attached[SINKS_MAX]; // by the slot that they listen in
static struct expert_tracer * from_env;            // the tracer that the environment asked for
static bool                   env_is_taken;        // the program made that tracer itself, and ends it itself
static char                   run_name[64];
static bool                   ends_are_watched;
static bool                   has_ended;           // nobody listens any more

// What goes wrong, and names, which somebody asked for.
static void say_if_wrong(enum log_level level, const char * lines) {
    if (level != LOG_INFO) {
        host_log(level, lines);
    }
}

static void say_aside(enum log_level level, const char * lines) {
    (void) level;
    host_log_to_stderr(lines);
}

// The run of a program is it and all that it starts: a server's children do not overwrite each other's files.
static void begin_run(void) {
    const char * inherited = secure_getenv(RUN_VARIABLE);
    const size_t length    = inherited ? strlen(inherited) : 0;
    if (length > 0 && length < sizeof(run_name) && strspn(inherited, RUN_CHARACTERS) == length) {
        strcpy(run_name, inherited);
        return;
    }
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(run_name, sizeof(run_name), "%ld-%lld%03ld", (long) getpid(), (long long) now.tv_sec,
        now.tv_nsec / 1000000);
    if (secure_getenv("LLAMA_EXPERT_TRACE_OUTPUT") || secure_getenv("LLAMA_EXPERT_TRACE_ROUTING")) {
        setenv(RUN_VARIABLE, run_name, 1);
    }
}

// Runs before the destructors of whatever the program made before its first context: loggers are still there. Other
// threads may go on to evaluate: all that is told is of one moment.
static void at_end(void) {
    host_log_set_exiting();
    pthread_mutex_lock(&attached_mutex);
    has_ended = true;
    for (int i = 0; i < SINKS_MAX; i++) {
        if (attached[i]) {
            sinks_detach_at_end(i);
            tracer_finish(attached[i]);
        }
    }
    pthread_mutex_unlock(&attached_mutex);
    host_log_flush();
}

static void abandon_all(void) {
    fork_reset_mutex(&attached_mutex);
    periodic_writers_forget();
    sudden_end_watch();
    for (int i = 0; i < SINKS_MAX; i++) {
        if (attached[i]) {
            tracer_abandon(attached[i]);
        }
        attached[i] = NULL;
    }
    from_env     = NULL;
    env_is_taken = false;
}

static void * open_context(void * self, const struct routing_model * model, const void * context_key) {
    run_sign_leave();
    return tracer_sink.context_open(self, model, context_key);
}

// With the mutex. The tracer's, with a sign of it.
static const struct routing_sink * library_sink(void) {
    static struct routing_sink sink;
    if (sink.context_open == NULL) {
        sink              = tracer_sink;
        sink.context_open = open_context;
    }
    return &sink;
}

// With the mutex. Takes the configuration over. Returns NULL where memory or room is used up.
static struct expert_tracer * attach(struct config * config, const struct text * remarks, bool always,
                                     void (*leave)(void)) {
    const log_fn              say    = config->quiet ? say_if_wrong : host_log;
    const struct tracer_setup setup  = { say, say_aside, run_name, always, leave };
    struct expert_tracer    * tracer = tracer_new(config, &setup);
    const int                 slot   = tracer && !has_ended ? sinks_attach(library_sink(), tracer) : -1;
    if (slot < 0) {
        if (tracer) {
            tracer_free(tracer);
        }
        return NULL;
    }
    announce_later(tracer, remarks->data);
    attached[slot] = tracer;
    tracer_show(tracer);
    if (!ends_are_watched) {
        ends_are_watched = true;
        atexit(at_end);
    }
    return tracer;
}

static void read_capture(struct text * remarks) {
    static atomic_bool said;
    const char * value = secure_getenv("LLAMA_EXPERT_TRACE_CAPTURE");
    const char * way   = value && *value ? value : "auto";
    if (!capture_set_way(way) && capture_set_way("auto") && !atomic_exchange(&said, true)) {
        text_add_line(remarks, "LLAMA_EXPERT_TRACE_CAPTURE=%.200s is not understood: graph and eval-callback are the "
            "ways to read the routing, auto chooses; taken as auto", value);
    }
}

// With the mutex. Returns false where nobody can do what the environment asks for.
static bool follow_environment(void) {
    struct config config;
    struct text   remarks = { 0 };
    const bool    asked   = config_from_env(&config, &remarks);
    read_capture(&remarks);
    if (remarks.failed) {
        static atomic_bool said;
        if (!atomic_exchange(&said, true)) {
            log_line(host_log, LOG_ERROR,
                "out of memory: not all that LLAMA_EXPERT_TRACE_* asks for is done, or nothing");
        }
    }
    if (config.dormant) {
        run_sign_leave(); // it may be that nobody ever asks for anything
    }
    if (from_env) {
        tracer_configure(from_env, &config);
        announce_later(from_env, remarks.data);
    } else if (asked || remarks.data) {
        from_env = attach(&config, &remarks, false, NULL);
    } else {
        config_free(&config);
    }
    text_free(&remarks);
    return from_env || !asked;
}

// The environment is read whenever a context is created, unless the program has made its tracer itself.
static void read_environment(void) {
    static atomic_bool said;
    pthread_mutex_lock(&attached_mutex);
    const bool followed = env_is_taken || follow_environment();
    pthread_mutex_unlock(&attached_mutex);
    if (!followed && !atomic_exchange(&said, true)) {
        log_line(host_log, LOG_ERROR,
            "nothing is traced for LLAMA_EXPERT_TRACE_*: memory, or the room for tracers, is used up");
    }
}

__attribute__((constructor)) static void begin_library(void) {
    run_sign_begin();
    host_log_note_stderr();
    begin_run();
    sudden_end_watch();
    pthread_atfork(NULL, NULL, abandon_all);
    hooks_set_on_context_created(read_environment);
}

//
// the public functions that make and end a tracer
//

struct expert_tracer * expert_tracer_new(const struct expert_tracer_config * from) {
    struct config     config;
    const struct text no_remarks = { 0 };
    if (!config_from_api(&config, from)) {
        return NULL;
    }
    pthread_mutex_lock(&attached_mutex);
    struct expert_tracer * tracer = attach(&config, &no_remarks, true, NULL);
    pthread_mutex_unlock(&attached_mutex);
    return tracer;
}

struct expert_tracer * expert_tracer_new_from_env(void) {
    struct config config;
    struct text   remarks = { 0 };
    config_from_env(&config, &remarks);
    read_capture(&remarks);
    pthread_mutex_lock(&attached_mutex);
    struct expert_tracer * tracer = attach(&config, &remarks, true, NULL);
    env_is_taken = env_is_taken || (tracer && from_env == NULL);
    pthread_mutex_unlock(&attached_mutex);
    text_free(&remarks);
    return tracer;
}

// Returns the slot that the tracer listens in, -1: none. It is the caller's then.
static int take_out(const struct expert_tracer * tracer) {
    int slot = -1;
    pthread_mutex_lock(&attached_mutex);
    for (int i = 0; i < SINKS_MAX && slot < 0; i++) {
        if (attached[i] == tracer) {
            attached[i] = NULL;
            slot        = i;
        }
    }
    pthread_mutex_unlock(&attached_mutex);
    return slot;
}

void expert_tracer_free(struct expert_tracer * tracer) {
    const int slot = tracer ? take_out(tracer) : -1;
    if (slot < 0) {
        return; // the parent's, in the child of a fork
    }
    sinks_detach(slot); // without the mutex: it waits for calls into the program
    tracer_free(tracer);
}

struct expert_tracer * library_attach(struct config * config, void (*leave)(void)) {
    const struct text no_remarks = { 0 };
    pthread_mutex_lock(&attached_mutex);
    struct expert_tracer * tracer = attach(config, &no_remarks, false, leave);
    env_is_taken = true;
    pthread_mutex_unlock(&attached_mutex);
    return tracer;
}

void library_detach(struct expert_tracer * tracer) {
    expert_tracer_free(tracer);
}

const char * expert_tracer_version(void) {
    return EXPERT_TRACER_VERSION;
}
