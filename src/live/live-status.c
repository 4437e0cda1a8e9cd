// Asks a running tracer what it does, and takes its answer apart.

#include "live/live-status.h"

#include <stdlib.h>

static char * text_of(const json_t * object, const char * key) {
    const char * text = json_string_value(json_object_get(object, key));
    return text == NULL ? NULL : memory_text("%s", text);
}

static uint64_t count_of(const json_t * object, const char * key) {
    const json_int_t count = json_integer_value(json_object_get(object, key));
    return count < 0 ? 0 : (uint64_t) count;
}

static void take_model(const json_t * answer, struct live_status_model * model) {
    *model = (struct live_status_model) {
        .number            = count_of(answer, "model"),
        .name              = text_of (answer, "name"),
        .architecture      = text_of (answer, "architecture"),
        .file              = text_of (answer, "file"),
        .engine            = text_of (answer, "engine"),
        .capture           = text_of (answer, "capture"),
        .recording         = text_of (answer, "recording"),
        .contexts          = count_of(answer, "contexts"),
        .tokens            = count_of(answer, "tokens"),
        .prompt_tokens     = count_of(answer, "prompt_tokens"),
        .generation_tokens = count_of(answer, "generation_tokens"),
        .lost_tokens       = count_of(answer, "lost_tokens"),
    };
}

static struct live_status * take(const json_t * answer) {
    struct live_status * status = memory_new(1, sizeof(*status));
    const json_t       * models = json_object_get(answer, "models");
    status->program  = text_of(answer, "program");
    status->tracer   = text_of(answer, "tracer");
    status->output   = text_of(answer, "output");
    status->started  = (int64_t) count_of(answer, "started");
    status->counting = json_is_true(json_object_get(answer, "counting"));
    status->names    = json_is_true(json_object_get(answer, "names"));
    status->watched  = json_is_true(json_object_get(answer, "watched"));
    status->interval = json_number_value(json_object_get(answer, "interval"));
    status->n_models = json_array_size(models);
    status->models   = memory_new(status->n_models, sizeof(*status->models));
    for (size_t i = 0; i < status->n_models; i++) {
        take_model(json_array_get(models, i), &status->models[i]);
    }
    return status;
}

struct live_status * live_status_ask(const struct live_client * client, struct error * error) {
    static const char * const  words[]  = { "status", NULL };
    const struct live_question question = { words, -1, LIVE_CLIENT_PATIENCE };
    json_t                   * answer   = live_client_ask(client, &question, error);
    struct live_status       * status   = answer == NULL ? NULL : take(answer);
    json_decref(answer);
    return status;
}

static void free_model(struct live_status_model * model) {
    free(model->name);
    free(model->architecture);
    free(model->file);
    free(model->engine);
    free(model->capture);
    free(model->recording);
}

void live_status_free(struct live_status * status) {
    if (status == NULL) {
        return;
    }
    for (size_t i = 0; i < status->n_models; i++) {
        free_model(&status->models[i]);
    }
    free(status->models);
    free(status->program);
    free(status->tracer);
    free(status->output);
    free(status);
}

bool live_status_is_recording(const struct live_status * status) {
    for (size_t i = 0; i < status->n_models; i++) {
        if (status->models[i].recording != NULL) {
            return true;
        }
    }
    return false;
}
