// `integrate`: builds the tracer into a source tree of llama.cpp.

#include "base/clean.h"
#include "built-in/source-tree.h"
#include "commands/commands.h"
#include "tool/error.h"
#include "tool/launch/preload.h"
#include "tool/options.h"

#include <stdio.h>
#include <stdlib.h>

enum action { INTEGRATE, REMOVE, DIFF, CMAKE };

struct options {
    enum action  action;
    const char * tree;
};

static const struct option_spec options_known[] = {
    { 'd', "diff", OPTION_SET, OPTION_AT(action), .sets = DIFF,
      .help = "show what would be done, as a patch (none where nothing is to do); nothing is changed" },
    { 'r', "remove", OPTION_SET, OPTION_AT(action), .sets = REMOVE, .help = "undo it: every file is what it was" },
    { 'c', "cmake", OPTION_SET, OPTION_AT(action), .sets = CMAKE,
      .help = "print the path of a CMake file that does the same without changing the tree: `cmake "
              "-DCMAKE_PROJECT_llama.cpp_INCLUDE=PATH …`" },
    { 0 },
};

// False: *status is the exit status, and why is told.
static bool parse_options(struct options * options, int argc, char ** argv, int * status) {
    if (!options_parse(&command_integrate, options, &argc, &argv, status)) {
        return false;
    }
    const bool takes_none = options->action == CMAKE;
    options->tree = argv[0];
    *status = argc == (takes_none ? 0 : 1) ? STATUS_OK : command_usage_error(&command_integrate, "%s",
        takes_none ? "--cmake takes no tree" : "which source tree of llama.cpp?");
    return *status == STATUS_OK;
}

// What became of the tree.
static void tell(const char * path, const char * what) {
    char * line = memory_text("%s: %s", path, what);
    puts(clean_in_place(line));
    free(line);
}

static bool do_integrate(struct source_tree * tree, const char * path, struct error * error) {
    const enum source_tree_state state = source_tree_state(tree);
    if (state == SOURCE_TREE_WITH) {
        tell(path, "the tracer is in it already");
        return true;
    }
    if (!source_tree_integrate(tree, error)) {
        return false;
    }
    tell(path, state == SOURCE_TREE_OTHER
        ? "the tracer is in it in this version now. Build llama.cpp as always, shared or static; then"
        : "the tracer is in it now. Build llama.cpp as always, shared or static; then");
    puts("  LLAMA_EXPERT_TRACE_STATS=1 build/bin/llama-cli -m model.gguf …");
    return true;
}

static bool do_remove(struct source_tree * tree, const char * path, struct error * error) {
    if (source_tree_state(tree) == SOURCE_TREE_WITHOUT) {
        tell(path, "the tracer is not in it");
        return true;
    }
    if (!source_tree_remove(tree, error)) {
        return false;
    }
    tell(path, "the tracer is out of it");
    return true;
}

// Standard output is the patch alone: it may go straight to patch(1).
static void do_diff(const struct source_tree * tree, const char * path) {
    if (source_tree_state(tree) == SOURCE_TREE_WITH) {
        error_say("%s: the tracer is in it already", path);
    }
    source_tree_print_diff(tree);
}

static bool act(const struct options * options, const char * parts, struct error * error) {
    if (options->action == CMAKE) {
        printf("%s/llama-expert-tracer.cmake\n", parts);
        return true;
    }
    struct source_tree * tree = source_tree_open(options->tree, parts, error);
    if (tree == NULL) {
        return false;
    }
    bool ok = true;
    switch (options->action) {
        case REMOVE: ok = do_remove   (tree, options->tree, error); break;
        case DIFF:   do_diff          (tree, options->tree);        break;
        default:     ok = do_integrate(tree, options->tree, error); break;
    }
    source_tree_free(tree);
    return ok;
}

static int integrate_main(int argc, char ** argv) {
    struct options options = { INTEGRATE, NULL };
    struct error   error;
    int            status;
    if (!parse_options(&options, argc, argv, &status)) {
        return status;
    }
    const bool removes = options.action == REMOVE; // which needs nothing but the tree
    char     * parts   = removes ? NULL : library_find_parts(&error);
    const bool ok      = (removes || parts != NULL) && act(&options, parts, &error);
    free(parts);
    if (!ok) {
        error_say("%s", error.text);
    }
    return ok ? STATUS_OK : STATUS_FAILED;
}

const struct command command_integrate = {
    .name    = "integrate",
    .summary = "builds the tracer into a source tree of llama.cpp",
    .usage   = "[--diff | --remove] LLAMA_CPP_TREE\n--cmake",
    .about   = "Puts the tracer into a source tree of llama.cpp: src/llama-expert-tracer.h and .c, and a block in "
               "src/CMakeLists.txt. What is built of it then, shared or static, traces with nothing but the "
               "environment variables.",
    .options = options_known,
    .operand = COMMAND_OPERAND_FOLDER,
    .main    = integrate_main,
};
