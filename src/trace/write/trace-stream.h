// What a context of a model adds to the routing trace. It belongs to the thread that evaluates the context.

#pragma once

#include "routing/routing.h"

#include <stdbool.h>

struct trace_writer;
struct trace_stream;

struct trace_stream * trace_stream_new (struct trace_writer * writer); // NULL: out of memory
void                  trace_stream_free(struct trace_stream * stream);

void trace_stream_ubatch(struct trace_stream * stream, const struct routing_ubatch * ubatch, bool is_mtp);
void trace_stream_settle(struct trace_stream * stream, bool warmup);
void trace_stream_cut   (struct trace_stream * stream, const struct routing_cut * cut);
void trace_stream_reject(struct trace_stream * stream, const struct routing_rejection * rejection);
