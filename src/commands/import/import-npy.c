// npy: an array of expert ids, [tokens, layers, top-k] of int16 or int32, as vLLM and SGLang return it for a request.
// Of an export of our own the arrays beside it are read too; without them a token has no phase, sequence or position,
// each layer the number of its place, and each token a ubatch of its own.

#include "commands/import/import-format.h"

#include "commands/npy-token.h"
#include "trace/format/trace-format.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MAGIC      "\x93NUMPY"
#define MAGIC_SIZE 6
#define HEADER_MAX 65535
#define DIMS_MAX   3
#define CELLS_MAX  ((int64_t) 1 << 24) // of a token: layers times top-k

// An array in a file, of which the header was read.
struct npy_file {
    char    * name;
    FILE    * file;            // NULL: there is none
    char    * descr;           // its type, as the header has it
    int       n_dims;
    int64_t   shape[DIMS_MAX];
};

struct npy {
    struct import    * import;
    struct npy_file    experts;
    struct npy_file    tokens;   // beside it
    struct npy_file    weights;  // likewise
    int64_t            n_tokens;
    size_t             n_layers;
    size_t             n_used;
    size_t             id_bytes;
    int32_t          * layers;   // their numbers
    uint8_t          * bytes;    // of one token
    int32_t          * ids;
    uint8_t          * weight_bytes;
    float            * gates;
    uint64_t           ubatch;
    int32_t            context;
    bool               warmup;
    uint64_t           first;    // token of the ubatch
};

static bool recognises(const char * head, size_t size) {
    return import_begins_as(head, size, MAGIC);
}

static uint64_t get(const uint8_t * at, size_t n) {
    uint64_t value = 0;
    for (size_t i = n; i > 0; i--) {
        value = value << 8 | at[i - 1];
    }
    return value;
}

static int32_t get_i32(const uint8_t * at) {
    return (int32_t) (uint32_t) get(at, 4);
}

static bool fail(const struct npy_file * file, const char * what, struct error * error) {
    return error_set(error, "%s: %s", file->name, what);
}

//
// headers
//

// Behind "'key':" and blanks. NULL: the key is not there.
static const char * find_value(const char * header, const char * key) {
    char       * wanted = memory_text("'%s':", key);
    const char * found  = strstr(header, wanted);
    const char * value  = found == NULL ? NULL : found + strlen(wanted);
    free(wanted);
    return value == NULL ? NULL : value + strspn(value, " ");
}

// 'text', or a list up to its end; to be freed. NULL: neither.
static char * parse_descr(const char * value) {
    const char * end = value == NULL  ? NULL
                     : *value == '\'' ? strchr(value + 1, '\'')
                     : *value == '['  ? strchr(value, ']')
                                      : NULL;
    return end == NULL ? NULL : memory_text("%.*s", (int) (end + 1 - value), value);
}

static bool parse_shape(struct npy_file * file, const char * value) {
    if (value == NULL || *value != '(') {
        return false;
    }
    bool ok = true;
    for (const char * at = value + 1; ok && *at != ')';) {
        char * end;
        errno = 0;
        ok = file->n_dims < DIMS_MAX && *at >= '0' && *at <= '9';
        if (ok) {
            file->shape[file->n_dims++] = strtoll(at, &end, 10);
            at = end + strspn(end, ", ");
            ok = errno == 0;
        }
    }
    return ok;
}

static bool parse_header(struct npy_file * file, const char * header, struct error * error) {
    const char * order = find_value(header, "fortran_order");
    file->descr = parse_descr(find_value(header, "descr"));
    if (file->descr == NULL || order == NULL || !parse_shape(file, find_value(header, "shape"))) {
        return error_set(error, "%s: its header does not tell type, order and at most %d dimensions", file->name,
                         DIMS_MAX);
    }
    return strncmp(order, "False", 5) == 0
        || fail(file, "is in Fortran's order: save numpy.ascontiguousarray() of it", error);
}

static bool read_header(struct npy_file * file, struct error * error) {
    uint8_t start[MAGIC_SIZE + 6];
    if (fread(start, 1, MAGIC_SIZE + 4, file->file) != MAGIC_SIZE + 4
            || !recognises((const char *) start, MAGIC_SIZE)) {
        return fail(file, "does not begin as an npy file does", error);
    }
    const bool is_long = start[MAGIC_SIZE] >= 2;
    if (is_long && fread(start + MAGIC_SIZE + 4, 1, 2, file->file) != 2) {
        return fail(file, "ends in its header", error);
    }
    const size_t size = (size_t) get(start + MAGIC_SIZE + 2, is_long ? 4 : 2);
    if (size > HEADER_MAX) {
        return fail(file, "has a header that is too long", error);
    }
    char     * header = memory_new(size + 1, 1);
    const bool ok     = fread(header, 1, size, file->file) == size ? parse_header(file, header, error)
                                                                   : fail(file, "ends in its header", error);
    free(header);
    return ok;
}

