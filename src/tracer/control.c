// The verbs: each changes what is wanted with the tracer's mutex, orders the contexts to follow, and is answered when
// it is known from which ubatch on that holds.

#include "tracer/control.h"

#include "statistics/snapshot.h"
#include "tracer/model-trace.h"
#include "tracer/model-show.h"
#include "tracer/model.h"
#include "tracer/switches.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROTATE_MIN   (1 << 20)
#define INTERVAL_MIN 0.1
#define INTERVAL_MAX 86400.0

//
// words
//

// Always true: the request is answered.
static bool refuse(struct text * answer, const char * format, ...) __attribute__((format(printf, 2, 3)));
static bool refuse(struct text * answer, const char * format, ...) {
    char    why[PATH_MAX + 512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, sizeof(why), format, arguments);
    va_end(arguments);
    text_clear(answer);
    text_add_json_member(answer, "{\"error\": ", why);
    text_add(answer, "}");
    return true;
}

static bool is_set(const struct live_request * request, const char * key) {
    const char * value = live_request_value(request, key);
    return value && strcmp(value, "1") == 0;
}

// Returns `otherwise` where it is not there, -1 where it is none.
static double number_of(const struct live_request * request, const char * key, double otherwise) {
    const char * value = live_request_value(request, key);
    char       * end   = NULL;
    if (value == NULL) {
        return otherwise;
    }
    const double number = *value >= '0' && *value <= '9' ? strtod(value, &end) : -1;
    return end && *end == '\0' && number < 1e18 ? number : -1;
}

//
// from which ubatch it holds
//

static void order(struct expert_tracer * tracer, uint32_t what) {
    for (struct tracer_model * model = tracer->models; model; model = model->next) {
        for (struct tracer_context * context = model->contexts; context; context = context->next) {
            meter_order(context->meter, what);
        }
    }
}

static bool add_holds_of(const struct tracer_context * context, bool is_late, struct text * answer) {
    uint64_t   ubatch;
    const bool holds = meter_holds(context->meter, &ubatch);
    text_add(answer, "{\"model\": %u, \"context\": %u, \"ubatch\": ", context->model->number, context->number);
    if (holds) {
        text_add(answer, "%" PRIu64 "}", ubatch);
    } else {
        text_add(answer, "null}");
    }
    return holds || is_late;
}

// With the mutex. Returns false where that is not known yet: nothing is to be answered then.
static bool add_holds(struct expert_tracer * tracer, bool is_late, struct text * answer) {
    const char * between = "";
    bool         holds   = true;
    text_add(answer, "{\"holds\": [");
    for (struct tracer_model * model = tracer->models; model; model = model->next) {
        for (struct tracer_context * context = model->contexts; context; context = context->next) {
            text_add(answer, "%s", between);
            holds   = add_holds_of(context, is_late, answer) && holds;
            between = ", ";
        }
    }
    text_add(answer, "]");
    return holds;
}

static bool answer_holds(struct expert_tracer * tracer, const struct live_request * request, struct text * answer) {
    pthread_mutex_lock(&tracer->mutex);
    const bool holds = add_holds(tracer, request->is_late, answer);
    pthread_mutex_unlock(&tracer->mutex);
    text_add(answer, "}");
    return holds;
}

//
// counting, names
//

static void count(struct expert_tracer * tracer, bool counts) {
    pthread_mutex_lock(&tracer->mutex);
    atomic_store(&tracer->is_counting, counts);
    order(tracer, counts ? LIVE_ORDER_START : LIVE_ORDER_STOP);
    switches_note(tracer);
    pthread_mutex_unlock(&tracer->mutex);
}

static bool on_start(struct expert_tracer * tracer, struct live_request * request, struct text * answer) {
    if (request->is_first) {
        count(tracer, true);
    }
    return answer_holds(tracer, request, answer);
}

static bool on_stop(struct expert_tracer * tracer, struct live_request * request, struct text * answer) {
    if (request->is_first) {
        count(tracer, false);
    }
    return answer_holds(tracer, request, answer);
}

static void reset(struct expert_tracer * tracer) {
    pthread_mutex_lock(&tracer->mutex);
    live_memory_change(tracer->live);
    for (struct tracer_model * model = tracer->models; model; model = model->next) {
        meter_reset(model->closed);
        for (struct tracer_context * context = model->unsummed; context; context = context->next) {
            meter_reset(context->meter);
        }
        atomic_store(&model->news_to_write, true);
    }
    order(tracer, LIVE_ORDER_RESET);
    live_memory_change_end(tracer->live);
    pthread_mutex_unlock(&tracer->mutex);
}

