// Reads a running tracer's rings all the time and its counters once a second, for each of its models.

#include "watch/watch.h"

#include "live/live-tails.h"
#include "live/live-view.h"
#include "tool/clock.h"
#include "watch/watch-counts.h"
#include "watch/watch-order.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>

#define ASKED_MAX 2

struct watched_model {
    uint32_t              number;
    struct watch_counts * counts;
    struct watch_order  * order;
};

// Of one context: what its tail calls with.
struct watched_context {
    struct watch * watch;
    uint32_t       model;
    uint32_t       context;
};

struct watch {
    struct live_client     client;
    struct live_tails    * tails;
    bool                   has_view;
    struct live_view       view;   // of the last second
    struct error           error;  // why there is none
    uint64_t               asked[ASKED_MAX];
    size_t                 n_asked;
    size_t                 n_models;
    struct watched_model * models; // that were seen once
    double                 since;  // seconds of the monotonic clock
    double                 next;
};

static int64_t microseconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return (int64_t) time.tv_sec * 1000000 + time.tv_nsec / 1000;
}

//
// models
//

static const struct live_view_model * view_of(const struct watch * watch, uint32_t number) {
    for (size_t i = 0; watch->has_view && i < watch->view.n_models; i++) {
        if (watch->view.models[i].number == number) {
            return &watch->view.models[i];
        }
    }
    return NULL;
}

// Valid until the next model is found.
static struct watched_model * model_of(struct watch * watch, uint32_t number) {
    const struct watch_caches_options options = { watch->client.user, watch->asked, watch->n_asked };
    for (size_t i = 0; i < watch->n_models; i++) {
        if (watch->models[i].number == number) {
            return &watch->models[i];
        }
    }
    watch->models = memory_resize(watch->models, watch->n_models + 1, sizeof(*watch->models));
    watch->models[watch->n_models] = (struct watched_model) { number, watch_counts_new(), watch_order_new(&options) };
    return &watch->models[watch->n_models++];
}

// What is known of models by now, in the place of what was.
static bool take_view(struct watch * watch) {
    struct live_view view;
    if (!live_view_read(&watch->client.map, &view, &watch->error)) {
        return false;
    }
    if (watch->has_view) {
        live_view_free(&watch->view);
    }
    watch->view     = view;
    watch->has_view = true;
    return true;
}

//
// rings
//

static void * open_context(void * self, uint32_t model, uint32_t context) {
    struct watched_context * opened = memory_new(1, sizeof(*opened));
    if (view_of(self, model) == NULL) {
        take_view(self);
    }
    *opened = (struct watched_context) { self, model, context };
    return opened;
}

static void close_context(void * self, void * opened) {
    (void) self;
    free(opened);
}

static void take_ubatch(void * self, const struct routing_ubatch * ubatch, bool is_mtp) {
    const struct watched_context * context = self;
    struct watch_order           * order   = model_of(context->watch, context->model)->order;
    if (!is_mtp && watch_order_is_new(order, ubatch)) {
        take_view(context->watch);
    }
    const struct live_view_model * model = view_of(context->watch, context->model);
    if (!is_mtp && model != NULL) {
        watch_order_ubatch(order, model, context->context, ubatch);
    }
}

static const struct live_tail_sink sink = { .ubatch = take_ubatch };

//
// watching
//

struct watch * watch_new(struct live_client * client, const uint64_t * asked, size_t n_asked, struct error * error) {
    static const char * const  words[]  = { "watch", NULL };
    const struct live_question question = { words, -1, LIVE_CLIENT_HOLDS };
    json_t                   * answer   = live_client_ask(client, &question, error);
    if (answer == NULL) {
        return NULL;
    }
    json_decref(answer);
    struct watch * watch = memory_new(1, sizeof(*watch));
    const struct live_tails_receiver receiver = { &sink, open_context, close_context, watch };
    watch->client  = *client;
    watch->tails   = live_tails_new(&receiver);
    watch->n_asked = n_asked < ASKED_MAX ? n_asked : ASKED_MAX;
    watch->since   = clock_seconds();
    watch->next    = watch->since;
    for (size_t i = 0; i < watch->n_asked; i++) {
        watch->asked[i] = asked[i];
    }
    error_set(&watch->error, "no model is open there yet");
    return watch;
}

