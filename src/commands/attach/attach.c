// The commands `attach` and `detach`: tracing of processes that run already.

#include "commands/attach/attach-process.h"
#include "commands/commands.h"
#include "commands/ctl/ctl-order.h"
#include "commands/ctl/ctl-text.h"
#include "commands/traced-process.h"
#include "tool/options.h"
#include "tool/terminal.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct options {
    struct attach_order attach;
    const char        * routing; // NULL: not chosen, like the next one
    const char        * output;
    const char        * model;
    bool                weights;
    bool                tokens;
    bool                names;
    bool                force;
};

static const struct option_choice ways[] = {
    { "auto", NULL }, { "graph", NULL }, { "eval-callback", NULL }, { 0 },
};

static const struct option_spec attach_options[] = {
    { 0, "dormant", OPTION_ON, OPTION_AT(attach.dormant),
      .help = "count nothing, at next to no cost, until `ctl PID start` asks for it" },
    { 0, "names", OPTION_ON, OPTION_AT(names), .help = "log the expert tensors of every activation, in its log" },
    { 0, "capture", OPTION_WORD, OPTION_AT(attach.way), .value = "WAY", .choices = ways,
      .expects = "needs auto, graph or eval-callback", .help = "how the routing is read, as in `run`" },
    { 'r', "routing", OPTION_FILE, OPTION_AT(routing), .value = "FILE",
      .help = "record every routing decision from now on, as `ctl PID record` does; waits for the first batch" },
    { 0, "weights", OPTION_ON, OPTION_AT(weights), .help = "with gate weights" },
    { 0, "tokens", OPTION_ON, OPTION_AT(tokens),
      .help = "with token ids. Prompts can be reconstructed from a trace without them too: guard it like the prompts, "
              "or see `pack --share`" },
    { 'f', "force", OPTION_ON, OPTION_AT(force), .help = "the trace replaces whatever is at FILE" },
    { 0 },
};

static const struct option_spec detach_options[] = {
    { 'o', "output", OPTION_FILE, OPTION_AT(output), .value = "FILE",
      .help = "write the statistics of all that was counted before, as `ctl PID dump` does (-: to the standard "
              "output)" },
    { 0, "model", OPTION_TEXT, OPTION_AT(model), .value = "MODEL",
      .help = "of which model, by its number or its name; not needed where there is one" },
    { 'f', "force", OPTION_ON, OPTION_AT(force), .help = "--output replaces whatever is there" },
    { 0 },
};

static int take_pid(const struct command * command, int argc, char ** argv, pid_t * pid) {
    if (argc != 1) {
        return argc == 0 ? command_usage_error(command, "which process? Its number, as `ps` lists it")
                         : command_usage_error(command, "what is '%s'?", argv[1]);
    }
    const char * word = argv[0];
    if (*word == '\0' || strlen(word) > 9 || word[strspn(word, "0123456789")] != '\0' || atol(word) == 0) {
        return command_usage_error(command, "'%s' is no number of a process: see `ps`", word);
    }
    *pid = (pid_t) atol(word);
    return STATUS_OK;
}

// Returns whether it was done; otherwise why was said.
static bool give_order(const struct ctl_order * order, const struct live_client * client, const char * who) {
    const struct terminal terminal = terminal_of(stdout, TERMINAL_COLOR_AUTO);
    struct ctl_result     result;
    struct error          error;
    const bool            done = ctl_order_do(order, client, &result, &error);
    if (done) {
        ctl_text_print(&terminal, who, order, &result);
    } else {
        error_say("%s: %s", who, error.text);
    }
    ctl_result_free(&result);
    return done;
}

//
// attach
//

// A trace is of a model, and a model is met with the first batch that is evaluated.
static bool await_model(const struct live_client * client, const char * who) {
    struct error error;
    bool         said = false;
    for (;;) {
        struct live_status * status = live_status_ask(client, &error);
        const bool           is_met = status != NULL && status->n_models > 0;
        if (status == NULL) {
            error_say("%s: %s", who, error.text);
            return false;
        }
        live_status_free(status);
        if (is_met) {
            return true;
        }
        if (!said && isatty(STDERR_FILENO)) {
            said = true;
            error_say("waiting until it evaluates something, to record that (Ctrl-C: not to record)");
        }
        nanosleep(&(struct timespec) { 0, 100000000 }, NULL);
    }
}

