// `run`: becomes the program, with the tracer preloaded and its settings in the environment.

#include "base/quantity.h"
#include "commands/commands.h"
#include "tool/error.h"
#include "tool/launch/preload.h"
#include "tool/launch/program-path.h"
#include "tool/launch/program.h"
#include "tool/options.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define INTERVAL_MIN     0.1 // the library takes no less, but 0
#define INTERVAL_MAX 86400.0 // and no more
#define BUFFER_MIN      0x1p20
#define ROTATE_SIZE_MIN 0x1p20
#define ROTATE_SIZE_MAX 0x1p60
#define ROTATE_TIME_MAX 1e9
#define KEEP_MAX        1e18
#define SAMPLE_MAX      1e15
#define SEED_MAX        0x1p53
#define HOTTEST_MAX      1000
#define HOTTEST_DEFAULT  "20"
#define SIGN_DESCRIPTOR  100 // or above
#define LIVE_VARIABLE    "LLAMA_EXPERT_TRACE_LIVE"

// What `run` passes on, each in a variable of its own.
enum setting {
    STATS, NAMES, PER_LAYER, WEIGHTS, TOKENS, QUIET, DORMANT, N_SWITCHES,
    OUTPUT = N_SWITCHES, ROUTING, INTERVAL, CAPTURE, ON_FULL, BUFFER, ROTATE_SIZE, ROTATE_TIME, SAMPLE, KEEP, HOTTEST,
    N_SETTINGS
};

static const char * const variables[N_SETTINGS] = {
    [STATS]       = "LLAMA_EXPERT_TRACE_STATS",
    [NAMES]       = "LLAMA_EXPERT_TRACE_NAMES",
    [PER_LAYER]   = "LLAMA_EXPERT_TRACE_PER_LAYER",
    [WEIGHTS]     = "LLAMA_EXPERT_TRACE_WEIGHTS",
    [TOKENS]      = "LLAMA_EXPERT_TRACE_TOKENS",
    [QUIET]       = "LLAMA_EXPERT_TRACE_QUIET",
    [DORMANT]     = "LLAMA_EXPERT_TRACE_DORMANT",
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
    [HOTTEST]     = "LLAMA_EXPERT_TRACE_HOTTEST",
};

// By setting.
struct options {
    bool         switches[N_SWITCHES];
    const char * values[N_SETTINGS]; // NULL: not chosen
    bool         hides;              // not shown while it runs
};

//
// the options: what the library would not take is refused before the program begins
//

// A file of the program's run: its standard output is its own.
static bool take_file(const char * option, const char * text, const char ** place, struct error * error) {
    *place = text;
    if (strcmp(text, "-") == 0) {
        return error_set(error, "--%s -: the standard output belongs to the program, nothing of ours is written there: "
            "name a file", option);
    }
    return *text != '\0' || error_set(error, "--%s needs the name of a file", option);
}

static bool take_output(const char * text, void * place, struct error * error) {
    return take_file("output", text, place, error);
}

static bool take_routing(const char * text, void * place, struct error * error) {
    return take_file("routing", text, place, error);
}

// Zero is what is not asked for, whatever the range.
static bool take_number(const char * text, const char ** place, const struct quantity_unit * units, double min,
                        double max) {
    const double number = quantity_parse(text, units);
    *place = text;
    return number == 0.0 || (number >= min && number <= max);
}

static bool take_interval(const char * text, void * place, struct error * error) {
    (void) error;
    return take_number(text, place, quantity_plain, INTERVAL_MIN, INTERVAL_MAX);
}

static bool take_buffer(const char * text, void * place, struct error * error) {
    (void) error;
    const double memory = (double) sysconf(_SC_PHYS_PAGES) * (double) sysconf(_SC_PAGESIZE);
    return take_number(text, place, quantity_sizes, BUFFER_MIN, memory);
}

