#include "command.h"
#include "error.h"
#include "library.h"
#include "program.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INTERVAL_MIN     0.1 // the library takes no less, but 0
#define INTERVAL_MAX 86400.0 // and no more

#define STATS     "LLAMA_EXPERT_TRACE_STATS"
#define NAMES     "LLAMA_EXPERT_TRACE_NAMES"
#define PER_LAYER "LLAMA_EXPERT_TRACE_PER_LAYER"
#define OUTPUT    "LLAMA_EXPERT_TRACE_OUTPUT"
#define INTERVAL  "LLAMA_EXPERT_TRACE_INTERVAL"
#define CAPTURE   "LLAMA_EXPERT_TRACE_CAPTURE"

struct options {
    bool         stats;
    bool         names;
    bool         per_layer;
    const char * output;
    const char * interval;
    const char * capture;
};

static bool is_interval(const char * text) {
    char       * end;
    const double seconds = strtod(text, &end);
    return ((text[0] >= '0' && text[0] <= '9') || text[0] == '.') && *end == '\0'
        && (seconds == 0.0 || (seconds >= INTERVAL_MIN && seconds <= INTERVAL_MAX));
}

static bool is_capture(const char * text) {
    return strcmp(text, "auto") == 0 || strcmp(text, "graph") == 0 || strcmp(text, "eval-callback") == 0;
}

static int check_options(const struct options * options) {
    if (options->output != NULL && strcmp(options->output, "-") == 0) {
        return command_usage_error(&command_run, "--output -: the standard output belongs to the program, statistics are never written there: name a file");
    }
    if (options->output != NULL && *options->output == '\0') {
        return command_usage_error(&command_run, "--output needs the name of a file");
    }
    if (options->interval != NULL && !is_interval(options->interval)) {
        return command_usage_error(&command_run, "--interval needs seconds, 0 (only at the end) or 0.1 to 86400, not '%s'", options->interval);
    }
    if (options->capture != NULL && !is_capture(options->capture)) {
        return command_usage_error(&command_run, "--capture needs auto, graph or eval-callback, not '%s'", options->capture);
    }
    return STATUS_OK;
}

enum { OPTION_STATS = 256, OPTION_NAMES, OPTION_PER_LAYER, OPTION_INTERVAL, OPTION_CAPTURE };

// STATUS_OK, or the exit status; *help where help was asked for. The program begins at argv[optind].
static int parse_options(struct options * options, int argc, char ** argv, bool * help) {
    static const struct option known[] = {
        { "stats",     no_argument,       NULL, OPTION_STATS     },
        { "names",     no_argument,       NULL, OPTION_NAMES     },
        { "per-layer", no_argument,       NULL, OPTION_PER_LAYER },
        { "output",    required_argument, NULL, 'o'              },
        { "interval",  required_argument, NULL, OPTION_INTERVAL  },
        { "capture",   required_argument, NULL, OPTION_CAPTURE   },
        { "help",      no_argument,       NULL, 'h'              },
        { NULL, 0, NULL, 0 },
    };
    for (int option; (option = getopt_long(argc, argv, "+:o:h", known, NULL)) != -1;) {
        switch (option) {
            case OPTION_STATS:     options->stats     = true;   break;
            case OPTION_NAMES:     options->names     = true;   break;
            case OPTION_PER_LAYER: options->per_layer = true;   break;
            case OPTION_INTERVAL:  options->interval  = optarg; break;
            case OPTION_CAPTURE:   options->capture   = optarg; break;
            case 'o':              options->output    = optarg; break;
            case 'h':              *help              = true;   return STATUS_OK;
            default:               return command_option_error(&command_run, argv, option);
        }
    }
    if (optind == argc) {
        return command_usage_error(&command_run, "which program?");
    }
    return check_options(options);
}

static void set_variable(const char * name, const char * value) {
    if (setenv(name, value, 1) != 0) {
        error_say("%s cannot be set: %s", name, strerror(errno));
        exit(STATUS_FAILED);
    }
}

static bool is_set(const char * name) {
    const char * value = getenv(name);
    return value != NULL && *value != '\0';
}

