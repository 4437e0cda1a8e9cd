#include "base/clean.h"
#include "built-in/source-tree.h"
#include "tool/command.h"
#include "tool/error.h"
#include "tool/launch/preload.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

enum action { INTEGRATE, REMOVE, DIFF, CMAKE };

struct options {
    enum action  action;
    const char * tree;
};

// STATUS_OK, or the exit status; *help where help was asked for.
static int parse_options(struct options * options, int argc, char ** argv, bool * help) {
    static const struct option known[] = {
        { "remove", no_argument, NULL, 'r' },
        { "diff",   no_argument, NULL, 'd' },
        { "cmake",  no_argument, NULL, 'c' },
        { "help",   no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    for (int option; (option = getopt_long(argc, argv, ":rdch", known, NULL)) != -1;) {
        switch (option) {
            case 'r': options->action = REMOVE; break;
            case 'd': options->action = DIFF;   break;
            case 'c': options->action = CMAKE;  break;
            case 'h': *help           = true;   return STATUS_OK;
            default:  return command_option_error(&command_integrate, argv, option);
        }
    }
    if (argc - optind != (options->action == CMAKE ? 0 : 1)) {
        return command_usage_error(&command_integrate, options->action == CMAKE ? "--cmake takes no tree" : "which source tree of llama.cpp?");
    }
    options->tree = argv[optind];
    return STATUS_OK;
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
    bool           help    = false;
    const int      status  = parse_options(&options, argc, argv, &help);
    if (help) {
        return command_help(&command_integrate);
    }
    if (status != STATUS_OK) {
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
    .main    = integrate_main,
    .help    =
        "usage: llama-expert-tracer integrate [--diff | --remove] LLAMA_CPP_TREE\n"
        "       llama-expert-tracer integrate --cmake\n"
        "\n"
        "Puts the tracer into a source tree of llama.cpp: src/llama-expert-tracer.h and .c, and\n"
        "a block in src/CMakeLists.txt. What is built of it then, shared or static, traces with\n"
        "nothing but the environment variables.\n"
        "\n"
        "  -d, --diff    show what would be done, as a patch (none where nothing is to do);\n"
        "                nothing is changed\n"
        "  -r, --remove  undo it: every file is what it was\n"
        "  -c, --cmake   print the path of a CMake file that does the same without changing\n"
        "                the tree: cmake -DCMAKE_PROJECT_llama.cpp_INCLUDE=PATH …\n"
        "  -h, --help    show this\n",
};
