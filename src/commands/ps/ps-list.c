// Asks every running tracer for its status.

#include "commands/ps/ps-list.h"

#include <stdlib.h>

static void ask(struct ps_row * row, struct live_client * client) {
    struct error error;
    row->pid    = row->pid > 0 ? row->pid : client->pid;
    row->user   = client->user;
    row->status = live_status_ask(client, &error);
    row->error  = row->status == NULL ? memory_text("%s", error.text) : NULL;
    live_client_close(client);
}

static void fill(struct ps_row * row, const struct live_process * process) {
    struct live_client client;
    struct error       error;
    *row = (struct ps_row) { .process = process, .pid = process->pid, .user = process->user };
    if (process->directory < 0) {
        return;
    }
    if (live_client_open(&client, process->directory, &process->name, &error)) {
        ask(row, &client);
    } else {
        row->error = memory_text("%s", error.text);
    }
}

void ps_list_make(struct ps_list * list) {
    live_processes_find(&list->processes, true);
    list->n    = 0;
    list->rows = memory_new(list->processes.n, sizeof(*list->rows));
    for (size_t i = 0; i < list->processes.n; i++) {
        const struct live_process * process = &list->processes.all[i];
        fill(&list->rows[list->n], process);
        const bool gone = list->rows[list->n].error != NULL && !live_name_is_alive(process->directory, &process->name);
        if (gone) { // meanwhile
            free(list->rows[list->n].error);
        } else {
            list->n++;
        }
    }
}

void ps_list_free(struct ps_list * list) {
    for (size_t i = 0; i < list->n; i++) {
        free(list->rows[i].error);
        live_status_free(list->rows[i].status);
    }
    free(list->rows);
    live_processes_free(&list->processes);
}
