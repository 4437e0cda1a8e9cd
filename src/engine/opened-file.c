#include "opened-file.h"

#include "fork-reset.h"

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

static void read_string(const struct real * real, const struct gguf_context * gguf, const char * key, char * value, size_t size) {
    const int id = find_key(real, gguf, key, GGUF_TYPE_STRING);
    snprintf(value, size, "%s", id >= 0 ? real->gguf_get_val_str(gguf, id) : "");
}

static int32_t read_number(const struct real * real, const struct gguf_context * gguf, const char * architecture, const char * suffix) {
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
    if (!kept) {
        free(about->path);
    }
}

void opened_file_add(const struct real * real, const struct gguf_context * gguf, const char * path) {
    if (!gguf || !path || !real->gguf_find_key || !real->gguf_get_kv_type || !real->gguf_get_val_str || !real->gguf_get_val_u32) {
        return;
    }
    struct opened_file file = { 0 };
    read_string(real, gguf, "general.name",         file.name,         sizeof(file.name));
    read_string(real, gguf, "general.architecture", file.architecture, sizeof(file.architecture));
    file.n_expert = read_number(real, gguf, file.architecture, "expert_count");
    file.n_used   = read_number(real, gguf, file.architecture, "expert_used_count");
    file.n_layer  = read_number(real, gguf, file.architecture, "block_count") -
                    read_number(real, gguf, file.architecture, "nextn_predict_layers");
    if (file.n_expert > 0) {
        file.path = realpath(path, NULL);
        if (file.path) {
            keep(&file);
        }
    }
}

const struct opened_file * opened_file_only(void) {
    pthread_mutex_lock(&files_mutex);
    const struct opened_file * only = files && !files->next ? files : NULL;
    pthread_mutex_unlock(&files_mutex);
    return only;
}

void opened_file_forget_all(void) {
    fork_reset_mutex(&files_mutex);
    files = NULL;
}
