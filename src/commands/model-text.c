// Names a model from what a trace or statistics know of it.

#include "commands/model-text.h"

#include "tool/error.h"

#include <stddef.h>

char * model_text(const struct answer_model * model) {
    const char * name = model->name == NULL ? "name unknown" : model->name;
    return model->architecture == NULL ? memory_text("%s", name) : memory_text("%s (%s)", name, model->architecture);
}
