// Prints the list of `ps` as a table: a line for each model of each process.

#include "commands/ps/ps-text.h"

#include "tool/table.h"

#include <inttypes.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TOKENS_PLAIN 10000000 // more are rounded

enum column { PID, USER, PROGRAM, MODEL, ENGINE, TOKENS, ON, N_COLUMNS };

static const struct table_column columns[N_COLUMNS] = {
    [PID]     = { "PID",     true,  0  },
    [USER]    = { "USER",    false, 4  },
    [PROGRAM] = { "PROGRAM", false, 8  },
    [MODEL]   = { "MODEL",   false, 8  },
    [ENGINE]  = { "ENGINE",  false, 6  },
    [TOKENS]  = { "TOKENS",  true,  0  },
    [ON]      = { "ON",      false, 12 },
};

// Whose processes they are is of interest where there are several users, or this one is root.
static bool shows_users(const struct ps_list * list) {
    bool others = geteuid() == 0;
    for (size_t i = 0; i < list->n; i++) {
        others = others || list->rows[i].user != geteuid();
    }
    return others;
}

static char * text_or_dash(const char * text) {
    return memory_text("%s", text == NULL || *text == '\0' ? "-" : text);
}

static char * user_text(uid_t user) {
    const struct passwd * entry = getpwuid(user);
    return entry == NULL ? memory_text("%lu", (unsigned long) user) : memory_text("%s", entry->pw_name);
}

// The release alone, "0.7.0" of "llama.cpp 0.7.0, ggml 0.9.0 (/usr/lib/libllama.so)", where it is told.
static char * engine_text(const char * engine) {
    static const char name[] = "llama.cpp ";
    const bool   is_known = engine != NULL && strncmp(engine, name, strlen(name)) == 0 && engine[strlen(name)] != '(';
    char       * text     = text_or_dash(is_known ? engine + strlen(name) : engine);
    text[strcspn(text, ",(")] = '\0';
    for (size_t n = strlen(text); n > 0 && text[n - 1] == ' '; n--) {
        text[n - 1] = '\0';
    }
    return text;
}

static char * tokens_text(uint64_t tokens) {
    return tokens < TOKENS_PLAIN ? memory_text("%" PRIu64, tokens) : memory_text("%.1fM", (double) tokens / 1e6);
}

static char * on_text(const struct live_status * status, const struct live_status_model * model) {
    const bool recording = model != NULL && model->recording != NULL;
    if (!status->counting && !status->names && !recording) {
        return memory_text("%s", live_status_is_recording(status) ? "-" : "dormant");
    }
    const char * names = status->names ? "names" : "";
    return memory_text("%s%s%s%s%s", status->counting ? "counting" : "", status->counting && status->names ? "," : "",
                       names, (status->counting || status->names) && recording ? "," : "", recording ? "trace" : "");
}

//
// rows
//

struct listing {
    struct table * table;
    bool           users; // has the column
};

// Takes the texts.
static void add_row(const struct listing * listing, char ** texts) {
    char * shown[N_COLUMNS];
    size_t n = 0;
    for (size_t i = 0; i < N_COLUMNS; i++) {
        if (i != USER || listing->users) {
            shown[n++] = texts[i];
        } else {
            free(texts[i]);
        }
    }
    table_row(listing->table, shown);
}

static void add_process(const struct listing * listing, const struct ps_row * row, const char * program, char * model,
                        char * engine, char * tokens, char * on) {
    char * texts[N_COLUMNS] = {
        [PID]     = row->pid > 0 ? memory_text("%ld", (long) row->pid) : memory_text("-"),
        [USER]    = user_text(row->user),
        [PROGRAM] = text_or_dash(program),
        [MODEL]   = model, [ENGINE] = engine, [TOKENS] = tokens, [ON] = on,
    };
    add_row(listing, texts);
}

static void add_model(const struct listing * listing, const struct ps_row * row,
                      const struct live_status_model * model) {
    add_process(listing, row, row->status->program, text_or_dash(model->name), engine_text(model->engine),
                tokens_text(model->tokens), on_text(row->status, model));
    if (model->recording != NULL) {
        table_note(listing->table, memory_text("  trace: %s", model->recording));
    }
}

// Takes the text.
static void add_without_model(const struct listing * listing, const struct ps_row * row, const char * program,
                              char * on) {
    add_process(listing, row, program, text_or_dash(NULL), text_or_dash(NULL), text_or_dash(NULL), on);
}

static void add_models(const struct listing * listing, const struct ps_row * row) {
    for (size_t i = 0; i < row->status->n_models; i++) {
        add_model(listing, row, &row->status->models[i]);
    }
    if (row->status->n_models == 0) {
        add_without_model(listing, row, row->status->program, on_text(row->status, NULL));
    }
    if (row->pid <= 0) { // it is in a container, and has this name for `ctl`
        table_note(listing->table, memory_text("  name: %s", row->process->name.text));
    }
}

static void add_other(const struct listing * listing, const struct ps_row * row) {
    add_without_model(listing, row, row->process->program, text_or_dash(row->error != NULL ? "?" : NULL));
    if (row->error != NULL) {
        table_note(listing->table, memory_text("  %s: %s", row->process->name.text, row->error));
    }
}

static bool shows_nothing(const struct ps_row * row) {
    return row->process->directory < 0;
}

static void print_advice(const struct ps_list * list, const struct terminal * terminal) {
    bool any    = false;
    bool traced = false;
    for (size_t i = 0; i < list->n; i++) {
        any    = any    || live_process_is_attachable(list->rows[i].process);
        traced = traced || (shows_nothing(&list->rows[i]) && list->rows[i].process->is_traced);
    }
    if (any || traced) {
        fputc('\n', terminal->out);
    }
    if (any) {
        terminal_paragraph(terminal, "What has - can be traced as it runs, by `llama-expert-tracer attach PID`, or "
                                     "from its beginning, by `llama-expert-tracer run`.");
    }
    if (traced) {
        terminal_paragraph(terminal, "Where the tracer is loaded and shows nothing, it was detached, or "
                                     "LLAMA_EXPERT_TRACE_LIVE=1 was not set when the program began.");
    }
}

void ps_text_print(const struct ps_list * list, const struct terminal * terminal) {
    struct table_column shown[N_COLUMNS];
    size_t              n     = 0;
    const bool          users = shows_users(list);
    if (list->n == 0) {
        terminal_paragraph(terminal, "Nothing is traced, and no program has llama.cpp loaded: start one with "
                                     "`llama-expert-tracer run PROGRAM`.");
        return;
    }
    for (size_t i = 0; i < N_COLUMNS; i++) {
        if (i != USER || users) {
            shown[n++] = columns[i];
        }
    }
    const struct listing listing = { table_new(shown, n), users };
    for (size_t i = 0; i < list->n; i++) {
        if (list->rows[i].status != NULL) {
            add_models(&listing, &list->rows[i]);
        } else {
            add_other(&listing, &list->rows[i]);
        }
    }
    table_print(listing.table, terminal);
    table_free(listing.table);
    print_advice(list, terminal);
}
