#include "tool/command.h"
#include "tool/error.h"
#include "tool/launch/preload.h"
#include "tool/launch/program.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define INTERVAL_MIN     0.1 // the library takes no less, but 0
#define INTERVAL_MAX 86400.0 // and no more
#define BUFFER_MIN      0x1p20
#define ROTATE_SIZE_MIN 0x1p20
#define ROTATE_SIZE_MAX 0x1p60
#define ROTATE_TIME_MAX 1e9
#define SAMPLE_MAX      1e15
#define SEED_MAX        0x1p53
#define FIRST_OPTION     256 // of those that have no letter
#define SIGN_DESCRIPTOR  100 // or above

// What `run` passes on, each in a variable of its own.
enum setting {
    STATS, NAMES, PER_LAYER, WEIGHTS, TOKENS, N_SWITCHES,
    OUTPUT = N_SWITCHES, ROUTING, INTERVAL, CAPTURE, ON_FULL, BUFFER, ROTATE_SIZE, ROTATE_TIME, SAMPLE, KEEP, N_SETTINGS
};

static const char * const variables[N_SETTINGS] = {
    [STATS]       = "LLAMA_EXPERT_TRACE_STATS",
    [NAMES]       = "LLAMA_EXPERT_TRACE_NAMES",
    [PER_LAYER]   = "LLAMA_EXPERT_TRACE_PER_LAYER",
    [WEIGHTS]     = "LLAMA_EXPERT_TRACE_WEIGHTS",
    [TOKENS]      = "LLAMA_EXPERT_TRACE_TOKENS",
    [OUTPUT]      = "LLAMA_EXPERT_TRACE_OUTPUT",
    [ROUTING]     = "LLAMA_EXPERT_TRACE_ROUTING",
    [INTERVAL]    = "LLAMA_EXPERT_TRACE_INTERVAL",
    [CAPTURE]     = "LLAMA_EXPERT_TRACE_CAPTURE",
    [ON_FULL]     = "LLAMA_EXPERT_TRACE_ON_FULL",
    [BUFFER]      = "LLAMA_EXPERT_TRACE_BUFFER",
    [ROTATE_SIZE] = "LLAMA_EXPERT_TRACE_ROTATE_SIZE",
    [ROTATE_TIME] = "LLAMA_EXPERT_TRACE_ROTATE_TIME",
    [SAMPLE]      = "LLAMA_EXPERT_TRACE_SAMPLE",
    [KEEP]        = "LLAMA_EXPERT_TRACE_KEEP",
};

static const struct option known_options[] = {
    { "stats",       no_argument,       NULL, FIRST_OPTION + STATS       },
    { "names",       no_argument,       NULL, FIRST_OPTION + NAMES       },
    { "per-layer",   no_argument,       NULL, FIRST_OPTION + PER_LAYER   },
    { "weights",     no_argument,       NULL, FIRST_OPTION + WEIGHTS     },
    { "tokens",      no_argument,       NULL, FIRST_OPTION + TOKENS      },
    { "output",      required_argument, NULL, 'o'                        },
    { "routing",     required_argument, NULL, 'r'                        },
    { "interval",    required_argument, NULL, FIRST_OPTION + INTERVAL    },
    { "capture",     required_argument, NULL, FIRST_OPTION + CAPTURE     },
    { "on-full",     required_argument, NULL, FIRST_OPTION + ON_FULL     },
    { "buffer",      required_argument, NULL, FIRST_OPTION + BUFFER      },
    { "rotate-size", required_argument, NULL, FIRST_OPTION + ROTATE_SIZE },
    { "rotate-time", required_argument, NULL, FIRST_OPTION + ROTATE_TIME },
    { "sample",      required_argument, NULL, FIRST_OPTION + SAMPLE      },
    { "keep",        required_argument, NULL, FIRST_OPTION + KEEP        },
    { "help",        no_argument,       NULL, 'h'                        },
    { NULL, 0, NULL, 0 },
};

// By setting, NULL: not chosen.
struct options {
    const char * values[N_SETTINGS];
};

struct unit {
    const char * name;
    double       factor;
};

