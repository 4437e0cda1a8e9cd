// Writes the routing trace of one model (docs/trace-format.md) while the program runs.
//
// What is to be written is encoded by the thread that evaluates, into a buffer of fixed size, and brought to the disk
// by a thread of the writer's own, at most a second later. Where the buffer is full because the disk cannot keep up,
// the program waits a few milliseconds and then what does not fit is left out and counted (or it waits as long as it
// takes, see `wait`).

#pragma once

#include "base/log.h"
#include "routing/routing.h"

struct trace_options {
    const char * path;        // with %p and %m filled in
    const char * folder;      // that it is relative to, NULL: the current one
    bool         weights;     // gate weights
    bool         tokens;      // token ids
    bool         wait;        // for the disk, however long it takes
    size_t       buffer;      // bytes
    uint64_t     rotate_size; // bytes of a file, 0: no limit
    double       rotate_time; // seconds that a file tells of, 0: no limit
    uint64_t     sample;      // one batch in so many, 1: all
    uint64_t     seed;        // of the choice (trace-sampling.h), 0: a new one
    uint64_t     keep;        // bytes of all files of this path, the oldest are deleted; 0: no limit
};

struct trace_writer;

// A context of the model. It belongs to the thread that evaluates it.
struct trace_stream;

// Nothing is opened before the first ubatch, and then by the writer's own thread: who evaluates never waits for a file
// system. `run` as in the statistics. `say` is called from the threads that evaluate and end, `say_aside` from the
// writer's own; neither while a lock is held. The model and the run are kept by
// the caller. Returns NULL where memory runs out.
struct trace_writer * trace_writer_new(const struct trace_options * options, const struct routing_model * model, const char * run, log_fn say,
                                       log_fn say_aside);

// Ends the trace: writes what is in the buffer, and how it ended. `stopped`: why there would have been more, a static
// string; NULL: there would not. What streams deliver then is ignored, and so is a second call.
void trace_writer_end (struct trace_writer * writer, const char * stopped);
void trace_writer_free(struct trace_writer * writer); // NULL, or ended before

// Brings what there is to the disk, and waits for that, a few tenths of a second at the most.
void trace_writer_flush(struct trace_writer * writer);

// In the child of a fork: the file and the thread are the parent's. Nothing is written, closed or freed that is shared.
void trace_writer_abandon(struct trace_writer * writer);

// Ubatches of a context that has no stream, for lack of memory.
void trace_writer_lose(struct trace_writer * writer, uint64_t n_ubatches, uint64_t n_tokens);

struct trace_stream * trace_stream_new (struct trace_writer * writer); // NULL: out of memory
void                  trace_stream_free(struct trace_stream * stream);

void trace_stream_ubatch(struct trace_stream * stream, const struct routing_ubatch * ubatch, bool is_mtp);
void trace_stream_settle(struct trace_stream * stream, bool warmup);
void trace_stream_cut   (struct trace_stream * stream, const struct routing_cut * cut);
void trace_stream_reject(struct trace_stream * stream, const struct routing_rejection * rejection);
