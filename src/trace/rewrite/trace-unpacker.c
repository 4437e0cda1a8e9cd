// Unpacks a trace: what was packed and what was not, in the order that the chunks had before.

#include "trace/rewrite/trace-unpacker.h"

#include "trace/rewrite/trace-copier.h"

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
        row->ended      = !chunk_walk_next(&row->walk, &row->chunk) || trace_copier_is_foreign(&row->chunk);
        row->n_missing += row->ended ? 0 : row->chunk.n_missing;
    } while (!row->ended && (row->chunk.header.kind == TRACE_CHUNK_PACKED ||
        row->chunk.header.kind == TRACE_CHUNK_CODE));
}

// Whether the next chunk is one of those that were not packed.
static bool is_others_turn(const struct trace_copier * copier, const struct packed_row * packed,
                           const struct other_row * others) {
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
    return part->number > copier->out.number;
}

static void write_part(struct trace_copier * copier, const struct packed_row * row) {
    const struct trace_part * part   = part_of(row);
    struct chunk_header       header = part->header;
    header.kind = TRACE_CHUNK_DATA;
    if (row->lost > 0 && header.number > copier->out.number) { // a hole tells that something is missing
        copier->out.number = header.number;
    }
    chunk_output_put(&copier->out, header, trace_part_data(&row->parts, row->part), header.size);
}

// Returns how many ubatches are lost.
static uint64_t unpack_all(struct trace_copier * copier, const struct rewriting_progress * progress) {
    const struct trace * trace     = copier->trace;
    struct packed_row    packed    = { .trace = trace };
    struct other_row     others    = { .walk = { .source = &trace->source } };
    uint64_t             n_missing = 0;
    advance_packed(&packed);
    advance_other(&others);
    while (copier->out.wrong == NULL && (!packed.ended || !others.ended)) {
        const bool     other = is_others_turn(copier, &packed, &others);
        const uint64_t upto  = other ? others.n_missing : packed.n_missing;
        if (upto > n_missing) {
            copier->out.number += upto - n_missing;
            n_missing           = upto;
            continue;
        }
        if (other) {
            trace_copier_chunk(copier, &others.chunk);
            advance_other(&others);
        } else {
            write_part(copier, &packed);
            advance_packed(&packed);
        }
        rewriting_progress_report(progress, packed.next_chunk < trace->n_chunks
            ? trace->chunks[packed.next_chunk].offset : trace->source.size);
    }
    trace_copier_end(copier, &others.walk);
    trace_parts_free(&packed.parts);
    return packed.lost;
}

const char * trace_unpack(const struct trace * trace, FILE * out, rewriting_progress_fn report_progress, void * self,
                          struct trace_pack_report * report) {
    struct trace_copier             copier   = { .trace = trace, .out = { .file = out } };
    const struct rewriting_progress progress = { report_progress, self, (double) trace->source.size };
    *report = (struct trace_pack_report) { .copied = !trace->info.is_packed };
    if (trace->info.is_packed) {
        report->lost = unpack_all(&copier, &progress);
    } else {
        trace_copier_file(&copier);
    }
    report->size = copier.out.size;
    trace_buffer_free(&copier.payload);
    return copier.out.wrong;
}