// As the library reads them (src/tracer/config.c): what it would not take is told before the program begins.
static const struct unit none [] = { { "", 1 }, { NULL, 0 } };
static const struct unit times[] = {
    { "", 1 }, { "s", 1 }, { "m", 60 }, { "min", 60 }, { "h", 3600 }, { "d", 86400 }, { NULL, 0 },
};
static const struct unit sizes[] = {
    { "", 1 }, { "k", 0x1p10 }, { "kib", 0x1p10 }, { "kb", 1e3 }, { "m", 0x1p20 }, { "mib", 0x1p20 }, { "mb", 1e6 },
    { "g", 0x1p30 }, { "gib", 0x1p30 }, { "gb", 1e9 }, { "t", 0x1p40 }, { "tib", 0x1p40 }, { "tb", 1e12 }, { NULL, 0 },
};

// Digits, with a point among them perhaps, and a unit. Zero is what is not asked for, whatever the range.
static bool is_number(const char * text, const struct unit * units, double min, double max) {
    const size_t n_digits = strspn(text, "0123456789");
    const size_t n_point  = text[n_digits] == '.' ? 1 : 0;
    const size_t n_more   = n_point == 0 ? 0 : strspn(text + n_digits + 1, "0123456789");
    const char * end      = text + n_digits + n_point + n_more;
    while (units->name != NULL && strcasecmp(units->name, end) != 0) {
        units++;
    }
    if (units->name == NULL || n_digits + n_more == 0) {
        return false;
    }
    const double number = strtod(text, NULL) * units->factor;
    return number == 0.0 || (number >= min && number <= max);
}

static bool is_whole_number(const char * text, double max) {
    return strchr(text, '.') == NULL && is_number(text, none, 1, max) && strtod(text, NULL) > 0;
}

static bool is_one_of(const char * text, const char * const * choices) {
    while (*choices && strcmp(text, *choices) != 0) {
        choices++;
    }
    return *choices != NULL;
}

// A file of the program's run: its standard output is its own.
static int check_file(const char * option, const char * value) {
    if (value != NULL && strcmp(value, "-") == 0) {
        return command_usage_error(&command_run, "--%s -: the standard output belongs to the program, nothing of ours is written there: name a file", option);
    }
    if (value != NULL && *value == '\0') {
        return command_usage_error(&command_run, "--%s needs the name of a file", option);
    }
    return STATUS_OK;
}

static int check_choice(const char * option, const char * value, const char * const * choices, const char * needs) {
    return value == NULL || is_one_of(value, choices) ? STATUS_OK :
        command_usage_error(&command_run, "--%s needs %s, not '%s'", option, needs, value);
}

static int check_number(const char * option, const char * value, const struct unit * units, double min, double max,
                        const char * needs) {
    return value == NULL || is_number(value, units, min, max) ? STATUS_OK :
        command_usage_error(&command_run, "--%s needs %s, not '%s'", option, needs, value);
}

static bool is_sampling(const char * text) {
    const char * seed = strchr(text, ':');
    char       * n    = seed == NULL ? memory_text("%s", text) : memory_text("%.*s", (int) (seed - text), text);
    const bool   is   = is_whole_number(n, SAMPLE_MAX) && (seed == NULL || is_whole_number(seed + 1, SEED_MAX));
    free(n);
    return is;
}

static int check_sample(const char * value) {
    return value == NULL || strcmp(value, "0") == 0 || is_sampling(value) ? STATUS_OK :
        command_usage_error(&command_run, "--sample needs a whole number: one batch in so many is recorded, "
            "or with a seed, such as 100:7; not '%s'", value);
}

static int check_both_files(const char * output, const char * routing) {
    return output == NULL || routing == NULL || strcmp(output, routing) != 0 ? STATUS_OK :
        command_usage_error(&command_run, "--output and --routing are one file, %s: name two", output);
}

static double machine_memory(void) {
    return (double) sysconf(_SC_PHYS_PAGES) * (double) sysconf(_SC_PAGESIZE);
}