// Whether all of the array is there.
static bool check_size(const struct npy_file * file, size_t item_bytes, struct error * error) {
    struct stat status;
    int64_t     n = 1;
    for (int i = 0; i < file->n_dims; i++) {
        if (file->shape[i] > 0 && n > INT64_MAX / 8 / file->shape[i] / (int64_t) item_bytes) {
            return fail(file, "has a shape that no file has", error);
        }
        n *= file->shape[i];
    }
    const off_t here = ftello(file->file);
    if (fstat(fileno(file->file), &status) != 0 || here < 0) {
        return fail(file, strerror(errno), error);
    }
    const int64_t there = (int64_t) status.st_size - (int64_t) here;
    return there == n * (int64_t) item_bytes
        || error_set(error, "%s: its header tells of %" PRId64 " bytes, and %" PRId64 " follow: is the file whole?",
                     file->name, n * (int64_t) item_bytes, there);
}

//
// what is beside the array
//

// "run.tokens.npy" of "run.npy" and ".tokens": where it is not there, its file is NULL.
static bool open_beside(const struct npy * npy, struct npy_file * file, const char * more, struct error * error) {
    const char * path   = npy->import->input->path;
    const size_t n      = strlen(path);
    const bool   is_npy = n > 4 && strcmp(path + n - 4, ".npy") == 0;
    if (strcmp(path, "-") == 0) {
        return true;
    }
    file->name = memory_text("%.*s%s.npy", (int) (is_npy ? n - 4 : n), path, more);
    file->file = fopen(file->name, "rbe");
    if (file->file == NULL) {
        return errno == ENOENT || fail(file, strerror(errno), error);
    }
    return read_header(file, error);
}

static void close_file(struct npy_file * file) {
    if (file->file != NULL) {
        fclose(file->file);
    }
    free(file->name);
    free(file->descr);
    *file = (struct npy_file) { 0 };
}

// Without numbers of layers, an array has one for each that has experts, or for each of the model.
static bool number_layers(struct npy * npy, struct error * error) {
    const struct gguf_model * model   = npy->import->hints->file;
    const bool                is_told = model != NULL && model->n_layers > 0;
    const bool                is_moe  = is_told && npy->n_layers == model->n_layers;
    for (size_t i = 0; i < npy->n_layers; i++) {
        npy->layers[i] = is_moe ? model->layers[i].layer : (int32_t) i;
    }
    return !is_told || is_moe || npy->n_layers == (size_t) model->n_layer
        || error_set(error, "%s: has %zu layers, and %s %zu with experts: is that its model?", npy->experts.name,
                     npy->n_layers, model->path, model->n_layers);
}

static bool read_layers(struct npy * npy, struct error * error) {
    struct npy_file file = { 0 };
    bool            ok   = open_beside(npy, &file, ".layers", error);
    npy->layers = memory_new(npy->n_layers, sizeof(*npy->layers));
    if (ok && file.file == NULL) {
        ok = number_layers(npy, error);
    }
    if (ok && file.file != NULL) {
        ok = (strcmp(file.descr, "'<i4'") == 0 && file.n_dims == 1 && file.shape[0] == (int64_t) npy->n_layers)
          || error_set(error, "%s: is not %zu numbers of layers as <i4: give the array another name, or take this away",
                       file.name, npy->n_layers);
        ok = ok && check_size(&file, 4, error);
        for (size_t i = 0; ok && i < npy->n_layers; i++) {
            uint8_t bytes[4];
            ok = fread(bytes, 1, sizeof(bytes), file.file) == sizeof(bytes);
            npy->layers[i] = get_i32(bytes);
            ok = (ok && npy->layers[i] >= 0 && npy->layers[i] < TRACE_LAYERS_MAX
                  && (i == 0 || npy->layers[i] > npy->layers[i - 1]))
              || error_set(error, "%s: [%zu]: is no layer above the one before", file.name, i);
        }
    }
    close_file(&file);
    return ok;
}

static bool open_weights(struct npy * npy, struct error * error) {
    struct npy_file * file = &npy->weights;
    if (!open_beside(npy, file, ".weights", error)) {
        return false;
    }
    if (file->file == NULL) {
        return true;
    }
    const bool fits = strcmp(file->descr, "'<f4'") == 0 && file->n_dims == 3
                   && memcmp(file->shape, npy->experts.shape, sizeof(file->shape)) == 0;
    return (fits || fail(file, "is not of the array's shape and <f4: give the array another name, or take this away",
                         error))
        && check_size(file, 4, error);
}

