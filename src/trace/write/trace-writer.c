// The writer of a routing trace: its thread, which makes the file and brings chunks to it, and its beginning and end.

#include "trace/write/trace-writer.h"

#include "base/claim.h"
#include "base/folder.h"
#include "trace/write/trace-sampling.h"
#include "trace/write/trace-state.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RETRY_AFTER  1000000000 // nanoseconds, where the file could not be written to
#define FLUSH_WITHIN 300000000  // nanoseconds
#define BUFFER_LEAST (64 << 10)

//
// the thread
//

static uint64_t waited_ms(const struct trace_writer * writer) {
    return (uint64_t) writer->waited / 1000000;
}

static bool is_due(const struct trace_writer * writer) {
    return writer->due != 0 && (writer->state == TRACE_ENDS || trace_state_now() >= writer->due);
}

// With the mutex, which is not held meanwhile. Returns whether the chunk is on the disk.
static bool bring(struct trace_writer * writer, struct ring_chunk * chunk) {
    const uint64_t waited      = waited_ms(writer);
    const bool     was_failing = writer->is_failing;
    pthread_mutex_unlock(&writer->mutex);
    const int error = trace_delivery_bring(&writer->delivery, chunk, waited);
    if (error && !was_failing) {
        log_line(writer->say_aside, LOG_ERROR,
            "cannot write to %s: %s. What does not fit into LLAMA_EXPERT_TRACE_BUFFER meanwhile is left out of the "
            "routing trace; it is tried again every second", writer->delivery.file.at.path,
            claim_explain(error, FILE_KIND_TRACE));
    } else if (!error && was_failing) {
        log_line(writer->say_aside, LOG_INFO, "%s can be written to now", writer->delivery.file.at.path);
    }
    pthread_mutex_lock(&writer->mutex);
    writer->is_failing = error != 0;
    writer->write_error = error ? error : writer->write_error;
    if (!error) {
        chunk_ring_take_out(&writer->buffer);
        writer->is_stuck = false;
    }
    pthread_cond_broadcast(&writer->room);
    return !error;
}

static void wait_to_try_again(struct trace_writer * writer) {
    const int64_t until = trace_state_now() + RETRY_AFTER;
    while (writer->state == TRACE_RUNS && trace_state_now() < until) {
        trace_state_wait(&writer->work, &writer->mutex, until);
    }
}

static void wait_for_work(struct trace_writer * writer) {
    if (writer->due != 0) {
        trace_state_wait(&writer->work, &writer->mutex, writer->due);
    } else {
        pthread_cond_wait(&writer->work, &writer->mutex);
    }
}

// What could not be written is lost, which is told as far as that can be.
static void write_end(struct trace_writer * writer) {
    struct trace_counts rest = { 0 };
    for (; writer->buffer.oldest != NULL; chunk_ring_take_out(&writer->buffer)) {
        trace_counts_add(&rest, &writer->buffer.oldest->counts);
    }
    rest.gaps[TRACE_GAP_SLOW_DISK].n_ubatches += rest.n_ubatches;
    rest.gaps[TRACE_GAP_SLOW_DISK].n_tokens   += rest.n_tokens;
    for (int i = 0; i < TRACE_GAP_REASONS; i++) {
        writer->gaps[i].n_ubatches += rest.gaps[i].n_ubatches;
        writer->gaps[i].n_tokens   += rest.gaps[i].n_tokens;
    }
    const struct trace_closing ending = {
        .is_last = true, .stopped = writer->stopped, .n_amendments_lost = writer->n_amendments_lost,
        .waited_ms = waited_ms(writer),
    };
    writer->end_error = trace_delivery_end(&writer->delivery, writer->gaps, &ending);
}

// Returns 0, or -errno.
static int open_file(struct trace_writer * writer) {
    struct trace_about * about = &writer->delivery.about;
    const char         * model = writer->options.is_foreign ? NULL : about->model->file;
    char               * path  = folder_path(writer->folder, writer->path);
    about->fingerprint = model != NULL && fingerprint_read(model, writer->fingerprint) ? writer->fingerprint : NULL;
    const int error = path != NULL ? trace_delivery_open(&writer->delivery, path) : -ENOMEM;
    free(path);
    return error;
}

