// Goes through all that a trace tells, and expects of it what trace-reader.h promises, however broken the file is.

#pragma once

#include "trace/read/trace-reader.h"

#include "../expect.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct digest {
    uint64_t hash;
    uint64_t n_ubatches;
    uint64_t lost;
};

static inline void digest_bytes(struct digest * digest, const void * data, size_t size) {
    const uint8_t * bytes = data;
    for (size_t i = 0; i < size; i++) {
        digest->hash = (digest->hash ^ bytes[i]) * 0x100000001b3;
    }
}

static inline void digest_number(struct digest * digest, uint64_t number) {
    digest_bytes(digest, &number, sizeof(number));
}

static inline void consume_tokens(struct digest * digest, const struct trace_ubatch * ubatch) {
    for (int32_t i = 0; i < ubatch->n_tokens; i++) {
        const struct trace_token * token = &ubatch->tokens[i];
        EXPECT(token->id >= -1 && token->sequence >= -1 && token->life >= 0 && token->position >= -1);
        digest_number(digest, (uint64_t) token->id << 32 | (uint32_t) token->sequence);
        digest_number(digest, (uint64_t) token->life << 32 | (uint32_t) token->position);
        digest_number(digest, (uint64_t) (token->generation | token->output << 1 | token->rejected << 2));
    }
}

static inline void consume_layer(struct digest * digest, const struct trace_ubatch * ubatch,
                                 const struct trace_routing * layer) {
    const size_t n = (size_t) layer->n_rows * (size_t) layer->n_used;
    EXPECT(layer->n_rows >= 0 && layer->n_rows <= ubatch->n_tokens && layer->n_used <= layer->n_expert);
    for (int32_t i = 0; layer->tokens && i < layer->n_rows; i++) {
        EXPECT(layer->tokens[i] >= (i > 0 ? layer->tokens[i - 1] + 1 : 0) && layer->tokens[i] < ubatch->n_tokens);
        digest_number(digest, (uint64_t) layer->tokens[i]);
    }
    EXPECT(layer->tokens || layer->n_rows == ubatch->n_tokens || layer->n_rows == 0);
    for (size_t i = 0; i < n; i++) {
        EXPECT(layer->experts[i] < layer->n_expert);
    }
    digest_number(digest, (uint64_t) layer->layer << 32 | (uint64_t) layer->n_expert);
    digest_bytes(digest, layer->experts, n * sizeof(layer->experts[0]));
    digest_bytes(digest, layer->weights ? (const void *) layer->weights : "",
                 layer->weights ? n * sizeof(layer->weights[0]) : 0);
}

static inline void consume_ubatch(struct digest * digest, const struct trace_ubatch * ubatch) {
    digest->n_ubatches++;
    digest_number(digest, ubatch->number);
    digest_number(digest, ubatch->batch);
    digest_number(digest, (uint64_t) ubatch->time);
    digest_number(digest, (uint64_t) ubatch->context << 32 | (uint64_t) ubatch->table);
    digest_number(digest, (uint64_t) (ubatch->warmup | ubatch->first << 1 | ubatch->mtp << 2));
    for (size_t i = 0; i < ubatch->n_cuts; i++) {
        digest_number(digest, (uint64_t) ubatch->cuts[i].context << 32 | (uint32_t) ubatch->cuts[i].sequence);
        digest_number(digest, (uint64_t) ubatch->cuts[i].life << 32 | (uint32_t) ubatch->cuts[i].position);
    }
    consume_tokens(digest, ubatch);
    for (size_t i = 0; i < ubatch->n_layers; i++) {
        consume_layer(digest, ubatch, &ubatch->layers[i]);
    }
}

// From a ubatch on.
static inline struct digest consume(const struct trace * trace, uint64_t first) {
    struct digest         digest = { 0xcbf29ce484222325, 0, 0 };
    struct trace_cursor * cursor = trace_cursor_new(trace);
    struct trace_ubatch   ubatch;
    uint64_t              next   = first;
    uint64_t              offset = 0;
    EXPECT(cursor != NULL);
    trace_cursor_seek(cursor, first);
    while (trace_next(cursor, &ubatch)) {
        EXPECT(ubatch.number >= next && trace_cursor_offset(cursor) >= offset);
        next   = ubatch.number + 1;
        offset = trace_cursor_offset(cursor);
        consume_ubatch(&digest, &ubatch);
    }
    EXPECT(!trace_next(cursor, &ubatch) && trace_cursor_offset(cursor) == trace_about(trace)->file_size);
    digest.lost = trace_cursor_lost(cursor);
    trace_cursor_free(cursor);
    return digest;
}

static inline void consume_strings(struct digest * digest, const struct trace_info * info) {
    const char * const strings[] = { info->tracer, info->run, info->trace_id, info->engine, info->capture,
                                     info->model_name, info->architecture, info->model_file, info->fingerprint };
    for (size_t i = 0; i < sizeof(strings) / sizeof(strings[0]); i++) {
        digest_bytes(digest, strings[i] ? strings[i] : "", strings[i] ? strlen(strings[i]) : 0);
    }
}

// What is known when it is open, but for what the file's size and being packed say.
static inline struct digest consume_info(const struct trace * trace) {
    const struct trace_info * info   = trace_about(trace);
    struct digest             digest = { 0xcbf29ce484222325, info->n_ubatches, info->lost_chunks };
    consume_strings(&digest, info);
    for (size_t i = 0; i < info->n_tables; i++) {
        digest_number(&digest, info->tables[i].n_layers);
        for (size_t j = 0; j < info->tables[i].n_layers; j++) {
            const struct trace_layer * layer = &info->tables[i].layers[j];
            EXPECT(layer->n_expert >= 1 && layer->n_used >= 1 && layer->n_used <= layer->n_expert);
            digest_number(&digest, (uint64_t) layer->layer << 32 | layer->n_tensors);
            for (size_t k = 0; k < layer->n_tensors; k++) {
                digest_bytes(&digest, layer->tensors[k].name, strlen(layer->tensors[k].name));
                digest_number(&digest, (uint64_t) layer->tensors[k].expert_bytes);
            }
        }
    }
    const uint64_t numbers[] = { info->n_ubatches, info->n_tokens, info->dropped_ubatches, info->dropped_tokens,
                                 info->left_out_ubatches, info->left_out_tokens, info->ending };
    digest_bytes(&digest, numbers, sizeof(numbers));
    return digest;
}
