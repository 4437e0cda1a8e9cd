// What several formats of `import` need: what the caller adds to them, and where in the input a ubatch is wrong.

#include "commands/import/import-format.h"

#include "trace/format/trace-format.h"

#include <string.h>

bool import_begins_as(const char * head, size_t size, const char * beginning) {
    const size_t n = strlen(beginning);
    return size >= n && memcmp(head, beginning, n) == 0;
}

// A number that the file tells, the caller, or both.
static bool agree(const struct import * import, int32_t * told, int32_t hint, const char * option,
                  struct error * error) {
    if (*told > 0 && hint > 0 && *told != hint) {
        return error_set(error, "%s: tells %d itself, and %s says %d: leave that out", import->input->name, (int) *told,
                         option, (int) hint);
    }
    *told = *told > 0 ? *told : hint;
    return true;
}

// The file of a model may be of another one. Its top-k is not held against rows: programs may use fewer experts.
static bool take_model(const struct import * import, const struct gguf_model * model, struct error * error) {
    struct import_about * about = import_trace_about(import->trace);
    if (about->n_expert > 0 && about->n_expert != model->n_expert) {
        return error_set(error, "%s: has %d experts in a layer, and %s %d: is that its model?", import->input->name,
                         (int) about->n_expert, model->path, (int) model->n_expert);
    }
    about->n_expert     = model->n_expert;
    about->n_layer      = about->n_layer > 0          ? about->n_layer      : model->n_layer;
    about->architecture = about->architecture != NULL ? about->architecture : model->architecture;
    about->model        = about->model != NULL        ? about->model        : model->name;
    for (size_t i = 0; import->hints->expert_bytes == 0 && i < model->n_layers; i++) {
        if (!import_trace_has_bytes(import->trace, model->layers[i].layer)) {
            import_trace_bytes(import->trace, model->layers[i].layer, model->layers[i].expert_bytes);
        }
    }
    return true;
}

bool import_take_hints(struct import * import, struct error * error) {
    const struct import_hints * hints = import->hints;
    struct import_about       * about = import_trace_about(import->trace);
    if (!agree(import, &about->n_expert, hints->n_expert, "--experts", error)
            || !agree(import, &about->n_used, hints->n_used, "--top-k", error)) {
        return false;
    }
    about->model        = hints->model != NULL ? hints->model : about->model;
    about->expert_bytes = hints->expert_bytes;
    if (hints->file != NULL && !take_model(import, hints->file, error)) {
        return false;
    }
    if (about->n_expert == 0) {
        return error_set(error, "%s: does not tell how many experts a layer has: --experts N does, or the model's GGUF "
                                "file with --model", import->input->name);
    }
    return about->n_expert <= TRACE_EXPERTS_MAX
        || error_set(error, "%s: %d experts in a layer: %d at most", import->input->name, (int) about->n_expert,
                     TRACE_EXPERTS_MAX);
}

// What is wrong with the output names it already.
static bool place_error(const struct import * import, const struct error * why, const char * place,
                        struct error * error) {
    return import_trace_is_lost(import->trace)
        ? error_set(error, "%s", why->text)
        : error_set(error, "%s: %s%.1500s", import->input->name, place, why->text);
}

bool import_end_ubatch(struct import * import, const char * what, uint64_t first, int32_t context, bool warmup,
                       struct error * error) {
    struct error why;
    char         place[64];
    snprintf(place, sizeof(place), "ubatch from %s %llu on: ", what, (unsigned long long) first);
    return import_trace_ubatch(import->trace, context, warmup, &why) || place_error(import, &why, place, error);
}

bool import_leave_ubatch(struct import * import, const struct import_ubatch * current, struct error * error) {
    return import_end_ubatch(import, "line", current->first_line, current->context, current->warmup, error);
}

bool import_enter_ubatch(struct import * import, struct import_ubatch * current, const struct import_ubatch * next,
                         struct error * error) {
    const bool is_first = current->first_line == 0;
    if (!is_first && next->number == current->number && next->context == current->context) {
        return true;
    }
    const bool ok = import_leave_ubatch(import, current, error);
    *current = ok ? *next : *current;
    return ok;
}

bool import_end_trace(struct import * import, struct error * error) {
    struct error why;
    return import_trace_end(import->trace, &why) || place_error(import, &why, "", error);
}
