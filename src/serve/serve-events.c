// Keeps events in blocks that several hold, and writes them with the writer that the library records with.

#include "serve/serve-events.h"

#include "trace/write/trace-stream.h"
#include "trace/write/trace-writer.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WRITE_BUFFER ((size_t) 32 << 20)
#define NO_ROOM      "recent routing was overwritten before it was read"

enum event_kind { EVENT_UBATCH, EVENT_SETTLE, EVENT_CUT, EVENT_REJECT };

// A ubatch has behind it: its tokens, its layers, and then for each layer its rows, where they are listed, and experts.
struct event {
    atomic_size_t            n_users;
    size_t                   size;
    enum event_kind          kind;
    uint32_t                 model;
    uint32_t                 context;
    bool                     is_mtp;
    bool                     warmup;
    struct routing_ubatch    ubatch;
    struct routing_cut       cut;
    struct routing_rejection rejection;
};

struct serve_events {
    size_t          room;
    size_t          size;
    struct event ** all;
    size_t          first;  // in all[]: what is before it is forgotten
    size_t          end;
    size_t          n_room; // of all[]
};

//
// keeping
//

static void let_go(struct event * event) {
    if (atomic_fetch_sub(&event->n_users, 1) == 1) {
        free(event);
    }
}

struct serve_events * serve_events_new(size_t room) {
    struct serve_events * events = memory_new(1, sizeof(*events));
    events->room = room;
    return events;
}

void serve_events_free(struct serve_events * events) {
    for (size_t i = events->first; i < events->end; i++) {
        let_go(events->all[i]);
    }
    free(events->all);
    free(events);
}

static void forget_oldest(struct serve_events * events) {
    while (events->size > events->room && events->first < events->end) {
        events->size -= events->all[events->first]->size;
        let_go(events->all[events->first++]);
    }
}

static void make_place(struct serve_events * events) {
    if (events->end < events->n_room) {
        return;
    }
    const size_t n = events->end - events->first;
    if (n > 0) {
        memmove(events->all, events->all + events->first, n * sizeof(*events->all));
    }
    events->first = 0;
    events->end   = n;
    if (2 * n >= events->n_room) {
        events->n_room = 2 * n + 64;
        events->all    = memory_resize(events->all, events->n_room, sizeof(*events->all));
    }
}

static struct event * add(const struct serve_source * source, enum event_kind kind, size_t more) {
    struct serve_events * events = source->events;
    struct event        * event  = memory_new(1, sizeof(*event) + more);
    forget_oldest(events);
    atomic_init(&event->n_users, 1);
    event->size    = sizeof(*event) + more;
    event->kind    = kind;
    event->model   = source->model;
    event->context = source->context;
    make_place(events);
    events->all[events->end++] = event;
    events->size += event->size;
    return event;
}

struct serve_events * serve_events_copy(struct serve_events * events) {
    struct serve_events * copy = serve_events_new(events->room);
    copy->n_room = copy->end = events->end - events->first;
    copy->all    = memory_new(copy->end, sizeof(*copy->all));
    copy->size   = events->size;
    for (size_t i = 0; i < copy->end; i++) {
        copy->all[i] = events->all[events->first + i];
        atomic_fetch_add(&copy->all[i]->n_users, 1);
    }
    return copy;
}

//
// what comes from a ring
//

static size_t cells_of(const struct routing_layer * layer) {
    return (size_t) layer->n_tokens * (size_t) layer->n_used;
}

static size_t rows_size(const struct routing_layer * layer) {
    return layer->rows == NULL ? 0 : (size_t) layer->n_tokens * sizeof(*layer->rows);
}

static size_t tokens_size(const struct routing_ubatch * ubatch) {
    return ubatch->tokens == NULL ? 0 : (size_t) ubatch->n_tokens * sizeof(*ubatch->tokens);
}