static bool take_rotate_size(const char * text, void * place, struct error * error) {
    (void) error;
    return take_number(text, place, quantity_sizes, ROTATE_SIZE_MIN, ROTATE_SIZE_MAX);
}

static bool take_rotate_time(const char * text, void * place, struct error * error) {
    (void) error;
    return take_number(text, place, quantity_times, 1, ROTATE_TIME_MAX);
}

static bool take_keep(const char * text, void * place, struct error * error) {
    (void) error;
    return take_number(text, place, quantity_sizes, 0, KEEP_MAX);
}

static bool take_hottest(const char * text, void * place, struct error * error) {
    (void) error;
    return take_number(text, place, quantity_plain, 1, HOTTEST_MAX);
}

static bool take_sample(const char * text, void * place, struct error * error) {
    uint64_t n;
    uint64_t seed;
    *(const char **) place = text;
    return strcmp(text, "0") == 0 || quantity_seeded(text, SAMPLE_MAX, SEED_MAX, &n, &seed)
        || error_set(error, "--sample needs a whole number: one batch in so many is recorded, or with a seed, such as "
               "100:7; not '%s'", text);
}

static const struct option_choice ways[] = {
    { "auto", NULL }, { "graph", NULL }, { "eval-callback", NULL }, { 0 },
};
static const struct option_choice policies[] = { { "drop", NULL }, { "wait", NULL }, { 0 } };

static const struct option_spec options_known[] = {
    { 0, "stats", OPTION_ON, OPTION_AT(switches[STATS]),
      .help = "print statistics when the model is freed or the program ends (always, unless only --names or "
              "--routing is chosen)" },
    { 0, "names", OPTION_ON, OPTION_AT(switches[NAMES]), .help = "log the expert tensors of every activation" },
    { 0, "per-layer", OPTION_ON, OPTION_AT(switches[PER_LAYER]), .help = "break the statistics down by layer" },
    { 0, "hottest", OPTION_TEXT, OPTION_AT(values[HOTTEST]), .value = "N", .take = take_hottest,
      .expects = "needs a number of experts, 1 to 1000, or 0 for all",
      .help    = "of each layer print the N hottest experts, where --output has all of them (default: 20; 0: all)" },
    { 'q', "quiet", OPTION_ON, OPTION_AT(switches[QUIET]),
      .help = "print nothing of the tracer's but what goes wrong, and names with --names" },
    { 0, "dormant", OPTION_ON, OPTION_AT(switches[DORMANT]),
      .help = "count nothing, at next to no cost, until `llama-expert-tracer ctl PID start` asks for it" },
    { 0, "no-live", OPTION_ON, OPTION_AT(hides),
      .help = "do not let `ps`, `ctl` and `serve` see it while it runs" },
    { 'o', "output", OPTION_FILE, OPTION_AT(values[OUTPUT]), .value = "FILE", .take = take_output,
      .help = "write statistics to a JSON file (%p: process id, %m: model)" },
    { 0, "interval", OPTION_TEXT, OPTION_AT(values[INTERVAL]), .value = "SECONDS", .take = take_interval,
      .expects = "needs seconds, 0 (only at the end) or 0.1 to 86400",
      .help    = "write it every so often while the program runs (0.1 to 86400; 0: only at the end; default: 10)" },
    { 0, "capture", OPTION_WORD, OPTION_AT(values[CAPTURE]), .value = "WAY", .choices = ways,
      .expects = "needs auto, graph or eval-callback",
      .help    = "how the routing is read: graph (no device is stopped for it), eval-callback (waits for the device "
                 "in every MoE layer, and works with everything), auto (the default: the first where it is possible)" },
    { 'r', "routing", OPTION_FILE, OPTION_AT(values[ROUTING]), .value = "FILE", .take = take_routing,
      .help = "record every routing decision, in a trace for each model (%p: process id, %m: model)" },
    { 0, "weights", OPTION_ON, OPTION_AT(switches[WEIGHTS]), .help = "with gate weights" },
    { 0, "tokens", OPTION_ON, OPTION_AT(switches[TOKENS]),
      .help = "with token ids. Prompts can be reconstructed from a trace without them too: guard it like the "
              "prompts, or see `pack --share`" },
    { 0, "on-full", OPTION_WORD, OPTION_AT(values[ON_FULL]), .value = "WHAT", .choices = policies,
      .expects = "needs drop or wait",
      .help    = "where the disk cannot keep up: drop what remains of a batch, after a few milliseconds, and count "
                 "it (the default), or wait" },
    { 0, "buffer", OPTION_TEXT, OPTION_AT(values[BUFFER]), .value = "SIZE", .take = take_buffer,
      .expects = "needs a size, such as 64MiB: 1MiB at least, and not more memory than the machine has",
      .help    = "memory for what is not on the disk yet (default: 32MiB; 1MiB at least)" },
    { 0, "rotate-size", OPTION_TEXT, OPTION_AT(values[ROTATE_SIZE]), .value = "SIZE", .take = take_rotate_size,
      .expects = "needs a size, such as 1GiB: 1MiB at least",
      .help    = "go on in a further file at this size" },
    { 0, "rotate-time", OPTION_TEXT, OPTION_AT(values[ROTATE_TIME]), .value = "TIME", .take = take_rotate_time,
      .expects = "needs seconds, or a time such as 90m or 1h: one second at least",
      .help    = "go on in a further file after this time, such as 3600, 90m or 1h" },
    { 0, "sample", OPTION_TEXT, OPTION_AT(values[SAMPLE]), .value = "N[:SEED]", .take = take_sample,
      .help = "record one batch in N, chosen at random in each row of N; the same ones again with the seed that "
              "`info` shows" },
    { 0, "keep", OPTION_TEXT, OPTION_AT(values[KEEP]), .value = "SIZE", .take = take_keep,
      .expects = "needs a size, such as 10GiB",
      .help    = "delete the oldest files of earlier runs, so that all of FILE take no more" },
    { 0 },
};

