// Puts a model's shape and strings into the live memory.

#include "tracer/model-show.h"

#include <string.h>

#define CAPTURE_ROOM 128 // how the routing is read may change

static size_t length_of(const char * string) {
    return string ? strlen(string) : 0;
}

static size_t put_string(struct live_model * shown, struct live_string * place, size_t at, const char * string) {
    const size_t length = length_of(string);
    *place = (struct live_string) { (uint32_t) at, (uint32_t) length };
    if (length > 0) {
        memcpy((char *) shown + at, string, length);
    }
    return at + length;
}

static void put_capture(struct tracer_model * model) {
    struct live_model * shown   = model->shown;
    const char        * capture = atomic_load(&model->capture);
    const size_t        at      = model->shown_size - CAPTURE_ROOM;
    const size_t        length  = length_of(capture);
    shown->capture = (struct live_string) { (uint32_t) at, (uint32_t) (length < CAPTURE_ROOM ? length : CAPTURE_ROOM) };
    memcpy((char *) shown + at, length > 0 ? capture : "", shown->capture.length);
    shown->phases_known = model->about.phases_known && !atomic_load(&model->phases_lost);
}

static void fill(struct tracer_model * model) {
    const struct routing_model * about = &model->about;
    struct live_model          * shown = model->shown;
    size_t                       at    = sizeof(*shown);
    shown->n_layer  = about->n_layer;
    shown->n_expert = about->n_expert;
    shown->n_used   = about->n_used;
    at = put_string(shown, &shown->name,         at, about->name);
    at = put_string(shown, &shown->architecture, at, about->architecture);
    at = put_string(shown, &shown->file,         at, about->file);
    put_string(shown, &shown->engine, at, about->engine);
    put_capture(model);
}

void model_show(struct tracer_model * model) {
    struct live_memory         * live   = model->tracer->live;
    const struct memory_source * source = live_memory_source(live);
    const struct routing_model * about  = &model->about;
    if (source == NULL) {
        return;
    }
    model->shown_size = sizeof(*model->shown) + length_of(about->name) + length_of(about->architecture) +
                        length_of(about->file) + length_of(about->engine) + CAPTURE_ROOM;
    model->shown = source->take(source->self, model->shown_size);
    if (model->shown == NULL) {
        return;
    }
    const struct live_entry entry = { .kind = LIVE_MODEL, .model = model->number, .size = model->shown_size };
    live_memory_change(live);
    fill(model);
    model->entry = live_memory_add(live, &entry, model->shown);
    live_memory_change_end(live);
}

void model_hide(struct tracer_model * model) {
    struct live_memory         * live   = model->tracer->live;
    const struct memory_source * source = live_memory_source(live);
    if (model->shown == NULL) {
        return;
    }
    live_memory_change(live);
    live_memory_remove(live, model->entry);
    live_memory_change_end(live);
    source->give(source->self, model->shown, model->shown_size);
    model->shown = NULL;
}

void model_show_again(struct tracer_model * model) {
    if (model->shown) {
        live_memory_change(model->tracer->live);
        put_capture(model);
        live_memory_change_end(model->tracer->live);
    }
}
