// Writes the routing trace of one model (docs/trace-format.md) while the program runs.
//
// What is to be written is encoded by the thread that evaluates, into a buffer of fixed size (trace-stream.h), and
// brought to the disk by a thread of the writer's own, at most a second later. Where the buffer is full because the
// disk cannot keep up, the program waits a few milliseconds and then what does not fit is left out and counted (or it
// waits as long as it takes, see `wait`).

#pragma once

#include "base/log.h"
#include "routing/routing.h"
#include "trace/write/trace-options.h"

struct trace_writer;

// Nothing is opened before the first ubatch, and then by the writer's own thread: the one that evaluates never waits
// for a file system. `run` as in the statistics. `say` is called from the threads that evaluate and end, `say_aside`
// from the writer's own; neither while a lock is held. The model and the run are kept by the caller. Returns NULL
// where memory runs out.
struct trace_writer * trace_writer_new(const struct trace_options * options, const struct routing_model * model,
                                       const char * run, log_fn say, log_fn say_aside);

// Ends the trace: writes what is in the buffer, and how it ended. `stopped`: why there would have been more, a static
// string; NULL: there would not. What streams deliver then is ignored, and so is a second call. Returns 0 where the
// file has all that was delivered, or -errno; -ENODATA: something was left out.
int  trace_writer_end (struct trace_writer * writer, const char * stopped);
void trace_writer_free(struct trace_writer * writer); // NULL, or ended before

// Brings what there is to the disk, and waits for that, a few tenths of a second at the most.
void trace_writer_flush(struct trace_writer * writer);

// In the child of a fork: the file and the thread are the parent's. Nothing is written, closed or freed that is
// shared.
void trace_writer_abandon(struct trace_writer * writer);

// Ubatches of a context that has no stream, for lack of memory.
void trace_writer_lose(struct trace_writer * writer, uint64_t n_ubatches, uint64_t n_tokens);

//
// for streams, with the writer's mutex (trace-state.h)
//

struct trace_remark;

// Starts the thread, which makes the file. Says in `remark` why that could not be: the trace is off then.
void trace_writer_begin(struct trace_writer * writer, const struct routing_ubatch * ubatch,
                        struct trace_remark * remark);

// Nothing is recorded from now on, and the trace ends as soon as what there is is written.
void trace_writer_stop(struct trace_writer * writer);
