// The command `ctl`: steers running tracers. Finds the processes that are meant, gives each the order, and prints what
// came of it as text or JSON.

#include "base/quantity.h"
#include "commands/commands.h"
#include "commands/ctl/ctl-order.h"
#include "commands/ctl/ctl-text.h"
#include "commands/live-json.h"
#include "commands/traced-process.h"
#include "live/live-processes.h"
#include "tool/error.h"
#include "tool/json-output.h"
#include "tool/json-values.h"
#include "tool/options.h"
#include "tool/terminal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INTERVAL_MIN     0.1 // the library takes no less, but 0
#define INTERVAL_MAX 86400.0 // and no more
#define ROTATE_SIZE_MIN 0x1p20
#define ROTATE_TIME_MIN  1.0
#define LARGEST         1e18

struct options {
    bool                all;
    bool                json;
    enum terminal_color color;
    struct ctl_order    order;
    const char        * who; // a number of a process, or a name; NULL with `all`
};

//
// the command line
//

static bool take_quantity(const char * text, void * place, const struct quantity_unit * units, double min) {
    const double number = quantity_parse(text, units);
    *(double *) place = number;
    return number >= min && number <= LARGEST;
}

static bool take_rotate_size(const char * text, void * place, struct error * error) {
    (void) error;
    return take_quantity(text, place, quantity_sizes, ROTATE_SIZE_MIN);
}

static bool take_rotate_time(const char * text, void * place, struct error * error) {
    (void) error;
    return take_quantity(text, place, quantity_times, ROTATE_TIME_MIN);
}

static bool take_keep(const char * text, void * place, struct error * error) {
    (void) error;
    return take_quantity(text, place, quantity_sizes, 1);
}

static const struct option_spec options_known[] = {
    { 'a', "all", OPTION_ON, OPTION_AT(all), .help = "every process that `ps` lists and that can be steered" },
    { 0, "model", OPTION_TEXT, OPTION_AT(order.model), .value = "MODEL",
      .help = "the model of the process, by its number or its name (see `status`); not needed where there is one" },
    { 0, "weights", OPTION_ON, OPTION_AT(order.weights), .help = "record: with gate weights" },
    { 0, "tokens", OPTION_ON, OPTION_AT(order.tokens),
      .help = "record: with token ids. Prompts can be reconstructed from a trace without them too: guard it like the "
              "prompts, or see `pack --share`" },
    { 0, "rotate-size", OPTION_TEXT, OPTION_AT(order.rotate_size), .value = "SIZE", .take = take_rotate_size,
      .expects = "needs a size, such as 1GiB: 1MiB at least",
      .help    = "record: go on in a further file at this size. The process itself makes the files then, where FILE "
                 "leads in its own file system" },
    { 0, "rotate-time", OPTION_TEXT, OPTION_AT(order.rotate_time), .value = "TIME", .take = take_rotate_time,
      .expects = "needs seconds, or a time such as 90m or 1h: one second at least",
      .help    = "record: likewise after this time, such as 3600, 90m or 1h" },
    { 0, "keep", OPTION_TEXT, OPTION_AT(order.keep), .value = "SIZE", .take = take_keep,
      .expects = "needs a size, such as 10GiB",
      .help    = "record: delete the oldest files of FILE, so that all of them take no more" },
    { 'f', "force", OPTION_ON, OPTION_AT(order.force), .help = "dump, record: FILE replaces whatever is there" },
    { 0, "json", OPTION_ON, OPTION_AT(json), .help = "what came of it as JSON" },
    TERMINAL_COLOR_OPTION(color),
    { 0 },
};

enum argument { NO_ARGUMENT, A_FILE, ON_OR_OFF, SECONDS };

static const struct verb {
    const char  * name;
    enum argument argument;
} verbs[N_CTL_VERBS] = {
    [CTL_STATUS]      = { "status",      NO_ARGUMENT },
    [CTL_START]       = { "start",       NO_ARGUMENT },
    [CTL_STOP]        = { "stop",        NO_ARGUMENT },
    [CTL_RESET]       = { "reset",       NO_ARGUMENT },
    [CTL_DUMP]        = { "dump",        A_FILE      },
    [CTL_RECORD]      = { "record",      A_FILE      },
    [CTL_RECORD_STOP] = { "record stop", NO_ARGUMENT }, // two words
    [CTL_NAMES]       = { "names",       ON_OR_OFF   },
    [CTL_INTERVAL]    = { "interval",    SECONDS     },
};

static int take_on_or_off(struct ctl_order * order, const char * text) {
    order->on = strcmp(text, "on") == 0;
    return order->on || strcmp(text, "off") == 0 ? STATUS_OK
        : command_usage_error(&command_ctl, "names on, or names off, not '%s'", text);
}

static int take_seconds(struct ctl_order * order, const char * text) {
    order->interval = quantity_parse(text, quantity_plain);
    return order->interval == 0.0 || (order->interval >= INTERVAL_MIN && order->interval <= INTERVAL_MAX) ? STATUS_OK
        : command_usage_error(&command_ctl, "interval needs seconds, 0 (only at the end) or 0.1 to 86400, not '%s'",
                              text);
}

