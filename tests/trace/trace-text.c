// Prints all that the reader tells of a trace, for test_reader.py.

#include "trace/read/trace-reader.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void print_string(const char * name, const char * value) {
    printf("%s %s\n", name, value ? value : "?");
}

static void print_table(size_t number, const struct trace_table * table) {
    printf("table %zu %zu\n", number, table->n_layers);
    for (size_t i = 0; i < table->n_layers; i++) {
        const struct trace_layer * layer = &table->layers[i];
        printf("  %d %d %d", layer->layer, layer->n_expert, layer->n_used);
        for (size_t j = 0; j < layer->n_tensors; j++) {
            printf(" %s:%" PRId64, layer->tensors[j].name, layer->tensors[j].expert_bytes);
        }
        putchar('\n');
    }
}

static void print_info(const struct trace_info * info) {
    print_string("tracer",       info->tracer);
    print_string("run",          info->run);
    print_string("trace",        info->trace_id);
    print_string("engine",       info->engine);
    print_string("capture",      info->capture);
    print_string("name",         info->model_name);
    print_string("architecture", info->architecture);
    print_string("file",         info->model_file);
    print_string("fingerprint",  info->fingerprint);
    printf("numbers %" PRId64 " %" PRId64 " %d %" PRId64 " %" PRId64 "\n", info->pid, info->part, info->n_layer,
           info->sample, info->seed);
    printf("flags %d %d %d\n", info->phases_known, info->has_weights, info->has_tokens);
    printf("ubatches %" PRIu64 " %" PRIu64 "\n", info->n_ubatches, info->n_tokens);
    printf("gaps %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", info->dropped_ubatches, info->dropped_tokens,
           info->left_out_ubatches, info->left_out_tokens);
    printf("ending %d\n", (int) info->ending);
    for (size_t i = 0; i < info->n_tables; i++) {
        print_table(i, &info->tables[i]);
    }
}

static void print_token(const struct trace_token * token) {
    printf("  token %d %d %d %d %d %d %d\n", token->id, token->sequence, token->life, token->position,
           token->generation, token->output, token->rejected);
}

static void print_row(const struct trace_routing * layer, int32_t row) {
    const size_t first = (size_t) row * (size_t) layer->n_used;
    printf("    row %d:", layer->tokens ? layer->tokens[row] : row);
    for (int32_t i = 0; i < layer->n_used; i++) {
        printf(" %u", layer->experts[first + (size_t) i]);
    }
    for (int32_t i = 0; layer->weights && i < layer->n_used; i++) {
        printf(" %.17g", (double) layer->weights[first + (size_t) i]);
    }
    putchar('\n');
}

static void print_ubatch(const struct trace_ubatch * ubatch) {
    for (size_t i = 0; i < ubatch->n_cuts; i++) {
        const struct trace_cut * cut = &ubatch->cuts[i];
        printf("cut %d %d %d %d\n", cut->context, cut->sequence, cut->life, cut->position);
    }
    printf("ubatch %" PRIu64 " %" PRIu64 " %d %" PRId64 " %d %d %d %d\n", ubatch->number, ubatch->batch,
           ubatch->context, ubatch->time, ubatch->warmup, ubatch->first, ubatch->mtp, ubatch->table);
    for (int32_t i = 0; i < ubatch->n_tokens; i++) {
        print_token(&ubatch->tokens[i]);
    }
    for (size_t i = 0; i < ubatch->n_layers; i++) {
        const struct trace_routing * layer = &ubatch->layers[i];
        printf("  layer %d %d %d\n", layer->layer, layer->n_expert, layer->n_used);
        for (int32_t j = 0; j < layer->n_rows; j++) {
            print_row(layer, j);
        }
    }
}

int main(int argc, char ** argv) {
    char error[TRACE_ERROR_MAX];
    if (argc != 2) {
        fputs("usage: trace-text FILE\n", stderr);
        return 2;
    }
    struct trace * trace = trace_open(argv[1], error);
    if (trace == NULL) {
        fprintf(stderr, "%s\n", error);
        return 1;
    }
    const struct trace_info * info   = trace_about(trace);
    struct trace_cursor     * cursor = trace_cursor_new(trace);
    struct trace_ubatch       ubatch;
    print_info(info);
    while (cursor && trace_next(cursor, &ubatch)) {
        print_ubatch(&ubatch);
    }
    printf("lost %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", info->lost_chunks,
           info->lost_ubatches, info->lost_bytes, trace_cursor_lost(cursor));
    trace_cursor_free(cursor);
    trace_close(trace);
    return 0;
}