static int check_both_files(const char * output, const char * routing) {
    return output == NULL || routing == NULL || strcmp(output, routing) != 0 ? STATUS_OK :
        command_usage_error(&command_run, "--output and --routing are one file, %s: name two", output);
}

// False: *status is the exit status, and why is told. *argv is the program with its arguments.
static bool parse_options(struct options * options, int argc, char *** argv, int * status) {
    if (!options_parse(&command_run, options, &argc, argv, status)) {
        return false;
    }
    *status = argc == 0 ? command_usage_error(&command_run, "which program?")
                        : check_both_files(options->values[OUTPUT], options->values[ROUTING]);
    return *status == STATUS_OK;
}

//
// the environment
//

// False, and why is told, where there is no room for it.
static bool set_variable(const char * name, const char * value) {
    if (setenv(name, value, 1) != 0) {
        error_say("%s cannot be set: %s", name, strerror(errno));
        return false;
    }
    return true;
}

// Takes the value over.
static bool set_variable_free(const char * name, char * value) {
    const bool ok = set_variable(name, value);
    free(value);
    return ok;
}

static bool is_set(const char * name) {
    const char * value = getenv(name);
    return value != NULL && *value != '\0';
}

// A program may go elsewhere before it writes: the file belongs where its name was typed. The folder's own name
// must not be taken for one of the placeholders (%p, %m) that the file's name can have.
static bool set_file(const char * variable, const char * file) {
    char     * folder = *file == '/' ? NULL : getcwd(NULL, 0);
    const bool plain  = folder == NULL || strchr(folder, '%') != NULL;
    const bool ok     = plain ? set_variable(variable, file)
                              : set_variable_free(variable, memory_text("%s/%s", folder, file));
    free(folder);
    return ok;
}

static bool set_setting(const struct options * options, int i) {
    if (i < N_SWITCHES) {
        return !options->switches[i] || set_variable(variables[i], "1");
    }
    if (options->values[i] == NULL) {
        return true;
    }
    return (i == OUTPUT || i == ROUTING ? set_file : set_variable)(variables[i], options->values[i]);
}

