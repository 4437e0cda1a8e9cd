// Reads /proc/self/maps, and the headers of the GGUF files there by the engine's own gguf functions.

#include "engine/context/mapped-file.h"

#include "base/descriptor.h"
#include "engine/context/opened-file.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool is_gguf(const char * path) {
    char      magic[4];
    const int fd = descriptor_open(AT_FDCWD, path, O_RDONLY | O_NONBLOCK, 0);
    const bool is = fd >= 0 && pread(fd, magic, sizeof(magic), 0) == sizeof(magic) && memcmp(magic, "GGUF", 4) == 0;
    if (fd >= 0) {
        close(fd);
    }
    return is;
}

static void note_file(const struct real * real, const char * path) {
    const struct gguf_init_params params = { .no_alloc = true };
    struct gguf_context         * gguf   = is_gguf(path) ? real->gguf_init_from_file(path, params) : NULL;
    if (gguf) {
        opened_file_add(real, gguf, path);
        real->gguf_free(gguf);
    }
}

// "7f0000000000-7f0000010000 r--s 00000000 00:01 5   /models/model.gguf"; NULL: no file, or one with code.
static char * path_of(char * line) {
    char * rights = strchr(line, ' ');
    char * path   = strchr(line, '/');
    line[strcspn(line, "\n")] = '\0';
    return rights && path && rights[1] == 'r' && rights[3] != 'x' ? path : NULL;
}

void mapped_files_look(const struct real * real) {
    FILE * maps = real->gguf_init_from_file && real->gguf_free ? fopen("/proc/self/maps", "re") : NULL;
    char * line = NULL;
    char * last = NULL;
    size_t room = 0;
    while (maps && getline(&line, &room, maps) > 0) {
        const char * path = path_of(line);
        if (path == NULL || (last && strcmp(last, path) == 0)) {
            continue;
        }
        note_file(real, path);
        free(last);
        last = strdup(path);
    }
    free(last);
    free(line);
    if (maps) {
        fclose(maps);
    }
}
