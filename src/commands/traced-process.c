// Finds the running tracer that is meant by its number or its name.

#include "commands/traced-process.h"

#include "base/clean.h"

#include <stdlib.h>
#include <string.h>

bool traced_process_is_word(const char * word) {
    return live_name_is(word) || (*word != '\0' && word[strspn(word, "0123456789")] == '\0');
}

// /proc does not tell everybody which process has a name.
static bool has_pid(const struct live_process * process, long pid) {
    struct live_client client;
    struct error       error;
    if (process->pid > 0 || !live_client_open(&client, process->directory, &process->name, &error)) {
        return process->pid == pid;
    }
    live_client_close(&client);
    return client.pid == pid;
}

bool traced_process_is_meant(const struct live_process * process, const char * word) {
    return live_name_is(word) ? strcmp(process->name.text, word) == 0 : has_pid(process, strtol(word, NULL, 10));
}

char * traced_process_text(const struct live_client * client, pid_t pid) {
    char program[LIVE_PROGRAM_SIZE];
    memcpy(program, live_map_header(&client->map)->program, sizeof(program));
    program[sizeof(program) - 1] = '\0';
    clean_in_place(program);
    return pid > 0 ? memory_text("%s (%ld)", program, (long) pid)
                   : memory_text("%s (%s)", program, client->name.text);
}

static void offer(const struct live_process * process) {
    char name[LIVE_PROGRAM_SIZE];
    clean_copy(name, sizeof(name), process->program != NULL ? process->program : "a program");
    error_say("%s (%ld) is not traced: `llama-expert-tracer attach %ld` traces it as it runs", name,
              (long) process->pid, (long) process->pid);
}

// Those that could be attached to, or the one of that number alone. Returns how many there are.
static size_t offer_all(const char * word) {
    struct live_processes processes;
    size_t                n = 0;
    live_processes_find(&processes, true);
    for (size_t i = 0; i < processes.n; i++) {
        const struct live_process * process = &processes.all[i];
        if (live_process_is_attachable(process) && (word == NULL || strtol(word, NULL, 10) == process->pid)) {
            offer(process);
            n++;
        }
    }
    live_processes_free(&processes);
    return n;
}

int traced_process_say_none(const char * word) {
    if (!live_name_is(word) && offer_all(word) > 0) {
        return STATUS_FAILED;
    }
    error_say("process %s cannot be steered: it is not there, is not traced, belongs to another user, or began "
              "without LLAMA_EXPERT_TRACE_LIVE=1: see `llama-expert-tracer ps`", word);
    return STATUS_FAILED;
}

int traced_process_say_none_at_all(const char * done) {
    if (offer_all(NULL) == 0) {
        error_say("no process can be %s: start one with `llama-expert-tracer run -- llama-server ...`, or see "
                  "`llama-expert-tracer ps`", done);
    }
    return STATUS_FAILED;
}