static void say_opened(const struct trace_writer * writer, int error) {
    if (error) {
        log_line(writer->say_aside, LOG_ERROR,
            "cannot write the routing trace %.*s: %s. Nothing is recorded; a trace needs a name of its own in a folder "
            "that can be written, with room left", PATH_MAX, writer->path, claim_explain(error, FILE_KIND_TRACE));
    } else if (writer->delivery.file.at.reason == CLAIM_BESIDE_ANOTHER) {
        log_line(writer->say_aside, LOG_INFO, "%s belongs to another model or process; this routing trace goes to %s",
            writer->path, writer->delivery.file.at.path);
    } else if (writer->delivery.file.at.reason == CLAIM_BESIDE_EARLIER) {
        log_line(writer->say_aside, LOG_INFO, "%s has an earlier run, which stays; this routing trace goes to %s",
            writer->path, writer->delivery.file.at.path);
    }
}

// With the mutex, which is not held meanwhile. Where there can be no file, nothing more is recorded.
static void begin_file(struct trace_writer * writer) {
    pthread_mutex_unlock(&writer->mutex);
    const int error = open_file(writer);
    say_opened(writer, error);
    pthread_mutex_lock(&writer->mutex);
    if (error) {
        writer->state     = TRACE_OFF;
        writer->end_error = error;
        chunk_ring_free(&writer->buffer);
        pthread_cond_broadcast(&writer->room);
    }
}

static void * bring_to_disk(void * data) {
    struct trace_writer * writer = data;
    pthread_mutex_lock(&writer->mutex);
    begin_file(writer);
    while (writer->state != TRACE_OFF) {
        struct ring_chunk * chunk = chunk_ring_oldest(&writer->buffer);
        if (chunk != NULL && !bring(writer, chunk)) {
            if (writer->state != TRACE_RUNS) {
                break;
            }
            wait_to_try_again(writer);
        } else if (chunk == NULL && is_due(writer)) {
            trace_state_seal(writer);
        } else if (chunk == NULL && writer->state != TRACE_RUNS) {
            break;
        } else if (chunk == NULL) {
            wait_for_work(writer);
        }
    }
    if (writer->state == TRACE_ENDS) {
        write_end(writer);
    }
    pthread_mutex_unlock(&writer->mutex);
    return NULL;
}

static int start_writing(struct trace_writer * writer) {
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    int error = pthread_sigmask(SIG_SETMASK, &all, &before); // the program's signals are not for us
    if (!error) {
        error = pthread_create(&writer->thread, NULL, bring_to_disk, writer);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    writer->has_thread = error == 0;
    return -error;
}

//
// beginning
//

// Where so much memory is not to be had, less is better than no trace.
static bool make_buffer(struct trace_writer * writer, struct trace_remark * remark) {
    const size_t wanted = writer->options.buffer;
    if (chunk_ring_init(&writer->buffer, wanted)) {
        return true;
    }
    if (wanted <= TRACE_BUFFER_DEFAULT || !chunk_ring_init(&writer->buffer, TRACE_BUFFER_DEFAULT)) {
        return false;
    }
    writer->options.buffer = TRACE_BUFFER_DEFAULT;
    remark->level          = LOG_WARNING;
    text_add_line(&remark->text, "LLAMA_EXPERT_TRACE_BUFFER: the system does not give %zu bytes of memory for the "
        "routing trace; it takes %d MiB. Ask for less", wanted, TRACE_BUFFER_DEFAULT >> 20);
    return true;
}

// The thread waits for the mutex.
void trace_writer_begin(struct trace_writer * writer, const struct routing_ubatch * ubatch,
                        struct trace_remark * remark) {
    struct trace_about * about = &writer->delivery.about;
    about->capture = ubatch->capture != NULL ? ubatch->capture : about->model->capture;
    int error = make_buffer(writer, remark) ? 0 : -ENOMEM;
    if (!error) {
        error = start_writing(writer);
    }
    writer->state = error ? TRACE_OFF : TRACE_RUNS;
    if (error) {
        writer->end_error = error;
        chunk_ring_free(&writer->buffer);
        remark->level = LOG_ERROR;
        text_add_line(&remark->text, "no routing trace is written to %.*s: there is no %s (%s)", PATH_MAX,
            writer->path, error == -ENOMEM ? "memory for it" : "thread for it", strerror(-error));
    }
}

void trace_writer_stop(struct trace_writer * writer) {
    if (writer->state == TRACE_RUNS) {
        writer->state = TRACE_ENDS;
    } else if (writer->state == TRACE_NOT_BEGUN) {
        writer->state = TRACE_OFF;
    }
    pthread_cond_broadcast(&writer->work);
    pthread_cond_broadcast(&writer->room);
}

//
// the writer
//

struct trace_writer * trace_writer_new(const struct trace_options * options, const struct routing_model * model,
                                       const char * run, log_fn say, log_fn say_aside) {
    struct trace_writer * writer = calloc(1, sizeof(*writer));
    char                * path   = strdup(options->path);
    char                * folder = options->folder != NULL ? strdup(options->folder) : NULL;
    if (writer == NULL || path == NULL || (options->folder != NULL && folder == NULL)) {
        free(writer);
        free(path);
        free(folder);
        return NULL;
    }
    writer->options        = *options;
    writer->options.path   = NULL;
    writer->options.folder = NULL;
    writer->options.buffer = options->buffer < BUFFER_LEAST ? BUFFER_LEAST : options->buffer;
    writer->options.sample = options->sample > 0 ? options->sample : 1;
    writer->options.seed   = writer->options.sample == 1 ? 0 :
                             options->seed > 0           ? options->seed : trace_sampling_new_seed();
    writer->descriptor     = options->descriptor != NULL ? *options->descriptor : -1;
    writer->path           = path;
    writer->folder         = folder;
    writer->say            = say;
    writer->say_aside      = say_aside;
    writer->delivery       = (struct trace_delivery) {
        .about = {
            .model   = model,
            .run     = run,
            .weights = options->weights,
            .tokens  = options->tokens,
            .sample  = writer->options.sample,
            .seed    = writer->options.seed,
        },
        .rotate_size = options->rotate_size,
        .rotate_time = options->rotate_time,
        .limit       = options->keep,
        .descriptor  = options->descriptor != NULL ? &writer->descriptor : NULL,
        .say         = say_aside,
        .file        = TRACE_FILE_NONE,
    };
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&writer->work, &attributes);
    pthread_cond_init(&writer->room, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&writer->mutex, NULL);
    return writer;
}

