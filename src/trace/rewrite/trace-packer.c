// Packs a trace: goes through its chunks, and packs those of data in groups. A packed chunk is kept only if it comes
// out as it went in.

#include "trace/rewrite/trace-packer.h"

#include "trace/read/trace-packed.h"
#include "trace/rewrite/code-fitting.h"
#include "trace/rewrite/trace-copier.h"
#include "trace/rewrite/trace-packing.h"

#include <stdlib.h>
#include <string.h>

#define GROUP_SIZE  (2 * 1024 * 1024)      // bytes of data that are packed together, or a little more
#define LARGEST     (TRACE_PACKED_MAX / 2) // chunk that is packed

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
    struct trace_copier   copier;
    struct code_fitting   fitting;
    bool                  has_code;   // written
    struct trace_packing  packing;
    size_t                n_data;     // chunks of data gone through
    struct chunk_list     group;      // of data, to be packed together
    struct trace_buffer   group_data;
    struct chunk_list     waiting;    // others, to be written behind the group
    struct trace_parts    check;
};

static void fail(struct packer * packer, const char * wrong) {
    chunk_output_fail(&packer->copier.out, wrong);
}

static void free_packer(struct packer * packer) {
    trace_packing_free(&packer->packing);
    trace_code_free(&packer->fitting.code);
    trace_parts_free(&packer->check);
    trace_buffer_free(&packer->group_data);
    trace_buffer_free(&packer->copier.payload);
    free(packer->group.chunks);
    free(packer->waiting.chunks);
}

static void copy_waiting(struct packer * packer) {
    for (size_t i = 0; i < packer->waiting.n; i++) {
        trace_copier_chunk(&packer->copier, &packer->waiting.chunks[i]);
    }
    packer->waiting.n = 0;
}

static bool is_part(const struct chunk_header * part, const struct chunk_header * chunk) {
    return part->number == chunk->number && part->first == chunk->first && part->time == chunk->time &&
           part->size == chunk->size && part->n_ubatches == chunk->n_ubatches && part->n_tokens == chunk->n_tokens;
}

// Whether what was packed comes out as it was.
static bool comes_out(struct packer * packer) {
    struct trace_parts * check = &packer->check;
    trace_buffer_clear(&check->packed);
    trace_buffer_add(&check->packed, packer->copier.payload.data, packer->copier.payload.size);
    bool same = !check->packed.failed &&
                trace_packed_read(check, &packer->packing.header, &packer->copier.trace->tables,
                &packer->fitting.code) && check->n == packer->group.n && check->data.size == packer->group_data.size &&
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
    struct trace_buffer code = { 0 };
    trace_code_write(&packer->fitting.code, &code);
    if (code.failed) {
        fail(packer, CHUNK_OUTPUT_NO_MEMORY);
    } else {
        chunk_output_put(&packer->copier.out, about, code.data, code.size);
    }
    trace_buffer_free(&code);
    packer->has_code = true;
}

static void write_group(struct packer * packer) {
    const struct chunk_list   * group   = &packer->group;
    const struct trace_buffer * payload = &packer->copier.payload;
    struct chunk_output       * out     = &packer->copier.out;
    const size_t                plain   = packer->group_data.size + group->n * TRACE_HEADER_SIZE;
    if (trace_packing_write(&packer->packing, &packer->copier.payload) && payload->size + TRACE_HEADER_SIZE < plain &&
        comes_out(packer)) {
        if (!packer->has_code) {
            write_code(packer);
        }
        chunk_output_put(out, packer->packing.header, payload->data, payload->size);
        return;
    }
    const uint8_t * data = packer->group_data.data;
    for (size_t i = 0; i < group->n; i++) {
        chunk_output_put(out, group->chunks[i].header, data, group->chunks[i].header.size);
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
    const struct trace * trace = packer->copier.trace;
    const bool           is    = packer->n_data < trace->n_chunks &&
                                 trace->chunks[packer->n_data].offset == chunk->offset;
    packer->n_data += is;
    return is;
}

static void pack_data(struct packer * packer, const struct trace_chunk * chunk) {
    if (!is_next_data(packer, chunk) || !trace_read(packer->copier.trace, chunk, &packer->copier.payload)) {
        flush(packer);
        packer->copier.out.number++;
        return;
    }
    const struct trace_buffer * payload = &packer->copier.payload;
    if (chunk->header.size > LARGEST || !trace_packing_add(&packer->packing, &chunk->header, payload->data)) {
        begin_anew(packer);
        flush(packer);
        trace_copier_chunk(&packer->copier, chunk);
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
        packer->copier.out.number += chunk->n_missing;
    }
    switch (chunk->header.kind) {
        case TRACE_CHUNK_DATA:
            pack_data(packer, chunk);
            break;
        case TRACE_CHUNK_CODE:   // of nothing that is there
            break;
        case TRACE_CHUNK_PACKED: // in which nothing could be read
            packer->copier.out.number++;
            break;
        case TRACE_CHUNK_HEADER:
        case TRACE_CHUNK_LAYERS: // before what needs it
            flush(packer);
            trace_copier_chunk(&packer->copier, chunk);
            break;
        default:
            if (!append(&packer->waiting, chunk)) {
                fail(packer, CHUNK_OUTPUT_NO_MEMORY);
            }
    }
}

static void pack_all(struct packer * packer, const struct rewriting_progress * progress) {
    struct trace_copier       * copier = &packer->copier;
    const struct trace_source * source = &copier->trace->source;
    struct chunk_walk           walk   = { .source = source };
    struct trace_chunk          chunk;
    while (copier->out.wrong == NULL && chunk_walk_next(&walk, &chunk) && !trace_copier_is_foreign(&chunk)) {
        pack_chunk(packer, &chunk);
        rewriting_progress_report(progress, source->size + walk.offset);
    }
    flush(packer);
    trace_copier_end(copier, &walk);
}

const char * trace_pack(const struct trace * trace, FILE * out, rewriting_progress_fn report_progress, void * self,
                        struct trace_pack_report * report) {
    struct packer                   packer   = { .copier = { .trace = trace, .out = { .file = out } } };
    const struct chunk_output     * written  = &packer.copier.out;
    const struct rewriting_progress progress = { report_progress, self, 2.0 * (double) trace->source.size };
    if (!trace->info.is_packed) {
        if (code_fitting_run(&packer.fitting, trace, &progress) &&
            trace_packing_begin(&packer.packing, &trace->tables, &packer.fitting.code)) {
            pack_all(&packer, &progress);
        } else {
            fail(&packer, CHUNK_OUTPUT_NO_MEMORY);
        }
    }
    const bool is_larger = trace->info.is_packed || written->size >= trace->source.size;
    if (is_larger) {
        trace_copier_file(&packer.copier);
    }
    *report = (struct trace_pack_report) {
        .size = written->size, .lost = packer.fitting.lost, .entropy = packer.fitting.entropy, .copied = is_larger,
    };
    const char * wrong = written->wrong;
    free_packer(&packer);
    return wrong;
}
