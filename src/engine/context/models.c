// Notes models as the program loads them, and describes them by the engine's own functions or by their opened files.

#include "engine/context/models.h"

#include "base/fork-reset.h"
#include "engine/context/opened-file.h"
#include "engine/upstream/arrival.h"
#include "engine/upstream/host-log.h"
#include "routing/sinks.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// A model that is known by one of its expert tensors.
struct unseen_model {
    const void          * key;
    struct unseen_model * next;
};

struct model_file {
    const void        * model;
    char              * path;
    struct model_file * next;
};

static pthread_mutex_t       models_mutex = PTHREAD_MUTEX_INITIALIZER; // of the lists
static struct model_file   * model_files;
static struct unseen_model * unseen_models;

void models_on_loaded(const struct llama_model * model, const char * path) {
    if (model == NULL || path == NULL) {
        return;
    }
    struct model_file * file = malloc(sizeof(*file));
    char              * copy = realpath(path, NULL);
    if (copy == NULL) {
        copy = strdup(path);
    }
    if (file == NULL || copy == NULL) {
        free(file);
        free(copy);
        log_line(host_log, LOG_ERROR, "out of memory: the file of a model is not known");
        return;
    }
    pthread_mutex_lock(&models_mutex);
    *file       = (struct model_file) { model, copy, model_files };
    model_files = file;
    pthread_mutex_unlock(&models_mutex);
}

void models_close_unseen(bool (*is_in_use)(const void * key)) {
    struct unseen_model * gone = NULL;
    pthread_mutex_lock(&models_mutex);
    for (struct unseen_model ** link = &unseen_models; *link; ) {
        struct unseen_model * model = *link;
        if (is_in_use(model->key)) {
            link = &model->next;
        } else {
            *link       = model->next;
            model->next = gone;
            gone        = model;
        }
    }
    pthread_mutex_unlock(&models_mutex);
    while (gone) {
        struct unseen_model * model = gone;
        gone = model->next;
        sinks_model_close(model->key);
        free(model);
    }
}

void models_note_unseen(const void * key) {
    pthread_mutex_lock(&models_mutex);
    const struct unseen_model * known = unseen_models;
    while (known && known->key != key) {
        known = known->next;
    }
    struct unseen_model * model = known ? NULL : malloc(sizeof(*model));
    if (model) {
        *model        = (struct unseen_model) { key, unseen_models };
        unseen_models = model;
    }
    pthread_mutex_unlock(&models_mutex);
}

void models_on_free(const struct llama_model * model) {
    struct model_file * dropped = NULL;
    pthread_mutex_lock(&models_mutex);
    for (struct model_file ** link = &model_files; *link; ) {
        struct model_file * file = *link;
        if (file->model == model) {
            *link      = file->next;
            file->next = dropped;
            dropped    = file;
        } else {
            link = &file->next;
        }
    }
    pthread_mutex_unlock(&models_mutex);

    sinks_model_close(model);
    while (dropped) {
        struct model_file * file = dropped;
        dropped = file->next;
        free(file->path);
        free(file);
    }
}

const char * models_path(const void * model) {
    const char * path = NULL;
    pthread_mutex_lock(&models_mutex);
    for (const struct model_file * file = model_files; file && path == NULL; file = file->next) {
        if (file->model == model) {
            path = file->path;
        }
    }
    pthread_mutex_unlock(&models_mutex);
    return path;
}

static bool meta_string(const struct real * real, const struct llama_model * model, const char * key, char * value,
                        size_t size) {
    return real->llama_model_meta_val_str && real->llama_model_meta_val_str(model, key, value, size) >= 0;
}

// Unlike strtol() of a C library's newest version, the same in all of them.
static int32_t leading_number(const char * text) {
    int32_t number = 0;
    for (; *text >= '0' && *text <= '9' && number < 100000000; text++) {
        number = 10 * number + (*text - '0');
    }
    return number;
}

static int32_t meta_number(const struct real * real, const struct llama_model * model, const char * architecture,
                           const char * suffix) {
    char key  [128];
    char value[ 64];
    snprintf(key, sizeof(key), "%s.%s", architecture, suffix);
    return meta_string(real, model, key, value, sizeof(value)) ? leading_number(value) : 0;
}

void models_describe_engine(struct routing_model * about, struct model_strings * strings, const struct real * real) {
    const char * llama = real->llama_version ? real->llama_version() : NULL;
    const char * ggml  = real->ggml_version  ? real->ggml_version()  : NULL;
    void       * decode;
    Dl_info      object;
    memcpy(&decode, &real->llama_decode, sizeof(decode));
    if (decode == NULL || !dladdr(decode, &object) || object.dli_fname == NULL) {
        object.dli_fname = "unknown library";
    }
    snprintf(strings->engine, sizeof(strings->engine), "llama.cpp%s%s%s%s (%s)",
        llama ? " " : "", llama ? llama : "", ggml ? ", ggml " : "", ggml ? ggml : "", object.dli_fname);
    about->engine = strings->engine;
}

// Nobody saw it being loaded where we came later: it is known by what it says of itself.
static void find_file(struct routing_model * about, const struct llama_model * model) {
    about->file = models_path(model);
    if (about->file || !arrived_late() || about->architecture == NULL) {
        return;
    }
    const struct opened_file * file = opened_file_called(about->name ? about->name : "", about->architecture);
    if (file) {
        models_on_loaded(model, file->path);
        about->file = models_path(model);
    }
}

void models_describe(struct routing_model * about, struct model_strings * strings, const struct real * real,
                     const struct llama_model * model) {
    about->key          = model;
    about->phases_known = true;
    if (meta_string(real, model, "general.name", strings->name, sizeof(strings->name))) {
        about->name = strings->name;
    }
    if (meta_string(real, model, "general.architecture", strings->architecture, sizeof(strings->architecture))) {
        about->architecture = strings->architecture;
        about->n_expert     = meta_number(real, model, strings->architecture, "expert_count");
        about->n_used       = meta_number(real, model, strings->architecture, "expert_used_count");
    }
    find_file(about, model);
    if (real->llama_model_n_layer) {
        about->n_layer = real->llama_model_n_layer(model);
    } else if (real->llama_n_layer) {
        about->n_layer = real->llama_n_layer(model);
    }
}

void models_describe_unseen(struct routing_model * about) {
    const struct opened_file * file = opened_file_only();
    if (file) {
        about->file         = file->path;
        about->name         = *file->name         ? file->name         : NULL;
        about->architecture = *file->architecture ? file->architecture : NULL;
        about->n_layer      = file->n_layer;
        about->n_expert     = file->n_expert;
        about->n_used       = file->n_used;
    }
}

void models_drop_all(void) {
    while (model_files) {
        models_on_free(model_files->model);
    }
    while (unseen_models) {
        struct unseen_model * model = unseen_models;
        unseen_models = model->next;
        free(model);
    }
}

void models_forget_all(void) {
    fork_reset_mutex(&models_mutex);
    model_files   = NULL;
    unseen_models = NULL;
}
