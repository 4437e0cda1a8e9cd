// Counts, records and passes on what the engine delivers, context by context.

#include "tracer/listener.h"

#include "base/cache-line.h"
#include "base/folder.h"
#include "base/text.h"
#include "trace/write/trace-stream.h"
#include "tracer/announce.h"
#include "tracer/meter.h"
#include "tracer/model-output.h"
#include "tracer/model-trace.h"
#include "tracer/model.h"
#include "tracer/names.h"
#include "tracer/subscriptions.h"

#include <stdlib.h>

#define NAMES_AT_ONCE (1 << 20) // bytes of lines: what is more is logged in pieces
#define NAMES_KEPT    (4 << 20) // bytes of memory: more is not kept for the next ubatch

static void flush_names(struct expert_tracer * tracer, struct text * names) {
    if (names->failed) {
        announce_no_memory(tracer, tracer->setup.say, "some of the names are not logged");
    }
    if (names->length > 0) {
        tracer->setup.say(LOG_BULK, names->data);
    }
    text_clear(names);
}

static void keep_names(struct text * names) {
    if (names->room > NAMES_KEPT) {
        text_free(names);
    }
}

static void log_names(struct tracer_context * context, const struct routing_ubatch * ubatch) {
    const bool    is_pending = ubatch->fate == ROUTING_PENDING;
    struct text * names      = is_pending ? &context->pending_names : &context->names;
    for (int32_t i = 0; i < ubatch->n_layers; i++) {
        names_add(names, &ubatch->layers[i]);
        if (!is_pending && (names->length >= NAMES_AT_ONCE || i == ubatch->n_layers - 1)) {
            flush_names(context->model->tracer, names);
        }
    }
    keep_names(&context->names);
}

// What a context does beside counting, as it is wanted now. By the thread that evaluates it, before a batch of which
// that holds.
static void on_order(void * self) {
    struct tracer_context * context = self;
    struct expert_tracer  * tracer  = context->model->tracer;
    model_trace_join(context);
    pthread_mutex_lock(&tracer->mutex);
    context->ring       = atomic_load(&tracer->is_watched) ? context->ring_offered : NULL;
    context->logs_names = context->model->config.names;
    context->does_more  = context->logs_names || context->stream || context->lacks_stream || context->ring;
    pthread_mutex_unlock(&tracer->mutex);
}

// With the tracer's mutex. Returns NULL where memory runs out.
static struct tracer_context * tracer_context_new(struct expert_tracer * tracer, const struct routing_model * about,
                                                  const void * key) {
    struct tracer_model    * model   = model_find_or_add(tracer, about);
    struct tracer_context  * context = model ? cache_line_alloc(sizeof(*context)) : NULL;
    const struct meter_place place   = {
        .live    = tracer->live,          .kind  = LIVE_CONTEXT, .is_off = !atomic_load(&tracer->is_counting),
        .context = tracer->n_contexts + 1, .model = model ? model->number : 0,
        .in_batch = about->phases_known,
    };
    struct meter * meter = context ? meter_new(model->about.n_layer, model->about.n_expert, &place) : NULL;
    if (meter == NULL) {
        free(context);
        return NULL;
    }
    if (model->contexts == NULL) {
        config_free(&model->config);
        if (!config_copy(&model->config, &tracer->config)) {
            meter_free(meter);
            free(context);
            return NULL;
        }
        model->config.folder = folder_current();
        model->config.names  = atomic_load(&tracer->is_naming);
    }
    if (model->config.output || model->config.routing) {
        periodic_writer_start(&tracer->writer); // without a thread the output is made at the end
        periodic_writer_new(&tracer->writer);
    }
    context->model  = model;
    context->key    = key;
    context->number = ++tracer->n_contexts;
    context->meter  = meter;
    if (atomic_load(&tracer->is_watched)) {
        context->ring_offered = live_ring_new(tracer->live, model->number, context->number);
    }
    meter_on_order(meter, on_order, context);
    context->next   = model->contexts;
    model->contexts = context;
    return context;
}

