#include "trace/rewrite/trace-packer.h"

#include "trace/read/trace-index.h"
#include "trace/read/trace-packed.h"
#include "trace/rewrite/chunk-output.h"
#include "trace/rewrite/trace-packing.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GROUP_SIZE  (2 * 1024 * 1024)      // bytes of data that are packed together, or a little more
#define LARGEST     (TRACE_PACKED_MAX / 2) // chunk that is packed
#define COPY_SIZE   65536

//
// how often each expert was chosen
//

// Of one layer of one table.
struct layer_counts {
    uint64_t * experts; // [n_expert], NULL: none
};

struct table_counts {
    struct layer_counts * layers;
};

static void free_counts(struct table_counts * counts, const struct trace_tables * tables) {
    for (size_t i = 0; counts && i < tables->n; i++) {
        for (size_t j = 0; counts[i].layers && j < tables->tables[i].n_layers; j++) {
            free(counts[i].layers[j].experts);
        }
        free(counts[i].layers);
    }
    free(counts);
}

static bool count_layer(struct layer_counts * counts, const struct trace_routing * routing) {
    if (!counts->experts) {
        counts->experts = calloc((size_t) routing->n_expert, sizeof(counts->experts[0]));
    }
    if (!counts->experts) {
        return false;
    }
    const size_t n = (size_t) routing->n_rows * (size_t) routing->n_used;
    for (size_t i = 0; i < n; i++) {
        counts->experts[routing->experts[i]]++;
    }
    return true;
}

static bool count_ubatch(struct table_counts * counts, const struct trace_ubatch * ubatch) {
    struct table_counts * table = &counts[ubatch->table];
    if (!table->layers) {
        table->layers = calloc(ubatch->n_layers + 1, sizeof(table->layers[0]));
    }
    bool ok = table->layers != NULL;
    for (size_t i = 0; i < ubatch->n_layers && ok; i++) {
        ok = count_layer(&table->layers[i], &ubatch->layers[i]);
    }
    return ok;
}

struct packing_progress {
    trace_pack_progress tell;
    void              * self;
    double              total; // bytes to go through
};

static void tell(const struct packing_progress * progress, uint64_t done) {
    if (progress->tell) {
        progress->tell(progress->self, progress->total > 0 ? (double) done / progress->total : 1);
    }
}

static bool count_all(const struct trace * trace, struct table_counts * counts, uint64_t * lost, const struct packing_progress * progress) {
    struct trace_cursor * cursor = trace_cursor_new(trace);
    struct trace_ubatch   ubatch;
    bool                  ok     = cursor != NULL;
    while (ok && trace_next(cursor, &ubatch)) {
        ok = count_ubatch(counts, &ubatch);
        tell(progress, trace_cursor_offset(cursor));
    }
    *lost = ok ? trace_cursor_lost(cursor) : 0;
    trace_cursor_free(cursor);
    return ok;
}

static double entropy_of(const uint64_t * counts, int32_t n_expert) {
    double total = 0;
    double bits  = 0;
    for (int32_t i = 0; i < n_expert; i++) {
        total += (double) counts[i];
    }
    for (int32_t i = 0; i < n_expert; i++) {
        bits += counts[i] > 0 ? (double) counts[i] * log2(total / (double) counts[i]) : 0;
    }
    return bits / 8;
}

static bool fit_layer(struct trace_code_layer * layer, const struct trace_layer * about, const uint64_t * counts, double * entropy) {
    if (counts) {
        *entropy += entropy_of(counts, about->n_expert);
        return trace_code_fit(layer, counts, about->n_expert);
    }
    layer->experts = calloc((size_t) about->n_expert + 1, sizeof(layer->experts[0]));
    layer->n_expert = about->n_expert;
    return layer->experts != NULL;
}

// A code for each table that ubatches have.
static bool fit_code(const struct trace * trace, const struct table_counts * counts, struct trace_code * code, double * entropy) {
    bool ok = true;
    for (size_t i = 0; i < trace->tables.n && ok; i++) {
        const struct trace_table * about = &trace->tables.tables[i];
        struct trace_code_table  * table = counts[i].layers ? trace_code_add(code, i, about->n_layers) : NULL;
        ok = table || !counts[i].layers;
        for (size_t j = 0; table && j < about->n_layers && ok; j++) {
            ok = fit_layer(&table->layers[j], &about->layers[j], counts[i].layers[j].experts, entropy);
        }
    }
    return ok;
}

static bool make_code(const struct trace * trace, struct trace_code * code, struct trace_pack_report * report, const struct packing_progress * progress) {
    struct table_counts * counts = calloc(trace->tables.n + 1, sizeof(counts[0]));
    const bool ok = counts && count_all(trace, counts, &report->lost, progress) && fit_code(trace, counts, code, &report->entropy);
    free_counts(counts, &trace->tables);
    return ok;
}

