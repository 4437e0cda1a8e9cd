// Arrays for numpy: experts, gate weights and tokens, in a file each or a set of files for each life of a sequence.

#include "commands/export/export-format.h"

#include "base/file-kind.h"
#include "commands/npy-token.h"
#include "tool/input/trace-input.h"
#include "tool/output-file.h"
#include "trace/format/encoding.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NPY_ALIGNMENT 64

// The files of one array.
struct arrays {
    struct output_file experts;
    struct output_file tokens;   // not on the standard output
    struct output_file weights;  // only where there are weights
    uint64_t           n_left;   // tokens that are to come
};

struct npy {
    size_t          cells;       // of a token: layers times top-k
    size_t          cell_bytes;  // of an expert's id
    uint8_t       * experts;     // of one token
    uint8_t       * weights;     // likewise
    struct arrays * all;         // NULL: one for each life
};

//
// files
//

static void write_header(FILE * out, const char * descr, const char * shape) {
    char         dictionary[1024];
    const int    n      = snprintf(dictionary, sizeof(dictionary),
                                   "{'descr': %s, 'fortran_order': False, 'shape': (%s), }" FILE_KIND_NPY_MARK,
                                   descr, shape);
    const size_t before = 10;
    const size_t size   = (before + (size_t) n + 1 + NPY_ALIGNMENT - 1) / NPY_ALIGNMENT * NPY_ALIGNMENT - before;
    uint8_t      length[2];
    trace_put_u16(length, (uint16_t) size);
    fwrite("\x93NUMPY\x01\x00", 1, 8, out);
    fwrite(length, 1, sizeof(length), out);
    fprintf(out, "%-*s\n", (int) size - 1, dictionary);
}

// "run.tokens.npy" of "run.npy" and ".tokens".
static char * file_name(const char * output, const char * more) {
    const size_t n      = strlen(output);
    const bool   is_npy = n > 4 && strcmp(output + n - 4, ".npy") == 0;
    return memory_text("%.*s%s.npy", (int) (is_npy ? n - 4 : n), output, more);
}

static bool open_file(struct output_file * file, const struct trace_export * export, const char * more,
                      struct error * error) {
    char     * name = *more == '\0' ? memory_text("%s", export->output) : file_name(export->output, more);
    const bool ok   = output_file_open(file, name, FILE_KIND_NPY, export->force, error);
    free(name);
    return ok;
}

static bool open_files(const struct trace_export * export, struct arrays * arrays, const char * life,
                       struct error * error) {
    if (export->output == NULL) {
        return output_file_open(&arrays->experts, NULL, FILE_KIND_NPY, false, error);
    }
    char * tokens  = memory_text("%s.tokens",  life);
    char * weights = memory_text("%s.weights", life);
    const bool ok  = open_file(&arrays->experts, export, life, error)
                  && open_file(&arrays->tokens, export, tokens, error)
                  && (!export->info->has_weights || open_file(&arrays->weights, export, weights, error));
    free(tokens);
    free(weights);
    return ok;
}

static void write_headers(const struct trace_export * export, const struct arrays * arrays, uint64_t n_tokens) {
    const struct npy * npy = export->data;
    char               shape[128];
    snprintf(shape, sizeof(shape), "%" PRIu64 ", %zu, %d", n_tokens, export->survey->n_layers,
             (int) export->survey->n_used);
    write_header(arrays->experts.out, npy->cell_bytes == 2 ? "'<i2'" : "'<i4'", shape);
    if (arrays->weights.out != NULL) {
        write_header(arrays->weights.out, "'<f4'", shape);
    }
    if (arrays->tokens.out != NULL) {
        snprintf(shape, sizeof(shape), "%" PRIu64 ",", n_tokens);
        write_header(arrays->tokens.out, NPY_TOKEN_DESCR, shape);
    }
}

static void free_arrays(struct arrays * arrays) {
    if (arrays != NULL) {
        output_file_drop(&arrays->experts);
        output_file_drop(&arrays->tokens);
        output_file_drop(&arrays->weights);
        free(arrays);
    }
}

// NULL: a file could not be opened.
static struct arrays * open_arrays(const struct trace_export * export, const char * life, uint64_t n_tokens,
                                   struct error * error) {
    struct arrays * arrays = memory_new(1, sizeof(*arrays));
    arrays->n_left = n_tokens;
    arrays->experts.place.directory = arrays->tokens.place.directory = arrays->weights.place.directory = -1;
    if (!open_files(export, arrays, life, error)) {
        free_arrays(arrays);
        return NULL;
    }
    write_headers(export, arrays, n_tokens);
    return arrays;
}