// With a point, whatever the program's locale.
static void add_size(struct text * text, uint64_t size) {
    static const char * const units[] = { "KB", "MB", "GB", "TB" };
    size_t   unit   = 0;
    uint64_t tenths = (size + 50) / 100;
    for (; tenths >= 10000 && unit < 3; unit++) {
        tenths = (tenths + 500) / 1000;
    }
    text_add(text, "%" PRIu64 ".%" PRIu64 " %s", tenths / 10, tenths % 10, units[unit]);
}

static void add_losses(struct text * text, const struct trace_writer * writer) {
    const struct trace_gap * gaps = writer->delivery.counts.gaps;
    const struct trace_gap * slow = &gaps[TRACE_GAP_SLOW_DISK];
    const struct trace_gap * left = &gaps[TRACE_GAP_TOO_LARGE];
    const struct trace_gap * lost = &gaps[TRACE_GAP_LOST];
    if (slow->n_ubatches > 0) {
        text_add(text, "; %" PRIu64 " ubatches (%" PRIu64 " tokens) were dropped because the disk %s",
            slow->n_ubatches, slow->n_tokens,
            writer->write_error != 0 ? "could not be written to"
            : "could not keep up: LLAMA_EXPERT_TRACE_ON_FULL=wait, or a larger LLAMA_EXPERT_TRACE_BUFFER, or a faster "
            "disk");
    }
    if (left->n_ubatches > 0) {
        text_add(text, "; %" PRIu64 " ubatches (%" PRIu64 " tokens) were left out for lack of memory: a larger "
            "LLAMA_EXPERT_TRACE_BUFFER", left->n_ubatches, left->n_tokens);
    }
    if (lost->n_ubatches > 0) {
        text_add(text, "; of %" PRIu64 " ubatches (%" PRIu64 " tokens) the routing is not known", lost->n_ubatches,
            lost->n_tokens);
    }
    if (writer->stopped != NULL) {
        text_add(text, "; it ends early: %s", writer->stopped);
    }
    if (writer->n_amendments_lost > 0) {
        text_add(text, "; of %" PRIu64 " ubatches it is not recorded what was a warm-up or rejected",
            writer->n_amendments_lost);
    }
    if (writer->end_error) {
        text_add(text, "; its end is missing: %s", claim_explain(writer->end_error, FILE_KIND_TRACE));
    }
}

