// Injects the library, and speaks with the tracer that is there then.

#include "commands/attach/attach-process.h"

#include "base/attach-result.h"
#include "commands/traced-process.h"
#include "inject/inject.h"
#include "live/live-folder.h"
#include "live/live-processes.h"
#include "tool/clock.h"
#include "tool/launch/preload.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ENTRY          "expert_tracer_attach"
#define LIVE_VARIABLE  "LLAMA_EXPERT_TRACE_LIVE"
#define PATIENCE       20.0 // seconds, until what was attached before has gone
#define SHORT_STEP     20   // milliseconds, of looks that disturb nobody
#define LONG_STEP      300  // of injections
#define END_PATIENCE   60000 // milliseconds, for files to be written

static void wait_for(int milliseconds) {
    nanosleep(&(struct timespec) { 0, milliseconds * 1000000L }, NULL);
}

//
// what is there
//

static bool open_client(const struct live_process * process, struct live_client * client, struct error * error) {
    return live_client_open(client, process->directory, &process->name, error);
}

bool attach_find(pid_t pid, struct live_client * client, struct error * error) {
    struct live_processes processes;
    char                  word[32];
    bool                  found = false;
    snprintf(word, sizeof(word), "%ld", (long) pid);
    live_processes_find(&processes, false);
    error_set(error, "it cannot be seen: see `llama-expert-tracer ps`");
    for (size_t i = 0; i < processes.n && !found; i++) {
        const struct live_process * its = &processes.all[i];
        found = its->directory >= 0 && traced_process_is_meant(its, word) && open_client(its, client, error);
    }
    live_processes_free(&processes);
    return found;
}

//
// attaching
//

// KEY=value, each ended by a zero. Allocated.
static char * words_of(const struct attach_order * order, size_t * size) {
    const char * setting = getenv(LIVE_VARIABLE);
    char       * folder  = live_folder_is_named(setting) ? realpath(setting, NULL) : NULL;
    char       * words   = memory_text("LIVE=%s\nCAPTURE=%s\nDORMANT=%d\n", folder != NULL ? folder : "1",
                                       order->way != NULL ? order->way : "auto", order->dormant);
    *size = strlen(words);
    for (size_t i = 0; i < *size; i++) {
        words[i] = words[i] == '\n' ? '\0' : words[i];
    }
    free(folder);
    return words;
}

static bool explain(int result, struct error * error) {
    switch (result) {
        case ATTACH_DONE:
            return true;
        case ATTACH_ALREADY:
            return error_set(error, "it is traced already, from its beginning or by another `attach`: see "
                                    "`llama-expert-tracer ps`");
        case ATTACH_NO_ENGINE:
            return error_set(error, "nothing in it calls llama.cpp through the dynamic linker: llama.cpp is linked "
                                    "into the program itself, or is not loaded yet. `llama-expert-tracer check "
                                    "PROGRAM` tells more");
        case ATTACH_BUSY:
            return error_set(error, "the tracer that was attached before has not gone yet: try again");
        case ATTACH_HIDDEN:
            return error_set(error, "it has no folder to show itself in: name one that its user alone can write to, in "
                                    LIVE_VARIABLE);
        default:
            return error_set(error, "it has no memory left for a tracer");
    }
}

static bool inject_until_ready(pid_t pid, const char * library, const struct attach_order * order,
                               struct error * error) {
    const double deadline = clock_seconds() + PATIENCE;
    size_t       size;
    char       * words    = words_of(order, &size);
    int          result   = ATTACH_BUSY;
    bool         injected = inject(pid, library, ENTRY, words, size, &result, error);
    while (injected && result == ATTACH_BUSY && clock_seconds() < deadline) {
        wait_for(LONG_STEP);
        injected = inject(pid, library, ENTRY, words, size, &result, error);
    }
    free(words);
    return injected && explain(result, error);
}

// It reads the model's file before it shows itself.
static bool find_soon(pid_t pid, const char * library, struct live_client * client, struct error * error) {
    const double deadline = clock_seconds() + PATIENCE;
    int          result   = ATTACH_BUSY;
    bool         found    = attach_find(pid, client, error);
    for (int i = 1; !found && result == ATTACH_BUSY && clock_seconds() < deadline; i++) {
        wait_for(SHORT_STEP);
        found = attach_find(pid, client, error);
        if (!found && i % (LONG_STEP / SHORT_STEP) == 0 && !inject(pid, library, ENTRY, "", 0, &result, error)) {
            return false;
        }
    }
    return found || attach_find(pid, client, error)
        || (result != ATTACH_ALREADY && result != ATTACH_DONE && explain(result, error));
}

bool attach_process(pid_t pid, const struct attach_order * order, struct live_client * client, struct error * error) {
    char     * library = library_find(error);
    const bool done    = library != NULL && inject_until_ready(pid, library, order, error)
                      && find_soon(pid, library, client, error);
    free(library);
    return done;
}

//
// detaching
//

// The connection ends with the tracer.
static bool await_end(const struct live_client * client) {
    struct pollfd polled = { client->fd, POLLIN, 0 };
    char          byte;
    return poll(&polled, 1, END_PATIENCE) == 1 && read(client->fd, &byte, 1) <= 0;
}

bool attach_end(const struct live_client * client, struct error * error) {
    static const char * const  words[]  = { "detach", NULL };
    const struct live_question question = { words, -1, LIVE_CLIENT_PATIENCE };
    json_t                   * answer   = live_client_ask(client, &question, error);
    if (answer == NULL) {
        return false;
    }
    json_decref(answer);
    return await_end(client)
        || error_set(error, "it was told to go, and has not yet: it writes its files, or waits for the disk");
}