static bool give_orders(const struct options * options, const struct live_client * client, const char * who) {
    const struct ctl_order names  = { .verb = CTL_NAMES, .on = true };
    const struct ctl_order record = {
        .verb = CTL_RECORD, .file = options->routing, .force = options->force, .weights = options->weights,
        .tokens = options->tokens,
    };
    return (!options->names || give_order(&names, client, who))
        && (options->routing == NULL || (await_model(client, who) && give_order(&record, client, who)));
}

static void say_attached(const struct options * options, const char * who, pid_t pid) {
    printf("%s: %s\n\n", who, options->attach.dormant ? "attached, and does nothing until it is told to"
                                                      : "counting, from the next graph on that it builds");
    printf("  llama-expert-tracer top %ld      what it routes now\n", (long) pid);
    printf("  llama-expert-tracer ctl %ld …    dump, record, stop, start, reset\n", (long) pid);
    printf("  llama-expert-tracer detach %ld   as it was before\n", (long) pid);
    fflush(stdout);
}

static int attach_main(int argc, char ** argv) {
    struct options     options = { 0 };
    struct live_client client;
    struct error       error;
    pid_t              pid;
    int                status;
    if (!options_parse(&command_attach, &options, &argc, &argv, &status) ||
        (status = take_pid(&command_attach, argc, argv, &pid)) != STATUS_OK) {
        return status;
    }
    if (options.routing == NULL && (options.weights || options.tokens || options.force)) {
        return command_usage_error(&command_attach, "--weights, --tokens and --force belong to --routing FILE");
    }
    if (!attach_process(pid, &options.attach, &client, &error)) {
        error_say("%ld: %s", (long) pid, error.text);
        return STATUS_FAILED;
    }
    char * who = traced_process_text(&client, pid);
    say_attached(&options, who, pid);
    status = give_orders(&options, &client, who) ? STATUS_OK : STATUS_FAILED;
    live_client_close(&client);
    free(who);
    return status;
}

//
// detach
//

static bool detach(const struct options * options, const struct live_client * client, const char * who) {
    const struct ctl_order dump = {
        .verb = CTL_DUMP, .file = options->output, .model = options->model, .force = options->force,
    };
    struct error error;
    if (options->output != NULL && !give_order(&dump, client, who)) {
        return false;
    }
    return attach_end(client, &error) || (error_say("%s: %s", who, error.text), false);
}

static int detach_main(int argc, char ** argv) {
    struct options     options = { 0 };
    struct live_client client;
    struct error       error;
    pid_t              pid;
    int                status;
    if (!options_parse(&command_detach, &options, &argc, &argv, &status) ||
        (status = take_pid(&command_detach, argc, argv, &pid)) != STATUS_OK) {
        return status;
    }
    if (options.output == NULL && (options.force || options.model != NULL)) {
        return command_usage_error(&command_detach, "--model and --force belong to --output FILE");
    }
    if (!attach_find(pid, &client, &error)) {
        return traced_process_say_none(argv[0]);
    }
    char     * who  = traced_process_text(&client, pid);
    const bool done = detach(&options, &client, who);
    if (done && (options.output == NULL || strcmp(options.output, "-") != 0)) {
        printf("%s: detached\n", who);
    }
    live_client_close(&client);
    free(who);
    return done ? STATUS_OK : STATUS_FAILED;
}

const struct command command_attach = {
    .name    = "attach",
    .summary = "traces a process that runs already",
    .usage   = "[OPTION]… PID",
    .about   = "Brings the tracer into a running process that uses llama.cpp: nothing is restarted, and no answer "
               "changes. What it routes is counted from the next graph on that it builds. `top`, `ctl` and `serve` "
               "work as with a process that `run` has started; `detach` takes the tracer out again. "
               "docs/attach.md tells how, and what is not known of what was there before.",
    .options = attach_options,
    .notes   = "It takes the right to debug the process: as its user where /proc/sys/kernel/yama/ptrace_scope is 0, or "
               "as root. x86-64 and glibc.",
    .operand = COMMAND_OPERAND_WORD,
    .words   = (const char * const []) { NULL },
    .main    = attach_main,
};

const struct command command_detach = {
    .name    = "detach",
    .summary = "takes the tracer out of a process that it was attached to",
    .usage   = "[-o FILE] PID",
    .about   = "Ends what `attach` began: what was recorded is whole, and the process runs as it did before. The "
               "library stays in it and does nothing; it can be attached to again.",
    .options = detach_options,
    .operand = COMMAND_OPERAND_WORD,
    .words   = (const char * const []) { NULL },
    .main    = detach_main,
};
