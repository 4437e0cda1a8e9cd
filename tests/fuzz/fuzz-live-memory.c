// Whatever bytes there are as the memory of a running tracer: it is read as `serve` and `top` do.

#include "fuzz.h"

#include "live/live-tails.h"
#include "live/live-view.h"

#include <fcntl.h>

static uint64_t sum;

static void take_ubatch(void * self, const struct routing_ubatch * ubatch, bool is_mtp) {
    (void) self;
    sum += is_mtp;
    for (uint64_t i = 0; ubatch->tokens != NULL && i < ubatch->n_tokens; i++) {
        sum += (uint64_t) ubatch->tokens[i].position;
    }
    for (int32_t i = 0; i < ubatch->n_layers; i++) {
        const struct routing_layer * layer = &ubatch->layers[i];
        for (int32_t j = 0; j < layer->n_tokens * layer->n_used; j++) {
            EXPECT(layer->experts[j] >= 0 && layer->experts[j] < layer->n_expert);
        }
        for (int32_t j = 0; layer->rows != NULL && j < layer->n_tokens; j++) {
            EXPECT(layer->rows[j] >= 0 && (uint64_t) layer->rows[j] < ubatch->n_tokens);
        }
    }
}

static void take_settle(void * self, bool warmup) {
    (void) self;
    sum += warmup;
}

static void take_cut(void * self, const struct routing_cut * cut) {
    (void) self;
    sum += (uint64_t) cut->position;
}

static void take_reject(void * self, const struct routing_rejection * rejection) {
    (void) self;
    sum += (uint64_t) rejection->n;
}

static void take_gap(void * self, uint64_t ubatch, uint64_t n_tokens) {
    (void) self;
    sum += ubatch + n_tokens;
}

static const struct live_tail_sink sink = { take_ubatch, take_settle, take_cut, take_reject, take_gap };

static void * open_context(void * self, uint32_t model, uint32_t context) {
    sum += model + context;
    return self;
}

static void close_context(void * self, void * opened) {
    EXPECT(self == opened);
}

static void read_view(const struct live_map * map) {
    struct live_view view;
    struct error     error;
    if (!live_view_read(map, &view, &error)) {
        return;
    }
    for (size_t i = 0; i < view.n_models; i++) {
        const struct counters_table * table = &view.models[i].counts.table;
        EXPECT(i == 0 || view.models[i - 1].number < view.models[i].number);
        for (int32_t j = 0; j < table->n_layers; j++) {
            EXPECT(table->layers[j].n_expert >= 0 && table->layers[j].n_expert <= table->n_expert);
            for (int32_t k = 0; k < table->layers[j].n_expert; k++) {
                sum += counter_get(&counters_row(table, j)[k]);
            }
        }
    }
    live_view_free(&view);
}

static void read_rings(const struct live_map * map) {
    const struct live_tails_receiver receiver = { &sink, open_context, close_context, &sum };
    struct live_tails              * tails    = live_tails_new(&receiver);
    live_tails_read(tails, map);
    live_tails_read(tails, map);
    sum += live_tails_overrun(tails);
    live_tails_free(tails);
}

int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    struct live_map map;
    struct error    error;
    const int       fd = memfd_create("memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    EXPECT(fd >= 0 && write(fd, data, size) == (ssize_t) size);
    EXPECT(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
    if (live_map_open(&map, fd, &error)) {
        read_view (&map);
        read_rings(&map);
        live_map_close(&map);
    }
    close(fd);
    return 0;
}