static void * on_context_open(void * self, const struct routing_model * about, const void * context_key) {
    struct expert_tracer * tracer = self;

    pthread_mutex_lock(&tracer->mutex);
    const bool stats   = tracer->config.stats;
    const bool names   = tracer->config.names;
    const bool routing = tracer->config.routing;
    const bool wanted  = stats || names || routing || tracer->live || tracer->setup.always;
    struct tracer_context * context = wanted ? tracer_context_new(tracer, about, context_key) : NULL;
    pthread_mutex_unlock(&tracer->mutex);

    announce_beginning(tracer, stats, names, routing, about->capture);
    if (context == NULL) {
        if (wanted) {
            announce_not_counted(tracer);
        }
        return wanted ? ROUTING_NO_MEMORY : NULL;
    }
    on_order(context);
    return context;
}

static unsigned on_wants(void * self) {
    struct expert_tracer * tracer = self;
    const bool             asked  = atomic_load_explicit(&tracer->traces, memory_order_relaxed) ||
                                    atomic_load_explicit(&tracer->n_subscriptions, memory_order_relaxed) > 0;
    const bool             gates  = asked && atomic_load_explicit(&tracer->with_gates, memory_order_relaxed);
    const bool             shows  = atomic_load_explicit(&tracer->is_watched, memory_order_relaxed);
    const bool             counts = atomic_load_explicit(&tracer->is_counting, memory_order_relaxed) ||
                                    atomic_load_explicit(&tracer->is_naming, memory_order_relaxed);
    return (asked || shows ? ROUTING_WANTS_TOKENS : 0) | (gates ? ROUTING_WANTS_GATES : 0) |
           (asked || shows || counts ? ROUTING_WANTS_ROUTING : 0);
}

static void on_layer(void * self, const struct routing_layer * layer, const struct routing_ubatch * ubatch) {
    subscriptions_deliver(self, layer, ubatch);
}

static bool is_mtp(const struct tracer_model * model, const struct routing_ubatch * ubatch) {
    if (model->about.n_layer <= 0 || ubatch->n_layers == 0) {
        return false;
    }
    for (int32_t i = 0; i < ubatch->n_layers; i++) {
        if (ubatch->layers[i].layer < model->about.n_layer) {
            return false;
        }
    }
    return true;
}

// It is what most ubatches are read by, and then it is only looked at.
static void note_capture(struct tracer_model * model, const char * capture) {
    if (capture && capture != atomic_load_explicit(&model->capture, memory_order_relaxed)) {
        atomic_store(&model->capture, capture);
    }
}

// The first is kept.
static void note_reason(const char * _Atomic * reason, const char * now) {
    const char * none = NULL;
    atomic_compare_exchange_strong(reason, &none, now);
}

static void note_missing(struct tracer_model * model, const struct routing_ubatch * ubatch) {
    if (ubatch->lost) {
        note_reason(&model->lost_reason, ubatch->lost);
    }
    if (ubatch->stopped) {
        note_reason(&model->stopped, ubatch->lost);
    }
}

static void do_more(struct tracer_context * context, const struct routing_ubatch * ubatch) {
    if (context->logs_names && ubatch->fate != ROUTING_WARMUP) {
        log_names(context, ubatch);
    }
    if (context->lacks_stream) {
        model_trace_lack(context, ubatch);
    }
    if (context->stream) {
        trace_stream_ubatch(context->stream, ubatch, context->is_mtp);
    }
    if (context->ring) {
        live_ring_ubatch(context->ring, ubatch, context->is_mtp);
    }
}

