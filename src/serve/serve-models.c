// Names the models of a process by what their files say, which may be anything.

#include "serve/serve-models.h"

#include <string.h>

static const char * last_part(const char * path) {
    const char * slash = path == NULL ? NULL : strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

static const char * label_at(const void * models, size_t i) {
    return ((const struct serve_model *) models)[i].label;
}

struct serve_model * serve_models_new(const struct live_view * view) {
    struct serve_model * models = memory_new(view->n_models, sizeof(*models));
    for (size_t i = 0; i < view->n_models; i++) {
        const struct live_view_model * model = &view->models[i];
        const char                   * file  = last_part(model->file);
        const char                   * name  = model->name != NULL ? model->name : file != NULL ? file : "unknown";
        serve_label_make(models[i].label, name, label_at, models, i);
        models[i].model = model;
    }
    return models;
}
