// Where a trace that is made of others goes: its chunks, numbered one after the other. Packing, sharing and joining
// write through it.

#pragma once

#include "trace/format/chunk-header.h"

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

struct chunk_output {
    FILE       * file;
    uint64_t     number; // of the next chunk: a hole tells that chunks are missing
    uint64_t     size;   // written
    const char * wrong;  // the first that was, NULL: nothing. What follows is not written
};

#define CHUNK_OUTPUT_NO_MEMORY "out of memory"

void chunk_output_fail (struct chunk_output * output, const char * wrong);
void chunk_output_bytes(struct chunk_output * output, const void * data, size_t size);

// The header gets the chunk's number, size and checksums here.
void chunk_output_put  (struct chunk_output * output, struct chunk_header header, const void * payload, size_t size);

// `flags` as for json_dumps(). NULL: there was no memory for it.
void chunk_output_json (struct chunk_output * output, struct chunk_header header, const json_t * json, size_t flags);