typedef bool file_step(struct output_file * file, struct error * error);

// Each of them, or until one fails.
static bool for_each_file(struct arrays * arrays, file_step * step, struct error * error) {
    struct output_file * const files[] = { &arrays->experts, &arrays->weights, &arrays->tokens };
    bool                       ok      = true;
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]) && ok; i++) {
        ok = (files[i]->out == NULL && files[i]->path == NULL) || step(files[i], error);
    }
    return ok;
}

static bool finish_arrays(struct arrays * arrays, struct error * error) {
    return for_each_file(arrays, output_file_finish, error);
}

// Beside the arrays, not beside the standard output.
static bool write_layers(const struct trace_export * export, struct output_file * file, struct error * error) {
    if (export->output == NULL) {
        return true;
    }
    if (!open_file(file, export, ".layers", error)) {
        return false;
    }
    char shape[32];
    snprintf(shape, sizeof(shape), "%zu,", export->survey->n_layers);
    write_header(file->out, "'<i4'", shape);
    for (size_t i = 0; i < export->survey->n_layers; i++) {
        uint8_t bytes[4];
        trace_put_u32(bytes, (uint32_t) export->survey->layers[i]);
        fwrite(bytes, 1, sizeof(bytes), file->out);
    }
    return output_file_finish(file, error);
}

//
// the array
//

static bool begin_npy(struct trace_export * export, struct error * error) {
    const struct export_survey * survey = export->survey;
    struct npy                 * npy    = memory_new(1, sizeof(*npy));
    export->data    = npy;
    npy->cells      = survey->n_layers * (size_t) survey->n_used;
    npy->cell_bytes = survey->n_expert <= 32768 ? 2 : 4;
    npy->experts    = memory_new(npy->cells, npy->cell_bytes);
    npy->weights    = memory_new(npy->cells, sizeof(float));
    npy->all        = export->split ? NULL : open_arrays(export, "", survey->n_tokens, error);
    return export->split || npy->all != NULL;
}

static void put_f32(uint8_t * at, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    trace_put_u32(at, bits);
}

static void put_expert(const struct npy * npy, size_t cell, uint16_t expert) {
    if (npy->cell_bytes == 2) {
        trace_put_u16(npy->experts + 2 * cell, expert);
    } else {
        trace_put_u32(npy->experts + 4 * cell, expert);
    }
}

static void fill_layer(const struct npy * npy, const struct export_survey * survey,
                       const struct trace_routing * routing, int32_t row) {
    const uint16_t * experts = export_experts_of(routing, row);
    const float    * weights = export_weights_of(routing, row);
    const size_t     first   = export_layer_index(survey, routing->layer) * (size_t) survey->n_used;
    for (int32_t i = 0; i < routing->n_used; i++) {
        put_expert(npy, first + (size_t) i, experts[i]);
        if (weights != NULL) {
            put_f32(npy->weights + sizeof(float) * (first + (size_t) i), weights[i]);
        }
    }
}

static void fill_token(const struct npy * npy, const struct export_survey * survey,
                       const struct export_ubatch * ubatch, int32_t token) {
    memset(npy->experts, 0xff, npy->cells * npy->cell_bytes);
    for (size_t i = 0; i < npy->cells; i++) {
        put_f32(npy->weights + sizeof(float) * i, NAN);
    }
    for (size_t i = 0; i < ubatch->n_layers; i++) {
        const int32_t row = trace_input_row(ubatch->layers[i], token);
        if (row >= 0) {
            fill_layer(npy, survey, ubatch->layers[i], row);
        }
    }
}

static void write_token(FILE * out, const struct trace_ubatch * ubatch, int32_t i_token) {
    const struct trace_token * token = &ubatch->tokens[i_token];
    const int32_t numbers[] = { i_token, ubatch->context, token->sequence, token->life, token->position, token->id };
    const bool    flags[]   = { token->generation, token->output, ubatch->warmup, token->rejected };
    uint8_t       bytes[NPY_TOKEN_BYTES];
    uint8_t     * at = trace_put_u64(bytes, ubatch->number);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        at = trace_put_u32(at, (uint32_t) numbers[i]);
    }
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        *at++ = flags[i];
    }
    fwrite(bytes, 1, sizeof(bytes), out);
}