static void say_end(struct trace_writer * writer) {
    const struct trace_delivery * delivery = &writer->delivery;
    struct text text = { 0 };
    if (delivery->first_path != NULL) {
        text_add(&text, "%s to ", delivery->first_path);
    }
    text_add(&text, "%s, %" PRIu64 " tokens, ", delivery->file.at.path, delivery->counts.n_tokens);
    add_size(&text, trace_delivery_size(delivery));
    const size_t length = text.length;
    add_losses(&text, writer);
    const bool is_whole = text.length == length;
    struct text line = { 0 };
    if (!text.failed) {
        text_add_line(&line, "Routing trace: %s", text.data);
    }
    if (line.data != NULL && !line.failed) {
        writer->say(is_whole ? LOG_INFO : LOG_WARNING, line.data);
    } else {
        log_line(writer->say, LOG_ERROR, "Routing trace: %s; out of memory%s", delivery->file.at.path,
            writer->end_error ? ", its end is missing" : "");
    }
    text_free(&line);
    text_free(&text);
}

// The file is not written any more.
static int why_incomplete(struct trace_writer * writer) {
    pthread_mutex_lock(&writer->mutex);
    bool left_out = writer->stopped != NULL || writer->n_amendments_lost > 0;
    for (int i = 0; i < TRACE_GAP_REASONS; i++) {
        left_out = left_out || writer->delivery.counts.gaps[i].n_ubatches > 0 || writer->gaps[i].n_ubatches > 0;
    }
    const int why_left_out = writer->write_error ? writer->write_error : -ENODATA;
    const int error        = writer->end_error ? writer->end_error : left_out ? why_left_out : 0;
    pthread_mutex_unlock(&writer->mutex);
    return error;
}

int trace_writer_end(struct trace_writer * writer, const char * stopped) {
    pthread_mutex_lock(&writer->mutex);
    writer->stopped = writer->stopped != NULL ? writer->stopped : stopped;
    trace_writer_stop(writer);
    const bool had_thread = writer->has_thread;
    writer->has_thread = false;
    pthread_mutex_unlock(&writer->mutex);
    if (had_thread) {
        pthread_join(writer->thread, NULL);
        pthread_mutex_lock(&writer->mutex);
        chunk_ring_free(&writer->buffer); // what streams deliver from now on is not looked at
        pthread_mutex_unlock(&writer->mutex);
        if (writer->delivery.file.at.fd >= 0) {
            say_end(writer);
            trace_file_close(&writer->delivery.file);
        }
    }
    return why_incomplete(writer);
}

void trace_writer_flush(struct trace_writer * writer) {
    const int64_t until = trace_state_now() + FLUSH_WITHIN;
    pthread_mutex_lock(&writer->mutex);
    if (writer->state == TRACE_RUNS) {
        trace_state_seal(writer);
    }
    while (writer->state == TRACE_RUNS && !writer->is_failing && chunk_ring_oldest(&writer->buffer) != NULL &&
        trace_state_now() < until) {
        trace_state_wait(&writer->room, &writer->mutex, until);
    }
    pthread_mutex_unlock(&writer->mutex);
}

void trace_writer_free(struct trace_writer * writer) {
    if (writer == NULL) {
        return;
    }
    for (uint32_t i = 0; i < writer->n_tables; i++) {
        free(writer->tables[i]);
    }
    chunk_ring_free(&writer->buffer);
    trace_delivery_free(&writer->delivery);
    pthread_cond_destroy(&writer->work);
    pthread_cond_destroy(&writer->room);
    pthread_mutex_destroy(&writer->mutex);
    free(writer->path);
    free(writer->folder);
    free(writer);
}

void trace_writer_abandon(struct trace_writer * writer) {
    if (writer->delivery.file.at.fd >= 0) {
        close(writer->delivery.file.at.fd); // the lock is the parent's
    }
}

void trace_writer_lose(struct trace_writer * writer, uint64_t n_ubatches, uint64_t n_tokens) {
    pthread_mutex_lock(&writer->mutex);
    trace_state_note_gap(writer, n_ubatches, n_tokens, TRACE_GAP_LOST);
    pthread_mutex_unlock(&writer->mutex);
}
