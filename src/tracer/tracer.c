// A tracer from its beginning to its end, the thread that writes its files now and then, and the API's functions on its
// counts. What it counts comes through listener.c.

#include "tracer/tracer.h"

#include "base/text.h"
#include "statistics/snapshot.h"
#include "trace/write/trace-stream.h"
#include "trace/write/trace-writer.h"
#include "tracer/announce.h"
#include "tracer/model-output.h"
#include "tracer/model-trace.h"
#include "tracer/model.h"
#include "tracer/output.h"
#include "tracer/periodic-writer.h"
#include "tracer/showing.h"
#include "tracer/switches.h"
#include "tracer/tracer-state.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

//
// the tracer's thread
//

// Called from the tracer's thread. Who evaluates never waits for a file system: the first output of a model is its work
// too.
static void write_models(void * self, enum periodic_occasion occasion) {
    struct expert_tracer * tracer = self;
    const bool             is_new = occasion == PERIODIC_NEW;
    pthread_mutex_lock(&tracer->mutex);
    for (struct tracer_model * model = tracer->models; occasion == PERIODIC_END && model; model = model->next) {
        if (model->trace) {
            trace_writer_flush(model->trace);
        }
    }
    pthread_mutex_unlock(&tracer->mutex);
    for (struct tracer_model * model = model_first(tracer); model; model = model_next(model)) {
        model_output_write(model, is_new ? MODEL_OUTPUT_FIRST : MODEL_OUTPUT_AGAIN, tracer->setup.say_aside);
        model_output_finish(model); // what could not be written when it went is now
    }
}

static void stop_thread(struct expert_tracer * tracer) {
    pthread_mutex_lock(&tracer->mutex);
    periodic_writer_ask_to_stop(&tracer->writer);
    pthread_mutex_unlock(&tracer->mutex);
    periodic_writer_join(&tracer->writer);
}

//
// the tracer
//

struct expert_tracer * tracer_new(struct config * config, const struct tracer_setup * setup) {
    struct expert_tracer * tracer = calloc(1, sizeof(*tracer));
    if (tracer == NULL) {
        config_free(config);
        return NULL;
    }
    tracer->setup  = *setup;
    tracer->config = *config;
    periodic_writer_init(&tracer->writer, write_models, tracer, tracer->config.interval);
    pthread_mutex_init(&tracer->mutex, NULL);
    pthread_mutex_init(&tracer->subscription_mutex, NULL);
    atomic_store(&tracer->is_counting, !tracer->config.dormant);
    atomic_store(&tracer->is_naming,   tracer->config.names);
    tracer->asked_names    = tracer->config.names;
    tracer->asked_interval = tracer->config.interval;
    showing_prepare(tracer);
    switches_note(tracer);
    return tracer;
}

void tracer_configure(struct expert_tracer * tracer, struct config * config) {
    pthread_mutex_lock(&tracer->mutex);
    if (tracer->asked_interval != config->interval) {
        tracer->asked_interval = config->interval;
        periodic_writer_set_interval(&tracer->writer, config->interval);
    } else {
        config->interval = tracer->config.interval;
    }
    if (tracer->asked_names != config->names) {
        tracer->asked_names = config->names;
        atomic_store(&tracer->is_naming, config->names);
    }
    config_free(&tracer->config);
    tracer->config = *config;
    switches_note(tracer);
    pthread_mutex_unlock(&tracer->mutex);
}

void tracer_show(struct expert_tracer * tracer) {
    showing_begin(tracer);
}

bool tracer_is_shown(const struct expert_tracer * tracer) {
    return tracer->server != NULL;
}

static bool model_is_in_use(struct tracer_model * model) {
    pthread_mutex_lock(&model->tracer->mutex);
    const bool in_use = model->contexts != NULL;
    pthread_mutex_unlock(&model->tracer->mutex);
    return in_use;
}

void tracer_finish(struct expert_tracer * tracer) {
    showing_end(tracer);
    stop_thread(tracer);
    for (struct tracer_model * model = model_first(tracer); model; model = model_next(model)) {
        announce_statistics(model, tracer->setup.say);
        if (model_is_in_use(model) || atomic_load(&model->news_to_write)) {
            model_output_write(model, MODEL_OUTPUT_LAST, tracer->setup.say);
        }
        model_trace_end(model);
    }
}

void tracer_free(struct expert_tracer * tracer) {
    tracer_finish(tracer);
    while (tracer->models) {
        struct tracer_model * model = tracer->models;
        tracer->models = model->next;
        model_free(model);
    }
    live_memory_free(tracer->live);
    config_free(&tracer->config);
    free(tracer->remarks);
    pthread_mutex_destroy(&tracer->mutex);
    pthread_mutex_destroy(&tracer->subscription_mutex);
    free(tracer);
}

void tracer_abandon(struct expert_tracer * tracer) {
    showing_abandon(tracer);
    for (struct tracer_model * model = tracer->models; model; model = model->next) {
        if (model->output.fd >= 0) {
            close(model->output.fd); // the lock is the parent's
        }
        if (model->trace) {
            trace_writer_abandon(model->trace);
        }
        for (struct retired_trace * retired = model->retired; retired; retired = retired->next) {
            trace_writer_abandon(retired->writer);
        }
    }
}

//
// the public functions on a tracer
//

// To be let go of.
static struct tracer_model * model_at(struct expert_tracer * tracer, size_t index) {
    struct tracer_model * model = tracer ? model_first(tracer) : NULL;
    for (; model && index > 0; index--) {
        model = model_next(model);
    }
    return model;
}

struct expert_tracer_snapshot * expert_tracer_snapshot_take(struct expert_tracer * tracer, size_t index) {
    struct tracer_model * model = model_at(tracer, index);
    if (model == NULL) {
        return NULL;
    }
    struct expert_tracer_snapshot * snapshot = model_snapshot(model, false);
    model_let_go(model);
    return snapshot;
}

void expert_tracer_reset(struct expert_tracer * tracer) {
    if (tracer == NULL) {
        return;
    }
    pthread_mutex_lock(&tracer->mutex);
    live_memory_change(tracer->live);
    for (struct tracer_model * model = tracer->models; model; model = model->next) {
        meter_reset(model->closed);
        for (struct tracer_context * context = model->unsummed; context; context = context->next) {
            meter_reset(context->meter);
        }
        for (struct tracer_context * context = model->contexts; context; context = context->next) {
            meter_reset(context->meter);
        }
        atomic_store(&model->news_to_write, true);
    }
    live_memory_change_end(tracer->live);
    pthread_mutex_unlock(&tracer->mutex);
}

static int export_model(struct tracer_model * model, const char * path) {
    struct expert_tracer_snapshot * snapshot = model_snapshot(model, false);
    struct text                     json     = { 0 };
    if (snapshot) {
        snapshot_write_json(&json, snapshot, true, model->tracer->setup.run);
    }
    const int error = snapshot && !json.failed ? output_write_once(path, json.data, json.length) : -ENOMEM;
    expert_tracer_snapshot_free(snapshot);
    text_free(&json);
    return error;
}

int expert_tracer_export_json(struct expert_tracer * tracer, size_t index, const char * path) {
    struct tracer_model * model = model_at(tracer, index);
    if (model == NULL) {
        return -ENOENT;
    }
    const int error = path ? export_model(model, path) : -EINVAL;
    model_let_go(model);
    return error;
}