static bool on_reset(struct expert_tracer * tracer, struct live_request * request, struct text * answer) {
    if (request->is_first) {
        reset(tracer);
    }
    return answer_holds(tracer, request, answer);
}

static bool on_names(struct expert_tracer * tracer, struct live_request * request, struct text * answer) {
    const bool is_on = is_set(request, "on");
    if (request->is_first) {
        pthread_mutex_lock(&tracer->mutex);
        atomic_store(&tracer->is_naming, is_on);
        for (struct tracer_model * model = tracer->models; model; model = model->next) {
            model->config.names = is_on;
        }
        order(tracer, LIVE_ORDER_CONFIG);
        switches_note(tracer);
        pthread_mutex_unlock(&tracer->mutex);
    }
    return answer_holds(tracer, request, answer);
}

static bool on_watch(struct expert_tracer * tracer, struct live_request * request, struct text * answer) {
    return answer_holds(tracer, request, answer);
}

static bool on_interval(struct expert_tracer * tracer, struct live_request * request, struct text * answer) {
    const double seconds = number_of(request, "seconds", -1);
    if (seconds != 0 && !(seconds >= INTERVAL_MIN && seconds <= INTERVAL_MAX)) {
        return refuse(answer, "the interval is 0.1 to 86400 seconds, or 0 for only at the end");
    }
    pthread_mutex_lock(&tracer->mutex);
    tracer->config.interval = seconds;
    for (struct tracer_model * model = tracer->models; model; model = model->next) {
        model->config.interval = seconds;
    }
    pthread_mutex_unlock(&tracer->mutex);
    periodic_writer_set_interval(&tracer->writer, seconds);
    text_add(answer, "{\"interval\": %g}", seconds);
    return true;
}

//
// of one model
//

// With the mutex: the model that is meant, held. Returns NULL, and refuses, where that is none.
static struct tracer_model * model_meant(struct expert_tracer * tracer, const struct live_request * request,
                                         struct text * answer) {
    const double          number = number_of(request, "model", 0);
    struct tracer_model * found  = NULL;
    int                   n      = 0;
    for (struct tracer_model * model = tracer->models; model; model = model->next) {
        if (number == 0 ? !model->unloaded : number == model->number) {
            found = model;
            n++;
        }
    }
    if (n == 0) {
        refuse(answer, number == 0 ? "no model has evaluated anything yet" : "it has no such model: see `status`");
    } else if (n > 1) {
        refuse(answer, "it has %d models: say which one, by its number in `status`", n);
    }
    return n == 1 ? model_hold(found) : NULL;
}

static struct tracer_model * model_wanted(struct expert_tracer * tracer, const struct live_request * request,
                                          struct text * answer) {
    pthread_mutex_lock(&tracer->mutex);
    struct tracer_model * model = model_meant(tracer, request, answer);
    pthread_mutex_unlock(&tracer->mutex);
    return model;
}

// A pipe or a device would make us wait for somebody.
static const char * why_not_into(int fd, int mode) {
    struct statx about    = { 0 };
    const int    flags    = fd < 0 ? 0 : fcntl(fd, F_GETFL) & O_ACCMODE;
    const bool   is_known = fd >= 0 && statx(fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_SIZE, &about) == 0;
    return fd < 0                                ? "a file has to come with it, open for writing"
         : !is_known || !S_ISREG(about.stx_mode) ? "it takes a regular file"
         : about.stx_size > 0                    ? "the file is not empty"
         : flags != mode && flags != O_RDWR      ? "the file is not open for writing"
                                                 : NULL;
}

static int write_whole(int fd, const char * data, size_t size) {
    for (size_t at = 0; at < size;) {
        const ssize_t n = pwrite(fd, data + at, size - at, (off_t) at);
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        at += n > 0 ? (size_t) n : 0;
    }
    return 0;
}

static bool dump(struct tracer_model * model, int fd, struct text * answer) {
    struct expert_tracer_snapshot * snapshot = model_snapshot(model, false);
    struct text                     json     = { 0 };
    if (snapshot) {
        snapshot_write_json(&json, snapshot, true, model->tracer->setup.run);
    }
    const bool whole = snapshot && !json.failed;
    const int  error = whole ? write_whole(fd, json.data, json.length) : -ENOMEM;
    if (error) {
        refuse(answer, "%s", strerror(-error));
    } else {
        text_add(answer, "{\"bytes\": %zu}", json.length);
    }
    expert_tracer_snapshot_free(snapshot);
    text_free(&json);
    return true;
}

