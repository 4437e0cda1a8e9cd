// The command `ps`: processes that are traced, or could be, as a table or JSON.

#include "commands/commands.h"
#include "commands/live-json.h"
#include "commands/ps/ps-list.h"
#include "commands/ps/ps-text.h"
#include "tool/error.h"
#include "tool/json-output.h"
#include "tool/json-values.h"
#include "tool/options.h"
#include "tool/terminal.h"

struct options {
    bool                json;
    enum terminal_color color;
};

static const struct option_spec options_known[] = {
    { 0, "json", OPTION_ON, OPTION_AT(json), .help = "all of it as JSON" },
    TERMINAL_COLOR_OPTION(color),
    { 0 },
};

static json_t * json_row(const struct ps_row * row) {
    const struct live_process * process = row->process;
    const bool                  shown   = process->directory >= 0;
    const char                * program = row->status != NULL ? row->status->program : process->program;
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:b, s:o, s:o}",
                     "pid",     row->pid > 0 ? json_integer(row->pid) : json_null(),
                     "user",    json_value_count(row->user),
                     "program", json_value_text(program),
                     "name",    json_value_text(shown ? process->name.text : NULL),
                     "folder",  json_value_text(process->folder),
                     "traced",  shown || process->is_traced,
                     "error",   json_value_text(row->error),
                     "status",  live_json_status(row->status));
}

static void print_json(const struct ps_list * list) {
    json_t * rows = json_array();
    for (size_t i = 0; i < list->n; i++) {
        json_array_append_new(rows, json_row(&list->rows[i]));
    }
    json_t * json = json_pack("{s:i, s:o}", "llama_expert_tracer_ps", 1, "processes", rows);
    json_output_put(stdout, json, JSON_INDENT(2));
    json_decref(json);
}

static int ps_main(int argc, char ** argv) {
    struct options options = { 0 };
    struct ps_list list;
    int            status;
    if (!options_parse(&command_ps, &options, &argc, &argv, &status)) {
        return status;
    }
    if (argc > 0) {
        return command_usage_error(&command_ps, "what is '%s'? ps takes no argument", argv[0]);
    }
    ps_list_make(&list);
    if (options.json) {
        print_json(&list);
    } else {
        const struct terminal terminal = terminal_of(stdout, options.color);
        ps_text_print(&list, &terminal);
    }
    ps_list_free(&list);
    return STATUS_OK;
}

const struct command command_ps = {
    .name    = "ps",
    .summary = "lists processes that are traced, or could be",
    .usage   = "[--json]",
    .about   = "Lists the processes of this user that are traced and can be steered, a line for each model, and those "
               "that have llama.cpp loaded and could be traced. Root sees everybody's, and those in containers.",
    .options = options_known,
    .notes   = "ON is what the tracer does: counting, names (log each tensor), trace (record the routing), or dormant. "
               "A process is looked for in $XDG_RUNTIME_DIR/llama-expert-tracer, in /tmp/llama-expert-tracer-UID and "
               "in /proc; where LLAMA_EXPERT_TRACE_LIVE names a folder, in that folder alone.",
    .operand = COMMAND_OPERAND_WORD,
    .words   = (const char * const []) { NULL },
    .main    = ps_main,
};
