// What a writer of the routing trace and its streams share: the chunks that wait for the disk, and what is not in one
// yet.
//
// One mutex guards everything but what the thread brings to the file, which is the thread's alone. It is not held
// while that is written, nor while something is said. Who evaluates holds it while a ubatch is encoded.

#pragma once

#include "trace/format/fingerprint.h"
#include "trace/write/chunk-ring.h"
#include "trace/write/trace-delivery.h"
#include "trace/write/trace-options.h"
#include "trace/write/trace-record.h"

#include <pthread.h>

#define TRACE_WRITER_AMENDMENTS (16 << 10) // bytes
#define TRACE_WRITER_TABLES     64

struct recorded_table_layer {
    int32_t layer;
    int32_t n_expert;
    int32_t n_used;
};

struct recorded_table {
    int32_t                    n_layers;
    uint64_t                   n_ubatches;
    struct recorded_table_layer * layers;
};

enum trace_state {
    TRACE_NOT_BEGUN,
    TRACE_RUNS,
    TRACE_ENDS, // nothing is recorded any more: the thread writes what is there, and how it ended
    TRACE_OFF,
};

struct trace_writer {
    struct trace_options   options;
    int                    descriptor;   // that it is written to, -1: `path` is claimed
    char                 * path;
    char                 * folder;       // that it is relative to, NULL: the current one
    log_fn                 say;
    log_fn                 say_aside;

    pthread_mutex_t        mutex;
    pthread_cond_t         work;         // for the thread
    pthread_cond_t         room;         // for those who wait for it, or for the end
    enum trace_state       state;
    const char           * stopped;      // why nothing more is recorded, NULL: what there is is
    bool                   has_thread;
    pthread_t              thread;
    struct chunk_ring    buffer;
    struct trace_payload   payload;      // of the open chunk of data
    int64_t                due;          // when what is not sealed is to be, in nanoseconds; 0: there is nothing
    uint64_t               n_told;       // ubatches in the chunks
    struct trace_gap       gaps[TRACE_GAP_REASONS]; // not in the chunks yet
    struct recorded_table   * tables[TRACE_WRITER_TABLES];
    uint32_t               n_tables;
    uint8_t                amendments[TRACE_WRITER_AMENDMENTS];
    size_t                 amendments_size;
    uint64_t               n_amendments_lost;
    uint32_t               n_streams;
    int64_t                waited;       // nanoseconds
    bool                   is_stuck;     // somebody waited in vain, and nothing was brought to the disk since
    bool                   is_failing;   // the file cannot be written to
    int                    write_error;  // of the last chunk that could not be written, 0: there was none
    bool                   left_out_said;
    bool                   lost_said;
    int                    end_error;    // of the last chunk

    struct trace_delivery  delivery;     // the thread's, while there is one
    char                   fingerprint[FINGERPRINT_MAX];
};

// What is to be said when the mutex is not held any more.
struct trace_remark {
    enum log_level level;
    struct text    text;
};

// With the mutex.

// There is something that is not sealed: it will be, at the latest, when it is as old as a chunk may be.
void trace_state_set_due(struct trace_writer * writer);

// Gives the thread what there is.
void trace_state_seal(struct trace_writer * writer);

void trace_state_note_gap(struct trace_writer * writer, uint64_t n_ubatches, uint64_t n_tokens,
                          enum trace_gap_reason reason);

// Nanoseconds of a clock that nobody sets.
int64_t trace_state_now(void);

// Waits until a time of that clock at most.
void trace_state_wait(pthread_cond_t * condition, pthread_mutex_t * mutex, int64_t time);
