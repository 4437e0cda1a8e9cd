// Writes the chunks of a trace that is made of others to a stream.

#include "trace/rewrite/chunk-output.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void chunk_output_fail(struct chunk_output * output, const char * wrong) {
    output->wrong = output->wrong != NULL ? output->wrong : wrong;
}

void chunk_output_bytes(struct chunk_output * output, const void * data, size_t size) {
    if (output->wrong == NULL && size > 0 && fwrite(data, 1, size, output->file) != size) {
        chunk_output_fail(output, strerror(errno));
    }
    output->size += size;
}

void chunk_output_put(struct chunk_output * output, struct chunk_header header, const void * payload, size_t size) {
    uint8_t encoded[TRACE_HEADER_SIZE];
    if (output->number > UINT32_MAX) {
        chunk_output_fail(output, "it has too many chunks");
        return;
    }
    header.number = (uint32_t) output->number++;
    header.size   = (uint32_t) size;
    chunk_header_encode(encoded, &header, payload);
    chunk_output_bytes(output, encoded, sizeof(encoded));
    chunk_output_bytes(output, payload, size);
}

void chunk_output_json(struct chunk_output * output, struct chunk_header header, const json_t * json, size_t flags) {
    char * text = json != NULL ? json_dumps(json, flags) : NULL;
    if (text != NULL) {
        chunk_output_put(output, header, text, strlen(text));
    } else {
        chunk_output_fail(output, CHUNK_OUTPUT_NO_MEMORY);
    }
    free(text);
}
