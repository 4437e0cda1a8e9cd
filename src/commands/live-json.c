// Writes the status of a running tracer as JSON.

#include "commands/live-json.h"

#include "tool/json-values.h"

static json_t * json_model(const struct live_status_model * model) {
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
                     "model",             json_value_count(model->number),
                     "name",              json_value_text (model->name),
                     "architecture",      json_value_text (model->architecture),
                     "file",              json_value_text (model->file),
                     "engine",            json_value_text (model->engine),
                     "capture",           json_value_text (model->capture),
                     "recording",         json_value_text (model->recording),
                     "contexts",          json_value_count(model->contexts),
                     "tokens",            json_value_count(model->tokens),
                     "prompt_tokens",     json_value_count(model->prompt_tokens),
                     "generation_tokens", json_value_count(model->generation_tokens),
                     "lost_tokens",       json_value_count(model->lost_tokens));
}

json_t * live_json_status(const struct live_status * status) {
    if (status == NULL) {
        return json_null();
    }
    json_t * models = json_array();
    for (size_t i = 0; i < status->n_models; i++) {
        json_array_append_new(models, json_model(&status->models[i]));
    }
    return json_pack("{s:o, s:o, s:o, s:b, s:b, s:b, s:o, s:o, s:o}",
                     "program",  json_value_text(status->program),
                     "tracer",   json_value_text(status->tracer),
                     "started",  json_value_real((double) status->started / 1e6),
                     "counting", status->counting, "names", status->names, "watched", status->watched,
                     "interval", json_value_real(status->interval),
                     "output",   json_value_text(status->output),
                     "models",   models);
}
