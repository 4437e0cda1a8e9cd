// Fills in a path's %p and %m: of this process, and of a model as its file or its own name has it.

#include "tracer/path-pattern.h"

#include "base/clean.h"

#include <string.h>
#include <unistd.h>

#define MODEL_NAME_MAX 180 // bytes of it in the name of a file, which may be 255 long

// Adds the model's file without its ending, or the model's name, as a part of a file's name: what a shell, a terminal
// or a file system would take for more than that is a dash, and so is a dot at its beginning, which would hide the file
// or name a folder.
static void add_model(struct text * text, const struct routing_model * model) {
    const char * slash = model->file ? strrchr(model->file, '/') : NULL;
    const char * name  = slash ? slash + 1 : model->file ? model->file : model->name ? model->name : "model";
    size_t       left  = strlen(name);
    left = left > 5 && strcmp(name + left - 5, ".gguf") == 0 ? left - 5 : left;
    left = left > MODEL_NAME_MAX ? MODEL_NAME_MAX : left;

    bool is_first = true;
    bool harmless;
    for (size_t n; left > 0 && (n = (size_t) clean_next(name, &harmless)) > 0 && n <= left; name += n, left -= n) {
        const bool stays = harmless && !strchr("/ :*?\"<>|\\", *name) && !(is_first && *name == '.');
        text_add(text, "%.*s", stays ? (int) n : 1, stays ? name : "-");
        is_first = false;
    }
}

void path_pattern_add(struct text * text, const char * pattern, const struct routing_model * model) {
    for (const char * at = pattern; *at; at++) {
        if (at[0] == '%' && at[1] == 'p') {
            text_add(text, "%ld", (long) getpid());
            at++;
        } else if (at[0] == '%' && at[1] == 'm') {
            add_model(text, model);
            at++;
        } else {
            at += at[0] == '%' && at[1] == '%';
            text_add(text, "%c", *at);
        }
    }
}