void watch_free(struct watch * watch) {
    if (watch == NULL) {
        return;
    }
    live_tails_free(watch->tails);
    for (size_t i = 0; i < watch->n_models; i++) {
        watch_counts_free(watch->models[i].counts);
        watch_order_free (watch->models[i].order);
    }
    if (watch->has_view) {
        live_view_free(&watch->view);
    }
    live_client_close(&watch->client);
    free(watch->models);
    free(watch);
}

// What could not be read counts to the next second.
static void take_second(struct watch * watch, double time) {
    if (!take_view(watch)) {
        return;
    }
    for (size_t i = 0; i < watch->view.n_models; i++) {
        const struct watched_model * model = model_of(watch, watch->view.models[i].number);
        watch_counts_take (model->counts, &watch->view.models[i], time);
        watch_order_second(model->order);
    }
}

// Counters first, as what is in the rings is of a model that they know.
bool watch_poll(struct watch * watch) {
    const double time = clock_seconds();
    if (!watch->has_view) {
        take_second(watch, time);
        watch->next = time + 1;
    }
    live_tails_read(watch->tails, &watch->client.map);
    if (time >= watch->next) {
        take_second(watch, time);
        watch->next = watch->next + 1 > time ? watch->next + 1 : time + 1;
    }
    return live_client_is_alive(&watch->client);
}

const struct live_client * watch_client(const struct watch * watch) {
    return &watch->client;
}

//
// looking
//

// The one that is asked for, or has evaluated the most tokens. NULL: there is none.
static const struct live_view_model * choose(const struct watch * watch, uint32_t number) {
    const struct live_view_model * found = number == 0 ? NULL : view_of(watch, number);
    for (size_t i = 0; number == 0 && watch->has_view && i < watch->view.n_models; i++) {
        const struct live_view_model * at = &watch->view.models[i];
        if (found == NULL || counter_get(&at->counts.totals.n_tokens) > counter_get(&found->counts.totals.n_tokens)) {
            found = at;
        }
    }
    return found;
}

static char * copy_text(const char * text) {
    return text == NULL ? NULL : memory_text("%s", text);
}

static void fill_names(struct watch_frame * frame, const struct watch * watch, const struct live_view_model * model) {
    const struct live_view * view = &watch->view;
    frame->pid          = watch->client.pid;
    frame->program      = copy_text(view->program);
    frame->tracer       = copy_text(view->tracer);
    frame->started      = view->started;
    frame->time         = microseconds();
    frame->switches     = view->switches;
    frame->model        = copy_text(model->name);
    frame->architecture = copy_text(model->architecture);
    frame->engine       = copy_text(model->engine);
    frame->capture      = copy_text(model->capture);
    frame->n_contexts   = model->n_contexts;
    frame->n_models     = view->n_models;
    frame->number       = model->number;
    frame->phases_known = model->phases_known;
}

struct watch_frame * watch_look(struct watch * watch, const struct watch_question * question, struct error * error) {
    const struct live_view_model * model = choose(watch, question->model);
    if (model == NULL) {
        error_set(error, "%s", watch->has_view ? "no model is open there yet" : watch->error.text);
        return NULL;
    }
    const struct watched_model * its   = model_of(watch, model->number);
    struct watch_frame         * frame = memory_new(1, sizeof(*frame));
    fill_names(frame, watch, model);
    watch_counts_fill(its->counts, question->window, frame);
    watch_order_fill (its->order,  question->window, frame->time, frame);
    if (!frame->phases_known) {
        watch_frame_forget_phases(frame);
    }
    frame->watched = clock_seconds() - watch->since;
    frame->overrun = live_tails_overrun(watch->tails);
    return frame;
}
