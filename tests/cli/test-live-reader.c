// What the tool reads of a tracer's memory: made by hand here, whole, changing, damaged, and of nobody's making.

#include "live/live-map.h"
#include "live/live-tail.h"
#include "live/live-view.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define SIZE      (1 << 20)
#define RING_SIZE 4096
#define N_LAYERS  3
#define N_EXPERT  8

static int                  fd;
static char               * base;
static struct live_header * header;
static size_t               used;
static struct error         error;

static int begin(void ** state) {
    (void) state;
    fd   = memfd_create("llama-expert-tracer", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    base = fd >= 0 && ftruncate(fd, SIZE) == 0 ? mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : NULL;
    if (base == NULL || base == MAP_FAILED || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
        return -1;
    }
    used   = LIVE_HEADER_ROOM;
    header = (struct live_header *) (void *) base;
    memcpy(header->magic, LIVE_MAGIC, sizeof(header->magic));
    header->version    = LIVE_VERSION;
    header->entries_at = LIVE_ENTRIES_AT;
    header->entry_size = sizeof(struct live_entry);
    header->n_entries  = LIVE_ENTRIES_MAX;
    header->file_size  = SIZE;
    header->started    = 1234567;
    header->pid        = 42;
    header->switches   = LIVE_COUNTS;
    header->n_hidden   = 1;
    strcpy(header->name,    "42-00000000");
    strcpy(header->program, "llama-server");
    strcpy(header->tracer,  "0.1.0");
    return 0;
}

static int end(void ** state) {
    (void) state;
    munmap(base, SIZE);
    close(fd);
    return 0;
}

//
// what a tracer would write
//

static struct live_entry * entry_at(int i) {
    return (struct live_entry *) (void *) (base + LIVE_ENTRIES_AT) + i;
}

static void * take(size_t size) {
    void * at = base + used;
    used += (size + 127) / 128 * 128;
    assert_true(used <= SIZE);
    return at;
}

static uint64_t offset_of(const void * at) {
    return (uint64_t) ((const char *) at - base);
}

static void enter(uint32_t kind, uint32_t model, uint32_t context, const void * at, size_t size) {
    int i = 0;
    while (entry_at(i)->kind != LIVE_NONE) {
        i++;
    }
    entry_at(i)->model   = model;
    entry_at(i)->context = context;
    entry_at(i)->offset  = offset_of(at);
    entry_at(i)->size    = size;
    entry_at(i)->kind    = kind;
}

static struct live_model * add_model(uint32_t number, const char * name) {
    struct live_model * model = take(256);
    model->n_layer       = N_LAYERS;
    model->n_expert      = N_EXPERT;
    model->n_used        = 2;
    model->phases_known  = 1;
    model->name          = (struct live_string) { sizeof(*model), (uint32_t) strlen(name) };
    memcpy((char *) model + sizeof(*model), name, strlen(name));
    enter(LIVE_MODEL, number, 0, model, 256);
    return model;
}

static struct counters_table add_table(struct live_table * shown) {
    struct counters_table table = { .n_layers = N_LAYERS, .n_expert = N_EXPERT };
    table.layers      = take(counters_block_size(N_LAYERS, N_EXPERT));
    table.activations = (_Atomic uint64_t *) (table.layers + N_LAYERS);
    shown->n_layers   = N_LAYERS;
    shown->n_expert   = N_EXPERT;
    shown->offset     = offset_of(table.layers);
    return table;
}

struct both {
    struct live_meter   * meter;
    struct counters_table counts;
    struct counters_table pending;
};

static struct both add_meter(uint32_t kind, uint32_t model, uint32_t context) {
    struct both both = { .meter = take(sizeof(struct live_meter)) };
    both.counts  = add_table(&both.meter->counts_table);
    both.pending = add_table(&both.meter->pending_table);
    enter(kind, model, context, both.meter, sizeof(struct live_meter));
    return both;
}

// One token of a layer, to experts `first` and the next one.
static void count(struct counters_table * table, struct counters_totals * totals, int32_t layer, int32_t first) {
    const int32_t              experts[2] = { first, first + 1 };
    const struct routing_layer routed     = {
        .layer = layer, .n_expert = N_EXPERT, .n_used = 2, .n_tokens = 1, .experts = experts,
    };
    assert_true(counters_add_layer(table, &routed));
    counter_add(&totals->n_tokens, 1);
}

static bool read_once(struct live_view * view) {
    struct live_map map;
    if (!live_map_open(&map, fd, &error)) {
        return false;
    }
    const bool ok = live_view_read(&map, view, &error);
    live_map_close(&map);
    return ok;
}

//
// the map
//

static void refuse(const char * why) {
    struct live_map map;
    assert_false(live_map_open(&map, fd, &error));
    assert_non_null(strstr(error.text, why));
}

static void test_what_is_no_live_memory(void ** state) {
    (void) state;
    header->version = 2;
    refuse("version 2");
    header->version = 1;
    header->magic[0] = 'X';
    refuse("no live memory");
    header->magic[0] = 'M';
    header->entry_size = 24;
    refuse("damaged");
    header->entry_size = 36;
    refuse("damaged");
    header->entry_size = 1u << 31;
    refuse("damaged");
    header->entry_size = 32;
    header->n_entries  = UINT32_MAX;
    refuse("damaged");
    header->n_entries  = LIVE_ENTRIES_MAX;
    header->entries_at = SIZE - 8;
    refuse("damaged");
    header->entries_at = 8;
    refuse("damaged");
    header->entries_at = LIVE_ENTRIES_AT;
    struct live_map map;
    assert_true(live_map_open(&map, fd, &error));
    live_map_close(&map);
}

static void test_what_could_be_shrunk_is_not_mapped(void ** state) {
    (void) state;
    const int loose = memfd_create("loose", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(ftruncate(loose, SIZE), 0);
    assert_int_equal(pwrite(loose, base, LIVE_HEADER_ROOM, 0), LIVE_HEADER_ROOM);
    struct live_map map;
    assert_false(live_map_open(&map, loose, &error));
    assert_int_equal(ftruncate(loose, 100), 0);
    assert_int_equal(fcntl(loose, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    assert_false(live_map_open(&map, loose, &error));
    close(loose);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_false(live_map_open(&map, ends[0], &error));
    close(ends[0]);
    close(ends[1]);
}

//
// the view
//

static void test_what_was_counted(void ** state) {
    (void) state;
    add_model(2, "Second");
    add_model(1, "First");
    struct both one    = add_meter(LIVE_CONTEXT, 1, 1);
    struct both two    = add_meter(LIVE_CONTEXT, 1, 2);
    struct both closed = add_meter(LIVE_CLOSED,  1, 0);
    for (int i = 0; i < 5; i++) {
        count(&one.counts, &one.meter->counts, 1, 3);
    }
    count(&two.pending,   &two.meter->pending,   1, 4);
    count(&closed.counts, &closed.meter->counts, 2, 0);
    struct live_view view;
    assert_true(read_once(&view));
    assert_int_equal(view.started, 1234567);
    assert_int_equal(view.pid, 42);
    assert_string_equal(view.name, "42-00000000");
    assert_string_equal(view.program, "llama-server");
    assert_int_equal(view.switches, LIVE_COUNTS);
    assert_int_equal(view.n_hidden, 1);
    assert_int_equal(view.n_models, 2);
    assert_string_equal(view.models[0].name, "First");
    assert_string_equal(view.models[1].name, "Second");
    assert_null(view.models[0].engine);
    assert_true(view.models[0].phases_known);
    const struct live_view_model * model = &view.models[0];
    assert_int_equal(model->n_contexts, 2);
    assert_int_equal(view.models[1].n_contexts, 0);
    assert_int_equal(counter_get(&model->counts.totals.n_tokens), 7);
    assert_int_equal(counter_get(&counters_row(&model->counts.table, 1)[3]), 5);
    assert_int_equal(counter_get(&counters_row(&model->counts.table, 1)[4]), 6);
    assert_int_equal(counter_get(&counters_row(&model->counts.table, 1)[5]), 1);
    assert_int_equal(counter_get(&counters_row(&model->counts.table, 2)[0]), 1);
    assert_int_equal(model->counts.table.layers[0].n_expert, 0);
    assert_int_equal(counter_get(&model->counts.table.layers[1].n_tokens), 6);
    live_view_free(&view);
}

static void test_one_that_is_stopped_while_it_counts(void ** state) {
    (void) state;
    struct both one = add_meter(LIVE_CONTEXT, 1, 1);
    struct live_view view;
    one.meter->sequence = 1;
    assert_false(read_once(&view));
    assert_non_null(strstr(error.text, "try again"));
    one.meter->sequence = 2;
    assert_true(read_once(&view));
    live_view_free(&view);
    header->sequence = 3;
    assert_false(read_once(&view));
    assert_non_null(strstr(error.text, "try again"));
}

static void expect_damage(void) {
    struct live_view view;
    assert_false(read_once(&view));
    assert_non_null(strstr(error.text, "damaged"));
}

static void test_places_outside_of_the_file(void ** state) {
    (void) state;
    struct live_model * model = add_model(1, "Name");
    struct both         one   = add_meter(LIVE_CONTEXT, 1, 1);
    struct live_view    view;
    static const uint64_t offsets[] = { SIZE, SIZE - 8, 4, UINT64_MAX, UINT64_MAX - 7 };
    for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        for (int e = 0; e < 2; e++) {
            const uint64_t before = entry_at(e)->offset;
            entry_at(e)->offset = offsets[i];
            expect_damage();
            entry_at(e)->offset = before;
        }
        const uint64_t before = one.meter->counts_table.offset;
        one.meter->counts_table.offset = offsets[i];
        expect_damage();
        one.meter->counts_table.offset = before;
    }
    model->name.length = 1000;
    expect_damage();
    model->name.length = UINT32_MAX;
    expect_damage();
    model->name.length = 4;
    one.meter->counts_table.n_layers = INT32_MAX;
    expect_damage();
    one.meter->counts_table.n_expert = INT32_MAX;
    expect_damage();
    one.meter->counts_table.n_layers = -1;
    expect_damage();
    one.meter->counts_table.n_layers = N_LAYERS;
    one.meter->counts_table.n_expert = N_EXPERT;
    one.counts.layers[1].n_expert = N_EXPERT + 1;
    expect_damage();
    one.counts.layers[1].n_expert = -1;
    expect_damage();
    one.counts.layers[1].n_expert = 0;
    assert_true(read_once(&view));
    live_view_free(&view);
}

// Little memory that would ask for much more.
static void test_sums_that_are_larger_than_the_file(void ** state) {
    (void) state;
    struct both one = add_meter(LIVE_CONTEXT, 1, 1);
    struct both two = add_meter(LIVE_CONTEXT, 1, 2);
    one.meter->counts_table.n_layers = 1;
    one.meter->counts_table.n_expert = 60000;
    two.meter->counts_table.n_layers = 15000;
    two.meter->counts_table.n_expert = 1;
    one.meter->counts_table.offset   = LIVE_HEADER_ROOM * 2;
    two.meter->counts_table.offset   = LIVE_HEADER_ROOM * 2;
    expect_damage();
}

static atomic_bool stop;

static void * keep_counting(void * self) {
    struct both * both = self;
    while (!atomic_load(&stop)) {
        const uint32_t sequence = atomic_load_explicit(&both->meter->sequence, memory_order_relaxed);
        atomic_store_explicit(&both->meter->sequence, sequence + 1, memory_order_relaxed);
        atomic_thread_fence(memory_order_release);
        for (int32_t layer = 0; layer < N_LAYERS; layer++) {
            count(&both->counts, &both->meter->counts, layer, layer);
        }
        atomic_store_explicit(&both->meter->sequence, sequence + 2, memory_order_release);
        for (volatile int i = 0; i < 300; i++) {
        }
    }
    return NULL;
}

static void test_ubatches_are_whole(void ** state) {
    (void) state;
    struct both one = add_meter(LIVE_CONTEXT, 1, 1);
    pthread_t   thread;
    int         n   = 0;
    atomic_store(&stop, false);
    assert_int_equal(pthread_create(&thread, NULL, keep_counting, &one), 0);
    for (int i = 0; i < 200; i++) {
        struct live_view view;
        if (read_once(&view)) {
            const struct counters_table * table = &view.models[0].counts.table;
            const uint64_t                all   = counter_get(&view.models[0].counts.totals.n_tokens) / N_LAYERS;
            for (int32_t layer = 0; layer < N_LAYERS && table->n_layers > 0; layer++) {
                assert_int_equal(counter_get(&table->layers[layer].n_tokens), all);
                assert_int_equal(counter_get(&counters_row(table, layer)[layer]), all);
            }
            live_view_free(&view);
            n++;
        }
    }
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
    assert_true(n > 100);
}

//
// the ring
//

struct written {
    struct live_ring * ring;
    uint8_t          * data;
};

static struct written add_ring(void) {
    struct written written = { .ring = take(LIVE_RING_DATA_AT + RING_SIZE) };
    written.ring->data_at = LIVE_RING_DATA_AT;
    written.ring->size    = RING_SIZE;
    written.data          = (uint8_t *) written.ring + LIVE_RING_DATA_AT;
    enter(LIVE_RING, 1, 1, written.ring, LIVE_RING_DATA_AT + RING_SIZE);
    return written;
}

static void put(struct written * written, const void * bytes, size_t size) {
    const uint64_t at = written->ring->written;
    written->ring->begun = at + size;
    for (size_t i = 0; i < size; i++) {
        written->data[(at + i) % RING_SIZE] = ((const uint8_t *) bytes)[i];
    }
    written->ring->written = at + size;
}

// Two tokens, of which the second alone has a row in the layer: experts 5 and 2.
struct ubatch {
    struct live_record record;
    struct live_token  tokens[2];
    struct live_layer  layer;
    int32_t            row;
    uint16_t           experts[2];
};

static struct ubatch some_ubatch(uint64_t number) {
    return (struct ubatch) {
        .record  = { sizeof(struct ubatch), LIVE_RECORD_UBATCH, LIVE_UBATCH_TOKENS | LIVE_UBATCH_ROWS_KNOWN, 0, number,
                     7, 99, 2, 1 },
        .tokens  = { { 0, 1, 10, 0 }, { 3, 0, 4, 3 } },
        .layer   = { 2, N_EXPERT, 2, 1, 1, sizeof(struct live_layer) + 8 },
        .row     = 1,
        .experts = { 5, 2 },
    };
}

struct heard {
    int      n_ubatches;
    uint64_t last;
    int      n_others;
};

static void on_ubatch(void * self, const struct routing_ubatch * ubatch, bool is_mtp) {
    struct heard * heard = self;
    heard->n_ubatches++;
    heard->last = ubatch->number;
    assert_false(is_mtp);
    assert_int_equal(ubatch->fate, ROUTING_COUNT);
    assert_int_equal(ubatch->n_tokens, 2);
    assert_int_equal(ubatch->batch, 7);
    assert_int_equal(ubatch->time, 99);
    assert_true(ubatch->rows_known);
    assert_int_equal(ubatch->tokens[0].life, 1);
    assert_int_equal(ubatch->tokens[1].position, 4);
    assert_true(ubatch->tokens[1].generation && ubatch->tokens[1].output && !ubatch->tokens[0].generation);
    assert_int_equal(ubatch->n_layers, 1);
    assert_int_equal(ubatch->layers[0].layer, 2);
    assert_int_equal(ubatch->layers[0].rows[0], 1);
    assert_int_equal(ubatch->layers[0].experts[0], 5);
    assert_int_equal(ubatch->layers[0].experts[1], 2);
}

static void on_settle(void * self, bool warmup) {
    assert_true(warmup);
    ((struct heard *) self)->n_others++;
}

static void on_cut(void * self, const struct routing_cut * cut) {
    assert_int_equal(cut->sequence, 3);
    assert_int_equal(cut->life, 1);
    assert_int_equal(cut->position, 17);
    ((struct heard *) self)->n_others++;
}

static void on_reject(void * self, const struct routing_rejection * rejection) {
    assert_int_equal(rejection->ubatch, 5);
    assert_int_equal(rejection->n, 3);
    assert_int_equal(rejection->first, 1);
    ((struct heard *) self)->n_others++;
}

static void on_gap(void * self, uint64_t ubatch, uint64_t n_tokens) {
    assert_int_equal(ubatch, 8);
    assert_int_equal(n_tokens, 512);
    ((struct heard *) self)->n_others++;
}

static const struct live_tail_sink sink = { on_ubatch, on_settle, on_cut, on_reject, on_gap };

static void put_others(struct written * ring) {
    const struct live_record records[] = {
        { 56, LIVE_RECORD_SETTLE, 0, 1,  0, 0, 0, 0,   0 },
        { 56, LIVE_RECORD_CUT,    0, 17, 0, 0, 0, 3,   1 },
        { 56, LIVE_RECORD_REJECT, 0, 0,  5, 0, 0, 3,   1 },
        { 56, LIVE_RECORD_GAP,    0, 0,  8, 0, 0, 512, 0 },
        { 56, 77,                 0, 0,  0, 0, 0, 0,   0 },
    };
    for (size_t i = 0; i < sizeof(records) / sizeof(records[0]); i++) {
        struct live_record record = records[i];
        record.size = sizeof(record);
        put(ring, &record, sizeof(record));
    }
}

static enum live_tail_state follow(struct live_tail * tail, struct heard * heard) {
    struct live_map map;
    assert_true(live_map_open(&map, fd, &error));
    const enum live_tail_state state = live_tail_read(tail, &map, &sink, heard);
    live_map_close(&map);
    return state;
}

static void test_records_are_delivered(void ** state) {
    (void) state;
    struct written     ring  = add_ring();
    struct live_tail * all   = live_tail_new(1, 1, true);
    struct live_tail * later = live_tail_new(1, 1, false);
    struct live_tail * other = live_tail_new(1, 2, true);
    struct heard       heard = { 0 };
    const struct ubatch first = some_ubatch(0);
    put(&ring, &first, sizeof(first));
    put_others(&ring);
    assert_int_equal(follow(all, &heard), LIVE_TAIL_READ);
    assert_int_equal(heard.n_ubatches, 1);
    assert_int_equal(heard.n_others, 4);
    heard = (struct heard) { 0 };
    assert_int_equal(follow(later, &heard), LIVE_TAIL_READ);
    assert_int_equal(heard.n_ubatches, 0);
    assert_int_equal(follow(other, &heard), LIVE_TAIL_GONE);
    for (uint64_t i = 1; i < 500; i++) { // around the end many times
        const struct ubatch next = some_ubatch(i);
        put(&ring, &next, sizeof(next));
        heard = (struct heard) { 0 };
        assert_int_equal(follow(all, &heard), LIVE_TAIL_READ);
        assert_int_equal(follow(later, &heard), LIVE_TAIL_READ);
        assert_int_equal(heard.n_ubatches, 2);
        assert_int_equal(heard.last, i);
    }
    assert_int_equal(live_tail_overrun(all), 0);
    live_tail_free(all);
    live_tail_free(later);
    live_tail_free(other);
}

static void test_what_was_overwritten_is_counted(void ** state) {
    (void) state;
    struct written     ring  = add_ring();
    struct live_tail * tail  = live_tail_new(1, 1, true);
    struct heard       heard = { 0 };
    assert_int_equal(follow(tail, &heard), LIVE_TAIL_READ);
    for (uint64_t i = 0; i < 100; i++) {
        const struct ubatch next = some_ubatch(i);
        put(&ring, &next, sizeof(next));
    }
    assert_int_equal(follow(tail, &heard), LIVE_TAIL_READ);
    assert_int_equal(heard.n_ubatches, 0);
    assert_int_equal(live_tail_overrun(tail), 100 * sizeof(struct ubatch));
    const struct ubatch next = some_ubatch(100);
    put(&ring, &next, sizeof(next));
    ring.ring->begun = ring.ring->written + RING_SIZE - sizeof(next); // one that is being written, up to that place
    assert_int_equal(follow(tail, &heard), LIVE_TAIL_READ);
    assert_int_equal(heard.n_ubatches, 1);
    put(&ring, &next, sizeof(next));
    ring.ring->begun = ring.ring->written + RING_SIZE - sizeof(next) + 8;
    assert_int_equal(follow(tail, &heard), LIVE_TAIL_READ);
    assert_int_equal(heard.n_ubatches, 1);
    assert_int_equal(live_tail_overrun(tail), 101 * sizeof(struct ubatch));
    live_tail_free(tail);
}

static void test_a_ring_that_goes_and_comes_again(void ** state) {
    (void) state;
    struct written      ring  = add_ring();
    struct live_tail  * tail  = live_tail_new(1, 1, false);
    struct heard        heard = { 0 };
    const struct ubatch ubatch = some_ubatch(0);
    put(&ring, &ubatch, sizeof(ubatch));
    assert_int_equal(follow(tail, &heard), LIVE_TAIL_READ);
    entry_at(0)->kind = LIVE_NONE;
    assert_int_equal(follow(tail, &heard), LIVE_TAIL_GONE);
    struct written again = add_ring();
    put(&again, &ubatch, sizeof(ubatch));
    assert_int_equal(follow(tail, &heard), LIVE_TAIL_READ);
    assert_int_equal(heard.n_ubatches, 1); // nothing was there before it came
    live_tail_free(tail);
}

static void test_records_that_are_none(void ** state) {
    (void) state;
    struct written ring = add_ring();
    struct ubatch  bad[12];
    for (size_t i = 0; i < 12; i++) {
        bad[i] = some_ubatch(i);
    }
    bad[ 0].record.size     = 8;
    bad[ 1].record.size     = sizeof(struct ubatch) + 8;
    bad[ 2].record.size     = sizeof(struct ubatch) - 4;
    bad[ 3].record.n_tokens = 100000;
    bad[ 4].record.n_layers = 100000;
    bad[ 5].record.n_layers = 0;
    bad[ 6].layer.size      = UINT32_MAX - 7;
    bad[ 7].layer.n_rows    = 3;
    bad[ 8].layer.n_used    = INT32_MAX;
    bad[ 9].experts[1]      = N_EXPERT;
    bad[10].row             = 2;
    bad[11].layer.n_expert  = -1;
    for (size_t i = 0; i < 12; i++) {
        struct live_tail * tail  = live_tail_new(1, 1, false);
        struct heard       heard = { 0 };
        assert_int_equal(follow(tail, &heard), LIVE_TAIL_READ);
        put(&ring, &bad[i], sizeof(bad[i]));
        assert_int_equal(follow(tail, &heard), LIVE_TAIL_DAMAGED);
        assert_int_equal(heard.n_ubatches, 0);
        live_tail_free(tail);
    }
}

static void ignore_ubatch(void * self, const struct routing_ubatch * ubatch, bool is_mtp) {
    (void) is_mtp;
    for (int32_t i = 0; i < ubatch->n_layers; i++) {
        const struct routing_layer * layer = &ubatch->layers[i];
        for (int32_t j = 0; j < layer->n_tokens * layer->n_used; j++) {
            assert_true(layer->experts[j] < layer->n_expert);
        }
    }
    (*(int *) self)++;
}

static void ignore_settle(void * self, bool warmup) {
    (void) self;
    (void) warmup;
}

static void ignore_cut(void * self, const struct routing_cut * cut) {
    (void) self;
    (void) cut;
}

static void ignore_reject(void * self, const struct routing_rejection * rejection) {
    (void) self;
    (void) rejection;
}

static void ignore_gap(void * self, uint64_t ubatch, uint64_t n_tokens) {
    (void) self;
    (void) ubatch;
    (void) n_tokens;
}

// Whatever bytes change, reading ends, and stays inside of the file.
static void test_any_bytes(void ** state) {
    (void) state;
    static const struct live_tail_sink ignore = { ignore_ubatch, ignore_settle, ignore_cut, ignore_reject, ignore_gap };
    add_model(1, "Name");
    struct both one = add_meter(LIVE_CONTEXT, 1, 1);
    count(&one.counts, &one.meter->counts, 1, 3);
    struct written ring = add_ring();
    for (uint64_t i = 0; i < 20; i++) {
        const struct ubatch next = some_ubatch(i);
        put(&ring, &next, sizeof(next));
    }
    char * whole = malloc(used);
    memcpy(whole, base, used);
    srand(1);
    int n = 0;
    for (int i = 0; i < 3000; i++) {
        struct live_map map;
        for (int j = 0; j < 4; j++) {
            const size_t   at       = rand() % 2 == 0 ? (size_t) rand() % used
                                                      : LIVE_HEADER_ROOM + (size_t) rand() % 4096;
            const uint32_t values[] = { 0, 1, 255, 0x7fffffff, 0x80000000, 0xffffffff, (uint32_t) rand() };
            const uint32_t value    = values[rand() % 7];
            if (at / 4 != offsetof(struct live_header, sequence) / 4 && at + 4 <= used &&
                at / 4 * 4 != offset_of(&one.meter->sequence)) { // odd ones take a while
                memcpy(base + at / 4 * 4, &value, rand() % 2 == 0 ? 4 : 1);
            }
        }
        if (live_map_open(&map, fd, &error)) {
            struct live_view   view;
            struct live_tail * tail = live_tail_new(1, 1, true);
            if (live_view_read(&map, &view, &error)) {
                live_view_free(&view);
            }
            live_tail_read(tail, &map, &ignore, &n);
            live_tail_free(tail);
            live_map_close(&map);
        }
        memcpy(base, whole, used);
    }
    assert_true(n > 1000);
    free(whole);
}

int main(void) {
#define WITH_MEMORY(test) cmocka_unit_test_setup_teardown(test, begin, end)
    const struct CMUnitTest tests[] = {
        WITH_MEMORY(test_what_is_no_live_memory),
        WITH_MEMORY(test_what_could_be_shrunk_is_not_mapped),
        WITH_MEMORY(test_what_was_counted),
        WITH_MEMORY(test_one_that_is_stopped_while_it_counts),
        WITH_MEMORY(test_places_outside_of_the_file),
        WITH_MEMORY(test_sums_that_are_larger_than_the_file),
        WITH_MEMORY(test_ubatches_are_whole),
        WITH_MEMORY(test_records_are_delivered),
        WITH_MEMORY(test_what_was_overwritten_is_counted),
        WITH_MEMORY(test_a_ring_that_goes_and_comes_again),
        WITH_MEMORY(test_records_that_are_none),
        WITH_MEMORY(test_any_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