// What the library checks again: here it can be told before the program begins.
static int check_options(const struct options * options) {
    static const char * const ways    [] = { "auto", "graph", "eval-callback", NULL };
    static const char * const policies[] = { "drop", "wait", NULL };
    const char * const      * value      = options->values;

    int status = check_file("output", value[OUTPUT]);
    status = status ? status : check_file  ("routing",     value[ROUTING]);
    status = status ? status : check_number("interval",    value[INTERVAL],    none,  INTERVAL_MIN, INTERVAL_MAX,
        "seconds, 0 (only at the end) or 0.1 to 86400");
    status = status ? status : check_choice("capture",     value[CAPTURE],     ways,      "auto, graph or eval-callback");
    status = status ? status : check_choice("on-full",     value[ON_FULL],     policies,  "drop or wait");
    status = status ? status : check_number("buffer",      value[BUFFER],      sizes, BUFFER_MIN, machine_memory(),
        "a size, such as 64MiB: 1MiB at least, and not more memory than the machine has");
    status = status ? status : check_number("rotate-size", value[ROTATE_SIZE], sizes, ROTATE_SIZE_MIN, ROTATE_SIZE_MAX,
        "a size, such as 1GiB: 1MiB at least");
    status = status ? status : check_number("rotate-time", value[ROTATE_TIME], times, 1, ROTATE_TIME_MAX,
        "seconds, or a time such as 90m or 1h: one second at least");
    status = status ? status : check_sample(value[SAMPLE]);
    status = status ? status : check_number("keep",        value[KEEP],        sizes, 0, 1e18, "a size, such as 10GiB");
    return status ? status : check_both_files(value[OUTPUT], value[ROUTING]);
}