static size_t more_of(const struct routing_ubatch * ubatch) {
    size_t size = tokens_size(ubatch) + (size_t) ubatch->n_layers * sizeof(*ubatch->layers);
    for (int32_t i = 0; i < ubatch->n_layers; i++) {
        size += rows_size(&ubatch->layers[i]) + cells_of(&ubatch->layers[i]) * sizeof(int32_t);
    }
    return size;
}

static void * put(char ** at, const void * from, size_t size) {
    void * to = *at;
    if (size > 0) {
        memcpy(to, from, size);
    }
    *at += size;
    return to;
}

static void copy_layer(struct routing_layer * layer, char ** at) {
    layer->rows      = layer->rows == NULL ? NULL : put(at, layer->rows, rows_size(layer));
    layer->experts   = put(at, layer->experts, cells_of(layer) * sizeof(int32_t));
    layer->gates     = NULL;
    layer->n_tensors = 0;
}

static void take_ubatch(void * self, const struct routing_ubatch * ubatch, bool is_mtp) {
    const struct serve_source * source = self;
    struct event              * event  = add(source, EVENT_UBATCH, more_of(ubatch));
    char                      * at     = (char *) (event + 1);
    event->is_mtp = is_mtp;
    event->ubatch = *ubatch;
    struct routing_layer * layers = put(&at, ubatch->layers, (size_t) ubatch->n_layers * sizeof(*layers));
    event->ubatch.layers = layers;
    event->ubatch.tokens = ubatch->tokens == NULL ? NULL : put(&at, ubatch->tokens, tokens_size(ubatch));
    for (int32_t i = 0; i < ubatch->n_layers; i++) {
        copy_layer(&layers[i], &at);
    }
}

static void take_settle(void * self, bool warmup) {
    add(self, EVENT_SETTLE, 0)->warmup = warmup;
}

static void take_cut(void * self, const struct routing_cut * cut) {
    add(self, EVENT_CUT, 0)->cut = *cut;
}

static void take_reject(void * self, const struct routing_rejection * rejection) {
    add(self, EVENT_REJECT, 0)->rejection = *rejection;
}

static void take_gap(void * self, uint64_t ubatch, uint64_t n_tokens) {
    add(self, EVENT_UBATCH, 0)->ubatch = (struct routing_ubatch) {
        .n_tokens = n_tokens, .is_moe = true, .lost = NO_ROOM, .n_lost = 1, .number = ubatch,
    };
}

const struct live_tail_sink serve_events_sink = {
    .ubatch = take_ubatch,
    .settle = take_settle,
    .cut    = take_cut,
    .reject = take_reject,
    .gap    = take_gap,
};

static bool counts(const struct event * event, uint32_t model) {
    return event->model == model && event->kind == EVENT_UBATCH && event->ubatch.lost == NULL && !event->is_mtp;
}

uint64_t serve_events_tokens(const struct serve_events * events, uint32_t model) {
    uint64_t n = 0;
    for (size_t i = events->first; i < events->end; i++) {
        n += counts(events->all[i], model) ? events->all[i]->ubatch.n_tokens : 0;
    }
    return n;
}

uint64_t serve_events_ubatches(const struct serve_events * events, uint32_t model) {
    uint64_t n = 0;
    for (size_t i = events->first; i < events->end; i++) {
        n += counts(events->all[i], model);
    }
    return n;
}

//
// writing
//

struct context_stream {
    uint32_t              context;
    struct trace_stream * stream;
};

struct writing {
    const struct serve_bytes * bytes;
    struct trace_writer      * writer;
    struct context_stream    * streams;
    size_t                     n_streams;
    struct routing_layer     * layers;  // of a ubatch, with what their experts take
    char                    (* names)[40]; // of the tensors that stand for all of a layer, [bytes->n]
};

// What goes wrong is what trace_writer_end() returns.
static void ignore_lines(enum log_level level, const char * lines) {
    (void) level;
    (void) lines;
}