static bool open_tokens(struct npy * npy, struct error * error) {
    struct npy_file * file = &npy->tokens;
    if (!open_beside(npy, file, ".tokens", error)) {
        return false;
    }
    if (file->file == NULL) {
        return true;
    }
    const bool fits = strcmp(file->descr, NPY_TOKEN_DESCR) == 0 && file->n_dims == 1 && file->shape[0] == npy->n_tokens;
    return (fits || fail(file, "does not tell of the array's tokens as `export` does: give the array another name, or "
                               "take this away", error))
        && check_size(file, NPY_TOKEN_BYTES, error);
}

//
// tokens
//

struct npy_token {
    uint64_t                   ubatch;
    int32_t                    context;
    bool                       warmup;
    bool                       rejected;
    struct expert_tracer_token token;
};

static bool read_token(const struct npy * npy, int64_t index, struct npy_token * token, struct error * error) {
    uint8_t bytes[NPY_TOKEN_BYTES];
    if (fread(bytes, 1, sizeof(bytes), npy->tokens.file) != sizeof(bytes)) {
        return fail(&npy->tokens, "ends too early", error);
    }
    *token = (struct npy_token) {
        .ubatch   = get(bytes, 8),
        .context  = get_i32(bytes + 12),
        .warmup   = bytes[34] != 0,
        .rejected = bytes[35] != 0,
        .token    = {
            .sequence = get_i32(bytes + 16), .life = get_i32(bytes + 20), .position = get_i32(bytes + 24),
            .id = get_i32(bytes + 28), .generation = bytes[32] != 0, .output = bytes[33] != 0,
        },
    };
    const struct expert_tracer_token * its = &token->token;
    return (token->context >= 0 && its->sequence >= -1 && its->life >= 0 && its->position >= -1 && its->id >= -1
            && its->sequence < INT32_MAX && its->life < INT32_MAX && its->position < INT32_MAX && its->id < INT32_MAX)
        || error_set(error, "%s: [%" PRId64 "]: a number that no token has", npy->tokens.name, index);
}

// Whether anything is known of the tokens that not every trace knows.
static bool survey_tokens(struct npy * npy, struct error * error) {
    struct import_about * about = import_trace_about(npy->import->trace);
    const off_t           begin = npy->tokens.file == NULL ? 0 : ftello(npy->tokens.file);
    bool                  ok    = true;
    for (int64_t i = 0; ok && npy->tokens.file != NULL && i < npy->n_tokens; i++) {
        struct npy_token token;
        ok = read_token(npy, i, &token, error);
        about->phases_known = about->phases_known || token.token.sequence >= 0 || token.token.generation;
        about->tokens       = about->tokens || token.token.id >= 0;
    }
    return ok && (npy->tokens.file == NULL || fseeko(npy->tokens.file, begin, SEEK_SET) == 0);
}

//
// the array
//

static bool check_array(struct npy * npy, struct error * error) {
    const struct npy_file * file = &npy->experts;
    npy->id_bytes = strcmp(file->descr, "'<i2'") == 0 ? 2 : strcmp(file->descr, "'<i4'") == 0 ? 4 : 0;
    if (npy->id_bytes == 0) {
        return error_set(error, "%s: is of %.40s, and can be of <i2 (int16) or <i4 (int32): save "
                                "array.astype(numpy.int32)", file->name, file->descr);
    }
    if (file->n_dims != 3) {
        return error_set(error, "%s: has %d dimensions, and is to have three: [tokens, layers, top-k]", file->name,
                         file->n_dims);
    }
    if (file->shape[1] < 1 || file->shape[1] > TRACE_LAYERS_MAX
            || file->shape[2] < 1 || file->shape[2] > TRACE_USED_MAX) {
        return error_set(error, "%s: %" PRId64 " layers of top-%" PRId64 ", and there can be %d of %d", file->name,
                         file->shape[1], file->shape[2], TRACE_LAYERS_MAX, TRACE_USED_MAX);
    }
    npy->n_tokens = file->shape[0];
    npy->n_layers = (size_t) file->shape[1];
    npy->n_used   = (size_t) file->shape[2];
    return check_size(file, npy->id_bytes, error);
}

static bool read_cells(struct npy * npy, struct error * error) {
    const size_t n = npy->n_layers * npy->n_used;
    if (fread(npy->bytes, npy->id_bytes, n, npy->experts.file) != n
            || (npy->weights.file != NULL && fread(npy->weight_bytes, 4, n, npy->weights.file) != n)) {
        return fail(&npy->experts, "ends too early: did it change?", error);
    }
    for (size_t i = 0; i < n; i++) {
        npy->ids[i] = npy->id_bytes == 2 ? (int16_t) get(npy->bytes + 2 * i, 2) : get_i32(npy->bytes + 4 * i);
        if (npy->weights.file != NULL) {
            const uint32_t bits = (uint32_t) get(npy->weight_bytes + 4 * i, 4);
            memcpy(&npy->gates[i], &bits, sizeof(bits));
        }
    }
    return true;
}

