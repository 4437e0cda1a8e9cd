// Copies chunks of a trace, or all of it.

#include "trace/rewrite/trace-copier.h"

#include "trace/read/trace-opening.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define COPY_SIZE 65536

void trace_copier_chunk(struct trace_copier * copier, const struct trace_chunk * chunk) {
    if (trace_read(copier->trace, chunk, &copier->payload)) {
        chunk_output_put(&copier->out, chunk->header, copier->payload.data, copier->payload.size);
    } else {
        copier->out.number++;
    }
}

void trace_copier_file(struct trace_copier * copier) {
    struct chunk_output       * out    = &copier->out;
    const struct trace_source * source = &copier->trace->source;
    uint8_t  block[COPY_SIZE];
    uint64_t offset = 0;
    out->size = 0;
    if (fseek(out->file, 0, SEEK_SET) != 0 || ftruncate(fileno(out->file), 0) != 0) {
        chunk_output_fail(out, strerror(errno));
    }
    for (size_t n = 1; out->wrong == NULL && n > 0; offset += n) {
        n = trace_source_read(source, offset, block, sizeof(block));
        chunk_output_bytes(out, block, n);
    }
    if (out->wrong == NULL && offset != source->size) {
        chunk_output_fail(out, "it became shorter while it was read");
    }
}

void trace_copier_end(struct trace_copier * copier, const struct chunk_walk * walk) {
    if (copier->out.wrong == NULL) {
        trace_compare_walk(copier->trace, walk);
    }
    if (copier->out.wrong == NULL && trace_changed(copier->trace)) {
        chunk_output_fail(&copier->out, "it changed while it was read: copy it, and pack the copy");
    }
}