//
// writing
//

struct chunk_list {
    struct trace_chunk * chunks;
    size_t               n;
    size_t               room;
};

static bool append(struct chunk_list * list, const struct trace_chunk * chunk) {
    if (!trace_array_grow(&list->chunks, &list->room, list->n + 1, sizeof(list->chunks[0]))) {
        return false;
    }
    list->chunks[list->n++] = *chunk;
    return true;
}

struct packer {
    const struct trace  * trace;
    struct chunk_output   out;
    struct trace_code     code;
    bool                  has_code;   // written
    struct trace_packing  packing;
    size_t                n_data;     // chunks of data gone through
    struct chunk_list     group;      // of data, to be packed together
    struct trace_buffer   group_data;
    struct chunk_list     waiting;    // others, to be written behind the group
    struct trace_parts    check;
    struct trace_buffer   payload;
};

static void fail(struct packer * packer, const char * wrong) {
    chunk_output_fail(&packer->out, wrong);
}

static void free_packer(struct packer * packer) {
    trace_code_free(&packer->code);
    trace_parts_free(&packer->check);
    trace_buffer_free(&packer->group_data);
    trace_buffer_free(&packer->payload);
    free(packer->group.chunks);
    free(packer->waiting.chunks);
}

// One that does not check any more is missing in what is written.
static void copy_chunk(struct packer * packer, const struct trace_chunk * chunk) {
    if (trace_read(packer->trace, chunk, &packer->payload)) {
        chunk_output_put(&packer->out, chunk->header, packer->payload.data, packer->payload.size);
    } else {
        packer->out.number++;
    }
}

static void copy_waiting(struct packer * packer) {
    for (size_t i = 0; i < packer->waiting.n; i++) {
        copy_chunk(packer, &packer->waiting.chunks[i]);
    }
    packer->waiting.n = 0;
}

static void copy_file(struct packer * packer) {
    uint8_t  block[COPY_SIZE];
    uint64_t offset = 0;
    packer->out.size = 0;
    if (fseek(packer->out.file, 0, SEEK_SET) != 0 || ftruncate(fileno(packer->out.file), 0) != 0) {
        fail(packer, strerror(errno));
    }
    for (size_t n; !packer->out.wrong && (n = trace_source_read(&packer->trace->source, offset, block, sizeof(block))) > 0; offset += n) {
        chunk_output_bytes(&packer->out, block, n);
    }
    if (!packer->out.wrong && offset != packer->trace->source.size) {
        fail(packer, "it became shorter while it was read");
    }
}

// `walk`: at its end.
static void expect_no_change(struct packer * packer, const struct chunk_walk * walk) {
    if (!packer->out.wrong) {
        trace_compare_walk(packer->trace, walk);
    }
    if (!packer->out.wrong && trace_changed(packer->trace)) {
        fail(packer, "it changed while it was read: copy it, and pack the copy");
    }
}

//
// packing
//

static bool is_part(const struct chunk_header * part, const struct chunk_header * chunk) {
    return part->number == chunk->number && part->first == chunk->first && part->time == chunk->time &&
           part->size == chunk->size && part->n_ubatches == chunk->n_ubatches && part->n_tokens == chunk->n_tokens;
}

// Whether what was packed comes out as it was.
static bool comes_out(struct packer * packer) {
    struct trace_parts * check = &packer->check;
    trace_buffer_clear(&check->packed);
    trace_buffer_add(&check->packed, packer->payload.data, packer->payload.size);
    bool same = !check->packed.failed && trace_packed_read(check, &packer->packing.header, &packer->trace->tables, &packer->code) &&
                check->n == packer->group.n && check->data.size == packer->group_data.size &&
                memcmp(check->data.data, packer->group_data.data, check->data.size) == 0;
    for (size_t i = 0; same && i < check->n; i++) {
        same = is_part(&check->parts[i].header, &packer->group.chunks[i].header);
    }
    return same;
}

static void write_code(struct packer * packer) {
    const struct chunk_header about = {
        .kind = TRACE_CHUNK_CODE, .first = packer->packing.header.first, .time = packer->packing.header.time,
    };
    struct trace_buffer       code  = { 0 };
    trace_code_write(&packer->code, &code);
    if (code.failed) {
        fail(packer, CHUNK_OUTPUT_NO_MEMORY);
    } else {
        chunk_output_put(&packer->out, about, code.data, code.size);
    }
    trace_buffer_free(&code);
    packer->has_code = true;
}

