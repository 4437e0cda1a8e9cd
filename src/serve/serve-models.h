// The models of a traced process, each with a name of its own among them.

#pragma once

#include "serve/serve-processes.h"

struct serve_model {
    char                           label[SERVE_LABEL_MAX];
    const struct live_view_model * model; // of the view
};

// [view->n_models], to be freed.
struct serve_model * serve_models_new(const struct live_view * view);
