// The library as a whole: joins the engine room to tracers, the one that the environment asks for and those of
// the API, and sees to the process's beginning and end.

#include "engine/engine.h"
#include "llama-expert-tracer.h"
#include "tracer/tracer.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define RUN_VARIABLE "LLAMA_EXPERT_TRACE_RUN"

struct attached {
    struct expert_tracer * tracer;
    int                    slot;
};

static pthread_mutex_t attached_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct attached attached[SINKS_MAX];
static struct expert_tracer * from_env; // the tracer that the environment asked for
static char            run_name[64];
static bool            ends_are_watched;

static void say_aside(enum log_level level, const char * lines) {
    (void) level;
    engine_say_to_stderr(lines);
}

// The run of a program is it and all that it starts: a server's children do not overwrite each other's files.
static void begin_run(void) {
    const char * inherited = getenv(RUN_VARIABLE);
    if (inherited && *inherited && strlen(inherited) < sizeof(run_name) && !strpbrk(inherited, "\"\\\n")) {
        strcpy(run_name, inherited);
        return;
    }
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(run_name, sizeof(run_name), "%ld-%lld%03ld", (long) getpid(), (long long) now.tv_sec, now.tv_nsec / 1000000);
    if (getenv("LLAMA_EXPERT_TRACE_OUTPUT")) {
        setenv(RUN_VARIABLE, run_name, 1);
    }
}

// Runs before the destructors of whatever the program made before its first context: loggers are still there.
static void at_end(void) {
    engine_set_exiting();
    pthread_mutex_lock(&attached_mutex);
    for (int i = 0; i < SINKS_MAX; i++) {
        if (attached[i].tracer) {
            tracer_finish(attached[i].tracer);
        }
    }
    pthread_mutex_unlock(&attached_mutex);
    engine_say_flush();
}

static void abandon_all(void) {
    static const pthread_mutex_t unlocked = PTHREAD_MUTEX_INITIALIZER;
    memcpy(&attached_mutex, &unlocked, sizeof(attached_mutex));
    for (int i = 0; i < SINKS_MAX; i++) {
        if (attached[i].tracer) {
            tracer_abandon(attached[i].tracer);
        }
    }
    memset(attached, 0, sizeof(attached));
    from_env = NULL;
}

// With the mutex. Takes the configuration over. Returns NULL where memory or room is used up.
static struct expert_tracer * attach(struct config * config, const struct text * remarks, bool always) {
    const struct tracer_setup setup  = { engine_say, say_aside, run_name, always };
    struct expert_tracer    * tracer = tracer_new(config, &setup);
    const int                 slot   = tracer ? sinks_attach(&tracer_sink, tracer) : -1;
    if (slot < 0) {
        if (tracer) {
            tracer_free(tracer);
        }
        return NULL;
    }
    tracer_remark(tracer, remarks->data);
    attached[slot] = (struct attached) { tracer, slot };
    if (!ends_are_watched) {
        ends_are_watched = true;
        atexit(at_end);
    }
    return tracer;
}

// The environment is read whenever a context is created.
static void read_environment(void) {
    struct config config;
    struct text   remarks = { 0 };

    pthread_mutex_lock(&attached_mutex);
    const bool asked = config_from_env(&config, &remarks);
    if (from_env) {
        tracer_configure(from_env, &config);
        tracer_remark(from_env, remarks.data);
    } else if (asked || remarks.data) {
        from_env = attach(&config, &remarks, false);
    } else {
        config_free(&config);
    }
    pthread_mutex_unlock(&attached_mutex);
    text_free(&remarks);
}

__attribute__((constructor)) static void begin_library(void) {
    begin_run();
    pthread_atfork(NULL, NULL, abandon_all);
    engine_set_on_context_created(read_environment);
}

//
// the public functions that make and end a tracer
//

static struct expert_tracer * new_tracer(struct config * config, const struct text * remarks) {
    pthread_mutex_lock(&attached_mutex);
    struct expert_tracer * tracer = attach(config, remarks, true);
    pthread_mutex_unlock(&attached_mutex);
    return tracer;
}

struct expert_tracer * expert_tracer_new(const struct expert_tracer_config * from) {
    struct config     config;
    const struct text no_remarks = { 0 };
    return config_from_api(&config, from) ? new_tracer(&config, &no_remarks) : NULL;
}

struct expert_tracer * expert_tracer_new_from_env(void) {
    struct config config;
    struct text   remarks = { 0 };
    config_from_env(&config, &remarks);
    struct expert_tracer * tracer = new_tracer(&config, &remarks);
    text_free(&remarks);
    return tracer;
}

void expert_tracer_free(struct expert_tracer * tracer) {
    if (!tracer) {
        return;
    }
    pthread_mutex_lock(&attached_mutex);
    for (int i = 0; i < SINKS_MAX; i++) {
        if (attached[i].tracer == tracer) {
            sinks_detach(attached[i].slot);
            attached[i].tracer = NULL;
        }
    }
    pthread_mutex_unlock(&attached_mutex);
    tracer_free(tracer);
}

const char * expert_tracer_version(void) {
    return EXPERT_TRACER_VERSION;
}