static void write_group(struct packer * packer) {
    const struct chunk_list * group = &packer->group;
    if (trace_packing_write(&packer->packing, &packer->payload) &&
        packer->payload.size + TRACE_HEADER_SIZE < packer->group_data.size + group->n * TRACE_HEADER_SIZE && comes_out(packer)) {
        if (!packer->has_code) {
            write_code(packer);
        }
        chunk_output_put(&packer->out, packer->packing.header, packer->payload.data, packer->payload.size);
        return;
    }
    const uint8_t * data = packer->group_data.data;
    for (size_t i = 0; i < group->n; i++) {
        chunk_output_put(&packer->out, group->chunks[i].header, data, group->chunks[i].header.size);
        data += group->chunks[i].header.size;
    }
}

static void flush(struct packer * packer) {
    if (packer->group.n > 0) {
        write_group(packer);
    }
    trace_packing_clear(&packer->packing);
    trace_buffer_clear(&packer->group_data);
    packer->group.n = 0;
    copy_waiting(packer);
}

// One that could not be added has spoilt what is packed so far, which is not much.
static void begin_anew(struct packer * packer) {
    const uint8_t * data = packer->group_data.data;
    trace_packing_clear(&packer->packing);
    for (size_t i = 0; i < packer->group.n; i++) {
        trace_packing_add(&packer->packing, &packer->group.chunks[i].header, data);
        data += packer->group.chunks[i].header.size;
    }
}

// Those that were found damaged or out of their place are none of the trace's.
static bool is_next_data(struct packer * packer, const struct trace_chunk * chunk) {
    const struct trace * trace = packer->trace;
    const bool           is    = packer->n_data < trace->n_chunks && trace->chunks[packer->n_data].offset == chunk->offset;
    packer->n_data += is;
    return is;
}

static void pack_data(struct packer * packer, const struct trace_chunk * chunk) {
    if (!is_next_data(packer, chunk) || !trace_read(packer->trace, chunk, &packer->payload)) {
        flush(packer);
        packer->out.number++;
        return;
    }
    const struct trace_buffer * payload = &packer->payload;
    if (chunk->header.size > LARGEST || !trace_packing_add(&packer->packing, &chunk->header, payload->data)) {
        begin_anew(packer);
        flush(packer);
        copy_chunk(packer, chunk);
        return;
    }
    trace_buffer_add(&packer->group_data, payload->data, payload->size);
    if (packer->group_data.failed || !append(&packer->group, chunk)) {
        fail(packer, CHUNK_OUTPUT_NO_MEMORY);
    } else if (packer->group_data.size >= GROUP_SIZE) {
        flush(packer);
    }
}

static void pack_chunk(struct packer * packer, const struct trace_chunk * chunk) {
    if (chunk->n_missing > 0) {
        flush(packer);
        packer->out.number += chunk->n_missing;
    }
    switch (chunk->header.kind) {
        case TRACE_CHUNK_DATA:
            pack_data(packer, chunk);
            break;
        case TRACE_CHUNK_CODE:   // of nothing that is there
            break;
        case TRACE_CHUNK_PACKED: // in which nothing could be read
            packer->out.number++;
            break;
        case TRACE_CHUNK_HEADER:
        case TRACE_CHUNK_LAYERS: // before what needs it
            flush(packer);
            copy_chunk(packer, chunk);
            break;
        default:
            if (!append(&packer->waiting, chunk)) {
                fail(packer, CHUNK_OUTPUT_NO_MEMORY);
            }
    }
}

static bool is_another_trace(const struct trace_chunk * chunk) {
    return chunk->header.kind == TRACE_CHUNK_HEADER && chunk->header.number > 0;
}

static void pack_all(struct packer * packer, const struct packing_progress * progress) {
    const struct trace_source * source = &packer->trace->source;
    struct chunk_walk           walk   = { .source = source };
    struct trace_chunk          chunk;
    while (!packer->out.wrong && chunk_walk_next(&walk, &chunk) && !is_another_trace(&chunk)) {
        pack_chunk(packer, &chunk);
        tell(progress, source->size + walk.offset);
    }
    flush(packer);
    expect_no_change(packer, &walk);
}

const char * trace_pack(const struct trace * trace, FILE * out, trace_pack_progress progress, void * self, struct trace_pack_report * report) {
    struct packer         packer = { .trace = trace, .out = { .file = out } };
    const struct packing_progress told   = { progress, self, 2.0 * (double) trace->source.size };
    *report = (struct trace_pack_report) { 0 };
    if (!trace->info.is_packed) {
        if (!make_code(trace, &packer.code, report, &told)) {
            fail(&packer, CHUNK_OUTPUT_NO_MEMORY);
        } else if (!trace_packing_begin(&packer.packing, &trace->tables, &packer.code)) {
            fail(&packer, CHUNK_OUTPUT_NO_MEMORY);
        } else {
            pack_all(&packer, &told);
        }
        trace_packing_free(&packer.packing);
    }
    if (trace->info.is_packed || packer.out.size >= trace->source.size) {
        report->copied = true;
        copy_file(&packer);
    }
    report->size = packer.out.size;
    free_packer(&packer);
    return packer.out.wrong;
}

