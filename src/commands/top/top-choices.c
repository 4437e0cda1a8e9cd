// Finds the processes, and asks each which models it has.

#include "commands/top/top-choices.h"

#include "commands/traced-process.h"
#include "live/live-status.h"

#include <stdlib.h>

static char * text_of_client(const struct live_client * client, pid_t pid) {
    struct error         error;
    struct live_status * status = live_status_ask(client, &error);
    char               * text   = traced_process_text(client, pid > 0 ? pid : client->pid);
    for (size_t i = 0; status != NULL && i < status->n_models; i++) {
        const char * name = status->models[i].name;
        text = memory_append(text, memory_text("%s %s", i == 0 ? " " : ",", name == NULL ? "name unknown" : name));
    }
    live_status_free(status);
    return text;
}

static char * text_of(const struct live_process * process) {
    struct live_client client;
    struct error       error;
    if (!live_client_open(&client, process->directory, &process->name, &error)) {
        return memory_text("%s: %s", process->name.text, error.text);
    }
    char * text = text_of_client(&client, process->pid);
    live_client_close(&client);
    return text;
}

void top_choices_find(struct top_choices * choices) {
    live_processes_find(&choices->processes, false);
    choices->texts = memory_new(choices->processes.n, sizeof(*choices->texts));
    for (size_t i = 0; i < choices->processes.n; i++) {
        choices->texts[i] = text_of(&choices->processes.all[i]);
    }
}

void top_choices_free(struct top_choices * choices) {
    for (size_t i = 0; i < choices->processes.n; i++) {
        free(choices->texts[i]);
    }
    free(choices->texts);
    live_processes_free(&choices->processes);
    *choices = (struct top_choices) { 0 };
}