// NULL: out of memory.
static struct trace_stream * stream_of(struct writing * writing, uint32_t context) {
    for (size_t i = 0; i < writing->n_streams; i++) {
        if (writing->streams[i].context == context) {
            return writing->streams[i].stream;
        }
    }
    struct trace_stream * stream = trace_stream_new(writing->writer);
    if (stream != NULL) {
        writing->streams = memory_resize(writing->streams, writing->n_streams + 1, sizeof(*writing->streams));
        writing->streams[writing->n_streams++] = (struct context_stream) { context, stream };
    }
    return stream;
}

static void add_bytes(const struct writing * writing, struct routing_layer * layer) {
    const size_t at = (size_t) layer->layer;
    if (layer->layer >= 0 && at < writing->bytes->n && writing->bytes->layers[at] > 0) {
        layer->n_tensors       = 1;
        layer->tensor_names[0] = writing->names[at];
        layer->expert_bytes[0] = writing->bytes->layers[at];
    }
}

static void write_ubatch(struct writing * writing, struct trace_stream * stream, const struct event * event) {
    struct routing_ubatch ubatch = event->ubatch;
    const size_t          n      = (size_t) ubatch.n_layers;
    if (n > 0) {
        writing->layers = memory_resize(writing->layers, n, sizeof(*writing->layers));
        memcpy(writing->layers, ubatch.layers, n * sizeof(*writing->layers));
        ubatch.layers = writing->layers;
    }
    for (size_t i = 0; i < n; i++) {
        add_bytes(writing, &writing->layers[i]);
    }
    trace_stream_ubatch(stream, &ubatch, event->is_mtp);
}

static void write_event(struct writing * writing, const struct event * event) {
    struct trace_stream * stream = stream_of(writing, event->context);
    if (stream == NULL) {
        return; // what is missing shows in what the caller says of it
    }
    switch (event->kind) {
        case EVENT_UBATCH: write_ubatch(writing, stream, event);                break;
        case EVENT_SETTLE: trace_stream_settle(stream, event->warmup);          break;
        case EVENT_CUT:    trace_stream_cut   (stream, &event->cut);            break;
        case EVENT_REJECT: trace_stream_reject(stream, &event->rejection);      break;
    }
}

static void name_tensors(struct writing * writing) {
    writing->names = memory_new(writing->bytes->n, sizeof(*writing->names));
    for (size_t i = 0; i < writing->bytes->n; i++) {
        snprintf(writing->names[i], sizeof(*writing->names), "blk.%zu.ffn_exps", i);
    }
}

static void write_all(struct writing * writing, const struct serve_events * events, uint32_t model) {
    for (size_t i = events->first; i < events->end; i++) {
        if (events->all[i]->model == model) {
            write_event(writing, events->all[i]);
        }
    }
}

static void free_writing(struct writing * writing) {
    for (size_t i = 0; i < writing->n_streams; i++) {
        trace_stream_free(writing->streams[i].stream);
    }
    trace_writer_free(writing->writer);
    free(writing->streams);
    free(writing->layers);
    free(writing->names);
}

bool serve_events_write(const struct serve_events * events, const struct live_view_model * model,
                        const struct serve_bytes * bytes, int fd, struct error * error) {
    const struct routing_model about = {
        .key = model, .name = model->name, .architecture = model->architecture, .file = model->file,
        .engine = model->engine, .capture = model->capture, .n_layer = model->n_layer, .n_expert = model->n_expert,
        .n_used = model->n_used, .phases_known = model->phases_known,
    };
    const struct trace_options options = {
        .path = "recent routing", .wait = true, .buffer = WRITE_BUFFER, .descriptor = &fd,
    };
    struct writing writing = { .bytes = bytes };
    writing.writer = trace_writer_new(&options, &about, "", ignore_lines, ignore_lines);
    if (writing.writer == NULL) {
        return error_set(error, "out of memory");
    }
    name_tensors(&writing);
    write_all(&writing, events, model->number);
    const int failed = trace_writer_end(writing.writer, NULL);
    free_writing(&writing);
    return failed == 0 || failed == -ENODATA || error_set(error, "recent routing cannot be written: %s",
                                                          strerror(-failed));
}
