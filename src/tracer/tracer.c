#include "tracer/tracer.h"

#include "base/cache-line.h"
#include "base/claim.h"
#include "base/clean.h"
#include "base/folder.h"
#include "base/text.h"
#include "statistics/snapshot.h"
#include "trace/write/trace-writer.h"
#include "tracer/meter.h"
#include "tracer/names.h"
#include "tracer/output.h"
#include "tracer/periodic-writer.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SUBSCRIPTIONS_MAX 8
#define MODEL_NAME_MAX    180       // bytes of it in the name of a file, which may be 255 long
#define N_STRINGS         4         // in struct routing_model, that are copied
#define NAMES_AT_ONCE     (1 << 20) // bytes of lines: what is more is said in pieces
#define NAMES_KEPT        (4 << 20) // bytes of memory: more is not kept for the next ubatch

// Locks are taken in this order: a model's output_mutex, the tracer's mutex, a meter's mutex. None of them is held
// while the program is called, but for the subscriptions' own. What is counted is counted without them, and what
// contexts in different threads share is only read then.

struct tracer_context {
    struct tracer_model   * model;
    const void            * key;
    struct meter          * meter;
    struct trace_stream   * stream;        // NULL: it is not in a routing trace
    struct text             names;         // of one ubatch, the memory is kept
    struct text             pending_names; // perhaps a warm-up's
    bool                    lacks_stream;  // it should be in a routing trace, and there was no memory for that
    uint64_t                n_unrecorded;  // tokens that are not in it therefore
    uint64_t                n_unrecorded_ubatches;
    atomic_bool             is_in_batch;   // a ubatch of a batch was told, and not its end
    bool                    is_mtp;        // the batch that is decoded was evaluated by a multi-token-prediction head
    struct tracer_context * next;
};

struct tracer_model {
    struct expert_tracer  * tracer;
    struct routing_model    about;         // with the strings below
    char                  * strings[N_STRINGS];
    struct config           config;
    bool                    unloaded;      // its key may come back as another model
    bool                    finished;      // and all that is written of it is
    int                     n_holders;     // who works on it, or on its place in the list: it stays meanwhile
    struct counters           closed;        // of contexts that are freed
    struct tracer_context * contexts;
    struct tracer_context * unsummed;      // freed, and there was no memory to add what they counted to `closed`
    const char * _Atomic    lost_reason;   // why some routing is not known, NULL: all of it is
    const char * _Atomic    stopped;       // why no more of it is read, NULL: it is
    atomic_bool             phases_lost;   // which tokens are prompt and which generation is not known of all of them
    const char * _Atomic    capture;       // how its routing was read last
    atomic_bool             news_to_write; // counted since the output was written
    atomic_bool             news_to_print; // counted since the statistics were printed

    pthread_mutex_t         output_mutex;  // of what follows
    char                  * wanted;        // the path that the output was claimed for, or could not be; NULL: none yet
    struct output           output;
    bool                    output_failed; // and that was said
    bool                    output_final;  // the model is gone: nothing is written any more

    struct trace_writer   * trace;         // NULL: none; with the tracer's mutex
    char                  * trace_path;    // that it was made for

    struct tracer_model   * next;
};

struct subscription {
    expert_tracer_routing_fn fn;           // NULL: free
    void                   * user_data;
};

struct expert_tracer {
    struct tracer_setup     setup;
    pthread_mutex_t         mutex;         // of what follows
    struct config           config;        // for new models
    struct tracer_model   * models;        // in the order of their first batch
    char                  * remarks;       // to be said when the first batch comes
    bool                    greeted;
    atomic_bool             lacked_memory; // and that was said
    struct periodic_writer  writer;

    pthread_mutex_t         subscription_mutex;
    struct subscription     subscriptions[SUBSCRIPTIONS_MAX];
    atomic_int              n_subscriptions;
    atomic_bool             traces;        // a routing trace is configured
    atomic_bool             with_gates;    // gate weights are
};

//
// models and their counts
//

static const char ended_amid_batch[] = "the program ended while it evaluated";

// What is missing is said once: there may be no end of it.
static void say_memory_lacks(struct expert_tracer * tracer, log_fn say, const char * consequence) {
    if (!atomic_exchange(&tracer->lacked_memory, true)) {
        log_line(say, LOG_ERROR, "out of memory: %s", consequence);
    }
}

static void say_not_counted(struct expert_tracer * tracer) {
    say_memory_lacks(tracer, tracer->setup.say, "some of the routing is not counted");
}