static int take_file(struct ctl_order * order, const char * text) {
    order->file = text;
    return *text != '\0' ? STATUS_OK
        : command_usage_error(&command_ctl, "%s needs the name of a file", verbs[order->verb].name);
}

static int take_argument(struct ctl_order * order, char ** words, int n) {
    const struct verb * verb   = &verbs[order->verb];
    const int           needed = verb->argument == NO_ARGUMENT ? 0 : 1;
    if (n != needed) {
        return n > needed ? command_usage_error(&command_ctl, "what is '%s'?", words[needed])
             : verb->argument == A_FILE    ? command_usage_error(&command_ctl, "%s: which file?", verb->name)
             : verb->argument == ON_OR_OFF ? command_usage_error(&command_ctl, "names on, or names off?")
                                           : command_usage_error(&command_ctl, "interval: how many seconds?");
    }
    switch (verb->argument) {
        case A_FILE:    return take_file(order, words[0]);
        case ON_OR_OFF: return take_on_or_off(order, words[0]);
        case SECONDS:   return take_seconds(order, words[0]);
        default:        return STATUS_OK;
    }
}

static int take_verb(struct ctl_order * order, char ** words, int n) {
    if (n == 0) {
        return command_usage_error(&command_ctl, "what is to be done? status, start, stop, reset, dump, record, names "
                                                 "or interval");
    }
    if (strcmp(words[0], "record") == 0 && n > 1 && strcmp(words[1], "stop") == 0) {
        order->verb = CTL_RECORD_STOP;
        return take_argument(order, words + 2, n - 2);
    }
    for (int verb = 0; verb < N_CTL_VERBS; verb++) {
        if (strcmp(words[0], verbs[verb].name) == 0) {
            order->verb = (enum ctl_verb) verb;
            return take_argument(order, words + 1, n - 1);
        }
    }
    return command_usage_error(&command_ctl, "unknown order '%s': status, start, stop, reset, dump, record, names or "
                                             "interval", words[0]);
}

static int check_options(const struct options * options) {
    const struct ctl_order * order   = &options->order;
    const bool               records = order->weights || order->tokens || order->rotate_size > 0 ||
                                       order->rotate_time > 0 || order->keep > 0;
    const bool               rotates = order->rotate_size > 0 || order->rotate_time > 0 || order->keep > 0;
    if (records && order->verb != CTL_RECORD) {
        return command_usage_error(&command_ctl, "--weights, --tokens, --rotate-size, --rotate-time and --keep belong "
                                                 "to `record FILE`");
    }
    if (order->force && order->file == NULL) {
        return command_usage_error(&command_ctl, "--force belongs to `dump FILE` and `record FILE`");
    }
    if (order->force && rotates) {
        return command_usage_error(&command_ctl, "files that follow each other replace none: leave out --force");
    }
    if (options->json && order->file != NULL && strcmp(order->file, "-") == 0) {
        return command_usage_error(&command_ctl, "the standard output takes --json or the statistics: name a file");
    }
    return STATUS_OK;
}

static int take_words(struct options * options, char ** words, int n) {
    if (!options->all && (n == 0 || !traced_process_is_word(words[0]))) {
        return n == 0 ? command_usage_error(&command_ctl, "which process? Its number, as `ps` lists it, or --all")
            : command_usage_error(&command_ctl, "'%s' is no number of a process: see `ps`, or give --all", words[0]);
    }
    if (options->all && n > 0 && traced_process_is_word(words[0])) {
        return command_usage_error(&command_ctl, "one process, or --all: not both");
    }
    options->who = options->all ? NULL : words[0];
    const int skip   = options->all ? 0 : 1;
    const int status = take_verb(&options->order, words + skip, n - skip);
    return status == STATUS_OK ? check_options(options) : status;
}

//
// the processes
//

// What is done, printed or collected.
struct round {
    const struct options * options;
    struct terminal        terminal;
    json_t               * results; // NULL: text is printed
    int                    n;       // processes so far
    int                    status;
};

static json_t * json_holds(const struct ctl_result * result) {
    json_t * array = json_array();
    for (size_t i = 0; i < result->n_holds; i++) {
        const struct ctl_hold * hold = &result->holds[i];
        json_array_append_new(array, json_pack("{s:o, s:o, s:o}", "model", json_value_count(hold->model),
                                               "context", json_value_count(hold->context),
                                               "ubatch",  json_value_number(hold->ubatch)));
    }
    return array;
}

// `result` NULL: it was not done.
static void collect(struct round * round, const struct live_name * name, pid_t pid, const struct ctl_result * result,
                    const char * error) {
    const bool dumped = result != NULL && round->options->order.verb == CTL_DUMP;
    json_array_append_new(round->results, json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
        "pid",    pid > 0 ? json_integer(pid) : json_null(),
        "name",   json_value_text(name->text),
        "error",  json_value_text(error),
        "holds",  result != NULL && result->has_holds ? json_holds(result) : json_null(),
        "bytes",  dumped ? json_value_count(result->bytes) : json_null(),
        "path",   json_value_text(result != NULL ? result->path : NULL),
        "status", live_json_status(result != NULL ? result->status : NULL)));
}

