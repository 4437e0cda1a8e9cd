// Notes what the headers of the GGUF files say that the engine opens, read by the engine's own gguf functions.

#include "engine/context/opened-file.h"

#include "base/fork-reset.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GGUF_TYPE_UINT32 = 4, GGUF_TYPE_STRING = 8 };

static pthread_mutex_t     files_mutex = PTHREAD_MUTEX_INITIALIZER; // of the list
static struct opened_file * files;

// Returns -1 where there is no such key, or it is of another type, which the engine would not forgive.
static int find_key(const struct real * real, const struct gguf_context * gguf, const char * key, int type) {
    const int id = real->gguf_find_key(gguf, key);
    return id >= 0 && real->gguf_get_kv_type(gguf, id) == type ? id : -1;
}

static void read_string(const struct real * real, const struct gguf_context * gguf, const char * key, char * value,
                        size_t size) {
    const int id = find_key(real, gguf, key, GGUF_TYPE_STRING);
    snprintf(value, size, "%s", id >= 0 ? real->gguf_get_val_str(gguf, id) : "");
}

static int32_t read_number(const struct real * real, const struct gguf_context * gguf, const char * architecture,
                           const char * suffix) {
    char key[128];
    snprintf(key, sizeof(key), "%s.%s", architecture, suffix);
    const int id = find_key(real, gguf, key, GGUF_TYPE_UINT32);
    return id >= 0 ? (int32_t) real->gguf_get_val_u32(gguf, id) : 0;
}

static void keep(const struct opened_file * about) {
    pthread_mutex_lock(&files_mutex);
    struct opened_file * file = files;
    while (file && strcmp(file->path, about->path) != 0) {
        file = file->next;
    }
    struct opened_file * kept = file ? NULL : malloc(sizeof(*kept));
    if (kept) {
        *kept      = *about;
        kept->next = files;
        files       = kept;
    }
    pthread_mutex_unlock(&files_mutex);
    if (kept == NULL) {
        free(about->path);
        free(about->tensors);
    }
}

// Releases that do not tell how many bytes a tensor has tell where the next one begins.
static void read_bytes(struct file_tensor * tensor, const struct real * real, const struct gguf_context * gguf, int i,
                       int n) {
    tensor->bytes   = 0;
    tensor->padding = 0;
    if (real->gguf_get_tensor_size) {
        tensor->bytes = real->gguf_get_tensor_size(gguf, i);
    } else if (i + 1 < n) {
        tensor->bytes   = real->gguf_get_tensor_offset(gguf, i + 1) - real->gguf_get_tensor_offset(gguf, i);
        tensor->padding = real->gguf_get_alignment(gguf) - 1;
    }
}

static void read_tensors(struct opened_file * file, const struct real * real, const struct gguf_context * gguf) {
    if (real->gguf_get_n_tensors == NULL || real->gguf_get_tensor_name == NULL ||
        real->gguf_get_tensor_offset == NULL || real->gguf_get_alignment == NULL) {
        return;
    }
    const int n = real->gguf_get_n_tensors(gguf);
    for (int i = 0; i < n; i++) {
        const char  * name  = real->gguf_get_tensor_name(gguf, i);
        const int32_t layer = name ? layer_of_experts(name) : -1;
        if (layer < 0 || !is_projection(name) || strlen(name) >= LAYER_NAME_MAX) {
            continue;
        }
        if (file->n_tensors % 64 == 0) {
            struct file_tensor * grown = realloc(file->tensors, (size_t) (file->n_tensors + 64) * sizeof(*grown));
            if (grown == NULL) {
                return; // those that are missing are not known
            }
            file->tensors = grown;
        }
        struct file_tensor * tensor = &file->tensors[file->n_tensors++];
        tensor->layer = layer;
        read_bytes(tensor, real, gguf, i, n);
        strcpy(tensor->name, name);
    }
}

void opened_file_add(const struct real * real, const struct gguf_context * gguf, const char * path) {
    if (gguf == NULL || path == NULL || real->gguf_find_key == NULL || real->gguf_get_kv_type == NULL ||
        real->gguf_get_val_str == NULL || real->gguf_get_val_u32 == NULL) {
        return;
    }
    struct opened_file file = { 0 };
    read_string(real, gguf, "general.name",         file.name,         sizeof(file.name));
    read_string(real, gguf, "general.architecture", file.architecture, sizeof(file.architecture));
    file.n_expert = read_number(real, gguf, file.architecture, "expert_count");
    file.n_used   = read_number(real, gguf, file.architecture, "expert_used_count");
    file.n_layer  = read_number(real, gguf, file.architecture, "block_count") -
                    read_number(real, gguf, file.architecture, "nextn_predict_layers");
    read_tensors(&file, real, gguf);
    file.path = file.n_expert > 0 || file.n_tensors > 0 ? realpath(path, NULL) : NULL;
    if (file.path) {
        keep(&file);
    } else {
        free(file.tensors);
    }
}

// A model's first file has what is known of it as a whole.
static const struct opened_file * next_model_file(const struct opened_file * file) {
    while (file && file->n_expert == 0) {
        file = file->next;
    }
    return file;
}

const struct opened_file * opened_file_only(void) {
    pthread_mutex_lock(&files_mutex);
    const struct opened_file * first = next_model_file(files);
    const struct opened_file * only  = first && !next_model_file(first->next) ? first : NULL;
    pthread_mutex_unlock(&files_mutex);
    return only;
}

const struct opened_file * opened_file_called(const char * name, const char * architecture) {
    const struct opened_file * found = NULL;
    int                        n     = 0;
    pthread_mutex_lock(&files_mutex);
    for (const struct opened_file * it = next_model_file(files); it; it = next_model_file(it->next)) {
        if (strcmp(it->name, name) == 0 && strcmp(it->architecture, architecture) == 0) {
            found = it;
            n++;
        }
    }
    pthread_mutex_unlock(&files_mutex);
    return n == 1 ? found : NULL;
}

// Length of a path without the ending of one part of several, such as -00002-of-00005.gguf: all of it where it has
// none.
static size_t length_of_model(const char * path) {
    const size_t length = strlen(path);
    const size_t ending = strlen("-00002-of-00005.gguf");
    int          end    = 0;
    if (length > ending) {
        sscanf(path + length - ending, "-%*5d-of-%*5d.gguf%n", &end);
    }
    return end == (int) ending ? length - ending : length;
}

static bool is_of_model(const struct opened_file * file, const char * path) {
    const size_t length = length_of_model(path);
    return length == length_of_model(file->path) && strncmp(file->path, path, length) == 0;
}

int opened_file_tensors(const char * path, int32_t layer, struct file_tensor * tensors, int max, int32_t * n_expert) {
    int n = 0;
    *n_expert = 0;
    pthread_mutex_lock(&files_mutex);
    for (const struct opened_file * file = files; file; file = file->next) {
        if (!is_of_model(file, path)) {
            continue;
        }
        *n_expert = file->n_expert > 0 ? file->n_expert : *n_expert;
        for (int i = 0; i < file->n_tensors && n < max; i++) {
            if (file->tensors[i].layer == layer) {
                tensors[n++] = file->tensors[i];
            }
        }
    }
    pthread_mutex_unlock(&files_mutex);
    return *n_expert > 0 ? n : 0;
}

void opened_file_forget_all(void) {
    fork_reset_mutex(&files_mutex);
    files = NULL;
}
