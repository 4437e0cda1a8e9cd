// Whatever bytes there are as the files of a source tree of llama.cpp.

#include "fuzz.h"

#include "built-in/source-text.h"
#include "built-in/source-tree.h"
#include "built-in/tree-interface.h"

#include <sys/stat.h>

static char folder[64];

static void leave_nothing(void) {
    static const char * const paths[] = {
        "include/llama.h", "ggml/include/ggml.h", "src/CMakeLists.txt", "CMakeLists.txt", "src",
        "ggml/include", "ggml", "include", "",
    };
    char path[128];
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", folder, paths[i]);
        remove(path);
    }
}

static void make_folder(const char * name) {
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    EXPECT(mkdir(path, 0700) == 0);
}

static void make_folders(void) {
    if (*folder) {
        return;
    }
    snprintf(folder, sizeof(folder), "/dev/shm/fuzz-tree-XXXXXX");
    EXPECT(mkdtemp(folder) != NULL);
    make_folder("include");
    make_folder("ggml");
    make_folder("ggml/include");
    make_folder("src");
    atexit(leave_nothing);
}

static void write_file(const char * name, const uint8_t * data, size_t size) {
    char   path[128];
    FILE * out;
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    EXPECT((out = fopen(path, "wb")) != NULL);
    EXPECT(fwrite(data, 1, size, out) == size);
    EXPECT(fclose(out) == 0);
}

static void blank(const uint8_t * data, size_t size, const char * comment) {
    char * code = malloc(size + 1);
    EXPECT(code != NULL);
    memcpy(code, data, size);
    code[size] = '\0';
    const size_t length = strlen(code);
    source_text_blank_comments(code, comment);
    EXPECT(strlen(code) == length);
    free(code);
}

int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    struct error error;
    make_folders();
    write_file("include/llama.h",     data, size);
    write_file("ggml/include/ggml.h", data, size);
    write_file("src/CMakeLists.txt",  data, size);
    write_file("CMakeLists.txt",      data, size);
    tree_interface_is_known(folder, &error);
    struct source_tree * tree = source_tree_open(folder, NULL, &error);
    if (tree) {
        source_tree_state(tree);
    }
    source_tree_free(tree);
    blank(data, size, "//");
    blank(data, size, "#");
    return 0;
}