static void tracer_context_free(struct tracer_context * context) {
    trace_stream_free(context->stream);
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

static void model_free(struct tracer_model * model) {
    contexts_free(model->contexts);
    contexts_free(model->unsummed);
    counters_free(&model->closed);
    config_free(&model->config);
    output_release(&model->output);
    free(model->wanted);
    trace_writer_free(model->trace);
    free(model->trace_path);
    pthread_mutex_destroy(&model->output_mutex);
    for (size_t i = 0; i < N_STRINGS; i++) {
        free(model->strings[i]);
    }
    free(model);
}

// Returns NULL where memory runs out.
static struct tracer_model * model_new(struct expert_tracer * tracer, const struct routing_model * about) {
    struct tracer_model * model = calloc(1, sizeof(*model));
    if (!model) {
        return NULL;
    }
    model->tracer = tracer;
    model->about  = *about;
    model->output = (struct output) OUTPUT_UNCLAIMED;
    atomic_init(&model->capture, about->capture);
    pthread_mutex_init(&model->output_mutex, NULL);
    const char ** strings[N_STRINGS] = {
        &model->about.name, &model->about.architecture, &model->about.file, &model->about.engine,
    };
    bool whole = true;
    for (size_t i = 0; i < N_STRINGS; i++) {
        model->strings[i] = *strings[i] ? strdup(*strings[i]) : NULL;
        whole             = whole && (model->strings[i] || !*strings[i]);
        *strings[i]       = model->strings[i];
    }
    if (!whole) {
        model_free(model);
        return NULL;
    }
    return model;
}

// With the tracer's mutex.
static struct tracer_model * model_find_or_add(struct expert_tracer * tracer, const struct routing_model * about) {
    struct tracer_model ** link = &tracer->models;
    for (; *link; link = &(*link)->next) {
        if ((*link)->about.key == about->key && !(*link)->unloaded) {
            return *link;
        }
    }
    *link = model_new(tracer, about);
    return *link;
}

// Who walks the models, or works on one without being one of its contexts, holds it. With the tracer's mutex.
static struct tracer_model * model_hold(struct tracer_model * model) {
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

// What is left of a model that is gone, and of which everything is written, is given back by the last who holds it:
// programs load and free models as long as they run. The program's own tracer keeps the counts.
static void model_let_go(struct tracer_model * model) {
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

static struct tracer_model * first_model(struct expert_tracer * tracer) {
    pthread_mutex_lock(&tracer->mutex);
    struct tracer_model * model = model_hold(tracer->models);
    pthread_mutex_unlock(&tracer->mutex);
    return model;
}

// Lets go of the model before.
static struct tracer_model * next_model(struct tracer_model * model) {
    pthread_mutex_lock(&model->tracer->mutex);
    struct tracer_model * next = model_hold(model->next);
    pthread_mutex_unlock(&model->tracer->mutex);
    model_let_go(model);
    return next;
}

// The configuration of a model that has no open contexts may change at any time. Returns false where memory runs out.
static bool model_config(struct tracer_model * model, struct config * config) {
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
    while (context && !atomic_load(&context->is_in_batch)) {
        context = context->next;
    }
    return context;
}

// With the tracer's mutex. Why there would have been more of the model, where that is known when the program or the
// tracer ends. NULL: nothing.
static const char * model_stopped(const struct tracer_model * model, bool is_end) {
    const char * stopped = atomic_load(&model->stopped);
    return !stopped && is_end && is_amid_batch(model) ? ended_amid_batch : stopped;
}

// `is_end`: nothing more is counted. Returns NULL where memory runs out.
static struct expert_tracer_snapshot * model_snapshot(struct tracer_model * model, bool is_end) {
    struct counters         sum   = { 0 };
    struct routing_model  about = model->about;
    struct snapshot_state state = { .lost_reason = atomic_load(&model->lost_reason) };
    about.capture      = atomic_load(&model->capture);
    about.phases_known = about.phases_known && !atomic_load(&model->phases_lost);

    pthread_mutex_lock(&model->tracer->mutex);
    const bool whole = counters_add(&sum, &model->closed) && sum_contexts(model->contexts, &sum) &&
                       sum_contexts(model->unsummed, &sum);
    state.stopped  = model_stopped(model, is_end);
    state.complete = is_end || !model->contexts;
    pthread_mutex_unlock(&model->tracer->mutex);

    struct expert_tracer_snapshot * snapshot = whole ? snapshot_new(&about, &sum, &state) : NULL;
    counters_free(&sum);
    return snapshot;
}

// Who counts does that first and looks for the mark then; who tells takes the mark first and reads what was counted
// then. The fences keep the order, so that nothing goes untold. Contexts share the marks: mostly they are there
// already, and are not touched.
static void leave_mark(atomic_bool * mark) {
    if (!atomic_load_explicit(mark, memory_order_relaxed)) {
        atomic_store_explicit(mark, true, memory_order_relaxed);
    }
}

static void note_news(struct tracer_model * model, bool to_print) {
    atomic_thread_fence(memory_order_seq_cst);
    leave_mark(&model->news_to_write);
    if (to_print) {
        leave_mark(&model->news_to_print);
    }
}

static bool take_news(atomic_bool * mark) {
    const bool news = atomic_exchange(mark, false);
    atomic_thread_fence(memory_order_seq_cst);
    return news;
}

//
// the output file
//

// Adds the model's file without its ending, or the model's name, as a part of a file's name: what a shell, a terminal or
// a file system would take for more than that is a dash, and so is a dot at its beginning, which would hide the file or
// name a folder.
static void add_model(struct text * text, const struct routing_model * model) {
    const char * slash = model->file ? strrchr(model->file, '/') : NULL;
    const char * name  = slash ? slash + 1 : model->file ? model->file : model->name ? model->name : "model";
    size_t       left  = strlen(name);
    left = left > 5 && strcmp(name + left - 5, ".gguf") == 0 ? left - 5 : left;
    left = left > MODEL_NAME_MAX ? MODEL_NAME_MAX : left;

    bool is_first = true;
    bool harmless;
    for (size_t n; left > 0 && (n = (size_t) clean_next(name, &harmless)) > 0 && n <= left; name += n, left -= n) {
        const bool stays = harmless && !strchr("/ :*?\"<>|\\", *name) && !(is_first && *name == '.');
        text_add(text, "%.*s", stays ? (int) n : 1, stays ? name : "-");
        is_first = false;
    }
}

// Adds the path with %p, %m and %% filled in.
static void add_path(struct text * text, const char * pattern, const struct routing_model * model) {
    for (const char * at = pattern; *at; at++) {
        if (at[0] == '%' && at[1] == 'p') {
            text_add(text, "%ld", (long) getpid());
            at++;
        } else if (at[0] == '%' && at[1] == 'm') {
            add_model(text, model);
            at++;
        } else {
            at += at[0] == '%' && at[1] == '%';
            text_add(text, "%c", *at);
        }
    }
}

// With the model's output_mutex. Takes the path over, NULL: none. What was claimed for another path is given up.
static void want_output(struct tracer_model * model, char * path) {
    if (model->wanted && (!path || strcmp(model->wanted, path) != 0)) {
        output_release(&model->output);
        model->output_failed = false;
    }
    free(model->wanted);
    model->wanted = path;
}

// With the model's output_mutex. Somebody has put another file in its place.
static void give_up_output(struct tracer_model * model, struct text * remarks) {
    if (model->output.path) {
        text_add_line(remarks, "%s was replaced while it was written; what is there stays", model->output.path);
    }
    output_release(&model->output);
}

static void tell_claimed(const struct output * output, const char * wanted, struct text * remarks) {
    if (output->moved) {
        text_add_line(remarks, "an earlier run's statistics in %s are in %s now", wanted, output->moved);
    }
    if (output->reason == CLAIM_BESIDE_ANOTHER) {
        text_add_line(remarks, "%s belongs to another model or process; these statistics go to %s", wanted, output->path);
    }
}

enum occasion { FIRST_BATCH, NOW_AND_THEN, AT_THE_END };

// With the model's output_mutex. What is worth saying of it is added to `remarks`. Where the program waits for it, at
// the end, it does not wait for the disk.
static void write_output(struct tracer_model * model, const struct config * config, enum occasion occasion,
                         struct text * remarks) {
    const char * run      = model->tracer->setup.run;
    const char * wanted   = model->wanted;
    const bool   news     = take_news(&model->news_to_write);
    struct text  json     = { 0 };
    bool         claiming = !model->output.path;
    char       * path     = folder_path(config->folder, wanted);
    int          error    = -ENOMEM;

    struct expert_tracer_snapshot * snapshot = model_snapshot(model, occasion == AT_THE_END);
    if (snapshot) {
        snapshot_write_json(&json, snapshot, config->per_layer, run);
    }
    if (snapshot && !json.failed && path) {
        const struct output_wish wish = { path, run, config->trace.keep };
        error = claiming ? -ESTALE : output_replace(&model->output, json.data, json.length, occasion == NOW_AND_THEN);
        if (error == -ESTALE) {
            give_up_output(model, remarks);
            claiming = true;
            error    = output_claim(&model->output, &wish, json.data, json.length);
        }
    }
    free(path);
    if (error) {
        atomic_store(&model->news_to_write, true);
        if (!model->output_failed) {
            char every[64] = "";
            if (config->interval > 0) {
                snprintf(every, sizeof(every), "every %g s and ", config->interval);
            }
            text_add_line(remarks, "cannot write %.*s: %s. Counting goes on; the output needs a file in a folder that can be written, with "
                "room left. It is tried again %sat the end", PATH_MAX, claiming ? wanted : model->output.path,
                claim_explain(error, FILE_KIND_STATISTICS), every);
        }
    } else if (model->output_failed) {
        text_add_line(remarks, "%s can be written now", model->output.path);
    }
    if (!error && claiming) {
        tell_claimed(&model->output, wanted, remarks);
    }
    model->output_failed = error != 0;
    if (!error && news && snapshot->complete) {
        text_add_line(remarks, "Statistics exported to %s", model->output.path);
    }
    expert_tracer_snapshot_free(snapshot);
    text_free(&json);
}

// With the model's output_mutex.
static bool is_time_to_write(struct tracer_model * model, enum occasion occasion) {
    switch (occasion) {
        case FIRST_BATCH:  return !model->output.path && !model->output_failed;
        case NOW_AND_THEN: return atomic_load(&model->news_to_write);
        default:           return true;
    }
}

// With the model's output_mutex. Returns false where memory runs out before there is anything to remark on.
static bool write_as_configured(struct tracer_model * model, enum occasion occasion, struct text * remarks) {
    struct config config;
    struct text   wanted = { 0 };
    if (!model_config(model, &config)) {
        return false;
    }
    if (config.output) {
        add_path(&wanted, config.output, &model->about);
    }
    const bool whole = !wanted.failed;
    if (whole) {
        want_output(model, wanted.data);
        if (model->wanted && is_time_to_write(model, occasion)) {
            write_output(model, &config, occasion, remarks);
        }
    } else {
        text_free(&wanted);
    }
    config_free(&config);
    return whole;
}

// Writes the statistics, and finds a place for them first where that was not done or not possible before.
static void model_write(struct tracer_model * model, enum occasion occasion, log_fn say) {
    struct text remarks = { 0 };
    pthread_mutex_lock(&model->output_mutex);
    const bool whole  = model->output_final || write_as_configured(model, occasion, &remarks);
    const bool failed = model->output_failed;
    pthread_mutex_unlock(&model->output_mutex);
    if (!whole) {
        say_memory_lacks(model->tracer, say, "the statistics are not written");
    }
    if (remarks.data) {
        say(failed ? LOG_ERROR : LOG_INFO, remarks.data);
    }
    text_free(&remarks);
}

static bool model_is_gone(struct tracer_model * model) {
    pthread_mutex_lock(&model->tracer->mutex);
    const bool gone = model->unloaded && !model->contexts;
    pthread_mutex_unlock(&model->tracer->mutex);
    return gone;
}

static void model_note_finished(struct tracer_model * model) {
    pthread_mutex_lock(&model->tracer->mutex);
    model->finished = true;
    pthread_mutex_unlock(&model->tracer->mutex);
}

// A model that is gone, and whose statistics are written, needs its output no more. Held by the caller.
static void model_finish(struct tracer_model * model) {
    pthread_mutex_lock(&model->output_mutex);
    if (model_is_gone(model) && (!model->wanted || !atomic_load(&model->news_to_write))) {
        output_release(&model->output);
        model->output_final = true;
        model_note_finished(model);
    }
    pthread_mutex_unlock(&model->output_mutex);
}

//
// the routing trace
//

// With the tracer's mutex. Returns whether the model's trace is another one than `path` names, and has to end.
static bool trace_is_of_another(const struct tracer_model * model, const char * path) {
    return model->trace && (!path || strcmp(model->trace_path, path) != 0);
}

// With the tracer's mutex. Takes the path over.
static void trace_begin(struct tracer_model * model, char * path) {
    const struct expert_tracer * tracer  = model->tracer;
    struct trace_options         options = model->config.trace;
    options.path      = path;
    options.folder    = model->config.folder;
    model->trace      = trace_writer_new(&options, &model->about, tracer->setup.run, tracer->setup.say, tracer->setup.say_aside);
    model->trace_path = path;
    if (!model->trace) {
        free(model->trace_path);
        model->trace_path = NULL;
    }
}

// Has the context's routing recorded where that is asked for.
static void join_trace(struct tracer_context * context) {
    struct tracer_model * model = context->model;
    struct trace_writer * gone  = NULL;
    struct text           path  = { 0 };
    pthread_mutex_lock(&model->tracer->mutex);
    const char * wanted = model->config.routing;
    if (wanted) {
        add_path(&path, wanted, &model->about);
    }
    const bool has_path = path.data && !path.failed;
    if (!path.failed && trace_is_of_another(model, path.data) && model->contexts == context && !context->next) {
        gone = model->trace;
        free(model->trace_path);
        model->trace      = NULL;
        model->trace_path = NULL;
    }
    if (has_path && !model->trace) {
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
    context->lacks_stream = wanted && !context->stream;
}

static struct trace_writer * model_trace(struct tracer_model * model) {
    pthread_mutex_lock(&model->tracer->mutex);
    struct trace_writer * trace = model->trace;
    pthread_mutex_unlock(&model->tracer->mutex);
    return trace;
}

// Has the ubatch counted as one that is not in the trace that it should be in, until there is memory for that.
static void lack_trace(struct tracer_context * context, const struct routing_ubatch * ubatch) {
    struct tracer_model * model = context->model;
    join_trace(context);
    struct trace_writer * trace = model_trace(model);
    if (!context->stream) {
        say_memory_lacks(model->tracer, model->tracer->setup.say, "some of the routing is not recorded");
        context->n_unrecorded          += ubatch->n_tokens;
        context->n_unrecorded_ubatches += ubatch->lost ? ubatch->n_lost : 1;
    }
    if (trace) {
        trace_writer_lose(trace, context->n_unrecorded_ubatches, context->n_unrecorded);
        context->n_unrecorded          = 0;
        context->n_unrecorded_ubatches = 0;
    }
}

// The model is gone, or the program ends.
static void end_trace(struct tracer_model * model) {
    pthread_mutex_lock(&model->tracer->mutex);
    struct trace_writer * trace   = model->trace;
    const char          * stopped = model_stopped(model, true);
    pthread_mutex_unlock(&model->tracer->mutex);
    if (trace) {
        trace_writer_end(trace, stopped);
    }
}

// Called from the tracer's thread. Who evaluates never waits for a file system: the first output of a model is its work too.
static void write_models(void * self, enum periodic_occasion occasion) {
    struct expert_tracer * tracer = self;
    pthread_mutex_lock(&tracer->mutex);
    for (struct tracer_model * model = tracer->models; occasion == PERIODIC_END && model; model = model->next) {
        if (model->trace) {
            trace_writer_flush(model->trace);
        }
    }
    pthread_mutex_unlock(&tracer->mutex);
    for (struct tracer_model * model = first_model(tracer); model; model = next_model(model)) {
        model_write(model, occasion == PERIODIC_NEW ? FIRST_BATCH : NOW_AND_THEN, tracer->setup.say_aside);
        model_finish(model); // what could not be written when it went is now
    }
}

static void stop_thread(struct expert_tracer * tracer) {
    pthread_mutex_lock(&tracer->mutex);
    periodic_writer_ask_to_stop(&tracer->writer);
    pthread_mutex_unlock(&tracer->mutex);
    periodic_writer_join(&tracer->writer);
}

//
// what is said
//

static void greet(struct expert_tracer * tracer, bool stats, bool names, bool routing, const char * capture) {
    pthread_mutex_lock(&tracer->mutex);
    const bool greeted = tracer->greeted;
    char     * remarks = tracer->remarks;
    tracer->greeted = tracer->greeted || stats || names || routing;
    tracer->remarks = NULL;
    pthread_mutex_unlock(&tracer->mutex);

    if (remarks) {
        tracer->setup.say(LOG_WARNING, remarks);
        free(remarks);
    }
    if (!greeted && stats) {
        log_line(tracer->setup.say, LOG_INFO, "Statistics enabled");
    }
    if (!greeted && names) {
        log_line(tracer->setup.say, LOG_INFO, "Tensor name logging enabled");
    }
    if (!greeted && (stats || names || routing) && capture) {
        log_line(tracer->setup.say, LOG_INFO, "Routing is read by: %s", capture);
    }
}

static void explain_nothing(struct text * text, const struct expert_tracer_snapshot * snapshot) {
    const char   * name     = snapshot->name ? snapshot->name : snapshot->file ? snapshot->file : "the model";
    const uint64_t n_tokens = snapshot->total_tokens + snapshot->warmup_tokens;
    if (snapshot->n_expert == 0 && n_tokens > 0) {
        text_add_line(text, "%s evaluated %" PRIu64 " tokens and no MoE layer was seen: a dense model has none; if this one has "
            "experts, this release of llama.cpp names its routing differently", name, n_tokens);
    } else if (snapshot->warmup_tokens > 0) {
        text_add_line(text, "%s evaluated nothing but %" PRIu64 " tokens of warm-up", name, snapshot->warmup_tokens);
    } else {
        text_add_line(text, "nothing was counted of %s", name);
    }
}

static void explain_missing(log_fn say, const struct expert_tracer_snapshot * snapshot) {
    if (snapshot->lost_ubatches > 0) {
        log_line(say, LOG_ERROR, "not counted: the routing of %" PRIu64 " tokens in %" PRIu64 " ubatches, of %" PRIu64 " tokens (%s)",
            snapshot->lost_tokens, snapshot->lost_ubatches, snapshot->total_tokens, snapshot->lost_reason);
    }
    if (snapshot->stopped) {
        log_line(say, LOG_ERROR, "counting stopped early: %s", snapshot->stopped);
    }
}

static void print_statistics(struct tracer_model * model, const struct config * config, log_fn say) {
    struct expert_tracer_snapshot * snapshot = model_snapshot(model, true);
    struct text                     text     = { 0 };
    if (snapshot && (snapshot->total_activations == 0)) {
        explain_nothing(&text, snapshot);
    } else if (snapshot && config->stats) {
        snapshot_print(&text, snapshot, config->per_layer);
    }
    if (!snapshot || text.failed) {
        log_line(say, LOG_ERROR, "out of memory: the statistics cannot be printed");
    } else if (text.data) {
        say(LOG_INFO, text.data);
    }
    if (snapshot) {
        explain_missing(say, snapshot);
    }
    expert_tracer_snapshot_free(snapshot);
    text_free(&text);
}

static void model_print(struct tracer_model * model, log_fn say) {
    struct config config;
    if (!model_config(model, &config)) {
        say_memory_lacks(model->tracer, say, "the statistics are not printed");
        return;
    }
    if (take_news(&model->news_to_print) && (config.stats || config.names || config.routing)) {
        print_statistics(model, &config, say);
    }
    config_free(&config);
}

static void say_names(struct expert_tracer * tracer, struct text * names) {
    if (names->failed) {
        say_memory_lacks(tracer, tracer->setup.say, "some of the names are not logged");
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

//
// listening
//

// With the tracer's mutex. Returns NULL where memory runs out.
static struct tracer_context * tracer_context_new(struct expert_tracer * tracer, const struct routing_model * about, const void * key) {
    struct tracer_model   * model   = model_find_or_add(tracer, about);
    struct tracer_context * context = model   ? cache_line_alloc(sizeof(*context))                     : NULL;
    struct meter          * meter   = context ? meter_new(model->about.n_layer, model->about.n_expert) : NULL;
    if (!meter) {
        free(context);
        return NULL;
    }
    atomic_init(&context->is_in_batch, false);
    if (!model->contexts) {
        config_free(&model->config);
        if (!config_copy(&model->config, &tracer->config)) {
            meter_free(meter);
            free(context);
            return NULL;
        }
        model->config.folder = folder_current();
    }
    if (model->config.output || model->config.routing) {
        periodic_writer_start(&tracer->writer); // without a thread the output is made at the end
        periodic_writer_new(&tracer->writer);
    }
    context->model = model;
    context->key   = key;
    context->meter = meter;
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
    const bool wanted  = stats || names || routing || tracer->setup.always;
    struct tracer_context * context = wanted ? tracer_context_new(tracer, about, context_key) : NULL;
    pthread_mutex_unlock(&tracer->mutex);

    greet(tracer, stats, names, routing, about->capture);
    if (!context) {
        if (wanted) {
            say_not_counted(tracer);
        }
        return wanted ? ROUTING_NO_MEMORY : NULL;
    }
    join_trace(context);
    return context;
}

static unsigned on_wants(void * self) {
    struct expert_tracer * tracer = self;
    const bool             asked  = atomic_load_explicit(&tracer->traces, memory_order_relaxed) ||
                                    atomic_load_explicit(&tracer->n_subscriptions, memory_order_relaxed) > 0;
    const bool             gates  = asked && atomic_load_explicit(&tracer->with_gates, memory_order_relaxed);
    return (asked ? ROUTING_WANTS_TOKENS : 0) | (gates ? ROUTING_WANTS_GATES : 0);
}

static void on_layer(void * self, const struct routing_layer * layer, const struct routing_ubatch * ubatch) {
    struct tracer_context * context = self;
    struct expert_tracer  * tracer  = context->model->tracer;
    if (atomic_load_explicit(&tracer->n_subscriptions, memory_order_relaxed) == 0) {
        return;
    }
    const bool tokens_known = ubatch->tokens && ubatch->rows_known;
    const struct expert_tracer_event event = {
        .size     = sizeof(event),
        .model    = context->model->about.key,
        .context  = context->key,
        .layer    = layer->layer,
        .n_expert = layer->n_expert,
        .n_used   = layer->n_used,
        .n_tokens = layer->n_tokens,
        .experts  = layer->experts,
        .warmup   = ubatch->fate == ROUTING_WARMUP,
        .n_ubatch_tokens = (int32_t) ubatch->n_tokens,
        .tokens   = tokens_known ? ubatch->tokens : NULL,
        .rows     = tokens_known ? layer->rows    : NULL,
        .weights  = layer->gates,
        .ubatch   = ubatch->number,
        .batch    = ubatch->batch,
        .time     = ubatch->time,
    };
    pthread_mutex_lock(&tracer->subscription_mutex);
    for (int i = 0; i < SUBSCRIPTIONS_MAX; i++) {
        if (tracer->subscriptions[i].fn) {
            tracer->subscriptions[i].fn(&event, tracer->subscriptions[i].user_data);
        }
    }
    pthread_mutex_unlock(&tracer->subscription_mutex);
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

static void log_names(struct tracer_context * context, const struct routing_ubatch * ubatch) {
    const bool    is_pending = ubatch->fate == ROUTING_PENDING;
    struct text * names      = is_pending ? &context->pending_names : &context->names;
    for (int32_t i = 0; i < ubatch->n_layers; i++) {
        names_add(names, &ubatch->layers[i]);
        if (!is_pending && (names->length >= NAMES_AT_ONCE || i == ubatch->n_layers - 1)) {
            say_names(context->model->tracer, names);
        }
    }
    keep_names(&context->names);
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

static void on_ubatch(void * self, const struct routing_ubatch * ubatch) {
    struct tracer_context * context = self;
    struct tracer_model   * model   = context->model;

    for (int32_t i = 0; i < ubatch->n_layers && !ubatch->layers_told; i++) {
        on_layer(context, &ubatch->layers[i], ubatch);
    }
    note_capture(model, ubatch->capture);
    note_missing(model, ubatch);
    context->is_mtp = is_mtp(model, ubatch);
    atomic_store_explicit(&context->is_in_batch, model->about.phases_known && ubatch->n_tokens > 0, memory_order_relaxed);
    if (ubatch->fate != ROUTING_WARMUP) {
        if (!meter_ubatch(context->meter, ubatch, context->is_mtp)) {
            note_reason(&model->lost_reason, ROUTING_LACKS_MEMORY);
            say_not_counted(model->tracer);
        }
        if (model->config.names) {
            log_names(context, ubatch);
        }
    }
    note_news(model, true);
    if (context->lacks_stream) {
        lack_trace(context, ubatch);
    }
    if (context->stream) {
        trace_stream_ubatch(context->stream, ubatch, context->is_mtp);
    }
}

static void on_decode(void * self, const struct routing_decode * decode) {
    struct tracer_context * context = self;
    meter_decode(context->meter, decode, context->is_mtp);
    if (decode->phases_lost) {
        atomic_store(&context->model->phases_lost, true);
    }
    atomic_store_explicit(&context->is_in_batch, false, memory_order_relaxed);
    note_news(context->model, false);
}

static void on_settle(void * self, bool warmup) {
    struct tracer_context * context = self;
    struct expert_tracer  * tracer  = context->model->tracer;
    meter_settle(context->meter, warmup);
    if (warmup) {
        text_clear(&context->pending_names);
    } else {
        say_names(tracer, &context->pending_names);
    }
    keep_names(&context->pending_names);
    note_news(context->model, false);
    if (context->stream) {
        trace_stream_settle(context->stream, warmup);
    }
}

static void on_cut(void * self, const struct routing_cut * cut) {
    struct tracer_context * context = self;
    if (context->stream) {
        trace_stream_cut(context->stream, cut);
    }
}

static void on_reject(void * self, const struct routing_rejection * rejection) {
    struct tracer_context * context = self;
    if (context->stream) {
        trace_stream_reject(context->stream, rejection);
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
    const bool is_summed = meter_read(context->meter, &model->closed);
    if (!is_summed) {
        context->next   = model->unsummed;
        model->unsummed = context;
    }
    const bool was_last = !model->contexts;
    if (was_last) {
        atomic_store(&model->news_to_write, true); // that they are complete
    }
    pthread_mutex_unlock(&tracer->mutex);

    if (is_summed) {
        tracer_context_free(context);
    }
    if (was_last) {
        model_print(model, tracer->setup.say);
        model_write(model, AT_THE_END, tracer->setup.say);
        model_finish(model);
    }
    model_let_go(model);
}

static void on_model_close(void * self, const void * model_key) {
    struct expert_tracer * tracer = self;
    for (struct tracer_model * model = first_model(tracer); model; model = next_model(model)) {
        if (model->about.key == model_key) {
            pthread_mutex_lock(&tracer->mutex);
            model->unloaded = true;
            pthread_mutex_unlock(&tracer->mutex);
            end_trace(model);
            model_finish(model);
        }
    }
}

const struct routing_sink tracer_sink = {
    .context_open  = on_context_open,
    .wants         = on_wants,
    .layer         = on_layer,
    .ubatch        = on_ubatch,
    .decode        = on_decode,
    .settle        = on_settle,
    .cut           = on_cut,
    .reject        = on_reject,
    .context_close = on_context_close,
    .model_close   = on_model_close,
};

//
// the tracer
//

// With the mutex, or before anybody else knows of the tracer.
static void note_wants(struct expert_tracer * tracer) {
    atomic_store(&tracer->traces,     tracer->config.routing != NULL);
    atomic_store(&tracer->with_gates, tracer->config.trace.weights);
}

struct expert_tracer * tracer_new(struct config * config, const struct tracer_setup * setup) {
    struct expert_tracer * tracer = calloc(1, sizeof(*tracer));
    if (!tracer) {
        config_free(config);
        return NULL;
    }
    tracer->setup  = *setup;
    tracer->config = *config;
    periodic_writer_init(&tracer->writer, write_models, tracer, tracer->config.interval);
    pthread_mutex_init(&tracer->mutex, NULL);
    pthread_mutex_init(&tracer->subscription_mutex, NULL);
    note_wants(tracer);
    return tracer;
}

void tracer_configure(struct expert_tracer * tracer, struct config * config) {
    pthread_mutex_lock(&tracer->mutex);
    if (tracer->config.interval != config->interval) {
        periodic_writer_set_interval(&tracer->writer, config->interval);
    }
    config_free(&tracer->config);
    tracer->config = *config;
    note_wants(tracer);
    pthread_mutex_unlock(&tracer->mutex);
}

void tracer_remark(struct expert_tracer * tracer, const char * remarks) {
    if (!remarks) {
        return;
    }
    struct text all = { 0 };
    pthread_mutex_lock(&tracer->mutex);
    text_add(&all, "%s%s", tracer->remarks ? tracer->remarks : "", remarks);
    free(tracer->remarks);
    tracer->remarks = all.data;
    pthread_mutex_unlock(&tracer->mutex);
}

static bool model_is_in_use(struct tracer_model * model) {
    pthread_mutex_lock(&model->tracer->mutex);
    const bool in_use = model->contexts != NULL;
    pthread_mutex_unlock(&model->tracer->mutex);
    return in_use;
}

void tracer_tell_all(struct expert_tracer * tracer) {
    stop_thread(tracer);
    for (struct tracer_model * model = first_model(tracer); model; model = next_model(model)) {
        model_print(model, tracer->setup.say);
        if (model_is_in_use(model) || atomic_load(&model->news_to_write)) {
            model_write(model, AT_THE_END, tracer->setup.say);
        }
        end_trace(model);
    }
}

void tracer_free(struct expert_tracer * tracer) {
    tracer_tell_all(tracer);
    while (tracer->models) {
        struct tracer_model * model = tracer->models;
        tracer->models = model->next;
        model_free(model);
    }
    config_free(&tracer->config);
    free(tracer->remarks);
    pthread_mutex_destroy(&tracer->mutex);
    pthread_mutex_destroy(&tracer->subscription_mutex);
    free(tracer);
}

void tracer_abandon(struct expert_tracer * tracer) {
    for (struct tracer_model * model = tracer->models; model; model = model->next) {
        if (model->output.fd >= 0) {
            close(model->output.fd); // the lock is the parent's
        }
        if (model->trace) {
            trace_writer_abandon(model->trace);
        }
    }
}

//
// the public functions on a tracer
//

int expert_tracer_subscribe(struct expert_tracer * tracer, expert_tracer_routing_fn fn, void * user_data) {
    if (!tracer || !fn) {
        return -EINVAL;
    }
    int subscription = -ENOMEM;
    pthread_mutex_lock(&tracer->subscription_mutex);
    for (int i = 0; i < SUBSCRIPTIONS_MAX && subscription < 0; i++) {
        if (!tracer->subscriptions[i].fn) {
            tracer->subscriptions[i] = (struct subscription) { fn, user_data };
            atomic_fetch_add(&tracer->n_subscriptions, 1);
            subscription = i + 1;
        }
    }
    pthread_mutex_unlock(&tracer->subscription_mutex);
    return subscription;
}

void expert_tracer_unsubscribe(struct expert_tracer * tracer, int subscription) {
    if (!tracer || subscription < 1 || subscription > SUBSCRIPTIONS_MAX) {
        return;
    }
    pthread_mutex_lock(&tracer->subscription_mutex);
    if (tracer->subscriptions[subscription - 1].fn) {
        tracer->subscriptions[subscription - 1].fn = NULL;
        atomic_fetch_sub(&tracer->n_subscriptions, 1);
    }
    pthread_mutex_unlock(&tracer->subscription_mutex);
}

// To be let go of.
static struct tracer_model * model_at(struct expert_tracer * tracer, size_t index) {
    struct tracer_model * model = tracer ? first_model(tracer) : NULL;
    for (; model && index > 0; index--) {
        model = next_model(model);
    }
    return model;
}

struct expert_tracer_snapshot * expert_tracer_snapshot_take(struct expert_tracer * tracer, size_t index) {
    struct tracer_model * model = model_at(tracer, index);
    if (!model) {
        return NULL;
    }
    struct expert_tracer_snapshot * snapshot = model_snapshot(model, false);
    model_let_go(model);
    return snapshot;
}

void expert_tracer_reset(struct expert_tracer * tracer) {
    if (!tracer) {
        return;
    }
    pthread_mutex_lock(&tracer->mutex);
    for (struct tracer_model * model = tracer->models; model; model = model->next) {
        counters_reset(&model->closed);
        for (struct tracer_context * context = model->unsummed; context; context = context->next) {
            meter_reset(context->meter);
        }
        for (struct tracer_context * context = model->contexts; context; context = context->next) {
            meter_reset(context->meter);
        }
        atomic_store(&model->news_to_write, true);
    }
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
    if (!model) {
        return -ENOENT;
    }
    const int error = path ? export_model(model, path) : -EINVAL;
    model_let_go(model);
    return error;
}