static bool has_gates(const float * gates, int32_t n) {
    bool found = false;
    for (int32_t i = 0; gates != NULL && i < n; i++) {
        found = found || !isnan(gates[i]);
    }
    return found;
}

// A layer with -1 alone did not route the token; with fewer experts than others it has -1 at the end.
static bool take_layer(struct npy * npy, int64_t index, int32_t token, size_t layer, struct error * error) {
    const int32_t * ids   = npy->ids + layer * npy->n_used;
    const float   * gates = npy->weights.file == NULL ? NULL : npy->gates + layer * npy->n_used;
    struct error    why   = { "" };
    int32_t         at    = 0;
    size_t          n     = 0;
    while (n < npy->n_used && ids[n] != -1) {
        n++;
    }
    for (size_t i = n; i < npy->n_used; i++) {
        if (ids[i] != -1) {
            return error_set(error, "%s: [%" PRId64 ", %zu, %zu]: an expert behind a -1, which is none",
                             npy->experts.name, index, layer, i);
        }
    }
    const struct import_row row = {
        .layer = npy->layers[layer], .token = token, .n_used = (int32_t) n, .experts = ids,
        .gates = has_gates(gates, (int32_t) n) ? gates : NULL,
    };
    return n == 0 || import_trace_row(npy->import->trace, &row, &at, &why)
        || error_set(error, "%s: [%" PRId64 ", %zu, %d]: %.1500s", npy->experts.name, index, layer,
                     (int) (at < row.n_used ? at : 0), why.text);
}

static bool end_ubatch(struct npy * npy, struct error * error) {
    return import_end_ubatch(npy->import, "token", npy->first, npy->context, npy->warmup, error);
}

static bool take_token(struct npy * npy, int64_t index, struct error * error) {
    struct import_trace * trace = npy->import->trace;
    struct npy_token      token = { .ubatch = (uint64_t) index, .token = { .id = -1, .sequence = -1, .position = -1 } };
    if (!read_cells(npy, error) || (npy->tokens.file != NULL && !read_token(npy, index, &token, error))) {
        return false;
    }
    if (index == 0 || token.ubatch != npy->ubatch || token.context != npy->context) {
        if (!end_ubatch(npy, error)) {
            return false;
        }
        npy->first   = (uint64_t) index;
        npy->ubatch  = token.ubatch;
        npy->context = token.context;
        npy->warmup  = token.warmup;
    }
    const int32_t its = import_trace_token(trace, index, &token.token);
    if (token.rejected) {
        import_trace_reject(trace, its);
    }
    bool ok = true;
    for (size_t i = 0; ok && i < npy->n_layers; i++) {
        ok = take_layer(npy, index, its, i, error);
    }
    return ok;
}

static bool read_array(struct npy * npy, struct error * error) {
    const size_t cells = npy->n_layers * npy->n_used;
    bool         ok    = (int64_t) cells <= CELLS_MAX
                      || fail(&npy->experts, "has too many experts for one token", error);
    if (ok) {
        npy->bytes        = memory_new(cells, npy->id_bytes);
        npy->ids          = memory_new(cells, sizeof(*npy->ids));
        npy->weight_bytes = memory_new(cells, 4);
        npy->gates        = memory_new(cells, sizeof(*npy->gates));
    }
    for (int64_t i = 0; ok && i < npy->n_tokens; i++) {
        ok = take_token(npy, i, error);
        progress_tell(&npy->import->input->progress, (uint64_t) ftello(npy->experts.file));
    }
    return ok && end_ubatch(npy, error) && import_end_trace(npy->import, error);
}

static bool read_all(struct npy * npy, struct error * error) {
    struct import_about * about = import_trace_about(npy->import->trace);
    if (!read_header(&npy->experts, error) || !check_array(npy, error) || !read_layers(npy, error)
            || !open_tokens(npy, error) || !open_weights(npy, error) || !survey_tokens(npy, error)) {
        return false;
    }
    about->capture = "import of npy";
    about->weights = npy->weights.file != NULL;
    return import_take_hints(npy->import, error) && read_array(npy, error);
}

static bool read(struct import * import, struct error * error) {
    struct npy npy = { .import = import };
    npy.experts.file = import->input->file;
    npy.experts.name = memory_text("%s", import->input->name);
    const bool ok = read_all(&npy, error);
    npy.experts.file = NULL; // the input's
    close_file(&npy.experts);
    close_file(&npy.tokens);
    close_file(&npy.weights);
    free(npy.layers);
    free(npy.bytes);
    free(npy.ids);
    free(npy.weight_bytes);
    free(npy.gates);
    return ok;
}

const struct import_format import_npy = {
    .name       = "npy",
    .recognises = recognises,
    .read       = read,
};