//
// unpacking
//

// Chunks in the order that they had, of which those that were packed have a number.
struct packed_row {
    const struct trace * trace;
    size_t               next_chunk;
    struct trace_parts   parts;      // of a chunk
    size_t               part;
    bool                 ended;
    uint64_t             n_missing;  // chunks up to here
    uint64_t             lost;       // ubatches
};

static const struct trace_part * part_of(const struct packed_row * row) {
    return &row->parts.parts[row->part];
}

static void advance_packed(struct packed_row * row) {
    const struct trace * trace = row->trace;
    row->part++;
    while (row->part >= row->parts.n && row->next_chunk < trace->n_chunks) {
        const struct trace_chunk * chunk = &trace->chunks[row->next_chunk++];
        row->part       = 0;
        row->parts.n    = 0;
        row->n_missing += chunk->n_missing;
        if (chunk->header.kind == TRACE_CHUNK_PACKED && !trace_load(trace, chunk, &row->parts)) {
            row->parts.n = 0;
            row->lost   += chunk->header.n_ubatches;
        }
    }
    row->ended = row->part >= row->parts.n;
}

struct other_row {
    struct chunk_walk  walk;
    struct trace_chunk chunk;
    bool               ended;
    uint64_t           n_missing;
};

static void advance_other(struct other_row * row) {
    do {
        row->ended      = !chunk_walk_next(&row->walk, &row->chunk) || is_another_trace(&row->chunk);
        row->n_missing += row->ended ? 0 : row->chunk.n_missing;
    } while (!row->ended && (row->chunk.header.kind == TRACE_CHUNK_PACKED || row->chunk.header.kind == TRACE_CHUNK_CODE));
}

// Whether the next chunk is one of those that were not packed.
static bool is_others_turn(const struct packer * packer, const struct packed_row * packed, const struct other_row * others) {
    if (packed->ended || others->ended) {
        return packed->ended;
    }
    if (packed->n_missing != others->n_missing) {
        return others->n_missing < packed->n_missing;
    }
    const struct chunk_header * part  = &part_of(packed)->header;
    const struct chunk_header * other = &others->chunk.header;
    if (other->kind == TRACE_CHUNK_HEADER) {
        return true; // whatever number a packed chunk claims
    }
    if (other->kind == TRACE_CHUNK_END || (other->kind == TRACE_CHUNK_DATA && other->first >= part->first)) {
        return false;
    }
    return part->number > packer->out.number;
}

static void write_part(struct packer * packer, const struct packed_row * row) {
    const struct trace_part * part   = part_of(row);
    struct chunk_header       header = part->header;
    header.kind = TRACE_CHUNK_DATA;
    if (row->lost > 0 && header.number > packer->out.number) { // a hole tells that something is missing
        packer->out.number = header.number;
    }
    chunk_output_put(&packer->out, header, trace_part_data(&row->parts, row->part), header.size);
}

static void unpack_all(struct packer * packer, struct trace_pack_report * report, const struct packing_progress * progress) {
    const struct trace * trace     = packer->trace;
    struct packed_row    packed    = { .trace = trace };
    struct other_row     others    = { .walk = { .source = &trace->source } };
    uint64_t             n_missing = 0;
    advance_packed(&packed);
    advance_other(&others);
    while (!packer->out.wrong && (!packed.ended || !others.ended)) {
        const bool     other = is_others_turn(packer, &packed, &others);
        const uint64_t upto  = other ? others.n_missing : packed.n_missing;
        if (upto > n_missing) {
            packer->out.number += upto - n_missing;
            n_missing       = upto;
            continue;
        }
        if (other) {
            copy_chunk(packer, &others.chunk);
            advance_other(&others);
        } else {
            write_part(packer, &packed);
            advance_packed(&packed);
        }
        tell(progress, packed.next_chunk < trace->n_chunks ? trace->chunks[packed.next_chunk].offset : trace->source.size);
    }
    report->lost = packed.lost;
    expect_no_change(packer, &others.walk);
    trace_parts_free(&packed.parts);
}

const char * trace_unpack(const struct trace * trace, FILE * out, trace_pack_progress progress, void * self, struct trace_pack_report * report) {
    struct packer         packer = { .trace = trace, .out = { .file = out } };
    const struct packing_progress told   = { progress, self, (double) trace->source.size };
    *report = (struct trace_pack_report) { 0 };
    if (trace->info.is_packed) {
        unpack_all(&packer, report, &told);
    } else {
        report->copied = true;
        copy_file(&packer);
    }
    report->size = packer.out.size;
    free_packer(&packer);
    return packer.out.wrong;
}
