// Opens, polls and closes the connection to the process that is watched.

#include "commands/top/top-session.h"

#include "commands/traced-process.h"
#include "live/live-map.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

bool top_session_open(struct top_session * session, const struct live_process * process,
                      const struct top_sizes * sizes, struct error * error) {
    struct live_client client;
    *session = (struct top_session) {
        .directory = fcntl(process->directory, F_DUPFD_CLOEXEC, 0), .name = process->name,
    };
    if (!live_client_open(&client, process->directory, &process->name, error)) {
        session->who = memory_text("%s", process->name.text);
        return false;
    }
    session->who   = traced_process_text(&client, process->pid > 0 ? process->pid : client.pid);
    session->watch = watch_new(&client, sizes->bytes, sizes->n, error);
    if (session->watch == NULL) {
        live_client_close(&client);
    }
    return session->watch != NULL;
}

void top_session_close(struct top_session * session) {
    watch_free(session->watch);
    free(session->who);
    if (session->directory >= 0) {
        close(session->directory);
    }
    *session = (struct top_session) TOP_SESSION_NONE;
}

void top_session_poll(struct top_session * session) {
    if (session->watch != NULL && !session->has_ended) {
        session->has_ended = !watch_poll(session->watch);
    }
}

struct watch_frame * top_session_look(struct top_session * session, int window, struct error * error) {
    const struct watch_question question = { session->model, window };
    if (session->watch == NULL) {
        error_set(error, "nothing is watched: choose a process with p");
        return NULL;
    }
    return watch_look(session->watch, &question, error);
}

void top_session_next_model(struct top_session * session, const struct watch_frame * frame) {
    const struct live_map * map   = &watch_client(session->watch)->map;
    uint32_t                next  = UINT32_MAX;
    uint32_t                first = UINT32_MAX;
    for (size_t i = 0; i < map->n_entries; i++) {
        const struct live_segment segment = live_map_segment(map, i);
        if (segment.kind == LIVE_MODEL) {
            first = segment.model < first ? segment.model : first;
            next  = segment.model > frame->number && segment.model < next ? segment.model : next;
        }
    }
    session->model = next != UINT32_MAX ? next : first != UINT32_MAX ? first : 0;
}