// STATUS_OK, or the exit status; *help where help was asked for. The program begins at argv[optind].
static int parse_options(struct options * options, int argc, char ** argv, bool * help) {
    for (int option; (option = getopt_long(argc, argv, "+:o:r:h", known_options, NULL)) != -1;) {
        const int setting = option == 'o' ? OUTPUT : option == 'r' ? ROUTING : option - FIRST_OPTION;
        if (setting >= 0 && setting < N_SETTINGS) {
            options->values[setting] = setting < N_SWITCHES ? "1" : optarg;
        } else if (option == 'h') {
            *help = true;
            return STATUS_OK;
        } else {
            return command_option_error(&command_run, argv, option);
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
static void set_file(const char * variable, const char * file) {
    char * folder = *file == '/' ? NULL : getcwd(NULL, 0);
    if (folder == NULL || strchr(folder, '%') != NULL) {
        set_variable(variable, file);
    } else {
        char * absolute = memory_text("%s/%s", folder, file);
        set_variable(variable, absolute);
        free(absolute);
    }
    free(folder);
}

static void set_environment(const struct options * options) {
    for (int i = 0; i < N_SETTINGS; i++) {
        if (options->values[i] != NULL && (i == OUTPUT || i == ROUTING)) {
            set_file(variables[i], options->values[i]);
        } else if (options->values[i] != NULL) {
            set_variable(variables[i], options->values[i]);
        }
    }
    const bool something_else = is_set(variables[NAMES]) || is_set(variables[ROUTING]);
    const bool counts         = is_set(variables[OUTPUT]) || is_set(variables[PER_LAYER]);
    if (!is_set(variables[STATS]) && (counts || !something_else)) {
        set_variable(variables[STATS], "1");
    }
}

// 0: files can be made there.
static int why_not_into(const char * folder) {
    struct stat status;
    if (stat(folder, &status) != 0) {
        return errno;
    }
    return !S_ISDIR(status.st_mode) ? ENOTDIR : access(folder, W_OK | X_OK) != 0 ? errno : 0;
}

// Statistics and traces are for whole runs: that they cannot be written is told before a model is loaded. What of a
// path depends on the run is not known yet.
static bool check_folder(const struct options * options, enum setting setting, const char * option) {
    const char * path  = getenv(variables[setting]);
    const char * slash = path == NULL ? NULL : strrchr(path, '/');
    if (path == NULL || *path == '\0' || strcmp(path, "0") == 0) {
        return true;
    }
    char * source = options->values[setting] != NULL ? memory_text("--%s ", option)
                                                     : memory_text("%s=", variables[setting]);
    char * folder = slash == NULL ? memory_text(".")
                                  : memory_text("%.*s", (int) (slash == path ? 1 : slash - path), path);
    struct stat status;
    int why = strchr(folder, '%') == NULL ? why_not_into(folder) : 0;
    if (why != 0) {
        error_say("%s%s: nothing can be written to the folder %s: %s. Make it, or name another file", source, path, folder,
            strerror(why));
    } else if (strchr(path, '%') == NULL && stat(path, &status) == 0 && S_ISDIR(status.st_mode)) {
        error_say("%s%s: a directory: name a file in it", source, path);
        why = EISDIR;
    }
    free(folder);
    free(source);
    return why == 0;
}

static void set_preload(const char * library) {
    char * preload = library_preload(library, getenv("LD_PRELOAD"));
    set_variable("LD_PRELOAD", preload);
    free(preload);
}

// For the library (src/library/run-sign.h), which tells at the end where nothing was evaluated in all of the run. A script
// uses the low descriptors.
static void leave_sign(void) {
    struct stat status;
    int fd   = memfd_create("llama-expert-tracer-run", 0);
    int high = fd < 0 ? -1 : fcntl(fd, F_DUPFD, SIGN_DESCRIPTOR);
    high = fd >= 0 && high < 0 ? fcntl(fd, F_DUPFD, STDERR_FILENO + 1) : high;
    if (fd >= 0) {
        close(fd);
    }
    if (high >= 0 && fstat(high, &status) == 0) {
        char * sign = memory_text("%ld:%d:%ju", (long) getpid(), high, (uintmax_t) status.st_ino);
        set_variable("LLAMA_EXPERT_TRACE_SIGN", sign);
        free(sign);
    }
}

static void tell_advice(const char * advice) {
    char * line = memory_text("to do: %s", advice);
    error_more(line);
    free(line);
}

// What would run and silently trace nothing is told now; `*told` where it was. A program that may not be read can run all
// the same.
static bool check_program(const char * path, const char * library, bool * told) {
    struct program_verdict verdict;
    struct error           error;
    *told = false;
    if (!program_judge(path, library, &verdict, &error)) {
        return true;
    }
    *told = verdict.answer == PROGRAM_IN_VAIN;
    const bool can = verdict.answer != PROGRAM_CANNOT;
    if (!can) {
        error_say("%s cannot be traced: %s", verdict.path, verdict.why);
        tell_advice(verdict.advice);
    } else if (verdict.answer == PROGRAM_IN_VAIN) {
        error_warning("nothing will be traced in %s: %s", verdict.path, verdict.why);
        tell_advice(verdict.advice);
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
    bool       told;
    const bool can = check_program(path, library, &told);
    free(path);
    if (!can) {
        return STATUS_FAILED;
    }
    set_environment(options);
    if (!check_folder(options, OUTPUT, "output") || !check_folder(options, ROUTING, "routing")) {
        return STATUS_FAILED;
    }
    unsetenv("LLAMA_EXPERT_TRACE_SIGN");
    if (!told) {
        leave_sign();
    }
    set_preload(library);
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
        "      --stats              print statistics at the end (always, unless only --names or --routing is chosen)\n"
        "      --names              log the expert tensors of every activation\n"
        "      --per-layer          break the statistics down by layer\n"
        "  -o, --output FILE        write statistics to a JSON file (%p: process id, %m: model)\n"
        "      --interval SECONDS   write it every so often while the program runs, 0: at the end\n"
        "      --capture WAY        how the routing is read: graph (no device is stopped for it),\n"
        "                           eval-callback (works with everything), auto (the default)\n"
        "  -r, --routing FILE       record every routing decision (%p: process id, %m: model)\n"
        "      --weights            with gate weights\n"
        "      --tokens             with token ids. Prompts can be reconstructed from a trace without\n"
        "                           them too: guard it like the prompts, or see `pack --share`\n"
        "      --on-full WHAT       where the disk cannot keep up: drop batches (the default), or wait\n"
        "      --buffer SIZE        memory for what is not on the disk yet (32MiB)\n"
        "      --rotate-size SIZE   go on in a further file at this size\n"
        "      --rotate-time TIME   and after this time, such as 3600 or 1h\n"
        "      --sample N[:SEED]    record one batch in N, chosen at random in each row of N;\n"
        "                           the same ones again with the seed that `info` shows\n"
        "      --keep SIZE          delete the oldest files of earlier runs, so that all of FILE take no more\n"
        "  -h, --help               show this\n"
        "\n"
        "LLAMA_EXPERT_TRACE_* that are set already stay in effect. Where nothing of llama.cpp\n"
        "was evaluated in all of the run, that is said at its end.\n",
};
