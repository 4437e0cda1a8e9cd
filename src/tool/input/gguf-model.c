// Reads a GGUF file's header: experts and top-k from its keys, bytes of experts from the shapes of their tensors.

#include "tool/input/gguf-model.h"

#include "gguf/gguf-reader.h"
#include "trace/format/trace-format.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENDING ".gguf"

static bool ends_in(const char * text, const char * ending) {
    const size_t n = strlen(text);
    const size_t m = strlen(ending);
    return n >= m && strcmp(text + n - m, ending) == 0;
}

static bool begins_as_gguf(const char * path) {
    char        magic[sizeof(GGUF_FILE_MAGIC) - 1];
    struct stat status;
    FILE      * file = stat(path, &status) == 0 && S_ISREG(status.st_mode) ? fopen(path, "rbe") : NULL;
    const bool  ok   = file != NULL && fread(magic, 1, sizeof(magic), file) == sizeof(magic)
                    && memcmp(magic, GGUF_FILE_MAGIC, sizeof(magic)) == 0;
    if (file != NULL) {
        fclose(file);
    }
    return ok;
}

bool gguf_model_is_file(const char * text) {
    return ends_in(text, ENDING) || begins_as_gguf(text);
}

//
// keys
//

static char * text_of(const struct gguf_file * file, const char * key) {
    const char * text = NULL;
    return gguf_file_get_string(file, key, &text) ? memory_text("%s", text) : NULL;
}

// A number of the architecture. 0: it is not there, or larger than it can be.
static int32_t number_of(const struct gguf_file * file, const char * architecture, const char * what, uint64_t most) {
    char     * key    = memory_text("%s.%s", architecture == NULL ? "" : architecture, what);
    uint64_t   number = 0;
    const bool ok     = gguf_file_get_u64(file, key, &number) && number <= most;
    free(key);
    return ok ? (int32_t) number : 0;
}

static void read_keys(struct gguf_model * model, const struct gguf_file * file) {
    model->name         = text_of(file, "general.name");
    model->architecture = text_of(file, "general.architecture");
    model->n_expert     = number_of(file, model->architecture, "expert_count", TRACE_EXPERTS_MAX);
    model->n_used       = number_of(file, model->architecture, "expert_used_count", TRACE_USED_MAX);
    const int32_t n_all = number_of(file, model->architecture, "block_count", TRACE_LAYERS_MAX);
    const int32_t n_mtp = number_of(file, model->architecture, "nextn_predict_layers", TRACE_LAYERS_MAX);
    model->n_layer      = n_all > n_mtp ? n_all - n_mtp : 0;
}

//
// tensors
//

// -1: it has no experts.
static int32_t layer_of_tensor(const char * name) {
    int layer  = -1;
    int behind = 0;
    const bool ok = sscanf(name, "blk.%5d.ffn_%n", &layer, &behind) == 1 && behind > 0
                 && ends_in(name + behind, "_exps.weight");
    return ok && layer >= 0 && layer < TRACE_LAYERS_MAX ? layer : -1;
}

static struct gguf_model_layer * layer_at(struct gguf_model * model, int32_t layer) {
    size_t at = model->n_layers;
    while (at > 0 && model->layers[at - 1].layer > layer) {
        at--;
    }
    if (at > 0 && model->layers[at - 1].layer == layer) {
        return &model->layers[at - 1];
    }
    model->layers = memory_resize(model->layers, model->n_layers + 1, sizeof(*model->layers));
    memmove(model->layers + at + 1, model->layers + at, (model->n_layers - at) * sizeof(*model->layers));
    model->n_layers++;
    model->layers[at] = (struct gguf_model_layer) { .layer = layer };
    return &model->layers[at];
}

static void add_tensor(struct gguf_model_layer * layer, uint64_t bytes) {
    layer->expert_bytes += bytes;
    if (layer->n_tensors < GGUF_MODEL_TENSORS_MAX) {
        layer->tensor_bytes[layer->n_tensors++] = bytes;
    }
}

// Experts lie one behind the other, along the third dimension.
static void read_tensors(struct gguf_model * model, const struct gguf_file * file) {
    for (size_t i = 0; i < gguf_file_n_tensors(file); i++) {
        const struct gguf_file_tensor * tensor = gguf_file_tensor(file, i);
        const int32_t                   layer  = layer_of_tensor(tensor->name);
        const bool                      is_mtp = model->n_layer > 0 && layer >= model->n_layer;
        if (layer >= 0 && !is_mtp && tensor->ne[2] == (uint64_t) model->n_expert) {
            add_tensor(layer_at(model, layer), tensor->nbytes / tensor->ne[2]);
        }
    }
}

static bool is_whole(const struct gguf_file * file) {
    uint64_t n_files = 1;
    return !gguf_file_get_u64(file, "split.count", &n_files) || n_files <= 1;
}

struct gguf_model * gguf_model_open(const char * path, struct error * error) {
    struct gguf_file * file = gguf_file_open(path, error->text, sizeof(error->text));
    if (file == NULL) {
        return NULL;
    }
    struct gguf_model * model = memory_new(1, sizeof(*model));
    model->path = path;
    read_keys(model, file);
    if (is_whole(file)) {
        read_tensors(model, file);
    }
    gguf_file_close(file);
    if (model->n_expert == 0) {
        gguf_model_free(model);
        error_set(error, "%s: tells of no experts: name the GGUF file of a Mixture-of-Experts model (of one in several "
                         "files, the first)", path);
        return NULL;
    }
    return model;
}

struct gguf_model * gguf_model_open_named(const char * path, uid_t user) {
    struct error error;
    return path != NULL && user == geteuid() && gguf_model_is_file(path) ? gguf_model_open(path, &error) : NULL;
}

void gguf_model_free(struct gguf_model * model) {
    if (model != NULL) {
        free(model->name);
        free(model->architecture);
        free(model->layers);
        free(model);
    }
}
