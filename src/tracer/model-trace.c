// Begins and ends a model's routing trace as its configuration names it, and gives each context its stream in there.

#include "tracer/model-trace.h"

#include "base/text.h"
#include "trace/write/trace-stream.h"
#include "trace/write/trace-writer.h"
#include "tracer/announce.h"
#include "tracer/model.h"
#include "tracer/path-pattern.h"

#include <stdlib.h>
#include <string.h>

// With the tracer's mutex. Returns whether the model's trace is another one than `path` names, and has to end.
static bool trace_is_of_another(const struct tracer_model * model, const char * path) {
    return model->trace && (path == NULL || strcmp(model->trace_path, path) != 0);
}

// With the tracer's mutex. Takes the path over.
static void trace_begin(struct tracer_model * model, char * path) {
    const struct expert_tracer * tracer  = model->tracer;
    struct trace_options         options = model->config.trace;
    options.path      = path;
    options.folder    = model->config.folder;
    model->trace      = trace_writer_new(&options, &model->about, tracer->setup.run, tracer->setup.say,
                                         tracer->setup.say_aside);
    model->trace_path = path;
    if (model->trace == NULL) {
        free(model->trace_path);
        model->trace_path = NULL;
    }
}

void model_trace_join(struct tracer_context * context) {
    struct tracer_model * model = context->model;
    struct trace_writer * gone  = NULL;
    struct text           path  = { 0 };
    pthread_mutex_lock(&model->tracer->mutex);
    const char * wanted = model->config.routing;
    if (wanted) {
        path_pattern_add(&path, wanted, &model->about);
    }
    const bool has_path = path.data && !path.failed;
    if (!path.failed && trace_is_of_another(model, path.data) && model->contexts == context && context->next == NULL) {
        gone = model->trace;
        free(model->trace_path);
        model->trace      = NULL;
        model->trace_path = NULL;
    }
    if (has_path && model->trace == NULL) {
        trace_begin(model, path.data);
    } else {
        text_free(&path);
    }
    context->stream = has_path && model->trace ? trace_stream_new(model->trace) : NULL;
    pthread_mutex_unlock(&model->tracer->mutex);
    if (gone) {
        trace_writer_end(gone, NULL);
        trace_writer_free(gone);
    }
    context->lacks_stream = wanted && context->stream == NULL;
}

static struct trace_writer * model_trace(struct tracer_model * model) {
    pthread_mutex_lock(&model->tracer->mutex);
    struct trace_writer * trace = model->trace;
    pthread_mutex_unlock(&model->tracer->mutex);
    return trace;
}

void model_trace_lack(struct tracer_context * context, const struct routing_ubatch * ubatch) {
    struct tracer_model * model = context->model;
    model_trace_join(context);
    struct trace_writer * trace = model_trace(model);
    if (context->stream == NULL) {
        announce_no_memory(model->tracer, model->tracer->setup.say, "some of the routing is not recorded");
        context->n_unrecorded          += ubatch->n_tokens;
        context->n_unrecorded_ubatches += ubatch->lost ? ubatch->n_lost : 1;
    }
    if (trace) {
        trace_writer_lose(trace, context->n_unrecorded_ubatches, context->n_unrecorded);
        context->n_unrecorded          = 0;
        context->n_unrecorded_ubatches = 0;
    }
}

void model_trace_end(struct tracer_model * model) {
    pthread_mutex_lock(&model->tracer->mutex);
    struct trace_writer * trace   = model->trace;
    const char          * stopped = model_stopped(model, true);
    pthread_mutex_unlock(&model->tracer->mutex);
    if (trace) {
        trace_writer_end(trace, stopped);
    }
}