// A program may go elsewhere before it writes: the file belongs where its name was typed. The folder's own name
// must not be taken for one of the placeholders (%p, %m) that the file's name can have.
static void set_output(const char * output) {
    char * folder = *output == '/' ? NULL : getcwd(NULL, 0);
    if (folder == NULL || strchr(folder, '%') != NULL) {
        set_variable(OUTPUT, output);
    } else {
        char * absolute = memory_text("%s/%s", folder, output);
        set_variable(OUTPUT, absolute);
        free(absolute);
    }
    free(folder);
}

static void set_environment(const struct options * options) {
    if (options->names) {
        set_variable(NAMES, "1");
    }
    if (options->per_layer) {
        set_variable(PER_LAYER, "1");
    }
    if (options->output != NULL) {
        set_output(options->output);
    }
    if (options->interval != NULL) {
        set_variable(INTERVAL, options->interval);
    }
    if (options->capture != NULL) {
        set_variable(CAPTURE, options->capture);
    }
    const bool only_names = is_set(NAMES) && !is_set(OUTPUT) && !is_set(PER_LAYER);
    if (options->stats || (!is_set(STATS) && !only_names)) {
        set_variable(STATS, "1");
    }
}

static void set_preload(const char * library) {
    char * preload = library_preload(library, getenv("LD_PRELOAD"));
    set_variable("LD_PRELOAD", preload);
    free(preload);
}

// What would run and silently trace nothing is told now. A program that may not be read can run all the same.
static bool check_program(const char * path, const char * library) {
    struct program_verdict verdict;
    struct error           error;
    if (!program_judge(path, library, &verdict, &error)) {
        return true;
    }
    const bool can = verdict.answer != PROGRAM_CANNOT;
    if (!can) {
        error_say("%s cannot be traced: %s\nto do: %s", verdict.path, verdict.why, verdict.advice);
    } else if (verdict.answer == PROGRAM_IN_VAIN) {
        error_warning("nothing will be traced in %s: %s\nto do: %s", verdict.path, verdict.why, verdict.advice);
    }
    program_verdict_clear(&verdict);
    return can;
}

static int start(char ** argv) {
    execvp(argv[0], argv);
    const int why = errno;
    error_say("%s: %s", argv[0], strerror(why));
    return why == ENOENT ? 127 : 126;
}

static int run_with(const char * library, const struct options * options, char ** argv) {
    struct error error;
    int          status;
    char       * path = program_find(argv[0], &error, &status);
    if (path == NULL) {
        error_say("%s", error.text);
        return status;
    }
    const bool can = check_program(path, library);
    free(path);
    if (!can) {
        return STATUS_FAILED;
    }
    set_preload(library);
    set_environment(options);
    return start(argv);
}

static int run(const struct options * options, char ** argv) {
    struct error error;
    char       * library = library_find(&error);
    if (library == NULL || !library_is_preloadable(library, &error)) {
        error_say("%s", error.text);
        free(library);
        return STATUS_FAILED;
    }
    const int status = run_with(library, options, argv);
    free(library);
    return status;
}

static int run_main(int argc, char ** argv) {
    struct options options = { 0 };
    bool           help    = false;
    const int      status  = parse_options(&options, argc, argv, &help);
    if (help) {
        return command_help(&command_run);
    }
    return status == STATUS_OK ? run(&options, argv + optind) : status;
}

const struct command command_run = {
    .name    = "run",
    .summary = "runs a program and traces the llama.cpp in it",
    .main    = run_main,
    .help    =
        "usage: llama-expert-tracer run [OPTION]… [--] PROGRAM [ARGUMENT]…\n"
        "\n"
        "Runs the program with the tracer in it. It stays what it is: same input and output,\n"
        "same exit status, same process.\n"
        "\n"
        "      --stats              print statistics at the end (always, unless only --names is chosen)\n"
        "      --names              log the expert tensors of every activation\n"
        "      --per-layer          break the statistics down by layer\n"
        "  -o, --output FILE        write statistics to a JSON file (%p: process id, %m: model)\n"
        "      --interval SECONDS   write it every so often while the program runs, 0: at the end\n"
        "      --capture WAY        how the routing is read: graph (no device is stopped for it),\n"
        "                           eval-callback (works with everything), auto (the default)\n"
        "  -h, --help               show this\n"
        "\n"
        "LLAMA_EXPERT_TRACE_* that are set already stay in effect.\n",
};
