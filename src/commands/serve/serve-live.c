// Watches a process for each stream, and makes events of what the watch finds.

#include "commands/serve/serve-live.h"

#include "commands/watch-json.h"
#include "serve/serve-guard.h"
#include "tool/clock.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WINDOW_USUAL 10   // seconds
#define EVERY        1.0  // seconds between frames
#define RETRY        2000 // milliseconds after which a client comes back
#define DIGITS       13   // of a number with a fraction: a time of now has its milliseconds

struct live_stream {
    struct serve_lives  * lives;
    struct watch        * watch;
    char                  name[SERVE_TOKEN_SIZE];
    struct watch_question question; // the mutex's, like the next one
    bool                  is_asked; // anew
    bool                  has_begun;
    double                due;      // seconds of clock_seconds()
};

struct serve_lives {
    pthread_mutex_t      mutex;
    struct live_stream * all[SERVE_LIVES_MAX]; // NULL: free
};

struct serve_lives * serve_lives_new(void) {
    struct serve_lives * lives = memory_new(1, sizeof(*lives));
    pthread_mutex_init(&lives->mutex, NULL);
    return lives;
}

void serve_lives_free(struct serve_lives * lives) {
    pthread_mutex_destroy(&lives->mutex);
    free(lives);
}

bool serve_live_window(const char * text, int * window) {
    *window = WINDOW_USUAL;
    if (text == NULL) {
        return true;
    }
    if (strcmp(text, "all") == 0) {
        *window = WATCH_ALL;
        return true;
    }
    const size_t n_digits = strspn(text, "0123456789");
    *window = n_digits > 0 && n_digits < 4 ? atoi(text) : 0;
    return text[n_digits] == '\0' && *window >= 1 && *window <= WATCH_SECONDS_MAX;
}

//
// the list
//

static bool take_place(struct serve_lives * lives, struct live_stream * stream) {
    size_t i = 0;
    pthread_mutex_lock(&lives->mutex);
    while (i < SERVE_LIVES_MAX && lives->all[i] != NULL) {
        i++;
    }
    if (i < SERVE_LIVES_MAX) {
        lives->all[i] = stream;
    }
    pthread_mutex_unlock(&lives->mutex);
    return i < SERVE_LIVES_MAX;
}

static void leave_place(struct serve_lives * lives, const struct live_stream * stream) {
    pthread_mutex_lock(&lives->mutex);
    for (size_t i = 0; i < SERVE_LIVES_MAX; i++) {
        if (lives->all[i] == stream) {
            lives->all[i] = NULL;
        }
    }
    pthread_mutex_unlock(&lives->mutex);
}

bool serve_live_change(struct serve_lives * lives, const char * stream, const struct watch_question * question) {
    bool found = false;
    pthread_mutex_lock(&lives->mutex);
    for (size_t i = 0; i < SERVE_LIVES_MAX; i++) {
        struct live_stream * at = lives->all[i];
        if (at != NULL && strcmp(at->name, stream) == 0) {
            at->question = *question;
            at->is_asked = found = true;
        }
    }
    pthread_mutex_unlock(&lives->mutex);
    return found;
}

//
// events
//

static char * event_text(const char * event, json_t * json) {
    char * data = json == NULL ? NULL : json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(DIGITS));
    char * text = memory_text("event: %s\ndata: %s\n\n", event, data == NULL ? "{}" : data);
    free(data);
    json_decref(json);
    return text;
}

static char * look(const struct live_stream * stream, const struct watch_question * question) {
    struct error         error;
    struct watch_frame * frame = watch_look(stream->watch, question, &error);
    if (frame == NULL) {
        return event_text("wait", json_pack("{s:s+}", "note", error.text, ""));
    }
    char * text = event_text("frame", watch_json(frame));
    watch_frame_free(frame);
    return text;
}

// Whether a frame is due; the next one is a second later, or later still where that has gone by, too.
static bool is_due(struct live_stream * stream, struct watch_question * question) {
    const double time = clock_seconds();
    pthread_mutex_lock(&stream->lives->mutex);
    const bool is_asked = stream->is_asked;
    *question = stream->question;
    stream->is_asked = false;
    pthread_mutex_unlock(&stream->lives->mutex);
    if (!is_asked && time < stream->due) {
        return false;
    }
    if (time >= stream->due) {
        stream->due = stream->due + EVERY > time ? stream->due + EVERY : time + EVERY;
    }
    return true;
}

static bool stream_next(void * self, char ** text) {
    static const struct timespec moment = { 0, WATCH_POLL * 1000000 };
    struct live_stream         * stream = self;
    struct watch_question        question;
    if (!stream->has_begun) {
        stream->has_begun = true;
        watch_poll(stream->watch);
        stream->due = clock_seconds(); // behind the watch's own second
        char * event = event_text("stream", json_pack("{s:s}", "stream", stream->name));
        *text = memory_append(memory_text("retry: %d\n", RETRY), event);
        return true;
    }
    if (!watch_poll(stream->watch)) {
        *text = event_text("end", NULL);
        return false;
    }
    if (is_due(stream, &question)) {
        *text = look(stream, &question);
    } else {
        nanosleep(&moment, NULL);
    }
    return true;
}

//
// the whole
//

static void stream_free(void * self) {
    struct live_stream * stream = self;
    leave_place(stream->lives, stream);
    watch_free(stream->watch);
    free(stream);
}

static bool begin_watch(struct live_stream * stream, const struct serve_process * process, struct error * error) {
    struct live_client client;
    if (!live_client_open(&client, process->folder, &process->client.name, error)) {
        return false;
    }
    stream->watch = watch_new(&client, NULL, 0, error);
    if (stream->watch == NULL) {
        live_client_close(&client);
    }
    return stream->watch != NULL;
}

struct serve_response serve_live_open(struct serve_lives * lives, const struct serve_process * process,
                                      const struct watch_question * question) {
    struct error         error;
    struct live_stream * stream = memory_new(1, sizeof(*stream));
    stream->lives    = lives;
    stream->question = *question;
    if (!serve_guard_token(stream->name) || !take_place(lives, stream)) {
        error_set(&error, "%d streams are open, which is the most", SERVE_LIVES_MAX);
    } else if (begin_watch(stream, process, &error)) {
        return (struct serve_response) {
            .status = 200, .type = "text/event-stream", .stream = { stream_next, stream_free, stream },
        };
    }
    stream_free(stream);
    return serve_response_error(503, "%s", error.text);
}