static bool on_dump(struct expert_tracer * tracer, struct live_request * request, struct text * answer) {
    const char * wrong = why_not_into(request->fd, O_WRONLY);
    if (wrong) {
        return refuse(answer, "%s", wrong);
    }
    struct tracer_model * model = model_wanted(tracer, request, answer);
    if (model) {
        dump(model, request->fd, answer);
        model_let_go(model);
    }
    return true;
}

//
// routing traces
//

static bool begin_record(struct expert_tracer * tracer, struct live_request * request, struct text * answer) {
    const char * path        = live_request_value(request, "path");
    const char * name        = live_request_value(request, "name");
    const char * wrong       = path ? NULL : why_not_into(request->fd, O_RDWR);
    const double rotate_size = number_of(request, "rotate-size", 0);
    const double rotate_time = number_of(request, "rotate-time", 0);
    const double keep        = number_of(request, "keep", 0);
    if (wrong || (path && (request->fd >= 0 || path[0] != '/'))) {
        return refuse(answer, "%s", wrong ? wrong : "a trace is written to an absolute path, or to a file that comes "
            "with the request");
    }
    if (rotate_size < 0 || (rotate_size > 0 && rotate_size < ROTATE_MIN) || rotate_time < 0 || keep < 0 ||
        (path == NULL && rotate_size + rotate_time + keep > 0)) {
        return refuse(answer, "files of 1 MiB at least, or of so many seconds, can follow each other, at a path");
    }
    pthread_mutex_lock(&tracer->mutex);
    struct tracer_model * model = model_meant(tracer, request, answer);
    int                   error = 0;
    if (model) {
        struct trace_options options = model->config.trace;
        options.path        = path ? path : name ? name : "the file that was given";
        options.weights     = is_set(request, "weights");
        options.tokens      = is_set(request, "tokens");
        options.rotate_size = (uint64_t) rotate_size;
        options.rotate_time = rotate_time;
        options.keep        = (uint64_t) keep;
        options.wait        = false;
        options.sample      = 1;
        error = model_trace_order(model, &options, path ? -1 : request->fd);
        request->fd = error ? request->fd : -1;
    }
    if (model && !error) {
        periodic_writer_start(&tracer->writer);
        order(tracer, LIVE_ORDER_CONFIG);
        switches_note(tracer);
    }
    pthread_mutex_unlock(&tracer->mutex);
    if (model) {
        model_let_go(model);
    }
    if (error) {
        refuse(answer, "%s", error == -EBUSY ? "it is being recorded already: see `status`" : strerror(-error));
    }
    return error || model == NULL;
}

static bool on_record(struct expert_tracer * tracer, struct live_request * request, struct text * answer) {
    const char * path = live_request_value(request, "path");
    if (request->is_first && begin_record(tracer, request, answer)) {
        return true;
    }
    pthread_mutex_lock(&tracer->mutex);
    const bool holds = add_holds(tracer, request->is_late, answer);
    pthread_mutex_unlock(&tracer->mutex);
    text_add_json_member(answer, ", \"path\": ", path);
    text_add(answer, "}");
    return holds;
}

static int stop_recording(struct expert_tracer * tracer, const struct live_request * request) {
    const double number = number_of(request, "model", 0);
    int          n      = 0;
    pthread_mutex_lock(&tracer->mutex);
    for (struct tracer_model * model = tracer->models; model; model = model->next) {
        if (model->trace && (number == 0 || number == model->number)) {
            model_trace_order_to_end(model);
            n++;
        }
    }
    if (n > 0) {
        order(tracer, LIVE_ORDER_CONFIG);
        switches_note(tracer);
    }
    pthread_mutex_unlock(&tracer->mutex);
    return n;
}

// The last one that nothing more is recorded in.
static void add_retired(struct expert_tracer * tracer, struct text * answer) {
    const char * path = NULL;
    pthread_mutex_lock(&tracer->mutex);
    for (const struct tracer_model * model = tracer->models; model; model = model->next) {
        path = model->retired ? model->retired->path : path;
    }
    text_add_json_member(answer, ", \"path\": ", path);
    pthread_mutex_unlock(&tracer->mutex);
}

static bool on_record_stop(struct expert_tracer * tracer, struct live_request * request, struct text * answer) {
    if (request->is_first && stop_recording(tracer, request) == 0) {
        return refuse(answer, "nothing is being recorded");
    }
    pthread_mutex_lock(&tracer->mutex);
    const bool holds = add_holds(tracer, request->is_late, answer);
    pthread_mutex_unlock(&tracer->mutex);
    if (!holds) {
        return false;
    }
    add_retired(tracer, answer);
    for (struct tracer_model * model = model_first(tracer); model; model = model_next(model)) {
        model_trace_end_retired(model);
    }
    text_add(answer, "}");
    return true;
}