static bool set_environment(const struct options * options) {
    for (int i = 0; i < N_SETTINGS; i++) {
        if (!set_setting(options, i)) {
            return false;
        }
    }
    if (getenv(variables[HOTTEST]) == NULL && !set_variable(variables[HOTTEST], HOTTEST_DEFAULT)) {
        return false;
    }
    if (!options->hides && getenv(LIVE_VARIABLE) == NULL && !set_variable(LIVE_VARIABLE, "1")) {
        return false;
    }
    const bool something_else = is_set(variables[NAMES]) || is_set(variables[ROUTING]);
    const bool counts         = is_set(variables[OUTPUT]) || is_set(variables[PER_LAYER]);
    return is_set(variables[STATS]) || (!counts && something_else) || set_variable(variables[STATS], "1");
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
        error_say("%s%s: nothing can be written to the folder %s: %s. Make it, or name another file", source, path,
                  folder,
            strerror(why));
    } else if (strchr(path, '%') == NULL && stat(path, &status) == 0 && S_ISDIR(status.st_mode)) {
        error_say("%s%s: a directory: name a file in it", source, path);
        why = EISDIR;
    }
    free(folder);
    free(source);
    return why == 0;
}

// For the library (src/library/run-sign.h), which reports at the end where nothing was evaluated in all of the run. A
// script uses the low descriptors.
static bool leave_sign(void) {
    struct stat status;
    int fd   = memfd_create("llama-expert-tracer-run", 0);
    int high = fd < 0 ? -1 : fcntl(fd, F_DUPFD, SIGN_DESCRIPTOR);
    high = fd >= 0 && high < 0 ? fcntl(fd, F_DUPFD, STDERR_FILENO + 1) : high;
    if (fd >= 0) {
        close(fd);
    }
    return high < 0 || fstat(high, &status) != 0 || set_variable_free("LLAMA_EXPERT_TRACE_SIGN",
        memory_text("%ld:%d:%ju", (long) getpid(), high, (uintmax_t) status.st_ino));
}

static void tell_advice(const char * advice) {
    char * line = memory_text("to do: %s", advice);
    error_more(line);
    free(line);
}

// What would run and silently trace nothing is told now; `*told` where it was. A program that may not be read can run
// all the same.
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
    if (!set_environment(options) || !check_folder(options, OUTPUT, "output")
        || !check_folder(options, ROUTING, "routing")) {
        return STATUS_FAILED;
    }
    unsetenv("LLAMA_EXPERT_TRACE_SIGN");
    if ((!told && !leave_sign()) || !set_variable_free("LD_PRELOAD", library_preload(library, getenv("LD_PRELOAD")))) {
        return STATUS_FAILED;
    }
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
    int            status;
    if (!parse_options(&options, argc, &argv, &status)) {
        return status;
    }
    if (options.switches[DORMANT] && (options.hides || options.switches[NAMES] || options.values[ROUTING] != NULL)) {
        return command_usage_error(&command_run, "--dormant begins with everything off, until `ctl` starts it: without "
            "--no-live, --names and --routing. `ctl` has `names on` and `record FILE`");
    }
    return run(&options, argv);
}

const struct command command_run = {
    .name      = "run",
    .summary   = "runs a program and traces the llama.cpp in it",
    .usage     = "[OPTION]… [--] PROGRAM [ARGUMENT]…",
    .about     = "Runs the program with the tracer in it. It stays what it is: same input and output, same exit "
                 "status, same process.",
    .options   = options_known,
    .notes     = "LLAMA_EXPERT_TRACE_* that are set already stay in effect where no option says otherwise. Where "
                 "nothing of llama.cpp was evaluated in all of the run, that is said at its end.",
    .operand   = COMMAND_OPERAND_PROGRAM,
    .passes_on = true,
    .main      = run_main,
};
