// Seals chunks for the writer's thread, and wakes it.

#include "trace/write/trace-state.h"

#include <string.h>
#include <time.h>

#define CHUNK_AGE 900000000 // nanoseconds: a chunk of that age is sealed

int64_t trace_state_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t) now.tv_sec * 1000000000 + now.tv_nsec;
}

void trace_state_wait(pthread_cond_t * condition, pthread_mutex_t * mutex, int64_t time) {
    const struct timespec until = { (time_t) (time / 1000000000), (long) (time % 1000000000) };
    pthread_cond_timedwait(condition, mutex, &until);
}

void trace_state_set_due(struct trace_writer * writer) {
    if (writer->due == 0) {
        writer->due = trace_state_now() + CHUNK_AGE;
        pthread_cond_signal(&writer->work);
    }
}

// Amendments are on what is sealed already, and follow it. Where there is no room they wait.
static void seal_amendments(struct trace_writer * writer) {
    struct ring_chunk * chunk = chunk_ring_open(&writer->buffer, TRACE_CHUNK_AMENDMENTS, writer->amendments_size);
    if (chunk != NULL) {
        memcpy(chunk_ring_at(&writer->buffer), writer->amendments, writer->amendments_size);
        chunk_ring_grow(&writer->buffer, chunk_ring_at(&writer->buffer) + writer->amendments_size);
        chunk_ring_seal(&writer->buffer);
        chunk->first = writer->n_told;
        chunk->time  = trace_now();
        writer->amendments_size = 0;
    }
}

void trace_state_seal(struct trace_writer * writer) {
    chunk_ring_seal(&writer->buffer);
    if (writer->amendments_size > 0) {
        seal_amendments(writer);
    }
    writer->due = 0;
    if (writer->amendments_size > 0) {
        trace_state_set_due(writer);
    }
    pthread_cond_signal(&writer->work);
}

void trace_state_note_gap(struct trace_writer * writer, uint64_t n_ubatches, uint64_t n_tokens,
                          enum trace_gap_reason reason) {
    writer->gaps[reason].n_ubatches += n_ubatches;
    writer->gaps[reason].n_tokens   += n_tokens;
}