// NULL: they cannot be opened.
static struct arrays * arrays_of(const struct trace_export * export, struct noted_life * life, struct error * error) {
    if (life->data == NULL) {
        char * name = memory_text("-c%d-s%d-l%d", (int) life->context, (int) life->sequence, (int) life->life);
        life->data  = open_arrays(export, name, life->n_tokens, error);
        free(name);
    }
    return life->data;
}

static void write_npy_token(const struct trace_export * export, struct arrays * arrays,
                            const struct export_ubatch * ubatch, int32_t token) {
    const struct npy * npy = export->data;
    fill_token(npy, export->survey, ubatch, token);
    fwrite(npy->experts, npy->cell_bytes, npy->cells, arrays->experts.out);
    if (arrays->weights.out != NULL) {
        fwrite(npy->weights, sizeof(float), npy->cells, arrays->weights.out);
    }
    if (arrays->tokens.out != NULL) {
        write_token(arrays->tokens.out, ubatch->all, token);
    }
    arrays->n_left--;
}

// Into the files of its life, which are finished with the last token: there may be more lives than files can be open.
static bool write_split_token(const struct trace_export * export, const struct export_ubatch * ubatch, int32_t i_token,
                              struct error * error) {
    const struct trace_token * token  = &ubatch->all->tokens[i_token];
    struct noted_life        * life   = trace_lives_at(export->survey->lives, ubatch->all->context, token->sequence,
                                                       token->life);
    struct arrays            * arrays = arrays_of(export, life, error);
    if (arrays == NULL) {
        return false;
    }
    if (arrays->n_left == 0) {
        return export_changed(export, error);
    }
    write_npy_token(export, arrays, ubatch, i_token);
    return arrays->n_left > 0 || finish_arrays(arrays, error);
}

static bool write_npy(struct trace_export * export, const struct export_ubatch * ubatch, struct error * error) {
    const struct npy * npy = export->data;
    bool               ok  = true;
    for (size_t i = 0; ok && i < ubatch->n_tokens; i++) {
        if (npy->all == NULL) {
            ok = write_split_token(export, ubatch, ubatch->tokens[i], error);
        } else {
            ok = npy->all->n_left > 0 || export_changed(export, error);
            if (ok) {
                write_npy_token(export, npy->all, ubatch, ubatch->tokens[i]);
            }
        }
    }
    return ok;
}

// All files of the export, the one of the layers first; none of them takes its place before all are whole.
static bool publish(struct trace_export * export, struct output_file * layers, struct error * error) {
    struct npy         * npy   = export->data;
    struct trace_lives * lives = export->survey->lives;
    bool                 ok    = layers->path == NULL || output_file_publish(layers, error);
    ok = ok && (npy->all == NULL || for_each_file(npy->all, output_file_publish, error));
    for (size_t i = 0; ok && i < trace_lives_n(lives); i++) {
        struct noted_life * life = trace_lives_get(lives, i);
        ok = life->data == NULL || for_each_file(life->data, output_file_publish, error);
    }
    return ok;
}

// Whether each array has all of the tokens that were counted for it.
static bool are_whole(const struct trace_export * export, struct error * error) {
    const struct npy   * npy   = export->data;
    struct trace_lives * lives = export->survey->lives;
    bool                 whole = npy->all == NULL || npy->all->n_left == 0;
    for (size_t i = 0; whole && i < trace_lives_n(lives); i++) {
        const struct arrays * arrays = trace_lives_get(lives, i)->data;
        whole = arrays == NULL || arrays->n_left == 0;
    }
    return whole || export_changed(export, error);
}

static void free_npy(struct trace_export * export) {
    struct npy * npy = export->data;
    free_arrays(npy->all);
    for (size_t i = 0; i < trace_lives_n(export->survey->lives); i++) {
        free_arrays(trace_lives_get(export->survey->lives, i)->data);
    }
    free(npy->experts);
    free(npy->weights);
    free(npy);
}

static bool end_npy(struct trace_export * export, bool ok, struct error * error) {
    struct npy       * npy    = export->data;
    struct output_file layers = { .place = PLACE_NONE };
    if (npy == NULL) {
        return ok;
    }
    ok = ok && are_whole(export, error) && (npy->all == NULL || finish_arrays(npy->all, error))
            && write_layers(export, &layers, error) && publish(export, &layers, error);
    output_file_drop(&layers);
    free_npy(export);
    return ok;
}

const struct export_format export_npy = {
    .name = "npy", .kind = FILE_KIND_NPY, .needs_survey = true, .own_files = true,
    .begin = begin_npy, .ubatch = write_npy, .end = end_npy,
};
