// Makes the live memory and the socket, and keeps a ring for each context while somebody watches.

#include "tracer/showing.h"

#include "live/live-folder.h"
#include "live/live-names.h"
#include "tracer/announce.h"
#include "tracer/control.h"
#include "tracer/switches.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void remark_on_hiding(struct expert_tracer * tracer, const char * what, int error) {
    struct text  remark = { 0 };
    text_add_line(&remark, "this process cannot be watched or steered while it runs: %.*s: %s. It is traced all the "
        "same", PATH_MAX, what, live_folder_explain(error));
    announce_later(tracer, remark.data);
    text_free(&remark);
}

static void order_contexts(struct expert_tracer * tracer) {
    for (struct tracer_model * model = tracer->models; model; model = model->next) {
        for (struct tracer_context * context = model->contexts; context; context = context->next) {
            meter_order(context->meter, LIVE_ORDER_CONFIG);
        }
    }
}

static void offer_rings(struct expert_tracer * tracer) {
    for (struct tracer_model * model = tracer->models; model; model = model->next) {
        for (struct tracer_context * context = model->contexts; context; context = context->next) {
            if (context->ring_offered == NULL) {
                context->ring_offered = live_ring_new(tracer->live, model->number, context->number);
            }
        }
    }
}

// By the server's thread.
static void watch(void * self, bool is_watched) {
    struct expert_tracer * tracer = self;
    pthread_mutex_lock(&tracer->mutex);
    if (is_watched) {
        offer_rings(tracer);
    }
    atomic_store(&tracer->is_watched, is_watched);
    order_contexts(tracer);
    switches_note(tracer);
    pthread_mutex_unlock(&tracer->mutex);
}

static int make_memory(struct expert_tracer * tracer, char ** path) {
    int               error;
    struct live_place place = { .folder = live_folder_open(tracer->config.live, true, path) };
    if (place.folder < 0) {
        return place.folder;
    }
    live_names_sweep(place.folder);
    place.lock = live_name_take(place.folder, &place.name);
    if (place.lock < 0) {
        close(place.folder);
        return place.lock;
    }
    tracer->live_name = place.name;
    const struct live_about about = { place.name.text, program_invocation_short_name, EXPERT_TRACER_VERSION };
    tracer->live = live_memory_new(&about, &error);
    if (tracer->live == NULL) {
        live_place_leave(&place);
        return error;
    }
    tracer->live_place = place;
    return 0;
}

static void stay_hidden(struct expert_tracer * tracer, const char * path, int error) {
    const char * setting = tracer->config.live;
    remark_on_hiding(tracer, path ? path : setting[0] == '/' ? setting : "its folder in $XDG_RUNTIME_DIR or /tmp",
        error);
    pthread_mutex_lock(&tracer->mutex);
    atomic_store(&tracer->is_counting, true); // nobody could ever ask for it
    switches_note(tracer);
    pthread_mutex_unlock(&tracer->mutex);
}

void showing_prepare(struct expert_tracer * tracer) {
    char * path = NULL;
    tracer->live_place.lock = -1;
    const int error = tracer->config.live ? make_memory(tracer, &path) : 0;
    if (error) {
        stay_hidden(tracer, path, error);
    }
    free(path);
}

// Contexts may count into the memory by now: it stays where there is no server.
void showing_begin(struct expert_tracer * tracer) {
    const struct live_place   place   = tracer->live_place;
    const struct live_answers answers = { control_answer, watch, tracer };
    int                       error;
    if (place.lock < 0) {
        return;
    }
    struct live_server * server = live_server_new(&place, live_memory_descriptor(tracer->live), &answers, &error);
    pthread_mutex_lock(&tracer->mutex);
    tracer->live_place.lock = -1;
    tracer->server          = server;
    pthread_mutex_unlock(&tracer->mutex);
    if (server == NULL) {
        stay_hidden(tracer, NULL, error);
    }
}

void showing_end(struct expert_tracer * tracer) {
    pthread_mutex_lock(&tracer->mutex);
    struct live_server    * server = tracer->server;
    const struct live_place place  = tracer->live_place;
    tracer->server          = NULL;
    tracer->live_place.lock = -1;
    pthread_mutex_unlock(&tracer->mutex);
    if (place.lock >= 0) {
        live_place_leave(&place);
    }
    live_server_free(server);
}

void showing_abandon(struct expert_tracer * tracer) {
    if (tracer->server) {
        live_server_abandon(tracer->server);
    } else if (tracer->live_place.lock >= 0) {
        close(tracer->live_place.lock);
        close(tracer->live_place.folder);
    }
}
