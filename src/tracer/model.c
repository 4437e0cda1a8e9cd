// A tracer's models: made when the engine opens their first context, with the sum of what their contexts counted, and
// freed when they are gone and everything is written.

#include "tracer/model.h"

#include "statistics/snapshot.h"
#include "trace/write/trace-stream.h"
#include "tracer/model-show.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char ended_amid_batch[] = "the program ended while it evaluated";

void tracer_context_free(struct tracer_context * context) {
    trace_stream_free(context->stream);
    live_ring_free(context->ring_offered);
    meter_free(context->meter);
    text_free(&context->names);
    text_free(&context->pending_names);
    free(context);
}

static void contexts_free(struct tracer_context * contexts) {
    while (contexts) {
        struct tracer_context * context = contexts;
        contexts = context->next;
        tracer_context_free(context);
    }
}

void retired_trace_free(struct retired_trace * retired) {
    trace_writer_free(retired->writer);
    free(retired->path);
    if (retired->fd >= 0) {
        close(retired->fd);
    }
    free(retired);
}

void model_free(struct tracer_model * model) {
    contexts_free(model->contexts);
    contexts_free(model->unsummed);
    meter_free(model->closed);
    config_free(&model->config);
    output_release(&model->output);
    free(model->wanted);
    trace_writer_free(model->trace);
    free(model->trace_path);
    if (model->trace_fd >= 0) {
        close(model->trace_fd);
    }
    while (model->retired) {
        struct retired_trace * retired = model->retired;
        model->retired = retired->next;
        retired_trace_free(retired);
    }
    model_hide(model);
    pthread_mutex_destroy(&model->output_mutex);
    for (size_t i = 0; i < MODEL_N_STRINGS; i++) {
        free(model->strings[i]);
    }
    free(model);
}

// Returns NULL where memory runs out.
static struct tracer_model * model_new(struct expert_tracer * tracer, const struct routing_model * about) {
    struct tracer_model * model = calloc(1, sizeof(*model));
    if (model == NULL) {
        return NULL;
    }
    model->tracer   = tracer;
    model->number   = ++tracer->n_models;
    model->entry    = -1;
    model->trace_fd = -1;
    model->about    = *about;
    model->output = (struct output) OUTPUT_UNCLAIMED;
    atomic_init(&model->capture, about->capture);
    pthread_mutex_init(&model->output_mutex, NULL);
    const char ** strings[MODEL_N_STRINGS] = {
        &model->about.name, &model->about.architecture, &model->about.file, &model->about.engine,
    };
    bool whole = true;
    for (size_t i = 0; i < MODEL_N_STRINGS; i++) {
        model->strings[i] = *strings[i] ? strdup(*strings[i]) : NULL;
        whole             = whole && (model->strings[i] || *strings[i] == NULL);
        *strings[i]       = model->strings[i];
    }
    const struct meter_place place = { .live = tracer->live, .kind = LIVE_CLOSED, .model = model->number };
    model->closed = whole ? meter_new(0, 0, &place) : NULL;
    if (model->closed == NULL) {
        model_free(model);
        return NULL;
    }
    model_show(model);
    return model;
}

struct tracer_model * model_find_or_add(struct expert_tracer * tracer, const struct routing_model * about) {
    struct tracer_model ** link = &tracer->models;
    for (; *link; link = &(*link)->next) {
        if ((*link)->about.key == about->key && !(*link)->unloaded) {
            return *link;
        }
    }
    *link = model_new(tracer, about);
    return *link;
}

struct tracer_model * model_hold(struct tracer_model * model) {
    if (model) {
        model->n_holders++;
    }
    return model;
}

// Nobody can ask for the counts of a model that is gone, where the tracer is not the program's own.
static void model_drop(struct tracer_model * model) {
    struct tracer_model ** link = &model->tracer->models;
    while (*link != model) {
        link = &(*link)->next;
    }
    *link = model->next;
}

void model_let_go(struct tracer_model * model) {
    struct expert_tracer * tracer = model->tracer;
    pthread_mutex_lock(&tracer->mutex);
    const bool            is_over = --model->n_holders == 0 && model->finished;
    const bool            dropped = is_over && !tracer->setup.always;
    struct trace_writer * trace   = is_over && !dropped ? model->trace : NULL;
    if (dropped) {
        model_drop(model);
    } else if (trace) {
        model->trace = NULL;
    }
    pthread_mutex_unlock(&tracer->mutex);
    trace_writer_free(trace);
    if (dropped) {
        model_free(model);
    }
}

struct tracer_model * model_first(struct expert_tracer * tracer) {
    pthread_mutex_lock(&tracer->mutex);
    struct tracer_model * model = model_hold(tracer->models);
    pthread_mutex_unlock(&tracer->mutex);
    return model;
}

struct tracer_model * model_next(struct tracer_model * model) {
    pthread_mutex_lock(&model->tracer->mutex);
    struct tracer_model * next = model_hold(model->next);
    pthread_mutex_unlock(&model->tracer->mutex);
    model_let_go(model);
    return next;
}

bool model_config(struct tracer_model * model, struct config * config) {
    pthread_mutex_lock(&model->tracer->mutex);
    const bool copied = config_copy(config, &model->config);
    pthread_mutex_unlock(&model->tracer->mutex);
    return copied;
}

static bool sum_contexts(const struct tracer_context * contexts, struct counters * sum) {
    bool whole = true;
    for (; contexts; contexts = contexts->next) {
        whole = meter_read(contexts->meter, sum) && whole;
    }
    return whole;
}

// With the tracer's mutex.
static bool is_amid_batch(const struct tracer_model * model) {
    const struct tracer_context * context = model->contexts;
    while (context && !meter_is_in_batch(context->meter)) {
        context = context->next;
    }
    return context;
}

const char * model_stopped(const struct tracer_model * model, bool is_end) {
    const char * stopped = atomic_load(&model->stopped);
    return stopped == NULL && is_end && is_amid_batch(model) ? ended_amid_batch : stopped;
}

struct expert_tracer_snapshot * model_snapshot(struct tracer_model * model, bool is_end) {
    struct counters       sum   = { 0 };
    struct routing_model  about = model->about;
    struct snapshot_state state = { .lost_reason = atomic_load(&model->lost_reason) };
    about.capture      = atomic_load(&model->capture);
    about.phases_known = about.phases_known && !atomic_load(&model->phases_lost);

    pthread_mutex_lock(&model->tracer->mutex);
    const bool whole = meter_read(model->closed, &sum) && sum_contexts(model->contexts, &sum) &&
                       sum_contexts(model->unsummed, &sum);
    state.stopped  = model_stopped(model, is_end);
    state.complete = is_end || model->contexts == NULL;
    pthread_mutex_unlock(&model->tracer->mutex);

    struct expert_tracer_snapshot * snapshot = whole ? snapshot_new(&about, &sum, &state) : NULL;
    counters_free(&sum);
    return snapshot;
}

static void leave_mark(atomic_bool * mark) {
    if (!atomic_load_explicit(mark, memory_order_relaxed)) {
        atomic_store_explicit(mark, true, memory_order_relaxed);
    }
}

void model_note_news(struct tracer_model * model, bool to_print) {
    atomic_thread_fence(memory_order_seq_cst);
    leave_mark(&model->news_to_write);
    if (to_print) {
        leave_mark(&model->news_to_print);
    }
}

bool model_take_news(atomic_bool * mark) {
    const bool news = atomic_exchange(mark, false);
    atomic_thread_fence(memory_order_seq_cst);
    return news;
}
