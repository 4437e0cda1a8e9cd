// Begins and ends a model's routing trace as its configuration names it or a request demands, and gives each context
// its stream in there.

#include "tracer/model-trace.h"

#include "base/text.h"
#include "trace/write/trace-stream.h"
#include "trace/write/trace-writer.h"
#include "tracer/announce.h"
#include "tracer/model.h"
#include "tracer/path-pattern.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// With the tracer's mutex. Returns whether the model's trace is another one than `path` names, and has to end.
static bool trace_is_of_another(const struct tracer_model * model, const char * path) {
    return model->trace && (path == NULL || strcmp(model->trace_path, path) != 0);
}

// With the tracer's mutex. Takes the path over. Returns false where memory runs out.
static bool trace_begin(struct tracer_model * model, struct trace_options options, char * path) {
    const struct expert_tracer * tracer = model->tracer;
    options.path      = path;
    options.folder    = model->config.folder;
    model->trace      = trace_writer_new(&options, &model->about, tracer->setup.run, tracer->setup.say,
                                         tracer->setup.say_aside);
    model->trace_path = path;
    if (model->trace == NULL) {
        free(model->trace_path);
        model->trace_path = NULL;
    }
    return model->trace;
}

// With the tracer's mutex. Where there is no memory to note it down it goes on.
static void trace_retire(struct tracer_model * model) {
    struct retired_trace * retired = model->trace ? calloc(1, sizeof(*retired)) : NULL;
    if (retired == NULL) {
        return;
    }
    *retired = (struct retired_trace) { model->trace, model->trace_path, model->trace_fd, false, false,
                                          model->retired };
    model->retired    = retired;
    model->trace      = NULL;
    model->trace_path = NULL;
    model->trace_fd   = -1;
}

// With the tracer's mutex.
static bool trace_is_in_use(const struct tracer_model * model, const struct trace_writer * writer) {
    const struct tracer_context * context = model->contexts;
    while (context && context->recorder != writer) {
        context = context->next;
    }
    return context;
}

// With the tracer's mutex. Frees what has ended and nobody has a stream in.
static void trace_sweep(struct tracer_model * model) {
    struct retired_trace ** link = &model->retired;
    while (*link) {
        struct retired_trace * retired = *link;
        if (retired->is_ended && !trace_is_in_use(model, retired->writer)) {
            *link = retired->next;
            retired_trace_free(retired);
        } else {
            link = &retired->next;
        }
    }
}

// With the tracer's mutex. The trace that the configuration names: in place of another one, where this is the model's
// only context.
static void trace_follow_configuration(struct tracer_context * context) {
    struct tracer_model * model  = context->model;
    const char          * wanted = model->config.routing;
    struct text           path   = { 0 };
    if (wanted) {
        path_pattern_add(&path, wanted, &model->about);
    }
    const bool is_only = model->contexts == context && context->next == NULL;
    if (!path.failed && trace_is_of_another(model, path.data) && is_only) {
        trace_retire(model);
    }
    if (path.data && !path.failed && model->trace == NULL) {
        trace_begin(model, model->config.trace, path.data);
    } else {
        text_free(&path);
    }
}

void model_trace_join(struct tracer_context * context) {
    struct tracer_model * model = context->model;
    pthread_mutex_lock(&model->tracer->mutex);
    if (!model->trace_ordered) {
        trace_follow_configuration(context);
    }
    if (context->stream && context->recorder != model->trace) {
        trace_stream_free(context->stream);
        context->stream = NULL;
    }
    const bool wanted = model->trace_ordered ? model->trace != NULL : model->config.routing != NULL;
    if (context->stream == NULL && model->trace && wanted) {
        context->stream = trace_stream_new(model->trace);
    }
    context->recorder     = context->stream ? model->trace : NULL;
    context->lacks_stream = wanted && context->stream == NULL;
    trace_sweep(model);
    const bool has_retired = model->retired;
    pthread_mutex_unlock(&model->tracer->mutex);
    if (has_retired && !model->trace_ordered) {
        model_trace_end_retired(model);
    }
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

// With the tracer's mutex, which is not held meanwhile. Returns one that is to be ended, NULL: none.
static struct retired_trace * next_to_end(struct tracer_model * model) {
    struct retired_trace * retired = model->retired;
    while (retired && retired->is_ending) {
        retired = retired->next;
    }
    return retired;
}

// One that has not ended stays where it is.
void model_trace_end_retired(struct tracer_model * model) {
    pthread_mutex_lock(&model->tracer->mutex);
    for (struct retired_trace * retired; (retired = next_to_end(model)) != NULL;) {
        struct trace_writer * writer = retired->writer;
        retired->is_ending = true;
        pthread_mutex_unlock(&model->tracer->mutex);
        trace_writer_end(writer, NULL);
        pthread_mutex_lock(&model->tracer->mutex);
        retired->is_ended = true;
    }
    trace_sweep(model);
    pthread_mutex_unlock(&model->tracer->mutex);
}

void model_trace_end(struct tracer_model * model) {
    pthread_mutex_lock(&model->tracer->mutex);
    struct trace_writer * trace   = model->trace;
    const char          * stopped = model_stopped(model, true);
    pthread_mutex_unlock(&model->tracer->mutex);
    if (trace) {
        trace_writer_end(trace, stopped);
    }
    model_trace_end_retired(model);
}

int model_trace_order(struct tracer_model * model, const struct trace_options * options, int fd) {
    char * path = strdup(options->path);
    struct trace_options ordered = *options;
    if (model->trace || path == NULL) {
        free(path);
        return model->trace ? -EBUSY : -ENOMEM;
    }
    model->trace_fd    = fd;
    ordered.descriptor = fd >= 0 ? &model->trace_fd : NULL;
    if (!trace_begin(model, ordered, path)) {
        model->trace_fd = -1;
        return -ENOMEM;
    }
    model->trace_ordered     = true;
    model->trace_has_weights = options->weights;
    return 0;
}

void model_trace_order_to_end(struct tracer_model * model) {
    model->trace_ordered = true;
    trace_retire(model);
}