static void report_failure(struct round * round, const struct live_name * name, pid_t pid, const char * who,
                           const char * error) {
    round->status = STATUS_FAILED;
    if (round->results != NULL) {
        collect(round, name, pid, NULL, error);
    }
    error_say("%s: %s", who, error);
}

static void report_result(struct round * round, const struct live_name * name, pid_t pid, const char * who,
                          const struct ctl_result * result) {
    if (round->results != NULL) {
        collect(round, name, pid, result, NULL);
        return;
    }
    if (round->n > 0 && round->options->order.verb == CTL_STATUS) {
        fputc('\n', round->terminal.out);
    }
    ctl_text_print(&round->terminal, who, &round->options->order, result);
}

static void order_process(struct round * round, const struct live_process * process) {
    struct live_client client;
    struct ctl_result  result;
    struct error       error;
    if (!live_client_open(&client, process->directory, &process->name, &error)) {
        report_failure(round, &process->name, process->pid, process->name.text, error.text);
        return;
    }
    const pid_t pid = process->pid > 0 ? process->pid : client.pid;
    char      * who = traced_process_text(&client, pid);
    if (ctl_order_do(&round->options->order, &client, &result, &error)) {
        report_result(round, &process->name, pid, who, &result);
    } else {
        report_failure(round, &process->name, pid, who, error.text);
    }
    ctl_result_free(&result);
    live_client_close(&client);
    free(who);
}

static bool is_meant(const struct options * options, const struct live_process * process) {
    return options->all || traced_process_is_meant(process, options->who);
}

static int say_none(const struct options * options) {
    return options->all ? traced_process_say_none_at_all("steered") : traced_process_say_none(options->who);
}

// One file cannot be of several processes.
static bool is_for_one(const struct options * options, size_t n) {
    return n < 2 || options->order.file == NULL;
}

static void print_json(const struct round * round) {
    json_t * json = json_pack("{s:i, s:s, s:O}", "llama_expert_tracer_ctl", 1,
                              "verb", verbs[round->options->order.verb].name, "processes", round->results);
    json_output_put(stdout, json, JSON_INDENT(2));
    json_decref(json);
}

static int order_all(const struct options * options, const struct live_processes * processes) {
    struct round round = {
        .options  = options,
        .terminal = terminal_of(stdout, options->color),
        .results  = options->json ? json_array() : NULL,
        .status   = STATUS_OK,
    };
    for (size_t i = 0; i < processes->n; i++) {
        if (is_meant(options, &processes->all[i])) {
            order_process(&round, &processes->all[i]);
            round.n++;
        }
    }
    if (round.n > 0 && options->json) {
        print_json(&round);
    }
    json_decref(round.results);
    return round.n == 0 ? say_none(options) : round.status;
}

static int ctl_main(int argc, char ** argv) {
    struct options        options = { 0 };
    struct live_processes processes;
    int                   status;
    if (!options_parse(&command_ctl, &options, &argc, &argv, &status)) {
        return status;
    }
    status = take_words(&options, argv, argc);
    if (status != STATUS_OK) {
        return status;
    }
    live_processes_find(&processes, false);
    if (options.all && !is_for_one(&options, processes.n)) {
        error_say("%zu processes are traced, and a file is of one: name a process instead of --all", processes.n);
        status = STATUS_FAILED;
    } else {
        status = order_all(&options, &processes);
    }
    live_processes_free(&processes);
    return status;
}

const struct command command_ctl = {
    .name    = "ctl",
    .summary = "steers a traced process: start, stop, reset, dump, record",
    .usage   = "PID status|start|stop|reset\n"
               "PID dump [--model MODEL] [-f] FILE\n"
               "PID record [--model MODEL] [-f] [OPTION]… FILE\n"
               "PID record stop\n"
               "PID names on|off\n"
               "PID interval SECONDS\n"
               "--all status|start|…",
    .about   = "Steers a traced process while it runs. PID is its number, as `ps` lists it, or its name, such as "
               "1234-89abcdef. What holds from some batch on is printed with the number of its first ubatch: no batch "
               "is divided.\n"
               "\n"
               "  status            what the tracer does, and what it has counted\n"
               "  start, stop       go on with counting, pause\n"
               "  reset             begin to count at zero\n"
               "  dump FILE         the statistics of now, as `run --output` writes them\n"
               "  record FILE       record every routing decision from now on, as\n"
               "                    `run --routing` does\n"
               "  record stop       end that trace\n"
               "  names on|off      log the expert tensors of every activation, or not\n"
               "  interval SECONDS  write the statistics file every so often; 0: only at\n"
               "                    the end",
    .options = options_known,
    .notes   = "FILE belongs to who runs this command. `dump -` writes to the standard output.",
    .main    = ctl_main,
};