static void on_ubatch(void * self, const struct routing_ubatch * ubatch) {
    struct tracer_context * context = self;
    struct tracer_model   * model   = context->model;

    for (int32_t i = 0; i < ubatch->n_layers && !ubatch->layers_told; i++) {
        on_layer(context, &ubatch->layers[i], ubatch);
    }
    note_capture(model, ubatch->capture);
    note_missing(model, ubatch);
    context->is_mtp = is_mtp(model, ubatch);
    const bool goes_on = model->about.phases_known && ubatch->n_tokens > 0;
    if (!meter_ubatch(context->meter, ubatch, context->is_mtp, goes_on)) {
        note_reason(&model->lost_reason, ROUTING_LACKS_MEMORY);
        announce_not_counted(model->tracer);
    }
    model_note_news(model, true);
    if (context->does_more) {
        do_more(context, ubatch);
    }
}

static void on_begin(void * self) {
    meter_begin(((struct tracer_context *) self)->meter);
}

static void on_skip(void * self) {
    meter_skip(((struct tracer_context *) self)->meter);
}

static void on_decode(void * self, const struct routing_decode * decode) {
    struct tracer_context * context = self;
    meter_decode(context->meter, decode, context->is_mtp);
    if (decode->phases_lost) {
        atomic_store(&context->model->phases_lost, true);
    }
    model_note_news(context->model, false);
}

static void on_settle(void * self, bool warmup) {
    struct tracer_context * context = self;
    struct expert_tracer  * tracer  = context->model->tracer;
    meter_settle(context->meter, warmup);
    if (warmup) {
        text_clear(&context->pending_names);
    } else {
        flush_names(tracer, &context->pending_names);
    }
    keep_names(&context->pending_names);
    model_note_news(context->model, false);
    if (context->stream) {
        trace_stream_settle(context->stream, warmup);
    }
    if (context->ring) {
        live_ring_settle(context->ring, warmup);
    }
}

static void on_cut(void * self, const struct routing_cut * cut) {
    struct tracer_context * context = self;
    if (context->stream) {
        trace_stream_cut(context->stream, cut);
    }
    if (context->ring) {
        live_ring_cut(context->ring, cut);
    }
}

static void on_reject(void * self, const struct routing_rejection * rejection) {
    struct tracer_context * context = self;
    if (context->stream) {
        trace_stream_reject(context->stream, rejection);
    }
    if (context->ring) {
        live_ring_reject(context->ring, rejection);
    }
}

static void on_context_close(void * self) {
    struct tracer_context * context = self;
    struct tracer_model   * model   = context->model;
    struct expert_tracer  * tracer  = model->tracer;

    pthread_mutex_lock(&tracer->mutex);
    model_hold(model);
    struct tracer_context ** link = &model->contexts;
    while (*link != context) {
        link = &(*link)->next;
    }
    *link = context->next;
    const bool is_summed = meter_close_into(context->meter, model->closed);
    if (!is_summed) {
        context->next   = model->unsummed;
        model->unsummed = context;
    }
    const bool was_last = model->contexts == NULL;
    if (was_last) {
        atomic_store(&model->news_to_write, true); // that they are complete
    }
    pthread_mutex_unlock(&tracer->mutex);

    if (is_summed) {
        tracer_context_free(context);
    }
    if (was_last) {
        announce_statistics(model, tracer->setup.say);
        model_output_write(model, MODEL_OUTPUT_LAST, tracer->setup.say);
        model_output_finish(model);
    }
    model_let_go(model);
}

static void on_model_close(void * self, const void * model_key) {
    struct expert_tracer * tracer = self;
    for (struct tracer_model * model = model_first(tracer); model; model = model_next(model)) {
        if (model->about.key == model_key) {
            pthread_mutex_lock(&tracer->mutex);
            model->unloaded = true;
            pthread_mutex_unlock(&tracer->mutex);
            model_trace_end(model);
            model_output_finish(model);
        }
    }
}

const struct routing_sink tracer_sink = {
    .context_open  = on_context_open,
    .wants         = on_wants,
    .layer         = on_layer,
    .ubatch        = on_ubatch,
    .begin         = on_begin,
    .skip          = on_skip,
    .decode        = on_decode,
    .settle        = on_settle,
    .cut           = on_cut,
    .reject        = on_reject,
    .context_close = on_context_close,
    .model_close   = on_model_close,
};