//
// status
//

static void add_model_status(struct tracer_model * model, struct text * answer) {
    struct expert_tracer_snapshot * snapshot = model_snapshot(model, false);
    int                             n        = 0;
    pthread_mutex_lock(&model->tracer->mutex);
    model_show_again(model);
    for (const struct tracer_context * context = model->contexts; context; context = context->next) {
        n++;
    }
    text_add(answer, "{\"model\": %u, ", model->number);
    text_add_json_member(answer, "\"recording\": ", model->trace ? model->trace_path : NULL);
    pthread_mutex_unlock(&model->tracer->mutex);
    text_add_json_member(answer, ", \"name\": ",         model->about.name);
    text_add_json_member(answer, ", \"architecture\": ", model->about.architecture);
    text_add_json_member(answer, ", \"file\": ",         model->about.file);
    text_add_json_member(answer, ", \"engine\": ",       model->about.engine);
    text_add_json_member(answer, ", \"capture\": ",      atomic_load(&model->capture));
    text_add(answer, ", \"contexts\": %d", n);
    if (snapshot) {
        text_add(answer, ", \"tokens\": %" PRIu64 ", \"prompt_tokens\": %" PRIu64 ", \"generation_tokens\": %" PRIu64
            ", \"lost_tokens\": %" PRIu64, snapshot->total_tokens, snapshot->prompt_tokens,
            snapshot->generation_tokens, snapshot->lost_tokens);
    }
    expert_tracer_snapshot_free(snapshot);
    text_add(answer, "}");
}

static const char * word_of(bool is_true) {
    return is_true ? "true" : "false";
}

static void add_tracer(struct expert_tracer * tracer, struct text * answer) {
    pthread_mutex_lock(&tracer->mutex);
    text_add(answer, "{\"version\": %d, \"name\": \"%s\", \"pid\": %ld", LIVE_VERSION, tracer->live_name.text,
        (long) getpid());
    text_add_json_member(answer, ", \"program\": ", program_invocation_short_name);
    text_add(answer, ", \"tracer\": \"%s\", \"started\": %" PRId64 ", \"counting\": %s, \"names\": %s, "
        "\"watched\": %s, \"interval\": %g", EXPERT_TRACER_VERSION, live_memory_started(tracer->live),
        word_of(atomic_load(&tracer->is_counting)), word_of(atomic_load(&tracer->is_naming)),
        word_of(atomic_load(&tracer->is_watched)), tracer->config.interval);
    text_add_json_member(answer, ", \"output\": ", tracer->config.output);
    pthread_mutex_unlock(&tracer->mutex);
}

static bool on_status(struct expert_tracer * tracer, struct live_request * request, struct text * answer) {
    const char * between = ", \"models\": [";
    (void) request;
    add_tracer(tracer, answer);
    for (struct tracer_model * model = model_first(tracer); model; model = model_next(model)) {
        text_add(answer, "%s", between);
        add_model_status(model, answer);
        between = ", ";
    }
    text_add(answer, "%s]}", between[2] == '"' ? between : "");
    return true;
}

//
// the end
//

static bool on_detach(struct expert_tracer * tracer, struct live_request * request, struct text * answer) {
    (void) request;
    if (tracer->setup.leave == NULL) {
        return refuse(answer, "it was started with the tracer, which stays to its end: `ctl stop` and `ctl "
            "record-stop` make it do nothing");
    }
    tracer->setup.leave();
    text_add(answer, "{}");
    return true;
}

//
// requests
//

static const struct {
    const char * name;
    bool      (* answer)(struct expert_tracer * tracer, struct live_request * request, struct text * answer);
} verbs[] = {
    { "status",      on_status      },
    { "start",       on_start       },
    { "stop",        on_stop        },
    { "reset",       on_reset       },
    { "dump",        on_dump        },
    { "record",      on_record      },
    { "record-stop", on_record_stop },
    { "names",       on_names       },
    { "interval",    on_interval    },
    { "watch",       on_watch       },
    { "detach",      on_detach      },
};

bool control_answer(void * self, struct live_request * request, struct text * answer) {
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (strcmp(request->words[0], verbs[i].name) == 0) {
            return verbs[i].answer(self, request, answer);
        }
    }
    return refuse(answer, "this tracer (%s) does not know '%.64s'", EXPERT_TRACER_VERSION, request->words[0]);
}
